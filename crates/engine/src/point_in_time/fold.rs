//! Folding the history into the slots of the spine, by several threads at once.
//!
//! Each batch is probed without locks, and most of its rows come to stand at a thread's own cursors
//! ([`super::cursors`]) or are beaten there. The others are sorted by shard, a run of slots with a lock, and
//! folded shard by shard. So states stand once however many threads there are, and a shard's states stay in
//! the processor's cache while its rows are folded.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use arrow::array::{Array, AsArray, BooleanArray, RecordBatch, UInt64Array};
use arrow::compute::{or, prep_null_mask_filter};
use arrow::datatypes::UInt64Type;
use asof_compute::{
    Address, KeyEncoder, LatestStates, NONE, SpineIndex, TOUCHED, counts_until, covering, first_answer,
};
use asof_model::{Question, Timestamp};
use serde::{Deserialize, Serialize};

use super::cursors::{Cursors, Met, Standing};
use super::facts::Facts;
use super::run_rows::{Waiting, most_waiting};
use super::second_rows::{Checks, TakeKeys, is_key};
use super::spec::{Spec, columns, compute};
use super::window_states::{are_states, reading_of};
use super::windows::{BoundWindows, WindowFold};
use crate::expression::Bound;
use crate::source::fixed;
use crate::{Error, Result};

/// About how many shards several threads share.
const SHARDS: usize = 256;

/// The states of a run of slots. A row that answers both questions from the same slot on, as every row
/// does that is known by its event time, is folded once, into `same`; so rows that are late pay for
/// the comparison, and no others. Rows that tie on (e, v), or (e, o), are in the same states of the same slot.
#[derive(Debug)]
pub(super) struct Shard {
    same: LatestStates,
    asked: LatestStates,
    other: LatestStates,
    /// Rows that end before the last time of their key, under *known*: in the nodes of a segment tree over the key's
    /// slots, two for each slot.
    ended: LatestStates,
}

impl Shard {
    fn new(slots: usize) -> Shard {
        Shard {
            same: LatestStates::new(slots),
            asked: LatestStates::new(slots),
            other: LatestStates::new(slots),
            ended: LatestStates::new(slots * 2),
        }
    }

    /// All its states.
    pub(super) fn all(&self) -> [&LatestStates; 4] {
        [&self.same, &self.asked, &self.other, &self.ended]
    }

    /// The states of one kind.
    #[inline]
    pub(super) fn of(&self, kind: Kind) -> &LatestStates {
        match kind {
            Kind::Same => &self.same,
            Kind::Asked => &self.asked,
            Kind::Other => &self.other,
            Kind::Ended => &self.ended,
        }
    }

    /// The states that hold the last row of a slot, under the question asked or under the other, where no row ends.
    #[inline]
    pub(super) fn standing(&self, slot: u32, other: bool) -> &LatestStates {
        let own = if other { &self.other } else { &self.asked };
        if own.order(slot) > self.same.order(slot) { own } else { &self.same }
    }

    /// Keeps of the rows tied in a slot only these; [`Shard::standing`].
    pub(super) fn resolve(&mut self, slot: u32, other: bool, keep: &[Address]) {
        let own = if other { &mut self.other } else { &mut self.asked };
        if own.order(slot) > self.same.order(slot) {
            own.resolve(slot, keep);
        } else {
            self.same.resolve(slot, keep);
        }
    }

    /// The slots in which the last rows tie, under the question asked or under the other.
    pub(super) fn tied_slots(&self, other: bool) -> impl Iterator<Item = u32> {
        let own = if other { &self.other } else { &self.asked };
        let stands =
            move |slot: &u32, states: &LatestStates| std::ptr::eq(self.standing(*slot, other), states);
        self.same
            .tied_slots()
            .filter(move |slot| stands(slot, &self.same))
            .chain(own.tied_slots().filter(move |slot| stands(slot, own)))
    }
}

