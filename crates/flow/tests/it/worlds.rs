//! Random worlds, materialised step by step and read back: status, values and event time as the oracle
//! of the test kit says, now and as of any instant of the history.

use std::collections::BTreeMap;
use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, Int64Array, StringArray};
use arrow::datatypes::{Float64Type, Int64Type};
use asof_compute::Keeping;
use asof_engine::delta::{LoadFile, OnBadRow};
use asof_engine::no_progress;
use asof_model::{
    About, DataType, Entity, EntityVersion, Feature, Features, Format, History, Key, Length, Origin,
    OutputColumn, Place, Principal, Question, Reading, Selection, Source, SourceVersion, Timestamp,
    TypedFeature, Version, VersionId, View, ViewKey, ViewVersion,
};
use asof_serve::{EntityColumns, PreparedSelection};
use asof_testkit::oracle::latest;
use asof_testkit::{Edges, Random, SpineRow, View as TestView, World};

use crate::fixture::{Node, address, expression, name, source, view};

/// What a test makes of a world.
struct Shape {
    stored: bool,
    history: History,
    /// Of each view.
    retention: Vec<Option<i64>>,
}

impl Shape {
    fn random(random: &mut Random, world: &World, stored: bool) -> Shape {
        let history = match random.between(0, 3) {
            0 => History::None,
            1 => History::Length(Length::from_micros(random.between(1, 30))),
            _ => History::All,
        };
        let mut retention = |view: &TestView| {
            let kept = view.ttl.map(|ttl| ttl + random.between(0, 4));
            kept.filter(|_| random.chance(50))
        };
        Shape { stored, history, retention: world.views.iter().map(&mut retention).collect() }
    }
}

fn source_of(world: &World, shape: &Shape) -> SourceVersion {
    use asof_model::TimeRule;
    let at = |column: &str| Some(TimeRule::Column { name: column.to_owned(), unit: None, zone: None });
    let made = source(true);
    SourceVersion {
        definition: Source {
            place: Place::Files {
                path: "data/*.parquet".to_owned(),
                format: Format::Parquet,
                options: BTreeMap::new(),
            },
            store: shape.stored,
            event_time: if world.clockless { None } else { at("at") },
            available_at: if world.assumed { None } else { at("seen") },
            valid_until: at("ends"),
            id: None,
            order_by: Some(expression("rank")),
            delete_when: Some(expression("gone")),
            ..made.definition
        },
        columns: World::columns(),
        ..made
    }
}

fn features() -> Vec<TypedFeature> {
    let typed = |(called, text, data_type): (&str, &str, DataType)| TypedFeature {
        feature: Feature {
            name: name(called),
            expression: expression(text),
            aggregate: None,
            default: None,
            sensitivity: None,
            about: About::default(),
        },
        data_type,
    };
    [
        ("x", "x", DataType::Float64),
        ("n", "n", DataType::Int64),
        ("state", "state", DataType::String),
        ("next", "n + 1", DataType::Int64),
    ]
    .into_iter()
    .map(typed)
    .collect()
}

fn key(column: &str) -> Key {
    let data_type = if column == "user" { DataType::String } else { DataType::Int64 };
    Key { name: name(column), data_type }
}

fn view_of(test: &TestView, number: usize, shape: &Shape) -> ViewVersion {
    let made = view(&format!("view_{number}"), &crate::fixture::Shape::default());
    let key = |column: &&str| ViewKey { key: key(column), column: (*column).to_owned() };
    ViewVersion {
        id: VersionId(format!("{number:032}")),
        definition: View {
            filter: test.filter.then(|| expression("state <> 'spam'")),
            ttl: test.ttl.map(Length::from_micros),
            history: shape.history,
            windows: Vec::new(),
            retention: shape.retention[number].map(Length::from_micros),
            features: Features::Star,
            ..made.definition
        },
        entity: address(&test.keys.join("_")),
        keys: test.keys.iter().map(key).collect(),
        features: features(),
        ..made
    }
}

