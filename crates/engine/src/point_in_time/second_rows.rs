//! Facts without a clock: a second row of a key is an error, of whatever key and whatever its v.
//!
//! The states know the keys of the spine only, so every row that passes `where` and has a key is looked
//! at here, beside the fold. Of its key 64 bits are kept, in order at the end, where equal ones stand
//! side by side. Past the memory allowed the upper half of the hashes is let go of, and read again for:
//! a reading of keys alone for each range of hashes. Only where a hash came twice are keys themselves
//! compared, in one more reading, since two keys may have one hash.
//!
//! What is told is the key of the least hash, and of its rows the first two. So it is the same whatever
//! the threads, batches, ranges, and whichever half of the operator read the rows.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use arrow::array::{
    Array, ArrayRef, AsArray, BinaryArray, BooleanArray, RecordBatch, UInt64Array, new_null_array,
};
use arrow::datatypes::{Int64Type, SchemaRef};
use asof_compute::{EntityKeys, KeyEncoder};
use asof_model::DataType;

use super::fold::{addresses, passing, true_only};
use super::spec::{Spec, columns, compute};
use crate::expression::Bound;
use crate::source::{SourceScan, fixed};
use crate::threads::in_parallel;
use crate::{Error, Result};

/// The width of a range of hashes, as a power of two. As they come hashes are put into 1,024 ranges, and as
/// ranges they are let go of.
const SHIFT: u32 = u64::BITS - 10;

/// Hashes are let go of only past so many bytes.
const LEAST_MEMORY: u64 = 1 << 20;

/// Hashes that came twice, looked at together.
const SUSPECTS: usize = 256;

/// Before the key of a row in the report of a partial half, where counts begin with `{`.
const KEY: u8 = 1;

/// Which readings of a source without a clock are looked at: the first of each set of key columns and
/// `where`. None of a source that has one.
#[derive(Debug, Clone)]
pub(super) struct Checks {
    readings: Vec<usize>,
    /// Bytes that hashes may take.
    memory: u64,
    /// The bits of a hash that are used; fewer only where a test wants equal ones.
    mask: u64,
}

impl Checks {
    pub(super) fn new(spec: &Spec) -> Checks {
        let mut readings: Vec<usize> = Vec::new();
        for (number, reading) in spec.readings.iter().enumerate().filter(|_| spec.clockless) {
            let same = |other: &usize| {
                let other = &spec.readings[*other];
                other.keys == reading.keys && other.filter == reading.filter
            };
            if !readings.iter().any(same) {
                readings.push(number);
            }
        }
        Checks { readings, memory: (spec.memory / 4).max(LEAST_MEMORY), mask: u64::MAX }
    }

    #[cfg(test)]
    pub(super) fn with(self, memory: u64, mask: u64) -> Checks {
        Checks { memory, mask, ..self }
    }

    /// Whether there is nothing to look at.
    pub(super) fn is_empty(&self) -> bool {
        self.readings.is_empty()
    }

    /// The check that a reading's rows are looked at for.
    pub(super) fn of(&self, reading: usize) -> Option<usize> {
        self.readings.iter().position(|it| *it == reading)
    }

    /// Hands on the keys of a batch's rows that pass.
    pub(super) fn take(
        &self,
        check: usize,
        batch: &RecordBatch,
        keys: &EntityKeys,
        keep: Option<&BooleanArray>,
        to: &dyn TakeKeys,
    ) {
        let spots = Spots::of(batch);
        for row in 0..keys.len() {
            if keys.is_null(row) || keep.is_some_and(|keep| !keep.value(row)) {
                continue;
            }
            let key = match keys {
                EntityKeys::Int64 { values, .. } => Key::Int64(values[row]),
                EntityKeys::Bytes(bytes) => Key::Bytes(bytes.value(row)),
            };
            to.take(check, key.hash() & self.mask, key, spots.spot(row));
        }
    }

    /// Hands on the keys of a batch of a scan, whose schema the filters are bound to.
    pub(super) fn take_rows(
        &self,
        spec: &Spec,
        filters: &[Option<Bound>],
        batch: &RecordBatch,
        to: &dyn TakeKeys,
    ) -> Result<()> {
        let ops = batch.column_by_name(fixed::OP).and_then(|ops| ops.as_boolean_opt());
        let ops = true_only(ops.ok_or_else(|| Error::internal("the scan gives no `__op`"))?);
        for (check, reading) in self.readings.iter().enumerate() {
            let keep = filters[*reading].as_ref().map(|filter| passing(filter, batch, &ops)).transpose()?;
            let keys = &spec.readings[*reading].keys;
            let encoder = KeyEncoder::new(&keys.iter().map(|key| key.data_type.clone()).collect::<Vec<_>>());
            let keys = encoder.keys(&columns(batch, keys)?).map_err(compute)?;
            self.take(check, batch, &keys, keep.as_ref(), to);
        }
        Ok(())
    }

