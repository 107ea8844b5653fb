//! Pushed rows into the tables of their sources, over a real log, a real registry and real tables.

use std::cell::Cell;
use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use arrow::array::AsArray;
use arrow::datatypes::Int64Type;
use asof_engine::rows::ViewProgress;
use asof_flow::FlushBounds;
use asof_model::{Column, DataType, Explain, Place, SourceVersion, Timestamp, ViewVersion};
use asof_online::live::{Accepted, SourceNumber};
use asof_testkit::{Child, kill_rounds_or};
use proptest::prelude::*;
use proptest::test_runner::{Config, TestRunner};
use tokio_util::sync::CancellationToken;

use crate::pushed::{Node, Row, past, source};

/// Each batch its own commit; what is put together goes at once.
fn small() -> FlushBounds {
    FlushBounds { commit: 1, grace: Duration::ZERO, ..FlushBounds::default() }
}

/// Two sources, and every row that was accepted of each by its position.
struct Room {
    folder: tempfile::TempDir,
    sources: [SourceVersion; 2],
    node: Option<Node>,
    accepted: [BTreeMap<i64, Row>; 2],
    next: i64,
    cuts: Vec<i64>,
    /// The last position before the first row: that of what numbers the sources.
    base: i64,
}

fn number(which: usize) -> SourceNumber {
    SourceNumber(which as u32 + 1)
}

impl Room {
    fn new() -> Room {
        let folder = tempfile::tempdir().unwrap();
        let sources = [source("clicks"), source("orders")];
        let node = Node::open(folder.path(), small());
        node.apply(&[&sources[0], &sources[1]]);
        for (which, source) in sources.iter().enumerate() {
            node.number(source, number(which).0);
        }
        let base = node.live.usage().unwrap().published.0;
        Room {
            folder,
            sources,
            node: Some(node),
            accepted: Default::default(),
            next: 0,
            cuts: Vec::new(),
            base,
        }
    }

    fn node(&self) -> &Node {
        self.node.as_ref().unwrap()
    }

    fn restart(&mut self) {
        drop(self.node.take());
        self.node = Some(Node::open(self.folder.path(), small()));
    }

    fn push(&mut self, which: usize, rows: i64) -> Accepted {
        let range = self.next..self.next + rows;
        self.next += rows;
        let accepted = self.node().push(&self.sources[which], number(which), range.clone());
        assert_eq!(i64::from(accepted.count), rows);
        for (position, n) in (accepted.first.0..).zip(range) {
            let before = self.accepted[which].insert(position, (n, accepted.visible_at.0, n % 7 == 3));
            assert!(before.is_none(), "position {position} was given twice");
        }
        accepted
    }

    /// Moves rows of one source without a trim, as a turn does that is cut off.
    fn flush_one(&self, which: usize, most: u64) {
        let node = self.node();
        node.runtime.block_on(async {
            let held = node.engine.hold_tail().await.unwrap().unwrap();
            node.engine.flush(&self.sources[which], &held, most).await.unwrap();
        });
    }

    fn flush(&self) -> asof_flow::FlushReport {
        self.node().runtime.block_on(self.node().flow.flush()).unwrap()
    }

    fn status(&self) -> asof_flow::FlushStatus {
        self.node().runtime.block_on(self.node().flow.flush_status()).unwrap().unwrap()
    }

    fn compact(&self, which: usize) -> asof_engine::delta::Compacted {
        let now = Timestamp(4_000_000_000_000_000);
        let node = self.node();
        node.runtime.block_on(node.engine.compact(&self.sources[which], now, Duration::ZERO)).unwrap()
    }

    fn check(&self) {
        for (which, accepted) in self.accepted.iter().enumerate() {
            let (found, end) = self.node().read(&self.sources[which], None);
            assert_eq!(&found, accepted, "source {which}");
            assert!(accepted.keys().next_back().is_none_or(|last| *last <= end));
            for cut in &self.cuts {
                let (found, end) = self.node().read(&self.sources[which], Some(*cut));
                let then: BTreeMap<i64, Row> = accepted.range(..=cut).map(|(s, row)| (*s, *row)).collect();
                assert_eq!((found, end), (then, *cut), "source {which} up to {cut}");
            }
        }
    }
}

