//! The oracle against the second evaluation on 20,000 cases that hit every edge.

use asof_model::Question;
use asof_testkit::oracle::{self, Answer, WindowStatus, order};
use asof_testkit::{Edges, Random, Row, Shape, Value, World};

use crate::intervals::{self, Found};

/// Cases of a world.
const CASES: usize = 20;
/// Every how many worlds one is of rows without ids and windows, as [`World::random`] makes them.
const PLAIN: u64 = 5;

/// Compares all answers of a world; how many.
fn compare(world: &World, about: &str) -> u64 {
    let mut compared = 0;
    for (rows, spine) in &world.cases {
        let (rows, spine) = (&world.rows[rows.clone()], &world.spine[spine.clone()]);
        for question in [Question::Known, Question::Event] {
            for view in &world.views {
                let found = intervals::latest(rows, spine, view, question);
                for (asked, found) in spine.iter().zip(found) {
                    let answer = oracle::latest(rows, view, &view.asked(asked), asked.t, question);
                    let answer = (answer.0.name(), answer.1.map(order));
                    let found = (found.0, found.1.map(order));
                    assert_eq!(answer, found, "{about} {question:?} {view:?} {asked:?}\n{}", shown(rows));
                    compared += 1;
                }
            }
            for view in &world.window_views {
                let found = intervals::windows(rows, spine, view, question);
                for (asked, found) in spine.iter().zip(found) {
                    let answers = oracle::windows(rows, view, &view.view.asked(asked), asked.t, question);
                    assert_eq!(answers.len(), found.len());
                    for (((aggregate, window), answer), found) in view.features().zip(answers).zip(found) {
                        assert!(
                            equal(&answer, &found, aggregate.default.as_ref()),
                            "{about} {question:?} {aggregate} {window:?} {:?} {asked:?}\n{}{answer:?}\n{found:?}",
                            view.view,
                            shown(rows)
                        );
                        compared += 1;
                    }
                }
            }
        }
    }
    compared
}

fn equal(answer: &Answer, found: &Found, default: Option<&Value>) -> bool {
    let expected = |status, value: &Value| answer.status == status && answer.value == *value;
    match (found, default) {
        (Found::Value(value), _) => expected(WindowStatus::Present, value),
        (Found::Real(real), _) => {
            answer.status == WindowStatus::Present
                && matches!(answer.value, Value::Float(float) if real.rounds_to(float.get()))
        }
        (Found::Nothing, Some(default)) => expected(WindowStatus::Present, default),
        (Found::Nothing, None) => expected(WindowStatus::Null, &Value::Null),
        (Found::NoKey, _) => expected(WindowStatus::NoKey, &Value::Null),
        (Found::Overflow, _) => expected(WindowStatus::Overflow, &Value::Null),
    }
}

fn shown(rows: &[Row]) -> String {
    rows.iter().map(|row| format!("  {row:?}\n")).collect()
}

/// 5,000 cases; four of these are 20,000.
fn five_thousand(quarter: u64) {
    let mut edges = Edges::default();
    let mut compared = 0;
    for number in 0..5_000 / CASES as u64 {
        let seed = quarter * 1_000_000 + number;
        let mut random = Random::new(seed);
        let shape = Shape::random(&mut random);
        let world = match number % PLAIN {
            0 => World::random(&mut random, CASES),
            _ => World::shaped(&mut random, CASES, shape),
        };
        let about = format!("seed {seed}");
        edges.look(&world);
        compared += compare(&world, &about);
        if let Some(last) = world.older_cut(&mut random) {
            let cut = world.cut(last);
            edges.look_at_cut(&world, &cut);
            compared += compare(&cut, &format!("{about}, cut at {last}"));
        }
    }
    assert!(compared > 200_000, "{compared} answers");
    assert_eq!(edges.missed(10), Vec::<&str>::new(), "edges of rows in quarter {quarter}");
    assert_eq!(edges.missed_of(&Edges::VERSIONS, 10), Vec::<&str>::new(), "edges of versions in {quarter}");
    assert_eq!(edges.missed_of(&Edges::WINDOWS, 10), Vec::<&str>::new(), "edges of windows in {quarter}");
    assert_eq!(edges.unlisted(), Vec::<&str>::new(), "edges that no list names");
}

#[test]
fn first_quarter() {
    five_thousand(1);
}

#[test]
fn second_quarter() {
    five_thousand(2);
}

#[test]
fn third_quarter() {
    five_thousand(3);
}

#[test]
fn fourth_quarter() {
    five_thousand(4);
}
