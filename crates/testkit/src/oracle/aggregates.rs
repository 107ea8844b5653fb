//! What the rows of a window come to, for every aggregate.

use std::collections::BTreeMap;

use super::exact::Multiples;
use crate::world::Row;
use crate::{Aggregate, Function, Value};

/// What an aggregate comes to.
pub(super) enum Outcome {
    /// A value, which is null for a sample of one.
    Value(Value),
    /// Nothing counted.
    Nothing,
    /// Out of range, or over the cap.
    Overflow,
}

/// What an aggregate makes of the rows of a window asked at `t`, which stand in their order.
pub(super) fn finish(aggregate: &Aggregate, rows: &[&Row], t: i64) -> Outcome {
    let rows: Vec<&Row> = rows.iter().copied().filter(|row| aggregate.passes(row)).collect();
    // Nulls are skipped; of `*` there are none.
    let of = |row: &&Row| aggregate.argument.map_or(Some(Value::Int(1)), |argument| argument.of(row));
    let rows: Vec<&Row> = rows.into_iter().filter(|row| of(row).is_some()).collect();
    let values: Vec<Value> = rows.iter().filter_map(of).collect();
    let times: Vec<i64> = rows.iter().map(|row| row.e).collect();
    let mut counts: BTreeMap<&Value, i64> = BTreeMap::new();
    for value in &values {
        *counts.entry(value).or_default() += 1;
    }
    // Nothing left: null, but `count` and `count_distinct` 0.
    if values.is_empty() && !aggregate.function.counts_to_zero() {
        return Outcome::Nothing;
    }
    let numbers = Numbers::of(&values);
    let found = match aggregate.function {
        Function::Count => Value::Int(values.len() as i64),
        Function::Sum => match numbers {
            Numbers::Ints(ints) => {
                let sum: i128 = ints.iter().copied().map(i128::from).sum();
                match i64::try_from(sum) {
                    Ok(sum) => Value::Int(sum),
                    Err(_) => return Outcome::Overflow,
                }
            }
            Numbers::Floats(floats) => match special_sum(&floats) {
                Some(special) => Value::float(special),
                None => Value::float(Multiples::of_floats(&floats).sum()),
            },
        },
        Function::Mean => match numbers {
            Numbers::Ints(ints) => Value::float(Multiples::of_ints(&ints).mean()),
            Numbers::Floats(floats) => match special_sum(&floats) {
                Some(special) => Value::float(special),
                None => Value::float(Multiples::of_floats(&floats).mean()),
            },
        },
        Function::Variance | Function::Stddev if values.len() == 1 => Value::Null,
        Function::Variance => numbers.spread(|numbers| numbers.variance(1)),
        Function::VariancePop => numbers.spread(|numbers| numbers.variance(0)),
        Function::Stddev => numbers.spread(|numbers| numbers.stddev(1)),
        Function::StddevPop => numbers.spread(|numbers| numbers.stddev(0)),
        Function::Min => smallest(&values, false),
        Function::Max => smallest(&values, true),
        Function::First => values.first().cloned().unwrap_or(Value::Null),
        Function::Last => values.last().cloned().unwrap_or(Value::Null),
        Function::FirstN(n) => Value::List(values.iter().take(n).cloned().collect()),
        Function::LastN(n) => Value::List(values[values.len().saturating_sub(n)..].to_vec()),
        // Over a cap, judged at finish.
        Function::CountDistinct(cap) | Function::Histogram(cap) | Function::ApproxTopK(_, cap)
            if counts.len() > cap =>
        {
            return Outcome::Overflow;
        }
        Function::CollectList(cap) if values.len() > cap => return Outcome::Overflow,
        // Up to 128 different values it is exact, and a case has fewer rows.
        Function::CountDistinct(_) | Function::ApproxDistinct => Value::Int(counts.len() as i64),
        // Lists and maps come out in value order where no order is asked.
        Function::CollectList(_) => {
            let mut values = values;
            values.sort();
            Value::List(values)
        }
        Function::Histogram(_) => {
            Value::Counts(counts.into_iter().map(|(value, count)| (value.clone(), count)).collect())
        }
        // The most frequent first, those as frequent in value order.
        Function::ApproxTopK(k, _) => {
            let mut counts: Vec<_> =
                counts.into_iter().map(|(value, count)| (value.clone(), count)).collect();
            counts.sort_by_key(|(_, count)| -count);
            counts.truncate(k);
            Value::Counts(counts)
        }
        Function::ApproxQuantile(percent) => {
            let mut values = values;
            values.sort();
            // The nearest rank: of n values the one numbered q * n, rounded up, at least 1.
            let rank = (usize::from(percent) * values.len()).div_ceil(100).max(1);
            Value::float(match &values[rank - 1] {
                Value::Int(int) => leading(*int as f64),
                Value::Float(float) => leading(float.get()),
                _ => f64::NAN,
            })
        }
        Function::DecayedSum(half_life) => match numbers {
            Numbers::Ints(ints) => Value::float(Multiples::of_ints(&ints).decayed(&times, half_life, t)),
            Numbers::Floats(floats) => match special_sum(&floats) {
                Some(special) => Value::float(special),
                None => Value::float(Multiples::of_floats(&floats).decayed(&times, half_life, t)),
            },
        },
        Function::DecayedCount(half_life) => {
            Value::float(Multiples::of_ints(&vec![1; times.len()]).decayed(&times, half_life, t))
        }
    };
    Outcome::Value(found)
}

/// A float cut to its eight leading binary digits; below the least normal one it is 0.
fn leading(float: f64) -> f64 {
    let cut = if float.abs() < f64::MIN_POSITIVE { 0.0 } else { float };
    f64::from_bits(cut.to_bits() & (u64::MAX << 45))
}

/// The least value, or the greatest: NaN is last.
fn smallest(values: &[Value], greatest: bool) -> Value {
    let mut sorted = values.to_vec();
    sorted.sort();
    let found = if greatest { sorted.pop() } else { sorted.into_iter().next() };
    found.unwrap_or(Value::Null)
}

/// The numbers of a column.
enum Numbers {
    Ints(Vec<i64>),
    Floats(Vec<f64>),
}

impl Numbers {
    fn of(values: &[Value]) -> Numbers {
        let float = |value: &Value| if let Value::Float(float) = value { Some(float.get()) } else { None };
        let int = |value: &Value| if let Value::Int(int) = value { Some(*int) } else { None };
        if values.iter().any(|value| float(value).is_some()) {
            return Numbers::Floats(values.iter().filter_map(float).collect());
        }
        Numbers::Ints(values.iter().filter_map(int).collect())
    }

    /// A variance or its root: NaN where a value is NaN or infinite, else exact and rounded once.
    fn spread(&self, of: impl Fn(&Multiples) -> f64) -> Value {
        match self {
            Numbers::Ints(ints) => Value::float(of(&Multiples::of_ints(ints))),
            Numbers::Floats(floats) if floats.iter().any(|float| !float.is_finite()) => {
                Value::float(f64::NAN)
            }
            Numbers::Floats(floats) => Value::float(of(&Multiples::of_floats(floats))),
        }
    }
}

/// A NaN makes sums NaN; +inf with -inf is NaN; one of them alone is the sum.
fn special_sum(floats: &[f64]) -> Option<f64> {
    let any = |special: f64| floats.contains(&special);
    if floats.iter().any(|float| float.is_nan()) || any(f64::INFINITY) && any(f64::NEG_INFINITY) {
        return Some(f64::NAN);
    }
    [f64::INFINITY, f64::NEG_INFINITY].into_iter().find(|special| any(*special))
}
