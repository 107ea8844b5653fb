//! Files loaded into sources that are pushed to.

use std::collections::BTreeMap;
use std::sync::Arc;

use arrow::array::AsArray;
use arrow::datatypes::{Int64Type, TimestampMicrosecondType};
use asof_engine::delta::{LoadFile, OnBadRow};
use asof_engine::source::{ScanColumns, scan};
use asof_engine::{Progress, no_progress};
use asof_flow::{FlowError, FlushBounds, LoadReport};
use asof_model::{Column, DataType, Explain, Principal, SourceVersion, TimeRule, Timestamp};

use crate::fixture::{name, rows_of};
use crate::pushed::{Node, source};

/// Rows of files say when they were seen.
fn seen() -> SourceVersion {
    let mut seen = source("clicks");
    seen.columns.insert(1, Column { name: "seen".to_owned(), data_type: DataType::Timestamp });
    seen.definition.schema = seen.columns.clone();
    seen.definition.available_at = Some(TimeRule::Column { name: "seen".to_owned(), unit: None, zone: None });
    seen
}

fn csv(node: &Node, called: &str, rows: std::ops::Range<i64>) {
    let seen = |n: i64| if n % 5 == 0 { String::new() } else { Timestamp(n * 10 + 1).to_string() };
    let line = |n: i64| format!("{},{},{n},row {n}\n", Timestamp(n * 10), seen(n));
    let lines: String = rows.map(line).collect();
    std::fs::write(node.root.join(called), format!("at,seen,n,text\n{lines}")).unwrap();
}

fn file(node: &Node, called: &str) -> LoadFile {
    LoadFile { path: node.root.join(called), name: called.to_owned(), partitions: Vec::new() }
}

fn load(
    node: &Node,
    files: &[&str],
    on_bad_row: OnBadRow,
    progress: Progress,
) -> Result<LoadReport, FlowError> {
    let files = files.iter().map(|called| file(node, called)).collect();
    let (owner, shop, clicks) = (Principal::owner(), name("shop"), name("clicks"));
    node.runtime.block_on(node.flow.load(&owner, &shop, &clicks, Some(files), on_bad_row, progress))
}

/// Of each row its position, `n` and `v`; none is never known.
fn rows(node: &Node, source: &SourceVersion) -> BTreeMap<i64, (i64, Option<i64>)> {
    let catalog = node.registry.catalog();
    let want = ScanColumns { all_for_digest: true, ..ScanColumns::default() };
    let scan = node.runtime.block_on(scan(&node.engine, &catalog, source, &want)).unwrap();
    let mut found = BTreeMap::new();
    for batch in rows_of(&node.engine, &node.runtime, &scan) {
        let column = |name: &str| batch.column_by_name(name).unwrap();
        let (s, n) = (column("__s").as_primitive::<Int64Type>(), column("n").as_primitive::<Int64Type>());
        let v: Vec<Option<i64>> = column("__v").as_primitive::<TimestampMicrosecondType>().iter().collect();
        for (row, v) in v.into_iter().enumerate() {
            assert!(found.insert(s.value(row), (n.value(row), v)).is_none());
        }
    }
    found
}

fn expected(rows: std::ops::Range<i64>) -> Vec<(i64, Option<i64>)> {
    rows.map(|n| (n, (n % 5 != 0).then_some(n * 10 + 1))).collect()
}

#[test]
fn a_files_content_is_taken_once_with_its_own_times() {
    let folder = tempfile::tempdir().unwrap();
    let node = Node::open(folder.path(), FlushBounds::default());
    let seen = seen();
    node.apply(&[&seen]);
    csv(&node, "a.csv", 0..20_000);
    csv(&node, "b.csv", 20_000..20_010);
    let report = load(&node, &["b.csv", "a.csv"], OnBadRow::Stop, no_progress()).unwrap();
    assert_eq!((report.rows, report.files_loaded, report.files_skipped), (20_010, 2, 0));
    assert_eq!(report.files[0].name, "a.csv", "in the order of their names");
    assert_eq!(report.position, report.files[1].positions.map(|(_, last)| last));
    let found: Vec<_> = rows(&node, &seen).into_values().collect();
    assert_eq!(found, expected(0..20_010), "in the order of their positions");
    // By its content, whatever it is called, and after a restart as well.
    std::fs::rename(folder.path().join("a.csv"), folder.path().join("c.csv")).unwrap();
    node.runtime.block_on(node.flow.flush()).unwrap();
    drop(node);
    let node = Node::open(folder.path(), FlushBounds::default());
    let report = load(&node, &["b.csv", "c.csv"], OnBadRow::Stop, no_progress()).unwrap();
    assert_eq!((report.rows, report.files_loaded, report.files_skipped), (0, 0, 2));
    assert_eq!(rows(&node, &seen).len(), 20_010);
    let refused = load(&node, &["c.csv", "b.txt"], OnBadRow::Stop, no_progress()).unwrap_err();
    assert_eq!(refused.code(), "source_not_files", "{refused}");
}

