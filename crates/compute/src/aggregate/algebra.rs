//! What an aggregate keeps of rows, and the same with its types forgotten.

use std::any::Any;
use std::fmt;
use std::ops::Range;
use std::sync::Arc;

use arrow::array::{Array, ArrayRef};
use arrow::buffer::{NullBuffer, ScalarBuffer};
use asof_model::DataType;

use super::gathering::{GatheredBytes, Gathering, Listed};
use super::output::{Finished, Output};
use super::states::{Changes, Ranges, States};
use crate::{ComputeError, RowOrder};

/// The rows of a batch, as aggregates read them.
#[derive(Debug, Clone)]
pub struct Input {
    /// The argument, of the type that the function was made for; none for `*`.
    pub values: Option<ArrayRef>,
    /// The event time of each row; may be empty where [`Function::needs_times`] is false.
    pub event_times: ScalarBuffer<i64>,
    /// The place of each row in the order of its source; empty where [`Function::needs_order`] is false.
    pub orders: Arc<[RowOrder]>,
}

/// What an answer is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum Outcome {
    /// Something counted, or the answer is 0.
    Present,
    /// Nothing counted.
    Nothing,
    /// The value is out of range, or more than the cap counted.
    Overflow,
}

/// One aggregate with the type of its argument and its constants: what it keeps of rows and what that comes to.
pub(crate) trait Algebra: fmt::Debug + Send + Sync + 'static {
    /// What is kept of some rows; the default is that of none. Equal states encode to equal bytes, and states of the
    /// same rows are equal.
    type State: Clone + fmt::Debug + Send + Sync + 'static;
    /// The argument's values, ready to be read row by row.
    type Values: Send + Sync + 'static;
    /// A row as it is listed, where [`Algebra::LISTED`].
    type Row: Clone + Default + fmt::Debug + Send + Sync + 'static;
    /// Collects what states come to.
    type Output: Output;

    /// Whether rows can be taken out again.
    const INVERTIBLE: bool;
    /// Whether it reads [`Input::orders`].
    const ORDERED: bool = false;
    /// Whether it reads [`Input::event_times`].
    const TIMED: bool = false;
    /// Whether rows that come in numbers are listed before they are states ([`super::gathering`]); only of invertible ones.
    const LISTED: bool = false;

    /// The type of its value.
    fn data_type(&self) -> DataType;

    /// What tells apart functions of this kind whose states differ, e.g. a half-life; two of equal ones share states.
    fn state_id(&self) -> String {
        String::new()
    }

    /// The state of no rows.
    fn empty(&self) -> Self::State;

    /// Makes a state that of no rows, where more will come: it may keep its room.
    fn reset(&self, state: &mut Self::State) {
        *state = self.empty();
    }

    /// Whether a state is that of no rows.
    fn is_empty(&self, state: &Self::State) -> bool;

    /// Reads a batch; nulls need no value.
    fn values(&self, input: &Input) -> Result<Self::Values, ComputeError>;

    /// Takes in a row whose argument is not null.
    fn update(&self, state: &mut Self::State, values: &Self::Values, row: usize);

    /// A row to be listed, whose argument is not null.
    fn row(&self, _values: &Self::Values, _row: usize) -> Self::Row {
        Self::Row::default()
    }

    /// Bytes a listed row holds besides itself.
    fn row_heap(&self, _row: &Self::Row) -> usize {
        0
    }

    /// Takes a listed row in.
    fn take(&self, _state: &mut Self::State, _row: &Self::Row) {}

    /// Takes a listed row out.
    fn give(&self, _state: &mut Self::State, _row: &Self::Row) {}

    /// Takes in all that another state has.
    fn merge(&self, state: &mut Self::State, other: &Self::State);

    /// Takes a row out that [`Algebra::update`] took in or will; asked where [`Algebra::INVERTIBLE`].
    fn withdraw(&self, _state: &mut Self::State, _values: &Self::Values, _row: usize) {}

    /// Takes out all that another state has; asked where [`Algebra::INVERTIBLE`].
    fn subtract(&self, _state: &mut Self::State, _other: &Self::State) {}

    /// What a state comes to at a time.
    fn finish(&self, state: &Self::State, at: i64, out: &mut Self::Output) -> Outcome;

    /// What finds the numbers of several windows at once, where it is finished of a number ([`Algebra::finish_number`]).
    fn sweep(&self) -> Option<Box<dyn Sweep<Self::Row>>> {
        None
    }

    /// What a state is finished of.
    fn number(&self, _state: &Self::State) -> u64 {
        0
    }

    /// What a number comes to.
    fn finish_number(&self, _number: u64, _out: &mut Self::Output) -> Outcome {
        Outcome::Nothing
    }

    /// The canonical bytes of a state, behind a version byte.
    fn encode(&self, state: &Self::State, out: &mut Vec<u8>);

    /// The state that bytes of [`Algebra::encode`] hold.
    fn decode(&self, bytes: &[u8]) -> Result<Self::State, ComputeError>;

    /// Takes in the state that bytes hold.
    fn merge_encoded(&self, state: &mut Self::State, bytes: &[u8]) -> Result<(), ComputeError> {
        self.merge(state, &self.decode(bytes)?);
        Ok(())
    }

    /// Bytes a state holds besides itself.
    fn heap(&self, _state: &Self::State) -> usize {
        0
    }
}

