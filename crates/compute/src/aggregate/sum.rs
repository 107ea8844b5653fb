//! `sum(x)`.

use super::algebra::Function;
use super::call::{CallError, FunctionCall};
use super::total::{Finish, NUMBERS, total};
use super::{Aggregate, Documentation};

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
            about: "The sum of all values that are not null, exactly: of floats the exact sum, rounded once. Out of \
                    range, judged when it is asked for, whole numbers and decimals are null with the status \
                    `overflow`, and floats are infinite.",
            takes: NUMBERS,
            gives: "int64 of whole numbers, decimal(38,s) of decimal(p,s), float64 of floats",
            state: "the exact sum and a count: 24 bytes of whole numbers, else 32, and some 16 for each 64 bits of \
                    the sum where values differ by more than 2^70 or so",
            error: None,
            example: "sum(float64)",
        }
    }

    fn function(&self, call: &FunctionCall) -> Result<Function, CallError> {
        total(Finish::Sum, call, self.name(), self.documentation().usage)
    }
}
