//! What holds for the state of every aggregate.

use std::cell::RefCell;
use std::collections::BTreeSet;

use arrow::array::{Array, ArrayRef, AsArray};
use arrow::compute::cast;
use arrow::datatypes::{DataType as ArrowType, Float64Type};
use asof_compute::{Finished, Function, Input, Outcome, States, arrow_type};

use super::catalogue::{Called, functions};
use super::rows::{Random, Rows, each};

/// When states are finished.
const AT: i64 = 253_402_300_800_000_000;

/// A state of some of the rows.
pub(super) fn fold(function: &Function, input: &Input, rows: impl IntoIterator<Item = usize>) -> States {
    let mut states = function.states(1);
    let rows: Vec<u32> = rows.into_iter().map(|row| row as u32).collect();
    function.update(&mut states, &vec![0; rows.len()], &rows, &function.prepare(input).unwrap());
    states
}

pub(super) fn encoded(function: &Function, states: &States) -> Vec<u8> {
    let mut bytes = Vec::new();
    function.encode(states, 0, &mut bytes);
    bytes
}

/// Its value to the bit, and what it is.
pub(super) fn finished(function: &Function, states: &States) -> (ArrayRef, Outcome) {
    let Finished { values, outcomes, is_too_large } = function.finish(states, &[0], &[AT]);
    assert_eq!(values.data_type(), &arrow_type(&function.data_type()));
    assert_eq!((values.len(), outcomes.len(), is_too_large), (1, 1, false));
    (values, outcomes[0])
}

/// Fails where two states are not one.
fn same(called: &Called, one: &States, other: &States, rows: &Rows, law: &str) {
    let function = &called.function;
    let told = || format!("{law}: {} of\n{}", called.name(), rows.shown(called.call.argument.as_ref()));
    assert_eq!(encoded(function, one), encoded(function, other), "{}", told());
    let (one, other) = (finished(function, one), finished(function, other));
    assert_eq!(one, other, "{}", told());
    assert_eq!(one.0.to_data(), other.0.to_data(), "{}", told());
}

/// The state of all rows by another way: in another order, in several batches of another layout, each row in some of
/// several slots, merged in some order, as states or as their bytes.
fn otherwise(called: &Called, rows: &Rows, random: &mut Random) -> States {
    let function = &called.function;
    let slots = 1 + random.below(6);
    let mut order: Vec<usize> = (0..rows.len()).collect();
    random.shuffle(&mut order);
    let mut states = function.states(slots);
    for part in order.chunks(1 + random.below(rows.len().max(1))) {
        let mut input = rows.only(part).input(called.call.argument.as_ref());
        if random.below(3) == 0
            && let Some(values) = &input.values
        {
            let dictionary =
                ArrowType::Dictionary(Box::new(ArrowType::Int32), Box::new(values.data_type().clone()));
            input.values = Some(cast(values, &dictionary).unwrap_or_else(|_| values.clone()));
        }
        let batch = function.prepare(&input).unwrap();
        let into: Vec<u32> = part.iter().map(|_| random.below(slots) as u32).collect();
        let rows: Vec<u32> = (0..part.len() as u32).collect();
        function.update(&mut states, &into, &rows, &batch);
    }
    // The first takes in the others, through one between or not.
    let mut left: Vec<u32> = (1..slots as u32).collect();
    random.shuffle(&mut left);
    for slot in left {
        let mut between = function.states(1);
        match random.below(3) {
            0 => function.merge(&mut between, 0, &states, slot),
            1 => {
                let mut bytes = Vec::new();
                function.encode(&states, slot, &mut bytes);
                function.merge_encoded(&mut between, 0, &bytes).unwrap();
            }
            _ => {
                // The other way round.
                function.merge(&mut between, 0, &states, slot);
                function.merge(&mut between, 0, &states, 0);
                function.clear(&mut states, 0);
            }
        }
        function.merge(&mut states, 0, &between, 0);
    }
    let mut whole = function.states(1);
    function.merge(&mut whole, 0, &states, 0);
    whole
}

fn order_and_grouping(called: &Called, rows: &Rows) {
    let random = &mut Random(rows.seed);
    let input = rows.input(called.call.argument.as_ref());
    let ahead = fold(&called.function, &input, 0..rows.len());
    for _ in 0..3 {
        same(called, &ahead, &otherwise(called, rows, random), rows, "order and grouping");
    }
    let mut read = called.function.states(1);
    called.function.merge_encoded(&mut read, 0, &encoded(&called.function, &ahead)).unwrap();
    same(called, &ahead, &read, rows, "encoded and decoded");
}

/// Whatever is done to the bytes, reading them is an error or a state.
fn damage(called: &Called, rows: &Rows) {
    let random = &mut Random(rows.seed);
    let function = &called.function;
    let input = rows.input(called.call.argument.as_ref());
    let bytes = encoded(function, &fold(function, &input, 0..rows.len()));
    let read = |bytes: &[u8]| {
        let mut states = function.states(1);
        function.merge_encoded(&mut states, 0, bytes).map(|()| states)
    };
    let longer = [bytes.as_slice(), &[0]].concat();
    assert!(read(&longer).is_err(), "{}: bytes are left", called.name());
    let shorter = random.below(bytes.len());
    assert!(read(&[]).is_err() && read(&bytes[..shorter]).is_err(), "{}: bytes are missing", called.name());
    let mut other = bytes.clone();
    other[0] ^= 0x55;
    assert!(read(&other).is_err(), "{}: another version", called.name());
    for _ in 0..12 {
        let mut damaged = bytes.clone();
        match random.below(2) {
            0 => damaged[random.below(bytes.len())] ^= 1 << random.below(8),
            _ => damaged[random.below(bytes.len())] = random.next() as u8,
        }
        if let Ok(states) = read(&damaged) {
            // It is a state: it finishes, and is encoded as one.
            finished(function, &states);
            let bytes = encoded(function, &states);
            assert_eq!(encoded(function, &read(&bytes).unwrap()), bytes, "{}", called.name());
        }
    }
}