#[derive(Debug, Clone)]
enum Step {
    Push(usize, i64),
    /// Many small batches: small files, which are put together.
    Trickle(usize),
    FlushOne(usize, u64),
    Flush,
    Compact(usize),
    Record,
    Restart,
    /// The store of live rows is lost when all of it stands in tables.
    LoseTheStore,
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![
        4 => (0..2_usize, 1..60_i64).prop_map(|(which, rows)| Step::Push(which, rows)),
        2 => (0..2_usize).prop_map(Step::Trickle),
        3 => (0..2_usize, prop_oneof![Just(1_u64), Just(u64::MAX)])
            .prop_map(|(which, most)| Step::FlushOne(which, most)),
        2 => Just(Step::Flush),
        2 => (0..2_usize).prop_map(Step::Compact),
        2 => Just(Step::Record),
        1 => Just(Step::Restart),
        1 => Just(Step::LoseTheStore),
    ];
    proptest::collection::vec(step, 1..16)
}

/// Pushes, flushes, trims, compactions and restarts in any order: an offline reading gives exactly the accepted
/// rows, and at a recorded cut those that were accepted then.
#[test]
fn a_reading_gives_exactly_the_accepted_rows() {
    let (together, cuts, lost) = (Cell::new(0), Cell::new(0), Cell::new(0));
    let check = |steps: Vec<Step>| {
        let mut room = Room::new();
        for step in &steps {
            match *step {
                Step::Push(which, rows) => drop(room.push(which, rows)),
                Step::Trickle(which) => {
                    (0..9).for_each(|rows| drop(room.push(which, rows + 1)));
                    (0..9).for_each(|_| room.flush_one(which, 1));
                }
                Step::FlushOne(which, most) => room.flush_one(which, most),
                Step::Flush => drop(room.flush()),
                Step::Compact(which) => together.set(together.get() + room.compact(which).files),
                Step::Record => {
                    let end = room.node().live.usage().unwrap().published.0;
                    room.cuts.extend(Some(end).filter(|end| *end > 0));
                    cuts.set(cuts.get() + 1);
                }
                Step::Restart => room.restart(),
                Step::LoseTheStore => {
                    room.flush();
                    drop(room.node.take());
                    std::fs::remove_dir_all(room.folder.path().join(".asof/live")).unwrap();
                    room.restart();
                    for which in 0..2 {
                        room.node().number(&room.sources[which], number(which).0);
                    }
                    // A time is not given again where the clock has gone on.
                    room.node().clock.set(1_000_000_000 + room.next * 1_000);
                    lost.set(lost.get() + 1);
                }
            }
        }
        room.check();
        room.restart();
        room.check();
        room.flush();
        room.check();
        Ok(())
    };
    let config = Config { cases: 24, failure_persistence: None, ..Config::default() };
    TestRunner::new(config).run(&steps(), check).unwrap();
    let (together, cuts, lost) = (together.get(), cuts.get(), lost.get());
    assert!(together > 8 && cuts > 8 && lost > 2, "{together} {cuts} {lost}");
}

#[test]
fn a_turn_moves_everything_and_trims() {
    let mut room = Room::new();
    room.push(0, 10);
    room.push(1, 20);
    room.push(0, 5);
    let (status, end) = (room.status(), room.base + 35);
    assert_eq!((status.flushed, status.accepted, status.succeeded_at), (0, end, None));
    let report = room.flush();
    assert_eq!((report.rows, report.tables, report.position), (35, 2, end));
    let status = room.status();
    assert_eq!((status.flushed, status.accepted, status.lag_micros), (end, end, None));
    assert_eq!(status.succeeded_at, Some(Timestamp(1_000)));
    assert!(status.failures.is_empty());
    assert_eq!(room.flush().rows, 0, "once is enough");
    room.check();
    // A reading that holds the log keeps it, and not longer.
    let node = room.node();
    let held = node.runtime.block_on(node.engine.hold_tail()).unwrap();
    room.push(0, 1);
    room.flush();
    assert_eq!(room.node().live.usage().unwrap().trimmed.0, end);
    drop(held);
    room.flush();
    assert_eq!(room.node().live.usage().unwrap().trimmed.0, end + 1);
}

