//! `variance(x)`, `stddev(x)` and their population forms.

use std::marker::PhantomData;

use arrow::array::Float64Builder;
use arrow::buffer::ScalarBuffer;
use arrow::datatypes::{Decimal128Type, Float64Type, Int64Type, UInt64Type};
use asof_model::DataType;

use super::algebra::{Algebra, Function, Input, Outcome};
use super::call::{CallError, FunctionCall};
use super::exact::{round_big_ratio, round_root, round_wide};
use super::spread::Spread;
use super::total::{NUMBERS, Number, numbers, ten_to};
use super::{Aggregate, Documentation};
use crate::ComputeError;

/// How far values lie from their mean: one of four forms, which keep the same states.
#[derive(Debug)]
pub(super) struct Variance {
    name: &'static str,
    aliases: &'static [&'static str],
    usage: &'static str,
    about: &'static str,
    example: &'static str,
    form: Form,
}

#[derive(Debug, Clone, Copy)]
struct Form {
    /// Of values that are a sample: by `n - 1` instead of `n`.
    sample: bool,
    /// The square root of it.
    root: bool,
}

impl Form {
    /// What a state comes to, `by` more than zero.
    fn of(self, state: &Spread, scale: u8, by: i64) -> f64 {
        let (count, by) = (state.count().unsigned_abs(), by.unsigned_abs());
        // All of it has room in few words but for large numbers and large counts.
        let divisor = 100_u64
            .checked_pow(scale.into())
            .and_then(|scale| scale.checked_mul(count))
            .and_then(|divisor| divisor.checked_mul(by));
        if let Some((divisor, (deviation, exponent))) = divisor.zip(state.narrow_deviation()) {
            return round_wide(deviation, divisor, exponent, self.root);
        }
        let Some((deviation, exponent)) = state.deviation() else { return f64::NAN };
        let divisor = ten_to(scale).pow(2) * count * by;
        if self.root {
            round_root(&deviation, &divisor, exponent)
        } else {
            round_big_ratio(&deviation.into(), &divisor, exponent)
        }
    }
}

/// By one less than the count.
pub(super) const VARIANCE: Variance = Variance {
    name: "variance",
    aliases: &["var", "var_samp", "variance_samp"],
    usage: "variance(x)",
    about: "The variance of a sample: the squares of how far values lie from their mean, added up, by one less than \
            their count. Null where there is one value.",
    example: "variance(float64)",
    form: Form { sample: true, root: false },
};

/// By the count.
pub(super) const VARIANCE_POP: Variance = Variance {
    name: "variance_pop",
    aliases: &["var_pop"],
    usage: "variance_pop(x)",
    about: "The variance of a population: the squares of how far values lie from their mean, added up, by their \
            count.",
    example: "variance_pop(float64)",
    form: Form { sample: false, root: false },
};

/// The square root of [`VARIANCE`].
pub(super) const STDDEV: Variance = Variance {
    name: "stddev",
    aliases: &["stddev_samp"],
    usage: "stddev(x)",
    about: "The standard deviation of a sample: the square root of `variance`. Null where there is one value.",
    example: "stddev(float64)",
    form: Form { sample: true, root: true },
};

/// The square root of [`VARIANCE_POP`].
pub(super) const STDDEV_POP: Variance = Variance {
    name: "stddev_pop",
    aliases: &[],
    usage: "stddev_pop(x)",
    about: "The standard deviation of a population: the square root of `variance_pop`.",
    example: "stddev_pop(float64)",
    form: Form { sample: false, root: true },
};

