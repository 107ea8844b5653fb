//! Rows that tiles stand in for: whatever was let go of, the answer is that of all rows.

use super::cut_off::CutOff;
use super::*;

/// What follows the key of an entity in that of a late row, and of any other.
const LATE: [u8; 2] = [1, 1];
const ROW: [u8; 1] = [0];

impl Bench {
    /// Makes tiles in place of rows, where `history` back is answered.
    fn letting(&self, history: i64) -> Tiler<'_> {
        let now = self.store().read().unwrap().answer_time();
        Tiler { horizon: Some(Timestamp(now.0 - history)), ..self.tiler() }
    }

    /// Rows of these entities go as far as they may; how many entries went.
    fn let_go(&self, tiler: &Tiler<'_>, entities: &[i64]) -> asof_online::Result<usize> {
        let mark =
            &mut |until: Timestamp, writing: &mut Writing| writing.put(META, b"kept", &until.0.to_le_bytes());
        let mut gone = 0;
        if tiler.keep(mark)?.is_some() {
            for entity in entities {
                loop {
                    let tiled = tiler.let_go(&KeyEncoder::encode_int64(*entity))?;
                    gone += tiled.gone;
                    if tiled.done {
                        break;
                    }
                }
            }
        }
        Ok(gone)
    }

    /// How many entries the table has.
    fn entries(&self) -> usize {
        self.entries_behind(&[])
    }

    /// How many of them have this behind the keys of their entities.
    fn entries_behind(&self, what: &[u8]) -> usize {
        let entity = KeyEncoder::encode_int64(0).len();
        let mut entries = 0;
        let count = &mut |place: &[u8], _: &[u8]| {
            entries += usize::from(place[entity..].starts_with(what));
            Ok(true)
        };
        self.store().read().unwrap().scan(TABLE, &[], None, Direction::Forward, count).unwrap();
        entries
    }
}

/// Some windows of which rows may go early, and about how long to wait for it.
fn sets() -> Vec<(Vec<Window>, i64)> {
    const DAY: i64 = 86_400 * SECOND;
    vec![
        (vec![window(None, 0, false, None)], 20 * DAY),
        (vec![window(None, 3 * DAY, true, None), window(Some(60 * SECOND), 0, true, None)], 3 * DAY),
        (
            vec![
                window(Some(3_600 * SECOND), 61 * SECOND, false, Some(600 * SECOND)),
                window(Some(7_200 * SECOND), 0, true, Some(60 * SECOND)),
            ],
            60 * SECOND,
        ),
        (
            vec![
                window(Some(30 * DAY), 0, false, Some(DAY)),
                window(Some(3_600 * SECOND), 0, false, None),
                window(None, 40 * SECOND, false, None),
            ],
            DAY,
        ),
    ]
}

