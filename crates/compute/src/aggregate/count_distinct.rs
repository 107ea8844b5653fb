//! `count_distinct(x)`: exactly.

use super::algebra::Function;
use super::call::{CallError, FunctionCall};
use super::multiset::{Asked, multiset};
use super::{Aggregate, Documentation};

/// How many different values more than which are an overflow, where no cap is written.
pub(super) const CAP: u64 = 100_000;

/// How many different values there are.
#[derive(Debug)]
pub(super) struct CountDistinct;

impl Aggregate for CountDistinct {
    fn name(&self) -> &'static str {
        "count_distinct"
    }

    fn documentation(&self) -> Documentation {
        Documentation {
            usage: "count_distinct(x), count_distinct(x, cap)",
            about: "How many different values there are, exactly; 0 where there are none. `count(distinct x)` is the \
                    same. -0 is +0, and every NaN is the same. Of more than `cap`, which is 100000 where it is not \
                    written, it is an overflow; `approx_distinct` has no cap.",
            takes: "any type",
            gives: "int64",
            state: "each different value with its count: without more room for up to 3 values of 8 bytes or 15 \
                    letters, 16 to 32 bytes for each above",
            error: None,
            example: "count_distinct(string, 1000)",
        }
    }

    fn function(&self, call: &FunctionCall) -> Result<Function, CallError> {
        let of = call.argument(self.name())?;
        let mut constants = call.constants(self.name(), self.documentation().usage);
        let cap = constants.whole("cap", 1..=i64::MAX, Some(CAP))?;
        constants.end()?;
        Ok(multiset(of, Asked::Distinct { cap }))
    }
}
