//! The rows of views in the store of live rows: whatever tiles there are, the answer is that of the rows.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};

use arrow::array::{ArrayRef, BooleanArray, Float64Array, Int64Array};
use asof_compute::{
    Keeping, KeyEncoder, Ladder, Op, Position, RowDigest, RowOrder, StoredWindows, WindowSums,
};
use asof_model::{
    Address, Aggregate, Call, Clock, DataType, Expression, Feature, History, Length, Name, NamedWindow,
    Timestamp, VersionId, Window,
};
use asof_online::GenerationState;
use asof_online::live::{
    Direction, Durability, Incoming, Intake, LiveOptions, LiveSnapshot, LiveStore, SourceNumber, TableNumber,
    Writing, open,
};
use asof_online::views::{
    Held, Holds, LiveGenerations, Remembered, Tiler, ViewRow, ViewTable, WindowsAsked, sum_windows,
};
use asof_testkit::{Random, every_call};

#[cfg(test)]
mod at_once;
#[cfg(test)]
mod cut_off;
#[cfg(test)]
mod generations;
#[cfg(test)]
mod let_go;

const TABLE: TableNumber = TableNumber::new(20).unwrap();
const META: TableNumber = TableNumber::new(0).unwrap();
const SECOND: i64 = 1_000_000;

#[derive(Debug)]
struct Hand(AtomicI64);

impl Clock for Hand {
    fn now(&self) -> Timestamp {
        Timestamp(self.0.load(Ordering::SeqCst))
    }
}

fn below(random: &mut Random, bound: i64) -> i64 {
    random.between(0, bound - 1)
}

fn feature(call: &str, window: Window) -> Feature {
    Feature {
        name: Name::new("x").unwrap(),
        expression: Expression { text: call.to_owned() },
        aggregate: Some(Aggregate {
            call: Call::parse(call).unwrap(),
            windows: vec![NamedWindow { window, alias: None }],
        }),
        default: None,
        sensitivity: None,
        about: Default::default(),
    }
}

fn window(length: Option<i64>, offset: i64, include_now: bool, resolution: Option<i64>) -> Window {
    Window {
        length: length.map(Length::from_micros),
        offset: Length::from_micros(offset),
        include_now,
        resolution: resolution.map(Length::from_micros),
    }
}

/// Windows of every kind.
fn usual() -> [Window; 5] {
    [
        window(Some(60 * SECOND), 0, false, None),
        window(Some(1_000 * SECOND), 0, true, None),
        window(Some(3_600 * SECOND), 61 * SECOND, false, Some(10 * SECOND)),
        window(Some(86_400 * SECOND), 0, false, None),
        window(None, 5 * SECOND, false, None),
    ]
}

/// Members whose states are small, beside which it shows how many entries there are.
const SMALL: [&str; 6] = ["count(", "sum(", "mean(", "max(", "stddev(", "last("];

/// What the members of the catalogue come to over these windows, every third of rows that were paid.
fn stored(windows: &[Window], takes: impl Fn(&str) -> bool) -> StoredWindows {
    let arguments = [("amount", DataType::Float64), ("item", DataType::Int64)];
    let mut features = Vec::new();
    let calls = every_call(&arguments, 0).unwrap().into_iter().filter(|(call, _)| takes(call));
    for (number, (mut call, of)) in calls.enumerate() {
        if number % 3 == 2 {
            call.push_str(" filter (where paid)");
        }
        features.extend(windows.iter().map(|window| (feature(&call, *window), of.clone())));
    }
    // The arguments stand in the order of their first use.
    let arguments = arguments.map(|(_, of)| of);
    StoredWindows::new(features.iter().map(|(feature, of)| (feature, of)), &arguments).unwrap()
}

/// A row as it was given, and the `v` of what ended it.
#[derive(Debug, Clone)]
struct Row {
    entity: i64,
    order: RowOrder,
    number: u64,
    values: Vec<u8>,
    ended: Option<Timestamp>,
}

struct Bench {
    folder: tempfile::TempDir,
    clock: Arc<Hand>,
    store: Option<Arc<dyn LiveStore>>,
    table: ViewTable,
    stored: StoredWindows,
    ladder: Ladder,
    rows: Vec<Row>,
    /// The features that are asked for.
    asked: Vec<usize>,
}