    /// Hands on a key that a partial half sent; false where the report is none of a key.
    pub(super) fn take_sent(&self, spec: &Spec, report: &[u8], to: &dyn TakeKeys) -> Result<bool> {
        let Some((&KEY, rest)) = report.split_first() else { return Ok(false) };
        let broken = || Error::internal("the key of a row that a partial half sent is broken");
        let (check, rest) = rest.split_first_chunk().ok_or_else(broken)?;
        let (sort, rest) = rest.split_first().ok_or_else(broken)?;
        let (place, key) = rest.split_first_chunk().ok_or_else(broken)?;
        let check = u32::from_le_bytes(*check) as usize;
        let reading = self.readings.get(check).ok_or_else(broken)?;
        let spot = Spot::from_bytes(*sort, u64::from_le_bytes(*place)).ok_or_else(broken)?;
        let single =
            matches!(spec.readings[*reading].keys.as_slice(), [key] if key.data_type == DataType::Int64);
        let key = match (single, key.try_into()) {
            (true, Ok(key)) => Key::Int64(i64::from_le_bytes(key)),
            (true, Err(_)) => return Err(broken()),
            (false, _) => Key::Bytes(key),
        };
        to.take(check, key.hash() & self.mask, key, spot);
        Ok(true)
    }

    /// Where hashes from this one on are kept.
    pub(super) fn hashes(&self, from: u64) -> Hashes {
        let count = ((u64::MAX - from) >> SHIFT) as usize + 1;
        let ranges = || (0..count).map(|_| Mutex::default()).collect();
        Hashes {
            from,
            ranges: self.readings.iter().map(|_| ranges()).collect(),
            live: AtomicUsize::new(count),
            held: AtomicU64::new(0),
            memory: self.memory,
            shrinking: Mutex::new(()),
        }
    }

    /// The error that names a key's first two rows.
    pub(super) fn error(&self, spec: &Spec, second: &SecondRow, scan: Option<&SourceScan>) -> Error {
        let reading = &spec.readings[self.readings[second.check]];
        let keys: Vec<&str> = reading.keys.iter().map(|key| key.name.as_str()).collect();
        let place = second.place(scan).map(|place| format!(": {place}")).unwrap_or_default();
        let message = format!(
            "source `{}` has no event time, and more than one row of a key ({}) of view `{}`{place}",
            spec.source,
            keys.join(", "),
            reading.view
        );
        Error::invalid("second_row", message)
            .with_hint("give the source an `event_time`, or the view a `where` that leaves one row a key")
    }
}

/// A row's key, whose hash is the same on every machine.
#[derive(Debug, Clone, Copy)]
pub(super) enum Key<'a> {
    Int64(i64),
    Bytes(&'a [u8]),
}

impl Key<'_> {
    #[inline]
    fn hash(self) -> u64 {
        match self {
            // No two numbers have one.
            Key::Int64(key) => {
                let key = key as u64;
                let key = (key ^ (key >> 33)).wrapping_mul(0xff51_afd7_ed55_8ccd);
                let key = (key ^ (key >> 33)).wrapping_mul(0xc4ce_b9fe_1a85_ec53);
                key ^ (key >> 33)
            }
            Key::Bytes(key) => KeyEncoder::hash(key),
        }
    }

    fn with_bytes<T>(self, read: impl FnOnce(&[u8]) -> T) -> T {
        match self {
            Key::Int64(key) => read(&key.to_le_bytes()),
            Key::Bytes(key) => read(key),
        }
    }
}

/// What a row is named by, in the order in which rows are named.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Spot {
    /// The position of a stored row.
    Position(i64),
    /// The address of a row of a file.
    Address(u64),
    /// Nothing.
    Unnamed,
}

impl Spot {
    fn to_bytes(self) -> (u8, u64) {
        match self {
            Spot::Position(position) => (0, position as u64),
            Spot::Address(address) => (1, address),
            Spot::Unnamed => (2, 0),
        }
    }

    fn from_bytes(sort: u8, place: u64) -> Option<Spot> {
        Some(match sort {
            0 => Spot::Position(place as i64),
            1 => Spot::Address(place),
            2 => Spot::Unnamed,
            _ => return None,
        })
    }
}

/// What the rows of a batch are named by.
struct Spots<'a> {
    positions: Option<&'a arrow::array::Int64Array>,
    addresses: Option<&'a UInt64Array>,
}

