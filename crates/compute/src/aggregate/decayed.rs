//! `decayed_sum(x, half_life)` and `decayed_count(*, half_life)`.
//!
//! Times are cut into steps of the half-life, counted from the epoch. A row's term is its value as it has decayed at
//! the end of its step, `value * 2^(-(end - event time) / half_life)`, rounded once. From there on a term loses half of
//! itself with each step, and halves are exact: the end of step `k` counts `2^k` times as much as that of step 0, so
//! all terms, each times the power of 2 of its step, are added up in one [`Exact`] sum, whatever steps they are of.
//! A time is so many steps and a part of one; finished, the sum is taken down by as many powers of 2 and by
//! the part, and rounded once.

use std::fmt;
use std::marker::PhantomData;

use arrow::array::Float64Builder;
use arrow::buffer::ScalarBuffer;
use arrow::datatypes::{Decimal128Type, Float64Type, Int64Type, UInt64Type};
use asof_model::{DataType, Length};
use num_bigint::BigInt;

use super::algebra::{Algebra, Function, Input, Outcome};
use super::call::{CallError, Constant, FunctionCall};
use super::exact::{
    Exact, Part, Real, exp2_down, parts, round_big_ratio, round_leading, round_product, round_ratio,
};
use super::stored::STATE_FORMAT;
use super::total::{NUMBERS, Number, numbers, ten_to};
use super::{Aggregate, Documentation};
use crate::ComputeError;

/// The sum of values that lose half of themselves with each half-life.
#[derive(Debug)]
pub(super) struct DecayedSum;

/// The count of rows that lose half of themselves with each half-life.
#[derive(Debug)]
pub(super) struct DecayedCount;

const STATE: &str = "the exact sum of the terms and a count: 40 bytes, and some 16 for each 64 half-lives between \
     them beyond the first 50 or so";
const ERROR: &str = "powers of 2 are within 0.52 units in their last place: each value counts within 2.3e-16 of what it \
     should, and their sum is within as much again. The same bits in any order and on every processor";

impl Aggregate for DecayedSum {
    fn name(&self) -> &'static str {
        "decayed_sum"
    }

    fn documentation(&self) -> Documentation {
        Documentation {
            usage: "decayed_sum(x, half_life)",
            about: "The sum of all values that are not null, each halved for every half-life (`'6h'`, say) that has \
                    gone by since its event.",
            takes: NUMBERS,
            gives: "float64",
            state: STATE,
            error: Some(ERROR),
            example: "decayed_sum(float64, '6h')",
        }
    }

    fn function(&self, call: &FunctionCall) -> Result<Function, CallError> {
        use DataType as T;
        let of = call.argument(self.name())?.clone();
        let half_life = half_life(call, self.name(), self.documentation().usage)?;
        match of {
            T::Int8 | T::Int16 | T::Int32 | T::Int64 | T::UInt8 | T::UInt16 | T::UInt32 => {
                Ok(decayed::<Int64Type>(of, 0, half_life))
            }
            T::UInt64 => Ok(decayed::<UInt64Type>(of, 0, half_life)),
            T::Decimal { scale, .. } => Ok(decayed::<Decimal128Type>(of, scale.unsigned_abs(), half_life)),
            T::Float32 | T::Float64 => Ok(decayed::<Float64Type>(of, 0, half_life)),
            found => Err(CallError::Argument { aggregate: self.name(), takes: NUMBERS, found }),
        }
    }
}

impl Aggregate for DecayedCount {
    fn name(&self) -> &'static str {
        "decayed_count"
    }

    fn documentation(&self) -> Documentation {
        Documentation {
            usage: "decayed_count(*, half_life), decayed_count(x, half_life)",
            about: "How many rows there are, or how many where the argument is not null, each halved for every \
                    half-life (`'6h'`, say) that has gone by since its event.",
            takes: "`*`, or any type",
            gives: "float64",
            state: STATE,
            error: Some(ERROR),
            example: "decayed_count(*, '6h')",
        }
    }

    fn function(&self, call: &FunctionCall) -> Result<Function, CallError> {
        let half_life = half_life(call, self.name(), self.documentation().usage)?;
        Ok(Function::new(Decayed { of: Rows, half_life }))
    }
}

