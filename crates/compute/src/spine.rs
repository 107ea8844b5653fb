//! The spine as an index: per key its times in order, and between them the slots that rows fold into.

use std::sync::Arc;

use arrow::array::Array;
use arrow::buffer::NullBuffer;
use asof_model::Timestamp;
use xxhash_rust::xxh3::xxh3_64;

use crate::groups::{ELSEWHERE, Groups, NO_KEY, Table, hash_int64};
use crate::slots::number_slots;
use crate::threads::Threads;
use crate::{ComputeError, EntityKeys};

/// No slot, no row.
pub const NONE: u32 = u32::MAX;

/// The slots of one key, half-open; a key that is found has one at least.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SlotRange {
    /// The first.
    pub start: u32,
    /// One past the last.
    pub end: u32,
}

/// So many lines of the cache are touched ahead: few enough to be there still when they are needed.
pub const TOUCHED: usize = 512;

/// Where a spine row's answer stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Place {
    /// At the slot of its key and time. Equal rows share one.
    Slot(u32),
    /// Nowhere: a key is null.
    NoKey,
    /// In another part.
    Elsewhere,
}

/// The spine, or a part of it, grouped by key. Slot `i` stands for all t in `(times[i-1], times[i]]`
/// of its key: a row that can answer from `edge` on folds into the first slot whose time is at or past it.
#[derive(Debug)]
pub struct SpineIndex {
    table: Arc<Table>,
    /// Whether keys may be in the table that have no slots here.
    is_part: bool,
    /// The time of each slot; ascending and distinct within a key.
    times: Vec<i64>,
    /// First slot of each key, and the number of slots.
    groups: Vec<u32>,
    /// Per spine row its slot.
    places: Vec<u32>,
}

impl SpineIndex {
    /// Indexes spine rows: their keys, and their times in microseconds.
    ///
    /// # Errors
    /// [`ComputeError::TooLarge`] from 2^32 - 2 rows on.
    pub fn build(
        keys: &EntityKeys,
        times: &[i64],
        threads: &dyn Threads,
    ) -> Result<SpineIndex, ComputeError> {
        let rows = keys.len();
        if rows >= ELSEWHERE as usize || times.len() != rows {
            return Err(ComputeError::TooLarge {
                what: "the spine",
                found: rows as u64,
                limit: u64::from(ELSEWHERE) - 1,
            });
        }
        let (Groups { mut places, count, .. }, table) = Groups::of(keys, threads);
        let (times, groups) = number_slots(times, &mut places, count, threads);
        Ok(SpineIndex { table: Arc::new(table), is_part: false, times, groups, places })
    }

    /// One of so many parts of about as many slots each, to be answered apart: what a slot is answered depends on
    /// no other slot. Where keys are not to be cut, all slots of one are in the same part.
    pub fn part(&self, number: u32, of: u32, cuts_keys: bool) -> SpineIndex {
        let edge = |number: u32| {
            let slot = (self.times.len() as u64 * u64::from(number) / u64::from(of.max(1))) as u32;
            match cuts_keys {
                true => slot,
                false => self.groups[self.groups.partition_point(|first| *first < slot)],
            }
        };
        let slots = SlotRange { start: edge(number), end: edge(number + 1) };
        let place = |place: &u32| match *place {
            NO_KEY => NO_KEY,
            slot if (slots.start..slots.end).contains(&slot) => slot - slots.start,
            _ => ELSEWHERE,
        };
        SpineIndex {
            table: Arc::clone(&self.table),
            is_part: true,
            times: self.times(slots).to_vec(),
            groups: self
                .groups
                .iter()
                .map(|slot| slot.clamp(&slots.start, &slots.end) - slots.start)
                .collect(),
            places: self.places.iter().map(place).collect(),
        }
    }

    /// How many slots there are: distinct pairs of key and time.
    pub fn slots(&self) -> usize {
        self.times.len()
    }

    /// How many keys there are.
    pub fn keys(&self) -> usize {
        self.groups.len() - 1
    }

    /// Where the answer of a spine row stands.
    #[inline]
    pub fn place(&self, row: usize) -> Place {
        match self.places[row] {
            NO_KEY => Place::NoKey,
            ELSEWHERE => Place::Elsewhere,
            slot => Place::Slot(slot),
        }
    }

    /// The time of a slot.
    #[inline]
    pub fn time(&self, slot: u32) -> Timestamp {
        Timestamp(self.times[slot as usize])
    }

