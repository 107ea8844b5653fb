//! The states of many slots, and what windows over them come to.

use std::any::{Any, TypeId};
use std::borrow::Cow;
use std::fmt;
use std::ops::Range;

use arrow::array::new_null_array;
use asof_model::DataType;

use super::algebra::{Algebra, Erased, Function, Input, Outcome, Prepared, nulls};
use super::gathering::{Gathered, GatheredBytes, Gathering, Listed, Ordered};
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
    // A function is only ever given its own states; any other would be none of them.
    fn held(states: &States) -> Held<'_, A> {
        match states.0.downcast_ref::<Listed<A::Row>>() {
            Some(listed) => Held::Listed(listed),
            None => Held::States(states.0.downcast_ref::<Vec<A::State>>().map_or(&[], Vec::as_slice)),
        }
    }

    /// The state of a slot.
    fn state<'a>(&self, states: &'a States, slot: u32) -> Cow<'a, A::State> {
        match Self::held(states) {
            Held::States(states) => Cow::Borrowed(&states[slot as usize]),
            Held::Listed(listed) => Cow::Owned(self.listed(listed, slot as usize)),
        }
    }

    fn listed(&self, listed: &Listed<A::Row>, slot: usize) -> A::State {
        let mut state = self.0.empty();
        listed.of(slot..slot + 1).iter().for_each(|row| self.0.take(&mut state, row));
        state
    }

    /// States that can be changed, also where rows were listed before.
    fn of_mut<'a>(&self, states: &'a mut States) -> &'a mut [A::State] {
        self.all_mut(states).map_or(&mut [], Vec::as_mut_slice)
    }

    fn all_mut<'a>(&self, states: &'a mut States) -> Option<&'a mut Vec<A::State>> {
        if let Held::Listed(listed) = Self::held(states) {
            let each: Vec<A::State> = (0..listed.slots()).map(|slot| self.listed(listed, slot)).collect();
            *states = States(Box::new(each));
        }
        states.0.downcast_mut()
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

