//! Derived features: computed as a person would, alike in batches of any size and on one row, and refused with a
//! place where they are wrong.

use std::sync::Arc;

use arrow::array::{
    Array, ArrayRef, AsArray, Float64Array, Int64Array, RecordBatch, TimestampMicrosecondArray,
};
use arrow::datatypes::{Float64Type, Int64Type, TimestampMicrosecondType};
use asof_compute::{Derivations, Derive as _, conform_request};
use asof_model::{Ask, DataType, FileFormat, TrainingSet};
use asof_testkit::Random;

use crate::applied::{Applied, arrow_spine, features, wrong};
use crate::flock::recorded;
use crate::project::{Folder, said};

const DEFINITIONS: &str = "\
entity: seller
keys: {seller: int64}
---
source: profiles
path: profiles.csv
event_time: since
---
source: orders
path: orders.csv
event_time: ordered
---
view: profile
entity: seller
source: profiles
ttl: 40d
features:
  rating: rating
  tier: tier
  since: since
---
view: activity
entity: seller
source: orders
windows: [1d, 7d]
features:
  orders: {agg: count(*)}
  amount: {agg: sum(amount)}
---
derived: pricing
request: {price: float64, quantity: int64}
features:
  total: price * quantity
  usual: activity.amount_7d / nullif(activity.orders_7d, 0)
  against_usual: pricing.total / pricing.usual - coalesce(profile.rating, 1)
  share: cast(activity.orders_1d as double) / nullif(shop.activity.orders_7d, 0) + activity.orders_7d * 0
---
derived: known
features:
  hour: date_part('hour', request_time)
  newer: request_time < profile.since + interval '10 days'
  badge: concat(profile.tier, '/', upper(profile.tier))
  best: case when known.newer and pricing.total > 50 then profile.rating * 2 else profile.rating end
---
service: quote
features:
  - pricing.*
  - profile.rating
  - {from: known.best, as: best_rating}
";

const DAY: i64 = 86_400_000_000;

/// The shop with random profiles and orders.
fn shop(random: &mut Random) -> Applied {
    let folder = Folder::new();
    let mut profiles = "seller,since,rating,tier\n".to_owned();
    let mut orders = "seller,ordered,amount\n".to_owned();
    for _ in 0..200 {
        let at = asof_model::Timestamp(random.between(0, 100) * DAY + random.between(0, 3) * 3_600_000_000);
        let rating = if random.chance(20) { String::new() } else { format!("{}.5", random.between(-3, 5)) };
        let tier = ["", "gold", "basic"][random.between(0, 2) as usize];
        profiles.push_str(&format!("{},{at},{rating},{tier}\n", random.between(0, 8)));
    }
    for _ in 0..600 {
        let at = asof_model::Timestamp(random.between(0, 100) * DAY + random.between(0, DAY - 1));
        orders.push_str(&format!("{},{at},{}.25\n", random.between(0, 8), random.between(-20, 90)));
    }
    folder.write("profiles.csv", profiles);
    folder.write("orders.csv", orders);
    Applied::new(folder, DEFINITIONS)
}

/// Spine rows with nulls, unknown sellers and times before all rows.
fn spine(random: &mut Random, rows: usize) -> RecordBatch {
    let some = |random: &mut Random, value: i64| (!random.chance(10)).then_some(value);
    let mut seller: Vec<Option<i64>> = Vec::new();
    let mut at: Vec<i64> = Vec::new();
    let mut price: Vec<Option<f64>> = Vec::new();
    let mut quantity: Vec<Option<i64>> = Vec::new();
    for _ in 0..rows {
        let asked = random.between(0, 10);
        seller.push(some(random, asked));
        at.push(random.between(-1, 110) * DAY + random.between(0, DAY - 1));
        let asked = random.between(-100, 100);
        price.push(some(random, asked).map(|price| price as f64 / 8.0));
        let asked = random.between(0, 9);
        quantity.push(some(random, asked));
    }
    RecordBatch::try_from_iter_with_nullable([
        ("seller", Arc::new(Int64Array::from(seller)) as ArrayRef, true),
        ("at", Arc::new(TimestampMicrosecondArray::from(at).with_timezone("UTC")), true),
        ("price", Arc::new(Float64Array::from(price)), true),
        ("quantity", Arc::new(Int64Array::from(quantity)), true),
    ])
    .unwrap()
}

fn floats(batch: &RecordBatch, column: &str) -> Vec<Option<f64>> {
    batch.column_by_name(column).unwrap().as_primitive::<Float64Type>().iter().collect()
}

fn ints(batch: &RecordBatch, column: &str) -> Vec<Option<i64>> {
    batch.column_by_name(column).unwrap().as_primitive::<Int64Type>().iter().collect()
}