    /// The slots of a key, whose number is below [`SpineIndex::keys`].
    #[inline]
    pub fn slots_of(&self, key: u32) -> SlotRange {
        SlotRange { start: self.groups[key as usize], end: self.groups[key as usize + 1] }
    }

    /// The key of a slot.
    pub fn key_of(&self, slot: u32) -> u32 {
        self.groups.partition_point(|first| *first <= slot) as u32 - 1
    }

    /// The number of each row's key, below [`SpineIndex::keys`], into `out`, which is cleared; [`NONE`] where
    /// it is not in this part of the spine.
    pub fn probe(&self, keys: &EntityKeys, out: &mut Vec<u32>) {
        self.find(keys, out);
        if self.is_part {
            for key in out.iter_mut().filter(|key| **key != NONE) {
                let slots = self.slots_of(*key);
                if slots.start == slots.end {
                    *key = NONE;
                }
            }
        }
    }

    fn find(&self, keys: &EntityKeys, out: &mut Vec<u32>) {
        out.clear();
        match (self.table.as_ref(), keys) {
            (Table::Close { least, groups }, EntityKeys::Int64 { values, nulls }) => {
                let group = |key: &i64| groups.get(key.wrapping_sub(*least) as usize).copied();
                out.extend(values.iter().map(|key| group(key).unwrap_or(NONE)));
                unset(out, nulls.as_ref());
            }
            (Table::Int64 { mask, entries }, EntityKeys::Int64 { values, nulls }) => {
                for keys in values.chunks(TOUCHED) {
                    let touched = keys.iter().map(|key| entries[hash_int64(*key) as usize & mask].key);
                    std::hint::black_box(touched.fold(0, |all, key| all ^ key));
                    out.extend(keys.iter().map(|key| {
                        let mut at = hash_int64(*key) as usize & mask;
                        loop {
                            let entry = entries[at];
                            if entry.key == *key || entry.group == NONE {
                                return entry.group;
                            }
                            at = (at + 1) & mask;
                        }
                    }));
                }
                unset(out, nulls.as_ref());
            }
            (Table::Bytes { mask, entries, keys: arena, ends }, EntityKeys::Bytes(bytes)) => {
                let mut hashes = [0; TOUCHED];
                for from in (0..bytes.len()).step_by(TOUCHED) {
                    let rows = from..(from + TOUCHED).min(bytes.len());
                    let mut touched = 0;
                    for (row, hash) in rows.clone().zip(&mut hashes) {
                        *hash = xxh3_64(bytes.value(row));
                        touched ^= entries[*hash as usize & mask].hash;
                    }
                    std::hint::black_box(touched);
                    out.extend(rows.zip(hashes).map(|(row, hash)| {
                        if bytes.is_null(row) {
                            return NONE;
                        }
                        let key = bytes.value(row);
                        let mut at = hash as usize & mask;
                        loop {
                            let entry = entries[at];
                            if entry.group == NONE {
                                return NONE;
                            }
                            let group = entry.group as usize;
                            let start = if group == 0 { 0 } else { ends[group - 1] };
                            if entry.hash == hash && arena[start..ends[group]] == *key {
                                return entry.group;
                            }
                            at = (at + 1) & mask;
                        }
                    }));
                }
            }
            // Keys of one entity come in one form: KeyEncoder decides by the entity alone.
            (_, keys) => out.resize(keys.len(), NONE),
        }
    }

    /// Touches the times of keys, [`TOUCHED`] of them at most, that [`SpineIndex::slot`] or
    /// [`SpineIndex::slot_near`] is about to be asked for: loads that do not wait for each other, where the searches
    /// would take one miss of the cache after another.
    pub fn warm(&self, keys: impl Iterator<Item = (u32, Option<u32>)>) {
        let touched = keys.map(|(key, near)| match near {
            Some(near) => self.times[near as usize],
            None => {
                let slots = self.slots_of(key);
                // A key's times are mostly a few: two or three lines.
                let middle = slots.start.midpoint(slots.end);
                [slots.start, middle, slots.end - 1].iter().fold(0, |all, at| all ^ self.times[*at as usize])
            }
        });
        std::hint::black_box(touched.fold(0, |all, time| all ^ time));
    }

    /// The slot of a key that a row folds into which can answer from `edge` on: the first whose time
    /// is at or past it. None where it is past all.
    #[inline]
    pub fn slot(&self, key: SlotRange, edge: Timestamp) -> Option<u32> {
        let found = self.first_from(key, edge);
        (found < key.end).then_some(found)
    }

