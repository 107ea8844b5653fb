//! The states of many slots, and what windows over them come to.

use std::any::{Any, TypeId};
use std::fmt;

use arrow::array::new_null_array;
use asof_model::DataType;

use super::algebra::{Algebra, Erased, Input, Outcome, Prepared, nulls};
use super::output::{Finished, Output};
use crate::{ComputeError, arrow_type};

/// The states of many slots, of one function.
pub struct States(Box<dyn Any + Send + Sync>);

impl fmt::Debug for States {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("States").finish_non_exhaustive()
    }
}

/// Which slots the window of each answer covers.
#[derive(Debug, Clone, Copy)]
pub struct Ranges<'a> {
    /// Where the answers of each key begin, and those of the last end.
    pub keys: &'a [u32],
    /// For each answer the slots that its window covers, half-open; both ends ascend within a key.
    pub covered: &'a [(u32, u32)],
    /// The time of each answer.
    pub times: &'a [i64],
}

/// What holds for some of a key's answers only, beside what slots hold: rows that were late, or ended before their
/// window did.
#[derive(Debug, Clone, Copy)]
pub enum Changes<'a> {
    /// Nothing.
    None,
    /// Of invertible functions: a state for each answer, to be taken in from that answer of its key on.
    Steps(&'a States),
    /// Of others: the nodes of a segment tree over each key's answers, two for each answer ([`covering`]).
    Tree(&'a States),
}

/// The nodes of the segment tree over `count` answers that cover those from `from` until `until`, counted from the
/// key's first node.
pub fn covering(count: u32, from: u32, until: u32, mut node: impl FnMut(u32)) {
    let (mut left, mut right) = (from + count, until + count);
    while left < right {
        if left & 1 == 1 {
            node(left);
            left += 1;
        }
        if right & 1 == 1 {
            right -= 1;
            node(right);
        }
        left >>= 1;
        right >>= 1;
    }
}

/// An algebra as [`Erased`].
#[derive(Debug)]
pub(super) struct Kind<A>(pub(super) A);

impl<A: Algebra> Kind<A> {
    fn of(states: &States) -> &Vec<A::State> {
        // A function is only ever given its own states; any other would be none of them.
        static_or_empty(states.0.downcast_ref())
    }

    fn of_mut(states: &mut States) -> &mut [A::State] {
        states.0.downcast_mut::<Vec<A::State>>().map_or(&mut [], Vec::as_mut_slice)
    }

    /// Rows and their slots, but for those whose argument is null.
    fn each(slots: &[u32], rows: &[u32], batch: &Prepared, mut take: impl FnMut(&A::Values, usize, usize)) {
        let Some(values) = batch.values.downcast_ref::<A::Values>() else { return };
        match &batch.nulls {
            None => {
                for (slot, row) in slots.iter().zip(rows) {
                    take(values, *slot as usize, *row as usize);
                }
            }
            Some(nulls) => {
                for (slot, row) in slots.iter().zip(rows) {
                    if nulls.is_valid(*row as usize) {
                        take(values, *slot as usize, *row as usize);
                    }
                }
            }
        }
    }
}

fn static_or_empty<S>(found: Option<&Vec<S>>) -> &Vec<S> {
    found.unwrap_or(const { &Vec::new() })
}

impl<A: Algebra> Erased for Kind<A> {
    fn data_type(&self) -> DataType {
        self.0.data_type()
    }

    fn is_invertible(&self) -> bool {
        A::INVERTIBLE
    }

    fn needs_order(&self) -> bool {
        A::ORDERED
    }

    fn state_id(&self) -> (TypeId, String) {
        (TypeId::of::<A>(), self.0.state_id())
    }

    fn states(&self, count: usize) -> States {
        States(Box::new(vec![self.0.empty(); count]))
    }

    fn grow(&self, states: &mut States, count: usize) {
        if let Some(states) = states.0.downcast_mut::<Vec<A::State>>() {
            states.resize(count, self.0.empty());
        }
    }

    fn ordered(&self, mut states: States, order: &[u32]) -> States {
        let from = Self::of_mut(&mut states);
        let take = |at: &u32| std::mem::replace(&mut from[*at as usize], self.0.empty());
        States(Box::new(order.iter().map(take).collect::<Vec<_>>()))
    }

    fn prepare(&self, input: &Input) -> Result<Prepared, ComputeError> {
        Ok(Prepared { values: Box::new(self.0.values(input)?), nulls: nulls(input) })
    }

    fn update(&self, states: &mut States, slots: &[u32], rows: &[u32], batch: &Prepared) {
        let states = Self::of_mut(states);
        Self::each(slots, rows, batch, |values, slot, row| self.0.update(&mut states[slot], values, row));
    }

    fn withdraw(&self, states: &mut States, slots: &[u32], rows: &[u32], batch: &Prepared) {
        let states = Self::of_mut(states);
        Self::each(slots, rows, batch, |values, slot, row| self.0.withdraw(&mut states[slot], values, row));
    }

    fn merge(&self, states: &mut States, slot: u32, other: &States, from: u32) {
        self.0.merge(&mut Self::of_mut(states)[slot as usize], &Self::of(other)[from as usize]);
    }

    fn subtract(&self, states: &mut States, slot: u32, other: &States, from: u32) {
        self.0.subtract(&mut Self::of_mut(states)[slot as usize], &Self::of(other)[from as usize]);
    }

    fn clear(&self, states: &mut States, slot: u32) {
        Self::of_mut(states)[slot as usize] = self.0.empty();
    }

    fn is_empty(&self, states: &States, slot: u32) -> bool {
        self.0.is_empty(&Self::of(states)[slot as usize])
    }

    fn encode(&self, states: &States, slot: u32, out: &mut Vec<u8>) {
        self.0.encode(&Self::of(states)[slot as usize], out);
    }

    fn merge_encoded(&self, states: &mut States, slot: u32, bytes: &[u8]) -> Result<(), ComputeError> {
        self.0.merge_encoded(&mut Self::of_mut(states)[slot as usize], bytes)
    }

    fn finish(&self, states: &States, slots: &[u32], at: &[i64]) -> Finished {
        let states = Self::of(states);
        let mut out = Answers::<A>::new(&self.0, slots.len());
        for (slot, at) in slots.iter().zip(at) {
            out.push(&states[*slot as usize], *at);
        }
        out.finish()
    }

    fn answer(&self, states: &States, ranges: &Ranges<'_>, changes: Changes<'_>) -> Finished {
        let mut out = Answers::<A>::new(&self.0, ranges.covered.len());
        let states = Self::of(states);
        let mut window = self.0.empty();
        for key in ranges.keys.windows(2) {
            let answers = key[0] as usize..key[1] as usize;
            let key = Key {
                algebra: &self.0,
                covered: &ranges.covered[answers.clone()],
                times: &ranges.times[answers.clone()],
                changes: match changes {
                    Changes::None => KeyChanges::None,
                    Changes::Steps(steps) => KeyChanges::Steps(&Self::of(steps)[answers]),
                    Changes::Tree(nodes) => {
                        KeyChanges::Tree(&Self::of(nodes)[answers.start * 2..answers.end * 2])
                    }
                },
            };
            if A::INVERTIBLE {
                key.slide(states, &mut window, &mut out);
            } else {
                key.stack(states, &mut out);
            }
        }
        out.finish()
    }

    fn bytes(&self, states: &States) -> usize {
        let states = Self::of(states);
        size_of::<A::State>() * states.len() + states.iter().map(|state| self.0.heap(state)).sum::<usize>()
    }
}

/// Answers as they are made.
struct Answers<'a, A: Algebra> {
    algebra: &'a A,
    values: A::Output,
    outcomes: Vec<Outcome>,
}