/// [`States`], as an algebra has them.
enum Held<'a, A: Algebra> {
    States(&'a [A::State]),
    Listed(&'a Listed<A::Row>),
}

impl<A: Algebra> Held<'_, A> {
    /// Takes all that some slots hold into a window.
    #[inline]
    fn take(&self, algebra: &A, slots: Range<usize>, window: &mut A::State) {
        match self {
            Held::States(states) => states[slots].iter().for_each(|state| algebra.merge(window, state)),
            Held::Listed(listed) => listed.of(slots).iter().for_each(|row| algebra.take(window, row)),
        }
    }

    /// Takes it out of a window.
    #[inline]
    fn give(&self, algebra: &A, slots: Range<usize>, window: &mut A::State) {
        match self {
            Held::States(states) => states[slots].iter().for_each(|state| algebra.subtract(window, state)),
            Held::Listed(listed) => listed.of(slots).iter().for_each(|row| algebra.give(window, row)),
        }
    }
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

    fn needs_times(&self) -> bool {
        A::TIMED
    }

    fn state_id(&self) -> (TypeId, String) {
        (TypeId::of::<A>(), self.0.state_id())
    }

    fn states(&self, count: usize) -> States {
        States(Box::new(vec![self.0.empty(); count]))
    }

    fn grow(&self, states: &mut States, count: usize) {
        if let Some(states) = self.all_mut(states) {
            states.resize(count, self.0.empty());
        }
    }

    fn gathering(&self, slots: usize) -> Gathering {
        Gathering(Box::new(Gathered::<A>::new(slots)))
    }

    fn gather(&self, to: &mut Gathering, count: usize, slots: &[u32], rows: &[u32], batch: &Prepared) {
        let Some(to) = to.0.downcast_mut::<Gathered<A>>() else { return };
        if A::LISTED {
            let Some(values) = batch.values.downcast_ref::<A::Values>() else { return };
            let row = |(slot, row): (&u32, &u32)| (*slot, self.0.row(values, *row as usize));
            let rows = slots.iter().zip(rows);
            match &batch.nulls {
                None => to.list(&self.0, count, slots.len(), rows.map(row)),
                Some(nulls) => {
                    let some = rows.filter(|(_, row)| nulls.is_valid(**row as usize));
                    to.list(&self.0, count, slots.len(), some.map(row));
                }
            }
        } else {
            let states = to.states(&self.0, count);
            Self::each(slots, rows, batch, |values, slot, row| self.0.update(&mut states[slot], values, row));
            to.took(&self.0, slots.len());
        }
    }

    fn gather_encoded(
        &self,
        to: &mut Gathering,
        count: usize,
        slot: u32,
        bytes: &[u8],
    ) -> Result<(), ComputeError> {
        let Some(to) = to.0.downcast_mut::<Gathered<A>>() else { return Ok(()) };
        self.0.merge_encoded(&mut to.states(&self.0, count)[slot as usize], bytes)?;
        to.took(&self.0, 1);
        Ok(())
    }

    fn gathered(&self, from: Gathering, order: &[u32]) -> States {
        let Ok(from) = from.0.downcast::<Gathered<A>>() else { return self.states(order.len()) };
        match from.ordered(&self.0, order) {
            Ordered::States(states) => States(Box::new(states)),
            Ordered::Listed(listed) => States(Box::new(listed)),
        }
    }

    fn copied(&self, from: &Gathering) -> Gathering {
        match from.0.downcast_ref::<Gathered<A>>() {
            Some(from) => Gathering(Box::new(from.clone())),
            None => self.gathering(0),
        }
    }

    fn prepare(&self, input: &Input) -> Result<Prepared, ComputeError> {
        Ok(Prepared { values: Box::new(self.0.values(input)?), nulls: nulls(input) })
    }

    fn update(&self, states: &mut States, slots: &[u32], rows: &[u32], batch: &Prepared) {
        let states = self.of_mut(states);
        Self::each(slots, rows, batch, |values, slot, row| self.0.update(&mut states[slot], values, row));
    }

    fn withdraw(&self, states: &mut States, slots: &[u32], rows: &[u32], batch: &Prepared) {
        let states = self.of_mut(states);
        Self::each(slots, rows, batch, |values, slot, row| self.0.withdraw(&mut states[slot], values, row));
    }

    fn merge(&self, states: &mut States, slot: u32, other: &States, from: u32) {
        self.0.merge(&mut self.of_mut(states)[slot as usize], &self.state(other, from));
    }

    fn subtract(&self, states: &mut States, slot: u32, other: &States, from: u32) {
        self.0.subtract(&mut self.of_mut(states)[slot as usize], &self.state(other, from));
    }

    fn accumulate(&self, states: &mut States, slots: Range<u32>) {
        let states = self.of_mut(states).get_mut(slots.start as usize..slots.end as usize);
        let mut rest = states.unwrap_or_default();
        while let Some((after, before)) = rest.split_last_mut() {
            if let Some(last) = before.last_mut() {
                self.0.merge(last, after);
            }
            rest = before;
        }
    }

    fn clear(&self, states: &mut States, slot: u32) {
        self.of_mut(states)[slot as usize] = self.0.empty();
    }

    fn is_empty(&self, states: &States, slot: u32) -> bool {
        match Self::held(states) {
            Held::States(states) => self.0.is_empty(&states[slot as usize]),
            Held::Listed(listed) => listed.of(slot as usize..slot as usize + 1).is_empty(),
        }
    }

    fn encode(&self, states: &States, slot: u32, out: &mut Vec<u8>) {
        self.0.encode(&self.state(states, slot), out);
    }

    fn merge_encoded(&self, states: &mut States, slot: u32, bytes: &[u8]) -> Result<(), ComputeError> {
        self.0.merge_encoded(&mut self.of_mut(states)[slot as usize], bytes)
    }

    fn finish(&self, states: &States, slots: &[u32], at: &[i64]) -> Finished {
        let mut out = Answers::<A>::new(&self.0, slots.len());
        for (slot, at) in slots.iter().zip(at) {
            out.push(&self.state(states, *slot), *at);
        }
        out.finish()
    }

    fn as_any(&self) -> &dyn Any {
        self
    }

    fn answers(
        &self,
        others: &[&Function],
        states: &States,
        ranges: &Ranges<'_>,
        changes: Changes<'_>,
    ) -> Vec<Finished> {
        // Who shares states is of one kind.
        let others = others.iter().filter_map(|other| other.0.as_any().downcast_ref::<Kind<A>>());
        let all = std::iter::once(self).chain(others);
        let mut out: Vec<Answers<'_, A>> =
            all.map(|kind| Answers::new(&kind.0, ranges.covered.len())).collect();
        let mut push = |window: &A::State, at: i64| out.iter_mut().for_each(|out| out.push(window, at));
        let held = Self::held(states);
        let mut window = self.0.empty();
        for key in ranges.keys.windows(2) {
            let answers = key[0] as usize..key[1] as usize;
            let key = self.key(ranges, changes, answers);
            match &held {
                held if A::INVERTIBLE => key.slide(held, &mut window, &mut push),
                Held::States(states) => key.stack(states, &mut push),
                Held::Listed(_) => {}
            }
        }
        out.into_iter().map(Answers::finish).collect()
    }

    fn is_number(&self) -> bool {
        self.0.sweep().is_some()
    }

    fn numbers(&self, states: &States, windows: &[(Ranges<'_>, Changes<'_>)]) -> Option<Vec<Vec<u64>>> {
        let mut sweep = self.0.sweep()?;
        let (first, _) = windows.first()?;
        let held = Self::held(states);
        let mut numbers: Vec<Vec<u64>> =
            windows.iter().map(|(ranges, _)| Vec::with_capacity(ranges.covered.len())).collect();
        let mut window = self.0.empty();
        for key in first.keys.windows(2) {
            let answers = key[0] as usize..key[1] as usize;
            let covered: Vec<&[(u32, u32)]> =
                windows.iter().map(|(ranges, _)| &ranges.covered[answers.clone()]).collect();
            let end = |covered: &(u32, u32)| covered.1;
            let ends_together =
                covered.iter().all(|other| other.iter().map(end).eq(covered[0].iter().map(end)));
            let changes = |(ranges, changes): &(Ranges<'_>, Changes<'_>)| {
                self.key(ranges, *changes, answers.clone()).changes.is_none(&self.0)
            };
            match &held {
                Held::Listed(listed) if ends_together && windows.iter().all(changes) => {
                    sweep.key(listed, &covered, &mut numbers);
                }
                held => {
                    for ((ranges, changes), numbers) in windows.iter().zip(&mut numbers) {
                        let key = self.key(ranges, *changes, answers.clone());
                        key.slide(held, &mut window, |window, _| numbers.push(self.0.number(window)));
                    }
                }
            }
        }
        Some(numbers)
    }

    fn finish_numbers(&self, numbers: &[u64]) -> Finished {
        let mut out = Answers::<A>::new(&self.0, numbers.len());
        for number in numbers {
            out.outcomes.push(self.0.finish_number(*number, &mut out.values));
        }
        out.finish()
    }

    fn bytes(&self, states: &States) -> usize {
        match Self::held(states) {
            Held::States(states) => {
                size_of_val(states) + states.iter().map(|state| self.0.heap(state)).sum::<usize>()
            }
            Held::Listed(listed) => {
                size_of_val(listed.of(0..listed.slots())) + (listed.slots() + 1) * size_of::<u32>()
            }
        }
    }

    fn gathered_bytes(&self, of: &Gathering) -> GatheredBytes {
        of.0.downcast_ref::<Gathered<A>>().map(Gathered::bytes).unwrap_or_default()
    }
}