/// Finds numbers for the answers of one key after the other, over rows that are listed.
pub(crate) trait Sweep<R> {
    /// Appends those of a key to the lists of windows that end together: for each the slots that it covers at each answer.
    fn key(&mut self, rows: &Listed<R>, windows: &[&[(u32, u32)]], numbers: &mut [Vec<u64>]);
}

/// An aggregate with its types known: what is asked of it everywhere.
#[derive(Debug, Clone)]
pub struct Function(pub(super) Arc<dyn Erased>);

/// A batch as one function reads it.
pub struct Prepared {
    pub(super) values: Box<dyn Any + Send + Sync>,
    pub(super) nulls: Option<NullBuffer>,
}

impl Prepared {
    /// Whether the argument of some row is null.
    pub fn has_nulls(&self) -> bool {
        self.nulls.is_some()
    }
}

impl fmt::Debug for Prepared {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Prepared").finish_non_exhaustive()
    }
}

/// An algebra whose types are forgotten. Each method's states and batches are of this algebra, or of one that shares
/// its states.
pub(super) trait Erased: fmt::Debug + Send + Sync {
    fn data_type(&self) -> DataType;
    fn is_invertible(&self) -> bool;
    fn needs_order(&self) -> bool;
    fn needs_times(&self) -> bool;
    fn state_id(&self) -> (std::any::TypeId, String);
    fn states(&self, count: usize) -> States;
    fn grow(&self, states: &mut States, count: usize);
    fn gathering(&self, slots: usize) -> Gathering;
    fn gather(&self, to: &mut Gathering, count: usize, slots: &[u32], rows: &[u32], batch: &Prepared);
    fn gather_encoded(
        &self,
        to: &mut Gathering,
        count: usize,
        slot: u32,
        bytes: &[u8],
    ) -> Result<(), ComputeError>;
    fn gathered(&self, from: Gathering, order: &[u32]) -> States;
    fn copied(&self, from: &Gathering) -> Gathering;
    fn prepare(&self, input: &Input) -> Result<Prepared, ComputeError>;
    fn update(&self, states: &mut States, slots: &[u32], rows: &[u32], batch: &Prepared);
    fn withdraw(&self, states: &mut States, slots: &[u32], rows: &[u32], batch: &Prepared);
    fn merge(&self, states: &mut States, slot: u32, other: &States, from: u32);
    fn subtract(&self, states: &mut States, slot: u32, other: &States, from: u32);
    fn accumulate(&self, states: &mut States, slots: Range<u32>);
    fn clear(&self, states: &mut States, slot: u32);
    fn is_empty(&self, states: &States, slot: u32) -> bool;
    fn encode(&self, states: &States, slot: u32, out: &mut Vec<u8>);
    fn merge_encoded(&self, states: &mut States, slot: u32, bytes: &[u8]) -> Result<(), ComputeError>;
    fn finish(&self, states: &States, slots: &[u32], at: &[i64]) -> Finished;
    fn as_any(&self) -> &dyn Any;
    fn answers(
        &self,
        others: &[&Function],
        states: &States,
        ranges: &Ranges<'_>,
        changes: Changes<'_>,
    ) -> Vec<Finished>;
    fn is_number(&self) -> bool;
    fn numbers(&self, states: &States, windows: &[(Ranges<'_>, Changes<'_>)]) -> Option<Vec<Vec<u64>>>;
    fn finish_numbers(&self, numbers: &[u64]) -> Finished;
    fn bytes(&self, states: &States) -> usize;
    fn gathered_bytes(&self, of: &Gathering) -> GatheredBytes;
}