/// Rows in any order, late ones, rows known later and never, let go of at any time and cut off between any two batches,
/// restarts, tiles beside: at every T within the history the answer is that of all rows.
#[test]
fn what_tiles_stand_in_for_is_not_missed() {
    let mut edges: BTreeMap<&str, usize> = BTreeMap::new();
    for seed in 0..24 {
        let mut random = Random::new(4_000 + seed);
        let (windows, wait) = sets().swap_remove(seed as usize % 4);
        let mut bench = Bench::over(&windows);
        let history = [0, wait / 2, 4 * wait][seed as usize / 4 % 3];
        let mut gone = 0;
        for _ in 0..below(&mut random, 60) + 30 {
            let passed = below(&mut random, wait);
            bench.pass(passed);
            let now = bench.now();
            match below(&mut random, 12) {
                0..=3 => {
                    let count = [1, 30, 300][below(&mut random, 3) as usize];
                    let spread = [SECOND, wait / 10, wait, 20 * wait][below(&mut random, 4) as usize];
                    let ahead = if random.chance(12) { wait / 4 } else { 0 };
                    let rows: Vec<(i64, i64)> = (0..below(&mut random, count) + 1)
                        .map(|_| {
                            let entity = [0, 0, 1, 2][below(&mut random, 4) as usize];
                            (entity, (now + ahead - below(&mut random, spread)).div_euclid(1_000) * 1_000)
                        })
                        .collect();
                    let late = rows.iter().filter(|(_, e)| *e < bench.table.kept().0).count();
                    *edges.entry("pushed late").or_default() += late;
                    bench.push(&mut random, &rows, &[]);
                }
                4 | 5 => {
                    let rows: Vec<(i64, i64, i64)> = (0..below(&mut random, 90))
                        .map(|_| {
                            let event_time = now - below(&mut random, 20 * wait);
                            let delay = [0, 0, wait / 10, 10 * wait][below(&mut random, 4) as usize];
                            let visible_at = match random.chance(3) {
                                true => Timestamp::NEVER.0,
                                false => event_time + below(&mut random, delay + 1),
                            };
                            (below(&mut random, 3), event_time, visible_at)
                        })
                        .collect();
                    let late = |row: &&(i64, i64, i64)| row.1 < bench.table.kept().0;
                    let (known, waits): (Vec<&_>, Vec<&_>) =
                        rows.iter().filter(late).partition(|row| row.2 <= now - history);
                    *edges.entry("loaded late").or_default() += known.len();
                    *edges.entry("loaded late, known later").or_default() += waits.len();
                    bench.load(&mut random, &rows);
                }
                6 => {
                    let summed: Vec<i64> = (0..3).filter(|_| random.chance(50)).collect();
                    bench.advance_of(now - below(&mut random, wait), &summed);
                }
                7 => {
                    let tiler = bench.letting(history);
                    // Whoever makes tiles may know nothing of what goes.
                    let tiler = if random.chance(30) { bench.tiler() } else { tiler };
                    for entity in 0..3 {
                        while !tiler.entity(&KeyEncoder::encode_int64(entity)).unwrap().done {}
                    }
                }
                8 | 9 => {
                    let cut = random.chance(50);
                    let most = if cut { below(&mut random, 6) } else { i64::MAX };
                    let store = CutOff(bench.store(), AtomicI64::new(most));
                    let tiler = Tiler { store: &store, ..bench.letting(history) };
                    match bench.let_go(&tiler, &[0, 1, 2]) {
                        Ok(went) => gone += went,
                        Err(_) => *edges.entry("cut off").or_default() += 1,
                    }
                }
                10 if random.chance(25) => bench.reopen(),
                _ => {
                    let back = if random.chance(50) { 0 } else { below(&mut random, history + 1) };
                    bench.check(&[Some(0), None, Some(below(&mut random, 4))], back);
                }
            }
        }
        for back in [0, history / 2, history] {
            bench.check(&[Some(0), Some(1), Some(2)], back);
        }
        bench.pass(history + 40 * wait);
        let before = bench.entries();
        gone += bench.let_go(&bench.letting(history), &[0, 1, 2]).unwrap();
        let (left, rows) = (bench.entries(), bench.rows.len());
        assert!(left < 150 || left * 4 < rows, "{left} entries of {before}, {rows} rows");
        assert_eq!(bench.entries_behind(&LATE), 0, "what waited is known, and merged");
        for back in [0, history / 2, history] {
            bench.check(&[Some(0), Some(1), Some(2)], back);
        }
        bench.reopen();
        bench.check(&[Some(0), Some(1), Some(2)], history);
        *edges.entry("gone").or_default() += gone;
    }
    println!("{edges:?}");
    for edge in ["pushed late", "loaded late", "loaded late, known later", "gone"] {
        assert!(edges.get(edge).is_some_and(|count| *count > 300), "{edge} is not hit: {edges:?}");
    }
    assert!(edges["cut off"] > 20, "{edges:?}");
}

/// An entity of many old rows comes to a handful of entries.
#[test]
fn a_hundred_thousand_old_rows_come_to_a_handful_of_entries() {
    let mut random = Random::new(77);
    let mut bench = Bench::over(&[window(None, 0, false, None)]);
    let now = bench.now();
    for batch in 0..20 {
        let rows: Vec<(i64, i64)> =
            (0..5_000).map(|at| (1, now - (batch * 5_000 + at) * 100 * SECOND)).collect();
        bench.push(&mut random, &rows, &[]);
    }
    // What is not known from the beginning of the history on stays.
    bench.pass(100 * 86_400 * SECOND);
    assert_eq!(bench.let_go(&bench.letting(101 * 86_400 * SECOND), &[1]).unwrap(), 0);
    assert_eq!(bench.entries(), 100_000);
    assert_eq!(bench.let_go(&bench.letting(86_400 * SECOND), &[1]).unwrap(), 100_000);
    let left = bench.entries();
    assert!(left < 10, "{left} entries are left");
    assert_eq!(bench.entries_behind(&ROW), 0);
    assert_eq!(bench.check(&[Some(1)], 0), 0, "no row is read");
    bench.check(&[Some(1)], 86_400 * SECOND);
    bench.reopen();
    // What comes late is added, and is no row among those that are gone.
    bench.push(&mut random, &[(1, now - 5_000_000 * SECOND), (1, now), (2, now - 77)], &[]);
    // Of the second entity there is no tile: its row is read, and stands beside as late.
    assert_eq!(bench.check(&[Some(1), Some(2)], 0), 4);
    bench.pass(100 * 86_400 * SECOND);
    bench.let_go(&bench.letting(0), &[1, 2]).unwrap();
    bench.check(&[Some(1), Some(2)], 0);
    let left = bench.entries();
    assert!(left < 12, "{left} entries are left");
    // An entity without rows is found, once.
    let mut entities = Vec::new();
    let each = &mut |entity: &[u8]| {
        entities.push(entity.to_vec());
        Ok(true)
    };
    bench.table.entities(bench.store().read().unwrap().as_ref(), None, each).unwrap();
    assert_eq!(entities, [1, 2].map(KeyEncoder::encode_int64));
}