/// What folding the history into one reading's slots has come to.
#[derive(Debug)]
pub(super) struct ReadingFold {
    pub(super) index: Arc<SpineIndex>,
    shards: Vec<Mutex<Shard>>,
    /// Slots of a shard, as a power of two.
    shift: u32,
}

/// What folding the history for one reading has come to.
#[derive(Debug)]
pub(super) struct Folded {
    /// What rows fold into.
    pub(super) into: Folding,
    /// Rows that pass `where` and have a null key.
    pub(super) null_keys: AtomicU64,
    /// Rows that pass `where` and are never known.
    pub(super) never_known: AtomicU64,
}

/// What the rows of one reading fold into.
#[derive(Debug)]
pub(super) enum Folding {
    /// The last row in order.
    Latest(ReadingFold),
    /// The states of windows.
    Windows(WindowFold),
}

impl Folded {
    fn index(&self) -> &SpineIndex {
        match &self.into {
            Folding::Latest(reading) => &reading.index,
            Folding::Windows(windows) => &windows.spine,
        }
    }

    /// Of a reading of latest values.
    pub(super) fn latest(&self) -> Option<&ReadingFold> {
        match &self.into {
            Folding::Latest(reading) => Some(reading),
            Folding::Windows(_) => None,
        }
    }
}

impl ReadingFold {
    fn new(index: Arc<SpineIndex>, threads: usize) -> ReadingFold {
        let slots = index.slots();
        let shards = if threads == 1 { 1 } else { SHARDS };
        let shift = slots.div_ceil(shards).max(1).next_power_of_two().trailing_zeros();
        let count = (slots >> shift) + 1;
        ReadingFold { index, shards: (0..count).map(|_| Mutex::new(Shard::new(1 << shift))).collect(), shift }
    }

    /// The states of a shard.
    pub(super) fn shard(&self, number: usize) -> MutexGuard<'_, Shard> {
        self.shards[number].lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Gives back the states, when the rows that answer are known.
    pub(super) fn forget(&self) {
        (0..self.shards.len()).for_each(|number| *self.shard(number) = Shard::new(0));
    }

    /// How many shards there are, and the first slot of each.
    pub(super) fn shards(&self) -> impl Iterator<Item = (usize, u32)> {
        (0..self.shards.len()).map(|number| (number, (number as u32) << self.shift))
    }

    /// The shard of a node of the tree over a key's slots, and the node's number within it.
    pub(super) fn shard_of_node(&self, node: u32) -> (usize, u32) {
        ((node >> (self.shift + 1)) as usize, node & ((2 << self.shift) - 1))
    }

    /// The shard of a slot, and the slot's number within it.
    pub(super) fn shard_of(&self, slot: u32) -> (usize, u32) {
        ((slot >> self.shift) as usize, slot & ((1 << self.shift) - 1))
    }
}

/// A reading, ready to be evaluated on batches of the scan.
#[derive(Debug)]
struct Prepared {
    keys: KeyEncoder,
    /// True where the row counts, deletes aside.
    filter: Option<Bound>,
    /// An earlier reading with the same spine and source keys, whose probes serve for this one.
    probed_by: Option<usize>,
}

/// Folds batches of the history.
#[derive(Debug)]
pub(super) struct Fold {
    spec: Arc<Spec>,
    prepared: Vec<Prepared>,
    pub(super) readings: Vec<Folded>,
    rows: AtomicU64,
    threads: usize,
    /// Rows are the history's own, and not what partial halves left of it.
    counts: bool,
    /// What takes the keys of facts without a clock, and which.
    keys: Option<(Checks, Arc<dyn TakeKeys>)>,
}

/// The counts of a partial half, sent behind its rows.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Report {
    /// Rows read.
    rows: u64,
    /// Per reading, rows with a null key, and rows that are never known.
    readings: Vec<(u64, u64)>,
}