fn options(clock: &Arc<Hand>) -> LiveOptions {
    let clock: Arc<dyn Clock> = Arc::clone(clock) as _;
    LiveOptions { cache: 1 << 20, memory: 64 << 10, log_file: 256 << 10, ..LiveOptions::new(clock) }
}

fn opened(folder: &Path, clock: &Arc<Hand>) -> Arc<dyn LiveStore> {
    open(folder, &options(clock)).unwrap()
}

impl Bench {
    fn new() -> Bench {
        Bench::of(stored(&usual(), |_| true))
    }

    /// Of members whose states are small.
    fn over(windows: &[Window]) -> Bench {
        Bench::of(stored(windows, |call| SMALL.iter().any(|name| call.starts_with(name))))
    }

    fn of(stored: StoredWindows) -> Bench {
        let folder = tempfile::tempdir().unwrap();
        let clock = Arc::new(Hand(AtomicI64::new(1_700_000_000 * SECOND)));
        let store = opened(folder.path(), &clock);
        let ladder = Ladder::of(stored.plan().windows());
        let table = ViewTable::windows(TABLE, Timestamp(i64::MIN), Some(&[]));
        let asked = (0..stored.plan().features().len()).collect();
        Bench { folder, clock, store: Some(store), table, stored, ladder, rows: Vec::new(), asked }
    }

    fn store(&self) -> &dyn LiveStore {
        self.store.as_deref().unwrap()
    }

    fn now(&self) -> i64 {
        self.clock.0.load(Ordering::SeqCst)
    }

    fn pass(&self, micros: i64) {
        self.clock.0.fetch_add(micros, Ordering::SeqCst);
    }

    fn values(&self, random: &mut Random) -> Vec<u8> {
        let amount = [0.1, -3.5, 1e300, -1e300, 7.25, 0.0][below(random, 6) as usize];
        let columns: [ArrayRef; 3] = [
            Arc::new(Float64Array::from(vec![random.chance(90).then_some(amount)])),
            Arc::new(Int64Array::from(vec![random.chance(90).then(|| below(random, 5))])),
            Arc::new(BooleanArray::from(vec![random.chance(50)])),
        ];
        let mut bytes = Vec::new();
        self.stored.layout().encoder(&columns).unwrap().encode(0, &mut bytes).unwrap();
        bytes
    }

    /// Pushes rows at these event times, and ends the rows named.
    fn push(&mut self, random: &mut Random, rows: &[(i64, i64)], ends: &[usize]) {
        let made: Vec<Vec<u8>> = rows.iter().map(|_| self.values(random)).collect();
        let intake = Intake {
            source: SourceNumber(1),
            rows: Incoming::Plain(rows.len() as u32),
            key: None,
            durability: Durability::Relaxed,
        };
        let (table, known) = (self.table.clone(), self.rows.clone());
        let mut stored = Vec::new();
        let mut at = Timestamp(0);
        self.store
            .clone()
            .unwrap()
            .accept(&intake, &mut |given, writing: &mut Writing| {
                stored.clear();
                at = given.visible_at;
                for (number, ((entity, event_time), values)) in rows.iter().zip(&made).enumerate() {
                    let order = RowOrder {
                        event_time: Timestamp(*event_time),
                        visible_at: given.visible_at,
                        order_by: Box::default(),
                        position: Position(given.first.0 + number as i64),
                        op: Op::Value,
                        digest: RowDigest::default(),
                    };
                    let row = Row { entity: *entity, order, number: 0, values: values.clone(), ended: None };
                    put(&table, &row, given.first, writing)?;
                    stored.push(row);
                }
                for end in ends {
                    let row = &known[*end];
                    table.end(
                        &view_row(row, &KeyEncoder::encode_int64(row.entity)),
                        given.visible_at,
                        given.first,
                        writing,
                    )?;
                }
                Ok(())
            })
            .unwrap();
        self.rows.extend(stored);
        for end in ends {
            self.rows[*end].ended = Some(at);
        }
    }

