//! Small random worlds: a source's rows, views over it, a spine that asks at every edge.
//!
//! A world holds many cases that share nothing but the views: each case has keys and ids of its own, so one
//! run of a path under test answers all of them.

mod given;
mod row;
mod table;

use std::ops::Range;

use asof_model::Timestamp;

use crate::window::{Aggregate, Function, Window, WindowView};
use crate::{Random, Service};
use given::Sequencer;
pub use row::{BEFORE_ALL, KeyValue, NEVER, Row, SpineRow, View};

/// How the rows of a source come to it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Read where they are; no row has a position.
    InPlace,
    /// Loaded, with positions in row order.
    Stored,
    /// Pushed one by one: v ascends, and no two are equal.
    Pushed,
    /// Pushed, with loads in between.
    Mixed,
}

/// What a world holds beside plain rows and latest views.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Shape {
    /// How its rows come.
    pub kind: Kind,
    /// Rows have ids, so there are versions and withdrawals.
    pub ids: bool,
    /// There are window views; then no delete lacks an id.
    pub windows: bool,
}

impl Shape {
    /// Any.
    pub fn random(random: &mut Random) -> Shape {
        let kinds = [Kind::InPlace, Kind::InPlace, Kind::Stored, Kind::Pushed, Kind::Mixed, Kind::Mixed];
        Shape { kind: *random.pick(&kinds), ids: random.chance(70), windows: random.chance(65) }
    }
}

/// What a stored source was given, by places in [`World::rows`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Step {
    /// A file of these rows was loaded.
    Load(Range<usize>),
    /// This row was pushed and stored.
    Push(usize),
    /// This row was pushed again while it was the standing version of its event: acknowledged, not stored.
    Retry(usize),
}

/// Rows, views and a spine, in cases.
#[derive(Debug, Clone)]
pub struct World {
    /// The rows of all cases. Those with positions are in the order of these.
    pub rows: Vec<Row>,
    /// The latest views asked, all over the one source.
    pub views: Vec<View>,
    /// The window views asked, over the same source.
    pub window_views: Vec<WindowView>,
    /// The spine rows of all cases.
    pub spine: Vec<SpineRow>,
    /// Per case, its rows and its spine rows.
    pub cases: Vec<(Range<usize>, Range<usize>)>,
    /// The source has no event time.
    pub clockless: bool,
    /// The v of every row is its e.
    pub assumed: bool,
    /// The source names an `available_at`.
    pub available_at: bool,
    /// Rows are read in place: none has a position.
    pub in_place: bool,
    /// The source names an `id`.
    pub ids: bool,
    /// How the rows came, of a world made by [`World::shaped`] that is not read in place.
    pub steps: Vec<Step>,
    /// A case goes on as long as it has rows, and its events are many: [`World::dense`].
    pub dense: bool,
    /// What is asked beside features, of a world of a shape.
    pub service: Service,
}

impl World {
    /// A world of so many cases, some of them with rows that were accepted and have positions.
    pub fn random(random: &mut Random, cases: usize) -> World {
        World::made(random, cases, false)
    }

    /// A world of so many cases whose rows are read in place.
    pub fn random_in_place(random: &mut Random, cases: usize) -> World {
        World::made(random, cases, true)
    }

    fn made(random: &mut Random, cases: usize, in_place: bool) -> World {
        let clockless = random.chance(6);
        let assumed = random.chance(20);
        let ttl = |random: &mut Random| (!random.chance(40)).then(|| random.between(0, 10));
        let by_shop = View {
            keys: vec!["shop"],
            spine_keys: vec!["shop"],
            filter: random.chance(40),
            ttl: ttl(random),
            default: None,
        };
        let in_role = View { spine_keys: vec!["other_shop"], ..by_shop.clone() };
        let by_both = View {
            keys: vec!["shop", "user"],
            spine_keys: vec!["shop", "user"],
            filter: random.chance(40),
            ttl: ttl(random),
            default: None,
        };
        let by_user = View {
            keys: vec!["user"],
            spine_keys: vec!["user"],
            filter: random.chance(40),
            ttl: ttl(random),
            default: None,
        };
        let mut world = World {
            rows: Vec::new(),
            views: vec![by_shop, in_role, by_both, by_user],
            window_views: Vec::new(),
            spine: Vec::new(),
            cases: Vec::new(),
            clockless,
            assumed,
            available_at: !assumed,
            in_place,
            ids: false,
            steps: Vec::new(),
            dense: false,
            service: Service::default(),
        };
        for case in 0..cases {
            let rows = world.random_rows(random, case as i64);
            world.add_case(random, case as i64, rows);
        }
        world.take_digests();
        world
    }