#[test]
fn a_load_that_was_cut_off_is_gone_on_with() {
    let folder = tempfile::tempdir().unwrap();
    let seen = seen();
    let node = Node::open(folder.path(), FlushBounds::default());
    node.apply(&[&seen]);
    csv(&node, "a.csv", 0..40_000);
    drop(node);
    let mut cut_off = 0;
    loop {
        let node = Node::open(folder.path(), FlushBounds::default());
        let before = rows(&node, &seen).len();
        let (flow, runtime) = (node.flow.clone(), node.runtime.handle().clone());
        // Told to stop as soon as a part is in.
        let stop: Progress = Arc::new(move |event| {
            if event.phase == "load" {
                let flow = flow.clone();
                runtime.spawn(async move { flow.close().await });
                std::thread::sleep(std::time::Duration::from_millis(20));
            }
        });
        let loaded = load(&node, &["a.csv"], OnBadRow::Stop, stop);
        let found = rows(&node, &seen);
        match loaded {
            Ok(report) => {
                assert_eq!(before as u64 + report.rows, 40_000);
                // One that was all in is none to go on with.
                let file = &report.files[0];
                assert!(file.loaded_before || file.went_on_behind == before as u64, "{file:?}");
                assert_eq!(found.into_values().collect::<Vec<_>>(), expected(0..40_000));
                break;
            }
            Err(FlowError::Stopping) => {
                cut_off += 1;
                assert!(found.len() > before, "some of it is in");
                // It may be told to stop when all parts are in.
                let whole = found.len().is_multiple_of(8_192) || found.len() == 40_000;
                assert!(whole, "in whole parts: {}", found.len());
            }
            Err(error) => panic!("{error}"),
        }
    }
    assert!(cut_off >= 2, "{cut_off}");
}

#[test]
fn nothing_is_taken_where_a_row_is_bad() {
    let folder = tempfile::tempdir().unwrap();
    let node = Node::open(folder.path(), FlushBounds::default());
    let seen = seen();
    node.apply(&[&seen]);
    csv(&node, "a.csv", 0..10);
    std::fs::write(folder.path().join("b.csv"), "at,seen,n,text\n2020-01-01T00:00:00Z,,1,x\nnever,,2,y\n")
        .unwrap();
    let bad = load(&node, &["a.csv", "b.csv"], OnBadRow::Stop, no_progress()).unwrap_err();
    assert_eq!(bad.code(), "bad_row");
    assert!(bad.to_string().contains("b.csv, row 2"), "{bad}");
    assert_eq!(rows(&node, &seen).len(), 0);
    let report = load(&node, &["a.csv", "b.csv"], OnBadRow::Quarantine, no_progress()).unwrap();
    assert_eq!((report.rows, report.quarantined), (11, 1));
    let report = load(&node, &["a.csv", "b.csv"], OnBadRow::Quarantine, no_progress()).unwrap();
    assert_eq!((report.rows, report.files_skipped), (0, 2));
    let none = node.runtime.block_on(node.flow.load(
        &Principal::owner(),
        &name("shop"),
        &name("clicks"),
        None,
        OnBadRow::Stop,
        no_progress(),
    ));
    assert_eq!(none.unwrap_err().code(), "source_not_files");
}

/// Rows without `available_at` were seen when they happened.
#[test]
fn without_a_column_for_it_rows_were_seen_when_they_happened() {
    let folder = tempfile::tempdir().unwrap();
    let node = Node::open(folder.path(), FlushBounds::default());
    let mut plain = seen();
    plain.definition.available_at = None;
    node.apply(&[&plain]);
    csv(&node, "a.csv", 1..4);
    load(&node, &["a.csv"], OnBadRow::Stop, no_progress()).unwrap();
    let found: Vec<_> = rows(&node, &plain).into_values().collect();
    assert_eq!(found, [(1, Some(10)), (2, Some(20)), (3, Some(30))]);
}
