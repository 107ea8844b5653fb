//! How many different values several windows hold that end together: in one pass over a key's rows, whatever the
//! number of windows.
//!
//! Of each value only the slot counts in which it was seen last: windows that end now hold it if they begin at or
//! before that. So a row moves its value from one slot to another, and nothing is taken out again.

use super::algebra::Sweep;
use super::gathering::Listed;
use super::scalar::Scalar;
use super::tally::Tally;

#[derive(Debug)]
pub(super) struct LastSeen<S> {
    /// Of each value one more than the slot it was seen in last, counted from the key's first.
    seen: Tally<S>,
    /// How many values were seen last in each slot.
    last_in: Vec<u32>,
    /// Of each window where it begins, and how many values were seen last before.
    windows: Vec<(usize, u64)>,
}

impl<S: Scalar> Default for LastSeen<S> {
    fn default() -> LastSeen<S> {
        LastSeen { seen: Tally::new(0), last_in: Vec::new(), windows: Vec::new() }
    }
}

impl<S: Scalar> LastSeen<S> {
    /// Sees a value in a slot; true where it was never seen before.
    #[inline]
    fn see(&mut self, value: &S, slot: usize) -> bool {
        let before = self.seen.replace(value, slot as i64 + 1) as usize;
        if before == slot + 1 {
            return false;
        }
        self.last_in[slot] += 1;
        for (from, earlier) in &mut self.windows {
            *earlier += u64::from(slot < *from);
        }
        if before > 0 {
            self.last_in[before - 1] -= 1;
            for (from, earlier) in &mut self.windows {
                *earlier -= u64::from(before <= *from);
            }
        }
        before == 0
    }
}

impl<S: Scalar> Sweep<S> for LastSeen<S> {
    fn key(&mut self, rows: &Listed<S>, windows: &[&[(u32, u32)]], numbers: &mut [Vec<u64>]) {
        let begins = windows.iter().filter_map(|covered| covered.first());
        let Some(first) = begins.map(|(from, _)| *from as usize).min() else { return };
        let Some((_, last)) = windows[0].last() else { return };
        self.seen.clear();
        self.last_in.clear();
        self.last_in.resize((*last as usize).saturating_sub(first), 0);
        self.windows.clear();
        self.windows.resize(windows.len(), (0, 0));
        let (mut end, mut all) = (0, 0);
        for answer in 0..windows[0].len() {
            let until = windows[0][answer].1 as usize - first;
            for slot in end..until.max(end) {
                for value in rows.of(first + slot..first + slot + 1) {
                    all += u64::from(self.see(value, slot));
                }
            }
            end = until.max(end);
            for (number, covered) in windows.iter().enumerate() {
                let start = covered[answer].0 as usize - first;
                let (from, earlier) = &mut self.windows[number];
                let passed = self.last_in.get(*from..start.min(end)).unwrap_or_default();
                *earlier += passed.iter().map(|values| u64::from(*values)).sum::<u64>();
                *from = start.max(*from);
                numbers[number].push(all - *earlier);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::*;

    proptest! {
        /// Windows of some lengths over slots, of which some are passed over.
        #[test]
        fn values_are_counted_as_sets_count_them(
            keys in prop::collection::vec(prop::collection::vec(prop::collection::vec(0..6_u64, 0..4), 1..20), 1..4),
            lengths in prop::collection::vec(1..12_usize, 1..4),
            steps in prop::collection::vec(0..7_usize, 1..8),
        ) {
            let mut sweep = LastSeen::default();
            for slots in keys {
                let ends: Vec<usize> = steps
                    .iter()
                    .scan(0, |end, step| { *end += step; Some((*end).min(slots.len())) })
                    .collect();
                let covered: Vec<Vec<(u32, u32)>> = lengths
                    .iter()
                    .map(|length| ends.iter().map(|end| (end.saturating_sub(*length) as u32, *end as u32)).collect())
                    .collect();
                let rows = Listed::new(slots.clone());
                let windows: Vec<&[(u32, u32)]> = covered.iter().map(Vec::as_slice).collect();
                let mut numbers = vec![Vec::new(); windows.len()];
                sweep.key(&rows, &windows, &mut numbers);
                for (covered, numbers) in covered.iter().zip(&numbers) {
                    let set = |(from, until): &(u32, u32)| {
                        let slots = &slots[*from as usize..*until as usize];
                        slots.iter().flatten().collect::<BTreeSet<_>>().len() as u64
                    };
                    prop_assert_eq!(numbers, &covered.iter().map(set).collect::<Vec<_>>());
                }
            }
        }
    }
}
