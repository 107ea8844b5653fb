//! Windows through the operator, beside views of latest values over the same source, against the oracle.

use std::collections::BTreeSet;
use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, RecordBatch};
use arrow::datatypes::{Float64Type, Int64Type};
use asof_engine::point_in_time::{FeatureSpec, ReadingCounts, ReadingSpec, Spec};
use asof_model::{Aggregate, DataType, Double, Length, Literal, NamedWindow, Question, Window};
use asof_testkit::oracle::{counting, edges, windows};
use asof_testkit::{Edges, Kind, Random, Shape, Value, WindowView, World, called};

use super::run::{Way, answered, filter, spine};
use crate::project::{Folder, expression, said};

/// Cases of a world: one run of the operator answers all of them.
const CASES: usize = 20;

fn literal(value: &Value) -> Literal {
    match value {
        Value::Int(value) => Literal::Int(*value),
        Value::Float(value) => Literal::Float(Double::new(value.get()).unwrap()),
        Value::Text(value) => Literal::Text(value.clone()),
        other => panic!("{other:?} is no default"),
    }
}

pub(super) fn reading(view: &WindowView, number: usize) -> ReadingSpec {
    let columns = World::columns();
    let column = |name: &str| columns.iter().find(|it| it.name == name).unwrap().clone();
    let features = view.features().enumerate().map(|(at, (asked, window))| {
        let (call, function) = called(asked).unwrap();
        let window = Window {
            length: window.length.map(Length::from_micros),
            offset: Length::from_micros(window.offset),
            include_now: window.include_now,
            resolution: window.resolution.map(Length::from_micros),
        };
        FeatureSpec {
            name: format!("f{at}"),
            expression: expression(&asked.to_string()),
            aggregate: Some(Aggregate { call, windows: vec![NamedWindow { window, alias: None }] }),
            default: asked.default.as_ref().map(literal),
            data_type: function.data_type(),
        }
    });
    ReadingSpec {
        view: format!("windows_{number}"),
        spine_keys: world_view(view).1,
        keys: view.view.keys.iter().map(|key| column(key)).collect(),
        filter: filter(&view.view),
        ttl: None,
        features: features.collect(),
    }
}

