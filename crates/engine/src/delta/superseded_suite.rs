//! What a flush writes of superseded rows, and what readers find there: at every cut what a search of the rows finds, over
//! flushes of a part, trims, kills between the two commits, compactions, restarts and batches of an older program.

use std::sync::Arc;

use arrow::array::{ArrayRef, BooleanArray, Int64Array, RecordBatch, TimestampMicrosecondArray};
use asof_compute::Position;
use asof_model::{Column, Cut, DataType, Expression, Source, SourceVersion, Timestamp};
use asof_testkit::{Random, copy_folder};
use std::time::Duration;

use super::durable::Right;
use super::flush_suite::{Log, engine_over, source};
use super::stored::Layout;
use super::superseded::{self, Next, Superseded};
use super::{table, tail};
use crate::Engine;
use crate::intake::LiveRows;
use crate::point_in_time::{Ends, ends_of};
use crate::source::Opened;
use crate::source::opened::stored;

/// A source whose rows may be versions of events.
fn versions() -> SourceVersion {
    let made = source("orders");
    let columns = [("at", DataType::Timestamp), ("id", DataType::Int64), ("rank", DataType::Int64)];
    let columns = columns.into_iter().map(|(name, data_type)| Column { name: name.to_owned(), data_type });
    let expression = |text: &str| Some(Expression { text: text.to_owned() });
    let definition = Source { id: expression("id"), order_by: expression("rank"), ..made.definition };
    SourceVersion { definition, columns: columns.collect(), ..made }
}

/// A row that was accepted.
#[derive(Debug, Clone)]
struct Row {
    id: Option<i64>,
    v: i64,
    rank: Option<i64>,
    s: i64,
    delete: bool,
}

impl Row {
    fn order(&self) -> (i64, Option<i64>, i64) {
        (self.v, self.rank, self.s)
    }
}

struct Room {
    folder: tempfile::TempDir,
    source: SourceVersion,
    log: Arc<Log>,
    engine: Engine,
    rows: Vec<Row>,
    now: i64,
}

impl Room {
    fn new() -> Room {
        let folder = tempfile::tempdir().unwrap();
        let log = Arc::new(Log::default());
        let engine = engine_over(&folder, &log);
        Room { folder, source: versions(), log, engine, rows: Vec::new(), now: 1_000 }
    }

    fn layout(&self) -> Layout {
        Layout::of(self.folder.path(), &self.source).unwrap()
    }

    /// Accepts a batch; an older program says nothing of versions. Deletes without an id if `nameless`.
    fn push(&mut self, random: &mut Random, older: bool, nameless: bool) {
        self.now += 1;
        let first = self.rows.len() as i64 + 1;
        let count = random.between(1, 5);
        let (mut own, mut known) = (Vec::new(), Vec::new());
        for s in first..first + count {
            // Rows of a past that is loaded bring a v of their own, which may be never.
            let loaded = match random.between(0, 9) {
                0 => Some(Timestamp::NEVER.0),
                1..4 => Some(random.between(900, self.now)),
                _ => None,
            };
            let id = random.chance(90).then(|| random.between(0, 6));
            let row = Row {
                id,
                v: loaded.unwrap_or(self.now),
                rank: random.chance(70).then(|| random.between(0, 3)),
                s,
                delete: random.chance(15) && (id.is_some() || nameless),
            };
            let same = || self.rows.iter().filter(|other| row.id.is_some() && other.id == row.id);
            let before = same().filter(|other| other.order() < row.order()).max_by_key(|other| other.order());
            let after = same().filter(|other| other.order() > row.order()).min_by_key(|other| other.order());
            let next = |v, s| Next::Version { visible_at: Timestamp(v), position: Position(s) };
            if let Some(before) = before {
                known.push(Superseded { row: Position(before.s), by: next(row.v, s) });
            }
            if let Some(after) = after {
                known.push(Superseded { row: Position(s), by: next(after.v, after.s) });
            }
            if row.delete {
                let by = if row.id.is_some() { Next::Withdrawal } else { Next::Delete };
                known.push(Superseded { row: Position(s), by });
            }
            own.push(loaded);
            self.rows.push(row);
        }
        let rows = &self.rows[first as usize - 1..];
        let times = |times: Vec<Option<i64>>| -> ArrayRef {
            Arc::new(TimestampMicrosecondArray::from(times).with_timezone("UTC"))
        };
        let at = times(rows.iter().map(|row| Some(row.s)).collect());
        let columns: Vec<ArrayRef> = vec![
            Arc::clone(&at),
            Arc::new(rows.iter().map(|row| row.id).collect::<Int64Array>()),
            Arc::new(rows.iter().map(|row| row.rank).collect::<Int64Array>()),
            at,
            Arc::new(rows.iter().map(|row| Some(row.delete)).collect::<BooleanArray>()),
            times(own),
        ];
        let live = LiveRows::of(&self.source).unwrap();
        let batch = RecordBatch::try_new(Arc::clone(live.schema()), columns).unwrap();
        let encoded = live.encode(&batch).unwrap();
        let bytes = encoded.of(0..encoded.len(), (!older).then_some(&known));
        let table = self.engine.table_of(&self.source).unwrap();
        self.log.accept(&table, Timestamp(self.now), count, bytes);
    }