    /// Puts rows without positions, with a `v` of their own, as those of files come.
    fn load(&mut self, random: &mut Random, rows: &[(i64, i64, i64)]) {
        let made: Vec<Vec<u8>> = rows.iter().map(|_| self.values(random)).collect();
        let base = self.rows.len() as u64;
        let mut stored = Vec::new();
        let table = self.table.clone();
        self.store
            .clone()
            .unwrap()
            .write(&mut |s, writing| {
                stored.clear();
                for (number, ((entity, event_time, visible_at), values)) in rows.iter().zip(&made).enumerate()
                {
                    let order = RowOrder {
                        event_time: Timestamp(*event_time),
                        visible_at: Timestamp(*visible_at),
                        order_by: [0, 7].into(),
                        position: Position::NONE,
                        op: Op::Value,
                        digest: RowDigest([3; 16]),
                    };
                    let number = base + number as u64;
                    let row = Row { entity: *entity, order, number, values: values.clone(), ended: None };
                    put(&table, &row, s, writing)?;
                    stored.push(row);
                }
                Ok(())
            })
            .unwrap();
        self.rows.extend(stored);
    }

    fn advance(&self, until: i64) {
        self.advance_of(until, &[0, 1, 2]);
    }

    /// What these entities have may be summed up.
    fn advance_of(&self, until: i64, entities: &[i64]) {
        let entities: Vec<Vec<u8>> =
            entities.iter().map(|it| KeyEncoder::encode_int64(*it).to_vec()).collect();
        self.tiler()
            .advance(Timestamp(until), &entities, &mut |until, words, writing| {
                for (word, bits) in words {
                    writing.put(META, &[b"word", &word.to_be_bytes()[..]].concat(), &bits.to_le_bytes())?;
                }
                writing.put(META, b"tiled", &until.0.to_le_bytes())
            })
            .unwrap();
    }

