//! What windows over slots come to is what their rows come to, folded afresh.

use arrow::array::{Array, ArrayRef};
use arrow::compute::concat;
use asof_compute::{Changes, Outcome, Ranges, States, covering};

use super::catalogue::{Called, functions};
use super::rows::{Random, Rows, each};

/// Windows of several keys, and where each row stands.
struct Asked {
    keys: Vec<u32>,
    covered: Vec<(u32, u32)>,
    times: Vec<i64>,
    slots: usize,
    /// For each row its slot, or the answers it holds for.
    places: Vec<Place>,
}

enum Place {
    Slot(u32),
    /// A key, and which of its answers, half-open.
    Answers(usize, u32, u32),
}

impl Asked {
    /// Windows of some kind: narrow or wide, that overlap or do not, some empty.
    fn new(rows: &Rows, with_changes: bool) -> Asked {
        let mut random = Random(rows.seed);
        let mut asked =
            Asked { keys: vec![0], covered: Vec::new(), times: Vec::new(), slots: 0, places: Vec::new() };
        for _ in 0..1 + random.below(3) {
            let (base, count) = (asked.slots, random.below(9));
            let widest = random.below(12);
            let (mut from, mut until) = (base, base);
            for answer in 0..count {
                until += random.below(4);
                from = from.max(until.saturating_sub(random.below(widest + 1))).max(base).min(until);
                asked.covered.push((from as u32, until as u32));
                asked.times.push(answer as i64 * 1_000_000 - 2_000_000);
            }
            asked.slots = until + random.below(2);
            asked.keys.push(asked.covered.len() as u32);
        }
        for _ in 0..rows.len() {
            let key = random.below(asked.keys.len() - 1);
            let answers = asked.keys[key + 1] - asked.keys[key];
            asked.places.push(if with_changes && answers > 0 && random.below(3) == 0 {
                let from = random.below(answers as usize) as u32;
                Place::Answers(key, from, from + 1 + random.below((answers - from) as usize) as u32)
            } else {
                Place::Slot(random.below(asked.slots.max(1)) as u32)
            });
        }
        asked.slots = asked.slots.max(1);
        asked
    }

    /// The rows that an answer of a key is of.
    fn rows(&self, key: usize, answer: u32) -> impl Iterator<Item = usize> {
        let (from, until) = self.covered[(self.keys[key] + answer) as usize];
        self.places.iter().enumerate().filter_map(move |(row, place)| {
            let counts = match place {
                Place::Slot(slot) => (from..until).contains(slot),
                Place::Answers(of, from, until) => *of == key && (*from..*until).contains(&answer),
            };
            counts.then_some(row)
        })
    }
}

fn windows_are_their_rows(called: &Called, rows: &Rows, with_changes: bool) {
    let function = &called.function;
    let asked = Asked::new(rows, with_changes);
    let batch = function.prepare(&rows.input(called.call.argument.as_ref())).unwrap();
    let mut states = function.states(asked.slots);
    let answers = asked.covered.len();
    let invertible = function.is_invertible();
    let mut changes: States = function.states(if invertible { answers } else { answers * 2 });
    for (row, place) in asked.places.iter().enumerate() {
        let row = [row as u32];
        match place {
            Place::Slot(slot) => function.update(&mut states, &[*slot], &row, &batch),
            Place::Answers(key, from, until) => {
                let (start, end) = (asked.keys[*key], asked.keys[*key + 1]);
                if invertible {
                    function.update(&mut changes, &[start + from], &row, &batch);
                    if start + until < end {
                        function.withdraw(&mut changes, &[start + until], &row, &batch);
                    }
                } else {
                    covering(end - start, *from, *until, |node| {
                        function.update(&mut changes, &[start * 2 + node], &row, &batch);
                    });
                }
            }
        }
    }
    let ranges = Ranges { keys: &asked.keys, covered: &asked.covered, times: &asked.times };
    let told = match (with_changes, invertible) {
        (false, _) => Changes::None,
        (true, true) => Changes::Steps(&changes),
        (true, false) => Changes::Tree(&changes),
    };
    let found = function.answer(&states, &ranges, told);
    let mut values: Vec<ArrayRef> = Vec::new();
    let mut outcomes: Vec<Outcome> = Vec::new();
    for key in 0..asked.keys.len() - 1 {
        for answer in 0..asked.keys[key + 1] - asked.keys[key] {
            let mut afresh = function.states(1);
            for row in asked.rows(key, answer) {
                function.update(&mut afresh, &[0], &[row as u32], &batch);
            }
            let at = asked.times[(asked.keys[key] + answer) as usize];
            let finished = function.finish(&afresh, &[0], &[at]);
            values.push(finished.values);
            outcomes.extend(finished.outcomes);
        }
    }
    let told = || format!("{} over {:?}", called.name(), asked.covered);
    assert_eq!(found.outcomes, outcomes, "{}", told());
    assert!(!found.is_too_large);
    if !values.is_empty() {
        let values: Vec<&dyn Array> = values.iter().map(AsRef::as_ref).collect();
        assert_eq!(&found.values, &concat(&values).unwrap(), "{}", told());
    }
}

#[test]
fn every_window_comes_to_what_its_rows_do() {
    let functions = functions();
    each(16, 0..40, |rows| {
        for called in &functions {
            windows_are_their_rows(called, rows, false);
            windows_are_their_rows(called, rows, true);
        }
    });
}
