//! The states of sums and means: exact totals of whole numbers, decimals and floats, and what each comes to.

use std::fmt;
use std::marker::PhantomData;

use arrow::array::{ArrayRef, ArrowPrimitiveType, AsArray, Decimal128Builder, Float64Builder, Int64Builder};
use arrow::buffer::ScalarBuffer;
use arrow::compute::cast;
use arrow::datatypes::{Decimal128Type, Float64Type, Int64Type, UInt64Type};
use asof_model::DataType;
use num_bigint::{BigInt, BigUint};

use super::algebra::{Algebra, Function, Input, Outcome, argument};
use super::call::{CallError, FunctionCall};
use super::exact::{Exact, Fixed, Part, Real, parts, round_big, round_big_ratio, round_ratio, round_whole};
use super::output::Output;
use super::stored::{Reading, STATE_FORMAT, write_number};
use crate::{ComputeError, conform};

/// Numbers that are summed, as Arrow has them.
pub(super) trait Number: ArrowPrimitiveType + fmt::Debug + Send + Sync {
    /// By how much a value can be shifted and stay below 2^126.
    const ROOM: u64;

    /// A value in parts.
    fn parts(value: Self::Native) -> Part;
}

impl Number for Int64Type {
    const ROOM: u64 = 62;

    #[inline]
    fn parts(value: i64) -> Part {
        Part::Finite(i128::from(value), 0)
    }
}

impl Number for UInt64Type {
    const ROOM: u64 = 62;

    #[inline]
    fn parts(value: u64) -> Part {
        Part::Finite(i128::from(value), 0)
    }
}

impl Number for Float64Type {
    const ROOM: u64 = 73;

    #[inline]
    fn parts(value: f64) -> Part {
        parts(value)
    }
}

/// Without its scale. No value is as large as 2^127.
impl Number for Decimal128Type {
    const ROOM: u64 = 0;

    #[inline]
    fn parts(value: i128) -> Part {
        Part::Finite(value.max(-i128::MAX), 0)
    }
}

/// What summing aggregates take.
pub(super) const NUMBERS: &str = "whole numbers, decimals, floats";

/// The values of an argument of a type, widened to the one they are summed in.
pub(super) fn numbers<T: Number>(
    input: &Input,
    of: &DataType,
) -> Result<ScalarBuffer<T::Native>, ComputeError> {
    let array = conform(argument(input)?, of)?;
    if let Some(values) = array.as_primitive_opt::<T>() {
        return Ok(values.values().clone());
    }
    let wrong = || ComputeError::WrongType { expected: of.clone(), found: array.data_type().to_string() };
    let wide = cast(&array, &T::DATA_TYPE).map_err(|_| wrong())?;
    Ok(wide.as_primitive_opt::<T>().ok_or_else(wrong)?.values().clone())
}

/// What a total comes to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Finish {
    /// The sum: of whole numbers int64, of decimals decimal(38, scale), of floats float64.
    Sum,
    /// The sum by the count, as float64.
    Mean,
}

/// The sum or the mean of an argument. Both keep the same states.
pub(super) fn total(
    finish: Finish,
    call: &FunctionCall,
    aggregate: &'static str,
    usage: &'static str,
) -> Result<Function, CallError> {
    use DataType as T;
    call.no_constants(aggregate, usage)?;
    let of = call.argument(aggregate)?.clone();
    match of {
        T::Int8 | T::Int16 | T::Int32 | T::Int64 | T::UInt8 | T::UInt16 | T::UInt32 => {
            Ok(Function::new(IntTotals::<Int64Type>::new(of, finish)))
        }
        T::UInt64 => Ok(Function::new(IntTotals::<UInt64Type>::new(of, finish))),
        T::Decimal { scale, .. } => {
            Ok(Function::new(ExactTotals::<Decimal128Type>::new(of, finish, scale.unsigned_abs())))
        }
        T::Float32 | T::Float64 => Ok(Function::new(ExactTotals::<Float64Type>::new(of, finish, 0))),
        found => Err(CallError::Argument { aggregate, takes: NUMBERS, found }),
    }
}

/// Totals of whole numbers.
#[derive(Debug)]
struct IntTotals<T> {
    of: DataType,
    finish: Finish,
    values: PhantomData<T>,
}