    fn tiler(&self) -> Tiler<'_> {
        let Bench { table, stored, ladder, .. } = self;
        Tiler { store: self.store(), table, stored, ladder, horizon: None }
    }

    fn tile(&self, entity: i64) -> usize {
        let mut tiles = 0;
        loop {
            let made = self.tiler().entity(&KeyEncoder::encode_int64(entity)).unwrap();
            tiles += made.tiles;
            if made.done {
                return tiles;
            }
        }
    }

    fn reopen(&mut self) {
        self.store = None;
        let store = opened(self.folder.path(), &self.clock);
        let tiled = store.read().unwrap().get(META, b"tiled").unwrap();
        let tiled = tiled.map_or(i64::MIN, |bytes| i64::from_le_bytes(bytes.try_into().unwrap()));
        let mut words = Vec::new();
        let word = &mut |key: &[u8], entry: &[u8]| {
            let number = u32::from_be_bytes(key[4..].try_into().unwrap());
            words.push((number, u64::from_le_bytes(entry.try_into().unwrap())));
            Ok(true)
        };
        store.read().unwrap().scan(META, b"word", None, Direction::Forward, word).unwrap();
        let kept = store.read().unwrap().get(META, b"kept").unwrap();
        let kept = kept.map_or(i64::MIN, |bytes| i64::from_le_bytes(bytes.try_into().unwrap()));
        self.table = ViewTable::windows(TABLE, Timestamp(tiled), Some(&words)).with_kept(Timestamp(kept));
        self.store = Some(store);
    }

    /// What the store answers at T, or at an earlier instant, and what its rows come to; the rows read.
    fn check(&self, entities: &[Option<i64>], back: i64) -> usize {
        let snapshot = self.store().read().unwrap();
        let at = Timestamp(snapshot.answer_time().0 - back);
        // Asked again, it is answered from memory where nothing changed.
        let first = self.check_of(snapshot.as_ref(), &self.rows, entities, at);
        assert_eq!(self.check_of(snapshot.as_ref(), &self.rows, entities, at), first);
        self.check_of(snapshot.as_ref(), &self.rows, entities, at)
    }

    /// The same of a snapshot, which may be an old one, in which these rows were there.
    fn check_of(
        &self,
        snapshot: &dyn LiveSnapshot,
        all: &[Row],
        entities: &[Option<i64>],
        at: Timestamp,
    ) -> usize {
        let plan = self.stored.plan();
        let features = self.asked.clone();
        let asked = WindowsAsked {
            table: &self.table,
            stored: &self.stored,
            ladder: &self.ladder,
            features: &features,
            at,
        };
        let keys: Vec<Option<Vec<u8>>> =
            entities.iter().map(|it| it.map(|it| KeyEncoder::encode_int64(it).to_vec())).collect();
        let read = sum_windows(&asked, snapshot, &mut keys.iter().map(|key| key.as_deref())).unwrap();
        let fresh = ViewTable::windows(TABLE, Timestamp(i64::MIN), None);
        let keys = &mut keys.iter().map(|key| key.as_deref());
        let fresh = sum_windows(&WindowsAsked { table: &fresh, ..asked }, snapshot, keys).unwrap();
        assert_eq!(read.rows, fresh.rows, "of a table that nobody asked before");
        let mut naive = WindowSums::new(plan, &features, at, entities.len());
        let mut rows = self.stored.rows().unwrap();
        let (mut slots, mut numbers) = (Vec::new(), Vec::new());
        for (entity, id) in entities.iter().enumerate() {
            for row in all.iter().filter(|row| Some(row.entity) == *id) {
                let known = row.order.visible_at <= at && row.ended.is_none_or(|ended| at < ended);
                if let Some(stretch) = naive.stretch(row.order.event_time).filter(|_| known) {
                    numbers.push(rows.push(row.order.event_time, &row.values, || row.order.clone()).unwrap());
                    slots.push(naive.slot(entity, stretch));
                }
            }
        }
        naive.add_rows(&slots, &numbers, &rows.finish().unwrap()).unwrap();
        let naive = naive.total();
        for feature in features {
            let (found, expected) = (read.totals.finish(feature).unwrap(), naive.finish(feature).unwrap());
            let shape = &plan.features()[feature];
            assert_eq!(
                found.values.as_ref(),
                expected.values.as_ref(),
                "{shape:?} at {at:?} of {entities:?}"
            );
            assert_eq!(found.outcomes, expected.outcomes, "{shape:?}");
        }
        read.rows.iter().sum()
    }

    /// How often what was asked for was taken from memory, since it was opened.
    fn count_remembered(&self, edges: &mut BTreeMap<&str, usize>) {
        let Remembered { states, rows, rows_since, sums } = self.table.remembered();
        for (edge, count) in [
            ("states in memory", states),
            ("rows in memory", rows),
            ("rows in memory though others came", rows_since),
            ("sums in memory", sums),
        ] {
            *edges.entry(edge).or_default() += count;
        }
    }

    /// The latest row at T against all rows.
    fn check_latest(&self, entity: i64, back: i64) {
        let snapshot = self.store().read().unwrap();
        let at = Timestamp(snapshot.answer_time().0 - back);
        let found = self.table.last(snapshot.as_ref(), &KeyEncoder::encode_int64(entity), at).unwrap();
        let counts = |row: &&Row| {
            row.entity == entity
                && row.order.event_time <= at
                && row.order.visible_at <= at
                && row.ended.is_none_or(|ended| at < ended)
        };
        let expected = self.rows.iter().filter(counts).max_by(|one, other| one.order.cmp(&other.order));
        let place = |row: &Row| (row.order.event_time, row.order.visible_at);
        assert_eq!(found.as_ref().map(|row| (row.event_time, row.visible_at)), expected.map(place));
        if expected.is_some_and(|row| row.order.position != Position::NONE) {
            assert_eq!(found.map(|row| row.values), expected.map(|row| row.values.clone()));
        }
    }
}

fn view_row<'a>(row: &'a Row, key: &'a [u8]) -> ViewRow<'a> {
    ViewRow { key, order: &row.order, number: row.number, valid_until: None, values: &row.values }
}

fn put(table: &ViewTable, row: &Row, s: Position, writing: &mut Writing) -> asof_online::Result<()> {
    table.put(&view_row(row, &KeyEncoder::encode_int64(row.entity)), s, writing).map(drop)
}

