//! Rows of a log into a table and out of both again, in any order of pushes, flushes, trims and readings.

use std::cell::Cell;
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use arrow::array::{ArrayRef, AsArray, BooleanArray, Int64Array, RecordBatch, StringArray, new_null_array};
use arrow::datatypes::{Int64Type, TimestampMicrosecondType};
use asof_compute::Position;
use asof_model::{
    Address, Catalog, Column, Cut, DataType, Name, Place, Source, SourceVersion, TimeRule, Timestamp,
    VersionId,
};
use proptest::prelude::*;
use proptest::test_runner::{Config, TestRunner};

use super::append::Sizes;
use super::scan::{StoredFiles, stored_files};
use super::stored::Layout;
use super::tail::{HeldTail, LiveBatch, LiveTail};
use crate::intake::LiveRows;
use crate::source::{ScanColumns, scan};
use crate::{Engine, EngineConfig, Error, Result};

/// A source that rows are pushed to.
pub(super) fn source(called: &str) -> SourceVersion {
    let name = Name::new(called).unwrap();
    let columns = [("at", DataType::Timestamp), ("who", DataType::String), ("n", DataType::UInt64)];
    let columns = columns.into_iter().map(|(name, data_type)| Column { name: name.to_owned(), data_type });
    SourceVersion {
        address: Address { project: Name::new("shop").unwrap(), name: name.clone() },
        id: VersionId("0".repeat(32)),
        definition: Source {
            name,
            place: Place::Push { past: None },
            store: false,
            event_time: Some(TimeRule::Column { name: "at".to_owned(), unit: None, zone: None }),
            available_at: None,
            valid_until: None,
            id: None,
            order_by: None,
            delete_when: None,
            null_keys: asof_model::NullKeys::Keep,
            schema: Vec::new(),
            about: asof_model::About::default(),
        },
        columns: columns.collect(),
    }
}

/// An intake log in memory.
#[derive(Debug, Default)]
pub(super) struct Log {
    state: Mutex<State>,
}

#[derive(Debug, Default, Clone)]
struct State {
    end: i64,
    batches: Vec<Batch>,
}

#[derive(Debug, Clone)]
struct Batch {
    table: String,
    v: Timestamp,
    first: i64,
    count: u32,
    rows: Vec<u8>,
}

/// `v` of the batch that begins at this position.
fn visible_at(first: i64) -> Timestamp {
    Timestamp(1_000_000 * first)
}

impl Log {
    fn push(&self, source: &SourceVersion, table: &str, rows: i64) {
        let state = self.state.lock().unwrap();
        let first = state.end + 1;
        let n: Vec<i64> = (first..first + rows).collect();
        let times: ArrayRef = Arc::new(
            arrow::array::TimestampMicrosecondArray::from_iter_values(n.iter().copied()).with_timezone("UTC"),
        );
        let columns: Vec<ArrayRef> = vec![
            Arc::clone(&times),
            Arc::new(StringArray::from_iter_values(n.iter().map(|_| source.address.name.as_str()))),
            Arc::new(arrow::array::UInt64Array::from_iter_values(n.iter().map(|n| u64::MAX - *n as u64))),
            Arc::clone(&times),
            Arc::new(n.iter().map(|n| Some(n % 10 == 9)).collect::<BooleanArray>()),
            new_null_array(times.data_type(), n.len()),
        ];
        let live = LiveRows::of(source).unwrap();
        let batch = RecordBatch::try_new(Arc::clone(live.schema()), columns).unwrap();
        let rows = live.encode(&batch).unwrap().all();
        drop(state);
        self.accept(table, visible_at(first), n.len() as i64, rows);
    }

    /// Takes a batch as it is.
    pub(super) fn accept(&self, table: &str, v: Timestamp, count: i64, rows: Vec<u8>) {
        let mut state = self.state.lock().unwrap();
        let first = state.end + 1;
        state.end += count;
        state.batches.push(Batch { table: table.to_owned(), v, first, count: count as u32, rows });
    }

    pub(super) fn trim(&self, to: i64) {
        let mut state = self.state.lock().unwrap();
        state.batches.retain(|batch| batch.first + i64::from(batch.count) - 1 > to);
    }
}