/// What one thread uses again for each batch, and its cursors: whoever is done with its batches folds the
/// rows that stand there by [`Fold::rest`].
#[derive(Debug, Default)]
pub(super) struct Scratch {
    /// Per reading the number of each row's key.
    found: Vec<Vec<u32>>,
    /// Per reading; none where they are of no use.
    cursors: Vec<Option<Cursors>>,
    items: Items,
    /// Per reading.
    waiting: Vec<Waiting>,
    /// Per row of the batch whether it stands in some slot.
    pub(super) kept: Vec<bool>,
}

/// Rows on their way into slots.
#[derive(Debug, Default)]
struct Items {
    items: Vec<Item>,
    /// Rows that fall elsewhere than at their key's cursor, their keys' numbers, and slots that may be near.
    elsewhere: Vec<(u32, u32, Option<u32>)>,
    sorted: Vec<Item>,
    starts: Vec<u32>,
}

/// A row on its way into a slot.
#[derive(Debug, Clone, Copy)]
struct Item {
    slot: u32,
    /// Its number in the batch, or [`OLD`], and in the lowest two bits which of the shard's states it is for.
    row: u32,
    standing: Standing,
}

/// So many rows that leave cursors are folded at once.
const AT_ONCE: usize = 8_192;

/// The number of a row of a batch before.
const OLD: u32 = u32::MAX >> 2;

/// Which of a shard's states a row is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    /// For both questions, or no other is compared.
    Same = 0,
    /// For the question asked only.
    Asked = 1,
    /// For the other question only.
    Other = 2,
    /// In the trees of rows that end.
    Ended = 3,
}

impl Kind {
    /// Of a number's lowest two bits.
    #[inline]
    fn of(bits: u32) -> Kind {
        match bits & 3 {
            0 => Kind::Same,
            1 => Kind::Asked,
            2 => Kind::Other,
            _ => Kind::Ended,
        }
    }
}

/// How the rows of a batch are named.
#[derive(Debug, Clone, Copy)]
pub(super) enum Naming<'a> {
    /// By counting on from here.
    From(u64),
    /// By their own addresses.
    Column(&'a UInt64Array),
}

impl Fold {
    /// Nothing folded yet. `filters` are the readings' compiled `where`.
    pub(super) fn new(
        spec: Arc<Spec>,
        indexes: Vec<Arc<SpineIndex>>,
        filters: &[Option<Bound>],
        windows: &[Option<BoundWindows>],
        threads: usize,
        counts: bool,
        keys: Option<(Checks, Arc<dyn TakeKeys>)>,
    ) -> Fold {
        let prepared = spec.readings.iter().zip(filters).enumerate();
        let prepared = prepared
            .map(|(number, (reading, filter))| Prepared {
                keys: KeyEncoder::new(&reading.keys.iter().map(|k| k.data_type.clone()).collect::<Vec<_>>()),
                filter: filter.clone(),
                probed_by: spec.readings[..number]
                    .iter()
                    .position(|other| other.spine_keys == reading.spine_keys && other.keys == reading.keys),
            })
            .collect();
        let most = most_waiting(spec.memory, threads, windows.iter().flatten().count());
        let readings = indexes.into_iter().zip(windows).map(|(index, windows)| Folded {
            into: match windows {
                None => Folding::Latest(ReadingFold::new(index, threads)),
                Some(bound) => Folding::Windows(WindowFold::new(index, bound, threads, most)),
            },
            null_keys: AtomicU64::new(0),
            never_known: AtomicU64::new(0),
        });
        let readings = readings.collect();
        Fold { spec, prepared, readings, rows: AtomicU64::new(0), threads, counts, keys }
    }

    /// How many rows were read.
    pub(super) fn rows(&self) -> u64 {
        self.rows.load(Ordering::Relaxed)
    }

    /// Bytes that rows take in the states of windows and beside them; and what of them no smaller portion would spare.
    pub(super) fn held(&self) -> (u64, u64) {
        let held = |reading: &Folded| match &reading.into {
            Folding::Latest(_) => (0, 0),
            Folding::Windows(windows) => windows.held(),
        };
        self.readings.iter().map(held).fold((0, 0), |sum, held| (sum.0 + held.0, sum.1 + held.1))
    }

