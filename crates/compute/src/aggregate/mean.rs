//! `mean(x)`.

use super::algebra::Function;
use super::call::{CallError, FunctionCall};
use super::total::{Finish, NUMBERS, total};
use super::{Aggregate, Documentation};

/// The mean of all values that are not null.
#[derive(Debug)]
pub(super) struct Mean;

impl Aggregate for Mean {
    fn name(&self) -> &'static str {
        "mean"
    }

    fn aliases(&self) -> &'static [&'static str] {
        &["avg"]
    }

    fn documentation(&self) -> Documentation {
        Documentation {
            usage: "mean(x)",
            about: "The mean of all values that are not null: the exact sum by the count, rounded once.",
            takes: NUMBERS,
            gives: "float64",
            state: "that of `sum`",
            error: None,
            example: "mean(float64)",
        }
    }

    fn function(&self, call: &FunctionCall) -> Result<Function, CallError> {
        total(Finish::Mean, call, self.name(), self.documentation().usage)
    }
}
