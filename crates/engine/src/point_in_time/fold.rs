//! Folding the history into the slots of the spine, by several threads at once.
//!
//! Each batch is probed without locks; its rows are then sorted by shard, a run of slots, and folded
//! shard by shard. So states stand once however many threads there are, and a shard's states stay in
//! the processor's cache while its rows are folded.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use arrow::array::{Array, AsArray, BooleanArray, RecordBatch, UInt64Array};
use arrow::buffer::NullBuffer;
use arrow::compute::{or, prep_null_mask_filter};
use arrow::datatypes::{TimestampMicrosecondType, UInt64Type};
use asof_compute::{Address, KeyEncoder, LatestStates, SlotRange, SpineIndex, TOUCHED, first_answer};
use asof_model::{Question, Timestamp};
use serde::{Deserialize, Serialize};

use super::second_rows::{Checks, TakeKeys, is_key};
use super::spec::{Spec, columns, compute};
use crate::expression::Bound;
use crate::source::fixed;
use crate::{Error, Result};

/// About how many shards several threads share.
const SHARDS: usize = 256;

/// The states of a run of slots. A row that answers both questions from the same slot on, as every row
/// does that is known by its event time, is folded once, into `same`; so rows that are late pay for
/// the comparison, and no others. Rows that tie on (e, v) are in the same states of the same slot.
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
    /// Rows that pass `where` and have a null key.
    pub(super) null_keys: AtomicU64,
    /// Rows that pass `where` and are never known.
    pub(super) never_known: AtomicU64,
}

impl ReadingFold {
    fn new(index: Arc<SpineIndex>, threads: usize) -> ReadingFold {
        let slots = index.slots();
        let shards = if threads == 1 { 1 } else { SHARDS };
        let shift = slots.div_ceil(shards).max(1).next_power_of_two().trailing_zeros();
        let count = (slots >> shift) + 1;
        ReadingFold {
            index,
            shards: (0..count).map(|_| Mutex::new(Shard::new(1 << shift))).collect(),
            shift,
            null_keys: AtomicU64::new(0),
            never_known: AtomicU64::new(0),
        }
    }

    /// The states of a shard.
    pub(super) fn shard(&self, number: usize) -> MutexGuard<'_, Shard> {
        self.shards[number].lock().unwrap_or_else(PoisonError::into_inner)
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
    pub(super) readings: Vec<ReadingFold>,
    rows: AtomicU64,
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

/// What one thread uses again for each batch.
#[derive(Debug, Default)]
pub(super) struct Scratch {
    ranges: Vec<Vec<SlotRange>>,
    items: Vec<Item>,
    sorted: Vec<Item>,
    starts: Vec<u32>,
    /// Per row of the batch whether it stands in some slot.
    pub(super) kept: Vec<bool>,
}

/// A row on its way into a slot.
#[derive(Debug, Clone, Copy, Default)]
struct Item {
    slot: u32,
    /// Its number in the batch, and in the lowest two bits which of the shard's states it is for.
    row: u32,
}

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
        let readings = indexes.into_iter().map(|index| ReadingFold::new(index, threads)).collect();
        Fold { spec, prepared, readings, rows: AtomicU64::new(0), counts, keys }
    }

    /// How many rows were read.
    pub(super) fn rows(&self) -> u64 {
        self.rows.load(Ordering::Relaxed)
    }

    /// What a partial half counts.
    pub(super) fn report(&self) -> Report {
        let load = |count: &AtomicU64| count.load(Ordering::Relaxed);
        let count = |reading: &ReadingFold| (load(&reading.null_keys), load(&reading.never_known));
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
        scratch.kept.clear();
        scratch.kept.resize(rows, false);
        scratch.ranges.resize_with(self.readings.len(), Vec::new);
        let facts = Facts::new(batch, &self.spec)?;
        for (number, (reading, prepared)) in self.readings.iter().zip(&self.prepared).enumerate() {
            let mut ranges = std::mem::take(&mut scratch.ranges[number]);
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
            match prepared.probed_by {
                Some(earlier) => ranges.clone_from(&scratch.ranges[earlier]),
                None => reading.index.probe(&keys, &mut ranges),
            }
            self.find_slots(number, &ranges, keep.as_ref(), &facts, scratch);
            scratch.ranges[number] = ranges;
            self.fold_items(reading, &facts, naming, scratch);
        }
        Ok(())
    }

    fn count(
        &self,
        reading: &ReadingFold,
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

    /// Which slots each row folds into, into `scratch.items`.
    fn find_slots(
        &self,
        number: usize,
        ranges: &[SlotRange],
        keep: Option<&BooleanArray>,
        facts: &Facts,
        scratch: &mut Scratch,
    ) {
        let reading = &self.readings[number];
        let index = reading.index.as_ref();
        scratch.items.clear();
        for (run, ranges) in ranges.chunks(TOUCHED).enumerate() {
            index.warm(ranges);
            for (row, range) in (run * TOUCHED..).zip(ranges) {
                if range.is_empty() || keep.is_some_and(|keep| !keep.value(row)) {
                    continue;
                }
                let (event_time, visible_at) = (facts.event_time(row), facts.visible_at(row));
                let first = |question| match first_answer(question, event_time, visible_at) {
                    Timestamp::NEVER => None,
                    first => index.slot(*range, first),
                };
                let asked = first(self.spec.question);
                // A row known by its event time answers both questions from the same slot on.
                let other = match self.spec.question {
                    _ if !self.spec.compare || visible_at <= event_time => asked,
                    Question::Known => first(Question::Event),
                    Question::Event => first(Question::Known),
                };
                let row = (row as u32) << 2;
                if asked == other {
                    scratch.items.extend(asked.map(|slot| Item { slot, row: row | SAME }));
                } else {
                    scratch.items.extend(asked.map(|slot| Item { slot, row: row | ASKED }));
                    scratch.items.extend(other.map(|slot| Item { slot, row: row | OTHER }));
                }
            }
        }
    }

    fn fold_items(&self, reading: &ReadingFold, facts: &Facts, naming: Naming<'_>, scratch: &mut Scratch) {
        let shards = reading.shards.len();
        let Scratch { items, sorted, starts, kept, .. } = scratch;
        if shards > 1 {
            starts.clear();
            starts.resize(shards + 1, 0);
            for item in items.iter() {
                starts[(item.slot >> reading.shift) as usize + 1] += 1;
            }
            for shard in 0..shards {
                starts[shard + 1] += starts[shard];
            }
            sorted.clear();
            sorted.resize(items.len(), Item::default());
            for item in items.iter() {
                let next = &mut starts[(item.slot >> reading.shift) as usize];
                sorted[*next as usize] = *item;
                *next += 1;
            }
            std::mem::swap(items, sorted);
        }
        let mut rest = items.as_slice();
        while let Some(first) = rest.first() {
            let number = first.slot >> reading.shift;
            let run = rest.iter().position(|item| item.slot >> reading.shift != number).unwrap_or(rest.len());
            let (now, later) = rest.split_at(run);
            rest = later;
            let mut shard = reading.shard(number as usize);
            let within = (1 << reading.shift) - 1;
            shard.same.warm(now.iter().map(|item| item.slot & within));
            for item in now {
                let row = (item.row >> 2) as usize;
                let slot = item.slot & within;
                let named = match naming {
                    Naming::From(first) => first + row as u64,
                    Naming::Column(addresses) => addresses.value(row),
                };
                let address = Address(named << 1 | u64::from(facts.ops.value(row)));
                let states = match item.row & 3 {
                    SAME => &mut shard.same,
                    ASKED => &mut shard.asked,
                    _ => &mut shard.other,
                };
                kept[row] |= states.fold(slot, facts.event_time(row), facts.visible_at(row), address);
            }
        }
    }
}

