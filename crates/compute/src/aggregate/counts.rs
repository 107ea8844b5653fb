//! A multiset: how often each value is there.

use asof_model::DataType;

use super::scalar::Scalar;
use super::stored::{Reading, write_number};
use super::tally::Tally;
use crate::ComputeError;

/// How many values a sorted list has at most; above, a table is faster.
const SORTED: usize = 12;

/// How often each value is there. Slots are many and most hold few rows, so up to three lie in it without the heap.
/// Counts may be below 0 on the way: what a window takes out may be told before what it took in.
#[derive(Debug, Clone)]
pub(super) enum Counts<S> {
    /// So many of these, once each; some may be equal.
    Few(u8, [S; 3]),
    /// In value order, none 0 times.
    Sorted(Vec<(S, i64)>),
    /// Of many.
    Table(Box<Tally<S>>),
}

impl<S: Scalar> Default for Counts<S> {
    fn default() -> Counts<S> {
        Counts::Few(0, Default::default())
    }
}

impl<S: Scalar> Counts<S> {
    /// Takes in a value so many times, or out where that is below 0.
    #[inline]
    pub(super) fn add(&mut self, value: S, count: i64) {
        match self {
            Counts::Few(length, values) if count == 1 && *length < 3 => {
                values[usize::from(*length)] = value;
                *length += 1;
            }
            Counts::Table(table) => table.add(&value, count),
            _ => self.add_sorted(value, count),
        }
    }

    fn add_sorted(&mut self, value: S, count: i64) {
        if let Counts::Few(..) = self {
            *self = Counts::Sorted(self.to_sorted());
        }
        let Counts::Sorted(list) = self else { return };
        match list.binary_search_by(|(other, _)| other.cmp(&value)) {
            Ok(at) => {
                list[at].1 = list[at].1.wrapping_add(count);
                if list[at].1 == 0 {
                    list.remove(at);
                }
            }
            Err(at) if list.len() < SORTED => list.insert(at, (value, count)),
            Err(_) => {
                let mut table = Tally::new(SORTED * 2);
                list.iter().for_each(|(value, count)| table.add(value, *count));
                table.add(&value, count);
                *self = Counts::Table(Box::new(table));
            }
        }
    }

    /// Takes in all of another so many times over, 1 or -1.
    #[inline]
    pub(super) fn add_all(&mut self, other: &Counts<S>, times: i64) {
        match other {
            Counts::Few(length, values) => {
                for value in &values[..usize::from(*length)] {
                    self.add(value.clone(), times);
                }
            }
            Counts::Sorted(list) => {
                for (value, count) in list {
                    self.add(value.clone(), count.wrapping_mul(times));
                }
            }
            Counts::Table(table) => {
                for (value, count) in table.iter() {
                    self.add(value.clone(), count.wrapping_mul(times));
                }
            }
        }
    }

    pub(super) fn is_empty(&self) -> bool {
        match self {
            Counts::Few(length, _) => *length == 0,
            Counts::Sorted(list) => list.is_empty(),
            Counts::Table(table) => table.len() == 0,
        }
    }

    /// How many different values there are.
    pub(super) fn distinct(&self) -> usize {
        match self {
            Counts::Few(0, _) => 0,
            Counts::Few(1, _) => 1,
            Counts::Few(2, [one, two, _]) => 1 + usize::from(one != two),
            Counts::Few(_, [one, two, three]) => {
                1 + usize::from(one != two) + usize::from(one != three && two != three)
            }
            Counts::Sorted(list) => list.len(),
            Counts::Table(table) => table.len(),
        }
    }

    /// How many values there are.
    pub(super) fn total(&self) -> u64 {
        let sum = |total: u64, count: &i64| total.saturating_add(u64::try_from(*count).unwrap_or(0));
        match self {
            Counts::Few(length, _) => u64::from(*length),
            Counts::Sorted(list) => list.iter().map(|(_, count)| count).fold(0, sum),
            Counts::Table(table) => table.iter().fold(0, |total, (_, count)| sum(total, &count)),
        }
    }

    /// Its values in their order, each with its count.
    pub(super) fn to_sorted(&self) -> Vec<(S, i64)> {
        match self {
            Counts::Few(length, values) => {
                let mut values = values[..usize::from(*length)].to_vec();
                values.sort_unstable();
                let mut list: Vec<(S, i64)> = Vec::with_capacity(4);
                for value in values {
                    match list.last_mut() {
                        Some((last, count)) if *last == value => *count += 1,
                        _ => list.push((value, 1)),
                    }
                }
                list
            }
            Counts::Sorted(list) => list.clone(),
            Counts::Table(table) => {
                let mut list: Vec<(S, i64)> =
                    table.iter().map(|(value, count)| (value.clone(), count)).collect();
                list.sort_unstable_by(|one, two| one.0.cmp(&two.0));
                list
            }
        }
    }

    /// Makes it that of nothing, and keeps its room for what comes next.
    pub(super) fn reset(&mut self) {
        match self {
            Counts::Table(table) => table.clear(),
            Counts::Sorted(list) => list.clear(),
            Counts::Few(..) => *self = Counts::default(),
        }
    }

