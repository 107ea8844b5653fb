//! A table of counts for values that come and go, as they do in a window that moves over slots.

use std::hash::BuildHasher;

use hashbrown::DefaultHashBuilder;

use super::scalar::Scalar;

/// A table of more places is given back when it is emptied: the next key's values would lie far apart in it.
const KEPT_PLACES: usize = 4096;

/// How often each value is there, found by its hash. A value that went keeps its place until the table grows or is
/// emptied, so nothing is moved when values come and go; emptying it is one addition.
///
/// The hash is seeded at random, so that nobody can choose values that meet; what it answers does not depend on it.
#[derive(Debug, Clone)]
pub(super) struct Tally<S> {
    places: Vec<Place<S>>,
    /// A place of another round is free.
    round: u32,
    /// Places taken in this round.
    taken: usize,
    /// Of these, those whose count is not 0.
    present: usize,
    /// What values in places hold besides themselves, whatever their round.
    texts: usize,
    hasher: DefaultHashBuilder,
}

#[derive(Debug, Clone, Default)]
struct Place<S> {
    value: S,
    count: i64,
    round: u32,
    /// Where the value was that came behind this one the last time, of those that come in their order.
    next: u32,
}

impl<S: Scalar> Tally<S> {
    /// With room for so many values.
    pub(super) fn new(values: usize) -> Tally<S> {
        let places = vec![Place::default(); (values * 2).next_power_of_two().max(8)];
        Tally { places, round: 1, taken: 0, present: 0, texts: 0, hasher: DefaultHashBuilder::default() }
    }

    #[inline]
    pub(super) fn add(&mut self, value: &S, count: i64) {
        self.add_at(value, count);
    }

    /// The same, and where the value is; `before` is where the one is that came before it, any place for the first. Values
    /// that come in the order they came in before are found without their hashes.
    #[inline]
    pub(super) fn add_behind(&mut self, before: usize, value: &S, count: i64) -> usize {
        let mask = self.places.len() - 1;
        let guess = self.places[before & mask].next as usize & mask;
        let place = &self.places[guess];
        if place.round == self.round && place.value == *value {
            self.add_there(guess, count);
            return guess;
        }
        let at = self.add_at(value, count);
        let mask = self.places.len() - 1;
        self.places[before & mask].next = at as u32;
        at
    }

    /// Where the value is, or would be.
    fn add_at(&mut self, value: &S, count: i64) -> usize {
        let mask = self.places.len() - 1;
        let mut at = self.hasher.hash_one(value) as usize & mask;
        loop {
            let place = &mut self.places[at & mask];
            if place.round != self.round {
                break;
            }
            if place.value == *value {
                self.add_there(at & mask, count);
                return at & mask;
            }
            at += 1;
        }
        if count == 0 { at & mask } else { self.place(at & mask, value, count) }
    }

    /// Adds to the count of the value in a place.
    #[inline]
    fn add_there(&mut self, at: usize, count: i64) {
        let place = &mut self.places[at];
        let before = place.count;
        place.count = before.wrapping_add(count);
        self.present += usize::from(place.count != 0);
        self.present -= usize::from(before != 0);
    }

    /// Makes the count of a value this one, which is not 0; gives what it was.
    #[inline]
    pub(super) fn replace(&mut self, value: &S, count: i64) -> i64 {
        let mask = self.places.len() - 1;
        let mut at = self.hasher.hash_one(value) as usize & mask;
        loop {
            let place = &mut self.places[at & mask];
            if place.round != self.round {
                break;
            }
            if place.value == *value {
                let before = std::mem::replace(&mut place.count, count);
                self.present += usize::from(before == 0);
                return before;
            }
            at += 1;
        }
        self.place(at & mask, value, count);
        0
    }

    /// Takes a free place; gives where the value is then.
    fn place(&mut self, at: usize, value: &S, count: i64) -> usize {
        if self.taken * 2 >= self.places.len() {
            let mut larger = Tally::new((self.present + 1) * 2);
            self.iter().for_each(|(value, count)| larger.add(value, count));
            let at = larger.add_at(value, count);
            *self = larger;
            return at;
        }
        let place = Place { value: value.clone(), count, round: self.round, next: 0 };
        self.texts += value.heap();
        self.texts -= std::mem::replace(&mut self.places[at], place).value.heap();
        self.taken += 1;
        self.present += 1;
        at
    }

    /// Values whose count is not 0, and their counts.
    pub(super) fn iter(&self) -> impl Iterator<Item = (&S, i64)> {
        self.places
            .iter()
            .filter(|place| place.round == self.round && place.count != 0)
            .map(|place| (&place.value, place.count))
    }

    /// How many values have a count that is not 0.
    #[inline]
    pub(super) fn len(&self) -> usize {
        self.present
    }

    pub(super) fn clear(&mut self) {
        match self.round.checked_add(1) {
            Some(round) if self.places.len() <= KEPT_PLACES => self.round = round,
            _ => *self = Tally::new(0),
        }
        self.taken = 0;
        self.present = 0;
    }

    /// Bytes on the heap.
    pub(super) fn heap(&self) -> usize {
        self.places.capacity() * size_of::<Place<S>>() + self.texts
    }
}
