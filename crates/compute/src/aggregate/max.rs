//! `max(x)`.

use std::cmp::Ordering;

use super::algebra::Function;
use super::call::{CallError, FunctionCall};
use super::{Aggregate, Documentation, extreme};

/// The greatest value.
#[derive(Debug)]
pub(super) struct Max;

impl Aggregate for Max {
    fn name(&self) -> &'static str {
        "max"
    }

    fn documentation(&self) -> Documentation {
        Documentation {
            usage: "max(x)",
            about: "The greatest value. -0 is +0, and NaN is greater than every number; false comes before true, and text \
                    and bytes are compared byte by byte.",
            takes: extreme::TAKES,
            gives: "the type of x",
            state: "16 bytes; 32 of a decimal or a uuid; a text of more than 15 bytes as well",
            error: None,
            example: "max(float64)",
        }
    }

    fn function(&self, call: &FunctionCall) -> Result<Function, CallError> {
        extreme::extreme(self.name(), &self.documentation(), call, Ordering::Greater)
    }
}