impl<'a, A: Algebra> Answers<'a, A> {
    fn new(algebra: &'a A, count: usize) -> Answers<'a, A> {
        let values = A::Output::new(&algebra.data_type(), count);
        Answers { algebra, values, outcomes: Vec::with_capacity(count) }
    }

    #[inline]
    fn push(&mut self, state: &A::State, at: i64) {
        self.outcomes.push(self.algebra.finish(state, at, &mut self.values));
    }

    fn finish(self) -> Finished {
        let count = self.outcomes.len();
        match self.values.finish() {
            Some(values) => Finished { values, outcomes: self.outcomes, is_too_large: false },
            None => Finished {
                values: new_null_array(&arrow_type(&self.algebra.data_type()), count),
                outcomes: vec![Outcome::Overflow; count],
                is_too_large: true,
            },
        }
    }
}

/// The answers of one key.
struct Key<'a, A: Algebra> {
    algebra: &'a A,
    covered: &'a [(u32, u32)],
    times: &'a [i64],
    changes: KeyChanges<'a, A::State>,
}

enum KeyChanges<'a, S> {
    None,
    Steps(&'a [S]),
    Tree(&'a [S]),
}

impl<A: Algebra> Key<'_, A> {
    /// Takes slots in and out as the window moves on. The room of `window` is used from key to key.
    fn slide(&self, states: &[A::State], window: &mut A::State, out: &mut Answers<'_, A>) {
        self.algebra.reset(window);
        let (mut start, mut end) = (0, 0);
        for (number, (covered, at)) in self.covered.iter().zip(self.times).enumerate() {
            let (from, until) = (covered.0 as usize, covered.1 as usize);
            if from >= end {
                match self.changes {
                    // Nothing else is in it.
                    KeyChanges::None => self.algebra.reset(window),
                    _ => self.take_out(&states[start..end], window),
                }
                (start, end) = (from, from);
            }
            for state in &states[end..until.max(end)] {
                self.algebra.merge(window, state);
            }
            end = until.max(end);
            self.take_out(&states[start..from.max(start)], window);
            start = from.max(start);
            if let KeyChanges::Steps(steps) = &self.changes {
                self.algebra.merge(window, &steps[number]);
            }
            out.push(window, *at);
        }
    }

    fn take_out(&self, states: &[A::State], window: &mut A::State) {
        for state in states {
            self.algebra.subtract(window, state);
        }
    }

    /// Two stacks: of the older slots what each suffix comes to, of the newer ones their sum.
    fn stack(&self, states: &[A::State], out: &mut Answers<'_, A>) {
        // older[i] covers the slots from `middle - 1 - i` until `middle`.
        let mut older: Vec<A::State> = Vec::new();
        let mut newer = self.algebra.empty();
        let (mut middle, mut end) = (0, 0);
        for (number, (covered, at)) in self.covered.iter().zip(self.times).enumerate() {
            let (from, until) = (covered.0 as usize, covered.1 as usize);
            if from >= end {
                older.clear();
                newer = self.algebra.empty();
                (middle, end) = (from, from);
            }
            for state in &states[end..until.max(end)] {
                self.algebra.merge(&mut newer, state);
            }
            end = until.max(end);
            if from > middle || (older.is_empty() && from < middle) {
                older.clear();
                let mut sum = self.algebra.empty();
                for state in states[from..end].iter().rev() {
                    self.algebra.merge(&mut sum, state);
                    older.push(sum.clone());
                }
                newer = self.algebra.empty();
                middle = end;
            }
            older.truncate(middle - from);
            let mut whole = newer.clone();
            if let Some(state) = older.last() {
                self.algebra.merge(&mut whole, state);
            }
            if let KeyChanges::Tree(nodes) = &self.changes {
                let mut node = number + self.covered.len();
                while node > 0 {
                    self.algebra.merge(&mut whole, &nodes[node]);
                    node >>= 1;
                }
            }
            out.push(&whole, *at);
        }
    }
}