    async fn flush(&self, most: u64) {
        let held = self.engine.hold_tail().await.unwrap().unwrap();
        self.engine.flush(&self.source, &held, most).await.unwrap();
    }

    /// A flush that is killed after its first commit.
    async fn cut_off(&self) {
        let layout = self.layout();
        let lock: Arc<Right> = Arc::new(table::lock(&layout.folder).await.unwrap());
        let store = self.engine.files().holding(&lock);
        let Some(table) = table::open(&store, &layout.folder).await.unwrap() else { return };
        let base = Position(layout.last_position(&table).await.unwrap());
        let Some(at) = superseded::covered(&layout, &table, base).await.unwrap() else { return };
        let held = self.engine.hold_tail().await.unwrap().unwrap();
        let (to, most) = (held.end(), u64::MAX);
        let mut log = tail::rows(&self.engine, &self.source, &layout, &held, (base, to), most).unwrap();
        let mut known = Some(Vec::new());
        while let Some(batch) = log.batches.recv().await {
            known = known.zip(batch.superseded).map(|(all, more)| [all, more].concat());
        }
        let Some(known) = known else { return };
        superseded::put(&store, &layout, &self.source, &known, (at, to)).await.unwrap();
    }

    async fn opened(&self, cut: i64) -> Opened {
        let at = Cut::Stored { position: cut, table_version: 0, past: None };
        stored(&self.engine, None, &self.source, Some(&at), None).await.unwrap()
    }

    async fn ends(&self, opened: &Opened, windows: bool) -> crate::Result<Arc<Ends>> {
        let ends = ends_of(&self.engine, &self.source, opened, windows, 1 << 20, None).await;
        Ok(ends?.unwrap())
    }

    /// Whether the rows need not be asked. What is found either way is the same.
    async fn check(&self, cut: i64) -> bool {
        let opened = self.opened(cut).await;
        let found = self.ends(&opened, false).await.unwrap();
        let mut without = opened.clone();
        let Opened::Stored { superseded, .. } = &mut without else { panic!("{without:?}") };
        let known = superseded.take().is_some();
        assert_eq!(found, self.ends(&without, false).await.unwrap(), "at {cut} of {:#?}", self.rows);
        let nameless = self.rows.iter().any(|row| row.delete && row.id.is_none() && row.s <= cut);
        for opened in [&opened, &without] {
            let windows = self.ends(opened, true).await;
            assert_eq!(windows.is_err(), nameless, "at {cut}: {windows:?}");
        }
        known
    }
}

#[test]
fn rows_that_end_are_known_without_reading_them() {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let (mut known, mut searched, mut files) = (0, 0, 0);
    for seed in 0..15 {
        let mut random = Random::new(4_400 + seed);
        runtime.block_on(async {
            let mut room = Room::new();
            // In the last worlds a program without entries writes at the beginning, or in between.
            let older = if seed < 10 { 0 } else { 8 };
            for _ in 0..random.between(10, 40) {
                match random.between(0, 11) {
                    0..6 => {
                        let older = random.chance(older);
                        room.push(&mut random, older, seed % 3 == 0);
                    }
                    6 | 7 => room.flush(*random.pick(&[1, 300, u64::MAX])).await,
                    8 => {
                        room.flush(u64::MAX).await;
                        room.log.trim(room.rows.len() as i64);
                    }
                    9 => room.cut_off().await,
                    10 => {
                        let done = room.engine.compact(&room.source, Timestamp(room.now), Duration::ZERO);
                        files += done.await.unwrap().files;
                    }
                    _ => room.engine = engine_over(&room.folder, &room.log),
                }
                let end = room.rows.len() as i64;
                if end > 0 && random.chance(50) {
                    for cut in [end, random.between(1, end)] {
                        match room.check(cut).await {
                            true => known += 1,
                            false => searched += 1,
                        }
                    }
                }
            }
        });
    }
    assert!(known > 100 && searched > 20 && files > 0, "{known} known, {searched} searched, {files} files");
}

