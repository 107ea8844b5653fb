//! `last(x)`.

use super::algebra::Function;
use super::call::{CallError, FunctionCall};
use super::picked::{self, End};
use super::{Aggregate, Documentation};

/// The value of the last row.
#[derive(Debug)]
pub(super) struct Last;

impl Aggregate for Last {
    fn name(&self) -> &'static str {
        "last"
    }

    fn documentation(&self) -> Documentation {
        Documentation {
            usage: "last(x)",
            about: "The value of the last row whose value is not null. Rows are in the order of their event time, then \
                    their visible time, then the source's `order_by`, then their acceptance.",
            takes: "any type",
            gives: "the type of x",
            state: "the value and its row's place: 72 or 80 bytes, and the bytes of `order_by`",
            error: None,
            example: "last(string)",
        }
    }

    fn function(&self, call: &FunctionCall) -> Result<Function, CallError> {
        call.no_constants(self.name(), self.documentation().usage)?;
        Ok(picked::one(call.argument(self.name())?, End::Last))
    }
}