/// The half-life of a call, in microseconds.
fn half_life(call: &FunctionCall, aggregate: &'static str, usage: &'static str) -> Result<u64, CallError> {
    let wrong = |reason: String| CallError::Constants { aggregate, usage, reason };
    let [Constant::Text(text)] = call.constants.as_slice() else {
        return Err(wrong("the half-life is one text, e.g. '6h'".to_owned()));
    };
    match Length::parse(text) {
        Ok(length) if length.micros() > 0 => Ok(length.micros().unsigned_abs()),
        Ok(_) => Err(wrong("a half-life is longer than nothing".to_owned())),
        Err(bad) => Err(wrong(bad.to_string())),
    }
}

fn decayed<T: Term>(of: DataType, scale: u8, half_life: u64) -> Function {
    Function::new(Decayed { of: Values::<T> { of, scale, values: PhantomData }, half_life })
}

/// What decays.
trait Decaying: fmt::Debug + Send + Sync + 'static {
    type Values: Send + Sync + 'static;

    fn values(&self, input: &Input) -> Result<Self::Values, ComputeError>;

    /// The value of a row times `factor * 2^-53`, rounded once.
    fn term(&self, values: &Self::Values, row: usize, factor: u64) -> Part;
}

/// Each row counts once.
#[derive(Debug)]
struct Rows;

impl Decaying for Rows {
    type Values = ();

    fn values(&self, _: &Input) -> Result<(), ComputeError> {
        Ok(())
    }

    #[inline]
    fn term(&self, (): &(), _: usize, factor: u64) -> Part {
        Part::Finite(i128::from(factor), -53)
    }
}

/// Each row counts as its value.
#[derive(Debug)]
struct Values<T> {
    of: DataType,
    /// Digits behind the point.
    scale: u8,
    values: PhantomData<T>,
}

impl<T: Term> Decaying for Values<T> {
    type Values = ScalarBuffer<T::Native>;

    fn values(&self, input: &Input) -> Result<Self::Values, ComputeError> {
        numbers::<T>(input, &self.of)
    }

    #[inline]
    fn term(&self, values: &Self::Values, row: usize, factor: u64) -> Part {
        parts(T::term(values[row], self.scale, factor))
    }
}

/// Numbers times powers of 2.
trait Term: Number {
    /// `value / 10^scale * factor * 2^-53`, rounded once.
    fn term(value: Self::Native, scale: u8, factor: u64) -> f64;
}

impl Term for Int64Type {
    #[inline]
    fn term(value: i64, _: u8, factor: u64) -> f64 {
        round_product(value < 0, value.unsigned_abs().into(), factor, -53)
    }
}

impl Term for UInt64Type {
    #[inline]
    fn term(value: u64, _: u8, factor: u64) -> f64 {
        round_product(false, value.into(), factor, -53)
    }
}

impl Term for Float64Type {
    #[inline]
    fn term(value: f64, _: u8, factor: u64) -> f64 {
        // The factor has 53 bits, so this is its exact value, and a product is rounded once.
        const UNIT: f64 = 1.0 / (1_u64 << 53) as f64;
        value * (factor as f64 * UNIT)
    }
}

impl Term for Decimal128Type {
    fn term(value: i128, scale: u8, factor: u64) -> f64 {
        let product = value.unsigned_abs().checked_mul(factor.into());
        match (product, 10_u64.checked_pow(scale.into())) {
            (Some(product), Some(ten)) => round_ratio(value < 0, product, ten, -53),
            _ => round_big_ratio(&(BigInt::from(value) * factor), &ten_to(scale), -53),
        }
    }
}

#[derive(Debug)]
struct Decayed<D> {
    of: D,
    /// In microseconds; more than nothing, and at most 10,000 years.
    half_life: u64,
}

/// Times are within the years 0001 to 9999; any others are taken as the nearest of these, so that no step overflows.
const LIMIT: i64 = 1 << 60;

