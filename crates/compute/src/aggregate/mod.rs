//! Aggregates: mergeable, order-free states (SEMANTICS 3.2). One aggregate is one file here and one line in
//! [`CATALOGUE`]; the offline operator, the online store, the tests of the laws and the reference page all
//! walk that list.
//!
//! An [`Aggregate`] is a member of the catalogue: its name, what it takes, its documentation. Asked for an argument
//! of some type and for constants, it gives a [`Function`]: the same with its types known. Behind a
//! function stands an [`Algebra`], which says what is kept of rows and what that comes to; [`States`] hold it, a
//! state for each slot.
//!
//! Invariant: whatever the order and the grouping in which rows come, the state encodes to the same bytes and
//! finishes to the same bits.

mod algebra;
mod approx_distinct;
mod approx_quantile;
mod approx_top_k;
mod call;
mod collect_list;
mod count;
mod count_distinct;
mod counts;
mod decayed;
mod exact;
mod extreme;
mod first;
mod first_n;
mod gathering;
mod histogram;
mod last;
mod last_n;
mod last_seen;
#[cfg(test)]
mod laws;
mod max;
mod mean;
mod min;
mod multiset;
mod output;
mod picked;
mod scalar;
mod spread;
mod states;
mod stored;
mod sum;
mod tally;
mod total;
mod variance;

pub use algebra::{Function, Input, Outcome, Prepared};
pub use call::{CallError, Constant, FunctionCall};
pub use count::rows_that_count;
pub use gathering::{GatheredBytes, Gathering};
pub use output::Finished;
pub use states::{Changes, Ranges, States, covering};

/// A member of the catalogue.
pub trait Aggregate: Sync {
    /// As users write it.
    fn name(&self) -> &'static str;

    /// Other names for it.
    fn aliases(&self) -> &'static [&'static str] {
        &[]
    }

    /// What the reference page says of it.
    fn documentation(&self) -> Documentation;

    /// The aggregate for an argument of a type and for constants.
    ///
    /// # Errors
    /// [`CallError`] where it takes no such argument or constants.
    fn function(&self, call: &FunctionCall) -> Result<Function, CallError>;
}

/// What the reference page says of an aggregate.
#[derive(Debug, Clone, Copy)]
pub struct Documentation {
    /// What it is called with, e.g. `last_n(x, n)`.
    pub usage: &'static str,
    /// What it gives, in a sentence or two.
    pub about: &'static str,
    /// The types of its argument.
    pub takes: &'static str,
    /// The type of its value.
    pub gives: &'static str,
    /// What is kept of rows, and how large that is.
    pub state: &'static str,
    /// How far from exact it may be; none: it is exact.
    pub error: Option<&'static str>,
    /// A call with constants that a test resolves.
    pub example: &'static str,
}

/// Every aggregate, in the order of the reference page.
pub const CATALOGUE: &[&dyn Aggregate] = &[
    &count::Count,
    &sum::Sum,
    &mean::Mean,
    &min::Min,
    &max::Max,
    &variance::VARIANCE,
    &variance::VARIANCE_POP,
    &variance::STDDEV,
    &variance::STDDEV_POP,
    &first::First,
    &last::Last,
    &first_n::FirstN,
    &last_n::LastN,
    &count_distinct::CountDistinct,
    &approx_distinct::ApproxDistinct,
    &histogram::Histogram,
    &collect_list::CollectList,
    &approx_top_k::ApproxTopK,
    &approx_quantile::ApproxQuantile,
    &decayed::DecayedSum,
    &decayed::DecayedCount,
];

/// The aggregate of a name or an alias, whatever its case.
pub fn aggregate(name: &str) -> Option<&'static dyn Aggregate> {
    let is = |known: &str| known.eq_ignore_ascii_case(name);
    CATALOGUE
        .iter()
        .copied()
        .find(|aggregate| is(aggregate.name()) || aggregate.aliases().iter().any(|alias| is(alias)))
}
