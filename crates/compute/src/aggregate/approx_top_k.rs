//! `approx_top_k(x, k)`: exact counts up to a cap, since a sketch of frequent values depends on the order of rows.

use super::algebra::Function;
use super::call::{CallError, FunctionCall};
use super::multiset::{Asked, multiset};
use super::{Aggregate, Documentation};

/// How many different values more than which are an overflow, where no cap is written.
const CAP: u64 = 100_000;

/// The most frequent values.
#[derive(Debug)]
pub(super) struct ApproxTopK;

impl Aggregate for ApproxTopK {
    fn name(&self) -> &'static str {
        "approx_top_k"
    }

    fn documentation(&self) -> Documentation {
        Documentation {
            usage: "approx_top_k(x, k), approx_top_k(x, k, cap)",
            about: "The `k` most frequent values with how often they are there, the most frequent first, those as \
                    frequent in value order. The counts are exact. Of more different values than `cap`, which is \
                    100000 where it is not written, it is an overflow.",
            takes: "any type",
            gives: "list<struct<value: the type of x, count: int64>>",
            state: "that of `count_distinct`, and one with it",
            error: None,
            example: "approx_top_k(string, 3)",
        }
    }

    fn function(&self, call: &FunctionCall) -> Result<Function, CallError> {
        let of = call.argument(self.name())?;
        let mut constants = call.constants(self.name(), self.documentation().usage);
        let first = constants.whole("k", 1..=10_000, None)?;
        let cap = constants.whole("cap", 1..=i64::MAX, Some(CAP))?;
        constants.end()?;
        Ok(multiset(of, Asked::Top { first, cap }))
    }
}