impl<D> Decayed<D> {
    /// In which step a time is, and how far in it.
    #[inline]
    fn step(&self, time: i64) -> (i64, u64) {
        let (time, half_life) = (time.clamp(-LIMIT, LIMIT), self.half_life.cast_signed());
        (time.div_euclid(half_life), time.rem_euclid(half_life).cast_unsigned())
    }
}

impl<D: Decaying> Decayed<D> {
    #[inline]
    fn term(&self, (values, times): &(D::Values, ScalarBuffer<i64>), row: usize) -> Part {
        let (step, since) = self.step(times[row]);
        let factor = exp2_down(self.half_life - since, self.half_life);
        match self.of.term(values, row, factor) {
            Part::Finite(number, exponent) => Part::Finite(number, exponent + step + 1),
            special @ Part::Special(_) => special,
        }
    }
}

impl<D: Decaying> Algebra for Decayed<D> {
    type State = Exact<i64>;
    type Values = (D::Values, ScalarBuffer<i64>);
    type Row = ();
    type Output = Float64Builder;

    const INVERTIBLE: bool = true;
    const TIMED: bool = true;

    fn data_type(&self) -> DataType {
        DataType::Float64
    }

    fn state_id(&self) -> String {
        self.half_life.to_string()
    }

    fn empty(&self) -> Exact<i64> {
        Exact::empty()
    }

    fn is_empty(&self, state: &Exact<i64>) -> bool {
        state.is_empty()
    }

    fn values(&self, input: &Input) -> Result<Self::Values, ComputeError> {
        Ok((self.of.values(input)?, input.event_times.clone()))
    }

    #[inline]
    fn update(&self, state: &mut Exact<i64>, values: &Self::Values, row: usize) {
        state.add(self.term(values, row), Float64Type::ROOM, 1);
    }

    #[inline]
    fn merge(&self, state: &mut Exact<i64>, other: &Exact<i64>) {
        state.add_all(other, 1);
    }

    #[inline]
    fn withdraw(&self, state: &mut Exact<i64>, values: &Self::Values, row: usize) {
        state.add(self.term(values, row), Float64Type::ROOM, -1);
    }

    #[inline]
    fn subtract(&self, state: &mut Exact<i64>, other: &Exact<i64>) {
        state.add_all(other, -1);
    }

    fn finish(&self, state: &Exact<i64>, at: i64, out: &mut Float64Builder) -> Outcome {
        if state.count() <= 0 {
            out.append_null();
            return Outcome::Nothing;
        }
        let (steps, since) = self.step(at);
        let factor = exp2_down(since, self.half_life);
        let down = -53 - steps;
        out.append_value(match state.real() {
            Real::Narrow(sum, exponent) => {
                round_product(sum < 0, sum.unsigned_abs(), factor, exponent + down)
            }
            Real::Wide(digits) => round_leading(digits, factor, down),
            Real::Special(sum) => sum,
        });
        Outcome::Present
    }

    fn encode(&self, state: &Exact<i64>, out: &mut Vec<u8>) {
        state.encode(1, out);
    }

    fn decode(&self, bytes: &[u8]) -> Result<Exact<i64>, ComputeError> {
        Exact::decode("decayed sum", STATE_FORMAT, bytes)
    }