/// The keys that a view of windows has are those of a view of latest values, by which spine keys are numbered.
fn world_view(view: &WindowView) -> (&[&'static str], usize) {
    let number = match (view.view.keys.as_slice(), view.view.spine_keys.as_slice()) {
        (["shop"], ["shop"]) => 0,
        (["shop"], _) => 1,
        (["shop", "user"], _) => 2,
        _ => 3,
    };
    (&view.view.keys, number)
}

fn spec(world: &World, question: Question, way: Way) -> Spec {
    let column = |name: &&str| World::columns().into_iter().find(|it| it.name == **name).unwrap();
    let latest = world.views.iter().enumerate().map(|(number, view)| ReadingSpec {
        view: format!("view_{number}"),
        spine_keys: number,
        keys: view.keys.iter().map(column).collect(),
        filter: filter(view),
        ttl: view.ttl.map(Length::from_micros),
        features: vec![FeatureSpec {
            name: "n".to_owned(),
            expression: expression("n"),
            aggregate: None,
            default: view.default.map(Literal::Int),
            data_type: DataType::Int64,
        }],
    });
    let windows = world.window_views.iter().enumerate().map(|(number, view)| reading(view, number));
    Spec {
        source: "shop.events".to_owned(),
        question,
        compare: !world.assumed,
        clockless: false,
        assumed: world.assumed,
        valid_until: true,
        ids: false,
        then_by: (way.numbers && world.assumed).then(|| "rank".to_owned()),
        columns: World::columns(),
        readings: latest.chain(windows).collect(),
        overflow_is_null: true,
        outcomes: false,
        memory: if way.portions { 300 * world.spine.len().max(1) as u64 } else { 1 << 30 },
    }
}

fn value(array: &ArrayRef, row: usize) -> Value {
    use arrow::datatypes::DataType as Arrow;
    if array.is_null(row) {
        return Value::Null;
    }
    match array.data_type() {
        Arrow::Int64 => Value::Int(array.as_primitive::<Int64Type>().value(row)),
        Arrow::Float64 => {
            let found = array.as_primitive::<Float64Type>().value(row);
            // Answers have floats in their one form: the comparison is to the bit.
            assert_eq!(found.to_bits(), (if found.is_nan() { f64::NAN } else { found + 0.0 }).to_bits());
            Value::float(found)
        }
        Arrow::Utf8 => Value::Text(array.as_string::<i32>().value(row).to_owned()),
        Arrow::List(_) => {
            let items = array.as_list::<i32>().value(row);
            let Some(pairs) = items.as_struct_opt() else {
                return Value::List((0..items.len()).map(|at| value(&items, at)).collect());
            };
            let count = pairs.column(1).as_primitive::<Int64Type>();
            let pair = |at: usize| (value(pairs.column(0), at), count.value(at));
            Value::Counts((0..items.len()).map(pair).collect())
        }
        other => panic!("no value of the oracle is {other}"),
    }
}

/// Holds the counts of what the other question would answer otherwise against the oracle's rows.
pub(super) fn compare_counts(world: &World, question: Question, counts: &[ReadingCounts], about: &str) {
    let other = if question == Question::Known { Question::Event } else { Question::Known };
    for (number, view) in world.window_views.iter().enumerate() {
        let (mut differ, mut present, mut otherwise, mut no_key) = (0, 0, 0, 0);
        for (rows, spine) in &world.cases {
            let rows = &world.rows[rows.clone()];
            for asked in &world.spine[spine.clone()] {
                let key = view.view.asked(asked);
                if key.iter().any(Option::is_none) {
                    no_key += 1;
                    continue;
                }
                let held = |window: &asof_testkit::Window, question| -> BTreeSet<usize> {
                    let (lower, upper) = edges(window, asked.t);
                    let counting = counting(rows, &view.view, &key, asked.t, question).into_iter();
                    let held = counting.filter(|row| lower.is_none_or(|it| it <= row.e) && row.e < upper);
                    held.map(|held| rows.iter().position(|row| std::ptr::eq(row, held)).unwrap()).collect()
                };
                let windows = || view.windows.iter();
                differ += u64::from(windows().any(|it| held(it, question) != held(it, other)));
                present += u64::from(windows().any(|it| !held(it, question).is_empty()));
                otherwise += u64::from(windows().any(|it| !held(it, other).is_empty()));
            }
        }
        let found = &counts[world.views.len() + number];
        assert_eq!(
            (found.differ, found.present, found.present_otherwise, found.no_key),
            (differ, present, otherwise, no_key),
            "{about}: counts of window view {number}"
        );
    }
}

pub(super) fn compare(world: &World, question: Question, answers: &RecordBatch, about: &str) -> usize {
    let mut compared = 0;
    for (number, view) in world.window_views.iter().enumerate() {
        let number = world.views.len() + number;
        for (rows, spine) in &world.cases {
            let rows = &world.rows[rows.clone()];
            for at in spine.clone() {
                let asked = &world.spine[at];
                let wanted = windows(rows, view, &view.view.asked(asked), asked.t, question);
                for (feature, (wanted, (aggregate, window))) in wanted.iter().zip(view.features()).enumerate()
                {
                    let found = answers.column_by_name(&format!("{number}.f{feature}")).unwrap();
                    let found = value(found, at);
                    assert_eq!(
                        found, wanted.value,
                        "{about}: {aggregate} over {window:?} of {asked:?}, {:?}, of {rows:#?}",
                        wanted.status
                    );
                    compared += 1;
                }
            }
        }
    }
    compared
}

/// What only versions hit: rows here have no ids, and the worlds of `versions_oracle` do.
const OF_VERSIONS: [&str; 3] = [
    "version moves e over window edge",
    "superseded version within a window",
    "withdrawn row within a window",
];

/// 2,500 cases under both questions, each in a random way.
fn cases(part: u64) {
    let folder = Folder::new();
    let mut hit = Edges::default();
    let mut compared = 0;
    for number in 0..2_500 / CASES as u64 {
        let seed = 40_000_000 + part * 1_000_000 + number;
        let mut random = Random::new(seed);
        let kind = *random.pick(&[Kind::InPlace, Kind::Stored, Kind::Pushed, Kind::Mixed]);
        let world = World::shaped(&mut random, CASES, Shape { kind, ids: false, windows: true });
        hit.look(&world);
        for question in [Question::Known, Question::Event] {
            let way = Way::random(&mut random);
            let about = format!("seed {seed}, {question:?}, {way:?}");
            let spec = Arc::new(spec(&world, question, way));
            match answered(&folder, &world, spec, &Arc::new(spine(&world)), way) {
                Ok((answers, counts)) => {
                    compared += compare(&world, question, &answers, &about);
                    compare_counts(&world, question, &counts, &about);
                }
                Err(error) => panic!("{about}: {}", said(&error)),
            }
        }
    }
    assert!(compared > 50_000, "{compared}");
    let reachable = Edges::WINDOWS.iter().copied().filter(|edge| !OF_VERSIONS.contains(edge));
    assert_eq!(hit.missed_of(&reachable.collect::<Vec<_>>(), 5), Vec::<&str>::new(), "in part {part}");
}

#[test]
fn the_oracle_of_windows_agrees_first_part() {
    cases(1);
}

#[test]
fn the_oracle_of_windows_agrees_second_part() {
    cases(2);
}

#[test]
fn the_oracle_of_windows_agrees_third_part() {
    cases(3);
}

#[test]
fn the_oracle_of_windows_agrees_fourth_part() {
    cases(4);
}
