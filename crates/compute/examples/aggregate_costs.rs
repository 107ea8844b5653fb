//! What aggregates of numbers cost: nanoseconds an update, a merge and an answer, for values of several kinds.
//!
//!     cargo run --release -p asof-compute --example aggregate_costs [PART OF A NAME]
#![expect(clippy::print_stdout, reason = "it shows figures")]

use std::error::Error;
use std::sync::Arc;
use std::time::Instant;

use arrow::array::{ArrayRef, Decimal128Array, Float64Array, Int64Array};
use asof_compute::{CATALOGUE, Constant, FunctionCall, Input};
use asof_model::DataType;

const ROWS: usize = 1_000_000;
const BATCH: usize = 8_192;

fn main() -> Result<(), Box<dyn Error>> {
    let wanted = std::env::args().nth(1).unwrap_or_default();
    let mut seed = 1_u64;
    let mut random = move || {
        seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        seed >> 11
    };
    let mut floats = |value: &mut dyn FnMut(u64) -> f64| -> ArrayRef {
        Arc::new((0..ROWS).map(|_| value(random())).collect::<Float64Array>())
    };
    let prices = floats(&mut |r| (r % 1_000_000) as f64 / 100.0);
    let wide = floats(&mut |r| f64::from_bits(r << 11 & !(1 << 62)));
    let shares = floats(&mut |r| (-((r % 70_000) as f64) / 1_000.0).exp2() * 0.7);
    let ints: ArrayRef = Arc::new((0..ROWS as i64).map(|i| i * 7_919 % 1_000_003).collect::<Int64Array>());
    let cents = (0..ROWS as i128).map(|i| Some(i * 7_919 % 1_000_003)).collect::<Decimal128Array>();
    let cents: ArrayRef = Arc::new(cents.with_precision_and_scale(12, 2)?);
    let money = DataType::Decimal { precision: 12, scale: 2 };
    let columns = [
        ("prices", DataType::Float64, prices),
        ("floats of 2^-70 to 1", DataType::Float64, shares),
        ("floats of all sizes", DataType::Float64, wide),
        ("ints", DataType::Int64, ints),
        ("decimals", money, cents),
    ];
    println!(
        "{:14} {:22} {:>9} {:>9} {:>9} {:>9} {:>9}",
        "", "ns", "one slot", "4 a slot", "merge", "answer", "bytes"
    );
    for member in CATALOGUE.iter().filter(|member| member.name().contains(&wanted)) {
        for (name, of, values) in &columns {
            let constants = if member.name().starts_with("decayed") {
                vec![Constant::Text("6h".to_owned())]
            } else {
                Vec::new()
            };
            let Ok(function) = member.function(&FunctionCall { argument: Some(of.clone()), constants })
            else {
                continue;
            };
            if function.needs_order() {
                continue;
            }
            let times: Vec<i64> = (0..ROWS as i64).map(|i| i * 2_592_000).collect();
            let slots: Vec<u32> =
                (0..ROWS as u32).map(|row| row.wrapping_mul(2_654_435_761) % (ROWS as u32 / 4)).collect();
            let fold = |slots: &[u32], states: &mut _| -> Result<f64, Box<dyn Error>> {
                let mut spent = 0.0;
                for from in (0..ROWS).step_by(BATCH) {
                    let count = BATCH.min(ROWS - from);
                    let event_times = times[from..from + count].to_vec().into();
                    let input =
                        Input { values: Some(values.slice(from, count)), event_times, orders: Arc::new([]) };
                    let batch = function.prepare(&input)?;
                    let rows: Vec<u32> = (0..count as u32).collect();
                    let start = Instant::now();
                    function.update(states, &slots[from..from + count], &rows, &batch);
                    spent += start.elapsed().as_nanos() as f64;
                }
                Ok(spent / ROWS as f64)
            };
            let one = fold(&vec![0; ROWS], &mut function.states(1))?;
            let mut states = function.states(ROWS / 4);
            let scattered = fold(&slots, &mut states)?;
            let mut whole = function.states(1);
            let start = Instant::now();
            for from in 0..ROWS as u32 / 4 {
                function.merge(&mut whole, 0, &states, from);
            }
            let merge = start.elapsed().as_nanos() as f64 / (ROWS / 4) as f64;
            let answers: Vec<u32> = (0..ROWS as u32 / 4).collect();
            let at = vec![ROWS as i64 * 2_592_000; answers.len()];
            let start = Instant::now();
            let finished = function.finish(&states, &answers, &at);
            let answer = start.elapsed().as_nanos() as f64 / finished.outcomes.len() as f64;
            let bytes = function.bytes(&states) / (ROWS / 4);
            println!(
                "{:14} {name:22} {one:9.1} {scattered:9.1} {merge:9.1} {answer:9.1} {bytes:9}",
                member.name()
            );
        }
    }
    Ok(())
}
