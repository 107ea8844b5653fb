//! SQL: what can be read, what cannot, and that nothing ends the process or tells a cell.

use std::time::Duration;

use asof_engine::query::SqlLimits;
use asof_model::{Explain, Principal};

use crate::flock::Flock;
use crate::project::{said, table};

#[test]
fn sources_views_and_system_tables_are_tables() {
    let flock = Flock::new();
    let mut told = Vec::new();
    for text in [
        "select * from prices order by event_time, seller",
        "select * from sellers order by seller",
        "select seller, price from price_rows where price > 10 order by price",
        "select count(*) as rows from shop.price_rows",
        "select p.seller, s.town, max(p.price) as top from prices p join shop.sellers s using (seller) group by 1, 2 order by 1",
        "select * from runs order by id",
        "select id from system.runs where rows is null",
        "select \"Rating\" from seller_rows where id = 1",
        "with t as (select town, count(*) as n from sellers group by town) select * from t order by town",
        "show tables",
        "describe prices",
    ] {
        told.push(format!("{text}\n{}", table(&flock.sql(text).unwrap_or_else(|e| panic!("{text}: {e}")))));
    }
    insta::assert_snapshot!(told.join("\n"));
}

#[test]
fn what_is_not_there_is_named_with_the_nearest() {
    let flock = Flock::new();
    let mut told = Vec::new();
    for text in [
        "select * from pricess",
        "select * from shop.seller",
        "select * from ads.clicks",
        "select pricee from prices",
        "select * from '/etc/passwd'",
        "select * from 'data/prices.csv'",
        "select * from read_csv('data/prices.csv')",
        "select * from read_parquet('x')",
        "select nofunction(price) from prices",
        "select from where",
        "copy prices to '/tmp/x.csv'",
        "create external table x stored as csv location '/etc/passwd'",
        "select price from prices group by seller",
        "select price + town from prices, sellers",
    ] {
        told.push(format!("{text}\n{}", said(&flock.sql(text).unwrap_err())));
    }
    let mut scope = flock.scope(Vec::new());
    scope.principal = Principal { name: "eve".to_owned(), projects: Some(Vec::new()) };
    let hidden = flock.sql_in(scope, "select * from shop.prices", SqlLimits::default()).unwrap_err();
    told.push(format!("closed to eve\n{}", said(&hidden)));
    insta::assert_snapshot!(told.join("\n"));
}

/// An optimiser moves a cast before the filter that should hide the row: the error must not tell it.
#[test]
fn errors_never_hold_a_cell() {
    let flock = Flock::new();
    let mut told = Vec::new();
    for text in [
        "select cast(secret as int) from price_rows",
        "select * from (select * from price_rows where seller = 2) where cast(secret as int) > 0",
        "select cast(secret as timestamp) from price_rows",
        "select cast(secret as date) from price_rows",
        "select cast(secret as boolean) from price_rows",
        "select cast(secret as decimal(10,2)) from price_rows",
        "select to_timestamp(secret) from price_rows",
        "select to_date(secret, '%Y') from price_rows",
        "select date_trunc(secret, now()) from price_rows",
        "select arrow_cast(secret, 'Int8') from price_rows",
        "select decode(secret, 'base64') from price_rows",
        "select regexp_replace('a', secret || '(', 'b') from price_rows",
        "select 10 / (price - 10) from price_rows",
        "select chr(price * 100000000) from price_rows",
        "select cast(price * 1000000000 as int) from price_rows",
        "select repeat(secret, 2000000000) from price_rows",
        "select secret::interval from price_rows",
        "select to_hex(cast(secret as bigint)) from price_rows",
        "select array_element(array[1], cast(secret as bigint)) from price_rows",
        "select (select secret from price_rows)",
    ] {
        match flock.sql(text) {
            Ok(_) => told.push(format!("{text}\nanswered")),
            Err(error) => {
                let whole = format!("{}\n{error:?}", said(&error));
                for cell in ["BOB", "SSN", "123"] {
                    assert!(!whole.contains(cell), "{text}: {whole}");
                }
                told.push(format!("{text}\n{}", said(&error)));
            }
        }
    }
    assert!(told.iter().filter(|it| !it.ends_with("answered")).count() > 10);
    insta::assert_snapshot!(told.join("\n"));
}