/// Rows in any order, late ones, ends, rows with times to come, tiles made and made again at any time, restarts: at
/// every T the answer is that of the rows.
#[test]
fn tiles_never_change_what_windows_come_to() {
    let mut edges: BTreeMap<&str, usize> = BTreeMap::new();
    for seed in 0..30 {
        let mut random = Random::new(seed);
        let mut bench = Bench::new();
        let (mut tiles, mut late) = (0, 0);
        let mut older: Option<(Box<dyn LiveSnapshot>, usize)> = None;
        for _ in 0..below(&mut random, 60) + 10 {
            bench.pass(below(&mut random, 200 * 1_000_000));
            match below(&mut random, 10) {
                0..=4 => {
                    let count = [1, 30, 300][below(&mut random, 3) as usize];
                    let spread = [SECOND, 100 * SECOND, 5_000 * SECOND, 100_000 * SECOND]
                        [below(&mut random, 4) as usize];
                    let ahead = if random.chance(12) { 50 * SECOND } else { 0 };
                    let rows: Vec<(i64, i64)> = (0..below(&mut random, count) + 1)
                        .map(|_| {
                            let event_time = bench.now() + ahead - below(&mut random, spread);
                            // Many at one time.
                            (
                                [0, 0, 1, 2][below(&mut random, 4) as usize],
                                event_time.div_euclid(1_000) * 1_000,
                            )
                        })
                        .collect();
                    let live: Vec<usize> =
                        (0..bench.rows.len()).filter(|at| bench.rows[*at].ended.is_none()).collect();
                    let ends = match live.is_empty() || !random.chance(25) {
                        true => Vec::new(),
                        false => vec![live[below(&mut random, live.len() as i64) as usize]],
                    };
                    *edges.entry("ends").or_default() += ends.len();
                    let before = rows.iter().filter(|(_, e)| *e < bench.table.tiled().0);
                    let told = |id: &i64| bench.table.may_have_tiles(&KeyEncoder::encode_int64(*id));
                    let (told, not): (Vec<&(i64, i64)>, Vec<&(i64, i64)>) =
                        before.partition(|(id, _)| told(id));
                    late += told.len();
                    *edges.entry("before the mark, without tiles").or_default() += not.len();
                    bench.push(&mut random, &rows, &ends);
                }
                5 => {
                    let now = bench.now();
                    let rows: Vec<(i64, i64, i64)> = (0..below(&mut random, 60))
                        .map(|_| {
                            let event_time = now - below(&mut random, 20_000 * SECOND);
                            let longest = if random.chance(33) { 40_000 } else { 100 };
                            let delay = below(&mut random, longest);
                            (below(&mut random, 3), event_time, event_time + delay * SECOND)
                        })
                        .collect();
                    *edges.entry("known later").or_default() += rows.iter().filter(|row| row.2 > now).count();
                    bench.load(&mut random, &rows);
                }
                6 => {
                    let summed: Vec<i64> = (0..3).filter(|_| random.chance(70)).collect();
                    bench.advance_of(bench.now() - below(&mut random, 300 * SECOND), &summed);
                }
                7 => tiles += (0..3).map(|entity| bench.tile(entity)).sum::<usize>(),
                8 if random.chance(25) => {
                    older = None;
                    bench.count_remembered(&mut edges);
                    bench.reopen();
                }
                _ => {
                    let back = match below(&mut random, 4) {
                        0 | 1 => 0,
                        2 => below(&mut random, 10_000 * SECOND),
                        // Asked of the same T again and again, whatever became of its tiles.
                        _ => bench.now().rem_euclid(2_000 * SECOND),
                    };
                    bench.check(&[Some(0), None, Some(below(&mut random, 4))], back);
                    bench.check_latest(below(&mut random, 3), back);
                    if let Some((snapshot, rows)) = &older {
                        let at = snapshot.answer_time();
                        for _ in 0..2 {
                            let rows = &bench.rows[..*rows];
                            bench.check_of(snapshot.as_ref(), rows, &[Some(0), Some(1), Some(2)], at);
                        }
                        bench.check(&[Some(0), Some(1), Some(2)], (bench.now() - at.0).max(0));
                        *edges.entry("old snapshots").or_default() += 1;
                    }
                    if older.is_none() || random.chance(30) {
                        let snapshot = bench.store().read().unwrap();
                        older = Some((snapshot, bench.rows.len()));
                    }
                }
            }
        }
        let mut found = Vec::new();
        let store = bench.store().read().unwrap();
        let all = &mut |entity: &[u8]| {
            found.push(entity.to_vec());
            Ok(true)
        };
        bench.table.entities(store.as_ref(), None, all).unwrap();
        let entities: std::collections::BTreeSet<Vec<u8>> =
            bench.rows.iter().map(|row| KeyEncoder::encode_int64(row.entity).to_vec()).collect();
        assert_eq!(found, entities.into_iter().collect::<Vec<_>>());
        drop(store);
        for back in [0, SECOND, 4_000 * SECOND] {
            bench.check(&[Some(0), Some(1), Some(2)], back);
        }
        bench.count_remembered(&mut edges);
        *edges.entry("tiles").or_default() += tiles;
        *edges.entry("late").or_default() += late;
    }
    let named = ["ends", "known later", "tiles", "late", "before the mark, without tiles"];
    let remembered =
        ["states in memory", "rows in memory", "rows in memory though others came", "sums in memory"];
    for edge in named.into_iter().chain(remembered).chain(["old snapshots"]) {
        assert!(edges.get(edge).is_some_and(|count| *count > 100), "{edge} is not hit: {edges:?}");
    }
}