fn bits(value: Option<f64>) -> Option<u64> {
    value.map(|x| if x.is_nan() { f64::NAN.to_bits() } else { (x + 0.0).to_bits() })
}

/// Everything that is derived, after what it is derived of.
const ALL: [&str; 7] = [
    "pricing.*",
    "known.*",
    "profile.*",
    "activity.orders_1d",
    "activity.orders_7d",
    "activity.amount_7d",
    "activity.amount_1d",
];

#[test]
fn derived_features_are_what_a_person_computes() {
    let mut random = Random::new(41);
    let shop = shop(&mut random);
    let asked = spine(&mut random, 500);
    let request = shop.request(features(&ALL), arrow_spine(&asked, 64), FileFormat::Arrow);
    let (rows, _) = shop.train(request).unwrap();
    let (price, quantity) = (floats(&rows, "price"), ints(&rows, "quantity"));
    let (rating, amount) = (floats(&rows, "rating"), floats(&rows, "amount_7d"));
    let (day, week) = (ints(&rows, "orders_1d"), ints(&rows, "orders_7d"));
    let tier = rows.column_by_name("tier").unwrap().as_string::<i32>().clone();
    let since = rows.column_by_name("since").unwrap().as_primitive::<TimestampMicrosecondType>().clone();
    let at = rows.column_by_name("at").unwrap().as_primitive::<TimestampMicrosecondType>().clone();
    let (total, usual) = (floats(&rows, "total"), floats(&rows, "usual"));
    let (against, share, best) =
        (floats(&rows, "against_usual"), floats(&rows, "share"), floats(&rows, "best"));
    let hour = rows.column_by_name("hour").unwrap();
    let hour = arrow::compute::cast(hour, &arrow::datatypes::DataType::Int64).unwrap();
    let newer = rows.column_by_name("newer").unwrap().as_boolean().clone();
    let badge = rows.column_by_name("badge").unwrap().as_string::<i32>().clone();
    let mut nulls = [0; 4];
    for row in 0..rows.num_rows() {
        let n_total = price[row].zip(quantity[row]).map(|(price, quantity)| price * quantity as f64);
        assert_eq!(bits(total[row]), bits(n_total), "total of row {row}");
        let orders = week[row].filter(|orders| *orders != 0);
        let n_usual = amount[row].zip(orders).map(|(amount, orders)| amount / orders as f64);
        assert_eq!(bits(usual[row]), bits(n_usual), "usual of row {row}");
        let n_against = n_total.zip(n_usual).map(|(total, usual)| total / usual - rating[row].unwrap_or(1.0));
        assert_eq!(bits(against[row]), bits(n_against), "against_usual of row {row}");
        let n_share = day[row].zip(orders).map(|(day, week)| day as f64 / week as f64 + 0.0);
        assert_eq!(bits(share[row]), bits(n_share), "share of row {row}");
        assert_eq!(
            hour.as_primitive::<Int64Type>().value(row),
            at.value(row).div_euclid(3_600_000_000).rem_euclid(24)
        );
        let n_newer = since.is_valid(row).then(|| at.value(row) - since.value(row) < 10 * DAY);
        assert_eq!(newer.is_valid(row).then(|| newer.value(row)), n_newer, "newer of row {row}");
        let tier = if tier.is_valid(row) { tier.value(row) } else { "" };
        assert_eq!(badge.value(row), format!("{tier}/{}", tier.to_uppercase()));
        let doubled = n_newer == Some(true) && n_total.is_some_and(|total| total > 50.0);
        let n_best = rating[row].map(|rating| if doubled { rating * 2.0 } else { rating });
        assert_eq!(bits(best[row]), bits(n_best), "best of row {row}");
        for (count, is_null) in
            nulls.iter_mut().zip([n_total.is_none(), n_usual.is_none(), n_newer.is_none(), doubled])
        {
            *count += usize::from(is_null);
        }
    }
    assert!(nulls.iter().all(|count| *count > 3), "every branch is taken: {nulls:?}");
}

#[test]
fn a_service_gives_columns_in_its_order_and_a_rebuild_the_same() {
    let mut random = Random::new(42);
    let shop = shop(&mut random);
    let asked = spine(&mut random, 300);
    let ask = Ask::Service("quote".to_owned());
    let whole = shop.train(shop.request(ask.clone(), arrow_spine(&asked, 300), FileFormat::Arrow)).unwrap();
    let names: Vec<String> =
        whole.0.schema().fields().iter().skip(4).map(|field| field.name().clone()).collect();
    assert_eq!(names, ["total", "usual", "against_usual", "share", "rating", "best_rating"]);
    // Views that only derived features read are counted too.
    let counted: Vec<&str> = whole.1.outcome.counts.iter().map(|it| it.view.as_str()).collect();
    assert_eq!(counted, ["activity", "profile"]);
    assert_eq!(whole.1.recipe.derived.len(), 2);
    for size in [1, 7] {
        let spine = arrow_spine(&asked, size);
        let parts = shop.train(shop.request(ask.clone(), spine, FileFormat::Arrow)).unwrap();
        assert_eq!(parts.1.outcome.content_hash, whole.1.outcome.content_hash);
    }
    let set = recorded(whole.1);
    let stored: TrainingSet = serde_json::from_str(&serde_json::to_string(&set).unwrap()).unwrap();
    let (again, report) = shop.rebuild(&stored).unwrap();
    assert_eq!(again, whole.0);
    assert_eq!(report.outcome.content_hash, set.outcome.content_hash);
}