impl<T> IntTotals<T> {
    fn new(of: DataType, finish: Finish) -> IntTotals<T> {
        IntTotals { of, finish, values: PhantomData }
    }
}

/// How many values there are, and their sum, in halves so that a state needs no room to be aligned by 16.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct IntTotal {
    low: u64,
    high: i64,
    count: i64,
}

impl IntTotal {
    #[inline]
    fn sum(&self) -> i128 {
        i128::from(self.high) << 64 | i128::from(self.low)
    }

    #[inline]
    fn add(&mut self, sum: i128, count: i64) {
        let sum = self.sum().wrapping_add(sum);
        self.low = sum as u64;
        self.high = (sum >> 64) as i64;
        self.count = self.count.wrapping_add(count);
    }
}

/// Whole numbers are their own parts.
#[inline]
fn whole(part: Part) -> i128 {
    match part {
        Part::Finite(number, _) => number,
        Part::Special(_) => 0,
    }
}

impl<T: Number> Algebra for IntTotals<T> {
    type State = IntTotal;
    type Values = ScalarBuffer<T::Native>;
    type Row = ();
    type Output = Numbers;

    const INVERTIBLE: bool = true;

    fn data_type(&self) -> DataType {
        match self.finish {
            Finish::Sum => DataType::Int64,
            Finish::Mean => DataType::Float64,
        }
    }

    fn empty(&self) -> IntTotal {
        IntTotal { low: 0, high: 0, count: 0 }
    }

    fn is_empty(&self, state: &IntTotal) -> bool {
        *state == self.empty()
    }

    fn values(&self, input: &Input) -> Result<Self::Values, ComputeError> {
        numbers::<T>(input, &self.of)
    }

    #[inline]
    fn update(&self, state: &mut IntTotal, values: &Self::Values, row: usize) {
        state.add(whole(T::parts(values[row])), 1);
    }

    #[inline]
    fn merge(&self, state: &mut IntTotal, other: &IntTotal) {
        state.add(other.sum(), other.count);
    }

    #[inline]
    fn withdraw(&self, state: &mut IntTotal, values: &Self::Values, row: usize) {
        state.add(-whole(T::parts(values[row])), -1);
    }

    #[inline]
    fn subtract(&self, state: &mut IntTotal, other: &IntTotal) {
        state.add(other.sum().wrapping_neg(), other.count.wrapping_neg());
    }

    fn finish(&self, state: &IntTotal, _: i64, out: &mut Numbers) -> Outcome {
        let sum = state.sum();
        match self.finish {
            _ if state.count <= 0 => out.nothing(),
            Finish::Sum => out.int(i64::try_from(sum).ok()),
            Finish::Mean => out.float(mean(&Real::Narrow(sum, 0), state.count, 0)),
        }
    }

    fn encode(&self, state: &IntTotal, out: &mut Vec<u8>) {
        out.push(STATE_FORMAT);
        write_number(i128::from(state.count), out);
        write_number(state.sum(), out);
    }

    fn decode(&self, bytes: &[u8]) -> Result<IntTotal, ComputeError> {
        Reading::new("sum", STATE_FORMAT, bytes)?.whole(|from| {
            let mut state = self.empty();
            let count = from.number()?;
            state.add(from.number()?, count);
            Ok(state)
        })
    }
}

/// Totals of decimals and of floats.
#[derive(Debug)]
struct ExactTotals<T> {
    of: DataType,
    finish: Finish,
    scale: u8,
    values: PhantomData<T>,
}

impl<T> ExactTotals<T> {
    fn new(of: DataType, finish: Finish, scale: u8) -> ExactTotals<T> {
        ExactTotals { of, finish, scale, values: PhantomData }
    }
}

impl<T: Number> Algebra for ExactTotals<T> {
    type State = Exact<i16>;
    type Values = ScalarBuffer<T::Native>;
    type Row = ();
    type Output = Numbers;

    const INVERTIBLE: bool = true;

    fn data_type(&self) -> DataType {
        match (self.finish, &self.of) {
            (Finish::Sum, DataType::Decimal { scale, .. }) => {
                DataType::Decimal { precision: MOST_DIGITS as u8, scale: *scale }
            }
            _ => DataType::Float64,
        }
    }