/// Rows and states taken out leave what the others come to; told to the caller: whether it was over and came back.
fn taken_out(called: &Called, rows: &Rows) -> bool {
    let random = &mut Random(rows.seed);
    let function = &called.function;
    let input = rows.input(called.call.argument.as_ref());
    let batch = function.prepare(&input).unwrap();
    let (gone, left): (Vec<usize>, Vec<usize>) = (0..rows.len()).partition(|_| random.below(3) > 0);
    let whole = fold(function, &input, 0..rows.len());
    let rest = fold(function, &input, left.iter().copied());
    let part = fold(function, &input, gone.iter().copied());
    let numbers: Vec<u32> = gone.iter().map(|row| *row as u32).collect();
    let mut withdrawn = fold(function, &input, 0..rows.len());
    function.withdraw(&mut withdrawn, &vec![0; gone.len()], &numbers, &batch);
    let mut subtracted = fold(function, &input, 0..rows.len());
    function.subtract(&mut subtracted, 0, &part, 0);
    if !function.is_invertible() {
        same(called, &whole, &withdrawn, rows, "what cannot be taken out stays");
        same(called, &whole, &subtracted, rows, "what cannot be taken out stays");
        return false;
    }
    same(called, &rest, &withdrawn, rows, "withdrawn");
    same(called, &rest, &subtracted, rows, "subtracted");
    // Out before in: what a window takes out late may be told early.
    let mut before = function.states(1);
    function.withdraw(&mut before, &vec![0; gone.len()], &numbers, &batch);
    function.merge(&mut before, 0, &whole, 0);
    same(called, &rest, &before, rows, "withdrawn before it came");
    function.subtract(&mut before, 0, &rest, 0);
    assert!(function.is_empty(&before, 0), "{}: something is left of nothing", called.name());
    same(called, &function.states(1), &before, rows, "all taken out");
    finished(function, &whole).1 == Outcome::Overflow && finished(function, &rest).1 != Outcome::Overflow
}

/// No row, rows without a value and a cleared slot are the same, and come to what is written.
fn nothing(called: &Called, rows: &Rows) {
    let function = &called.function;
    let empty = function.states(1);
    assert!(function.is_empty(&empty, 0));
    let (value, outcome) = finished(function, &empty);
    if called.says("0 where there are none") {
        let number = cast(&value, &ArrowType::Float64).unwrap();
        assert!(outcome == Outcome::Present && value.is_valid(0), "{}", called.name());
        assert_eq!(number.as_primitive::<Float64Type>().value(0), 0.0, "{}", called.name());
    } else {
        assert!(outcome == Outcome::Nothing && value.is_null(0), "{}", called.name());
    }
    let input = rows.input(called.call.argument.as_ref());
    if called.call.argument.is_some() {
        let nulls = (0..rows.len()).filter(|row| rows.picks[*row].is_none());
        same(called, &empty, &fold(function, &input, nulls), rows, "nulls are nothing");
    }
    let mut cleared = fold(function, &input, 0..rows.len());
    function.clear(&mut cleared, 0);
    same(called, &empty, &cleared, rows, "cleared");
}

/// Functions that say they keep the same states do.
fn shared(called: &Called, others: &[Called], rows: &Rows) {
    let input = rows.input(called.call.argument.as_ref());
    let states = fold(&called.function, &input, 0..rows.len());
    for other in others.iter().filter(|other| other.call.argument == called.call.argument) {
        if called.function.shares_states_with(&other.function) {
            assert!(other.function.shares_states_with(&called.function));
            same(other, &states, &fold(&other.function, &input, 0..rows.len()), rows, "shared");
        }
    }
}

#[test]
fn every_function_keeps_the_laws() {
    let functions = functions();
    let came_back = RefCell::new(BTreeSet::new());
    each(24, 0..24, |rows| {
        for called in &functions {
            order_and_grouping(called, rows);
            damage(called, rows);
            nothing(called, rows);
            if taken_out(called, rows) {
                came_back.borrow_mut().insert(called.member.name());
            }
        }
    });
    // What can be over was, and came back: it is judged as it is finished, and by nothing else.
    for called in functions.iter().filter(|called| called.says("overflow") && called.function.is_invertible())
    {
        assert!(came_back.borrow().contains(called.member.name()), "{} was never over", called.member.name());
    }
}

#[test]
fn states_are_shared_as_told() {
    let functions = functions();
    each(2, 0..12, |rows| functions.iter().for_each(|called| shared(called, &functions, rows)));
    let shares = |one: &str, other: &str| {
        let find = |name: &str| functions.iter().find(|called| called.member.name() == name).unwrap();
        find(one).function.shares_states_with(&find(other).function)
    };
    assert!(shares("histogram", "count_distinct") && shares("collect_list", "approx_top_k"));
    assert!(!shares("min", "max") && !shares("first", "last"));
}

/// Many rows, so that states take the forms they have then.
#[test]
fn many_rows_keep_the_laws() {
    let functions = functions();
    each(2, 700..701, |rows| {
        for called in &functions {
            order_and_grouping(called, rows);
            damage(called, rows);
            taken_out(called, rows);
        }
    });
}