/// What serving calls: the compiled steps, on one row.
#[test]
fn one_row_is_computed_as_many_are() {
    let mut random = Random::new(43);
    let shop = shop(&mut random);
    let asked = spine(&mut random, 200);
    let ask = features(&ALL);
    let (rows, _) =
        shop.train(shop.request(ask.clone(), arrow_spine(&asked, 200), FileFormat::Arrow)).unwrap();
    let selection = shop.select(&ask);
    let steps = Derivations::compile(&selection, &shop.folder.engine).unwrap();
    let of = |reading: usize, feature: usize| {
        let view = &selection.readings[reading].view;
        rows.column_by_name(view.features[feature].feature.name.as_str()).unwrap().clone()
    };
    for row in 0..rows.num_rows() {
        let inputs: Vec<ArrayRef> =
            steps.features().iter().map(|(reading, feature)| of(*reading, *feature).slice(row, 1)).collect();
        let request: Vec<ArrayRef> = selection
            .request
            .iter()
            .map(|it| {
                conform_request(rows.column_by_name(it.name.as_str()).unwrap(), it).unwrap().slice(row, 1)
            })
            .collect();
        let time = rows.column_by_name("at").unwrap().slice(row, 1);
        let made = steps.run(&inputs, &request, &time, 1).unwrap();
        for (column, output) in selection.columns.iter().enumerate() {
            if let asof_model::Origin::Derived { step } = output.from {
                assert_eq!(
                    &made[step],
                    &rows.column(4 + column).slice(row, 1),
                    "{} of row {row}",
                    output.name
                );
            }
        }
    }
}

/// While anybody uses it, an expression is one object, whoever asks for it.
#[test]
fn an_expression_in_use_is_compiled_once() {
    let mut random = Random::new(45);
    let shop = shop(&mut random);
    let engine = &shop.folder.engine;
    let selection = shop.select(&features(&["pricing.total"]));
    let feature = selection.steps[0].feature().unwrap();
    let compile = |types: &[DataType]| engine.compile(&selection.project, feature, types).unwrap();
    // A price and a quantity, as they are declared.
    let types = [DataType::Float64, DataType::Int64];
    let one = compile(&types);
    let training = Derivations::compile(&selection, engine).unwrap();
    assert!(Arc::ptr_eq(&one, &compile(&types)));
    assert!(!Arc::ptr_eq(&one, &compile(&[DataType::Int64, DataType::Int64])), "of other types");
    let weak = Arc::downgrade(&one);
    drop(one);
    assert_eq!(weak.strong_count(), 1, "the training's is the same");
    drop(training);
    assert_eq!(weak.strong_count(), 0, "nothing is kept that nobody uses");
    compile(&types);
}

#[test]
fn a_spine_brings_what_requests_bring() {
    let mut random = Random::new(44);
    let shop = shop(&mut random);
    let ask = features(&["pricing.total"]);
    let total = |spine: &str| {
        shop.train(shop.request(ask.clone(), spine, FileFormat::Csv)).map(|(rows, _)| floats(&rows, "total"))
    };
    // No view is read at all, and whole numbers are floats where floats are wanted.
    assert_eq!(
        total("at,price,quantity\n2024-01-01T00:00:00Z,3,2\n2024-01-01T00:00:00Z,,2\n").unwrap(),
        [Some(6.0), None]
    );
    let mut told = Vec::new();
    for spine in [
        "at,price\n2024-01-01T00:00:00Z,3\n",
        "at,price,quantiti\n2024-01-01T00:00:00Z,3,1\n",
        "at,price,quantity\n2024-01-01T00:00:00Z,zebra,1\n",
        "at,price,quantity\n2024-01-01T00:00:00Z,3,1.5\n",
        "at,price,quantity,total\n2024-01-01T00:00:00Z,3,1,1\n",
    ] {
        told.push(said(&total(spine).unwrap_err()));
    }
    let rows = RecordBatch::try_from_iter([
        ("at", Arc::new(TimestampMicrosecondArray::from(vec![0])) as ArrayRef),
        ("price", Arc::new(Int64Array::from(vec![(1 << 53) + 1]))),
        ("quantity", Arc::new(Float64Array::from(vec![1.0]))),
    ])
    .unwrap();
    let spine = arrow_spine(&rows, 1);
    told.push(said(&shop.train(shop.request(ask.clone(), spine, FileFormat::Arrow)).unwrap_err()));
    let told = told.join("\n");
    assert!(!told.contains("zebra"), "{told}");
    insta::assert_snapshot!(told);
}