    /// The same, sought from one of the key's slots on, which it is likely to be near: in steps that double.
    pub fn slot_near(&self, key: SlotRange, edge: Timestamp, near: u32) -> Option<u32> {
        let before = |slot: u32| self.time(slot) < edge;
        let (mut step, mut start, mut end) = (1, near, near);
        if before(near) {
            loop {
                start = end + 1;
                end = end.saturating_add(step).min(key.end);
                if end == key.end || !before(end) {
                    break;
                }
                step *= 2;
            }
        } else {
            loop {
                end = start;
                start = start.saturating_sub(step).max(key.start);
                if start == key.start || before(start) {
                    break;
                }
                step *= 2;
            }
        }
        // The first at or past the edge is in start..=end, and `end` itself where no other is.
        let found = self.first_from(SlotRange { start, end }, edge);
        (found < key.end).then_some(found)
    }

    /// The first of these slots whose time is at or past an edge; their end where none is.
    #[inline]
    fn first_from(&self, slots: SlotRange, edge: Timestamp) -> u32 {
        let times = &self.times[slots.start as usize..slots.end as usize];
        slots.start + times.partition_point(|time| Timestamp(*time) < edge) as u32
    }

    /// Between which edges, both included, [`SpineIndex::slot`] gives this slot of a key; none: past all. A spine
    /// may ask at the last time there is, which is never: no row answers from it on.
    #[inline]
    pub fn edges(&self, key: u32, slot: Option<u32>) -> (Timestamp, Timestamp) {
        let slots = self.slots_of(key);
        let past = |slot: u32| match slot {
            slot if slot == slots.start => Timestamp(i64::MIN),
            slot => Timestamp(self.times[slot as usize - 1].saturating_add(1)),
        };
        let last = Timestamp(Timestamp::NEVER.0 - 1);
        match slot {
            Some(slot) => (past(slot), self.time(slot).min(last)),
            None => (past(slots.end), last),
        }
    }

    /// The times of slots that follow each other.
    #[inline]
    pub fn times(&self, slots: SlotRange) -> &[i64] {
        &self.times[slots.start as usize..slots.end as usize]
    }

    /// The keys, from one number until another, cut into so many runs at most, of about as many slots each.
    pub fn runs_of_keys(&self, count: usize) -> Vec<(u32, u32)> {
        let length = self.times.len().div_ceil(count.max(1)).max(1);
        let mut runs = Vec::new();
        let mut first = 0;
        for key in 1..=self.keys() {
            let slots = (self.groups[key] - self.groups[first]) as usize;
            if slots >= length || key == self.keys() {
                runs.push((first as u32, key as u32));
                first = key;
            }
        }
        runs
    }

    /// The slots cut between keys into about so many runs of about the same length.
    pub fn runs(&self, count: usize) -> Vec<SlotRange> {
        let length = self.times.len().div_ceil(count.max(1)).max(1) as u32;
        let mut runs: Vec<SlotRange> = Vec::new();
        for key in self.groups.windows(2) {
            match runs.last_mut() {
                Some(run) if key[1] - run.start <= length => run.end = key[1],
                _ => runs.push(SlotRange { start: key[0], end: key[1] }),
            }
        }
        runs
    }

    /// The running maximum of each key's slots in time order, for a run that [`SpineIndex::runs`] gave:
    /// into `answers`, per slot of the run, the slot whose state answers, [`NONE`] where none does. `order`
    /// is that of a slot's state; two slots of one key never hold equal ones, since (e, v) decides the
    /// slot.
    pub fn sweep(&self, run: SlotRange, answers: &mut [u32], order: impl Fn(u32) -> Option<(i64, i64)>) {
        let first = self.groups.partition_point(|slot| *slot < run.start);
        for key in self.groups[first..].windows(2).take_while(|key| key[1] <= run.end) {
            let mut last: Option<((i64, i64), u32)> = None;
            for slot in key[0]..key[1] {
                if let Some(found) = order(slot)
                    && last.is_none_or(|(standing, _)| found > standing)
                {
                    last = Some((found, slot));
                }
                answers[(slot - run.start) as usize] = last.map_or(NONE, |(_, slot)| slot);
            }
        }
    }

    /// Bytes held for each spine row and each slot, at most: what portions are cut by.
    pub const BYTES_PER_ROW: u64 = 4 + 16;
}