/// A table that cannot be written to: intake goes on, others are up to date, and nothing is let go of.
#[test]
fn trouble_with_one_table_is_told_and_loses_nothing() {
    let mut room = Room::new();
    room.push(1, 3);
    room.push(0, 4);
    room.push(1, 5);
    let table = room.node().table(&room.sources[0]);
    std::fs::create_dir_all(table.parent().unwrap()).unwrap();
    std::fs::write(&table, "in the way").unwrap();
    let failed = room.node().runtime.block_on(room.node().flow.flush()).unwrap_err();
    let status = room.status();
    let base = room.base;
    assert_eq!(
        (status.flushed, status.accepted),
        (base + 3, base + 12),
        "up to the first row that is not in its table"
    );
    let name = room.node().engine.table_of(&room.sources[0]).unwrap();
    assert_eq!(status.failures.keys().collect::<Vec<_>>(), [&name]);
    assert_eq!(status.failures[&name].error.code, failed.code());
    room.push(0, 2);
    assert_eq!(room.node().read(&room.sources[1], None).0, room.accepted[1]);
    std::fs::remove_file(&table).unwrap();
    assert_eq!(room.flush().rows, 6);
    let status = room.status();
    assert_eq!((status.flushed, status.failures.len()), (base + 14, 0));
    room.check();
}

/// Rows of a version that no longer stands go into the table that they belong to.
#[test]
fn rows_of_an_older_version_are_moved() {
    let mut room = Room::new();
    room.push(0, 10);
    let older = room.sources[0].clone();
    let mut newer = older.clone();
    newer.id = asof_model::VersionId("f".repeat(32));
    newer.columns.push(Column { name: "more".to_owned(), data_type: DataType::Int64 });
    newer.definition.schema = newer.columns.clone();
    room.node().apply(&[&newer]);
    room.restart();
    assert_eq!(room.flush().rows, 10);
    assert_eq!(room.node().read(&older, None).0, room.accepted[0]);
    assert_ne!(room.node().table(&older), room.node().table(&newer));
}

/// A log of rows that nobody asks to be moved is moved when it has grown, or when they have waited.
#[test]
fn a_node_moves_its_log_by_itself() {
    for bounds in [
        FlushBounds { wait: Duration::from_millis(20), ..FlushBounds::default() },
        FlushBounds { bytes: 10_000, wait: Duration::from_secs(3_600), ..FlushBounds::default() },
    ] {
        let mut room = Room::new();
        drop(room.node.take());
        room.node = Some(Node::open(room.folder.path(), bounds));
        let stop = CancellationToken::new();
        let (flow, until) = (room.node().flow.clone(), stop.clone());
        let moving = room.node().runtime.spawn(async move { flow.flush_forever(until).await });
        for _ in 0..20 {
            room.push(0, 100);
        }
        let begun = Instant::now();
        while room.node().live.usage().unwrap().trimmed.0 < 1 {
            assert!(begun.elapsed() < Duration::from_secs(120), "nothing was moved: {bounds:?}");
            std::thread::sleep(Duration::from_millis(5));
        }
        stop.cancel();
        room.node().runtime.block_on(moving).unwrap();
        room.check();
    }
}

/// While log and tables are copied nothing is moved from one to the other.
#[test]
fn a_pause_holds_up_the_next_turn() {
    let mut room = Room::new();
    room.push(0, 10);
    let node = room.node();
    let pause = node.runtime.block_on(node.flow.pause_flush());
    let flow = node.flow.clone();
    let mut turn = node.runtime.spawn(async move { flow.flush().await });
    let waited =
        node.runtime.block_on(async { tokio::time::timeout(Duration::from_millis(100), &mut turn).await });
    assert!(waited.is_err(), "it waits");
    assert_eq!(node.live.usage().unwrap().trimmed.0, 0);
    drop(pause);
    assert_eq!(node.runtime.block_on(turn).unwrap().unwrap().rows, 10);
}

