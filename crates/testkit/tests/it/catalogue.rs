//! The aggregates of the catalogue and those of the oracle come to the same: folded in any order and grouping.

use std::collections::BTreeSet;
use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, Float64Array, Int64Array, StringArray};
use arrow::datatypes::{Float64Type, Int64Type};
use asof_compute::{CATALOGUE, Input, Outcome, Position, RowDigest, RowOrder};
use asof_model::{Question, Timestamp};
use asof_testkit::oracle::{self, Answer, WindowStatus};
use asof_testkit::{Aggregate, Argument, Float, Kind, Random, Row, Shape, Value, World, called};

fn input(of: &Aggregate, rows: &[&Row]) -> Input {
    let rows = || rows.iter();
    let values = of.argument.map(|argument| -> ArrayRef {
        match argument {
            Argument::X => Arc::new(rows().map(|row| row.x).collect::<Float64Array>()),
            Argument::N => Arc::new(rows().map(|row| row.n).collect::<Int64Array>()),
            Argument::State => Arc::new(rows().map(|row| row.state).collect::<StringArray>()),
        }
    });
    let order = |row: &&Row| {
        let by: ArrayRef = Arc::new(Int64Array::from(vec![row.o]));
        RowOrder {
            event_time: Timestamp(row.e),
            visible_at: Timestamp(row.v),
            order_by: asof_compute::order_key(&by, 0).unwrap(),
            position: row.s.map_or(Position::NONE, Position),
            op: Default::default(),
            digest: RowDigest(row.digest),
        }
    };
    Input { values, event_times: rows().map(|row| row.e).collect(), orders: rows().map(order).collect() }
}

/// The value of an array's row.
fn value(array: &ArrayRef, row: usize) -> Value {
    if array.is_null(row) {
        return Value::Null;
    }
    if let Some(ints) = array.as_primitive_opt::<Int64Type>() {
        return Value::Int(ints.value(row));
    }
    if let Some(floats) = array.as_primitive_opt::<Float64Type>() {
        let float = Float::new(floats.value(row));
        assert_eq!(float.get().to_bits(), floats.value(row).to_bits(), "in the one form that answers have");
        return Value::Float(float);
    }
    if let Some(texts) = array.as_string_opt::<i32>() {
        return Value::Text(texts.value(row).to_owned());
    }
    let items = array.as_list::<i32>().value(row);
    let all = 0..items.len();
    match items.as_struct_opt() {
        None => Value::List(all.map(|item| value(&items, item)).collect()),
        Some(pairs) => {
            let counts = pairs.column(1).as_primitive::<Int64Type>();
            Value::Counts(all.map(|item| (value(pairs.column(0), item), counts.value(item))).collect())
        }
    }
}

/// What the catalogue comes to over some rows at `t`, in two groups, of which one comes as bytes.
fn folded(of: &Aggregate, rows: &[&Row], t: i64, random: &mut Random) -> Answer {
    let function = called(of).unwrap().1;
    let mut rows = rows.to_vec();
    random.shuffle(&mut rows);
    let batch = function.prepare(&input(of, &rows)).unwrap();
    let mut states = function.states(2);
    let slots: Vec<u32> = rows.iter().map(|_| random.between(0, 1) as u32).collect();
    let numbers: Vec<u32> = (0..rows.len() as u32).collect();
    function.update(&mut states, &slots, &numbers, &batch);
    let mut other = Vec::new();
    function.encode(&states, 1, &mut other);
    function.merge_encoded(&mut states, 0, &other).unwrap();
    let finished = function.finish(&states, &[0], &[t]);
    let found = value(&finished.values, 0);
    let (status, value) = match (finished.outcomes[0], &of.default) {
        (Outcome::Nothing, Some(default)) => (WindowStatus::Present, default.clone()),
        (Outcome::Nothing, None) => (WindowStatus::Null, found),
        (Outcome::Overflow, _) => (WindowStatus::Overflow, found),
        (Outcome::Present, _) => (WindowStatus::Present, found),
    };
    Answer { status, value }
}

#[test]
fn the_catalogue_agrees() {
    let mut compared = 0;
    let mut members = BTreeSet::new();
    for seed in 0..400 {
        let mut random = Random::new(5_000_000 + seed);
        let shape = Shape { kind: Kind::Mixed, ids: false, windows: true };
        let world = World::shaped(&mut random, 10, shape);
        for (rows, spine) in &world.cases {
            let rows = &world.rows[rows.clone()];
            for (asked, view) in world.spine[spine.clone()]
                .iter()
                .flat_map(|asked| world.window_views.iter().map(move |view| (asked, view)))
            {
                let key = view.view.asked(asked);
                if key.iter().any(Option::is_none) {
                    continue;
                }
                let counting = oracle::counting(rows, &view.view, &key, asked.t, Question::Event);
                let answers = oracle::windows(rows, view, &key, asked.t, Question::Event);
                for ((aggregate, window), answer) in view.features().zip(answers) {
                    let (lower, upper) = oracle::edges(window, asked.t);
                    let within = |row: &&Row| lower.is_none_or(|lower| lower <= row.e) && row.e < upper;
                    let rows: Vec<&Row> = counting.iter().copied().filter(within).collect();
                    let rows: Vec<&Row> = rows.into_iter().filter(|row| aggregate.passes(row)).collect();
                    let found = folded(aggregate, &rows, asked.t, &mut random);
                    assert_eq!(found, answer, "seed {seed}: {aggregate} of {rows:#?}");
                    if !rows.is_empty() {
                        compared += 1;
                        let call = aggregate.to_string();
                        members.extend(call.split('(').next().map(str::to_owned));
                    }
                }
            }
        }
    }
    // A member that the oracle does not know is right by nobody's word but its own.
    let catalogue = CATALOGUE.iter().map(|member| member.name().to_owned());
    assert_eq!(members, catalogue.collect::<BTreeSet<_>>());
    assert!(compared > 20_000, "{compared} answers of some rows");
}
