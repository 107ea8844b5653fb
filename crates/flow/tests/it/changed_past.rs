//! Files beside a source that is pushed to: what comes, changes or goes there comes online as it comes into training.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI64, Ordering};

use arrow::array::{ArrayRef, Int64Array, RecordBatch, StringArray, TimestampMicrosecondArray};
use arrow::datatypes::{DataType, Field, Schema, TimeUnit};
use arrow::util::display::array_value_to_string;
use asof_engine::intake::BodyFormat;
use asof_engine::no_progress;
use asof_engine::point_in_time::{AnswerBatch, SpineRows, answer};
use asof_flow::{MaterializeReport, PushRequest};
use asof_model::{Ask, Cut, Explain as _, Principal, Question, SourceCut, Timestamp, VisibleTimes};
use asof_serve::{EntityColumns, PreparedSelection};
use futures::TryStreamExt as _;
use serde_json::json;

use crate::delta_table::DeltaTable;
use crate::fixture::{SetAtEnd, name};
use crate::node::{Node, resolved};

const DEFINITIONS: &str = "\
entity: person
keys: {who: string}
---
source: orders
push: true
schema: {who: string, at: timestamp, n: int64}
event_time: at
past: past/*.csv
---
view: all_time
entity: person
source: orders
windows: [all]
features: {orders: {agg: count(*)}, total: {agg: sum(n)}}
---
view: newest
entity: person
source: orders
features: {n: n}
---
service: asked
features: [all_time.*, newest.*]
";

/// A file of the past: days of January 2026 and numbers.
fn write(folder: &Path, called: &str, rows: &[(u32, i64)]) {
    let rows: String = rows.iter().map(|(day, n)| format!("a,2026-01-{day:02}T00:00:00Z,{n}\n")).collect();
    std::fs::write(folder.join("past").join(called), format!("who,at,n\n{rows}")).unwrap();
}

fn push(node: &Node, day: u32, n: i64) {
    let row = format!("{{\"who\": \"a\", \"at\": \"2026-02-{day:02}T00:00:00Z\", \"n\": {n}}}\n");
    let request = PushRequest::new(row, BodyFormat::Ndjson);
    let (owner, shop, source) = (Principal::owner(), name("shop"), name("orders"));
    node.runtime.block_on(node.flow.push(&owner, &shop, &source, request)).unwrap();
}

fn prepared(node: &Node) -> Arc<PreparedSelection> {
    let service = Ask::Service("asked".to_owned());
    node.reader.prepare(&node.registry.catalog(), &name("shop"), &service, false).unwrap()
}

fn ask(node: &Node) -> String {
    let prepared = prepared(node);
    let keys = Arc::new(StringArray::from(vec!["a"]));
    let entities = EntityColumns::new(vec![("who".to_owned(), keys)]).unwrap();
    let found = node.reader.read(&prepared, &entities, None).unwrap();
    let values = found.columns().map(|column| array_value_to_string(&column.array().unwrap(), 0).unwrap());
    values.collect::<Vec<_>>().join(" ")
}

fn materialize(node: &Node) -> Vec<MaterializeReport> {
    let (owner, shop) = (Principal::owner(), name("shop"));
    node.runtime.block_on(node.flow.materialize(&owner, &shop, None, no_progress())).unwrap()
}

#[test]
fn a_changed_past_comes_online() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path();
    std::fs::create_dir(path.join("past")).unwrap();
    write(path, "1.csv", &[(1, 1)]);
    // 2026-03-01.
    let node = Node::open(path, 1_772_323_200_000_000);
    node.put(resolved(&node.runtime, &node.engine, path, DEFINITIONS));
    node.materialize();
    assert_eq!(ask(&node), "1 1 1");
    push(&node, 1, 100);
    assert_eq!(ask(&node), "2 101 100");
    let looked = |units: u64| {
        let status = node.runtime.block_on(node.flow.status(&Principal::owner(), None)).unwrap();
        assert!(
            status.iter().all(|view| view.units_behind == Some(units) && view.last_error.is_none()),
            "{status:?}"
        );
    };
    looked(0);
    for report in materialize(&node) {
        assert_eq!((report.units, report.rebuilt), (0, None), "nothing is new");
    }
    // In each step what changes, what the reports say of it, and what is answered then.
    let steps: [(&dyn Fn(), &str, &str); 4] = [
        (&|| write(path, "2.csv", &[(2, 10)]), "2.csv` of its past is new", "3 111 100"),
        (&|| write(path, "1.csv", &[(1, 1), (3, 1_000)]), "1.csv` of its past changed", "4 1111 100"),
        (
            &|| std::fs::rename(path.join("past/2.csv"), path.join("2.csv")).unwrap(),
            "no longer there",
            "3 1101 100",
        ),
        (&|| write(path, "0.csv", &[(9, 5)]), "0.csv` of its past is new", "4 1106 100"),
    ];
    for (change, why, answer) in steps {
        change();
        looked(1);
        for report in materialize(&node) {
            let rebuilt = report.rebuilt.unwrap();
            assert!(rebuilt.contains(why), "{rebuilt}");
        }
        assert_eq!(ask(&node), answer, "after: {why}");
        looked(0);
    }
    // The generations that answer now take what is pushed, once, also after the rows were moved out of the log.
    push(&node, 2, 7);
    assert_eq!(ask(&node), "5 1113 7");
    node.runtime.block_on(node.flow.flush()).unwrap();
    write(path, "3.csv", &[(4, 1)]);
    materialize(&node);
    assert_eq!(ask(&node), "6 1114 7");
    drop(node);
    // What came while no node ran.
    write(path, "4.csv", &[(5, 1)]);
    let node = Node::open(path, 1_772_323_300_000_000);
    assert_eq!(ask(&node), "6 1114 7");
    node.materialize();
    assert_eq!(ask(&node), "7 1115 7");
    // A past without files is none that is up to date: what is online stays, and the status says what is the matter.
    std::fs::rename(path.join("past"), path.join("elsewhere")).unwrap();
    let (owner, shop) = (Principal::owner(), name("shop"));
    let told = || {
        let status = node.runtime.block_on(node.flow.status(&owner, None)).unwrap();
        for view in &status {
            let failure = view.last_error.as_ref().unwrap();
            assert_eq!((view.units_behind, view.rows_behind), (None, None), "{view:?}");
            assert!(view.materialized && failure.error.message.contains("past/*.csv"), "{failure:?}");
        }
        status.into_iter().map(|view| view.last_error.unwrap().error.code).collect::<Vec<_>>()
    };
    let codes = told();
    let refused = node.flow.materialize(&owner, &shop, None, no_progress());
    let refused = node.runtime.block_on(refused).unwrap_err();
    assert_eq!((codes, told()), (vec![refused.code().to_owned(); 2], vec![refused.code().to_owned(); 2]));
    assert_eq!(ask(&node), "7 1115 7");
    std::fs::rename(path.join("elsewhere"), path.join("past")).unwrap();
    node.materialize();
    let status = node.runtime.block_on(node.flow.status(&owner, None)).unwrap();
    assert!(
        status.iter().all(|view| view.units_behind == Some(0) && view.last_error.is_none()),
        "{status:?}"
    );
}

/// Who asks and who pushes while a view is made anew aside go on: each answer is of the one before or of the new one, whole,
/// with all that was acknowledged before it; and the one before does not come back.
#[test]
fn who_asks_while_a_past_is_taken_anew_sees_one_or_the_other() {
    const FILE: i64 = 1_000_000;
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path();
    std::fs::create_dir(path.join("past")).unwrap();
    write(path, "0.csv", &[(1, 0)]);
    let node = Node::open(path, 1_772_323_200_000_000);
    node.put(resolved(&node.runtime, &node.engine, path, DEFINITIONS));
    node.materialize();
    let (begun, acknowledged) = (AtomicI64::new(0), AtomicI64::new(0));
    // Files that the view has, and files that are there.
    let (taken, written) = (AtomicI64::new(0), AtomicI64::new(0));
    let over = AtomicBool::new(false);
    let (asked, between) = std::thread::scope(|threads| {
        threads.spawn(|| {
            while !over.load(Ordering::SeqCst) {
                begun.fetch_add(1, Ordering::SeqCst);
                push(&node, 1, 1);
                acknowledged.fetch_add(1, Ordering::SeqCst);
            }
        });
        let asking = threads.spawn(|| {
            let (mut asked, mut between, mut last) = (0, 0, 0);
            while !over.load(Ordering::SeqCst) {
                let least = (taken.load(Ordering::SeqCst), acknowledged.load(Ordering::SeqCst));
                let answer = ask(&node);
                let most = (written.load(Ordering::SeqCst), begun.load(Ordering::SeqCst));
                let numbers: Vec<i64> = answer.split(' ').take(2).map(|it| it.parse().unwrap()).collect();
                let (files, pushed) = (numbers[1] / FILE, numbers[1] % FILE);
                assert_eq!(numbers[0], 1 + files + pushed, "the rows of `{answer}` and what they come to");
                assert!((least.0..=most.0).contains(&files) && last <= files, "{least:?} {answer} {most:?}");
                assert!((least.1..=most.1).contains(&pushed), "{least:?} {answer} {most:?}");
                last = files;
                asked += 1;
                between += i64::from(least.0 < most.0);
            }
            (asked, between)
        });
        // Also where something fails here, so that nobody waits for who asks.
        let at_end = SetAtEnd(&over);
        for number in 1..=6 {
            let others: String = (0..3_000).map(|n| format!("b{n},2026-01-02T00:00:00Z,{n}\n")).collect();
            let text = format!("who,at,n\na,2026-01-03T00:00:00Z,{FILE}\n{others}");
            written.store(number, Ordering::SeqCst);
            std::fs::write(path.join(format!("past/{number}.csv")), text).unwrap();
            for report in materialize(&node) {
                assert!(report.rebuilt.is_some(), "{report:?}");
            }
            taken.store(number, Ordering::SeqCst);
        }
        drop(at_end);
        asking.join().unwrap()
    });
    println!("{asked} answers, {between} of them while a view was made anew, {} pushes", begun.into_inner());
    assert!(between > 20, "{between} of {asked}");
}

/// The same by the training path, of all there is or of a cut; and what was read.
fn train(node: &Node, at: Option<&Cut>) -> Result<(String, Cut), asof_engine::Error> {
    let catalog = node.registry.catalog();
    let selection = prepared(node).selection().clone();
    let source = Arc::clone(&selection.readings[0].source);
    let at = at.map(|cut| SourceCut {
        source: source.address.clone(),
        source_id: source.id.clone(),
        visible: VisibleTimes::Recorded,
        cut: cut.clone(),
    });
    let at: Vec<SourceCut> = at.into_iter().collect();
    // What was pushed while the clock stood was given later times than its own.
    let now = TimestampMicrosecondArray::from(vec![node.now() + 1_000]).with_timezone("UTC");
    let keys: ArrayRef = Arc::new(StringArray::from(vec!["a"]));
    let spine = RecordBatch::try_from_iter([("who", keys), ("now", Arc::new(now) as ArrayRef)]).unwrap();
    let spine = SpineRows { batches: vec![spine], time: "now".to_owned() };
    node.runtime.block_on(async {
        let answers = answer(&node.engine, &catalog, &selection, &spine, Question::Known, &at, None).await?;
        let batches: Vec<AnswerBatch> = answers.batches.try_collect().await?;
        let values = batches[0].columns.iter().map(|column| array_value_to_string(column, 0).unwrap());
        Ok((values.collect::<Vec<_>>().join(" "), answers.cuts[0].1.clone()))
    })
}

/// A past in a Delta table is the data files of its newest version, with what its log says of each.
#[test]
fn a_past_may_be_a_delta_table() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path();
    let of = |name: &str, data_type: DataType| Field::new(name, data_type, true);
    let at = of("at", DataType::Timestamp(TimeUnit::Microsecond, Some("UTC".into())));
    let (who, n) = (of("who", DataType::Utf8), of("n", DataType::Int64));
    let schema = Schema::new(vec![who.clone(), at.clone(), n]);
    // The column of a partition stands in no file.
    let mut table = DeltaTable::begin(&path.join("old"), &schema, &["who"]);
    let rows = |day: i64, n: Option<i64>| {
        // 2026-01-01 and later.
        let time = 1_767_225_600_000_000 + (day - 1) * 86_400_000_000;
        let time: ArrayRef = Arc::new(TimestampMicrosecondArray::from(vec![time]).with_timezone("UTC"));
        let n = n.map(|n| ("n", Arc::new(Int64Array::from(vec![n])) as ArrayRef));
        RecordBatch::try_from_iter([("at", time)].into_iter().chain(n)).unwrap()
    };
    let add = |table: &DeltaTable, file: &str, who: Option<&str>, rows: &RecordBatch| {
        table.add_in(file, &json!({"who": who}), rows)
    };
    let remove = |file: &str| {
        json!({"remove": {"path": file, "deletionTimestamp": 1, "dataChange": true}}).to_string()
    };
    let first = add(&table, "1.parquet", Some("a"), &rows(1, Some(1)));
    table.commit(&[first]);
    let node = Node::open(path, 1_772_323_200_000_000);
    let definitions = DEFINITIONS.replace("past: past/*.csv", "past: {path: old, format: delta}");
    node.put(resolved(&node.runtime, &node.engine, path, &definitions));
    node.materialize();
    push(&node, 1, 100);
    let step = |why: Option<&str>, answer: &str| {
        for report in materialize(&node) {
            let rebuilt = report.rebuilt.as_deref();
            assert_eq!(rebuilt.is_some(), why.is_some(), "{rebuilt:?}");
            assert!(rebuilt.unwrap_or_default().contains(why.unwrap_or_default()), "{rebuilt:?}");
        }
        assert_eq!(
            (ask(&node).as_str(), train(&node, None).unwrap().0.as_str()),
            (answer, answer),
            "{why:?}"
        );
    };
    step(None, "2 101 100");
    // A file from before its table had a column; a file is taken away as another comes; rows of nobody.
    let second = add(&table, "2.parquet", Some("a"), &rows(2, None));
    table.commit(&[second]);
    let status = node.runtime.block_on(node.flow.status(&Principal::owner(), None)).unwrap();
    assert!(status.iter().all(|view| view.units_behind == Some(1)), "{status:?}");
    step(Some("old/2.parquet` of its past is new"), "3 101 100");
    let third = add(&table, "3.parquet", Some("a"), &rows(2, Some(10)));
    table.commit(&[remove("2.parquet"), third]);
    step(Some("old/3.parquet` of its past is new"), "3 111 100");
    let nobody = add(&table, "4.parquet", None, &rows(3, Some(5)));
    table.commit(&[nobody]);
    step(Some("4.parquet` of its past is new"), "3 111 100");
    // What was read is read again while its files are of the table.
    let (_, cut) = train(&node, None).unwrap();
    let fifth = add(&table, "5.parquet", Some("a"), &rows(4, Some(1_000)));
    table.commit(&[fifth]);
    step(Some("5.parquet` of its past is new"), "4 1111 100");
    assert_eq!(train(&node, Some(&cut)).unwrap().0, "3 111 100");
    table.commit(&[remove("3.parquet")]);
    step(Some("3.parquet` of its past is no longer there"), "3 1101 100");
    assert_eq!(train(&node, Some(&cut)).unwrap_err().code(), "changed");
    // What files alone do not say is refused; what was online stays.
    let refused = |code: &str| {
        let (owner, shop) = (Principal::owner(), name("shop"));
        let refused = node.flow.materialize(&owner, &shop, None, no_progress());
        assert_eq!(node.runtime.block_on(refused).unwrap_err().code(), code);
        assert_eq!(train(&node, None).unwrap_err().code(), code);
        assert_eq!(ask(&node), "3 1101 100");
    };
    table.change(&Schema::new(vec![who, at]), &["who"]);
    refused("column_not_found");
    table.change(&schema, &["who"]);
    step(None, "3 1101 100");
    let features = json!(["deletionVectors"]);
    let protocol = json!({"protocol": {
        "minReaderVersion": 3, "minWriterVersion": 7, "readerFeatures": features, "writerFeatures": features,
    }});
    let with_deletes = add(&table, "6.parquet", Some("a"), &rows(5, Some(1)));
    let mut with_deletes: serde_json::Value = serde_json::from_str(&with_deletes).unwrap();
    with_deletes["add"]["deletionVector"] = json!({
        "storageType": "u", "pathOrInlineDv": "vBn[lx{q8@P<9BNH/isA", "offset": 1, "sizeInBytes": 36,
        "cardinality": 1,
    });
    table.commit(&[protocol.to_string(), with_deletes.to_string()]);
    refused("delta_reader_feature");
}

/// Rows of the past have no position and stand before those that have one, where all else that orders them is equal: in
/// a latest value, in the first and the last of a window, online as in training.
#[test]
fn rows_of_the_past_stand_before_those_that_were_pushed() {
    const KEYS: i64 = 40;
    const NOW: i64 = 1_772_323_200_000_000;
    let definitions = "\
entity: person
keys: {who: int64}
---
source: orders
push: true
schema: {who: int64, at: timestamp, seen: timestamp, n: int64}
event_time: at
available_at: seen
past: past/*.csv
---
view: newest
entity: person
source: orders
history: all
features: {n: n}
---
view: ever
entity: person
source: orders
history: all
windows: [all]
features: {first: {agg: first(n)}, last: {agg: last(n)}, both: {agg: \"last_n(n, 2)\"}}
---
service: asked
features: [newest.*, ever.*]
";
    let folder = tempfile::tempdir().unwrap();
    let node = Node::open(folder.path(), NOW);
    std::fs::create_dir(folder.path().join("past")).unwrap();
    std::fs::write(folder.path().join("past/0.csv"), "who,at,seen,n\n").unwrap();
    node.put(resolved(&node.runtime, &node.engine, folder.path(), definitions));
    node.materialize();
    // Whichever content comes first: of every other key the greater number was pushed.
    let (before, pushed) = (|who: i64| who * 2 + who % 2, |who: i64| who * 2 + 1 - who % 2);
    let at = Timestamp(NOW - 1_000_000);
    let row = |who| format!("{{\"who\": {who}, \"at\": \"{at}\", \"n\": {}}}\n", pushed(who));
    let request = PushRequest::new((0..KEYS).map(row).collect::<String>(), BodyFormat::Ndjson);
    let (owner, shop, source) = (Principal::owner(), name("shop"), name("orders"));
    let seen = node.runtime.block_on(node.flow.push(&owner, &shop, &source, request)).unwrap().visible_at;
    // Known in the very microsecond in which the others were accepted.
    let row = |who| format!("{who},{at},{seen},{}\n", before(who));
    let rows: String = (0..KEYS).map(row).collect();
    std::fs::write(folder.path().join("past/0.csv"), format!("who,at,seen,n\n{rows}")).unwrap();
    node.materialize();
    let expected: Vec<String> = (0..KEYS)
        .map(|who| {
            let (before, pushed) = (before(who), pushed(who));
            format!("{pushed} {before} {pushed} [{before}, {pushed}]")
        })
        .collect();
    let texts = |columns: &[ArrayRef]| -> Vec<String> {
        let cell = |row| move |column: &ArrayRef| array_value_to_string(column, row).unwrap();
        (0..KEYS as usize).map(|row| columns.iter().map(cell(row)).collect::<Vec<_>>().join(" ")).collect()
    };
    let ask = Ask::Service("asked".to_owned());
    for moved in [false, true] {
        if moved {
            node.runtime.block_on(node.flow.flush()).unwrap();
        }
        let spine: String = (0..KEYS).map(|who| format!("{who},{seen}\n")).collect();
        let (found, record) = node.train(ask.clone(), &format!("who,t\n{spine}"), Question::Known);
        assert_eq!(texts(&found.columns()[2..]), expected, "trained, moved: {moved}");
        // How the times of each were known is said of each.
        let [cut] = &record.recipe.cuts[..] else { panic!("{:?}", record.recipe.cuts) };
        let Cut::Stored { past: Some(past), .. } = &cut.cut else { panic!("{cut:?}") };
        assert_eq!((cut.visible, past.visible), (VisibleTimes::Recorded, VisibleTimes::Declared));
    }
    node.clock.set(NOW + 1_000_000);
    let catalog = node.registry.catalog();
    let prepared = node.reader.prepare(&catalog, &shop, &ask, false).unwrap();
    let keys = Arc::new(Int64Array::from_iter_values(0..KEYS));
    let entities = EntityColumns::new(vec![("who".to_owned(), keys)]).unwrap();
    for at in [None, Some(seen)] {
        let found = node.reader.read(&prepared, &entities, at).unwrap();
        let columns: Vec<ArrayRef> = found.columns().map(|column| column.array().unwrap()).collect();
        assert_eq!(texts(&columns), expected, "online, as of {at:?}");
    }
}
