//! `last_n(x, n)`.

use super::algebra::Function;
use super::call::{CallError, FunctionCall};
use super::picked::{self, End};
use super::{Aggregate, Documentation};

/// The values of the last so many rows.
#[derive(Debug)]
pub(super) struct LastN;

impl Aggregate for LastN {
    fn name(&self) -> &'static str {
        "last_n"
    }

    fn documentation(&self) -> Documentation {
        Documentation {
            usage: "last_n(x, n)",
            about: "The values of the last `n` rows whose value is not null, oldest first. Fewer where there are fewer; \
                    `n` is from 1 to 10000. Rows are in the order that `last` has.",
            takes: "any type",
            gives: "list<the type of x>",
            state: "up to `n` values with their rows' places, each 72 or 80 bytes and the bytes of `order_by`",
            error: None,
            example: "last_n(float64, 10)",
        }
    }

    fn function(&self, call: &FunctionCall) -> Result<Function, CallError> {
        let of = call.argument(self.name())?;
        let mut constants = call.constants(self.name(), self.documentation().usage);
        let count = constants.whole("n", 1..=10_000, None)?;
        constants.end()?;
        Ok(picked::several(of, End::Last, usize::try_from(count).unwrap_or(usize::MAX)))
    }
}
