//! How long windows take; nothing is asserted of it.
use std::sync::Arc;
use std::time::Instant;

use arrow::array::{ArrayRef, Int64Array, StringArray};
use asof_compute::{Changes, FunctionCall, Input, Ranges, aggregate};
use asof_model::DataType;

/// Processor seconds so far, since others may share the processor.
fn processor() -> f64 {
    let stat = std::fs::read_to_string("/proc/self/stat").unwrap_or_default();
    stat.split_whitespace().nth(13).and_then(|ticks| ticks.parse::<f64>().ok()).unwrap_or(0.0) / 100.0
}

#[test]
#[ignore = "measures"]
fn windows() {
    const KEYS: usize = 100_000;
    const EVENTS: usize = 10_000_000;
    const ANSWERS: usize = 10;
    const WINDOWS: usize = 4;
    const SLOTS: usize = ANSWERS * (WINDOWS + 1) + 1;
    let mut seed = 7_u64;
    let mut random = move || {
        seed ^= seed << 13;
        seed ^= seed >> 7;
        seed ^= seed << 17;
        seed.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 20
    };
    let times = vec![0; KEYS * ANSWERS];
    let keys: Vec<u32> = (0..=KEYS).map(|key| (key * ANSWERS) as u32).collect();
    let covered: Vec<Vec<(u32, u32)>> = (0..WINDOWS)
        .map(|window| {
            let mut all = Vec::new();
            for key in 0..KEYS {
                let base = key * SLOTS;
                for answer in 0..ANSWERS {
                    let until = 5 * answer + 5;
                    let from = until.saturating_sub([2, 6, 18, 40][window]);
                    all.push(((base + from) as u32, (base + until) as u32));
                }
            }
            all
        })
        .collect();
    for (name, of) in [
        ("count", DataType::Int64),
        ("sum", DataType::Int64),
        ("max", DataType::Int64),
        ("max", DataType::String),
        ("count_distinct", DataType::Int64),
        ("count_distinct", DataType::String),
    ] {
        let call = FunctionCall { argument: Some(of.clone()), constants: vec![] };
        let function = aggregate(name).unwrap().function(&call).unwrap();
        let begin = Instant::now();
        let mut states = function.states(KEYS * SLOTS);
        let mut update = std::time::Duration::ZERO;
        for _ in 0..EVENTS / 8192 {
            let values: Vec<i64> = (0..8192).map(|_| (random() % 1000) as i64).collect();
            let values: ArrayRef = match of {
                DataType::String => {
                    Arc::new(StringArray::from_iter_values(values.iter().map(|v| format!("C{v}"))))
                }
                _ => Arc::new(Int64Array::from(values)),
            };
            let slots: Vec<u32> = (0..8192).map(|_| (random() as usize % (KEYS * SLOTS)) as u32).collect();
            let rows: Vec<u32> = (0..8192).collect();
            let input = Input { values: Some(values), event_times: vec![0; 8192].into(), orders: [].into() };
            let from = Instant::now();
            let batch = function.prepare(&input).unwrap();
            function.update(&mut states, &slots, &rows, &batch);
            update += from.elapsed();
        }
        let _ = begin;
        let bytes = function.bytes(&states);
        let from = processor();
        let mut some = 0;
        for covered in &covered {
            let ranges = Ranges { keys: &keys, covered, times: &times };
            some += function.answer(&states, &ranges, Changes::None).values.len();
        }
        eprintln!(
            "{name}({of}): update {:.2} s, 4 answers {:.2} s, {} MB, {some}",
            update.as_secs_f64(),
            processor() - from,
            bytes / 1_000_000
        );
    }
}