    fn heap(&self, state: &Exact<i64>) -> usize {
        state.heap()
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use arrow::array::{Array, ArrayRef, AsArray, Decimal128Array, Float64Array, Int64Array, UInt64Array};
    use num_bigint::BigUint;
    use proptest::collection::vec;
    use proptest::prelude::*;

    use super::super::exact::judge::{exactly, is_nearest};
    use super::super::exact::tests::{lists, special};
    use super::super::laws::folded;
    use super::super::{Finished, aggregate};
    use super::*;

    fn function(name: &str, argument: Option<DataType>, half_life: &str) -> Result<Function, CallError> {
        let constants = vec![Constant::Text(half_life.to_owned())];
        aggregate(name).unwrap().function(&FunctionCall { argument, constants })
    }

    fn float(found: &Finished) -> Option<f64> {
        let values = found.values.as_primitive::<Float64Type>();
        values.is_valid(0).then(|| values.value(0))
    }

    fn sum(values: ArrayRef, of: DataType, times: Vec<i64>, half_life: &str, at: i64, seed: u64) -> Finished {
        let input = Input { values: Some(values), event_times: times.into(), orders: Arc::new([]) };
        folded(&function("decayed_sum", Some(of), half_life).unwrap(), &input, at, seed)
    }

    /// A step of the half-life and what is left of it: the next multiple after a time, or the last one until it.
    fn steps(time: i64, half_life: i64) -> (i64, i64) {
        let mut step = time / half_life;
        while step * half_life > time {
            step -= 1;
        }
        (step, time - step * half_life)
    }

    /// Whether a float is what the contract says of terms, each a float64, and their times: the terms, each times 2 to
    /// the power of its next step less that of the answer, summed exactly, times the power of the rest, rounded once.
    fn is_right(found: f64, terms: &[(f64, i64)], half_life: i64, at: i64) -> bool {
        let (step, rest) = steps(at, half_life);
        let factor = exp2_down(rest.cast_unsigned(), half_life.cast_unsigned());
        let least = terms.iter().map(|term| steps(term.1, half_life).0 + 1).min().unwrap_or(0);
        let sum: BigInt =
            terms.iter().map(|(term, time)| exactly(*term) << (steps(*time, half_life).0 + 1 - least)).sum();
        let (numerator, down) = (sum * factor, step + 53 - least);
        is_nearest(found, &(numerator << (-down).max(0)), &(BigInt::from(1) << down.max(0)))
    }

    /// How much is left of 1 until the end of its step, in units of 2^-53.
    fn left(time: i64, half_life: i64) -> u64 {
        exp2_down((half_life - steps(time, half_life).1).cast_unsigned(), half_life.cast_unsigned())
    }

    #[test]
    fn whole_half_lives_are_halves() {
        let hour = 3_600_000_000;
        for (at, expected) in [(0, 12.0), (hour, 6.0), (-hour, 24.0), (100 * hour, 12.0 * 0.5_f64.powi(100))]
        {
            let values = Arc::new(Float64Array::from(vec![8.0, 4.0]));
            let found = sum(values, DataType::Float64, vec![0, 0], "1h", at, 1);
            assert_eq!(float(&found), Some(expected), "{at}");
        }
        // Three and a half hours at half a life each hour: 8 / 2^3.5.
        let found = sum(Arc::new(Int64Array::from(vec![8])), DataType::Int64, vec![0], "1h", hour / 2 * 7, 1);
        assert_eq!(float(&found), Some(std::f64::consts::FRAC_1_SQRT_2));
        let count = function("decayed_count", None, "60m").unwrap();
        let input = Input { values: None, event_times: vec![0, hour, -hour].into(), orders: Arc::new([]) };
        assert_eq!(float(&folded(&count, &input, hour, 1)), Some(1.75));
        let none = Input { values: None, event_times: Vec::new().into(), orders: Arc::new([]) };
        let none = folded(&count, &none, hour, 1);
        assert_eq!((float(&none), none.outcomes[0]), (None, Outcome::Nothing));
    }

    #[test]
    fn half_lives_are_asked_for_so() {
        let reason = |half_life: &str| match function("decayed_count", None, half_life) {
            Err(CallError::Constants { reason, .. }) => reason,
            other => panic!("{other:?}"),
        };
        assert!(reason("6x").contains("`6x`"), "{}", reason("6x"));
        assert!(reason("0s").contains("longer"), "{}", reason("0s"));
        let count = aggregate("decayed_count").unwrap();
        for constants in [vec![], vec![Constant::Int(6)], vec![Constant::Text("6h".into()), Constant::Int(1)]]
        {
            let call = FunctionCall { argument: None, constants };
            assert!(matches!(count.function(&call), Err(CallError::Constants { .. })));
        }
        assert!(function("decayed_sum", Some(DataType::Timestamp), "6h").is_err());
        let of = |half_life| function("decayed_sum", Some(DataType::Float64), half_life).unwrap();
        assert!(of("1h").shares_states_with(&of("60m")));
        assert!(!of("1h").shares_states_with(&of("2h")));
    }

    /// Terms as far apart as times can be: the oldest decides only where the newest are a tie.
    #[test]
    fn the_oldest_term_may_decide() {
        let now = 1_000_000_000_000_000;
        for (oldest, expected) in [(0.0, 0.0), (1e-300, 2.0), (-1e-300, 0.0)] {
            // 2^53 + 1, of which half is left at the end of the step, and all of it at the time itself.
            let values = vec![9_007_199_254_740_992.0, 1.0, oldest];
            let times = vec![now, now, -60_000_000_000_000_000];
            let found = sum(Arc::new(Float64Array::from(values)), DataType::Float64, times, "1us", now, 3);
            assert_eq!(float(&found), Some(9_007_199_254_740_992.0 + expected));
        }
    }

    fn times() -> impl Strategy<Value = Vec<i64>> {
        let near = vec(-2_000_000_i64..2_000_000, 40);
        let far = vec(-2_000_000_000_i64..2_000_000_000, 40);
        prop_oneof![near, far]
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(700))]
        #[test]
        fn decayed_floats_are_right(values in lists(), times in times(), half_life in 1_000_000_i64..60_000_000, at in -2_000_000_000_i64..2_000_000_000, seed: u64) {
            let times: Vec<i64> = times.into_iter().cycle().take(values.len()).collect();
            let expected = special(&values);
            let terms: Vec<(f64, i64)> = values
                .iter()
                .zip(&times)
                .map(|(value, time)| (value * (left(*time, half_life) as f64 / 2_f64.powi(53)), *time))
                .collect();
            let found = sum(Arc::new(Float64Array::from(values)), DataType::Float64, times, &format!("{half_life}us"), at, seed);
            match (float(&found), expected) {
                (None, _) => prop_assert!(terms.is_empty() && found.outcomes[0] == Outcome::Nothing),
                (Some(found), Some(expected)) => prop_assert_eq!(found.to_bits(), expected.to_bits()),
                (Some(found), None) => prop_assert!(is_right(found, &terms, half_life, at), "{found}"),
            }
        }

