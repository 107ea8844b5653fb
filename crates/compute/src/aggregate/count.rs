//! `count(*)` and `count(x)`.

use arrow::array::Int64Builder;
use asof_model::DataType;

use super::algebra::{Algebra, Function, Input, Outcome};
use super::call::{CallError, FunctionCall};
use super::stored::{Reading, STATE_FORMAT, write_number};
use super::{Aggregate, Documentation};
use crate::ComputeError;

/// How many rows there are, or how many whose argument is not null.
#[derive(Debug)]
pub(super) struct Count;

impl Aggregate for Count {
    fn name(&self) -> &'static str {
        "count"
    }

    fn documentation(&self) -> Documentation {
        Documentation {
            usage: "count(*), count(x)",
            about: "How many rows there are; with an argument, how many where it is not null. 0 where there are none.",
            takes: "`*`, or any type",
            gives: "int64",
            state: "a number of 8 bytes",
            error: None,
            example: "count(*)",
        }
    }

    fn function(&self, call: &FunctionCall) -> Result<Function, CallError> {
        call.no_constants(self.name(), self.documentation().usage)?;
        Ok(Function::new(Counted))
    }
}

/// `count(*)`.
pub fn rows_that_count() -> Function {
    Function::new(Counted)
}

#[derive(Debug)]
struct Counted;

impl Algebra for Counted {
    type State = i64;
    type Values = ();
    type Row = ();
    type Output = Int64Builder;

    const INVERTIBLE: bool = true;

    fn data_type(&self) -> DataType {
        DataType::Int64
    }

    fn empty(&self) -> i64 {
        0
    }

    fn is_empty(&self, state: &i64) -> bool {
        *state == 0
    }

    fn values(&self, _: &Input) -> Result<(), ComputeError> {
        Ok(())
    }

    #[inline]
    fn update(&self, state: &mut i64, (): &(), _: usize) {
        *state += 1;
    }

    #[inline]
    fn merge(&self, state: &mut i64, other: &i64) {
        *state += other;
    }

    #[inline]
    fn withdraw(&self, state: &mut i64, (): &(), _: usize) {
        *state -= 1;
    }

    #[inline]
    fn subtract(&self, state: &mut i64, other: &i64) {
        *state -= other;
    }

    fn finish(&self, state: &i64, _: i64, out: &mut Int64Builder) -> Outcome {
        out.append_value(*state);
        Outcome::Present
    }

    fn encode(&self, state: &i64, out: &mut Vec<u8>) {
        out.push(STATE_FORMAT);
        write_number(i128::from(*state), out);
    }

    fn decode(&self, bytes: &[u8]) -> Result<i64, ComputeError> {
        Reading::new("count", STATE_FORMAT, bytes)?.whole(|from| from.number())
    }
}