    /// What a partial half counts.
    pub(super) fn report(&self) -> Report {
        let load = |count: &AtomicU64| count.load(Ordering::Relaxed);
        let count = |reading: &Folded| (load(&reading.null_keys), load(&reading.never_known));
        Report { rows: self.rows(), readings: self.readings.iter().map(count).collect() }
    }

    /// Takes what a partial half sent behind its rows: the key of a row, or its counts, whose rows are not
    /// counted again.
    pub(super) fn take_report(&self, report: &[u8]) -> Result<()> {
        if let Some((checks, to)) = &self.keys
            && checks.take_sent(&self.spec, report, to.as_ref())?
        {
            return Ok(());
        }
        if is_key(report) {
            return Ok(());
        }
        if are_states(report) {
            let reading = reading_of(report).and_then(|reading| self.readings.get(reading));
            return match reading.map(|reading| &reading.into) {
                Some(Folding::Windows(fold)) => fold.take(report),
                _ => Err(Error::internal("states are of a reading without windows")),
            };
        }
        let report: Report = serde_json::from_slice(report).map_err(|e| Error::internal(e.to_string()))?;
        self.rows.fetch_add(report.rows, Ordering::Relaxed);
        for (reading, (null_keys, never_known)) in self.readings.iter().zip(&report.readings) {
            reading.null_keys.fetch_add(*null_keys, Ordering::Relaxed);
            reading.never_known.fetch_add(*never_known, Ordering::Relaxed);
        }
        Ok(())
    }

    /// Folds the rows of a batch; `scratch.kept` says which of them stand somewhere.
    pub(super) fn batch(&self, batch: &RecordBatch, naming: Naming<'_>, scratch: &mut Scratch) -> Result<()> {
        let rows = batch.num_rows();
        if self.counts {
            self.rows.fetch_add(rows as u64, Ordering::Relaxed);
        }
        let Scratch { found, cursors, items, waiting, kept } = scratch;
        if found.is_empty() {
            found.resize_with(self.readings.len(), Vec::new);
            waiting.resize_with(self.readings.len(), Waiting::default);
            cursors.extend(self.readings.iter().map(|reading| self.cursors(reading.latest()?)));
        }
        kept.clear();
        kept.resize(rows, false);
        let facts = Facts::new(batch, &self.spec)?;
        for (number, (reading, prepared)) in self.readings.iter().zip(&self.prepared).enumerate() {
            let keep =
                prepared.filter.as_ref().map(|filter| passing(filter, batch, facts.ops())).transpose()?;
            let keys =
                prepared.keys.keys(&columns(batch, &self.spec.readings[number].keys)?).map_err(compute)?;
            if self.counts {
                self.count(reading, &keys, keep.as_ref(), &facts);
                if let Some((checks, to)) = &self.keys
                    && let Some(check) = checks.of(number)
                {
                    checks.take(check, batch, &keys, keep.as_ref(), to.as_ref());
                }
            }
            let (earlier, of_this) = found.split_at_mut(number);
            let found = match prepared.probed_by {
                Some(probed) => &earlier[probed],
                None => {
                    reading.index().probe(&keys, &mut of_this[0]);
                    &of_this[0]
                }
            };
            let reading = match &reading.into {
                Folding::Latest(reading) => reading,
                // What partial halves left are rows that may be latest ones; those in windows came as states.
                Folding::Windows(_) if !self.counts => continue,
                Folding::Windows(fold) => {
                    let rows = (found.as_slice(), keep.as_ref(), &facts);
                    fold.batch(&self.spec, batch, rows, &mut waiting[number])?;
                    continue;
                }
            };
            let of_batch = BatchRows { found, keep: keep.as_ref(), facts: &facts, naming };
            let own = &mut cursors[number];
            match naming {
                Naming::Column(addresses) if facts.are_plain() => {
                    let standing = |row| facts.plain(row, addresses.value(row));
                    self.find_slots(reading, &of_batch, standing, own, items, kept);
                }
                _ => self.find_slots(reading, &of_batch, |row| of_batch.standing(row), own, items, kept),
            }
            items.fold(reading, kept);
            if let Some(mut idle) = own.take_if(|own| own.are_idle()) {
                items.fold_left(reading, idle.leave());
            }
        }
        Ok(())
    }

