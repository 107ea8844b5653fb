//! What windows cost: 10 million rows of 100,000 keys, ten answers a key, four windows. Nothing is asserted of it.

use std::sync::Arc;

use arrow::array::{ArrayRef, Float64Array, Int64Array, StringArray};
use asof_compute::{Changes, Input, Op, Position, Ranges, RowDigest, RowOrder};
use asof_model::{DataType, Timestamp};

use super::catalogue::every_type;
use super::rows::Random;

const KEYS: usize = 100_000;
const ROWS: usize = 10_000_000;
const BATCH: usize = 8_192;
const ANSWERS: usize = 10;
/// How many slots before an answer each window covers, of the five between two answers.
const WINDOWS: [usize; 4] = [2, 6, 18, 40];
const SLOTS: usize = ANSWERS * 5;

/// Processor seconds so far, since others share the processor; 0 where the system does not tell.
fn processor() -> f64 {
    let stat = std::fs::read_to_string("/proc/self/stat").unwrap_or_default();
    stat.split_whitespace().nth(13).and_then(|ticks| ticks.parse::<f64>().ok()).unwrap_or(0.0) / 100.0
}

fn order(time: usize) -> RowOrder {
    RowOrder {
        event_time: Timestamp(time as i64),
        visible_at: Timestamp(time as i64),
        order_by: Box::default(),
        position: Position::NONE,
        op: Op::Value,
        digest: RowDigest::default(),
    }
}

#[test]
#[ignore = "measures"]
fn what_windows_cost() {
    let random = &mut Random(7);
    let keys: Vec<u32> = (0..=KEYS).map(|key| (key * ANSWERS) as u32).collect();
    let times = vec![0; KEYS * ANSWERS];
    let asked = |of: &DataType| matches!(of, DataType::Int64 | DataType::Float64 | DataType::String);
    for called in every_type().iter().filter(|called| called.call.argument.as_ref().is_none_or(asked)) {
        let function = &called.function;
        let mut states = function.states(KEYS * SLOTS);
        let mut update = 0.0;
        for _ in 0..ROWS / BATCH {
            let values: Vec<usize> = (0..BATCH).map(|_| random.below(1000)).collect();
            let numbers = values.iter();
            let values = called.call.argument.as_ref().map(|of| -> ArrayRef {
                match of {
                    DataType::String => {
                        Arc::new(StringArray::from_iter_values(numbers.map(|value| format!("C{value}"))))
                    }
                    DataType::Float64 => {
                        Arc::new(Float64Array::from_iter_values(numbers.map(|value| *value as f64 / 100.0)))
                    }
                    _ => Arc::new(Int64Array::from_iter_values(numbers.map(|value| *value as i64))),
                }
            });
            let slots: Vec<u32> = (0..BATCH).map(|_| random.below(KEYS * SLOTS) as u32).collect();
            let rows: Vec<u32> = (0..BATCH as u32).collect();
            let orders =
                (0..BATCH).filter(|_| function.needs_order()).map(|_| order(random.below(1_000_000)));
            let input = Input { values, event_times: vec![0; BATCH].into(), orders: orders.collect() };
            let from = processor();
            function.update(&mut states, &slots, &rows, &function.prepare(&input).unwrap());
            update += processor() - from;
        }
        let bytes = function.bytes(&states);
        let from = processor();
        for window in WINDOWS {
            let covered: Vec<(u32, u32)> = (0..KEYS * ANSWERS)
                .map(|answer| {
                    let (base, until) = (answer / ANSWERS * SLOTS, answer % ANSWERS * 5 + 5);
                    ((base + until.saturating_sub(window)) as u32, (base + until) as u32)
                })
                .collect();
            let ranges = Ranges { keys: &keys, covered: &covered, times: &times };
            assert_eq!(function.answer(&states, &ranges, Changes::None).outcomes.len(), times.len());
        }
        eprintln!(
            "{}: rows {update:.2} s, answers {:.2} s, {} MB",
            called.name(),
            processor() - from,
            bytes / 1_000_000
        );
    }
}
