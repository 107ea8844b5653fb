//! Labels: what came of it, late rows and all, read some time after; null where the source does not reach so far.

use std::sync::Arc;

use arrow::array::{Array, AsArray, RecordBatch};
use arrow::datatypes::Int64Type;
use asof_engine::delta::OnBadRow;
use asof_engine::no_progress;
use asof_engine::training::{TrainRequest, TrainingReport};
use asof_model::{
    Ask, Cut, FileFormat, LabelCounts, OnImmature, OnNullKey, Question, Timestamp, TrainingSet,
};

use crate::applied::{Applied, wrong};
use crate::flock::recorded;
use crate::project::{Folder, name, said, standing};

/// The last order is of the 20th; that of the 12th became known on the 19th.
const ORDERS: &str = "\
seller,ordered,known,amount
1,2024-01-01T00:00:00Z,2024-01-01T00:00:00Z,10
1,2024-01-10T00:00:00Z,2024-01-10T00:00:00Z,20
1,2024-01-12T00:00:00Z,2024-01-19T00:00:00Z,30
2,2024-01-11T00:00:00Z,2024-01-11T00:00:00Z,
,2024-01-20T00:00:00Z,,99
";

const DEFINITIONS: &str = "\
entity: seller
keys: {seller: int64}
---
source: orders
path: orders.csv
event_time: ordered
available_at: known
---
view: last_order
entity: seller
source: orders
where: amount is null or amount < 90
ttl: 5d
features: {amount: amount, twice: amount * 2}
---
view: activity
entity: seller
source: orders
windows: [7d]
features:
  orders: {agg: count(*)}
---
derived: more
features:
  over: last_order.amount > 15
---
service: model
features:
  - last_order.amount
  - more.over
labels:
  - {from: last_order.amount, after: 5d, as: later}
  - {from: last_order.twice, after: 5d, as: later_twice}
  - {from: activity.orders_7d, after: 8d, as: orders_then}
";

/// Times are asked so that 5 days and 8 days later lie before, at and one microsecond past the last event.
const SPINE: &str = "\
row,seller,at
a,1,2024-01-05T00:00:00Z
b,1,2024-01-07T00:00:00Z
c,1,2024-01-12T00:00:00Z
d,1,2024-01-12T00:00:00.000001Z
e,1,2024-01-15T00:00:00Z
f,1,2024-01-15T00:00:00.000001Z
g,2,2024-01-07T00:00:00Z
h,,2024-01-07T00:00:00Z
i,,2024-01-16T00:00:00Z
j,9,2024-01-07T00:00:00Z
k,1,9999-12-31T00:00:00Z
l,1,2024-01-12T12:00:00Z
";

fn model() -> Applied {
    let folder = Folder::new();
    folder.write("orders.csv", ORDERS);
    Applied::new(folder, DEFINITIONS)
}

fn asked(model: &Applied) -> TrainRequest {
    model.request(Ask::Service("model".to_owned()), SPINE, FileFormat::Csv)
}

/// Rows as text: the name, the feature, the labels.
fn rows(batch: &RecordBatch) -> Vec<String> {
    let number = |row: usize, column: &str| {
        let column = batch.column_by_name(column).unwrap().as_primitive::<Int64Type>();
        if column.is_null(row) { "-".to_owned() } else { column.value(row).to_string() }
    };
    let name = batch.column_by_name("row").unwrap().as_string::<i32>();
    let of = |row| {
        let [amount, later, twice, orders] =
            ["amount", "later", "later_twice", "orders_then"].map(|it| number(row, it));
        format!("{} {amount} | {later} {twice} {orders}", name.value(row))
    };
    (0..batch.num_rows()).map(of).collect()
}

fn counts(report: &TrainingReport) -> Vec<String> {
    let of = |it: &LabelCounts| {
        let LabelCounts { label, view, present, not_found, expired, no_key, null_values, not_mature, .. } =
            it;
        format!(
            "{label} of {view}: {present} present, {null_values} null, {not_found} not found, {expired} expired, {no_key} no key, {not_mature} not mature"
        )
    };
    report.outcome.labels.iter().map(of).collect()
}