/// No key, and so no group, where a row's key is null.
fn unset(groups: &mut [u32], nulls: Option<&NullBuffer>) {
    if let Some(nulls) = nulls {
        let null = groups.iter_mut().zip(nulls).filter(|(_, valid)| !valid);
        null.for_each(|(group, _)| *group = NONE);
    }
}

#[cfg(test)]
mod tests {
    use arrow::array::BinaryArray;

    use super::*;
    use crate::threads::{Alone, Work};

    fn build(keys: &EntityKeys, times: &[i64]) -> Result<SpineIndex, ComputeError> {
        SpineIndex::build(keys, times, &Alone)
    }

    #[test]
    fn rows_find_their_slots() {
        let keys = [Some(7), Some(3), Some(7), None, Some(7), Some(7)];
        let times = [20, 5, 10, 1, 20, i64::MAX];
        let ints = EntityKeys::Int64 {
            values: keys.iter().map(|k| k.unwrap_or(7)).collect::<Vec<i64>>().into(),
            nulls: Some(keys.iter().map(Option::is_some).collect::<Vec<_>>().into()),
        };
        let bytes =
            EntityKeys::Bytes(keys.iter().map(|k| k.map(|k: i64| k.to_le_bytes())).collect::<BinaryArray>());
        // The same two keys, as far apart as can be.
        let far = EntityKeys::Int64 {
            values: keys
                .iter()
                .map(|k| if *k == Some(3) { i64::MIN } else { i64::MAX })
                .collect::<Vec<_>>()
                .into(),
            nulls: Some(keys.iter().map(Option::is_some).collect::<Vec<_>>().into()),
        };
        for (keys, close) in [(ints, true), (far, false), (bytes, false)] {
            let index = build(&keys, &times).unwrap();
            assert_eq!(matches!(*index.table, Table::Close { .. }), close);
            assert_eq!((index.keys(), index.slots()), (2, 4));
            assert_eq!(index.place(3), Place::NoKey);
            assert_eq!(index.place(0), index.place(4));
            let mut found = Vec::new();
            index.probe(&keys, &mut found);
            assert_eq!(found[3], NONE);
            let ranges: Vec<SlotRange> =
                found.iter().map(|key| index.slots_of(if *key == NONE { 0 } else { *key })).collect();
            for row in [0, 1, 2, 4, 5] {
                let slot = index.slot(ranges[row], Timestamp(times[row])).unwrap();
                assert_eq!(index.place(row), Place::Slot(slot));
                assert_eq!(index.time(slot), Timestamp(times[row]));
            }
            for key in [found[0], found[1]] {
                let slots = index.slots_of(key);
                for edge in [i64::MIN, 0, 5, 6, 10, 11, 20, 21, i64::MAX - 1].map(Timestamp) {
                    let slot = index.slot(slots, edge);
                    (slots.start..slots.end)
                        .for_each(|near| assert_eq!(index.slot_near(slots, edge, near), slot));
                    let (from, until) = index.edges(key, slot);
                    assert!(from <= edge && edge <= until, "{edge:?} in {slot:?}");
                    let outside = [from.0.checked_sub(1), until.0.checked_add(1)].into_iter().flatten();
                    for edge in outside.map(Timestamp).filter(|edge| *edge != Timestamp::NEVER) {
                        assert_ne!(index.slot(slots, edge), slot, "{edge:?}");
                    }
                }
            }
            assert_eq!(index.slot(ranges[0], Timestamp(11)), index.slot(ranges[0], Timestamp(20)));
            assert_eq!(index.slot(ranges[1], Timestamp(6)), None);
            // However the slots are cut into runs, every slot is swept once, within its key.
            for count in [1, 2, 3, 100] {
                let runs = index.runs(count);
                assert_eq!(runs.first().map(|run| run.start), Some(0));
                assert_eq!(runs.last().map(|run| run.end), Some(4));
                assert!(runs.windows(2).all(|two| two[0].end == two[1].start), "{runs:?}");
                let mut answers = vec![9; 4];
                for run in runs {
                    let part = &mut answers[run.start as usize..run.end as usize];
                    // The row of the first slot of all is last in order, then that of the second slot.
                    index.sweep(run, part, |slot| (slot < 2).then(|| (-i64::from(slot), 0)));
                }
                let last = if ranges[0].start == 0 { [0, 0, 0, NONE] } else { [0, 1, 1, 1] };
                assert_eq!(answers, last, "{count}");
            }
            if let EntityKeys::Int64 { .. } = keys {
                let others = [2, 4, 8, -1, i64::MIN + 1, i64::MAX - 1];
                let others = EntityKeys::Int64 { values: others.to_vec().into(), nulls: None };
                index.probe(&others, &mut found);
                assert_eq!(found, [NONE; 6]);
            }
            // Every slot is in exactly one of several parts, and every key where keys are not cut.
            for cuts_keys in [true, false] {
                let mut of_rows = [0; 6];
                let mut of_keys = [0; 6];
                for number in 0..5 {
                    let part = index.part(number, 5, cuts_keys);
                    let mut found = Vec::new();
                    part.probe(&keys, &mut found);
                    for row in 0..6 {
                        of_keys[row] += usize::from(found[row] != NONE);
                        if let Place::Slot(slot) = part.place(row) {
                            of_rows[row] += 1;
                            assert_eq!(part.time(slot), Timestamp(times[row]));
                            assert_eq!(
                                part.slot(part.slots_of(found[row]), Timestamp(times[row])),
                                Some(slot)
                            );
                        }
                    }
                }
                assert_eq!(of_rows, [1, 1, 1, 0, 1, 1]);
                assert_eq!(of_keys, if cuts_keys { [3, 1, 3, 0, 3, 3] } else { [1, 1, 1, 0, 1, 1] });
            }
        }
    }

