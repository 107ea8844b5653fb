//! States while many rows come.
//!
//! Where states grow with their rows, as multisets do, each row would meet a state in another place of memory, and ask
//! for room there. So rows are listed as they come, and put in the order of their slots once. A list that gets long
//! becomes states: equal rows are counted there.

use std::any::Any;
use std::fmt;
use std::ops::Range;

use super::algebra::Algebra;

/// States of many slots that rows are put into; nothing is asked of them before they are
/// [`gathered`](super::Function::gathered).
pub struct Gathering(pub(super) Box<dyn Any + Send + Sync>);

impl fmt::Debug for Gathering {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Gathering").finish_non_exhaustive()
    }
}

/// So many rows are listed of whatever slots there are.
const LISTED: usize = 1 << 16;
/// So many rows a slot.
const LISTED_EACH: usize = 64;

/// A [`Gathering`], as an algebra has it.
#[derive(Debug)]
pub(super) struct Gathered<A: Algebra> {
    states: Vec<A::State>,
    /// Rows that are in no state yet, and their slots.
    rows: Vec<A::Row>,
    slots: Vec<u32>,
}

/// Rows in the order of their slots, in place of states.
#[derive(Debug)]
pub(crate) struct Listed<R> {
    rows: Vec<R>,
    /// Where the rows of each slot begin, and those of the last end.
    starts: Vec<u32>,
}

impl<R> Listed<R> {
    /// The rows of some slots.
    #[inline]
    pub(super) fn of(&self, slots: Range<usize>) -> &[R] {
        &self.rows[self.starts[slots.start] as usize..self.starts[slots.end] as usize]
    }

    #[cfg(test)]
    pub(super) fn new(slots: Vec<Vec<R>>) -> Listed<R> {
        let starts = slots.iter().scan(0, |end, rows| {
            *end += rows.len() as u32;
            Some(*end)
        });
        Listed {
            starts: std::iter::once(0).chain(starts).collect(),
            rows: slots.into_iter().flatten().collect(),
        }
    }

    /// How many slots there are.
    pub(super) fn slots(&self) -> usize {
        self.starts.len() - 1
    }
}

impl<A: Algebra> Gathered<A> {
    /// Nothing yet, and room for states of so many slots where rows are not listed.
    pub(super) fn new(slots: usize) -> Gathered<A> {
        let slots = if A::LISTED { 0 } else { slots };
        Gathered { states: Vec::with_capacity(slots), rows: Vec::new(), slots: Vec::new() }
    }

    /// The states of so many slots, for rows that are not listed.
    pub(super) fn states(&mut self, algebra: &A, count: usize) -> &mut [A::State] {
        self.states.resize(count, algebra.empty());
        &mut self.states
    }

    #[inline]
    pub(super) fn list(&mut self, slot: usize, row: A::Row) {
        self.slots.push(slot as u32);
        self.rows.push(row);
    }

    /// Puts rows into states where there are many of them, of so many slots.
    pub(super) fn bound(&mut self, algebra: &A, count: usize) {
        if self.rows.len() > LISTED.max(count.saturating_mul(LISTED_EACH)) {
            self.settle(algebra, count);
        }
    }

    fn settle(&mut self, algebra: &A, count: usize) {
        let listed = self.listed(count, |slot| slot);
        for (slot, state) in self.states(algebra, count).iter_mut().enumerate() {
            listed.of(slot..slot + 1).iter().for_each(|row| algebra.take(state, row));
        }
    }

    /// Bytes of listed rows with their slots, and of the same rows while they are put in order.
    pub(super) fn listed_bytes(&self) -> usize {
        let row = size_of::<A::Row>();
        self.rows.capacity() * row + self.slots.capacity() * size_of::<u32>() + self.rows.len() * row
    }

    /// Takes the rows, in the order of their slots' places.
    fn listed(&mut self, count: usize, place: impl Fn(u32) -> u32) -> Listed<A::Row> {
        let (slots, from) = (std::mem::take(&mut self.slots), std::mem::take(&mut self.rows));
        let mut starts = vec![0; count + 1];
        for slot in &slots {
            starts[place(*slot) as usize + 1] += 1;
        }
        for at in 0..count {
            starts[at + 1] += starts[at];
        }
        let mut next: Vec<u32> = starts[..count].to_vec();
        let mut rows = vec![A::Row::default(); from.len()];
        for (slot, row) in slots.into_iter().zip(from) {
            let next = &mut next[place(slot) as usize];
            rows[*next as usize] = row;
            *next += 1;
        }
        Listed { rows, starts }
    }

    /// All that came, in another order: first the slot that `order` names first. Each is named once.
    pub(super) fn ordered(mut self, algebra: &A, order: &[u32]) -> Ordered<A> {
        if A::LISTED && self.states.is_empty() {
            let mut places = vec![0; order.len()];
            for (place, slot) in (0..).zip(order) {
                places[*slot as usize] = place;
            }
            return Ordered::Listed(self.listed(order.len(), |slot| places[slot as usize]));
        }
        self.settle(algebra, order.len());
        let take = |at: &u32| std::mem::replace(&mut self.states[*at as usize], algebra.empty());
        Ordered::States(order.iter().map(take).collect())
    }
}

/// What [`Gathered::ordered`] gives.
pub(super) enum Ordered<A: Algebra> {
    States(Vec<A::State>),
    Listed(Listed<A::Row>),
}