#[test]
fn a_label_is_what_came_of_it() {
    let model = model();
    let (found, report) = model.train(asked(&model)).unwrap();
    assert_eq!(
        rows(&found),
        [
            // On the 10th it was 20; in the 7 days before the 13th there were two, one of them late.
            "a 10 | 20 40 2",
            // On the 12th it is 30, though that became known a week later.
            "b - | 30 60 2",
            // Five days later is the 17th: that of the 12th is just five days old. Eight days later is the 20th,
            // the last event of all, and the week before it holds none but the one without a seller.
            "c 20 | 30 60 0",
            // One microsecond more is past the ttl there, and past the last event here.
            "d 20 | - - -",
            // The 20th: there is an event, but it is 8 days old.
            "e 20 | - - -",
            // Past the last event.
            "f - | - - -",
            "g - | - - 1",
            "h - | - - -",
            "i - | - - -",
            "j - | - - 0",
            "k - | - - -",
            "l 20 | - - -",
        ]
    );
    insta::assert_snapshot!(counts(&report).join("\n"), @r"
    later of last_order: 4 present, 1 null, 1 not found, 3 expired, 1 no key, 3 not mature
    later_twice of last_order: 4 present, 1 null, 1 not found, 3 expired, 1 no key, 3 not mature
    orders_then of activity: 5 present, 0 null, 0 not found, 0 expired, 1 no key, 6 not mature
    ");
    assert_eq!((report.outcome.rows, report.outcome.dropped), (12, 0));
    let names: Vec<&str> = report.outcome.columns.iter().map(|it| it.name.as_str()).collect();
    assert_eq!(names, ["row", "seller", "at", "amount", "over", "later", "later_twice", "orders_then"]);
    // One source, however often it was read.
    assert_eq!(report.recipe.cuts.len(), 1);
    assert!(matches!(report.recipe.cuts[0].cut, Cut::Files(_)));
    // What a label says does not hang on the question that features are asked with.
    let request = TrainRequest { question: Question::Event, ..asked(&model) };
    let (event, _) = model.train(request).unwrap();
    for label in ["later", "later_twice", "orders_then"] {
        assert_eq!(event.column_by_name(label), found.column_by_name(label));
    }
    assert_ne!(event.column_by_name("amount"), found.column_by_name("amount"));
}

#[test]
fn rows_that_are_not_mature_may_be_dropped() {
    let model = model();
    let (all, _) = model.train(asked(&model)).unwrap();
    let request = TrainRequest { on_immature: OnImmature::Drop, ..asked(&model) };
    let (found, report) = model.train(request).unwrap();
    let kept: Vec<String> = rows(&all)
        .into_iter()
        .filter(|row| ["a", "b", "c", "g", "h", "j"].iter().any(|name| row.starts_with(*name)))
        .collect();
    assert_eq!(rows(&found), kept);
    assert_eq!((report.outcome.rows, report.outcome.dropped), (6, 6));
    insta::assert_snapshot!(counts(&report).join("\n"), @r"
    later of last_order: 4 present, 1 null, 1 not found, 0 expired, 1 no key, 3 not mature
    later_twice of last_order: 4 present, 1 null, 1 not found, 0 expired, 1 no key, 3 not mature
    orders_then of activity: 5 present, 0 null, 0 not found, 0 expired, 1 no key, 6 not mature
    ");
    // The counts of features are those of the rows there are.
    let features = &report.outcome.counts[0];
    let answered = features.present + features.not_found + features.expired + features.no_key;
    assert_eq!(answered, 6);
    let set = recorded(report);
    let stored: TrainingSet = serde_json::from_str(&serde_json::to_string(&set).unwrap()).unwrap();
    assert_eq!(stored.recipe.on_immature, OnImmature::Drop);
    let (again, report) = model.rebuild(&stored).unwrap();
    assert_eq!(again, found);
    assert_eq!(report.outcome, set.outcome);
    // All rows may go.
    let late = "row,seller,at\nx,1,2024-02-01T00:00:00Z\n";
    let request = model.request(Ask::Service("model".to_owned()), late, FileFormat::Csv);
    let (none, report) = model.train(TrainRequest { on_immature: OnImmature::Drop, ..request }).unwrap();
    assert_eq!((none.num_rows(), report.outcome.rows, report.outcome.dropped), (0, 0, 1));
}

#[test]
fn a_source_without_rows_makes_no_label_mature() {
    let folder = Folder::new();
    folder.write("orders.csv", ORDERS.lines().next().unwrap());
    let definitions = DEFINITIONS.replace(
        "available_at: known\n",
        "available_at: known\nschema: {seller: int64, ordered: timestamp, known: timestamp, amount: int64}\n",
    );
    let model = Applied::new(folder, &definitions);
    let (found, report) = model.train(asked(&model)).unwrap();
    assert!(rows(&found).iter().all(|row| row.ends_with("- | - - -")), "{found:?}");
    assert!(report.outcome.labels.iter().all(|it| it.not_mature == 12 && it.present == 0));
}

/// Of what is pushed a row may be dated later than now, and says nothing of what is still to come.
#[test]
fn labels_over_pushed_rows_are_mature_up_to_the_present() {
    let folder = Folder::new();
    folder.write("orders.csv", ORDERS);
    let pushed = "push: true\nschema: {seller: int64, ordered: timestamp, known: timestamp, amount: int64}\npast: orders.csv";
    let model = Applied::new(folder, &DEFINITIONS.replace("path: orders.csv", pushed));
    let immature = |report: &TrainingReport| -> Vec<u64> {
        report.outcome.labels.iter().map(|it| it.not_mature).collect()
    };
    // The greatest event time is that of the 20th.
    for (present, expected) in [("2024-01-17T00:00:00Z", [6, 6, 7]), ("2024-01-25T00:00:00Z", [3, 3, 6])] {
        let asked_at = Timestamp::parse(present).unwrap();
        let (found, report) = model.train(TrainRequest { asked_at, ..asked(&model) }).unwrap();
        assert_eq!(immature(&report), expected, "{present}");
        // Built again it is as it was, however late.
        let (again, report) = model.rebuild(&recorded(report)).unwrap();
        assert_eq!((again, immature(&report)), (found, expected.to_vec()));
    }
    let (_, report) = self::model().train(asked(&self::model())).unwrap();
    assert_eq!(report.recipe.asked_at, None, "files are what they are");
}

#[test]
fn labels_are_checked_like_features() {
    let model = model();
    let told = |spine: &str| {
        let request = model.request(Ask::Service("model".to_owned()), spine, FileFormat::Csv);
        said(&model.train(request).unwrap_err())
    };
    insta::assert_snapshot!(told("row,seller,at,later\na,1,2024-01-05T00:00:00Z,1\n"), @r"
    invalid [column_collision] column `later` of the spine and label `later` would both be column `later`
      hint: ask for full names (`view__feature`), or give one another name with `as:`
    ");
    let request = TrainRequest { on_null_key: OnNullKey::Refuse, ..asked(&model) };
    assert!(said(&model.train(request).unwrap_err()).contains("null_key"));
    let folder = Folder::new();
    folder.write("orders.csv", ORDERS);
    let facts = DEFINITIONS
        .replace("event_time: ordered\navailable_at: known\n", "event_time: none\n")
        .replace("ttl: 5d\n", "")
        .replace("  - {from: activity.orders_7d, after: 8d, as: orders_then}\n", "")
        .replace("view: activity\nentity: seller\nsource: orders\nwindows: [7d]\nfeatures:\n  orders: {agg: count(*)}\n---\n", "");
    insta::assert_snapshot!(wrong(&folder, &facts));
}

/// A stored source reaches as far as it was read: what was loaded since makes no row of a rebuild mature.
#[test]
fn a_rebuild_reaches_as_far_as_the_set_did() {
    let folder = Folder::new();
    folder.write("orders.csv", ORDERS);
    let definitions = DEFINITIONS.replace("path: orders.csv\n", "path: orders*.csv\nstore: true\n");
    let model = Applied::new(folder, &definitions);
    let source = Arc::clone(&model.catalog.projects[&name("shop")].sources[&name("orders")]);
    let load = |file: &str| {
        let Folder { engine, runtime, .. } = &model.folder;
        let loaded = runtime.block_on(async {
            let files = [file.to_owned()];
            let files = engine.files_to_load(&source, model.folder.root(), Some(&files)).await?;
            let standing = standing(&source);
            engine.load(&source, &files, OnBadRow::Stop, &[], &standing, &no_progress()).await
        });
        assert_eq!(loaded.unwrap().len(), 1);
    };
    load("orders.csv");
    let (before, report) = model.train(asked(&model)).unwrap();
    let in_place = self::model();
    assert_eq!(rows(&before), rows(&in_place.train(asked(&in_place)).unwrap().0));
    model.folder.write("orders_since.csv", "seller,ordered,known,amount\n1,2024-02-01T00:00:00Z,,7\n");
    load("orders_since.csv");
    let (since, told) = model.train(asked(&model)).unwrap();
    assert_ne!(rows(&since), rows(&before));
    // What is left is the end of all time.
    assert!(told.outcome.labels.iter().all(|it| it.not_mature == 1), "{:?}", told.outcome.labels);
    let set = recorded(report);
    let (again, told) = model.rebuild(&set).unwrap();
    assert_eq!((again, told.outcome), (before, set.outcome));
}