/// What was put together stays as long as it is read, and for its grace.
#[test]
fn old_files_go_when_nobody_reads_them() {
    let mut room = Room::new();
    for _ in 0..12 {
        room.push(0, 3);
        room.flush_one(0, u64::MAX);
    }
    let files = |room: &Room| {
        let entries = std::fs::read_dir(room.node().table(&room.sources[0])).unwrap().flatten();
        entries.filter(|entry| entry.path().extension().is_some_and(|it| it == "parquet")).count()
    };
    assert_eq!(files(&room), 12);
    let node = room.node();
    let catalog = node.registry.catalog();
    let want = asof_engine::source::ScanColumns { all_for_digest: true, ..Default::default() };
    let reading =
        node.runtime.block_on(asof_engine::source::scan(&node.engine, &catalog, &room.sources[0], &want));
    let reading = reading.unwrap();
    let now = Timestamp(4_000_000_000_000_000);
    let compact = |now: Timestamp, grace| {
        node.runtime.block_on(node.engine.compact(&room.sources[0], now, grace)).unwrap()
    };
    let done = compact(now, Duration::from_secs(60));
    assert_eq!((done.files, done.into, done.rows, done.removed), (12, 1, 36, 0));
    assert_eq!(files(&room), 13, "the old ones have their grace");
    assert_eq!(compact(Timestamp(now.0 + 30_000_000), Duration::from_secs(60)).removed, 0);
    let later = Timestamp(now.0 + 61_000_000);
    assert_eq!(compact(later, Duration::from_secs(60)).removed, 0, "they are read");
    reading.verify().unwrap();
    room.check();
    drop(reading);
    assert_eq!(compact(later, Duration::from_secs(60)).removed, 12);
    assert_eq!(files(&room), 1);
    room.check();
    assert_eq!(room.node().read(&room.sources[0], Some(room.base + 20)).0.len(), 20, "a cut within a file");
    let log = room.node().table(&room.sources[0]).join("_delta_log");
    let texts =
        std::fs::read_dir(log).unwrap().flatten().map(|entry| std::fs::read_to_string(entry.path()).unwrap());
    let removes: Vec<String> =
        texts.flat_map(|text| text.lines().map(str::to_owned).collect::<Vec<_>>()).collect();
    let removes = removes.iter().filter(|line| line.starts_with("{\"remove\""));
    assert_eq!(removes.inspect(|line| assert!(line.contains("\"dataChange\":false"), "{line}")).count(), 12);
}