impl<A: Algebra> Kind<A> {
    /// The answers of one key.
    fn key<'a>(&'a self, ranges: &Ranges<'a>, changes: Changes<'a>, answers: Range<usize>) -> Key<'a, A> {
        let all = |states| match Self::held(states) {
            Held::States(states) => states,
            // What changes is never listed.
            Held::Listed(_) => &[],
        };
        Key {
            algebra: &self.0,
            covered: &ranges.covered[answers.clone()],
            times: &ranges.times[answers.clone()],
            changes: match changes {
                Changes::None => KeyChanges::None,
                Changes::Steps(steps) => KeyChanges::Steps(&all(steps)[answers]),
                Changes::Tree(nodes) => KeyChanges::Tree(&all(nodes)[answers.start * 2..answers.end * 2]),
            },
        }
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

impl<S> KeyChanges<'_, S> {
    fn is_none(&self, algebra: &impl Algebra<State = S>) -> bool {
        match self {
            KeyChanges::None => true,
            KeyChanges::Steps(states) | KeyChanges::Tree(states) => {
                states.iter().all(|state| algebra.is_empty(state))
            }
        }
    }
}

impl<A: Algebra> Key<'_, A> {
    /// Takes slots in and out as the window moves on. The room of `window` is used from key to key.
    fn slide(&self, held: &Held<'_, A>, window: &mut A::State, mut out: impl FnMut(&A::State, i64)) {
        self.algebra.reset(window);
        let (mut start, mut end) = (0, 0);
        for (number, (covered, at)) in self.covered.iter().zip(self.times).enumerate() {
            let (from, until) = (covered.0 as usize, covered.1 as usize);
            if from >= end {
                match self.changes {
                    // Nothing else is in it.
                    KeyChanges::None => self.algebra.reset(window),
                    _ => held.give(self.algebra, start..end, window),
                }
                (start, end) = (from, from);
            }
            held.take(self.algebra, end..until.max(end), window);
            end = until.max(end);
            held.give(self.algebra, start..from.max(start), window);
            start = from.max(start);
            if let KeyChanges::Steps(steps) = &self.changes {
                self.algebra.merge(window, &steps[number]);
            }
            out(window, *at);
        }
    }

    /// Two stacks: of the older slots what each suffix comes to, of the newer ones their sum.
    fn stack(&self, states: &[A::State], mut out: impl FnMut(&A::State, i64)) {
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
            out(&whole, *at);
        }
    }
}