    /// A world of so many cases, of a shape, with an event time.
    pub fn shaped(random: &mut Random, cases: usize, shape: Shape) -> World {
        let mut world = World::shape(random, shape);
        let mut sequencer = Sequencer::new(random);
        for case in 0..cases {
            let rows = world.given_rows(random, case as i64, (shape.kind, None), &mut sequencer);
            world.add_case(random, case as i64, rows);
        }
        world.take_digests();
        world.service = Service::random(&mut random.beside(), &world, 1);
        world
    }

    /// A world of one case of so many rows of few keys, over minutes: such as many of lie in one tile.
    pub fn dense(random: &mut Random, rows: usize, shape: Shape) -> World {
        let mut world = World::shape(random, shape);
        world.dense = true;
        world.views.truncate(1);
        for aggregate in world.window_views.iter_mut().flat_map(|view| &mut view.aggregates) {
            // The oracle has the power of a decay as a root of its half-life's length.
            while matches!(aggregate.function, Function::DecayedSum(_) | Function::DecayedCount(_)) {
                *aggregate = Aggregate::random(random);
            }
        }
        let longer = *random.pick(&[20, 100, 400]);
        world.window_views.iter_mut().for_each(|view| view.stretch(longer));
        let mut sequencer = Sequencer::beginning(*random.pick(&[0, -20, -600, 20_000_000]));
        let rows = world.given_rows(random, 0, (shape.kind, Some(rows)), &mut sequencer);
        world.add_case(random, 0, rows);
        for _ in 0..30 {
            let more = world.random_spine(random, 0, &world.rows);
            world.spine.extend(more);
        }
        world.cases[0].1.end = world.spine.len();
        world.stretch(random, 50_000);
        world.take_digests();
        world.service = Service::random(&mut random.beside(), &world, 50_000 * longer);
        world
    }

    /// Makes all times so many times as long; spine rows stay within a microsecond of them.
    fn stretch(&mut self, random: &mut Random, by: i64) {
        let longer = |time: &mut i64| {
            if ![BEFORE_ALL, NEVER].contains(time) {
                *time *= by;
            }
        };
        for row in &mut self.rows {
            [&mut row.e, &mut row.v].into_iter().chain(&mut row.told).chain(&mut row.until).for_each(longer);
        }
        self.views.iter_mut().filter_map(|view| view.ttl.as_mut()).for_each(longer);
        self.window_views.iter_mut().for_each(|view| view.stretch(by));
        for row in &mut self.spine {
            row.t = row.t * by + random.pick(&[0, 0, 1, -1]);
        }
    }

    /// A world without rows.
    fn shape(random: &mut Random, shape: Shape) -> World {
        let mut world = World::made(random, 0, shape.kind == Kind::InPlace);
        let available_at = shape.kind != Kind::Pushed && !random.chance(20);
        world.clockless = false;
        world.available_at = available_at;
        world.assumed = !available_at && matches!(shape.kind, Kind::InPlace | Kind::Stored);
        world.ids = shape.ids;
        for view in &mut world.views {
            view.default = random.chance(20).then_some(7);
        }
        if shape.windows {
            for _ in 0..random.between(1, 2) {
                let view = random.pick(&world.views).clone();
                let view = View { filter: random.chance(40), ttl: None, default: None, ..view };
                let windows = (0..random.between(1, 3)).map(|_| Window::random(random)).collect();
                let aggregates = (0..random.between(2, 5)).map(|_| Aggregate::random(random)).collect();
                world.window_views.push(WindowView { view, windows, aggregates });
            }
        }
        world
    }

    fn add_case(&mut self, random: &mut Random, case: i64, rows: Vec<Row>) {
        let spine = self.random_spine(random, case, &rows);
        let (first_row, first_spine) = (self.rows.len(), self.spine.len());
        self.rows.extend(rows);
        self.spine.extend(spine);
        self.cases.push((first_row..self.rows.len(), first_spine..self.spine.len()));
    }

    /// The world as it stood when `last` was the last position: what a rebuild at that cut sees.
    pub fn cut(&self, last: i64) -> World {
        let mut cut = World { rows: Vec::new(), cases: Vec::new(), steps: Vec::new(), ..self.clone() };
        for (rows, spine) in &self.cases {
            let first = cut.rows.len();
            let kept = self.rows[rows.clone()].iter().filter(|row| row.s.is_none_or(|s| s <= last));
            cut.rows.extend(kept.cloned());
            cut.cases.push((first..cut.rows.len(), spine.clone()));
        }
        cut
    }

    /// A position before the last: somewhere within the rows of a case.
    pub fn older_cut(&self, random: &mut Random) -> Option<i64> {
        let positions: Vec<i64> = self.rows.iter().filter_map(|row| row.s).collect();
        let last = positions.iter().max()?;
        let older: Vec<i64> = positions.iter().copied().filter(|s| s < last).collect();
        (!older.is_empty()).then(|| *random.pick(&older))
    }