impl LiveTail for Log {
    fn hold(&self) -> Result<Box<dyn HeldTail>> {
        Ok(Box::new(self.state.lock().unwrap().clone()))
    }
}

impl HeldTail for State {
    fn end(&self) -> Position {
        Position(self.end)
    }

    fn batches(
        &self,
        table: &str,
        after: Position,
        each: &mut dyn FnMut(LiveBatch<'_>) -> Result<bool>,
    ) -> Result<()> {
        for batch in &self.batches {
            let Batch { first, count, rows, v, .. } = batch;
            let batch_of_it = batch.table == table && first + i64::from(*count) - 1 > after.0;
            let entry = LiveBatch { visible_at: *v, first: Position(*first), count: *count, rows };
            if batch_of_it && !each(entry)? {
                break;
            }
        }
        Ok(())
    }
}

/// A row as a reader finds it: who, n, v, whether a delete.
type Row = (String, u64, i64, bool);

struct Room {
    folder: tempfile::TempDir,
    sources: Vec<SourceVersion>,
    log: Arc<Log>,
    engine: Engine,
    /// Every accepted row of each source by its position.
    accepted: Vec<BTreeMap<i64, Row>>,
}

/// An engine over a data directory and a log.
pub(super) fn engine_over(folder: &tempfile::TempDir, log: &Arc<Log>) -> Engine {
    let engine = Engine::new(EngineConfig {
        data_dir: folder.path().to_owned(),
        memory: 1 << 30,
        threads: 2,
        code_version: "test".to_owned(),
    })
    .unwrap();
    engine.follow(Arc::clone(log) as Arc<dyn LiveTail>);
    engine
}

impl Room {
    fn new() -> Room {
        let folder = tempfile::tempdir().unwrap();
        let log = Arc::new(Log::default());
        let engine = engine_over(&folder, &log);
        let sources = vec![source("clicks"), source("orders")];
        Room { folder, sources, log, engine, accepted: vec![BTreeMap::new(), BTreeMap::new()] }
    }

    fn push(&mut self, which: usize, rows: i64) {
        let source = &self.sources[which];
        let first = self.log.state.lock().unwrap().end + 1;
        self.log.push(source, &self.engine.table_of(source).unwrap(), rows);
        for position in first..first + rows {
            let row = (
                source.address.name.to_string(),
                u64::MAX - position as u64,
                visible_at(first).0,
                position % 10 == 9,
            );
            self.accepted[which].insert(position, row);
        }
    }

    async fn flush(&self, which: usize, most: u64) -> super::flush::Flushed {
        let held = self.engine.hold_tail().await.unwrap().unwrap();
        self.engine.flush(&self.sources[which], &held, most).await.unwrap()
    }

    async fn flush_all_and_trim(&self) {
        let held = self.engine.hold_tail().await.unwrap().unwrap();
        for source in &self.sources {
            assert!(self.engine.flush(source, &held, u64::MAX).await.unwrap().all);
        }
        let end = held.end().0;
        drop(held);
        self.log.trim(end);
    }

    async fn read(&self, which: usize, at: Option<Cut>) -> Result<(BTreeMap<i64, Row>, i64)> {
        let mut catalog = Catalog::default();
        catalog.projects.insert(self.sources[which].address.project.clone(), Arc::default());
        let want = ScanColumns { all_for_digest: true, at, ..ScanColumns::default() };
        let scan = scan(&self.engine, &catalog, &self.sources[which], &want).await?;
        let context = self.engine.session().task_ctx();
        let batches = datafusion::physical_plan::collect(Arc::clone(&scan.plan), context).await?;
        scan.verify()?;
        let mut found = BTreeMap::new();
        for batch in &batches {
            let column = |name: &str| batch.column_by_name(name).unwrap();
            let e = column("__e").as_primitive::<TimestampMicrosecondType>();
            let v = column("__v").as_primitive::<TimestampMicrosecondType>();
            let s: &Int64Array = column("__s").as_primitive::<Int64Type>();
            let who = column("who").as_string::<i32>();
            let n = column("n").as_primitive::<arrow::datatypes::UInt64Type>();
            let op = column("__op").as_boolean();
            for row in 0..batch.num_rows() {
                assert_eq!(e.value(row), s.value(row));
                let read = (who.value(row).to_owned(), n.value(row), v.value(row), op.value(row));
                assert!(found.insert(s.value(row), read).is_none(), "position {} twice", s.value(row));
            }
        }
        let Cut::Stored { position, .. } = scan.identity else { panic!("{:?}", scan.identity) };
        Ok((found, position))
    }

