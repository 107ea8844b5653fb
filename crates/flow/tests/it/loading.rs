//! Loads beside changes of their source, and beside a flow that closes.

use std::fs::File;
use std::path::PathBuf;
use std::sync::Arc;

use asof_engine::delta::{LoadFile, OnBadRow};
use asof_engine::{Progress, no_progress};
use asof_flow::{FlowError, LoadReport};
use asof_model::{Explain, Kind, Principal, Source, SourceVersion, TimeRule, TimeUnit, Version, VersionId};
use asof_registry::RunState;

use crate::fixture::{Node, entity, name, row, source};

/// Applies source `prices`, stored; with `moved`, in a version whose rows go to another table.
fn apply(node: &Node, moved: bool) {
    let made = source(true);
    let mut definition = Source { store: true, ..made.definition };
    let mut id = made.id;
    if moved {
        definition.available_at =
            Some(TimeRule::Column { name: "e".to_owned(), unit: Some(TimeUnit::Us), zone: None });
        id = VersionId("moved".repeat(4));
    }
    let version = SourceVersion { definition, id, ..made };
    node.put(vec![Version::Entity(Arc::new(entity())), Version::Source(Arc::new(version))]);
}

fn file(node: &Node, path: &str) -> LoadFile {
    LoadFile { path: node.root.join(path), name: path.to_owned(), partitions: Vec::new() }
}

async fn load(
    node: &Node,
    files: Option<Vec<LoadFile>>,
    progress: Progress,
) -> Result<LoadReport, FlowError> {
    node.flow.load(&Principal::owner(), &name("shop"), &name("prices"), files, OnBadRow::Stop, progress).await
}

fn locks(node: &Node) -> Vec<PathBuf> {
    let folder = node.root.join(".asof/offline/shop/prices");
    let entries = std::fs::read_dir(folder).unwrap().flatten().map(|entry| entry.path());
    entries.filter(|path| path.extension().is_some_and(|it| it == "lock")).collect()
}

fn moved(error: &FlowError) {
    assert_eq!((error.kind(), error.code()), (Kind::Conflict, "source_changed"), "{error}");
    assert_eq!(
        error.to_string(),
        "source `shop.prices` was changed and has another table since this load was asked for; nothing was loaded"
    );
    assert!(error.hint().unwrap().starts_with("load the files again"));
}

/// Rows are never committed where nobody looks any more and told to be loaded.
#[test]
fn a_load_is_refused_where_its_source_has_another_table_by_then() {
    let folder = tempfile::tempdir().unwrap();
    let node = Arc::new(Node::open(folder.path()));
    node.write("in/a.csv", &[row(1, 10, 1, 100)]);
    node.write("in/b.csv", &[row(2, 20, 2, 200)]);
    apply(&node, false);
    let done =
        node.runtime.block_on(load(&node, Some(vec![file(&node, "in/a.csv")]), no_progress())).unwrap();
    assert_eq!(done.rows, 1);

    // It waits for another load's lock while the source changes.
    let lock = File::options().write(true).open(&locks(&node)[0]).unwrap();
    lock.lock().unwrap();
    let waiting = {
        let node = Arc::clone(&node);
        let files = Some(vec![file(&node, "in/b.csv")]);
        let runtime = node.runtime.handle().clone();
        runtime.spawn(async move { load(&node, files, no_progress()).await })
    };
    // The version is taken before the run is recorded.
    let shop = name("shop");
    let running = || {
        let runs = node.runtime.block_on(node.registry.runs(&shop, 10)).unwrap();
        runs.iter().any(|run| run.state == RunState::Running)
    };
    while !running() {
        std::thread::yield_now();
    }
    apply(&node, true);
    lock.unlock().unwrap();
    moved(&node.runtime.block_on(waiting).unwrap().unwrap_err());

    // Or it changes while rows are read.
    apply(&node, false);
    let changed = std::sync::Once::new();
    let other = Arc::downgrade(&node);
    let progress: Progress = Arc::new(move |_| {
        // It is told on a thread that waits for nothing else.
        let node = other.upgrade().unwrap();
        changed.call_once(|| std::thread::spawn(move || apply(&node, true)).join().unwrap());
    });
    let files = Some(vec![file(&node, "in/b.csv")]);
    moved(&node.runtime.block_on(load(&node, files.clone(), progress)).unwrap_err());

    // Nothing of it is in the first table, and all goes into the one that counts.
    apply(&node, false);
    let again = node.runtime.block_on(load(&node, files, no_progress())).unwrap();
    assert_eq!((again.rows, again.position), (1, Some(2)));
}

/// No file is something else than no word of files.
#[test]
fn an_empty_list_of_files_loads_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let node = Node::open(folder.path());
    node.write("data/a.csv", &[row(1, 10, 1, 100)]);
    apply(&node, false);
    let nothing = node.runtime.block_on(load(&node, Some(Vec::new()), no_progress())).unwrap();
    assert_eq!((nothing.rows, nothing.files.len(), nothing.position), (0, 0, None));
    let own = node.runtime.block_on(load(&node, None, no_progress())).unwrap();
    assert_eq!((own.rows, own.files.len(), own.position), (1, 1, Some(1)));
}

/// A load that is cut off by the end of its node leaves a table that the next node goes on with.
#[test]
fn a_load_cut_off_by_a_close_leaves_nothing_on_its_way() {
    let folder = tempfile::tempdir().unwrap();
    let rows: Vec<_> = (0..20_000).map(|n| row(n % 40, n, n, n)).collect();
    let (mut cut, mut rounds) = (0, 0);
    while cut < 4 {
        rounds += 1;
        assert!(rounds < 200, "only {cut} loads were cut off");
        let node = Arc::new(Node::open(folder.path()));
        let path = format!("in/{rounds:03}.csv");
        node.write(&path, &rows[rounds..]);
        apply(&node, false);
        let (begun, has_begun) = tokio::sync::oneshot::channel();
        let begun = std::sync::Mutex::new(Some(begun));
        let progress: Progress = Arc::new(move |_| {
            if let Some(begun) = begun.lock().unwrap().take() {
                begun.send(()).unwrap();
            }
        });
        let files = Some(vec![file(&node, &path)]);
        let (loaded, ()) = node.runtime.block_on(async {
            let closing = async {
                has_begun.await.unwrap();
                node.flow.close().await;
                // Nobody writes any more: the table is free at once.
                for path in locks(&node) {
                    File::options().write(true).open(path).unwrap().try_lock().unwrap();
                }
            };
            tokio::join!(load(&node, files.clone(), progress), closing)
        });
        cut += usize::from(matches!(loaded, Err(FlowError::Stopping)));
        drop(node);
        let node = Node::open(folder.path());
        let again = node.runtime.block_on(load(&node, files, no_progress())).unwrap();
        assert_eq!(again.files[0].loaded_before, loaded.is_ok() || again.rows == 0, "round {rounds}");
    }
}
