//! `approx_quantile(x, q)`: counts of values cut to eight binary digits.

use arrow::array::{ArrayRef, AsArray, Float64Builder};
use arrow::compute::cast;
use arrow::datatypes::{DataType as ArrowType, Decimal128Type, Float64Type};
use asof_model::DataType;

use super::algebra::{Algebra, Function, Input, Outcome, argument};
use super::call::{CallError, FunctionCall};
use super::counts::Counts;
use super::stored::{Reading, STATE_FORMAT};
use super::{Aggregate, Documentation};
use crate::order_key::{turn_float, turned_float};
use crate::{ComputeError, conform};

/// Of a float's bits, those that are cut off: all but the sign, the exponent and seven digits behind the leading one.
const CUT: u32 = 45;

/// The value that so much of all values are not greater than.
#[derive(Debug)]
pub(super) struct ApproxQuantile;

const TAKES: &str = "numbers and decimals";

impl Aggregate for ApproxQuantile {
    fn name(&self) -> &'static str {
        "approx_quantile"
    }

    fn aliases(&self) -> &'static [&'static str] {
        &["approx_percentile"]
    }

    fn documentation(&self) -> Documentation {
        Documentation {
            usage: "approx_quantile(x, q)",
            about: "The least value that at least the share `q`, from 0 to 1, of all values are not greater than. That \
                    is the nearest rank: of n values in their order the one numbered `q * n`, rounded up, at least 1; \
                    so 0 gives the least and 1 the greatest. Infinities are values like others, and NaN is greater \
                    than all of them.",
            takes: TAKES,
            gives: "float64",
            state: "how many values there are of each eight leading binary digits: 32 bytes for up to 3 values, 16 to \
                    32 for each different one above; values between 1 and 1000 have at most 1280",
            error: Some(
                "the value of that rank, of a whole number or a decimal the float64 nearest to it, cut to its eight \
                 leading binary digits: toward 0 by less than 0.8 % (1/128) of it; whole numbers up to 256 are exact; \
                 below 2.3e-308 it is 0",
            ),
            example: "approx_quantile(float64, 0.95)",
        }
    }

    fn function(&self, call: &FunctionCall) -> Result<Function, CallError> {
        use DataType::{Decimal, Float32, Float64, Int8, Int16, Int32, Int64, UInt8, UInt16, UInt32, UInt64};
        let of = call.argument(self.name())?;
        let (Int8
        | Int16
        | Int32
        | Int64
        | UInt8
        | UInt16
        | UInt32
        | UInt64
        | Float32
        | Float64
        | Decimal { .. }) = of
        else {
            return Err(CallError::Argument { aggregate: self.name(), takes: TAKES, found: of.clone() });
        };
        let mut constants = call.constants(self.name(), self.documentation().usage);
        let share = Share::new(constants.number("q", 0.0..=1.0)?);
        constants.end()?;
        Ok(Function::new(Quantile { of: of.clone(), share }))
    }
}

/// A share from 0 to 1 as it was written, so that 0.07 of 100 is 7: `digits / 10^places`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Share {
    digits: u128,
    places: u32,
}

impl Share {
    /// The shortest decimal that is read as this float.
    fn new(share: f64) -> Share {
        let text = format!("{share}");
        let (whole, behind) = text.split_once('.').unwrap_or((&text, ""));
        // At most 17 digits count, whatever zeros stand before them.
        let digits = format!("{whole}{behind}").parse().unwrap_or(0);
        Share { digits, places: u32::try_from(behind.len()).unwrap_or(u32::MAX) }
    }

    /// The rank of the value asked for, of so many.
    fn rank(self, count: u64) -> u64 {
        let product = self.digits * u128::from(count);
        // Beyond 38 places the product, which has at most 37 digits, is less than one.
        let rank = 10_u128.checked_pow(self.places).map_or(1, |one| product.div_ceil(one));
        u64::try_from(rank).unwrap_or(u64::MAX).clamp(1, count.max(1))
    }
}

#[derive(Debug)]
struct Quantile {
    of: DataType,
    share: Share,
}

/// A value's leading digits, in the order of values.
#[inline]
fn bucket(value: f64) -> u64 {
    let value = if value.abs() < f64::MIN_POSITIVE { 0.0 } else { value };
    turn_float(value) >> CUT
}

/// The value that has these digits and zeros behind.
fn value(bucket: u64) -> f64 {
    let turned = bucket << CUT;
    // A negative number's digits are turned over, so what was cut off is ones.
    turned_float(if turned >> 63 == 0 { turned | ((1 << CUT) - 1) } else { turned })
}

impl Algebra for Quantile {
    type State = Counts<u64>;
    type Values = Vec<u64>;
    type Row = ();
    type Output = Float64Builder;