#[test]
fn nothing_ends_the_process() {
    let flock = Flock::new();
    for (shape, text) in [
        ("sums", format!("select 1{} from prices", "+1".repeat(4_000))),
        ("all bytes", format!("select 1{}", "+1".repeat(131_000))),
        ("too many bytes", format!("select '{}'", "x".repeat(300_000))),
        ("ors", format!("select * from prices where price = 0{}", " or price = 1".repeat(2_000))),
        ("unions", vec!["select 1"; 4_000].join(" union all ")),
        ("parentheses", format!("select {}1{}", "(".repeat(10_000), ")".repeat(10_000))),
        (
            "subqueries",
            format!("select * from {}prices{}", "(select * from ".repeat(1_000), ")".repeat(1_000)),
        ),
        ("products", format!("select 1 from prices{}", ", prices".repeat(1_000))),
    ] {
        let error = flock.sql(&text).unwrap_err();
        assert!(["limit_reached", "sql_syntax"].contains(&error.code()), "{shape}: {}", said(&error));
    }
    // What is within the limits is planned and runs, however deep it is.
    for text in [
        format!("select 1{} as n from prices", "+1".repeat(190)),
        format!("select price from prices where price = 0{}", " or price = 1 + price".repeat(180)),
        format!("select count(*) from ({}) t", vec!["select price from prices"; 90].join(" union all ")),
        format!("select {}1{}", "(".repeat(40), ")".repeat(40)),
        format!("select * from prices where price in ({}1)", "1, ".repeat(5_000)),
    ] {
        flock.sql(&text).unwrap_or_else(|error| panic!("{}: {}", &text[..60], said(&error)));
    }
}

#[test]
fn time_memory_and_rows_are_limited() {
    let flock = Flock::new();
    let check = |text: &str, limits: SqlLimits, code: &str| {
        let error = flock.sql_in(flock.scope(Vec::new()), text, limits).unwrap_err();
        assert_eq!(error.code(), code, "{text}: {}", said(&error));
    };
    let limits = SqlLimits::default();
    let long = "select count(*) from generate_series(1, 100000000000) a";
    check(long, SqlLimits { time: Duration::from_millis(300), ..limits }, "timeout");
    check(
        "select value from generate_series(1, 1000000)",
        SqlLimits { rows: 1_000, ..limits },
        "limit_reached",
    );
    check(
        "select count(*) from (select distinct value, repeat('x', 200) from generate_series(1, 3000000))",
        SqlLimits { memory: 1 << 20, time: Duration::from_secs(3), ..limits },
        "limit_reached",
    );
    // Seats are given back: more queries than seats, one after the other and at once.
    for _ in 0..6 {
        assert_eq!(flock.sql("select 1").unwrap().num_rows(), 1);
    }
    let engine = &flock.folder.engine;
    flock.folder.runtime.block_on(async {
        let all = (0..12).map(|_| engine.sql(flock.scope(Vec::new()), "select count(*) from prices", limits));
        for answer in futures::future::join_all(all).await {
            answer.unwrap();
        }
    });
}

/// One call of such a function takes memory that no pool sees: it is refused before it is made.
#[test]
fn what_grows_without_bound_is_refused() {
    let flock = Flock::new();
    let limits = SqlLimits { memory: 8 << 20, time: Duration::from_secs(600), ..SqlLimits::default() };
    let mut told = Vec::new();
    for text in [
        "select repeat('x', 2000000000)",
        "select repeat(secret, 2000000000) from price_rows",
        "select length(repeat('x', 2000000000)) from prices",
        "select repeat(repeat('x', 10000), 10000)",
        "select lpad('x', 2000000000)",
        "select rpad(secret, 2000000000, 'é') from price_rows",
        "select array_repeat(1, 2000000000)",
        "select array_repeat(array_repeat(1, 10000), 100000)",
        "select range(1, 1000000000000)",
        "select generate_series(1, 1000000000000, price * 0 + 1) from price_rows",
        "select generate_series(timestamp '1800-01-01', timestamp '2026-01-01', interval '1 second')",
        "select range(date '0001-01-01', date '9999-01-01', interval '1 day'), * from price_rows",
        "select array_resize([1], 2000000000, 7)",
        "select replace(repeat('a', 4000), 'a', repeat('b', 4000))",
        "select regexp_replace(repeat('a', 4000), 'a', repeat('b', 4000), 'g')",
        "select array_to_string(array_repeat(1, 4000), repeat('b', 4000))",
        "with a as (select repeat('x', value) x from generate_series(4000, 4001)), \
         b as (select x||x||x||x||x||x||x||x||x||x x from a), \
         c as (select x||x||x||x||x||x||x||x||x||x x from b), d as (select concat(x,x,x,x,x,x,x,x,x,x) x from c) \
         select concat(x,x,x,x,x,x,x,x,x,x) from d",
        "select length(string_agg(repeat('x', 1000), ',')) from generate_series(1, 1000000)",
        "select cardinality(array_agg(value)) from generate_series(1, 100000000)",
        "select count(*) from (select unnest(range(1, 1000000000)))",
    ] {
        match flock.sql_in(flock.scope(Vec::new()), text, limits) {
            Ok(rows) => panic!("{text} answers {} rows", rows.num_rows()),
            Err(error) => {
                assert_eq!(error.code(), "limit_reached", "{text}: {}", said(&error));
                told.push(format!("{text}\n{}", said(&error)));
            }
        }
    }
    insta::assert_snapshot!(told.join("\n"));
}

