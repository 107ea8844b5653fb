//! Worlds of many rows of few keys over minutes, whose windows are covered by tiles: made when views are brought up and
//! while rows come, changed by rows that come late, in place of rows that are gone, and of no use as of a time before what
//! they know.

use asof_compute::{Ladder, StoredWindows};
use asof_online::live::Writing;
use asof_online::views::{Holds, LiveGeneration, Remembered, Tiled, Tiler};

use super::bounded::let_go;
use super::*;

/// Rows of a world.
const ROWS: usize = 300;
/// Microseconds of history, where not all is kept.
const SHORT: i64 = 3_000_000;

/// What tiles came to.
#[derive(Debug, Default)]
struct Sums {
    made: usize,
    /// Rows that came after the tile that they are in.
    late: usize,
    /// Rows that tiles are in place of.
    gone: usize,
    /// Entries that count at no time that is answered.
    expired: usize,
    /// Times that what tiles come to was taken from memory, what stands beside rows, and rows.
    taken: [usize; 3],
    /// Answers as of a time before some row that tiles hold was known.
    before: usize,
    within: usize,
}

/// Of each view over windows its generation, and how its rows are stored.
fn of_windows(coming: &Coming) -> Vec<(Arc<LiveGeneration>, StoredWindows)> {
    let catalog = coming.node.registry.catalog();
    let views = catalog.views().filter(|view| view.definition.is_window());
    let found = views.map(|view| {
        let generation = coming.node.views.live(&view.address, &view.id).unwrap();
        let Holds::Windows { arguments } = &generation.record.holds else { panic!("no windows") };
        let features = view.features.iter().map(|typed| (&typed.feature, &typed.data_type));
        let stored = StoredWindows::new(features, arguments).unwrap();
        (generation, stored)
    });
    found.collect()
}

/// Makes the tiles that are worth it, as a node does beside, once and to its end.
fn tile(coming: &Coming, sums: &mut Sums) {
    let live = &coming.node.views;
    let store = live.store().as_ref();
    for (generation, stored) in of_windows(coming) {
        let (table, id) = (&generation.table, generation.record.id);
        let ladder = Ladder::of(stored.plan().windows());
        let now = store.read().unwrap().answer_time();
        // Where a version may end any row yet, all stay.
        let rows_go = coming.history != History::All && !coming.world.ids;
        let horizon = rows_go.then_some(Timestamp(now.0 - SHORT));
        let tiler = Tiler { store, table, stored: &stored, ladder: &ladder, horizon };
        let mut entities = Vec::new();
        let each = &mut |entity: &[u8]| {
            entities.push(entity.to_vec());
            Ok(true)
        };
        table.entities(store.read().unwrap().as_ref(), None, each).unwrap();
        entities.retain(|entity| tiler.is_worth(entity).unwrap());
        let until = ladder.start(0, now);
        let mark = &mut |until, words: &[asof_online::views::TiledKeys], writing: &mut Writing| {
            live.mark(&generation, until, words, writing)
        };
        tiler.advance(until, &entities, mark).unwrap();
        let mut add = |done: Tiled| {
            sums.made += done.tiles;
            sums.late += done.late;
            sums.gone += done.gone;
            done.done
        };
        for entity in &entities {
            while !add(tiler.entity(entity).unwrap()) {}
        }
        let mark_kept = &mut |until, writing: &mut Writing| live.mark_kept(id, until, writing);
        if tiler.keep(mark_kept).unwrap().is_some() {
            for entity in &entities {
                while !add(tiler.let_go(entity).unwrap()) {}
            }
        }
    }
}

/// How many of these spine rows are asked of keys that a tile holds a row of which is not known then.
fn ask_before(coming: &Coming, spine: &SpineRow, until: i64) -> usize {
    let known_later = |view: &WindowView| {
        let asked = view.view.asked(spine);
        let of_it = coming.given.iter().map(|at| &coming.world.rows[*at]);
        of_it
            .filter(|row| row.key(&view.view) == asked)
            .any(|row| row.e < until.min(spine.t) && row.v > spine.t)
    };
    coming.world.window_views.iter().filter(|view| known_later(view)).count()
}

