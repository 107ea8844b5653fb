//! How often a history is read: once for all views over it, and once more for each portion where memory is short.

use std::fmt::Write as _;
use std::sync::{Arc, Mutex};

use arrow::array::RecordBatch;
use asof_engine::{Error, Progress, ProgressEvent};
use asof_model::{Ask, FileFormat, Timestamp};
use asof_testkit::Random;

use crate::applied::{Applied, features};
use crate::project::{Folder, said};

/// Fewer rows than a reading tells of on its way, so each is told of once: at its end.
const ROWS: u64 = 40_000;
const SECOND: i64 = 1_000_000;

const DEFINITIONS: &str = "\
entity: shop
keys: {shop: int64}
---
entity: buyer
keys: {buyer: int64}
---
source: orders
path: orders.csv
event_time: at
available_at: seen
---
view: last_order
entity: shop
source: orders
ttl: 1h
features: {amount: amount, twice: amount * 2}
---
view: activity
entity: shop
source: orders
windows: [1m, {length: 1h, offset: 5m}]
features: {orders: {agg: count(*)}, total: {agg: sum(amount)}, mean: {agg: mean(amount)}}
---
view: ever
entity: buyer
source: orders
windows: [all]
features: {total: {agg: sum(amount)}, amounts: {agg: count_distinct(amount)}}
";

/// A row of the history.
struct Row {
    shop: i64,
    buyer: i64,
    at: i64,
    seen: i64,
    amount: i64,
}

/// A row every second, most of shop 7; a third is known late. From row `large` on two are about what a sum takes.
fn history(large: u64) -> Vec<Row> {
    let mut random = Random::new(3);
    let mut row = |number: u64| {
        let at = number as i64 * SECOND;
        let seen = at + if random.chance(33) { random.between(1, 5_000 * SECOND) } else { 0 };
        let shop = if random.chance(95) { 7 } else { random.between(0, 5) };
        let amount = if number < large { random.between(-50, 50) } else { i64::MAX / 2 };
        Row { shop, buyer: random.between(0, 3), at, seen, amount }
    };
    (0..ROWS).map(&mut row).collect()
}

fn folder(memory: u64, rows: &[Row]) -> Applied {
    let folder = Folder::with(memory, 1);
    let mut text = "shop,buyer,at,seen,amount\n".to_owned();
    for Row { shop, buyer, at, seen, amount } in rows {
        writeln!(text, "{shop},{buyer},{},{},{amount}", Timestamp(*at), Timestamp(*seen)).unwrap();
    }
    folder.write("orders.csv", text);
    Applied::new(folder, DEFINITIONS)
}

/// Buyer and time of a spine of so many rows, in the order of their times.
fn asking(rows: i64) -> impl Iterator<Item = (i64, i64)> {
    (0..rows).map(move |number| (number % 3, number * ROWS as i64 * SECOND / rows + 1))
}

/// The same, all of one shop.
fn spine(rows: i64) -> String {
    let mut spine = "shop,buyer,at\n".to_owned();
    for (buyer, at) in asking(rows) {
        writeln!(spine, "7,{buyer},{}", Timestamp(at)).unwrap();
    }
    spine
}

/// What is answered, and how often the history was read for it.
fn asked(applied: &Applied, ask: &Ask, spine: &str) -> (Result<RecordBatch, Error>, usize) {
    let told: Arc<Mutex<Vec<ProgressEvent>>> = Arc::default();
    let telling = Arc::clone(&told);
    let progress: Progress = Arc::new(move |event| telling.lock().unwrap().push(event));
    let request = applied.request(ask.clone(), spine, FileFormat::Csv);
    let answered = applied.train_telling(request, progress).map(|(rows, _)| rows);
    let told = told.lock().unwrap();
    let scans: Vec<u64> = told.iter().filter(|event| event.phase == "scan").map(|event| event.done).collect();
    assert!(scans.iter().all(|rows| *rows == ROWS), "{scans:?}");
    (answered, scans.len())
}

fn everything() -> Ask {
    features(&["last_order.*", "activity.*", "ever.*"])
}

/// Three views over one source, of two entities, one of them of latest values and two over windows, cost one reading.
#[test]
fn views_over_one_source_share_a_reading() {
    let applied = folder(1 << 30, &history(ROWS));
    for ask in [features(&["last_order.*"]), features(&["activity.*"]), everything()] {
        let (answered, readings) = asked(&applied, &ask, &spine(500));
        assert_eq!((answered.unwrap().num_rows(), readings), (500, 1), "{ask:?}");
    }
}

/// One key with more spine rows than memory takes is cut by time, and answered the same.
#[test]
fn a_hot_key_is_cut_by_time() {
    let (spine, rows) = (spine(20_000), history(ROWS));
    let (whole, readings) = asked(&folder(1 << 30, &rows), &everything(), &spine);
    assert_eq!(readings, 1);
    let (cut, portions) = asked(&folder(4 << 20, &rows), &everything(), &spine);
    assert!(portions > 2, "{portions} portions");
    assert_eq!(cut.unwrap(), whole.unwrap());
}

/// What is out of range is named with its feature and the spine's row, in whichever portion that is.
#[test]
fn an_overflow_names_the_feature_and_the_row() {
    let (spine, rows) = (spine(20_000), history(ROWS - 1_000));
    let out_of_range = |(buyer, t): (i64, i64)| {
        let counts = |row: &&Row| row.buyer == buyer && row.at < t && row.seen <= t;
        i64::try_from(rows.iter().filter(counts).map(|row| i128::from(row.amount)).sum::<i128>()).is_err()
    };
    // Before the first large rows there is nothing to look for.
    let first = 19_000 + asking(20_000).skip(19_000).position(out_of_range).unwrap() + 1;
    let (whole, readings) = asked(&folder(1 << 30, &rows), &features(&["ever.*"]), &spine);
    let whole = said(&whole.unwrap_err());
    assert!(whole.contains(&format!(" row {first} of the spine")), "{first}: {whole}");
    insta::assert_snapshot!(whole, @"
    invalid [overflow] feature `shop.ever.total_all` is out of range, or over its cap, at row 19510 of the spine
      hint: ask for null in its place: `--on-overflow null`
    ");
    assert_eq!(readings, 1);
    let (cut, portions) = asked(&folder(1 << 20, &rows), &features(&["ever.*"]), &spine);
    assert_eq!(said(&cut.unwrap_err()), whole);
    // It is in no portion before the last one that was read.
    assert!(portions > 1, "{portions} portions");
}