/// What is let go of counts at no T from the horizon on: windows and the latest row answer as before.
#[test]
fn what_is_let_go_of_is_not_missed() {
    for seed in 0..6 {
        let mut random = Random::new(900 + seed);
        let mut bench = Bench::new();
        // Without the window that has no lower edge.
        let bounded: Vec<usize> = bench
            .stored
            .plan()
            .features()
            .iter()
            .enumerate()
            .filter(|(_, feature)| bench.stored.plan().windows()[feature.window].length.is_some())
            .map(|(at, _)| at)
            .collect();
        bench.asked = bounded;
        for _ in 0..30 {
            bench.pass(4_000 * SECOND);
            let now = bench.now();
            let rows: Vec<(i64, i64)> = (0..200)
                .map(|_| {
                    ([0, 0, 1, 2][below(&mut random, 4) as usize], now - below(&mut random, 8_000 * SECOND))
                })
                .collect();
            let ends: Vec<usize> =
                if bench.rows.len() > 500 { vec![bench.rows.len() - 300] } else { Vec::new() };
            bench.push(&mut random, &rows, &ends);
            bench.advance(bench.now() - 1_000 * SECOND);
            (0..2).for_each(|entity| _ = bench.tile(entity));
        }
        // Entity 2 is heard of no more.
        bench.pass(90_000 * SECOND);
        let now = bench.now();
        bench.push(&mut random, &[(0, now - SECOND), (1, now - 5 * SECOND)], &[]);
        let history = History::Length(Length::from_micros(3_600 * SECOND));
        let keeping = Keeping::at(Timestamp(now), history, Some(Length::from_micros(90_000 * SECOND)));
        let mut removed = 0;
        let mut after = None;
        loop {
            let holds = Held::Windows(&bench.ladder);
            let done = bench.table.expire(bench.store(), &holds, keeping, after.as_deref()).unwrap();
            removed += done.removed;
            match done.next {
                Some(next) => after = Some(next),
                None => break,
            }
        }
        assert!(removed > 500, "{removed}");
        for back in [0, SECOND, 3_000 * SECOND] {
            bench.check(&[Some(0), Some(1), Some(2)], back);
        }
    }
}