    /// Folds the rows that stand at a thread's cursors, and those that wait in it.
    pub(super) fn rest(&self, scratch: &mut Scratch) {
        let Scratch { cursors, items, waiting, .. } = scratch;
        for (reading, waiting) in self.readings.iter().zip(waiting) {
            if let Folding::Windows(fold) = &reading.into {
                fold.rest(&self.spec, waiting);
            }
        }
        for (reading, cursors) in self.readings.iter().zip(cursors) {
            if let (Some(cursors), Some(reading)) = (cursors, reading.latest()) {
                items.fold_left(reading, cursors.leave());
            }
        }
    }

    fn cursors(&self, reading: &ReadingFold) -> Option<Cursors> {
        let states = reading.index.slots() as u64 * LatestStates::BYTES_PER_SLOT;
        Cursors::new(&reading.index, self.threads * self.readings.len(), states, self.spec.memory)
    }

    fn count(
        &self,
        reading: &Folded,
        keys: &asof_compute::EntityKeys,
        keep: Option<&BooleanArray>,
        facts: &Facts,
    ) {
        // A delete with an id is a row of no entity, whatever its columns say.
        let passes = |row: usize| keep.is_none_or(|keep| keep.value(row)) && !facts.is_withdrawal(row);
        if keys.null_count() > 0 {
            let found = (0..keys.len()).filter(|row| keys.is_null(*row) && passes(*row)).count();
            reading.null_keys.fetch_add(found as u64, Ordering::Relaxed);
        }
        if let Some(nulls) = facts.never() {
            let found = (0..keys.len()).filter(|row| nulls.is_null(*row) && passes(*row)).count();
            reading.never_known.fetch_add(found as u64, Ordering::Relaxed);
        }
    }

    /// Brings rows to their keys' cursors, and those that fall elsewhere to their slots; what is to be folded
    /// goes into `items`.
    fn find_slots(
        &self,
        reading: &ReadingFold,
        rows: &BatchRows<'_>,
        standing: impl Fn(usize) -> Standing,
        own: &mut Option<Cursors>,
        items: &mut Items,
        kept: &mut [bool],
    ) {
        let index = reading.index.as_ref();
        let Items { items, elsewhere, .. } = items;
        let (mut asked_for, mut fell) = (0, 0);
        for (run, keys) in rows.found.chunks(TOUCHED).enumerate() {
            if let Some(cursors) = own {
                cursors.warm(keys);
            }
            elsewhere.clear();
            for (row, key) in (run * TOUCHED..).zip(keys) {
                if *key == NONE || rows.keep.is_some_and(|keep| !keep.value(row)) {
                    continue;
                }
                if let Some(next) = rows.facts.next(row) {
                    self.end(reading, rows, (*key, row, next), items);
                    continue;
                }
                asked_for += 1;
                let met = own.as_mut().map_or(Met::Elsewhere(None), |cursors| {
                    let standing = standing(row);
                    let (asked, other) = self.edges(&standing);
                    cursors.meet(*key, asked.min(other), asked.max(other), standing)
                });
                match met {
                    Met::Beaten => {}
                    Met::Stands => kept[row] = true,
                    Met::Ties(slot) => items.push(Item::new(slot, row, Kind::Same, standing(row))),
                    Met::Elsewhere(near) => elsewhere.push((row as u32, *key, near)),
                }
            }
            fell += elsewhere.len() as u64;
            index.warm(elsewhere.iter().map(|(_, key, near)| (*key, *near)));
            for (row, key, near) in elsewhere.iter().map(|(row, key, near)| (*row as usize, *key, *near)) {
                let standing = standing(row);
                let (asked, other) = self.edges(&standing);
                let slots = index.slots_of(key);
                let slot = |from| match (from, near) {
                    (Timestamp::NEVER, _) => None,
                    (from, Some(near)) => index.slot_near(slots, from, near),
                    (from, None) => index.slot(slots, from),
                };
                let asked_slot = slot(asked);
                let other_slot = if other == asked { asked_slot } else { slot(other) };
                if asked_slot != other_slot {
                    items.extend(asked_slot.map(|slot| Item::new(slot, row, Kind::Asked, standing)));
                    items.extend(other_slot.map(|slot| Item::new(slot, row, Kind::Other, standing)));
                } else if let Some(cursors) = own {
                    kept[row] |= asked_slot.is_some();
                    let left = cursors.move_to(key, asked_slot, standing, index);
                    items.extend(left.map(|(slot, row)| Item::old(slot, row)));
                } else {
                    items.extend(asked_slot.map(|slot| Item::new(slot, row, Kind::Same, standing)));
                }
            }
        }
        if let Some(cursors) = own {
            cursors.count(asked_for, fell);
        }
    }