#[test]
fn what_grows_within_bounds_answers_under_its_own_name() {
    let flock = Flock::new();
    let mut told = Vec::new();
    for text in [
        "select repeat('ab', 3), lpad('x', 3, 'é'), rpad('x', 3), replace('aaa', 'a', 'bc'), 'a' || 'b'",
        "select repeat(town, 2) as twice, town || '!' || seller, concat(town, seller, null) from sellers order by seller",
        "select repeat(town, 2), count(*) from sellers group by repeat(town, 2) order by repeat(town, 2)",
        "select town || 'x', count(*) from sellers group by 1 having count(*) > 0 order by 1",
        "select array_repeat(1, 3), range(1, 4), generate_series(1, 3), array_resize([1], 2, 0), [1] || [2], 1 || 'x'",
        "select string_agg(town, ',' order by town), array_agg(town order by town) from sellers",
        "select seller, string_agg(town, ',') as towns, max(town) from sellers group by seller order by seller",
        "select unnest(range(1, 3)) as n",
        "select regexp_replace('a-b-c', '-', '+', 'g'), array_to_string([1, 2], '-'), to_char(timestamp '2026-01-02', '%Y')",
        "select length(repeat('x', 100000))",
        "select range(date '2026-01-01', date '2026-01-03', interval '1 day')",
        "select * from (values (repeat('x', 2)), (concat_ws('-', 'a', 'b')))",
        "select * from sellers where town like repeat('%', 1) order by seller limit 1",
    ] {
        told.push(format!(
            "{text}\n{}",
            table(&flock.sql(text).unwrap_or_else(|e| panic!("{text}: {}", said(&e))))
        ));
    }
    insta::assert_snapshot!(told.join("\n"));
}

/// Where DataFusion would go on at the other end of the range.
#[test]
fn integers_that_run_over_are_errors() {
    let flock = Flock::new();
    let mut told = Vec::new();
    for text in [
        "select 9223372036854775807 + 1",
        "select price * 9223372036854775807 from price_rows",
        "select -9223372036854775807 - price from price_rows",
        "select -(price - 10 - 9223372036854775807 - 1) from price_rows where price = 10",
        "select abs(price - 10 - 9223372036854775807 - 1) from price_rows where price = 10",
        "select sum(9223372036854775807) from price_rows",
        "select sum(price + 9223372036854775000) as s from price_rows group by secret is null",
        "select sum(distinct price + 9223372036854775000) from price_rows",
        "select -sum(price - 9223372036854775000) from price_rows",
        "select sum(9223372036854775807) over (order by price) from price_rows",
        "select sum(9223372036854775807) over (order by price rows between 1 preceding and current row) from price_rows",
        "select cast(price as tinyint) * cast(100 as tinyint) from price_rows",
        "select cast(1 as bigint unsigned) - cast(price as bigint unsigned) from price_rows",
        "select sum(cast(price as bigint unsigned) + 18446744073709551000) from price_rows",
        "select count(*) from price_rows where price * 9223372036854775807 > 0",
        "select a.seller from price_rows a join price_rows b on a.price * 9223372036854775807 = b.price",
        "select seller from price_rows order by price * 9223372036854775807",
        "select price from price_rows where price = (select max(price) * 9223372036854775807 from price_rows)",
        "select case when price > 5 then price * 9223372036854775807 end from price_rows",
    ] {
        match flock.sql(text) {
            Ok(rows) => told.push(format!("{text}\n{}", table(&rows))),
            Err(error) => told.push(format!("{text}\n{}", said(&error))),
        }
    }
    insta::assert_snapshot!(told.join("\n"));
}

