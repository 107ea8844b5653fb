//! The bytes of states (`docs/formats/state.md`): what a version made must load for ever. `tests/compat/state-1.txt`
//! has a function and its state of the same few rows in hexadecimal a line, and of many rows where it is no exact one.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::PathBuf;

use asof_compute::{Op, Position, RowDigest, RowOrder};
use asof_model::Timestamp;

use super::catalogue::{Called, every_type};
use super::laws::{encoded, finished, fold};
use super::rows::Rows;

fn rows(count: usize) -> Rows {
    let times: Vec<i64> = (0..count as i64).map(|row| row * 3_600_000_000 - 7_200_000_000).collect();
    let order = |time: &i64| RowOrder {
        event_time: Timestamp(*time),
        visible_at: Timestamp(time + 1),
        order_by: Box::new([1, 7]),
        position: Position(time / 1_000_000),
        op: Op::Value,
        digest: RowDigest([3; 16]),
    };
    Rows {
        picks: (0..count).map(|row| (row != 4).then_some(row * 7)).collect(),
        orders: times.iter().map(order).collect(),
        times,
        cancel: false,
        seed: 0,
    }
}

/// The name of each state and its bytes.
fn states() -> Vec<(String, Called, Rows, Vec<u8>)> {
    let mut all = Vec::new();
    for called in every_type() {
        let counts: &[usize] = if called.member.documentation().error.is_some() { &[6, 300] } else { &[6] };
        for count in counts {
            let rows = rows(*count);
            let states = fold(&called.function, &rows.input(called.call.argument.as_ref()), 0..rows.len());
            let bytes = encoded(&called.function, &states);
            let name = format!("{} of {count}", called.name());
            all.push((name, called.again(), rows, bytes));
        }
    }
    all
}

fn path() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/compat/state-1.txt")
}

fn hexadecimal(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |mut text, byte| {
        write!(text, "{byte:02x}").unwrap();
        text
    })
}

#[test]
fn states_of_version_1_load() {
    let text = std::fs::read_to_string(path()).unwrap_or_default();
    let stored: BTreeMap<&str, &str> = text.lines().filter_map(|line| line.rsplit_once(' ')).collect();
    let states = states();
    for (name, called, rows, bytes) in &states {
        let hex = stored.get(name.as_str()).unwrap_or_else(|| {
            panic!(
                "{name} is not in tests/compat/state-1.txt: cargo nextest run -p asof-compute --run-ignored only -E 'test(append_new_states)'"
            )
        });
        assert_eq!(hexadecimal(bytes), *hex, "{name} has other bytes than it had");
        let mut read = called.function.states(1);
        called.function.merge_encoded(&mut read, 0, bytes).unwrap();
        let input = rows.input(called.call.argument.as_ref());
        let fresh = fold(&called.function, &input, 0..rows.len());
        assert_eq!(finished(&called.function, &read), finished(&called.function, &fresh), "{name}");
    }
    let gone = stored.keys().find(|name| !states.iter().any(|(known, ..)| known == *name));
    assert!(gone.is_none(), "{gone:?} cannot be read any more");
}

#[test]
#[ignore = "appends to tests/compat/state-1.txt what new aggregates store"]
fn append_new_states() {
    let mut text = std::fs::read_to_string(path()).unwrap_or_default();
    for (name, _, _, bytes) in states() {
        if !text.lines().any(|line| line.rsplit_once(' ').is_some_and(|(known, _)| known == name)) {
            writeln!(text, "{name} {}", hexadecimal(&bytes)).unwrap();
        }
    }
    std::fs::write(path(), text).unwrap();
}