    /// A count of values, then each with its own: behind a version byte.
    pub(super) fn write(&self, of: &DataType, out: &mut Vec<u8>) {
        let list = self.to_sorted();
        write_number(list.len() as i128, out);
        for (value, count) in list {
            value.write(of, out);
            write_number(i128::from(count), out);
        }
    }

    pub(super) fn read(of: &DataType, from: &mut Reading<'_>) -> Result<Counts<S>, ComputeError> {
        let mut counts = Counts::default();
        counts.add_read(of, from)?;
        Ok(counts)
    }

    /// Takes in all that [`Counts::write`] wrote. Where that is damaged a part of it may be in.
    pub(super) fn add_read(&mut self, of: &DataType, from: &mut Reading<'_>) -> Result<(), ComputeError> {
        let length = from.number::<u64>()?;
        let mut last: Option<S> = None;
        let mut at = 0;
        for _ in 0..length {
            let value = S::read(of, from)?;
            if last.is_some_and(|last| last >= value) {
                return Err(from.damaged("its values are not in order"));
            }
            let count = from.number::<i64>()?;
            if count == 0 {
                return Err(from.damaged("a value is there 0 times"));
            }
            match self {
                // Lists that are added up, of tiles say, mostly hold the same values.
                Counts::Table(table) => at = table.add_behind(at, &value, count),
                _ => self.add(value.clone(), count),
            }
            last = Some(value);
        }
        Ok(())
    }

    /// Bytes on the heap.
    pub(super) fn heap(&self) -> usize {
        match self {
            Counts::Few(length, values) => values[..usize::from(*length)].iter().map(Scalar::heap).sum(),
            Counts::Sorted(list) => {
                list.capacity() * size_of::<(S, i64)>()
                    + list.iter().map(|(value, _)| value.heap()).sum::<usize>()
            }
            Counts::Table(table) => size_of::<Tally<S>>() + table.heap(),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;

    use super::*;
    use crate::aggregate::scalar::Text;

    #[test]
    fn slots_are_small() {
        assert_eq!(size_of::<Counts<u64>>(), 32);
        assert!(size_of::<Counts<Text>>() <= 56);
    }

    fn bytes<S: Scalar>(counts: &Counts<S>) -> Vec<u8> {
        let mut out = vec![1];
        counts.write(&DataType::UInt64, &mut out);
        out
    }

    /// What is added to one of two, by value and count.
    fn steps() -> impl Strategy<Value = Vec<(bool, u64, i64)>> {
        prop_oneof![
            prop::collection::vec((any::<bool>(), 0..4_u64, prop_oneof![Just(1), -2..3_i64]), 0..12),
            prop::collection::vec((any::<bool>(), 0..40_u64, -2..3_i64), 0..120),
        ]
    }

    proptest! {
        #[test]
        fn it_is_what_was_added(steps in steps()) {
            let mut counts = [Counts::default(), Counts::default()];
            let mut naive = [BTreeMap::new(), BTreeMap::new()];
            for (which, value, count) in steps.into_iter().filter(|(.., count)| *count != 0) {
                let which = usize::from(which);
                counts[which].add(value, count);
                *naive[which].entry(value).or_insert(0) += count;
            }
            let mut whole = counts[0].clone();
            whole.add_all(&counts[1], 1);
            let mut sum = naive[0].clone();
            for (value, count) in &naive[1] {
                *sum.entry(*value).or_insert(0) += count;
            }
            for (counts, naive) in counts.iter().chain([&whole]).zip(naive.iter().chain([&sum])) {
                let naive: Vec<(u64, i64)> =
                    naive.iter().filter(|(_, count)| **count != 0).map(|(value, count)| (*value, *count)).collect();
                prop_assert_eq!(&counts.to_sorted(), &naive);
                prop_assert_eq!(counts.distinct(), naive.len());
                prop_assert_eq!(counts.is_empty(), naive.is_empty());
                let bytes = bytes(counts);
                let read = Reading::new("counts", 1, &bytes).unwrap();
                let read: Counts<u64> = read.whole(|from| Counts::read(&DataType::UInt64, from)).unwrap();
                prop_assert_eq!(&read.to_sorted(), &naive);
            }
            let mut added = Counts::<u64>::default();
            for which in [0, 1, 0, 1] {
                let bytes = bytes(&counts[which]);
                let read = Reading::new("counts", 1, &bytes).unwrap();
                read.whole(|from| added.add_read(&DataType::UInt64, from)).unwrap();
            }
            let twice = sum.iter().map(|(value, count)| (*value, 2 * count)).filter(|(_, count)| *count != 0);
            prop_assert_eq!(added.to_sorted(), twice.collect::<Vec<_>>());
            whole.add_all(&counts[1], -1);
            prop_assert_eq!(bytes(&whole), bytes(&counts[0]));
            whole.reset();
            prop_assert!(whole.is_empty() && whole.distinct() == 0);
        }
    }
}