/// Names, types and values of what does not run over stay what they are.
#[test]
fn integers_within_their_range_answer_under_their_own_names() {
    let flock = Flock::new();
    let mut told = Vec::new();
    for text in [
        "select price + 1, price - 1, price * 2 as twice, -price, - -price from price_rows order by price",
        "select price + 1, count(*), sum(price), sum(price) + 1, avg(price) from price_rows group by price + 1 order by price + 1",
        "select seller, sum(price) from price_rows group by seller having sum(price) > 5 order by sum(price) desc",
        "select seller, sum(price) as s from price_rows group by rollup (seller) order by s",
        "select sum(price), sum(price * 2), sum(distinct price), sum(price) filter (where price > 10) from price_rows",
        "select sum(price) from price_rows where price > 1000",
        "select price, sum(price) over (order by price) as s, sum(price) over () - price from price_rows order by price",
        "select price, sum(price) over (order by price rows between 1 preceding and current row) from price_rows order by price",
        "select arrow_typeof(sum(price)) as a, arrow_typeof(sum(cast(seller as smallint))) as b, arrow_typeof(-cast(price as int)) as c, arrow_typeof(sum(cast(price + 1 as bigint unsigned))) as d from price_rows group by price limit 1",
        "select sum(price) / 2, sum(price) * 1.5, sum(price * 1.5), price + 0.5 from price_rows group by price order by price limit 2",
        "with recursive t as (select 1 as n union all select n + 1 from t where n < 5) select sum(n), max(n) from t",
        "select price from price_rows p where price * 2 > (select sum(price) / 10 from price_rows q where q.seller = p.seller) order by 1",
        "select a.price from price_rows a join price_rows b on a.price + 10 = b.price order by 1",
        "select price + 1 from price_rows union all select sum(price) from price_rows order by 1",
        "select cast(price as decimal(38, 0)) * 9223372036854775807 from price_rows order by 1 limit 1",
        "select cast(price as double) * 9223372036854775807 from price_rows order by 1 limit 1",
        "select posted + interval '1 day', posted - posted, 1.5 * 2, -1.5 from price_rows order by 1 limit 1",
        "select * from (select price + 1 from price_rows where price = 5) t where \"price_rows.price + Int64(1)\" > 0",
        "select seller, sum(sum(price)) over (order by seller), rank() over (order by sum(price)) from price_rows group by seller order by 1",
        "select town, sum(seller), sum(seller + 1) from sellers group by town order by town",
        "select sum(price) from (select distinct price from price_rows) where price + 1 in (11, 21)",
        "select row_number() over (order by price) - 1, count(*) over () * 2 from price_rows limit 1",
        "select 9223372036854775807, -9223372036854775808, abs(-5), 1 + null",
    ] {
        match flock.sql(text) {
            Ok(rows) => told.push(format!("{text}\n{}", table(&rows))),
            Err(error) => told.push(format!("{text}\n{}", said(&error))),
        }
    }
    insta::assert_snapshot!(told.join("\n"));
}

/// A query whose asker has gone away gives its seat back, whatever it was doing.
#[test]
fn a_query_that_nobody_waits_for_ends() {
    let flock = Flock::new();
    let limits = SqlLimits { time: Duration::from_secs(600), ..SqlLimits::default() };
    let endless = [
        "select count(*) from generate_series(1, 100000000000000) a",
        "select value from generate_series(1, 100000000000000) a where length(repeat('x', value % 1000)) < 0",
        "select sum(a.value) from generate_series(1, 1000000) a, generate_series(1, 1000000) b",
        "select count(distinct value % 1000) from generate_series(1, 100000000000000)",
    ];
    let engine = &flock.folder.engine;
    flock.folder.runtime.block_on(async {
        for text in endless.iter().chain(&endless) {
            // What gives its columns at once is dropped while its rows are awaited.
            let mut answer = engine.sql(flock.scope(Vec::new()), text, limits).await.unwrap();
            let waited =
                tokio::time::timeout(Duration::from_millis(20), futures::StreamExt::next(&mut answer.rows));
            assert!(waited.await.is_err(), "{text} answers");
            drop(answer);
        }
        // There are fewer seats than queries were asked.
        engine.sql(flock.scope(Vec::new()), "select 1", limits).await.unwrap();
    });
}