fn entity_of(test: &TestView) -> EntityVersion {
    let called = test.keys.join("_");
    EntityVersion {
        address: address(&called),
        id: VersionId(format!("{called:0>32}")),
        definition: Entity {
            name: name(&called),
            keys: test.keys.iter().map(|column| key(column)).collect(),
            about: About::default(),
        },
    }
}

/// What a reading answers: status, event time, x's bits, n, state, next.
type Answer = (&'static str, Option<i64>, Option<u64>, Option<i64>, Option<String>, Option<i64>);

fn bits(x: f64) -> u64 {
    if x.is_nan() { f64::NAN.to_bits() } else { (x + 0.0).to_bits() }
}

struct Room {
    node: Node,
    folder: tempfile::TempDir,
    shape: Shape,
    prepared: Arc<PreparedSelection>,
}

impl Room {
    fn new(world: &World, shape: Shape, small: bool) -> Room {
        let folder = tempfile::tempdir().unwrap();
        let mut node = Node::open(folder.path());
        if small {
            node.flow = node.flow.clone().with_batch_bytes(1);
        }
        let source = Arc::new(source_of(world, &shape));
        let mut put = vec![Version::Source(Arc::clone(&source))];
        let mut readings = Vec::new();
        let mut columns = Vec::new();
        for (number, test) in world.views.iter().enumerate() {
            if !world.views[..number].iter().any(|other| other.keys == test.keys) {
                put.push(Version::Entity(Arc::new(entity_of(test))));
            }
            let view = Arc::new(view_of(test, number, &shape));
            put.push(Version::View(Arc::clone(&view)));
            columns.extend(features().into_iter().enumerate().map(|(feature, typed)| OutputColumn {
                name: format!("{number}_{}", typed.feature.name),
                from: Origin::Feature { reading: number, feature },
                data_type: typed.data_type,
            }));
            let keys = test.spine_keys.iter().map(|key| name(key)).collect();
            readings.push(Reading { view, source: Arc::clone(&source), keys });
        }
        node.put(put);
        let selection = Selection {
            project: name("shop"),
            service: None,
            columns,
            readings,
            request: Vec::new(),
            steps: Vec::new(),
            labels: Vec::new(),
        };
        let prepared = PreparedSelection::new(selection).unwrap();
        Room { node, folder, shape, prepared }
    }

    /// Gives rows to the source as a file of their own; whether they were new to it.
    fn give(&self, number: usize, rows: &[asof_testkit::Row]) -> bool {
        if rows.is_empty() {
            return false;
        }
        // Files of a load are taken in the order of their names; those read in place in any.
        let path = format!("data/{number}.parquet");
        self.node.parquet(&path, &World::table(rows));
        if !self.shape.stored {
            return true;
        }
        let file = LoadFile { path: self.folder.path().join(&path), name: path, partitions: Vec::new() };
        let (owner, shop, source) = (Principal::owner(), name("shop"), name("prices"));
        let load =
            self.node.flow.load(&owner, &shop, &source, Some(vec![file]), OnBadRow::Stop, no_progress());
        let report = self.node.runtime.block_on(load).unwrap();
        report.files_loaded == 1
    }

    fn materialize(&self) {
        let (owner, shop) = (Principal::owner(), name("shop"));
        let done = self.node.flow.materialize(&owner, &shop, None, no_progress());
        self.node.runtime.block_on(done).unwrap();
    }

    /// What every view answers for the keys of these spine rows, by view and spine row.
    fn ask(&self, spine: &[&SpineRow], as_of: Option<i64>) -> Vec<Vec<Answer>> {
        let shop: ArrayRef = Arc::new(spine.iter().map(|row| row.shop).collect::<Int64Array>());
        let other: ArrayRef = Arc::new(spine.iter().map(|row| row.other_shop).collect::<Int64Array>());
        let user: ArrayRef = Arc::new(spine.iter().map(|row| row.user.as_deref()).collect::<StringArray>());
        let keys = [("shop", shop), ("other_shop", other), ("user", user)];
        let keys = keys.map(|(called, keys)| (called.to_owned(), keys)).to_vec();
        let entities = EntityColumns::new(keys).unwrap();
        let reader = self.node.reader();
        let found = reader.read(&self.prepared, &entities, as_of.map(Timestamp)).unwrap();
        let width = features().len();
        let arrays: Vec<_> = found.columns().map(|column| column.array().unwrap()).collect();
        let answers = found.readings.iter().enumerate().map(|(number, reading)| {
            let columns = &arrays[number * width..(number + 1) * width];
            let x = columns[0].as_primitive::<Float64Type>();
            let n = columns[1].as_primitive::<Int64Type>();
            let state = columns[2].as_string::<i32>();
            let next = columns[3].as_primitive::<Int64Type>();
            let answer = |row: usize| -> Answer {
                (
                    reading.status[row].name(),
                    reading.event_time[row].map(|at| at.0),
                    x.is_valid(row).then(|| bits(x.value(row))),
                    n.is_valid(row).then(|| n.value(row)),
                    state.is_valid(row).then(|| state.value(row).to_owned()),
                    next.is_valid(row).then(|| next.value(row)),
                )
            };
            (0..spine.len()).map(answer).collect()
        });
        answers.collect()
    }
}

/// What the oracle says, but for a row past its view's retention, which does not answer online.
fn expected(
    given: &[asof_testkit::Row],
    world: &World,
    shape: &Shape,
    number: usize,
    asked: &SpineRow,
    t: i64,
    now: i64,
) -> Answer {
    let view = &world.views[number];
    let (status, row) = latest(given, view, &view.asked(asked), t, Question::Known);
    let retention = shape.retention[number].map(Length::from_micros);
    let keeping = Keeping::at(Timestamp(now), shape.history, retention);
    let nothing = |status, event_time| (status, event_time, None, None, None, None);
    match row {
        Some(row) if keeping.is_past(Timestamp(row.e)) => {
            assert_eq!(status.name(), "expired", "a retention is no shorter than the ttl");
            nothing("not_found", None)
        }
        Some(row) => {
            let event_time = row.has_clock().then_some(row.e);
            if status.name() != "present" {
                return nothing(status.name(), event_time);
            }
            let state = row.state.map(str::to_owned);
            ("present", event_time, row.x.map(bits), row.n, state, row.n.map(|n| n + 1))
        }
        None => nothing(status.name(), None),
    }
}

/// Runs worlds until so many were; the edges that the questions asked of them hit.
fn run(seeds: std::ops::Range<u64>, stored: bool) -> Edges {
    let mut edges = Edges::default();
    let (mut questions, mut past, mut steps) = (0, 0, 0);
    for seed in seeds {
        let mut random = Random::new(9_000_000 + seed);
        let mut world = World::random_in_place(&mut random, 5);
        let shape = Shape::random(&mut random, &world, stored);
        let room = Room::new(&world, shape, random.chance(25));
        let shape = &room.shape;

        // The rows come in some steps, in an order of their own; the clock goes from edge to edge.
        let count = random.between(1, 4) as usize;
        let mut clocks: Vec<i64> = (0..count).map(|_| random.pick(&world.spine).t).collect();
        clocks.sort_unstable();
        let mut order: Vec<usize> = (0..world.rows.len()).collect();
        random.shuffle(&mut order);
        let mut given: Vec<usize> = Vec::new();
        let mut position = 0;
        // What was asked in the last step, when all rows were there, with its times.
        let mut asked_last: Vec<(usize, SpineRow)> = Vec::new();
        for (step, now) in clocks.iter().enumerate() {
            let take = if step + 1 == count { order.len() } else { order.len() / (count - step) };
            let new: Vec<usize> = order.drain(..take).collect();
            let rows: Vec<_> = new.iter().map(|at| world.rows[*at].clone()).collect();
            if room.give(step, &rows) {
                for at in &new {
                    position += 1;
                    world.rows[*at].s = stored.then_some(position);
                }
                given.extend(&new);
            }
            room.node.clock.set(*now);
            room.materialize();
            steps += 1;

            let later = now.saturating_add(random.between(0, 12)).min(Timestamp::LAST.0);
            for now in [*now, later] {
                room.node.clock.set(now);
                let from = Keeping::at(Timestamp(now), shape.history, None).horizon;
                // Every instant that the spine asks for and the history answers, and the present.
                let mut times: Vec<i64> =
                    world.spine.iter().map(|row| row.t).filter(|t| from.0 <= *t && *t < now).collect();
                times.sort_unstable();
                times.dedup();
                asked_last.clear();
                for t in times.iter().copied().chain([now]) {
                    // At the present all keys are asked, at another instant those that the spine asks then.
                    let asked: Vec<(usize, &SpineRow)> = world
                        .cases
                        .iter()
                        .enumerate()
                        .flat_map(|(case, (_, spine))| {
                            world.spine[spine.clone()].iter().map(move |row| (case, row))
                        })
                        .filter(|(_, row)| t == now || row.t == t)
                        .collect();
                    let spine: Vec<&SpineRow> = asked.iter().map(|(_, row)| *row).collect();
                    let found = room.ask(&spine, (t != now).then_some(t));
                    for (at, (case, row)) in asked.iter().enumerate() {
                        let own = world.cases[*case].0.clone();
                        let rows: Vec<_> = given
                            .iter()
                            .filter(|given| own.contains(given))
                            .map(|given| world.rows[*given].clone())
                            .collect();
                        for (number, found) in found.iter().enumerate() {
                            let expected = expected(&rows, &world, shape, number, row, t, now);
                            let rule = latest(
                                &rows,
                                &world.views[number],
                                &world.views[number].asked(row),
                                t,
                                Question::Known,
                            );
                            past += u64::from(rule.0.name() == "expired" && expected.0 == "not_found");
                            assert_eq!(
                                found[at], expected,
                                "seed {seed}, step {step}, view {number}, {row:?} at {t} of {now}"
                            );
                            questions += 1;
                        }
                        asked_last.push((*case, SpineRow { t, ..(*row).clone() }));
                    }
                }
            }
        }
        // The world as it was asked in the end.
        let mut asked = World { spine: Vec::new(), cases: Vec::new(), rows: Vec::new(), ..world.clone() };
        for (case, (rows, _)) in world.cases.iter().enumerate() {
            let (row, first) = (asked.rows.len(), asked.spine.len());
            let there = rows.clone().filter(|at| given.contains(at)).map(|at| world.rows[at].clone());
            asked.rows.extend(there);
            asked.spine.extend(asked_last.iter().filter(|(of, _)| *of == case).map(|(_, row)| row.clone()));
            asked.cases.push((row..asked.rows.len(), first..asked.spine.len()));
        }
        edges.look(&asked);
    }
    assert!(questions > 20_000, "{questions} questions");
    assert!(past > 20, "{past} answers past a retention");
    assert!(steps > 200, "{steps} steps");
    edges
}

#[test]
fn worlds_read_in_place_are_answered_as_the_oracle_says() {
    let edges = run(0..120, false);
    // The two that only rows with positions can hit.
    assert_eq!(edges.missed(1), ["tie on e, v, o", "stored rows"]);
}

#[test]
fn worlds_that_were_loaded_are_answered_as_the_oracle_says() {
    let edges = run(1_000..1_100, true);
    // No two rows that were loaded have the same position.
    let unique = ["tie on e, v, o, s, told apart by content", "equal rows", "a value ties with a delete"];
    assert_eq!(edges.missed(1), unique);
}