/// The fixed columns of a batch.
#[derive(Debug)]
struct Facts {
    event_times: arrow::buffer::ScalarBuffer<i64>,
    clockless: Option<NullBuffer>,
    visible: arrow::buffer::ScalarBuffer<i64>,
    /// Null where v is null.
    unseen: Option<NullBuffer>,
    /// The same, where that means never known.
    never: Option<NullBuffer>,
    ops: BooleanArray,
}

impl Facts {
    fn new(batch: &RecordBatch, spec: &Spec) -> Result<Facts> {
        let column = |name: &str| {
            batch.column_by_name(name).ok_or_else(|| Error::internal(format!("the scan gives no `{name}`")))
        };
        let times = |name: &str| {
            let found = column(name)?.as_primitive_opt::<TimestampMicrosecondType>().cloned();
            found.ok_or_else(|| Error::internal(format!("`{name}` of the scan is no timestamp")))
        };
        let (event, visible) = (times(fixed::EVENT_TIME)?, times(fixed::VISIBLE_AT)?);
        let ops = column(fixed::OP)?;
        let ops = ops.as_boolean_opt().ok_or_else(|| Error::internal("`__op` of the scan is no boolean"))?;
        let clockless = event.nulls().filter(|nulls| nulls.null_count() > 0).cloned();
        if clockless.is_some() && !spec.clockless {
            return Err(Error::internal(format!("source `{}` gives a null event time", spec.source)));
        }
        let unseen = visible.nulls().filter(|nulls| nulls.null_count() > 0).cloned();
        Ok(Facts {
            event_times: event.values().clone(),
            clockless,
            visible: visible.values().clone(),
            never: unseen.clone().filter(|_| !spec.assumed),
            unseen,
            ops: true_only(ops),
        })
    }

    #[inline]
    fn event_time(&self, row: usize) -> Timestamp {
        match &self.clockless {
            Some(nulls) if nulls.is_null(row) => Timestamp::BEFORE_ALL,
            _ => Timestamp(self.event_times[row]),
        }
    }

    #[inline]
    fn visible_at(&self, row: usize) -> Timestamp {
        match &self.unseen {
            Some(nulls) if nulls.is_null(row) => match self.never {
                Some(_) => Timestamp::NEVER,
                None => self.event_time(row),
            },
            _ => Timestamp(self.visible[row]),
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