    fn empty(&self) -> Exact<i16> {
        Exact::empty()
    }

    fn is_empty(&self, state: &Exact<i16>) -> bool {
        state.is_empty()
    }

    fn values(&self, input: &Input) -> Result<Self::Values, ComputeError> {
        numbers::<T>(input, &self.of)
    }

    #[inline]
    fn update(&self, state: &mut Exact<i16>, values: &Self::Values, row: usize) {
        state.add(T::parts(values[row]), T::ROOM, 1);
    }

    #[inline]
    fn merge(&self, state: &mut Exact<i16>, other: &Exact<i16>) {
        state.add_all(other, 1);
    }

    #[inline]
    fn withdraw(&self, state: &mut Exact<i16>, values: &Self::Values, row: usize) {
        state.add(T::parts(values[row]), T::ROOM, -1);
    }

    #[inline]
    fn subtract(&self, state: &mut Exact<i16>, other: &Exact<i16>) {
        state.add_all(other, -1);
    }

    fn finish(&self, state: &Exact<i16>, _: i64, out: &mut Numbers) -> Outcome {
        match (self.finish, out) {
            (_, out) if state.count() <= 0 => out.nothing(),
            (Finish::Sum, out @ Numbers::Decimal(_)) => {
                let whole = match state.real() {
                    Real::Narrow(sum, exponent) => Some((sum, exponent)),
                    Real::Wide(digits) => digits.narrow(),
                    Real::Special(_) => None,
                };
                out.decimal(whole.and_then(|(sum, exponent)| sum.shifted(u64::try_from(exponent).ok()?)))
            }
            (Finish::Sum, out) => out.float(match state.real() {
                Real::Narrow(sum, exponent) => round_whole(sum, exponent),
                Real::Wide(digits) => {
                    let (sum, exponent) = digits.big();
                    round_big(&sum, exponent)
                }
                Real::Special(sum) => sum,
            }),
            (Finish::Mean, out) => out.float(mean(&state.real(), state.count(), self.scale)),
        }
    }

    fn encode(&self, state: &Exact<i16>, out: &mut Vec<u8>) {
        state.encode(1, out);
    }

    fn decode(&self, bytes: &[u8]) -> Result<Exact<i16>, ComputeError> {
        Exact::decode("sum", STATE_FORMAT, bytes)
    }

    fn heap(&self, state: &Exact<i16>) -> usize {
        state.heap()
    }
}

/// Whole numbers up to it are floats.
const WHOLE: u128 = 1 << f64::MANTISSA_DIGITS;

/// `sum / 10^scale / count`, rounded once.
fn mean(sum: &Real<'_>, count: i64, scale: u8) -> f64 {
    let (sum, exponent) = match sum {
        Real::Special(sum) => return *sum,
        // Both are floats as they are, and a division rounds once.
        Real::Narrow(sum, 0)
            if scale == 0 && sum.unsigned_abs() <= WHOLE && count.unsigned_abs() <= WHOLE as u64 =>
        {
            return *sum as i64 as f64 / count as f64;
        }
        Real::Narrow(sum, exponent) => {
            let divisor =
                10_u64.checked_pow(scale.into()).and_then(|ten| ten.checked_mul(count.unsigned_abs()));
            if let Some(divisor) = divisor {
                return round_ratio(*sum < 0, sum.unsigned_abs(), divisor, *exponent);
            }
            (BigInt::from(*sum), *exponent)
        }
        Real::Wide(digits) => digits.big(),
    };
    round_big_ratio(&sum, &(ten_to(scale) * count.unsigned_abs()), exponent)
}

/// A power of ten.
pub(super) fn ten_to(scale: u8) -> BigUint {
    BigUint::from(10_u8).pow(scale.into())
}

/// The most digits a decimal can have.
const MOST_DIGITS: u32 = 38;

/// Collects numbers of the type that is asked for.
pub(super) enum Numbers {
    Int(Int64Builder),
    Decimal(Decimal128Builder),
    Float(Float64Builder),
}

impl Numbers {
    /// Of no values.
    pub(super) fn nothing(&mut self) -> Outcome {
        self.push_null();
        Outcome::Nothing
    }