fn run(seeds: Range<u64>, bounded: bool) -> Sums {
    let mut sums = Sums::default();
    for seed in seeds {
        let mut random = Random::new(97_000_000 + seed);
        // What a node does beside moves the times of pushed rows, which loaded ones bring.
        let kind =
            if bounded { Kind::Pushed } else { *random.pick(&[Kind::Pushed, Kind::Pushed, Kind::Mixed]) };
        // Only rows that no version ends go for tiles.
        let shape = Shape { kind, ids: random.chance(if bounded { 30 } else { 60 }), windows: true };
        let history = if bounded { History::Length(Length::from_micros(SHORT)) } else { History::All };
        let world = World::dense(&mut random, ROWS, shape);
        let late = random.chance(40);
        let mut coming = Coming::new(seed, world, (kind, history), false);
        if !late {
            coming.node.materialize();
        }
        // What a node does beside takes times too, so that rows come a little later, as after a restart.
        let mut ran = Ran { restarts: 1, ..Ran::default() };
        let steps = coming.world.steps.clone();
        let mut tiled = i64::MIN;
        for (number, step) in steps.iter().enumerate() {
            // Between loaded rows it matters when a retry comes, to the microsecond; the world knows longer steps.
            if kind == Kind::Mixed && matches!(step, Step::Retry(_)) {
                continue;
            }
            coming.step(number, step, &mut ran);
            let part = (number + 1) % (steps.len() / 6) == 0;
            if part && (number > steps.len() / 3 || !late) {
                if late && tiled == i64::MIN || random.chance(15) {
                    coming.bring_up(number > steps.len() / 3 && random.chance(50), &mut ran);
                }
                tile(&coming, &mut sums);
                sums.expired += if bounded { let_go(&coming.node) } else { 0 };
                tiled = coming.node.now();
            }
            // With tiles as they were made, and with rows that came after them.
            if tiled == i64::MIN || !part && !random.chance(4) {
                continue;
            }
            let spine: Vec<(usize, &SpineRow)> = spine_of(&coming.world).collect();
            let some: Vec<(usize, &SpineRow)> = (0..6).map(|_| *random.pick(&spine)).collect();
            sums.within += coming.ask(&some, None);
            let now = coming.node.views.store().read().unwrap().answer_time().0;
            let oldest = if bounded { now - SHORT } else { i64::MIN };
            for (case, row) in some {
                // As of then, or of a moment ago.
                let t = match row.t {
                    t if (oldest..=now).contains(&t) => t,
                    _ => now - random.between(0, SHORT.min(now.saturating_sub(oldest))),
                };
                let row = SpineRow { t, ..row.clone() };
                // The third takes what is remembered.
                for _ in 0..3 {
                    sums.within += coming.ask(&[(case, &row)], Some(t));
                }
                sums.before += ask_before(&coming, &row, tiled);
            }
        }
        if !bounded {
            sums.within += coming.ask_as_of();
        }
        for (generation, _) in of_windows(&coming) {
            let Remembered { states, rows, sums: tiles, .. } = generation.table.remembered();
            for (taken, more) in sums.taken.iter_mut().zip([tiles, states, rows]) {
                *taken += more;
            }
        }
    }
    println!("{sums:?}");
    sums
}

#[test]
fn tiles_answer_as_the_oracle_says() {
    let sums = run(0..10, false);
    assert!(sums.made > 50 && sums.late > 20 && sums.taken.iter().all(|taken| *taken > 100), "{sums:?}");
    assert!(sums.before > 100 && sums.within > 5_000 && sums.gone == 0, "{sums:?}");
}

#[test]
fn tiles_in_place_of_rows_answer_as_the_oracle_says() {
    let sums = run(100..110, true);
    assert!(sums.made > 100 && sums.late > 20 && sums.gone > 20 && sums.expired > 100, "{sums:?}");
    assert!(sums.before > 20 && sums.within > 3_000, "{sums:?}");
}