impl Aggregate for Variance {
    fn name(&self) -> &'static str {
        self.name
    }

    fn aliases(&self) -> &'static [&'static str] {
        self.aliases
    }

    fn documentation(&self) -> Documentation {
        Documentation {
            usage: self.usage,
            about: self.about,
            takes: NUMBERS,
            gives: "float64, the exact value rounded once; NaN where a value is infinite or NaN",
            state: "the exact sums of values and of their squares, and a count: 64 bytes, and some 16 for each 64 \
                    bits of the sums where values differ by more than 2^60 or so",
            error: None,
            example: self.example,
        }
    }

    fn function(&self, call: &FunctionCall) -> Result<Function, CallError> {
        use DataType as T;
        call.no_constants(self.name, self.usage)?;
        let of = call.argument(self.name)?.clone();
        let form = self.form;
        match of {
            T::Int8 | T::Int16 | T::Int32 | T::Int64 | T::UInt8 | T::UInt16 | T::UInt32 => {
                Ok(Function::new(Spreads::<Int64Type>::new(of, 0, form)))
            }
            T::UInt64 => Ok(Function::new(Spreads::<UInt64Type>::new(of, 0, form))),
            T::Decimal { scale, .. } => {
                Ok(Function::new(Spreads::<Decimal128Type>::new(of, scale.unsigned_abs(), form)))
            }
            T::Float32 | T::Float64 => Ok(Function::new(Spreads::<Float64Type>::new(of, 0, form))),
            found => Err(CallError::Argument { aggregate: self.name, takes: NUMBERS, found }),
        }
    }
}

#[derive(Debug)]
struct Spreads<T> {
    of: DataType,
    /// Digits behind the point.
    scale: u8,
    form: Form,
    values: PhantomData<T>,
}

impl<T> Spreads<T> {
    fn new(of: DataType, scale: u8, form: Form) -> Spreads<T> {
        Spreads { of, scale, form, values: PhantomData }
    }
}

impl<T: Number> Algebra for Spreads<T> {
    type State = Spread;
    type Values = ScalarBuffer<T::Native>;
    type Row = ();
    type Output = Float64Builder;

    const INVERTIBLE: bool = true;

    fn data_type(&self) -> DataType {
        DataType::Float64
    }

    fn empty(&self) -> Spread {
        Spread::empty()
    }

    fn is_empty(&self, state: &Spread) -> bool {
        state.is_empty()
    }

    fn values(&self, input: &Input) -> Result<Self::Values, ComputeError> {
        numbers::<T>(input, &self.of)
    }

    #[inline]
    fn update(&self, state: &mut Spread, values: &Self::Values, row: usize) {
        state.add(T::parts(values[row]), T::ROOM, 1);
    }

    #[inline]
    fn merge(&self, state: &mut Spread, other: &Spread) {
        state.add_all(other, 1);
    }

    #[inline]
    fn withdraw(&self, state: &mut Spread, values: &Self::Values, row: usize) {
        state.add(T::parts(values[row]), T::ROOM, -1);
    }

    #[inline]
    fn subtract(&self, state: &mut Spread, other: &Spread) {
        state.add_all(other, -1);
    }

    fn finish(&self, state: &Spread, _: i64, out: &mut Float64Builder) -> Outcome {
        let count = state.count();
        let by = if self.form.sample { count - 1 } else { count };
        if by <= 0 {
            out.append_null();
            return if count <= 0 { Outcome::Nothing } else { Outcome::Present };
        }
        out.append_value(self.form.of(state, self.scale, by));
        Outcome::Present
    }

    fn encode(&self, state: &Spread, out: &mut Vec<u8>) {
        state.encode(out);
    }

    fn decode(&self, bytes: &[u8]) -> Result<Spread, ComputeError> {
        Spread::decode(bytes)
    }

