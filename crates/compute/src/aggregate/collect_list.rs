//! `collect_list(x)`.

use super::algebra::Function;
use super::call::{CallError, FunctionCall};
use super::multiset::{Asked, multiset};
use super::{Aggregate, Documentation};

/// How many values more than which are an overflow, where no cap is written.
const CAP: u64 = 10_000;

/// All values.
#[derive(Debug)]
pub(super) struct CollectList;

impl Aggregate for CollectList {
    fn name(&self) -> &'static str {
        "collect_list"
    }

    fn aliases(&self) -> &'static [&'static str] {
        &["array_agg"]
    }

    fn documentation(&self) -> Documentation {
        Documentation {
            usage: "collect_list(x), collect_list(x, cap)",
            about: "All values that are not null, in value order, equal ones as often as they are there. Of more than \
                    `cap`, which is 10000 where it is not written and at most 1000000, it is an overflow. In the order \
                    of rows: `last_n`.",
            takes: "any type",
            gives: "list<the type of x>",
            state: "that of `count_distinct`, and one with it",
            error: None,
            example: "collect_list(string, 100)",
        }
    }

    fn function(&self, call: &FunctionCall) -> Result<Function, CallError> {
        let of = call.argument(self.name())?;
        let mut constants = call.constants(self.name(), self.documentation().usage);
        let cap = constants.whole("cap", 1..=1_000_000, Some(CAP))?;
        constants.end()?;
        Ok(multiset(of, Asked::List { cap }))
    }
}