    /// What is read now, and at each cut that was recorded, is what was accepted.
    async fn check(&self, cuts: &[i64]) {
        for (which, accepted) in self.accepted.iter().enumerate() {
            let (found, end) = self.read(which, None).await.unwrap();
            assert_eq!(&found, accepted);
            assert_eq!(end, self.log.state.lock().unwrap().end);
            for cut in cuts {
                let at = Cut::Stored { position: *cut, table_version: 0, past: None };
                let (found, end) = self.read(which, Some(at)).await.unwrap();
                let then: BTreeMap<i64, Row> =
                    accepted.range(..=cut).map(|(s, row)| (*s, row.clone())).collect();
                assert_eq!((found, end), (then, *cut));
            }
        }
    }

    fn spilled(&self) -> usize {
        let entries = std::fs::read_dir(self.folder.path().join("spill")).unwrap().flatten();
        entries.filter(|entry| entry.file_name().to_string_lossy().starts_with("tail-")).count()
    }
}

#[derive(Debug, Clone)]
enum Step {
    Push(usize, i64),
    Flush(usize, u64),
    FlushAndTrim,
    Record,
    Restart,
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![
        4 => (0..2_usize, 1..40_i64).prop_map(|(which, rows)| Step::Push(which, rows)),
        3 => (0..2_usize, prop_oneof![Just(1_u64), Just(2_000), Just(u64::MAX)])
            .prop_map(|(which, most)| Step::Flush(which, most)),
        1 => Just(Step::FlushAndTrim),
        1 => Just(Step::Record),
        1 => Just(Step::Restart),
    ];
    proptest::collection::vec(step, 1..14)
}

/// Pushes, flushes of a part, flushes with trims, restarts, in any order: a reading gives the accepted rows, and
/// one at a recorded cut those that were accepted then.
#[test]
fn a_reading_gives_exactly_the_accepted_rows() {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let (tailed, mixed) = (Cell::new(0), Cell::new(0));
    let config = Config { cases: 24, failure_persistence: None, ..Config::default() };
    let check = |steps: Vec<Step>| {
        runtime.block_on(async {
            let mut room = Room::new();
            let mut cuts = Vec::new();
            for step in &steps {
                match step {
                    Step::Push(which, rows) => room.push(*which, *rows),
                    Step::Flush(which, most) => _ = room.flush(*which, *most).await,
                    Step::FlushAndTrim => room.flush_all_and_trim().await,
                    Step::Record => cuts.push(room.log.state.lock().unwrap().end),
                    Step::Restart => room.engine = engine_over(&room.folder, &room.log),
                }
                for source in &room.sources {
                    let StoredFiles { files, last, .. } = stored_files(&room.engine, source).await.unwrap();
                    let is_behind = last.unwrap_or(0) < room.log.state.lock().unwrap().end;
                    tailed.set(tailed.get() + usize::from(is_behind));
                    mixed.set(mixed.get() + usize::from(is_behind && !files.is_empty()));
                }
            }
            cuts.retain(|cut| *cut > 0);
            room.check(&cuts).await;
            room.flush_all_and_trim().await;
            room.check(&cuts).await;
            assert_eq!(room.spilled(), 0, "files of a reading go with it");
        });
        Ok(())
    };
    TestRunner::new(config).run(&steps(), check).unwrap();
    let (tailed, mixed) = (tailed.get(), mixed.get());
    assert!(tailed > 20 && mixed > 20, "{tailed} {mixed}");
}

#[tokio::test]
async fn a_flush_stopped_before_its_trim_doubles_nothing() {
    let mut room = Room::new();
    room.push(0, 30);
    room.push(1, 5);
    room.push(0, 30);
    // A reading that began before the flush ends after it.
    let held = room.engine.hold_tail().await.unwrap().unwrap();
    let part = room.flush(0, 1).await;
    assert_eq!((part.rows, part.position, part.all), (30, Position(30), false));
    room.check(&[10, 30, 33, 40]).await;
    let rest = room.flush(0, 1).await;
    assert_eq!((rest.rows, rest.position, rest.all), (30, Position(65), true));
    room.check(&[10, 30, 33, 40]).await;
    let again = room.engine.flush(&room.sources[0], &held, u64::MAX).await.unwrap();
    assert_eq!((again.rows, again.position, again.all), (0, Position(65), true), "all of it is there");
    room.push(0, 7);
    room.check(&[10, 30, 33, 40, 65, 70]).await;
    // What a view of the log is older than is left out of both.
    room.flush_all_and_trim().await;
    room.check(&[10, 30, 33, 40, 65, 72]).await;
}

/// Two flushers without the lock that keeps them apart, each sure of where the table stood.
#[tokio::test]
async fn a_flusher_that_was_overtaken_puts_in_what_is_left() {
    let mut room = Room::new();
    room.push(0, 50);
    room.push(0, 50);
    room.push(0, 50);
    let layout = Layout::of(room.folder.path(), &room.sources[0]).unwrap();
    let store = room.engine.files().clone();
    let staged = |to: i64| {
        let (room, layout, store) = (&room, &layout, &store);
        async move {
            let properties = layout.properties(&room.sources[0]);
            let table = super::table::open_or_make(store, &layout.folder, &layout.table, &properties);
            let table = table.await.unwrap();
            let held = room.engine.hold_tail().await.unwrap().unwrap();
            let span = (Position(0), Position(to));
            let mut log =
                super::tail::rows(&room.engine, &room.sources[0], layout, &held, span, u64::MAX).unwrap();
            let schema = Arc::clone(&layout.table);
            let mut files =
                super::append::Files::new(&table, schema, &layout.folder, Sizes { file: 1, group: 40 });
            while let Some(batch) = log.batches.recv().await {
                files.write(&batch.rows).await.unwrap();
            }
            assert_eq!(log.finish().await.unwrap(), Position(to));
            (table, files.finish(layout).await.unwrap())
        }
    };
    let (mut slow, slow_adds) = staged(150).await;
    let (mut fast, fast_adds) = staged(70).await;
    let (mut late, late_adds) = staged(60).await;
    let from = |to| (Position(0), Position(to));
    assert_eq!(
        super::flush::commit_up_to(&mut fast, &layout, fast_adds, 70, from(70), None).await.unwrap(),
        70
    );
    assert_eq!(
        super::flush::commit_up_to(&mut slow, &layout, slow_adds, 150, from(150), None).await.unwrap(),
        80
    );
    assert_eq!(
        super::flush::commit_up_to(&mut late, &layout, late_adds, 60, from(60), None).await.unwrap(),
        0
    );
    room.log.trim(150);
    room.check(&[60, 70, 75]).await;
    let StoredFiles { files: named, last, .. } = stored_files(&room.engine, &room.sources[0]).await.unwrap();
    assert_eq!(last, Some(150));
    let left = std::fs::read_dir(&layout.folder).unwrap().flatten().filter(|e| e.path().is_file()).count();
    assert_eq!(left, named.len(), "files of rounds that were lost are gone");
}

#[tokio::test]
async fn a_cut_past_what_is_there_is_refused() {
    let mut room = Room::new();
    room.push(0, 30);
    room.flush_all_and_trim().await;
    room.push(0, 3);
    let at = |position| Some(Cut::Stored { position, table_version: 0, past: None });
    assert_eq!(room.read(0, at(33)).await.unwrap().0.len(), 33);
    let refused = room.read(0, at(34)).await.unwrap_err();
    assert!(matches!(refused, Error::Changed { .. }), "{refused:?}");
    assert_eq!(
        refused.to_string(),
        "stored source `clicks` ends at position 33 and was read up to 34: its table was removed or is an older copy"
    );
    let damaged = {
        let mut state = room.log.state.lock().unwrap();
        let last = state.batches.last_mut().unwrap();
        last.rows.truncate(20);
        room.engine.clone()
    };
    let held = damaged.hold_tail().await.unwrap().unwrap();
    let refused = damaged.flush(&room.sources[0], &held, u64::MAX).await.unwrap_err();
    assert_eq!(refused.to_string(), "a batch of source `shop.clicks` in the intake log is damaged");
    assert_eq!(stored_files(&damaged, &room.sources[0]).await.unwrap().last, Some(30), "nothing was put in");
}