/// Files beside the table hold what was before: rows without positions, up to a time.
#[test]
fn the_past_is_read_in_place_beside_the_table() {
    let mut room = Room::new();
    std::fs::create_dir_all(room.folder.path().join("data")).unwrap();
    let line = |n: i64| format!("{},{n},row {n}\n", Timestamp(n * 10));
    let lines: String = (100..110).map(line).collect();
    std::fs::write(room.folder.path().join("data/a.csv"), format!("at,n,text\n{lines}")).unwrap();
    let mut with_past = room.sources[0].clone();
    let until = Some(Timestamp(1_050));
    with_past.definition.place = Place::Push { past: Some(asof_model::Past { until, ..past("data/*.csv") }) };
    assert_eq!(
        room.node().engine.table_of(&with_past).unwrap(),
        room.node().engine.table_of(&room.sources[0]).unwrap(),
        "the table is the same, with a past and without"
    );
    room.node().apply(&[&with_past]);
    room.push(0, 4);
    room.flush_one(0, u64::MAX);
    room.push(0, 3);
    let rows = |node: &Node, at| {
        let catalog = node.registry.catalog();
        let want = asof_engine::source::ScanColumns { all_for_digest: true, at, ..Default::default() };
        let scan =
            node.runtime.block_on(asof_engine::source::scan(&node.engine, &catalog, &with_past, &want));
        let scan = scan.unwrap();
        let mut found = Vec::new();
        for batch in crate::fixture::rows_of(&node.engine, &node.runtime, &scan) {
            let number = |name: &str| {
                let column = batch.column_by_name(name).unwrap();
                arrow::compute::cast(column, &arrow::datatypes::DataType::Int64).unwrap()
            };
            let (n, s, v) = (number("n"), number("__s"), number("__v"));
            let as_numbers = |column: &arrow::array::ArrayRef| {
                column.as_primitive::<Int64Type>().iter().collect::<Vec<_>>()
            };
            let (n, s, v) = (as_numbers(&n), as_numbers(&s), as_numbers(&v));
            found.extend((0..batch.num_rows()).map(|row| (n[row].unwrap(), s[row], v[row].unwrap())));
        }
        found.sort_unstable();
        (found, scan.identity.clone())
    };
    let (found, cut) = rows(room.node(), None);
    let mut expected: Vec<(i64, Option<i64>, i64)> =
        room.accepted[0].iter().map(|(s, (n, v, _))| (*n, Some(*s), *v)).collect();
    // Those before, as if seen when they happened.
    expected.extend((100..105).map(|n| (n, None, n * 10)));
    assert_eq!(found, expected);
    let asof_model::Cut::Stored { past: Some(read), .. } = &cut else { panic!("{cut:?}") };
    assert_eq!((read.files.len(), read.visible), (1, asof_model::VisibleTimes::Assumed));
    // What is recorded of it is what is read again.
    room.push(0, 2);
    room.flush();
    std::fs::write(room.folder.path().join("data/b.csv"), format!("at,n,text\n{}", line(1))).unwrap();
    assert_eq!(rows(room.node(), Some(cut.clone())).0, expected);
    assert_eq!(rows(room.node(), None).0.len(), expected.len() + 3);
    std::fs::remove_file(room.folder.path().join("data/a.csv")).unwrap();
    let catalog = room.node().registry.catalog();
    let want = asof_engine::source::ScanColumns { all_for_digest: true, at: Some(cut), ..Default::default() };
    let node = room.node();
    let gone = node.runtime.block_on(asof_engine::source::scan(&node.engine, &catalog, &with_past, &want));
    assert_eq!(gone.unwrap_err().code(), "changed");
}

/// A view's rows unit by unit: what was not handed on yet, wherever it stands by now.
#[test]
fn a_view_is_handed_each_row_once() {
    let mut room = Room::new();
    let view = Arc::new(view_over(&room.sources[0]));
    let read = |room: &Room, since: &ViewProgress| {
        let node = room.node();
        let rows = node.runtime.block_on(node.engine.rows(&node.registry.catalog(), &view, since)).unwrap();
        assert_eq!(rows.changed(), None);
        let (mut numbers, mut seen) = (Vec::new(), since.clone());
        for unit in rows.units() {
            let (to, mut from) = tokio::sync::mpsc::channel(100);
            let done = node.runtime.block_on(rows.read(unit, to)).unwrap();
            while let Ok(batch) = from.try_recv() {
                let features =
                    batch.features.first().map(|it| it.as_primitive::<Int64Type>().values().to_vec());
                numbers.extend(features.unwrap_or_default());
            }
            if let Some(rows) = unit.rows() {
                assert_eq!(rows, done.rows);
            }
            seen.units.insert(unit.name().to_owned(), done.seen);
        }
        numbers.sort_unstable();
        (numbers, seen)
    };
    let values = |range: std::ops::Range<i64>| range.filter(|n| n % 7 != 3).collect::<Vec<i64>>();
    room.push(0, 20);
    let (numbers, seen) = read(&room, &ViewProgress::default());
    assert_eq!(numbers, values(0..20));
    room.flush_one(0, u64::MAX);
    assert_eq!(read(&room, &seen).0, [] as [i64; 0], "moved, and not new");
    room.push(0, 5);
    room.push(1, 5);
    room.push(0, 4);
    let (numbers, later) = read(&room, &seen);
    assert_eq!(numbers, [values(20..25), values(30..34)].concat());
    room.flush();
    for _ in 0..9 {
        room.push(0, 1);
        room.flush();
    }
    room.compact(0);
    assert_eq!(read(&room, &later).0, values(34..43));
    assert_eq!(
        read(&room, &seen).0,
        [values(20..25), values(30..34), values(34..43)].concat(),
        "of a file's rows some"
    );
    assert_eq!(read(&room, &ViewProgress::default()).0.len(), values(0..25).len() + values(30..43).len());
}