impl Function {
    pub(crate) fn new<A: Algebra>(algebra: A) -> Function {
        Function(Arc::new(super::states::Kind(algebra)))
    }

    /// The type of its value.
    pub fn data_type(&self) -> DataType {
        self.0.data_type()
    }

    /// Whether rows can be taken out of its states again.
    pub fn is_invertible(&self) -> bool {
        self.0.is_invertible()
    }

    /// Whether it reads the order of rows.
    pub fn needs_order(&self) -> bool {
        self.0.needs_order()
    }

    /// Whether it reads when rows happened.
    pub fn needs_times(&self) -> bool {
        self.0.needs_times()
    }

    /// Whether another function of the same rows keeps the same states, so that one of the two is enough.
    pub fn shares_states_with(&self, other: &Function) -> bool {
        self.0.state_id() == other.0.state_id()
    }

    /// So many states of no rows.
    pub fn states(&self, count: usize) -> States {
        self.0.states(count)
    }

    /// Makes them so many, the further ones of no rows.
    pub fn grow(&self, states: &mut States, count: usize) {
        self.0.grow(states, count);
    }

    /// States of no rows yet, of about so many slots at most.
    pub fn gathering(&self, slots: usize) -> Gathering {
        self.0.gathering(slots)
    }

    /// Takes rows in, each into its slot of so many that are used by now.
    pub fn gather(&self, to: &mut Gathering, count: usize, slots: &[u32], rows: &[u32], batch: &Prepared) {
        self.0.gather(to, count, slots, rows, batch);
    }

    /// Takes in what encoded bytes hold, as [`Function::merge_encoded`] does.
    ///
    /// # Errors
    /// [`ComputeError::Damaged`] where they are no such state.
    pub fn gather_encoded(
        &self,
        to: &mut Gathering,
        count: usize,
        slot: u32,
        bytes: &[u8],
    ) -> Result<(), ComputeError> {
        self.0.gather_encoded(to, count, slot, bytes)
    }

    /// The states of all slots in another order: first the one that `order` names first. Each is named once.
    pub fn gathered(&self, from: Gathering, order: &[u32]) -> States {
        self.0.gathered(from, order)
    }

    /// The same again, of this function or of one that shares its states.
    pub fn copied(&self, from: &Gathering) -> Gathering {
        self.0.copied(from)
    }

    /// Reads a batch.
    ///
    /// # Errors
    /// [`ComputeError::WrongType`] where the argument is of another type.
    pub fn prepare(&self, input: &Input) -> Result<Prepared, ComputeError> {
        self.0.prepare(input)
    }

    /// Takes rows in, each into its slot. Rows whose argument is null are passed over.
    pub fn update(&self, states: &mut States, slots: &[u32], rows: &[u32], batch: &Prepared) {
        self.0.update(states, slots, rows, batch);
    }

