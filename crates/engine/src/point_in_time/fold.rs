//! Folding the history into the slots of the spine, by several threads at once.
//!
//! Each batch is probed without locks, and most of its rows come to stand at a thread's own cursors
//! ([`super::cursors`]) or are beaten there. The others are sorted by shard, a run of slots with a lock, and
//! folded shard by shard. So states stand once however many threads there are, and a shard's states stay in
//! the processor's cache while its rows are folded.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use arrow::array::{Array, AsArray, BooleanArray, RecordBatch, UInt64Array};
use arrow::buffer::NullBuffer;
use arrow::compute::{or, prep_null_mask_filter};
use arrow::datatypes::{Int64Type, TimestampMicrosecondType, UInt64Type};
use asof_compute::{
    Address, KeyEncoder, LatestStates, NONE, Op, Position, RowDigester, RowOrder, SpineIndex, TOUCHED,
    first_answer, order_numbers,
};
use asof_model::{Question, Timestamp};
use serde::{Deserialize, Serialize};

use super::cursors::{Cursors, Met, Standing};
use super::second_rows::{Checks, TakeKeys, is_key};
use super::spec::{Spec, columns, compute};
use super::window_states::{are_states, reading_of};
use super::windows::{BoundWindows, WindowFold, WindowScratch};
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
}

impl Shard {
    fn new(slots: usize) -> Shard {
        Shard {
            same: LatestStates::new(slots),
            asked: LatestStates::new(slots),
            other: LatestStates::new(slots),
        }
    }

    /// All its states.
    pub(super) fn all(&self) -> [&LatestStates; 3] {
        [&self.same, &self.asked, &self.other]
    }