    /// Brings a row that another version comes after to where it answers: nowhere under *event*, and under *known* until
    /// that version is known.
    fn end(
        &self,
        reading: &ReadingFold,
        rows: &BatchRows<'_>,
        (key, row, next): (u32, usize, Timestamp),
        items: &mut Vec<Item>,
    ) {
        let known = match self.spec.question {
            Question::Known => Kind::Asked,
            Question::Event if self.spec.compare => Kind::Other,
            Question::Event => return,
        };
        let index = reading.index.as_ref();
        let slots = index.slots_of(key);
        let (event_time, visible_at) = rows.facts.times(row);
        let first = first_answer(Question::Known, event_time, visible_at);
        let until = counts_until(Question::Known, Some(next));
        if first >= until {
            return;
        }
        let Some(first) = index.slot(slots, first) else { return };
        let until = match until {
            Timestamp::NEVER => slots.end,
            until => index.slot(slots, until).unwrap_or(slots.end),
        };
        let standing = rows.standing(row);
        if until == slots.end {
            items.push(Item::new(first, row, known, standing));
            return;
        }
        let within = |slot: u32| slot - slots.start;
        covering(within(slots.end), within(first), within(until), |node| {
            items.push(Item::new(slots.start * 2 + node, row, Kind::Ended, standing));
        });
    }

    /// From when on a row answers, under the question asked and under the other.
    #[inline]
    fn edges(&self, row: &Standing) -> (Timestamp, Timestamp) {
        let visible_at = if self.spec.then_by.is_some() { row.event_time } else { row.then };
        let first = |question| first_answer(question, row.event_time, visible_at);
        let asked = first(self.spec.question);
        let other = match self.spec.question {
            // A row known by its event time answers both from the same time on.
            _ if !self.spec.compare || visible_at <= row.event_time => asked,
            Question::Known => first(Question::Event),
            Question::Event => first(Question::Known),
        };
        (asked, other)
    }
}

impl Item {
    #[inline]
    fn new(slot: u32, row: usize, kind: Kind, standing: Standing) -> Item {
        Item { slot, row: (row as u32) << 2 | kind as u32, standing }
    }

    /// A row of a batch before.
    #[inline]
    fn old(slot: u32, standing: Standing) -> Item {
        Item { slot, row: OLD << 2 | Kind::Same as u32, standing }
    }

    #[inline]
    fn kind(&self) -> Kind {
        Kind::of(self.row)
    }

    /// The shard it is for, of so many slots as a power of two.
    #[inline]
    fn shard(&self, shift: u32) -> usize {
        (self.slot >> (shift + u32::from(self.kind() == Kind::Ended))) as usize
    }
}