impl Spots<'_> {
    fn of(batch: &RecordBatch) -> Spots<'_> {
        let positions =
            batch.column_by_name(fixed::POSITION).and_then(|it| it.as_primitive_opt::<Int64Type>());
        Spots { positions, addresses: addresses(batch) }
    }

    fn spot(&self, row: usize) -> Spot {
        match (self.positions, self.addresses) {
            (Some(positions), _) if positions.is_valid(row) => Spot::Position(positions.value(row)),
            (_, Some(addresses)) => Spot::Address(addresses.value(row)),
            _ => Spot::Unnamed,
        }
    }
}

/// Takes keys, from several threads.
pub(super) trait TakeKeys: fmt::Debug + Send + Sync {
    /// A row's key, with its hash.
    fn take(&self, check: usize, hash: u64, key: Key<'_>, spot: Spot);
}

/// The hashes of keys from one on, as far as memory allows.
#[derive(Debug)]
pub(super) struct Hashes {
    from: u64,
    /// Per check, the hashes of each range.
    ranges: Vec<Vec<Mutex<Vec<u64>>>>,
    /// Ranges from this one on are let go of.
    live: AtomicUsize,
    /// Bytes that are taken.
    held: AtomicU64,
    memory: u64,
    shrinking: Mutex<()>,
}

/// Bytes that a range takes.
fn bytes(range: &Vec<u64>) -> u64 {
    range.capacity() as u64 * 8
}

fn locked<T>(of: &Mutex<T>) -> MutexGuard<'_, T> {
    of.lock().unwrap_or_else(PoisonError::into_inner)
}

impl TakeKeys for Hashes {
    fn take(&self, check: usize, hash: u64, _: Key<'_>, _: Spot) {
        let Some(past) = hash.checked_sub(self.from) else { return };
        let range = (past >> SHIFT) as usize;
        // A range that is let go of right behind this look is not looked at in the end.
        if range >= self.live.load(Ordering::Relaxed) {
            return;
        }
        let mut held = locked(&self.ranges[check][range]);
        let before = bytes(&held);
        held.push(hash);
        let grown = bytes(&held) - before;
        drop(held);
        if grown > 0 && self.held.fetch_add(grown, Ordering::Relaxed) + grown > self.memory {
            self.shrink();
        }
    }
}

impl Hashes {
    /// Lets go of upper halves until the rest is as small as it may be. One range stays, whatever it takes.
    fn shrink(&self) {
        let _alone = locked(&self.shrinking);
        while self.held.load(Ordering::Relaxed) > self.memory {
            let live = self.live.load(Ordering::Relaxed);
            if live == 1 {
                return;
            }
            self.live.store(live / 2, Ordering::Relaxed);
            for range in self.ranges.iter().flat_map(|ranges| &ranges[live / 2..live]) {
                let gone = std::mem::take(&mut *locked(range));
                self.held.fetch_sub(bytes(&gone), Ordering::Relaxed);
            }
        }
    }

    /// The first hash that was let go of; none where all were kept.
    pub(super) fn next(&self) -> Option<u64> {
        let past = (self.live.load(Ordering::Relaxed) as u128) << SHIFT;
        u64::try_from(u128::from(self.from) + past).ok()
    }

    /// The first hashes past that one that came more than once in a check, in order. Blocking.
    pub(super) fn suspects(&self, past: Option<Suspect>, threads: usize) -> Result<Vec<Suspect>> {
        let live = self.live.load(Ordering::Relaxed);
        let first = past.map_or(0, |(hash, _)| (hash.saturating_sub(self.from) >> SHIFT) as usize);
        let found = in_parallel((first..live).collect(), threads, |range| {
            let mut found = Vec::new();
            for (check, ranges) in self.ranges.iter().enumerate() {
                let mut hashes = locked(&ranges[range]);
                hashes.sort_unstable();
                // Each check alone may give as many as are wanted of all.
                let (mut last, most) = (past, found.len() + SUSPECTS);
                for pair in hashes.windows(2).filter(|pair| pair[0] == pair[1]) {
                    let suspect = (pair[0], check);
                    if last < Some(suspect) && found.len() < most {
                        found.push(suspect);
                        last = Some(suspect);
                    }
                }
            }
            found.sort_unstable();
            found.truncate(SUSPECTS);
            Ok::<_, Error>(found)
        })?;
        Ok(found.into_iter().flatten().take(SUSPECTS).collect())
    }

    /// Forgets them all.
    pub(super) fn clear(&self) {
        for range in self.ranges.iter().flatten() {
            *locked(range) = Vec::new();
        }
    }
}

/// A hash and the check it came twice in.
pub(super) type Suspect = (u64, usize);

/// The keys that have one hash.
type KeysOfHash = BTreeMap<Box<[u8]>, Rows>;