    fn heap(&self, state: &Spread) -> usize {
        state.heap()
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use arrow::array::{Array, ArrayRef, AsArray, Decimal128Array, Float64Array, Int64Array, UInt64Array};
    use num_bigint::BigInt;
    use proptest::collection::vec;
    use proptest::prelude::*;

    use super::super::exact::judge::{exactly, is_nearest, is_nearest_root};
    use super::super::exact::tests::{lists, special};
    use super::super::laws::folded;
    use super::super::{CATALOGUE, Outcome, aggregate};
    use super::*;

    fn function(name: &str, of: &DataType) -> Function {
        let call = FunctionCall { argument: Some(of.clone()), constants: Vec::new() };
        aggregate(name).unwrap().function(&call).unwrap()
    }

    /// All four forms of some values against what the definition says: squares of how far each value lies from the
    /// mean. Values are whole numbers by a divisor.
    fn check(
        of: &DataType,
        array: ArrayRef,
        exact: Option<(Vec<BigInt>, BigInt)>,
        seed: u64,
    ) -> Result<(), TestCaseError> {
        let count = array.len();
        let input = Input { event_times: vec![0; count].into(), values: Some(array), orders: Arc::new([]) };
        for (name, less, root) in
            [("variance", 1, false), ("var_pop", 0, false), ("stddev", 1, true), ("stddev_pop", 0, true)]
        {
            let found = folded(&function(name, of), &input, 0, seed);
            let values = found.values.as_primitive::<Float64Type>();
            if count <= less {
                let outcome = if count == 0 { Outcome::Nothing } else { Outcome::Present };
                prop_assert_eq!((found.outcomes[0], values.is_null(0)), (outcome, true));
                continue;
            }
            prop_assert_eq!((found.outcomes[0], values.is_null(0)), (Outcome::Present, false));
            let value = values.value(0);
            let Some((numbers, divisor)) = &exact else {
                prop_assert_eq!(value.to_bits(), f64::NAN.to_bits());
                continue;
            };
            let sum: BigInt = numbers.iter().sum();
            // n times how far from the mean, so all is by (n * divisor)^2.
            let squares: BigInt = numbers.iter().map(|x| (x * count - &sum).pow(2)).sum();
            let divisor = (divisor * count).pow(2) * (count - less);
            if root {
                prop_assert!(is_nearest_root(value, &squares, &divisor), "{name} {value}");
            } else {
                prop_assert!(is_nearest(value, &(squares << 1074_u32), &divisor), "{name} {value}");
            }
        }
        Ok(())
    }

    #[test]
    fn all_forms_keep_the_same() {
        let of = DataType::Float64;
        let first = function("variance", &of);
        for name in ["var_samp", "variance_pop", "stddev_samp", "stddev_pop"] {
            assert!(first.shares_states_with(&function(name, &of)), "{name}");
        }
        assert!(!first.shares_states_with(&function("sum", &of)));
        assert!(CATALOGUE.iter().any(|member| member.name() == "stddev_pop"));
        assert_eq!(size_of::<Spread>(), 64);
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(1_000))]
        #[test]
        fn floats_have_the_exact_variance(values in lists(), seed: u64) {
            let exact = special(&values)
                .is_none()
                .then(|| (values.iter().map(|x| exactly(*x)).collect(), exactly(1.0)));
            check(&DataType::Float64, Arc::new(Float64Array::from(values)), exact, seed)?;
        }

        /// Values that differ in their last bits only: what two passes over floats get wrong.
        #[test]
        fn near_values_have_the_exact_variance(base in any::<f64>(), steps in vec(0_u64..4, 2..20), seed: u64) {
            prop_assume!(base.is_finite() && base.abs() < 1e300);
            let values: Vec<f64> = steps.iter().map(|step| f64::from_bits(base.to_bits() + step)).collect();
            let exact = Some((values.iter().map(|x| exactly(*x)).collect(), exactly(1.0)));
            check(&DataType::Float64, Arc::new(Float64Array::from(values)), exact, seed)?;
        }

        #[test]
        fn whole_numbers_have_the_exact_variance(values in vec(prop_oneof![any::<i64>(), -100_i64..100, Just(i64::MIN)], 0..20), unsigned: bool, seed: u64) {
            let one = BigInt::from(1);
            if unsigned {
                let values: Vec<u64> = values.iter().map(|value| value.cast_unsigned()).collect();
                let exact = Some((values.iter().map(|x| BigInt::from(*x)).collect(), one));
                check(&DataType::UInt64, Arc::new(UInt64Array::from(values)), exact, seed)?;
            } else {
                let exact = Some((values.iter().map(|x| BigInt::from(*x)).collect(), one));
                check(&DataType::Int64, Arc::new(Int64Array::from(values)), exact, seed)?;
            }
        }

        #[test]
        fn decimals_have_the_exact_variance(values in vec(any::<i128>(), 0..20), less in 0_u32..127, scale in 0_u8..39, seed: u64) {
            let values: Vec<i128> = values.iter().map(|value| (value >> less) % 10_i128.pow(38)).collect();
            let of = DataType::Decimal { precision: 38, scale: scale.cast_signed() };
            let exact = Some((values.iter().map(|x| BigInt::from(*x)).collect(), ten_to(scale).into()));
            let array = Decimal128Array::from(values).with_precision_and_scale(38, scale.cast_signed()).unwrap();
            check(&of, Arc::new(array), exact, seed)?;
        }
    }
}