/// The same of a view of latest values.
#[test]
fn the_latest_row_outlives_those_before_it() {
    for seed in 0..6 {
        let mut random = Random::new(1_900 + seed);
        let mut bench = Bench::new();
        bench.table = ViewTable::latest(TABLE);
        for _ in 0..20 {
            bench.pass(400 * SECOND);
            let now = bench.now();
            let rows: Vec<(i64, i64)> = (0..20)
                .map(|_| (below(&mut random, 3), now + 100 * SECOND - below(&mut random, 800 * SECOND)))
                .collect();
            let ends: Vec<usize> =
                if bench.rows.is_empty() { Vec::new() } else { vec![bench.rows.len() - 1] };
            bench.push(&mut random, &rows, &ends);
        }
        let history = History::Length(Length::from_micros(1_000 * SECOND));
        let keeping = Keeping::at(Timestamp(bench.now()), history, None);
        let versions = seed % 2 == 0;
        let done = bench.table.expire(bench.store(), &Held::Latest { versions }, keeping, None).unwrap();
        assert!(done.removed > if versions { 10 } else { 200 } && done.next.is_none(), "{done:?}");
        for back in 0..10 {
            (0..3).for_each(|entity| bench.check_latest(entity, back * 100 * SECOND));
        }
        // What answers is withdrawn, row by row: each lays bare the one below.
        for _ in 0..if versions { 100 } else { 0 } {
            bench.pass(SECOND);
            let now = bench.now();
            let standing = |(_, row): &(usize, &Row)| {
                row.entity < 3 && row.ended.is_none() && row.order.event_time.0 <= now
            };
            let last = bench.rows.iter().enumerate().filter(standing).max_by_key(|(_, row)| &row.order);
            let last = last.map(|(at, _)| at).unwrap();
            bench.push(&mut random, &[(3, now)], &[last]);
            (0..3).for_each(|entity| bench.check_latest(entity, 0));
        }
    }
}

/// A row may be let go of before a later version ends it, or never have been kept: that end is of no entity, in nobody's
/// way, and goes too.
#[test]
fn an_end_without_its_row_is_passed_over_and_let_go_of() {
    for latest in [true, false] {
        let mut bench = Bench::new();
        bench.table = match latest {
            true => ViewTable::latest(TABLE),
            false => ViewTable::windows(TABLE, Timestamp(i64::MIN), None),
        };
        let mut random = Random::new(5);
        let now = bench.now();
        bench.push(&mut random, &[(1, now), (2, now)], &[]);
        bench.push(&mut random, &[(3, now)], &[0]);
        // One before the row of an entity, one of an entity without rows; whatever an end's first bytes are.
        for low in 0..=255 {
            let ended: Vec<Row> = (0..3)
                .map(|entity| {
                    let row = bench.rows[0].clone();
                    let event_time = Timestamp(now - SECOND - low);
                    Row { entity, order: RowOrder { event_time, ..row.order }, ..row }
                })
                .collect();
            let table = bench.table.clone();
            bench
                .store()
                .write(&mut |s, writing| {
                    ended.iter().try_for_each(|row| {
                        let key = KeyEncoder::encode_int64(row.entity);
                        table.end(&view_row(row, &key), Timestamp((now & !0xFF) | low), s, writing)
                    })
                })
                .unwrap();
        }
        let mut entities = Vec::new();
        let snapshot = bench.store().read().unwrap();
        let each = &mut |entity: &[u8]| {
            entities.push(entity.to_vec());
            Ok(true)
        };
        bench.table.entities(snapshot.as_ref(), None, each).unwrap();
        assert_eq!(entities, [1, 2, 3].map(KeyEncoder::encode_int64));
        drop(snapshot);
        let entries = |bench: &Bench| {
            let mut entries = 0;
            let each = &mut |_: &[u8], _: &[u8]| {
                entries += 1;
                Ok(true)
            };
            bench.store().read().unwrap().scan(TABLE, &[], None, Direction::Forward, each).unwrap();
            entries
        };
        // Three rows, an end behind its row, and 256 times three without.
        assert_eq!(entries(&bench), 4 + 768);
        let kept = Some(Length::from_micros(100 * SECOND));
        let expire = |bench: &Bench| {
            let holds = if latest { Held::Latest { versions: true } } else { Held::Windows(&bench.ladder) };
            let now = Timestamp(bench.now());
            let keeping = Keeping::at(now, History::Length(Length::from_micros(50 * SECOND)), kept);
            bench.table.expire(bench.store(), &holds, keeping, None).unwrap()
        };
        let gone = expire(&bench);
        assert_eq!((gone.removed, gone.next), (if latest { 768 } else { 0 }, None));
        (1..4).for_each(|entity| {
            if latest {
                bench.check_latest(entity, 0)
            }
        });
        // Where rows go by their event time, ends do as well.
        bench.pass(149 * SECOND + 1);
        let gone = expire(&bench);
        assert_eq!((gone.removed, entries(&bench)), if latest { (2, 2) } else { (768, 4) });
        bench.pass(2 * SECOND);
        assert_eq!((expire(&bench).removed, entries(&bench)), if latest { (2, 0) } else { (4, 0) });
    }
}