    /// A whole number; none where it is out of range.
    pub(super) fn int(&mut self, value: Option<i64>) -> Outcome {
        match (self, value) {
            (Numbers::Int(out), Some(value)) => {
                out.append_value(value);
                Outcome::Present
            }
            (out, _) => out.overflow(),
        }
    }

    /// A decimal of 38 digits without its scale; none where it is far out of range.
    pub(super) fn decimal(&mut self, value: Option<i128>) -> Outcome {
        match (self, value) {
            (Numbers::Decimal(out), Some(value)) if value.unsigned_abs() < 10_u128.pow(MOST_DIGITS) => {
                out.append_value(value);
                Outcome::Present
            }
            (out, _) => out.overflow(),
        }
    }

    /// A float, whatever it is.
    pub(super) fn float(&mut self, value: f64) -> Outcome {
        match self {
            Numbers::Float(out) => {
                out.append_value(value);
                Outcome::Present
            }
            out => out.overflow(),
        }
    }

    fn overflow(&mut self) -> Outcome {
        self.push_null();
        Outcome::Overflow
    }

    fn push_null(&mut self) {
        match self {
            Numbers::Int(out) => out.append_null(),
            Numbers::Decimal(out) => out.append_null(),
            Numbers::Float(out) => out.append_null(),
        }
    }
}

impl Output for Numbers {
    fn new(data_type: &DataType, capacity: usize) -> Numbers {
        match data_type {
            DataType::Int64 => Numbers::Int(Output::new(data_type, capacity)),
            DataType::Decimal { .. } => Numbers::Decimal(Output::new(data_type, capacity)),
            _ => Numbers::Float(Output::new(data_type, capacity)),
        }
    }

