//! States while many rows come.
//!
//! Where states grow with their rows, as multisets do, each row would meet a state in another place of memory, and ask
//! for room there. So rows are listed as they come, and put in the order of their slots once. A list that gets long
//! becomes states: equal rows are counted there.

use std::any::Any;
use std::fmt;
use std::ops::Range;

use super::algebra::Algebra;

/// Bytes that a [`Gathering`] takes besides the states themselves, which are of one size.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct GatheredBytes {
    /// Of rows that are in no state yet, until they are in the order of their slots, and of what states hold elsewhere.
    pub all: usize,
    /// What of it one slot's state holds, of that which holds most.
    pub largest: usize,
}

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
/// What states hold is summed after so many rows, and after as many as there are states.
const SUMMED: usize = 1 << 12;

/// A [`Gathering`], as an algebra has it.
#[derive(Debug)]
pub(super) struct Gathered<A: Algebra> {
    states: Vec<A::State>,
    /// Rows that are in no state yet, and their slots: in blocks, which are not moved as more come.
    blocks: Vec<(Vec<u32>, Vec<A::Row>)>,
    /// How many rows these are.
    rows: usize,
    /// What they hold besides themselves.
    texts: usize,
    /// What states held when it was last summed.
    held: GatheredBytes,
    /// Rows that came into states since.
    unsummed: usize,
}

/// So many rows have room in a block at least.
const BLOCK: usize = 1_024;

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

impl<A: Algebra> Clone for Gathered<A> {
    fn clone(&self) -> Gathered<A> {
        let Gathered { rows, texts, held, unsummed, .. } = *self;
        Gathered { states: self.states.clone(), blocks: self.blocks.clone(), rows, texts, held, unsummed }
    }
}

impl<A: Algebra> Gathered<A> {
    /// Nothing yet, and room for states of so many slots where rows are not listed.
    pub(super) fn new(slots: usize) -> Gathered<A> {
        let slots = if A::LISTED { 0 } else { slots };
        Gathered {
            states: Vec::with_capacity(slots),
            blocks: Vec::new(),
            rows: 0,
            texts: 0,
            held: GatheredBytes::default(),
            unsummed: 0,
        }
    }

    /// The states of so many slots, for rows that are not listed.
    pub(super) fn states(&mut self, algebra: &A, count: usize) -> &mut [A::State] {
        self.states.resize(count, algebra.empty());
        &mut self.states
    }

    /// Told of rows that came into states: now and then sums what these hold.
    pub(super) fn took(&mut self, algebra: &A, rows: usize) {
        self.unsummed += rows;
        if self.unsummed >= self.states.len().max(SUMMED) {
            self.sum(algebra);
        }
    }

    fn sum(&mut self, algebra: &A) {
        self.unsummed = 0;
        self.held = GatheredBytes::default();
        for state in &self.states {
            let bytes = algebra.heap(state);
            self.held.all += bytes;
            self.held.largest = self.held.largest.max(bytes);
        }
    }

    /// Lists rows, so many at most, and puts them into states where there are many of them, of so many slots.
    pub(super) fn list(
        &mut self,
        algebra: &A,
        count: usize,
        most: usize,
        rows: impl Iterator<Item = (u32, A::Row)>,
    ) {
        let room = |(slots, _): &&mut (Vec<u32>, Vec<A::Row>)| slots.capacity() - slots.len() >= most;
        let made = || (Vec::with_capacity(most.max(BLOCK)), Vec::with_capacity(most.max(BLOCK)));
        if self.blocks.last_mut().filter(room).is_none() {
            self.blocks.push(made());
        }
        if let Some((slots, listed)) = self.blocks.last_mut() {
            let before = slots.len();
            for (slot, row) in rows {
                self.texts += algebra.row_heap(&row);
                slots.push(slot);
                listed.push(row);
            }
            self.rows += slots.len() - before;
        }
        if self.rows > LISTED.max(count.saturating_mul(LISTED_EACH)) {
            self.settle(algebra, count);
        }
    }

    fn settle(&mut self, algebra: &A, count: usize) {
        let listed = self.listed(count, 0..count as u32);
        for (slot, state) in self.states(algebra, count).iter_mut().enumerate() {
            listed.of(slot..slot + 1).iter().for_each(|row| algebra.take(state, row));
        }
        self.sum(algebra);
    }

    /// Of listed rows with their slots, and of the same rows while they are put in order; and of states.
    pub(super) fn bytes(&self) -> GatheredBytes {
        let row = size_of::<A::Row>();
        let held = |(slots, rows): &(Vec<u32>, Vec<A::Row>)| {
            slots.capacity() * size_of::<u32>() + if row > 0 { rows.capacity() * row } else { 0 }
        };
        let listed = self.blocks.iter().map(held).sum::<usize>() + self.rows * row + self.texts;
        GatheredBytes { all: listed + self.held.all, ..self.held }
    }

    /// Takes the rows out, of so many slots in this order.
    fn listed(&mut self, count: usize, order: impl Iterator<Item = u32>) -> Listed<A::Row> {
        let mut next = vec![0; count];
        for slot in self.blocks.iter().flat_map(|(slots, _)| slots) {
            next[*slot as usize] += 1;
        }
        let mut starts = Vec::with_capacity(count + 1);
        let mut all = 0;
        for slot in order {
            starts.push(all);
            let rows = std::mem::replace(&mut next[slot as usize], all);
            all += rows;
        }
        starts.push(all);
        let mut rows = vec![A::Row::default(); all as usize];
        for (slots, from) in std::mem::take(&mut self.blocks) {
            for (slot, row) in slots.into_iter().zip(from) {
                let next = &mut next[slot as usize];
                rows[*next as usize] = row;
                *next += 1;
            }
        }
        (self.rows, self.texts) = (0, 0);
        Listed { rows, starts }
    }

    /// All that came, in another order: first the slot that `order` names first. Each is named once.
    pub(super) fn ordered(mut self, algebra: &A, order: &[u32]) -> Ordered<A> {
        if A::LISTED && self.states.is_empty() {
            return Ordered::Listed(self.listed(order.len(), order.iter().copied()));
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
