//! What was served, answered again: `asof check consistency`.

use std::fs::File;
use std::path::PathBuf;
use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, DictionaryArray, Int8Array, RecordBatch, StructArray};
use arrow::compute::kernels::zip::zip;
use arrow::datatypes::{DataType, Int8Type};
use arrow::ipc::reader::StreamReader;
use arrow::ipc::writer::StreamWriter;
use serde_json::{Value, json};

use crate::project::{Project, Up, files_below};

/// Rows that are pushed with corrections and withdrawals, rows that are loaded, and files read in place; latest
/// values, windows, and what is derived of them.
pub(crate) const DEFINITIONS: &str = "\
entity: buyer
keys: {buyer: int64}
---
source: orders
push: true
schema: {id: string, buyer: int64, at: timestamp, amount: float64, state: string}
event_time: at
id: id
delete_when: state = 'void'
---
source: clicks
push: true
schema: {buyer: int64, at: timestamp, seen: timestamp, page: string}
event_time: at
available_at: seen
---
source: profiles
path: data/profiles/*.csv
store: true
event_time: since
schema: {buyer: int64, since: timestamp, tier: string, rating: float64}
---
source: limits
path: data/limits/*.csv
event_time: since
schema: {buyer: int64, since: timestamp, limit: float64}
---
view: last_order
entity: buyer
source: orders
ttl: 1h
features: {amount: amount, state: {expr: state, default: none}}
---
view: spend
entity: buyer
source: orders
windows: [1h, 7d]
features:
  orders: {agg: count(*)}
  spent: {agg: sum(amount)}
  dearest: {agg: max(amount)}
  spread: {agg: stddev(amount)}
  states: {agg: count_distinct(state)}
---
view: browsing
entity: buyer
source: clicks
windows: [{length: 1h, resolution: 1m}, 1d]
features: {clicks: {agg: count(*)}, pages: {agg: count_distinct(page)}}
---
view: profile
entity: buyer
source: profiles
features: {tier: tier, rating: rating}
---
view: changes
entity: buyer
source: profiles
windows: [1d]
features: {changes: {agg: count(*)}, rated: {agg: mean(rating)}}
---
view: allowed
entity: buyer
source: limits
features: {limit: limit}
---
derived: headroom
request: {price: float64}
features:
  share: price / nullif(spend.spent_7d + 1.0, 0)
  left: allowed.limit - price
---
service: scoring
features: [last_order.*, spend.*, browsing.*, profile.*, changes.*, allowed.*, headroom.*]
";

/// Where every answer is kept and flushes are frequent.
pub(crate) const ENVIRONMENT: [(&str, &str); 2] =
    [("ASOF_SERVING_LOG_SAMPLE", "1"), ("ASOF_FLUSH_INTERVAL", "1s")];

fn shop() -> (Project, Up) {
    let project = Project::empty();
    project.write("asof.yaml", "project: shop\n");
    project.write("features/shop.yaml", DEFINITIONS);
    project.write(
        "data/profiles/1.csv",
        "buyer,since,tier,rating\n1,2024-01-01,basic,3.5\n2,2024-01-01,gold,4.5\n",
    );
    project.write("data/limits/1.csv", "buyer,since,limit\n1,2024-01-01,100\n2,2024-01-01,250.5\n");
    project.well(&["apply", "--yes"]);
    project.well(&["load", "profiles"]);
    let node = up(&project);
    (project, node)
}

fn up(project: &Project) -> Up {
    let node = project.up(&[], &ENVIRONMENT);
    node.wait_ready();
    node
}

fn date(more: &[&str]) -> String {
    let mut date = std::process::Command::new("date");
    let said = date.args(["-u", "+%Y-%m-%dT%H:%M:%S.%6NZ"]).args(more).output().unwrap();
    String::from_utf8(said.stdout).unwrap().trim().to_owned()
}

fn now() -> String {
    date(&[])
}

fn push(node: &Up, source: &str, rows: &Value) {
    let body = json!({"rows": rows}).to_string();
    let (status, answer) = node.post(&format!("/v1/push/{source}"), &body);
    assert_eq!(status, 200, "{answer}");
}

fn ask(node: &Up) {
    let body = json!({
        "service": "scoring",
        "entities": {"buyer": [1, 2, 3, null]},
        "request": {"price": [10.5, 20.25, null, 1.0]},
    });
    let (status, answer) = node.post("/v1/features", &body.to_string());
    assert_eq!(status, 200, "{answer}");
}

fn check(node: &Up) -> Value {
    let (status, answer) = node.post("/v1/check/consistency", "{\"project\": \"shop\"}");
    assert_eq!(status, 200, "{answer}");
    serde_json::from_str(&answer).unwrap()
}

fn counts(answer: &Value) -> [u64; 3] {
    ["mismatched", "missing", "extra"].map(|what| answer[what].as_u64().unwrap())
}

/// Pushes, corrections, withdrawals, flushes, loads and restarts, with requests between them.
fn live(project: &Project, mut node: Up) -> Up {
    for turn in 0..4 {
        let at = now();
        let id = |number: i32| format!("{turn}-{number}");
        let orders = json!([
            {"id": id(1), "buyer": 1, "at": at, "amount": 0.1 + f64::from(turn), "state": "new"},
            {"id": id(2), "buyer": 2, "at": at, "amount": 1e16, "state": "new"},
            {"id": id(3), "buyer": 2, "at": "2024-01-01", "amount": 3.0, "state": "old"},
        ]);
        push(&node, "orders", &orders);
        push(
            &node,
            "clicks",
            &json!([{"buyer": 1, "at": at, "page": "a"}, {"buyer": 3, "at": at, "page": "b"}]),
        );
        ask(&node);
        push(&node, "orders", &json!([{"id": id(1), "buyer": 2, "at": at, "amount": 7.25, "state": "new"}]));
        ask(&node);
        push(&node, "orders", &json!([{"id": id(2), "at": at, "state": "void"}]));
        ask(&node);
        project.write(
            &format!("data/profiles/{turn}-more.csv"),
            &format!("buyer,since,tier,rating\n{},{at},gold,{turn}.5\n", 1 + turn % 3),
        );
        project.well(&["load", "profiles"]);
        ask(&node);
        project.well(&["materialize"]);
        ask(&node);
        if turn == 1 {
            // Long enough for a flush.
            std::thread::sleep(std::time::Duration::from_millis(1_600));
        }
        if turn == 2 {
            assert_eq!(node.stop(), Some(0));
            node = up(project);
        }
    }
    node
}

#[test]
fn what_was_served_is_what_training_says() {
    let (project, node) = shop();
    let node = live(&project, node);
    let answer = check(&node);
    assert_eq!(counts(&answer), [0, 0, 0], "{answer:#}");
    assert_eq!((&answer["consistent"], &answer["rows"]), (&json!(true), &json!(80)), "{answer:#}");
    assert_eq!(answer["not_checkable"], json!([]), "{answer:#}");
    assert_eq!(answer["values"].as_u64().unwrap(), 80 * 23, "{answer:#}");
    // A cut of batch rows each time they were materialised, none for each push.
    assert!(answer["trainings"].as_u64().unwrap() <= 12, "{answer:#}");
    let said = project.well(&["check", "consistency", "scoring"]);
    assert!(said.contains("headroom.left") && said.contains("spend.spent_7d"), "{said}");
    // Without a node, the files are read where they are.
    assert_eq!(node.stop(), Some(0));
    // All that it put into its folder is its own, which version control is kept out of.
    std::fs::remove_file(project.path().join(".asof/.gitignore")).unwrap();
    let alone = project.json(&["check", "consistency", "--since", "2024-01-01T00:00:00Z"]);
    assert_eq!(project.read(".asof/.gitignore"), "*\n");
    assert_eq!((&alone[0]["rows"], counts(&alone[0])), (&json!(80), [0, 0, 0]));
    let none = project.json(&["check", "consistency", "--since", "2100-01-01T00:00:00Z"]);
    assert_eq!(none[0]["rows"], 0);
}

/// The one file of the log.
fn log_file(project: &Project) -> PathBuf {
    let files = files_below(&project.path().join(".asof/serving-log"));
    let [file] = files.as_slice() else { panic!("{files:?}") };
    file.clone()
}

fn read(path: &PathBuf) -> Vec<RecordBatch> {
    StreamReader::try_new(File::open(path).unwrap(), None).unwrap().map(Result::unwrap).collect()
}

/// Writes a file of the log again, with another column within a group.
fn tamper(path: &PathBuf, group: &str, column: &str, change: impl Fn(&ArrayRef) -> ArrayRef) {
    let batches: Vec<RecordBatch> = read(path)
        .iter()
        .map(|batch| {
            let at = batch.schema().index_of(group).unwrap();
            let (fields, mut within, nulls) = batch.column(at).as_struct().clone().into_parts();
            let place = fields.iter().position(|field| field.name() == column).unwrap();
            within[place] = change(&within[place]);
            let mut columns = batch.columns().to_vec();
            columns[at] = Arc::new(StructArray::new(fields, within, nulls));
            RecordBatch::try_new(batch.schema(), columns).unwrap()
        })
        .collect();
    let mut writer = StreamWriter::try_new(File::create(path).unwrap(), &batches[0].schema()).unwrap();
    batches.iter().for_each(|batch| writer.write(batch).unwrap());
    writer.finish().unwrap();
}

/// Null where there is a value.
fn emptied(column: &ArrayRef) -> ArrayRef {
    arrow::array::new_null_array(column.data_type(), column.len())
}

#[test]
fn the_check_finds_what_is_not_as_it_was() {
    let (project, node) = shop();
    let at = now();
    push(&node, "orders", &json!([{"id": "1", "buyer": 1, "at": at, "amount": 0.1, "state": "new"}]));
    ask(&node);
    assert_eq!(node.stop(), Some(0));
    let path = log_file(&project);
    let untouched = std::fs::read(&path).unwrap();
    let found = |feature: &str| {
        let ended = project.run(&["check", "consistency", "--show-keys", "--json"]);
        assert_eq!(ended.code, Some(4), "{}", ended.err);
        assert!(ended.err.contains("not_consistent"), "{}", ended.err);
        let answer: Value = serde_json::from_str(ended.out.lines().next().unwrap()).unwrap();
        std::fs::write(&path, &untouched).unwrap();
        let of = answer["features"].as_array().unwrap().iter().find(|it| it["feature"] == feature).unwrap();
        let others: u64 = counts(&answer).iter().sum();
        assert_eq!(others, counts(of).iter().sum::<u64>(), "only that: {answer:#}");
        (counts(of), of["places"].clone())
    };
    // The least that a number can differ by, in one row.
    tamper(&path, "features", "spent_1h", |column| {
        let values = column.as_primitive::<arrow::datatypes::Float64Type>();
        let next = values.unary::<_, arrow::datatypes::Float64Type>(f64::next_up);
        let only: arrow::array::BooleanArray = (0..column.len()).map(|row| Some(row == 0)).collect();
        zip(&only, &next, values).unwrap()
    });
    let (counted, places) = found("spend.spent_1h");
    assert_eq!(counted, [1, 0, 0]);
    assert_eq!((&places[0]["what"], &places[0]["row"]), (&json!("mismatched"), &json!(1)));
    assert_eq!(places[0]["keys"], json!({"buyer": "1"}));
    tamper(&path, "features", "tier", emptied);
    assert_eq!(found("profile.tier").0, [0, 2, 0]);
    tamper(&path, "features", "limit", |column| {
        let all = arrow::array::Float64Array::from(vec![100.0; column.len()]);
        let nulls: arrow::array::BooleanArray =
            (0..column.len()).map(|row| Some(column.is_null(row))).collect();
        zip(&nulls, &all, column).unwrap()
    });
    assert_eq!(found("allowed.limit").0, [0, 0, 2]);
    // The values are the same, and why they are null is not.
    tamper(&path, "status", "tier", |column| {
        let statuses = column.as_dictionary::<Int8Type>();
        let DataType::Dictionary(..) = column.data_type() else { panic!("{column:?}") };
        let no_key = statuses.keys().iter().max().flatten().unwrap();
        let keys = Int8Array::from(vec![Some(no_key); column.len()]);
        Arc::new(DictionaryArray::new(keys, Arc::clone(statuses.values())))
    });
    assert_eq!(found("profile.tier").0, [3, 0, 0]);
    // Of an entity that was not asked for, everything is another's.
    let said = project.run(&["check", "consistency"]);
    assert_eq!(said.code, Some(0), "{}", said.err);
}

/// A sum out of range is null and so is one of nothing: neither is taken for the other.
#[test]
fn nulls_of_windows_are_told_apart() {
    const SUMS: &str = "\
entity: buyer
keys: {buyer: int64}
---
source: bids
push: true
schema: {buyer: int64, at: timestamp, bid: int64}
event_time: at
---
view: bidding
entity: buyer
source: bids
windows: [1d]
features: {total: {agg: sum(bid)}, spread: {agg: stddev(bid)}}
---
service: scoring
features: [bidding.*]
";
    let project = Project::empty();
    project.write("asof.yaml", "project: shop\n");
    project.write("features/shop.yaml", SUMS);
    project.well(&["apply", "--yes"]);
    let node = up(&project);
    let bids = [(1, i64::MAX), (1, 1), (2, 7)];
    let at = now();
    push(&node, "bids", &bids.map(|(buyer, bid)| json!({"buyer": buyer, "at": at, "bid": bid})).into());
    let body = json!({"service": "scoring", "entities": {"buyer": [1, 2, 3]}}).to_string();
    let (status, answer) = node.post("/v1/features", &body);
    assert_eq!(status, 200, "{answer}");
    assert_eq!(counts(&check(&node)), [0, 0, 0]);
    assert_eq!(node.stop(), Some(0));
    let path = log_file(&project);
    let untouched = std::fs::read(&path).unwrap();
    let text = |column: &ArrayRef| arrow::compute::cast(column, &DataType::Utf8).unwrap();
    let at = read(&path)[0].column_by_name("status").unwrap().as_struct().column_by_name("total_1d").cloned();
    let told = text(&at.unwrap());
    let told: Vec<_> = told.as_string::<i32>().iter().flatten().collect();
    assert_eq!(told, ["overflow", "present", "null"]);
    for (from, to) in [("overflow", "null"), ("null", "overflow"), ("overflow", "present")] {
        tamper(&path, "status", "total_1d", |column| {
            let known = column.as_dictionary::<Int8Type>();
            let names = text(known.values());
            let place = |name| names.as_string::<i32>().iter().position(|it| it == Some(name)).unwrap() as i8;
            let other = |key: i8| if key == place(from) { place(to) } else { key };
            let keys: Int8Array = known.keys().unary(other);
            Arc::new(DictionaryArray::new(keys, Arc::clone(known.values())))
        });
        let ended = project.run(&["check", "consistency", "--json"]);
        let answer: Value = serde_json::from_str(ended.out.lines().next().unwrap()).unwrap();
        assert_eq!((ended.code, counts(&answer)), (Some(4), [1, 0, 0]), "{from} told as {to}: {answer:#}");
        std::fs::write(&path, &untouched).unwrap();
    }
}

#[test]
fn lag_is_told_apart() {
    let (project, node) = shop();
    let ago = date(&["-d", "13 hours ago"]);
    ask(&node);
    assert_eq!((check(&node)["lag"].as_u64(), counts(&check(&node))), (Some(0), [0, 0, 0]));
    // Known from 13 hours ago on, and here only now.
    project.write("data/profiles/late.csv", &format!("buyer,since,tier,rating\n1,{ago},gold,1.5\n"));
    project.well(&["load", "profiles"]);
    project.write("clicks.csv", &format!("buyer,at,seen,page\n2,{ago},{ago},a\n"));
    project.well(&["load", "clicks", "clicks.csv"]);
    let late = check(&node);
    assert_eq!(counts(&late), [0, 0, 0], "{late:#}");
    let lagging: Vec<(&str, u64)> = late["features"]
        .as_array()
        .unwrap()
        .iter()
        .map(|it| (it["feature"].as_str().unwrap(), it["lag"].as_u64().unwrap()))
        .filter(|(_, lag)| *lag > 0)
        .collect();
    let expected = ["browsing.clicks_1d", "browsing.pages_1d", "changes.changes_1d", "changes.rated_1d"];
    let expected = expected.into_iter().chain(["profile.rating", "profile.tier"]).map(|name| (name, 1));
    assert_eq!(lagging, expected.collect::<Vec<_>>());
    let said = project.well(&["check", "consistency"]);
    assert!(said.contains("profile.tier: lag at shop/scoring-"), "{said}");
    // Served from what is there now, they lag no more; what was served before does.
    project.well(&["materialize"]);
    ask(&node);
    let after = check(&node);
    assert_eq!((counts(&after), after["lag"].as_u64()), ([0, 0, 0], late["lag"].as_u64()), "{after:#}");
    assert_eq!(after["rows"], 8);
}

/// A node whose rows were lost gives none of their positions to others: what was answered of them is not answered again with
/// others.
#[test]
fn positions_that_were_logged_are_given_to_no_other_row() {
    let (project, node) = shop();
    let click = |node: &Up| {
        let at = now();
        let rows = vec![json!({"buyer": 1, "at": at, "seen": at, "page": "home"}); 5];
        let (status, answer) = node.post("/v1/push/clicks", &json!({"rows": rows}).to_string());
        assert_eq!(status, 200, "{answer}");
        serde_json::from_str::<Value>(&answer).unwrap()["first"].as_i64().unwrap()
    };
    let first = click(&node);
    ask(&node);
    assert_eq!(node.stop(), Some(0));
    for lost in ["live", "offline"] {
        std::fs::remove_dir_all(project.path().join(".asof").join(lost)).unwrap();
    }
    let node = up(&project);
    let next = click(&node);
    assert!(next >= first + 5, "{next} after {first}");
}

#[test]
fn what_cannot_be_answered_as_it_was_is_named() {
    let (project, node) = shop();
    ask(&node);
    project.write("data/limits/1.csv", "buyer,since,limit\n1,2024-01-01,101\n");
    let answer = check(&node);
    assert_eq!(counts(&answer), [0, 0, 0], "{answer:#}");
    let told = &answer["not_checkable"];
    assert_eq!((&told[0]["source"], &told[0]["rows"]), (&json!("shop.limits"), &json!(4)), "{answer:#}");
    assert!(told[0]["reason"].as_str().unwrap().contains("1.csv` is not what it was"), "{told}");
    let compared =
        |feature: &str| answer["features"].as_array().unwrap().iter().any(|it| it["feature"] == feature);
    assert!(compared("spend.spent_1h") && compared("profile.tier"), "{answer:#}");
    assert!(!compared("allowed.limit") && !compared("headroom.left"), "{answer:#}");
    let ended = project.run(&["check", "consistency"]);
    assert_eq!(ended.code, Some(0), "{}", ended.err);
    assert!(
        ended.err.contains("4 rows cannot be answered as they were: source `shop.limits`"),
        "{}",
        ended.err
    );
}