    fn finish(self) -> Option<ArrayRef> {
        match self {
            Numbers::Int(out) => Output::finish(out),
            Numbers::Decimal(out) => Output::finish(out),
            Numbers::Float(out) => Output::finish(out),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use arrow::array::{Array, Decimal128Array, Float32Array, Float64Array, Int64Array, UInt64Array};
    use proptest::collection::vec;
    use proptest::prelude::*;

    use super::super::exact::judge::{exactly, is_nearest};
    use super::super::exact::tests::{lists, special, sum_of};
    use super::super::laws::folded;
    use super::super::{Finished, aggregate};
    use super::*;

    fn function(name: &str, of: DataType) -> Function {
        let call = FunctionCall { argument: Some(of), constants: Vec::new() };
        aggregate(name).unwrap().function(&call).unwrap()
    }

    fn input(values: ArrayRef) -> Input {
        let event_times = vec![0; values.len()].into();
        Input { values: Some(values), event_times, orders: Arc::new([]) }
    }

    fn float(found: &Finished) -> Option<f64> {
        let values = found.values.as_primitive::<Float64Type>();
        values.is_valid(0).then(|| values.value(0))
    }

    fn unit() -> BigInt {
        exactly(1.0)
    }

    #[test]
    fn sums_and_means_keep_the_same() {
        for of in ["int8", "uint64", "decimal(10,2)", "float32", "float64"] {
            let of = DataType::parse(of).unwrap();
            let one = cast(&Int64Array::from(vec![1]), &crate::arrow_type(&of)).unwrap();
            let (sum, mean) = (function("sum", of.clone()), function("avg", of));
            assert!(sum.shares_states_with(&mean));
            let mut states = sum.states(2);
            mean.update(&mut states, &[0], &[0], &mean.prepare(&input(one)).unwrap());
            assert_eq!(float(&mean.finish(&states, &[0], &[0])), Some(1.0));
            assert_eq!(sum.finish(&states, &[0, 1], &[0, 0]).outcomes, [Outcome::Present, Outcome::Nothing]);
        }
        let call = FunctionCall { argument: Some(DataType::Bool), constants: Vec::new() };
        assert!(matches!(aggregate("sum").unwrap().function(&call), Err(CallError::Argument { .. })));
        let call = FunctionCall { argument: None, constants: Vec::new() };
        assert!(matches!(aggregate("mean").unwrap().function(&call), Err(CallError::NoArgument { .. })));
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(1_000))]
        #[test]
        fn floats_are_summed_exactly(values in lists(), seed: u64) {
            let all = input(Arc::new(Float64Array::from(values.clone())));
            let sum = folded(&function("sum", DataType::Float64), &all, 0, seed);
            let mean = folded(&function("mean", DataType::Float64), &all, 0, seed);
            for (found, by) in [(&sum, 1), (&mean, values.len())] {
                match (float(found), special(&values)) {
                    _ if values.is_empty() => prop_assert_eq!((found.outcomes[0], float(found)), (Outcome::Nothing, None)),
                    (Some(found), Some(expected)) => prop_assert_eq!(found.to_bits(), expected.to_bits()),
                    (Some(found), None) => prop_assert!(is_nearest(found, &sum_of(&values), &by.into()), "{found}"),
                    (None, _) => prop_assert!(false, "null"),
                }
            }
        }

        #[test]
        fn small_floats_are_floats(values in vec(any::<f32>(), 1..20), seed: u64) {
            let wide: Vec<f64> = values.iter().map(|value| f64::from(*value)).collect();
            let small = folded(&function("sum", DataType::Float32), &input(Arc::new(Float32Array::from(values))), 0, seed);
            let large = folded(&function("sum", DataType::Float64), &input(Arc::new(Float64Array::from(wide))), 0, seed);
            prop_assert_eq!(float(&small).unwrap().to_bits(), float(&large).unwrap().to_bits());
        }

        #[test]
        fn whole_numbers_are_summed_exactly(values in vec(prop_oneof![any::<i64>(), -100_i64..100], 0..20), unsigned: bool, seed: u64) {
            let (of, all, exact) = if unsigned {
                let values: Vec<u64> = values.iter().map(|value| value.cast_unsigned()).collect();
                let exact: i128 = values.iter().map(|value| i128::from(*value)).sum();
                (DataType::UInt64, input(Arc::new(UInt64Array::from(values))), exact)
            } else {
                let exact: i128 = values.iter().map(|value| i128::from(*value)).sum();
                (DataType::Int64, input(Arc::new(Int64Array::from(values.clone()))), exact)
            };
            let sum = folded(&function("sum", of.clone()), &all, 0, seed);
            let found = sum.values.as_primitive::<Int64Type>();
            let found = found.is_valid(0).then(|| found.value(0));
            let expected = match i64::try_from(exact) {
                _ if values.is_empty() => (None, Outcome::Nothing),
                Ok(sum) => (Some(sum), Outcome::Present),
                Err(_) => (None, Outcome::Overflow),
            };
            prop_assert_eq!((found, sum.outcomes[0]), expected);
            if !values.is_empty() {
                let mean = folded(&function("mean", of), &all, 0, seed);
                prop_assert!(is_nearest(float(&mean).unwrap(), &(unit() * exact), &values.len().into()));
            }
        }

        #[test]
        fn decimals_are_summed_exactly(values in vec(any::<i128>(), 0..20), less in 0_u32..127, scale in 0_u8..39, seed: u64) {
            let limit = 10_i128.pow(38);
            let values: Vec<i128> = values.iter().map(|value| (value >> less) % limit).collect();
            let of = DataType::Decimal { precision: 38, scale: scale.cast_signed() };
            let array = Decimal128Array::from(values.clone()).with_precision_and_scale(38, scale.cast_signed()).unwrap();
            let all = input(Arc::new(array));
            let exact: BigInt = values.iter().map(|value| BigInt::from(*value)).sum();
            let sum = folded(&function("sum", of.clone()), &all, 0, seed);
            prop_assert_eq!(sum.values.data_type(), &crate::arrow_type(&of));
            let found = sum.values.as_primitive::<Decimal128Type>();
            let found = found.is_valid(0).then(|| BigInt::from(found.value(0)));
            let expected = match exact.clone() {
                _ if values.is_empty() => (None, Outcome::Nothing),
                exact if exact.magnitude() < &ten_to(38) => (Some(exact), Outcome::Present),
                _ => (None, Outcome::Overflow),
            };
            prop_assert_eq!((found, sum.outcomes[0]), expected);
            if !values.is_empty() {
                let mean = folded(&function("mean", of), &all, 0, seed);
                let divisor = BigInt::from(ten_to(scale)) * values.len();
                prop_assert!(is_nearest(float(&mean).unwrap(), &(unit() * exact), &divisor));
            }
        }
    }
}