/// A hot key costs about what a cold one does: few rows are read beside its tiles.
#[test]
fn few_rows_are_read_where_there_are_tiles() {
    let mut random = Random::new(1);
    let mut bench = Bench::new();
    for _ in 0..100 {
        bench.pass(36 * SECOND);
        let now = bench.now();
        let rows: Vec<(i64, i64)> = (0..100).map(|at| (1, now - at * 360_000)).collect();
        bench.push(&mut random, &rows, &[]);
    }
    assert_eq!(bench.check(&[Some(1)], 0), 10_000);
    bench.advance(bench.now() - SECOND);
    assert!(bench.tile(1) > 100);
    let read = bench.check(&[Some(1)], 0);
    assert!(read < 200, "{read} rows were read");
    // One that ended is found by reading the rows of its tile alone.
    bench.push(&mut random, &[(2, 0)], &[5_000]);
    let read = bench.check(&[Some(1)], 0);
    assert!(read < 400, "{read} rows were read");
    bench.tile(1);
    let read = bench.check(&[Some(1)], 0);
    assert!(read < 200, "{read} rows were read");
    // As of an earlier time tiles of what was pushed later do not help.
    bench.check(&[Some(1)], 600 * SECOND);
}

/// Where the clock went back, what comes to a tile after a restart is late all the same.
#[test]
fn a_mark_never_goes_back() {
    let mut random = Random::new(11);
    let mut bench = Bench::new();
    let now = bench.now();
    let rows: Vec<(i64, i64)> = (0..600).map(|at| (1, now - at * SECOND)).collect();
    bench.push(&mut random, &rows, &[]);
    bench.advance(now);
    assert!(bench.tile(1) > 0);
    bench.advance_of(now - 500 * SECOND, &[1, 2]);
    bench.reopen();
    assert_eq!(bench.table.tiled(), Timestamp(now));
    bench.push(&mut random, &[(1, now - 100 * SECOND)], &[200]);
    bench.check(&[Some(1), Some(2)], 0);
}

/// What reading costs: `cargo nextest run -p asof-online --run-ignored only -E 'test(the_cost_of_a_read)'`.
#[test]
#[ignore = "a measurement"]
fn the_cost_of_a_read() {
    let mut random = Random::new(1);
    let mut bench = Bench::new();
    let cold = 1_000;
    for batch in 0..400 {
        bench.pass(216 * SECOND);
        let now = bench.now();
        // A hot key, and cold ones of a thousand rows each.
        let rows: Vec<(i64, i64)> = (0..500)
            .map(|at| (if at % 2 == 0 { 1 } else { 2 + (batch * 250 + at / 2) % 100 }, now - at * 432_000))
            .collect();
        bench.push(&mut random, &rows, &[]);
    }
    let time = |bench: &Bench, entities: &[i64]| {
        let features: Vec<usize> = (0..bench.stored.plan().features().len()).collect();
        let mut took = Vec::new();
        let mut rows = 0;
        for round in 0..200 {
            let begun = std::time::Instant::now();
            let snapshot = bench.store().read().unwrap();
            let asked = WindowsAsked {
                table: &bench.table,
                stored: &bench.stored,
                ladder: &bench.ladder,
                features: &features,
                at: snapshot.answer_time(),
            };
            let key = KeyEncoder::encode_int64(entities[round % entities.len()]);
            let read = sum_windows(&asked, snapshot.as_ref(), &mut [Some(&key[..])].into_iter()).unwrap();
            for feature in &features {
                read.totals.finish(*feature).unwrap();
            }
            rows += read.rows.iter().sum::<usize>();
            took.push(begun.elapsed().as_micros());
        }
        took.sort_unstable();
        format!("p50 {} us, p99 {} us, {} rows read", took[100], took[198], rows / 200)
    };
    let colds: Vec<i64> = (2..102).collect();
    println!("{cold} rows, no tiles: {}", time(&bench, &colds));
    bench.advance(bench.now() - SECOND);
    for entity in 1..102 {
        bench.tile(entity);
    }
    println!("{cold} rows: {}", time(&bench, &colds));
    println!("100,000 rows: {}", time(&bench, &[1]));
}