    #[test]
    fn a_slot_is_found_from_wherever_it_is_sought() {
        // Between two other keys, whose times must not be looked at.
        let keys: Vec<i64> = [1].into_iter().chain([2; 70]).chain([3]).collect();
        let times: Vec<i64> = [1_000].into_iter().chain((0..70).map(|at| at * 10)).chain([-5]).collect();
        let keys = EntityKeys::Int64 { values: keys.into(), nulls: None };
        let index = build(&keys, &times).unwrap();
        for key in 0..3 {
            let slots = index.slots_of(key);
            for edge in (-11..=701).chain([i64::MIN, 999, 1_000, 1_001, i64::MAX]).map(Timestamp) {
                for near in slots.start..slots.end {
                    assert_eq!(
                        index.slot_near(slots, edge, near),
                        index.slot(slots, edge),
                        "{edge:?} {near}"
                    );
                }
            }
        }
    }

    /// Keys of one row and of very many, cut into runs wherever they are.
    #[test]
    fn runs_of_keys_are_one_index() {
        let key = |row: i64| if row % 3 == 0 { 7 } else { row / 5 };
        let keys: Vec<i64> = (0..100_000).map(key).collect();
        let times: Vec<i64> = (0..100_000).map(|row| (row * 7_919) % 5_003).collect();
        let of = EntityKeys::Int64 { values: keys.clone().into(), nulls: None };
        for threads in [1, 2, 8] {
            runs_of_keys(&of, &keys, &times, &Backwards(threads));
        }
    }

    /// In whatever order work is done.
    struct Backwards(usize);

    impl Threads for Backwards {
        fn count(&self) -> usize {
            self.0
        }

        fn work(&self, pieces: Vec<Work<'_>>) {
            pieces.into_iter().rev().for_each(|piece| piece());
        }
    }

    fn runs_of_keys(of: &EntityKeys, keys: &[i64], times: &[i64], threads: &dyn Threads) {
        let index = SpineIndex::build(of, times, threads).unwrap();
        let distinct: std::collections::BTreeSet<(i64, i64)> =
            keys.iter().copied().zip(times.iter().copied()).collect();
        assert_eq!(index.slots(), distinct.len());
        let mut found = Vec::new();
        index.probe(of, &mut found);
        for row in 0..keys.len() {
            let slot = index.slot(index.slots_of(found[row]), Timestamp(times[row])).unwrap();
            assert_eq!(index.place(row), Place::Slot(slot));
            assert_eq!(index.time(slot), Timestamp(times[row]));
        }
    }

    #[test]
    fn few_keys_of_a_wide_range_have_a_small_table() {
        let values: Vec<i64> = (0..1_000).map(|row| if row % 2 == 0 { -400 } else { 599 }).collect();
        let keys = EntityKeys::Int64 { values: values.into(), nulls: None };
        let index = build(&keys, &[5; 1_000]).unwrap();
        assert!(matches!(*index.table, Table::Int64 { mask: 3, .. }), "{:?}", index.table);
        let mut found = Vec::new();
        index.probe(&keys, &mut found);
        assert!((0..1_000).all(|row| Place::Slot(index.slots_of(found[row]).start) == index.place(row)));
    }
}