    /// The states that hold the last row of a slot, under the question asked or under the other.
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
    windows: WindowScratch,
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

/// For both questions, or no other is compared.
const SAME: u32 = 0;
/// For the question asked only.
const ASKED: u32 = 1;
/// For the other question only.
const OTHER: u32 = 2;

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
        let readings = indexes.into_iter().zip(windows).map(|(index, windows)| Folded {
            into: match windows {
                None => Folding::Latest(ReadingFold::new(index, threads)),
                Some(bound) => Folding::Windows(WindowFold::new(index, bound, threads)),
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
        let Scratch { found, cursors, items, windows, kept } = scratch;
        if found.is_empty() {
            found.resize_with(self.readings.len(), Vec::new);
            cursors.extend(self.readings.iter().map(|reading| self.cursors(reading.latest()?)));
        }
        kept.clear();
        kept.resize(rows, false);
        let facts = Facts::new(batch, &self.spec)?;
        for (number, (reading, prepared)) in self.readings.iter().zip(&self.prepared).enumerate() {
            let keep =
                prepared.filter.as_ref().map(|filter| passing(filter, batch, &facts.ops)).transpose()?;
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
                    fold.batch(&self.spec, batch, (found, keep.as_ref(), &facts), windows)?;
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

    /// Folds the rows that stand at a thread's cursors.
    pub(super) fn rest(&self, scratch: &mut Scratch) {
        let Scratch { cursors, items, .. } = scratch;
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
        let passes = |row: usize| keep.is_none_or(|keep| keep.value(row));
        if keys.null_count() > 0 {
            let found = (0..keys.len()).filter(|row| keys.is_null(*row) && passes(*row)).count();
            reading.null_keys.fetch_add(found as u64, Ordering::Relaxed);
        }
        if let Some(nulls) = &facts.never {
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
                asked_for += 1;
                let met = own.as_mut().map_or(Met::Elsewhere(None), |cursors| {
                    let standing = standing(row);
                    let (asked, other) = self.edges(&standing);
                    cursors.meet(*key, asked.min(other), asked.max(other), standing)
                });
                match met {
                    Met::Beaten => {}
                    Met::Stands => kept[row] = true,
                    Met::Ties(slot) => items.push(Item::new(slot, row, SAME, standing(row))),
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
                    items.extend(asked_slot.map(|slot| Item::new(slot, row, ASKED, standing)));
                    items.extend(other_slot.map(|slot| Item::new(slot, row, OTHER, standing)));
                } else if let Some(cursors) = own {
                    kept[row] |= asked_slot.is_some();
                    let left = cursors.move_to(key, asked_slot, standing, index);
                    items.extend(left.map(|(slot, row)| Item::old(slot, row)));
                } else {
                    items.extend(asked_slot.map(|slot| Item::new(slot, row, SAME, standing)));
                }
            }
        }
        if let Some(cursors) = own {
            cursors.count(asked_for, fell);
        }
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
    fn new(slot: u32, row: usize, states: u32, standing: Standing) -> Item {
        Item { slot, row: (row as u32) << 2 | states, standing }
    }

    /// A row of a batch before.
    #[inline]
    fn old(slot: u32, standing: Standing) -> Item {
        Item { slot, row: OLD << 2 | SAME, standing }
    }
}

impl Items {
    /// Folds them, and is empty; `kept` says which rows of the batch stand.
    fn fold(&mut self, reading: &ReadingFold, kept: &mut [bool]) {
        self.sort(reading);
        let mut rest = self.items.as_slice();
        while let Some(first) = rest.first() {
            let number = first.slot >> reading.shift;
            let run = rest.iter().position(|item| item.slot >> reading.shift != number).unwrap_or(rest.len());
            let (now, later) = rest.split_at(run);
            rest = later;
            let mut shard = reading.shard(number as usize);
            let within = (1 << reading.shift) - 1;
            shard.same.warm(now.iter().map(|item| item.slot & within));
            for item in now {
                let states = match item.row & 3 {
                    SAME => &mut shard.same,
                    ASKED => &mut shard.asked,
                    _ => &mut shard.other,
                };
                let Standing { event_time, then, address } = item.standing;
                let stands = states.fold(item.slot & within, event_time, then, address);
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
            starts[(item.slot >> reading.shift) as usize + 1] += 1;
        }
        for shard in 0..shards {
            starts[shard + 1] += starts[shard];
        }
        sorted.clear();
        sorted.resize(items.len(), first);
        for item in items.iter() {
            let next = &mut starts[(item.slot >> reading.shift) as usize];
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
        let delete = self.facts.deletes && self.facts.ops.value(row);
        Standing {
            event_time: self.facts.event_time(row),
            then: self.facts.then(row),
            address: Address(named << 1 | u64::from(delete)),
        }
    }
}

/// The fixed columns of a batch.
#[derive(Debug)]
pub(super) struct Facts {
    event_times: arrow::buffer::ScalarBuffer<i64>,
    clockless: Option<NullBuffer>,
    /// v, or the numbers of o; [`Spec::then_by`].
    then: arrow::buffer::ScalarBuffer<i64>,
    /// Null where that is null.
    unseen: Option<NullBuffer>,
    /// The same, where that means never known.
    never: Option<NullBuffer>,
    /// Whether that is o.
    is_order: bool,
    ops: BooleanArray,
    /// Whether any row is a delete.
    deletes: bool,
}

/// A null o, which comes before all others; the least number there is ties with it, and is told apart as ties are.
const NULL_FIRST: Timestamp = Timestamp(i64::MIN);

impl Facts {
    fn new(batch: &RecordBatch, spec: &Spec) -> Result<Facts> {
        let column = |name: &str| {
            batch.column_by_name(name).ok_or_else(|| Error::internal(format!("the scan gives no `{name}`")))
        };
        let times = |name: &str| {
            let found = column(name)?.as_primitive_opt::<TimestampMicrosecondType>().cloned();
            found.ok_or_else(|| Error::internal(format!("`{name}` of the scan is no timestamp")))
        };
        let event = times(fixed::EVENT_TIME)?;
        let then = match &spec.then_by {
            Some(name) => order_numbers(column(name)?).map_err(compute)?,
            None => times(fixed::VISIBLE_AT)?.reinterpret_cast::<Int64Type>(),
        };
        let ops = column(fixed::OP)?;
        let ops = ops.as_boolean_opt().ok_or_else(|| Error::internal("`__op` of the scan is no boolean"))?;
        let clockless = event.nulls().filter(|nulls| nulls.null_count() > 0).cloned();
        if clockless.is_some() && !spec.clockless {
            return Err(Error::internal(format!("source `{}` gives a null event time", spec.source)));
        }
        let unseen = then.nulls().filter(|nulls| nulls.null_count() > 0).cloned();
        let ops = true_only(ops);
        Ok(Facts {
            deletes: ops.has_true(),
            event_times: event.values().clone(),
            clockless,
            then: then.values().clone(),
            never: unseen.clone().filter(|_| !spec.assumed),
            is_order: spec.then_by.is_some(),
            unseen,
            ops,
        })
    }

    /// Whether a row is a delete.
    #[inline]
    pub(super) fn is_delete(&self, row: usize) -> bool {
        self.deletes && self.ops.value(row)
    }

    /// When a row happened, and from when on it may be used.
    #[inline]
    pub(super) fn times(&self, row: usize) -> (Timestamp, Timestamp) {
        let event_time = self.event_time(row);
        (event_time, if self.is_order { event_time } else { self.then(row) })
    }

    /// The event times, of a source with a clock.
    pub(super) fn event_times(&self) -> &arrow::buffer::ScalarBuffer<i64> {
        &self.event_times
    }

    /// The places of all rows in the order of their source, of a batch with all its columns.
    pub(super) fn orders(&self, batch: &RecordBatch, spec: &Spec) -> Result<Arc<[RowOrder]>> {
        let lacks = |name: &str| Error::internal(format!("the scan gives no `{name}`"));
        let order_by = batch.column_by_name(fixed::ORDER_BY).and_then(|it| it.as_binary_opt::<i32>());
        let order_by = order_by.ok_or_else(|| lacks(fixed::ORDER_BY))?;
        let positions = batch.column_by_name(fixed::POSITION);
        let positions = positions.and_then(|it| it.as_primitive_opt::<Int64Type>());
        let positions = positions.ok_or_else(|| lacks(fixed::POSITION))?;
        // Rows with positions of their own never tie, so that nothing need tell them apart.
        let digests = match positions.null_count() {
            0 => Vec::new(),
            _ => {
                let own = spec
                    .columns
                    .iter()
                    .map(|column| batch.schema().index_of(&column.name).map_err(|_| lacks(&column.name)));
                let rows = batch.project(&own.collect::<Result<Vec<_>>>()?)?;
                RowDigester::new(&spec.columns).digest(&rows).map_err(compute)?
            }
        };
        let order = |row: usize| {
            let (event_time, visible_at) = self.times(row);
            RowOrder {
                event_time,
                visible_at,
                order_by: if order_by.is_null(row) { Box::default() } else { order_by.value(row).into() },
                position: if positions.is_null(row) {
                    Position::NONE
                } else {
                    Position(positions.value(row))
                },
                op: if self.is_delete(row) { Op::Delete } else { Op::Value },
                digest: digests.get(row).copied().unwrap_or_default(),
            }
        };
        Ok((0..batch.num_rows()).map(order).collect())
    }

    /// Whether its rows say all that there is to know of them, as those of most histories do: none is a delete,
    /// has no clock or no time it is known from, or no o.
    fn are_plain(&self) -> bool {
        !self.deletes && self.clockless.is_none() && self.unseen.is_none()
    }

    /// A row of those: what [`BatchRows::standing`] gives, without its questions.
    #[inline]
    fn plain(&self, row: usize, named: u64) -> Standing {
        Standing {
            event_time: Timestamp(self.event_times[row]),
            then: Timestamp(self.then[row]),
            address: Address(named << 1),
        }
    }

    #[inline]
    fn event_time(&self, row: usize) -> Timestamp {
        match &self.clockless {
            Some(nulls) if nulls.is_null(row) => Timestamp::BEFORE_ALL,
            _ => Timestamp(self.event_times[row]),
        }
    }

    #[inline]
    fn then(&self, row: usize) -> Timestamp {
        match &self.unseen {
            Some(nulls) if nulls.is_null(row) => match self.never {
                _ if self.is_order => NULL_FIRST,
                Some(_) => Timestamp::NEVER,
                None => self.event_time(row),
            },
            _ => Timestamp(self.then[row]),
        }
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