    const INVERTIBLE: bool = true;

    fn data_type(&self) -> DataType {
        DataType::Float64
    }

    fn empty(&self) -> Counts<u64> {
        Counts::default()
    }

    fn reset(&self, state: &mut Counts<u64>) {
        state.reset();
    }

    fn is_empty(&self, state: &Counts<u64>) -> bool {
        state.is_empty()
    }

    fn values(&self, input: &Input) -> Result<Vec<u64>, ComputeError> {
        let floats = floats(&conform(argument(input)?, &self.of)?, &self.of)?;
        Ok(floats.into_iter().map(bucket).collect())
    }

    #[inline]
    fn update(&self, state: &mut Counts<u64>, values: &Vec<u64>, row: usize) {
        state.add(values[row], 1);
    }

    #[inline]
    fn merge(&self, state: &mut Counts<u64>, other: &Counts<u64>) {
        state.add_all(other, 1);
    }

    #[inline]
    fn withdraw(&self, state: &mut Counts<u64>, values: &Vec<u64>, row: usize) {
        state.add(values[row], -1);
    }

    #[inline]
    fn subtract(&self, state: &mut Counts<u64>, other: &Counts<u64>) {
        state.add_all(other, -1);
    }

    fn finish(&self, state: &Counts<u64>, _: i64, out: &mut Float64Builder) -> Outcome {
        let mut left = self.share.rank(state.total());
        for (bucket, count) in state.to_sorted() {
            let count = u64::try_from(count).unwrap_or(0);
            if count >= left {
                out.append_value(value(bucket));
                return Outcome::Present;
            }
            left -= count;
        }
        out.append_null();
        Outcome::Nothing
    }

    fn encode(&self, state: &Counts<u64>, out: &mut Vec<u8>) {
        out.push(STATE_FORMAT);
        state.write(&DataType::UInt32, out);
    }

    fn decode(&self, bytes: &[u8]) -> Result<Counts<u64>, ComputeError> {
        Reading::new("leading digits and their counts", STATE_FORMAT, bytes)?.whole(|from| {
            let counts = Counts::read(&DataType::UInt32, from)?;
            match counts.to_sorted().iter().find(|(found, _)| bucket(value(*found)) != *found) {
                None => Ok(counts),
                Some(_) => Err(from.damaged("no value has such digits")),
            }
        })
    }

    fn heap(&self, state: &Counts<u64>) -> usize {
        state.heap()
    }
}

/// Numbers as floats, the nearest where they have more digits; 0 or any where they are null.
fn floats(array: &ArrayRef, of: &DataType) -> Result<Vec<f64>, ComputeError> {
    if let DataType::Decimal { scale, .. } = of {
        // Read as text, since that is rounded once.
        let one = format!("1e{scale}").parse::<f64>().unwrap_or(1.0);
        let values = array.as_primitive::<Decimal128Type>().values();
        return Ok(values.iter().map(|value| *value as f64 / one).collect());
    }
    let wrong = |_| ComputeError::WrongType { expected: of.clone(), found: array.data_type().to_string() };
    let array = cast(array, &ArrowType::Float64).map_err(wrong)?;
    Ok(array.as_primitive::<Float64Type>().values().to_vec())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn digits_are_close_and_in_order(one in any::<f64>(), two in any::<f64>()) {
            for number in [one, two] {
                let found = value(bucket(number));
                if number.is_nan() {
                    prop_assert!(found.is_nan());
                } else if number.is_infinite() || number.abs() < f64::MIN_POSITIVE {
                    prop_assert_eq!(found, if number.is_infinite() { number } else { 0.0 });
                } else {
                    prop_assert!(found.abs() <= number.abs() && (found - number).abs() < number.abs() / 128.0);
                }
            }
            if one < two {
                prop_assert!(bucket(one) <= bucket(two));
            }
        }
    }

    #[test]
    fn small_whole_numbers_are_exact() {
        for number in -256..=256 {
            assert_eq!(value(bucket(f64::from(number))), f64::from(number));
        }
    }

    #[test]
    fn ranks_are_those_of_the_share_as_written() {
        for (share, count, rank) in [
            (0.0, 10, 1),
            (1.0, 10, 10),
            (0.5, 10, 5),
            (0.5, 11, 6),
            (0.07, 100, 7),
            (0.1, 10, 1),
            (0.3, 10, 3),
            (0.95, 1, 1),
            (0.999_999_999_999_999_9, 1 << 62, 4_611_686_018_427_387_443),
            (1e-40, u64::MAX, 1),
            (1e-300, 5, 1),
        ] {
            assert_eq!(Share::new(share).rank(count), rank, "{share} of {count}");
        }
    }
}