    fn random_rows(&self, random: &mut Random, case: i64) -> Vec<Row> {
        let bases = [0, 0, 0, 0, -20, -200_000, Timestamp::FIRST.0, Timestamp::LAST.0 - 24];
        let base = *random.pick(&bases);
        let stored = random.chance(30) && !self.in_place;
        let ordered = random.chance(40);
        let count = *random.pick(&[0, 1, 2, 3, 4, 5, 6, 8, 10, 14]);
        let mut rows: Vec<Row> = Vec::new();
        for number in 0..count {
            if !rows.is_empty() && !stored && random.chance(10) {
                // Equal in all five.
                rows.push(random.pick(&rows).clone());
                continue;
            }
            let mut row = self.random_row(random, case, base, ordered, &rows);
            row.s = stored.then_some(case * 100 + number);
            rows.push(row);
        }
        if self.clockless {
            // One row a key of every view; their v, where it is not e, stays.
            let mut kept: Vec<Row> = Vec::new();
            for mut row in rows {
                let known = |other: &Row| other.shop == row.shop || other.user == row.user;
                if kept.iter().any(known) {
                    continue;
                }
                if self.assumed {
                    row.v = BEFORE_ALL;
                }
                row.e = BEFORE_ALL;
                kept.push(row);
            }
            rows = kept;
        }
        rows
    }

    /// A row without position and id, visible as its source says.
    fn random_row(&self, random: &mut Random, case: i64, base: i64, ordered: bool, rows: &[Row]) -> Row {
        let mut e = base + random.between(0, 24);
        if !rows.is_empty() && random.chance(35) {
            e = random.pick(rows).e;
        }
        let v = if !self.available_at {
            e
        } else if random.chance(6) {
            NEVER
        } else {
            within(e + *random.pick(&[0, 0, 0, 1, 2, 5, 12, -3]))
        };
        let delete = random.chance(18);
        Row {
            e,
            v,
            o: if ordered && !random.chance(25) { Some(*random.pick(&[0, 0, 1, 1, i64::MIN])) } else { None },
            s: None,
            id: None,
            pushed: false,
            told: None,
            delete,
            shop: random.pick(&[Some(1), Some(1), Some(1), Some(2), None]).map(|key: i64| key + case * 10),
            user: random
                .pick(&[Some("a"), Some("b"), Some("b"), Some(""), None])
                .map(|key| format!("{case}{key}")),
            x: *random.pick(&[None, Some(0.0), Some(-0.0), Some(f64::NAN), Some(1.5), Some(-2.0)]),
            n: if random.chance(20) { None } else { Some(random.between(-3, 5)) },
            state: *random.pick(&[None, Some("ok"), Some("ok"), Some("ok"), Some("spam")]),
            until: (!random.chance(60)).then(|| within(e + random.between(-2, 10))),
            digest: [0; 16],
        }
    }

    fn random_spine(&self, random: &mut Random, case: i64, rows: &[Row]) -> Vec<SpineRow> {
        // Every time at which something may change, and the instants around it.
        let mut edges = vec![0, 7, -1];
        for row in rows {
            let mut around = |time: i64| edges.extend([time - 1, time, time + 1]);
            for time in [Some(row.e), Some(row.v), row.until].into_iter().flatten() {
                if time != BEFORE_ALL && time != NEVER {
                    around(time);
                }
            }
            for ttl in self.views.iter().filter_map(|view| view.ttl).filter(|_| row.has_clock()) {
                around(row.e + ttl);
            }
            let windows = self.window_views.iter().flat_map(|view| &view.windows);
            for window in windows.filter(|_| row.has_clock()) {
                // The first t whose window has the row, and the first whose window has it no more.
                let now = i64::from(window.include_now);
                around(row.e + window.offset + 1 - now);
                if let Some(length) = window.length {
                    let floor = window.resolution.unwrap_or(1);
                    let next = (row.e.div_euclid(floor) + 1) * floor;
                    around(next + window.offset + length - now);
                }
            }
        }
        let mut spine: Vec<SpineRow> = Vec::new();
        for _ in 0..random.between(1, 8) {
            if !spine.is_empty() && random.chance(10) {
                spine.push(random.pick(&spine).clone());
                continue;
            }
            let t = (*random.pick(&edges)).clamp(Timestamp::FIRST.0, Timestamp::LAST.0);
            let mut shop =
                || random.pick(&[Some(1), Some(1), Some(2), Some(3), None]).map(|key: i64| key + case * 10);
            let (shop, other_shop) = (shop(), shop());
            let user = random.pick(&[Some("a"), Some("b"), Some("b"), Some(""), Some("z"), None]);
            spine.push(SpineRow { shop, other_shop, user: user.map(|key| format!("{case}{key}")), t });
        }
        spine
    }
}

/// The nearest instant a row may carry.
fn within(time: i64) -> i64 {
    time.clamp(Timestamp::FIRST.0, Timestamp::LAST.0)
}