/// Many tiles in place of rows, and many late rows, are made by several batches: between any two of them, and if it is cut
/// off there, the answers are those of the rows.
#[test]
fn many_may_be_cut_off() {
    const WEEK: i64 = 7 * 86_400 * SECOND;
    let mut random = Random::new(78);
    let windows = [window(None, 0, false, None), window(Some(60 * SECOND), 0, false, None)];
    let mut bench = Bench::over(&windows);
    let (mut cuts, mut gone) = (0, 0);
    for (round, rows) in [24_000, 5_000].into_iter().enumerate() {
        let now = bench.now();
        // So far back that there are more tiles than a batch has entries.
        let rows: Vec<(i64, i64)> =
            (0..rows).map(|_| (1, now - 1 - below(&mut random, 2_600 * WEEK))).collect();
        rows.chunks(6_000).for_each(|rows| bench.push(&mut random, rows, &[]));
        bench.pass(4 * WEEK);
        for most in [0, 1, 2, 3, 9, i64::MAX] {
            let store = CutOff(bench.store(), AtomicI64::new(most));
            let tiler = Tiler { store: &store, ..bench.letting(0) };
            let done = bench.let_go(&tiler, &[1]);
            cuts += usize::from(done.is_err() && most > 0);
            gone += done.unwrap_or(0);
            bench.check(&[Some(1)], 0);
            if random.chance(50) {
                let at = now - below(&mut random, 2_000 * WEEK);
                bench.push(&mut random, &[(1, at)], &[]);
            }
        }
        let left = bench.entries();
        assert!(left < 6_000, "{left} entries are left in round {round}");
    }
    assert!(cuts > 5 && gone > 1_000, "it was cut off {cuts} times after a batch, {gone} went at last");
}

/// Tiles in place of rows go when their windows have passed.
#[test]
fn tiles_in_place_of_rows_expire() {
    let mut random = Random::new(79);
    let windows = [window(Some(7_200 * SECOND), 0, false, Some(600 * SECOND))];
    let mut bench = Bench::over(&windows);
    let history = 600 * SECOND;
    let reach = Length::from_micros(7_800 * SECOND);
    let expire = |bench: &Bench| {
        let now = Timestamp(bench.now());
        let keeping = Keeping::at(now, History::Length(Length::from_micros(history)), Some(reach));
        let done = bench.table.expire(bench.store(), &Held::Windows(&bench.ladder), keeping, None).unwrap();
        assert_eq!(done.next, None);
        done.removed
    };
    let mut removed = 0;
    for round in 0..40 {
        bench.pass(500 * SECOND);
        let now = bench.now();
        let rows: Vec<(i64, i64)> = (0..200).map(|at| (at % 2, now - at * SECOND)).collect();
        bench.push(&mut random, &rows, &[]);
        // The third entity is heard of no more: of its last windows there are no rows, but tiles.
        if round < 25 {
            let rows: Vec<(i64, i64)> = (0..100).map(|at| (2, now - at * SECOND)).collect();
            bench.push(&mut random, &rows, &[]);
        }
        let late = now - below(&mut random, 7_000 * SECOND);
        bench.push(&mut random, &[(0, late)], &[]);
        bench.let_go(&bench.letting(history), &[0, 1, 2]).unwrap();
        removed += expire(&bench);
        for back in [0, history] {
            bench.check(&[Some(0), Some(1), Some(2)], back);
        }
    }
    // Tiles of ten minutes, of both entities, and the rows of the last.
    let left = bench.entries();
    assert!((30..1_500).contains(&left), "{left} entries are left of {}", bench.rows.len());
    assert!(removed > 20, "{removed}");
    bench.pass(20_000 * SECOND);
    assert!(expire(&bench) > 0);
    assert_eq!(bench.entries(), 0);
}