    /// Takes rows out again. Of an aggregate that cannot, does nothing.
    pub fn withdraw(&self, states: &mut States, slots: &[u32], rows: &[u32], batch: &Prepared) {
        self.0.withdraw(states, slots, rows, batch);
    }

    /// Takes in all that a slot of other states has.
    pub fn merge(&self, states: &mut States, slot: u32, other: &States, from: u32) {
        self.0.merge(states, slot, other, from);
    }

    /// Takes out all that a slot of other states has. Of an aggregate that cannot, does nothing.
    pub fn subtract(&self, states: &mut States, slot: u32, other: &States, from: u32) {
        self.0.subtract(states, slot, other, from);
    }

    /// Makes each of some slots hold what those after it hold, too.
    pub fn accumulate(&self, states: &mut States, slots: Range<u32>) {
        self.0.accumulate(states, slots);
    }

    /// Makes a slot that of no rows.
    pub fn clear(&self, states: &mut States, slot: u32) {
        self.0.clear(states, slot);
    }

    /// Whether a slot is that of no rows.
    pub fn is_empty(&self, states: &States, slot: u32) -> bool {
        self.0.is_empty(states, slot)
    }

    /// Appends the canonical bytes of a slot's state.
    pub fn encode(&self, states: &States, slot: u32, out: &mut Vec<u8>) {
        self.0.encode(states, slot, out);
    }

    /// Takes in what encoded bytes hold.
    ///
    /// # Errors
    /// [`ComputeError::Damaged`] where they are no such state.
    pub fn merge_encoded(&self, states: &mut States, slot: u32, bytes: &[u8]) -> Result<(), ComputeError> {
        self.0.merge_encoded(states, slot, bytes)
    }

    /// What slots come to, each at its time.
    pub fn finish(&self, states: &States, slots: &[u32], at: &[i64]) -> Finished {
        self.0.finish(states, slots, at)
    }

    /// What windows come to, each over a range of slots.
    pub fn answer(&self, states: &States, ranges: &Ranges<'_>, changes: Changes<'_>) -> Finished {
        self.0.answers(&[], states, ranges, changes).remove(0)
    }

    /// What windows come to by this function and by others that share its states, which are gone through once for all.
    pub fn answers(
        &self,
        others: &[&Function],
        states: &States,
        ranges: &Ranges<'_>,
        changes: Changes<'_>,
    ) -> Vec<Finished> {
        self.0.answers(others, states, ranges, changes)
    }

    /// Whether it is finished of a number, e.g. of how many values differ: [`Function::numbers`].
    pub fn is_number(&self) -> bool {
        self.0.is_number()
    }

    /// Of [`Function::is_number`] the numbers that several windows come to, which takes about as long as those of one;
    /// none of another.
    pub fn numbers(&self, states: &States, windows: &[(Ranges<'_>, Changes<'_>)]) -> Option<Vec<Vec<u64>>> {
        self.0.numbers(states, windows)
    }

    /// What the numbers of a window come to.
    pub fn finish_numbers(&self, numbers: &[u64]) -> Finished {
        self.0.finish_numbers(numbers)
    }

    /// Bytes that states hold.
    pub fn bytes(&self, states: &States) -> usize {
        self.0.bytes(states)
    }

    /// Bytes that rows which are in no state yet take at most, and what states held when it was last looked at: now and
    /// then, as rows come.
    pub fn gathered_bytes(&self, of: &Gathering) -> GatheredBytes {
        self.0.gathered_bytes(of)
    }
}

/// The argument of an aggregate that takes one.
pub(crate) fn argument(input: &Input) -> Result<&ArrayRef, ComputeError> {
    input.values.as_ref().ok_or(ComputeError::Unsupported { found: "no argument".to_owned() })
}

pub(super) fn nulls(input: &Input) -> Option<NullBuffer> {
    input.values.as_ref()?.logical_nulls().filter(|nulls| nulls.null_count() > 0)
}