/// A row that cannot be computed ends the training, and says which feature; not which value.
#[test]
fn what_cannot_be_computed_is_told() {
    let folder = Folder::new();
    let shop = Applied::new(
        folder,
        "derived: odd\nrequest: {n: int64}\nfeatures:\n  part: 100 / n\n  next: odd.part + 9223372036854775807\n",
    );
    let train = |feature: &str, n: i64| {
        let spine = format!("at,n\n2024-01-01T00:00:00Z,{n}\n");
        shop.train(shop.request(features(&[feature]), spine, FileFormat::Csv)).map(|(rows, _)| rows)
    };
    assert_eq!(ints(&train("odd.part", 7).unwrap(), "part"), [Some(14)]);
    let told = [said(&train("odd.part", 0).unwrap_err()), said(&train("odd.next", 7).unwrap_err())];
    insta::assert_snapshot!(told.join("\n"), @r"
    invalid [expression_failed] derived feature `odd.part`: expression `100 / n` fails: division by zero
      hint: guard it, e.g. with `nullif`, `try_cast` or `case`
    invalid [expression_failed] derived feature `odd.next`: expression `odd.part + 9223372036854775807` fails: a number is out of range
      hint: guard it, e.g. with `nullif`, `try_cast` or `case`
    ");
}

#[test]
fn wrong_expressions_are_told_with_their_place() {
    let folder = Folder::new();
    folder.write("profiles.csv", "seller,since,rating,tier\n1,2024-01-01T00:00:00Z,1.5,gold\n");
    let base = "\
entity: seller
keys: {seller: int64}
---
source: profiles
path: profiles.csv
event_time: since
---
view: profile
entity: seller
source: profiles
features: {rating: rating, tier: tier, since: since}
---
derived: odd
request: {price: float64, words: string}
features:
  base: price + length(words)
";
    let mut told = String::new();
    for expression in [
        "odd.base + profile.tier || true",
        "profile.rating / words",
        "abss(price)",
        "to_date(words) + price",
        "odd.wrong * 2",
        "uuid()",
        "profile.rating and odd.base > 1",
        "repeat('x', 1000000000000)",
    ] {
        told.push_str(&format!("--- {expression}\n"));
        let more = if expression.contains("odd.wrong") { "  wrong: price > words * 2\n" } else { "" };
        told.push_str(&wrong(&folder, &format!("{base}  broken: \"{expression}\"\n{more}")));
    }
    insta::assert_snapshot!(told);
}

/// How long one row takes; run by hand, in release.
#[test]
#[ignore = "measures"]
fn what_one_row_costs() {
    let mut random = Random::new(45);
    let shop = shop(&mut random);
    for feature in [
        "pricing.total",
        "pricing.usual",
        "pricing.against_usual",
        "pricing.share",
        "known.hour",
        "known.newer",
        "known.badge",
        "known.best",
    ] {
        let selection = shop.select(&features(&[feature]));
        let steps = Derivations::compile(&selection, &shop.folder.engine).unwrap();
        let one = |data_type: &asof_model::DataType| -> ArrayRef {
            match data_type {
                asof_model::DataType::Float64 => Arc::new(Float64Array::from(vec![2.5])),
                asof_model::DataType::Int64 => Arc::new(Int64Array::from(vec![3])),
                asof_model::DataType::String => Arc::new(arrow::array::StringArray::from(vec!["gold"])),
                _ => Arc::new(TimestampMicrosecondArray::from(vec![5 * DAY]).with_timezone("UTC")),
            }
        };
        let inputs: Vec<ArrayRef> = steps
            .features()
            .iter()
            .map(|(reading, at)| one(&selection.readings[*reading].view.features[*at].data_type))
            .collect();
        let request: Vec<ArrayRef> = selection.request.iter().map(|it| one(&it.data_type)).collect();
        let time = one(&asof_model::DataType::Timestamp);
        let rounds = 20_000;
        let mut best = f64::MAX;
        for _ in 0..5 {
            let began = std::time::Instant::now();
            for _ in 0..rounds {
                std::hint::black_box(steps.run(&inputs, &request, &time, 1).unwrap());
            }
            best = best.min(began.elapsed().as_nanos() as f64 / f64::from(rounds));
        }
        println!("{feature}: {best:.0} ns for {} steps", selection.steps.len());
    }
}
