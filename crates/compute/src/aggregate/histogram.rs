//! `histogram(x)`.

use super::algebra::Function;
use super::call::{CallError, FunctionCall};
use super::multiset::{Asked, multiset};
use super::{Aggregate, Documentation};

/// How many different values more than which are an overflow, where no cap is written.
const CAP: u64 = 10_000;

/// Each value with its count.
#[derive(Debug)]
pub(super) struct Histogram;

impl Aggregate for Histogram {
    fn name(&self) -> &'static str {
        "histogram"
    }

    fn documentation(&self) -> Documentation {
        Documentation {
            usage: "histogram(x), histogram(x, cap)",
            about: "Each different value with how often it is there, in value order. Of more different values than \
                    `cap`, which is 10000 where it is not written, it is an overflow.",
            takes: "any type",
            gives: "list<struct<value: the type of x, count: int64>>",
            state: "that of `count_distinct`, and one with it",
            error: None,
            example: "histogram(string, 50)",
        }
    }

    fn function(&self, call: &FunctionCall) -> Result<Function, CallError> {
        let of = call.argument(self.name())?;
        let mut constants = call.constants(self.name(), self.documentation().usage);
        let cap = constants.whole("cap", 1..=i64::MAX, Some(CAP))?;
        constants.end()?;
        Ok(multiset(of, Asked::Histogram { cap }))
    }
}