        /// Terms of whole numbers and decimals are rounded once from the number itself.
        #[test]
        fn decayed_numbers_are_right(values in vec(any::<i128>(), 1..20), less in 0_u32..127, scale in 0_u8..39, kind in 0..3, times in times(), half_life in 1_000_000_i64..60_000_000, at in -2_000_000_000_i64..2_000_000_000, seed: u64) {
            let times: Vec<i64> = times[..values.len()].to_vec();
            let half = format!("{half_life}us");
            let (values, scale): (Vec<i128>, u8) = match kind {
                0 => (values.iter().map(|value| i128::from((value >> less) as i64)).collect(), 0),
                1 => (values.iter().map(|value| i128::from((value >> less) as u64)).collect(), 0),
                _ => (values.iter().map(|value| (value >> less) % 10_i128.pow(38)).collect(), scale),
            };
            let (of, array): (DataType, ArrayRef) = match kind {
                0 => (DataType::Int64, Arc::new(values.iter().map(|value| *value as i64).collect::<Int64Array>())),
                1 => (DataType::UInt64, Arc::new(values.iter().map(|value| *value as u64).collect::<UInt64Array>())),
                _ => {
                    let array = values.iter().copied().map(Some).collect::<Decimal128Array>();
                    let array = array.with_precision_and_scale(38, scale.cast_signed()).unwrap();
                    (DataType::Decimal { precision: 38, scale: scale.cast_signed() }, Arc::new(array))
                }
            };
            let mut terms = Vec::new();
            for (value, time) in values.iter().zip(&times) {
                let one = Arc::new(array.slice(terms.len(), 1));
                // A term alone, asked for at the end of its step.
                let end = (steps(*time, half_life).0 + 1) * half_life;
                let term = float(&sum(one, of.clone(), vec![*time], &half, end, seed)).unwrap();
                let exact = (BigInt::from(*value) * left(*time, half_life)) << 1021_u32;
                prop_assert!(is_nearest(term, &exact, &BigUint::from(10_u32).pow(scale.into()).into()), "{term}");
                terms.push((term, *time));
            }
            let found = float(&sum(array, of, times, &half, at, seed)).unwrap();
            prop_assert!(is_right(found, &terms, half_life, at), "{found}");
        }
    }
}
