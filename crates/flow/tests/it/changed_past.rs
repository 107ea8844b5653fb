//! Files beside a source that is pushed to: what comes, changes or goes there comes online as it comes into training.

use std::path::Path;
use std::sync::Arc;

use arrow::array::StringArray;
use arrow::util::display::array_value_to_string;
use asof_engine::intake::BodyFormat;
use asof_engine::no_progress;
use asof_flow::{MaterializeReport, PushRequest};
use asof_model::{Ask, Explain as _, Principal};
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