impl Items {
    /// Folds them, and is empty; `kept` says which rows of the batch stand.
    fn fold(&mut self, reading: &ReadingFold, kept: &mut [bool]) {
        self.sort(reading);
        let mut rest = self.items.as_slice();
        while let Some(first) = rest.first() {
            let number = first.shard(reading.shift);
            let run = rest.iter().position(|item| item.shard(reading.shift) != number).unwrap_or(rest.len());
            let (now, later) = rest.split_at(run);
            rest = later;
            let mut shard = reading.shard(number);
            let within = (1 << reading.shift) - 1;
            shard.same.warm(now.iter().map(|item| item.slot & within));
            for item in now {
                let (states, slot) = match item.kind() {
                    Kind::Same => (&mut shard.same, item.slot & within),
                    Kind::Asked => (&mut shard.asked, item.slot & within),
                    Kind::Other => (&mut shard.other, item.slot & within),
                    Kind::Ended => (&mut shard.ended, item.slot & (within << 1 | 1)),
                };
                let Standing { event_time, then, address } = item.standing;
                let stands = states.fold(slot, event_time, then, address);
                if let Some(kept) = kept.get_mut((item.row >> 2) as usize) {
                    *kept |= stands;
                }
            }
        }
        self.items.clear();
    }

    /// Folds rows that leave cursors, some at a time.
    fn fold_left(&mut self, reading: &ReadingFold, mut left: impl Iterator<Item = (u32, Standing)>) {
        loop {
            self.items.extend(left.by_ref().take(AT_ONCE).map(|(slot, row)| Item::old(slot, row)));
            if self.items.is_empty() {
                return;
            }
            self.fold(reading, &mut []);
        }
    }

    /// Sorts them by shard.
    fn sort(&mut self, reading: &ReadingFold) {
        let shards = reading.shards.len();
        let Some(first) = self.items.first().copied().filter(|_| shards > 1) else { return };
        let Items { items, sorted, starts, .. } = self;
        starts.clear();
        starts.resize(shards + 1, 0);
        for item in items.iter() {
            starts[item.shard(reading.shift) + 1] += 1;
        }
        for shard in 0..shards {
            starts[shard + 1] += starts[shard];
        }
        sorted.clear();
        sorted.resize(items.len(), first);
        for item in items.iter() {
            let next = &mut starts[item.shard(reading.shift)];
            sorted[*next as usize] = *item;
            *next += 1;
        }
        std::mem::swap(items, sorted);
    }
}

/// The rows of a batch, as one reading has them.
struct BatchRows<'a> {
    /// The number of each one's key.
    found: &'a [u32],
    keep: Option<&'a BooleanArray>,
    facts: &'a Facts,
    naming: Naming<'a>,
}

impl BatchRows<'_> {
    #[inline]
    fn standing(&self, row: usize) -> Standing {
        let named = match self.naming {
            Naming::From(first) => first + row as u64,
            Naming::Column(addresses) => addresses.value(row),
        };
        self.facts.standing(row, named)
    }
}

/// The rows that `where` lets pass: those it is true of, and every delete.
pub(crate) fn passing(filter: &Bound, batch: &RecordBatch, ops: &BooleanArray) -> Result<BooleanArray> {
    let found = filter.evaluate(batch)?;
    let found = found.as_boolean_opt().ok_or_else(|| Error::internal("a `where` is no boolean"))?;
    Ok(or(&true_only(found), ops)?)
}

/// Nulls as false.
pub(crate) fn true_only(found: &BooleanArray) -> BooleanArray {
    if found.null_count() == 0 { found.clone() } else { prep_null_mask_filter(found) }
}

/// The addresses of a batch.
pub(super) fn addresses(batch: &RecordBatch) -> Option<&UInt64Array> {
    batch.column_by_name(fixed::ADDRESS)?.as_primitive_opt::<UInt64Type>()
}