/// A view of the latest `n`, of one entity.
fn view_over(source: &SourceVersion) -> ViewVersion {
    let shaped = crate::fixture::view("latest", &crate::fixture::Shape::default());
    let mut view = shaped;
    view.source = source.address.clone();
    view.source_id = source.id.clone();
    view.definition.filter = None;
    view.keys[0].column = "text".to_owned();
    view.keys[0].key.data_type = DataType::String;
    view.features.truncate(1);
    view.features[0].feature.expression = crate::fixture::expression("n");
    view
}

const FOLDER: &str = "ASOF_TEST_FLUSH_FOLDER";

/// The child's work: pushes, says so, and moves and puts together all the while.
#[test]
#[ignore = "run by `a_kill_at_any_moment_loses_and_doubles_nothing` as its child"]
fn pushes_until_killed() {
    #[expect(clippy::disallowed_methods, reason = "the parent test hands the folder over")]
    let folder = std::env::var(FOLDER).unwrap();
    let bounds = FlushBounds { commit: 4_000, ..small() };
    let node = Node::open(Path::new(&folder), bounds);
    let clicks = source("clicks");
    let mut next = node.read(&clicks, None).0.values().map(|(n, ..)| *n + 1).max().unwrap_or(0);
    let flow = node.flow.clone();
    node.runtime.spawn(async move {
        loop {
            flow.flush().await.unwrap();
        }
    });
    println!("\nready");
    loop {
        node.push(&clicks, SourceNumber(1), next..next + 20);
        println!("\naccepted {next}");
        next += 20;
        // So that a turn comes to its end.
        std::thread::sleep(Duration::from_millis(25));
    }
}

/// Killed while rows are pushed, moved, put together and trimmed: what was acknowledged is there, once.
#[test]
fn a_kill_at_any_moment_loses_and_doubles_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let clicks = source("clicks");
    let log = {
        let node = Node::open(folder.path(), small());
        node.apply(&[&clicks]);
        node.number(&clicks, 1);
        node.table(&clicks).join("_delta_log")
    };
    let is_together = || {
        let texts = std::fs::read_dir(&log).into_iter().flatten().flatten();
        let mut texts = texts.filter_map(|entry| std::fs::read_to_string(entry.path()).ok());
        texts.any(|text| text.contains("OPTIMIZE"))
    };
    let mut acknowledged = 0;
    let (mut moved, mut together) = (0, 0);
    for round in 0..kill_rounds_or(25) {
        let environment = [(FOLDER, folder.path().as_os_str())];
        let child = Child::begin("flushing::pushes_until_killed", &environment).unwrap();
        assert!(child.says("ready"), "round {round}: the child did not begin");
        // Now and then until files are put together, however much else the machine has to do.
        let until = Instant::now() + Duration::from_secs(30);
        while round % 5 == 4 && !is_together() && Instant::now() < until {
            std::thread::sleep(Duration::from_millis(20));
        }
        std::thread::sleep(Duration::from_millis(20 + rand::random_range(0..600)));
        for line in child.kill().unwrap() {
            if let Some(first) = line.strip_prefix("accepted ") {
                acknowledged = acknowledged.max(first.parse::<i64>().unwrap() + 20);
            }
        }
        let node = Node::open(folder.path(), small());
        let (found, _) = node.read(&clicks, None);
        let numbers: Vec<i64> = found.values().map(|(n, ..)| *n).collect();
        assert_eq!(
            numbers,
            (0..numbers.len() as i64).collect::<Vec<_>>(),
            "round {round}: each row once, in order"
        );
        assert!(numbers.len() as i64 >= acknowledged, "round {round}: {acknowledged} rows were acknowledged");
        assert_eq!(numbers.len() % 20, 0, "round {round}: a batch is all there or not");
        let usage = node.live.usage().unwrap();
        moved += i64::from(usage.trimmed.0 > 0);
        together += i64::from(is_together());
    }
    assert!(moved > 3 && together > 0, "{moved} {together}");
}