/// An entry is written once, whatever was cut off before.
#[test]
fn entries_are_written_once() {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let mut random = Random::new(5);
        let mut room = Room::new();
        let entries = async |room: &Room| {
            let layout = superseded::layout(&room.layout());
            let table = table::open(room.engine.files(), &layout.folder).await.unwrap().unwrap();
            let state = table.snapshot().unwrap();
            state.log_data().iter().map(|file| file.num_records().unwrap()).sum::<usize>()
        };
        (0..40).for_each(|_| room.push(&mut random, false, true));
        room.flush(300).await;
        let some = entries(&room).await;
        room.cut_off().await;
        let all = entries(&room).await;
        assert!(0 < some && some < all, "{some} of {all}");
        room.cut_off().await;
        room.flush(300).await;
        room.flush(u64::MAX).await;
        assert_eq!(entries(&room).await, all);
        assert!(room.check(room.rows.len() as i64).await);
    });
}

/// A table of entries that somebody removed, or put an older copy of in its place, is not taken for whole, nor made anew:
/// readers look for versions in the rows.
#[test]
fn entries_that_are_gone_are_missed() {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        for older in [false, true] {
            let mut random = Random::new(6);
            let mut room = Room::new();
            let beside = superseded::layout(&room.layout()).folder;
            let copy = room.folder.path().join("older");
            for round in 0..2 {
                (0..20).for_each(|_| room.push(&mut random, false, false));
                room.flush(u64::MAX).await;
                assert!(room.check(room.rows.len() as i64).await, "entries are there");
                if round == 0 {
                    copy_folder(&beside, &copy).unwrap();
                }
            }
            std::fs::remove_dir_all(&beside).unwrap();
            if older {
                copy_folder(&copy, &beside).unwrap();
            }
            for _ in 0..2 {
                assert!(!room.check(room.rows.len() as i64).await, "they are looked for");
                (0..20).for_each(|_| room.push(&mut random, false, false));
                room.flush(u64::MAX).await;
            }
            assert_eq!(beside.exists(), older, "no entries follow those that are gone");
        }
    });
}

/// What readers of many rows with few corrections are spared:
/// `cargo nextest run -p asof-engine --run-ignored only --no-capture -E 'test(what_is_not_read)'`.
#[test]
#[ignore = "a measurement"]
fn what_is_not_read() {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    runtime.block_on(async {
        let mut random = Random::new(1);
        let room = Room::new();
        let (batch, batches) = (20_000, 50);
        let mut newest: Vec<(i64, i64)> = Vec::new();
        let live = LiveRows::of(&room.source).unwrap();
        let table = room.engine.table_of(&room.source).unwrap();
        for number in 0..batches {
            let v = 1_000 + number;
            let (mut ids, mut known) = (Vec::new(), Vec::new());
            for s in number * batch + 1..=(number + 1) * batch {
                // Two in a hundred are corrections.
                let at = (!newest.is_empty() && random.chance(2))
                    .then(|| random.between(0, newest.len() as i64 - 1) as usize);
                let id = match at {
                    Some(at) => {
                        let by = Next::Version { visible_at: Timestamp(v), position: Position(s) };
                        known.push(Superseded { row: Position(newest[at].1), by });
                        newest[at].1 = s;
                        newest[at].0
                    }
                    None => {
                        newest.push((newest.len() as i64, s));
                        newest.len() as i64 - 1
                    }
                };
                ids.push(id);
            }
            let rows = ids.len();
            let times = |value| -> ArrayRef {
                Arc::new(TimestampMicrosecondArray::from(vec![value; rows]).with_timezone("UTC"))
            };
            let columns: Vec<ArrayRef> = vec![
                times(Some(v)),
                Arc::new(Int64Array::from(ids)),
                Arc::new(Int64Array::from(vec![None; rows])),
                times(Some(v)),
                Arc::new(BooleanArray::from(vec![false; rows])),
                times(None),
            ];
            let encoded =
                live.encode(&RecordBatch::try_new(Arc::clone(live.schema()), columns).unwrap()).unwrap();
            room.log.accept(&table, Timestamp(v), rows as i64, encoded.of(0..rows, Some(&known)));
        }
        room.flush(u64::MAX).await;
        let opened = room.opened(batch * batches).await;
        let mut without = opened.clone();
        let Opened::Stored { superseded, .. } = &mut without else { panic!("{without:?}") };
        assert!(superseded.take().is_some());
        let mut ends = Vec::new();
        for (name, opened) in [("the table beside", &opened), ("a search", &without)] {
            let read = Arc::new(std::sync::atomic::AtomicU64::new(0));
            let told = Arc::clone(&read);
            let progress: crate::Progress = Arc::new(move |event: crate::ProgressEvent| {
                told.fetch_max(event.done, std::sync::atomic::Ordering::Relaxed);
            });
            let begun = std::time::Instant::now();
            let found = ends_of(&room.engine, &room.source, opened, false, 1 << 30, Some(progress)).await;
            let (found, took) = (found.unwrap().unwrap(), begun.elapsed().as_millis());
            println!(
                "{name}: {} rows end, {} rows read, {took} ms",
                found.len(),
                read.load(std::sync::atomic::Ordering::Relaxed)
            );
            ends.push(found);
        }
        assert_eq!(ends[0], ends[1]);
    });
}
