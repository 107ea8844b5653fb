//! Files beside a source that is pushed to: what comes, changes or goes there comes online as it comes into training.

use std::path::Path;
use std::sync::Arc;

use arrow::array::{ArrayRef, Int64Array, StringArray};
use arrow::util::display::array_value_to_string;
use asof_engine::intake::BodyFormat;
use asof_engine::no_progress;
use asof_flow::{MaterializeReport, PushRequest};
use asof_model::{Ask, Cut, Principal, Question, Timestamp, VisibleTimes};
use asof_serve::EntityColumns;

use crate::fixture::name;
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

fn ask(node: &Node) -> String {
    let catalog = node.registry.catalog();
    let service = Ask::Service("asked".to_owned());
    let prepared = node.reader.prepare(&catalog, &name("shop"), &service, false).unwrap();
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
        assert!(status.iter().all(|view| view.units_behind == units), "{status:?}");
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
