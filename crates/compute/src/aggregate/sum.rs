//! `sum(x)`: whole numbers exactly, within int64.

use arrow::array::{AsArray, Int64Builder};
use arrow::buffer::ScalarBuffer;
use arrow::compute::cast;
use arrow::datatypes::{DataType as ArrowType, Int64Type};
use asof_model::DataType;

use super::algebra::{Algebra, Function, Input, Outcome, argument};
use super::call::{CallError, FunctionCall};
use super::stored::{Reading, STATE_FORMAT, write_number};
use super::{Aggregate, Documentation};
use crate::ComputeError;

/// The sum of all values that are not null.
#[derive(Debug)]
pub(super) struct Sum;

impl Aggregate for Sum {
    fn name(&self) -> &'static str {
        "sum"
    }

    fn documentation(&self) -> Documentation {
        Documentation {
            usage: "sum(x)",
            about: "The sum of all values that are not null.",
            takes: "whole numbers",
            gives: "int64",
            state: "24 bytes",
            error: None,
            example: "sum(int64)",
        }
    }

    fn function(&self, call: &FunctionCall) -> Result<Function, CallError> {
        call.no_constants(self.name(), self.documentation().usage)?;
        match call.argument(self.name())? {
            DataType::Int8
            | DataType::Int16
            | DataType::Int32
            | DataType::Int64
            | DataType::UInt8
            | DataType::UInt16
            | DataType::UInt32 => Ok(Function::new(IntSum)),
            found => Err(CallError::Argument {
                aggregate: self.name(),
                takes: self.documentation().takes,
                found: found.clone(),
            }),
        }
    }
}

/// Sums of whole numbers.
#[derive(Debug)]
struct IntSum;

/// How many values there are, and their sum, in halves so that a state needs no room to be aligned by 16.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct IntTotal {
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
        self.count += count;
    }
}

impl Algebra for IntSum {
    type State = IntTotal;
    type Values = ScalarBuffer<i64>;
    type Output = Int64Builder;

    const INVERTIBLE: bool = true;

    fn data_type(&self) -> DataType {
        DataType::Int64
    }

    fn empty(&self) -> IntTotal {
        IntTotal { low: 0, high: 0, count: 0 }
    }

    fn is_empty(&self, state: &IntTotal) -> bool {
        *state == self.empty()
    }

    fn values(&self, input: &Input) -> Result<ScalarBuffer<i64>, ComputeError> {
        let array = argument(input)?;
        let wrong =
            || ComputeError::WrongType { expected: DataType::Int64, found: array.data_type().to_string() };
        let array = cast(array, &ArrowType::Int64).map_err(|_| wrong())?;
        Ok(array.as_primitive::<Int64Type>().values().clone())
    }

    #[inline]
    fn update(&self, state: &mut IntTotal, values: &ScalarBuffer<i64>, row: usize) {
        state.add(i128::from(values[row]), 1);
    }

    #[inline]
    fn merge(&self, state: &mut IntTotal, other: &IntTotal) {
        state.add(other.sum(), other.count);
    }

    #[inline]
    fn withdraw(&self, state: &mut IntTotal, values: &ScalarBuffer<i64>, row: usize) {
        state.add(-i128::from(values[row]), -1);
    }

    #[inline]
    fn subtract(&self, state: &mut IntTotal, other: &IntTotal) {
        state.add(other.sum().wrapping_neg(), -other.count);
    }

    fn finish(&self, state: &IntTotal, _: i64, out: &mut Int64Builder) -> Outcome {
        if state.count == 0 {
            out.append_null();
            return Outcome::Nothing;
        }
        match i64::try_from(state.sum()) {
            Ok(sum) => {
                out.append_value(sum);
                Outcome::Present
            }
            Err(_) => {
                out.append_null();
                Outcome::Overflow
            }
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