/// The keys of suspected hashes, looked at.
#[derive(Debug)]
pub(super) struct Look {
    /// Hashes and their checks, in order, each with the keys that have it.
    suspects: Vec<(Suspect, Mutex<KeysOfHash>)>,
}

/// The rows of a key: how many, and the first two.
#[derive(Debug, Clone, Copy)]
struct Rows {
    count: u64,
    first: Spot,
    second: Option<Spot>,
}

/// A key that has a second row.
#[derive(Debug)]
pub(super) struct SecondRow {
    check: usize,
    first: Spot,
    second: Spot,
}

impl TakeKeys for Look {
    fn take(&self, check: usize, hash: u64, key: Key<'_>, spot: Spot) {
        let Ok(at) = self.suspects.binary_search_by_key(&(hash, check), |(suspect, _)| *suspect) else {
            return;
        };
        let mut keys = locked(&self.suspects[at].1);
        key.with_bytes(|key| match keys.get_mut(key) {
            Some(rows) => {
                rows.count += 1;
                let later = rows.first.max(spot);
                rows.first = rows.first.min(spot);
                rows.second = Some(rows.second.map_or(later, |second| second.min(later)));
            }
            None => drop(keys.insert(key.into(), Rows { count: 1, first: spot, second: None })),
        });
    }
}

impl Look {
    pub(super) fn new(suspects: Vec<Suspect>) -> Look {
        Look { suspects: suspects.into_iter().map(|suspect| (suspect, Mutex::default())).collect() }
    }

    /// The first key that has a second row, if there is one.
    ///
    /// # Errors
    /// [`Error::Changed`] where fewer rows have a hash than had it before.
    pub(super) fn found(&self, source: &str) -> Result<Option<SecondRow>> {
        for ((_, check), keys) in &self.suspects {
            let keys = locked(keys);
            if keys.values().map(|rows| rows.count).sum::<u64>() < 2 {
                return Err(Error::Changed {
                    what: "source",
                    name: source.to_owned(),
                    change: "gave other rows when it was read once more".to_owned(),
                });
            }
            let twice = keys.values().filter_map(|rows| Some((rows.first, rows.second?)));
            if let Some((first, second)) = twice.min() {
                return Ok(Some(SecondRow { check: *check, first, second }));
            }
        }
        Ok(None)
    }
}

impl SecondRow {
    /// Where its two rows stand, for people.
    fn place(&self, scan: Option<&SourceScan>) -> Option<String> {
        match (self.first, self.second) {
            (Spot::Position(first), Spot::Position(second)) => {
                Some(format!("the stored rows at positions {first} and {second}"))
            }
            (Spot::Address(first), Spot::Address(second)) => {
                let ((file, first), (other, second)) = (scan?.place(first)?, scan?.place(second)?);
                Some(match file == other {
                    true => format!("{file}, rows {first} and {second}"),
                    false => format!("{file}, row {first}, and {other}, row {second}"),
                })
            }
            _ => None,
        }
    }
}

/// The keys of rows on their way from a partial half.
#[derive(Debug, Default)]
pub(super) struct Sending {
    reports: Mutex<Vec<Vec<u8>>>,
}

impl TakeKeys for Sending {
    fn take(&self, check: usize, _: u64, key: Key<'_>, spot: Spot) {
        let (sort, place) = spot.to_bytes();
        let mut report = vec![KEY];
        report.extend((check as u32).to_le_bytes());
        report.push(sort);
        report.extend(place.to_le_bytes());
        key.with_bytes(|key| report.extend(key));
        locked(&self.reports).push(report);
    }
}

impl Sending {
    /// What there is to send, as rows of this schema that are null but for their last column, the report.
    pub(super) fn batch(&self, schema: &SchemaRef) -> Result<Option<RecordBatch>> {
        let reports = std::mem::take(&mut *locked(&self.reports));
        if reports.is_empty() {
            return Ok(None);
        }
        report(schema, BinaryArray::from_iter_values(reports)).map(Some)
    }
}

/// Whether a partial half's report is the key of a row.
pub(super) fn is_key(report: &[u8]) -> bool {
    report.first() == Some(&KEY)
}

/// Rows that are null but for their last column, the report.
pub(super) fn report(schema: &SchemaRef, reports: BinaryArray) -> Result<RecordBatch> {
    let (_, fields) = schema.fields().split_last().ok_or_else(|| Error::internal("there is no report"))?;
    let mut columns: Vec<ArrayRef> =
        fields.iter().map(|field| new_null_array(field.data_type(), reports.len())).collect();
    columns.push(Arc::new(reports));
    Ok(RecordBatch::try_new(Arc::clone(schema), columns)?)
}
