//! What a batch writes of a view.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use asof_compute::{KeyEncoder, Position, RowOrder};
use asof_model::Timestamp;

use super::key;
use super::memory::{Memory, Remembered};
use crate::Result;
use crate::live::{Direction, LiveSnapshot, TableNumber, Writing};

/// A row of a view.
#[derive(Debug, Clone, Copy)]
pub struct ViewRow<'a> {
    /// The bytes of `asof_compute::KeyEncoder`.
    pub key: &'a [u8],
    /// Its place among its entity's rows.
    pub order: &'a RowOrder,
    /// Tells it from others without a position that are equal to it in all of `order`.
    pub number: u64,
    /// From then on it no longer answers, where it is a latest row.
    pub valid_until: Option<Timestamp>,
    /// The bytes of `asof_compute::RowLayout`; empty for a delete.
    pub values: &'a [u8],
}

/// After so many rows of an entity, or of entities that share a counter, it is looked at for tiles.
const MANY: u32 = 64;
/// How many counters there are.
const COUNTERS: usize = 1 << 12;
/// How many words of bits say which entities may have tiles: 128 KiB a view.
const WORDS: usize = 1 << 14;

/// The table of one generation of a view. A cheap clone; clones are one.
#[derive(Debug, Clone)]
pub struct ViewTable {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    number: TableNumber,
    tiled: AtomicI64,
    /// As far as everything accepted before `tiled` was raised is published.
    settled: AtomicI64,
    /// Before it tiles may stand in for rows, of any entity.
    kept: AtomicI64,
    /// As [`Inner::settled`], of `kept`.
    kept_settled: AtomicI64,
    /// Rows that were read into it have their ends behind them ([`super::filled`]).
    filled: AtomicBool,
    /// Held by who makes tiles, or removes rows: what they write stands on what they read.
    keeping: Mutex<()>,
    /// Rows since an entity was last looked at, by the hash of its key.
    counters: Option<Box<[AtomicU32]>>,
    /// Which entities may have tiles, by the hash of their keys; all, where the store does not say it.
    tiled_keys: Option<Box<[AtomicU64]>>,
    /// What is asked for again; none of latest rows, of which a request reads one.
    memory: Option<Memory>,
}

/// A word of the bits that say which entities may have tiles, with its number.
pub type TiledKeys = (u32, u64);

impl ViewTable {
    /// The table of a view of latest rows.
    pub fn latest(number: TableNumber) -> ViewTable {
        ViewTable::new(number, Timestamp(i64::MIN), None, None)
    }

    /// The table of a view over windows; `tiled`: before it there may be tiles, as [`super::Tiler`] said last, of the
    /// entities that it named, of any where that is not known.
    pub fn windows(number: TableNumber, tiled: Timestamp, keys: Option<&[TiledKeys]>) -> ViewTable {
        let counters = (0..COUNTERS).map(|_| AtomicU32::new(0)).collect();
        let tiled_keys = keys.map(|keys| {
            let words: Box<[AtomicU64]> = (0..WORDS).map(|_| AtomicU64::new(0)).collect();
            for (number, bits) in keys {
                if let Some(word) = words.get(*number as usize) {
                    word.store(*bits, Ordering::Relaxed);
                }
            }
            words
        });
        ViewTable::new(number, tiled, Some(counters), tiled_keys)
    }

    fn new(
        number: TableNumber,
        tiled: Timestamp,
        counters: Option<Box<[AtomicU32]>>,
        tiled_keys: Option<Box<[AtomicU64]>>,
    ) -> ViewTable {
        let inner = Inner {
            number,
            tiled: AtomicI64::new(tiled.0),
            settled: AtomicI64::new(tiled.0),
            kept: AtomicI64::new(i64::MIN),
            kept_settled: AtomicI64::new(i64::MIN),
            filled: AtomicBool::new(false),
            keeping: Mutex::default(),
            memory: counters.is_some().then(Memory::new),
            counters,
            tiled_keys,
        };
        ViewTable { inner: Arc::new(inner) }
    }

    /// The same, opened again: before `until` tiles may stand in for rows, as [`super::Tiler::keep`] said last.
    pub fn with_kept(self, until: Timestamp) -> ViewTable {
        self.set_kept(until);
        self.settle_kept(until);
        self
    }

    /// Whether an entity may have tiles, so that what comes to it late has to be told apart.
    pub fn may_have_tiles(&self, entity: &[u8]) -> bool {
        self.inner.tiled_keys.as_ref().is_none_or(|words| {
            let (word, bit) = tiled_key(entity);
            words[word].load(Ordering::Acquire) & bit != 0
        })
    }

    /// Whether it is known which entities may have tiles.
    pub fn tells_tiled_keys(&self) -> bool {
        self.inner.tiled_keys.is_some()
    }

    /// The words that change if these entities may have tiles, as they are then.
    pub(super) fn with_tiled_keys(&self, entities: &[Vec<u8>]) -> Vec<TiledKeys> {
        let Some(words) = &self.inner.tiled_keys else { return Vec::new() };
        let mut changed: BTreeMap<usize, u64> = BTreeMap::new();
        for entity in entities {
            let (word, bit) = tiled_key(entity);
            *changed.entry(word).or_default() |= bit;
        }
        let now = |word: usize| words[word].load(Ordering::Acquire);
        let changed = changed.into_iter().map(|(word, bits)| (word, now(word) | bits));
        changed.filter(|(word, bits)| now(*word) != *bits).map(|(word, bits)| (word as u32, bits)).collect()
    }

    /// Called where batches are made, when nothing else gets a place; gives what stood.
    pub(super) fn set_tiled_keys(&self, to: &[TiledKeys]) -> Vec<TiledKeys> {
        let Some(words) = &self.inner.tiled_keys else { return Vec::new() };
        to.iter().map(|(word, bits)| (*word, words[*word as usize].swap(*bits, Ordering::AcqRel))).collect()
    }

    /// Whether rows that were read into it have their ends behind them.
    pub(super) fn is_filled(&self) -> bool {
        self.inner.filled.load(Ordering::Acquire)
    }

    /// Called where batches are made, when nothing else gets a place.
    pub(super) fn set_filled(&self) {
        self.inner.filled.store(true, Ordering::Release);
    }

    /// Whether the other is a clone of this one. A store that is opened again makes its tables anew, and who writes to it
    /// tells those.
    pub fn is(&self, other: &ViewTable) -> bool {
        Arc::ptr_eq(&self.inner, &other.inner)
    }

    /// Its number.
    pub fn number(&self) -> TableNumber {
        self.inner.number
    }

    /// Before it there may be tiles.
    pub fn tiled(&self) -> Timestamp {
        Timestamp(self.inner.tiled.load(Ordering::Acquire))
    }

    /// Called where batches are made, when nothing else gets a place.
    pub(super) fn set_tiled(&self, until: Timestamp) {
        self.inner.tiled.fetch_max(until.0, Ordering::AcqRel);
    }

    /// Held while tiles are made, or rows removed.
    pub(super) fn keeping(&self) -> MutexGuard<'_, ()> {
        self.inner.keeping.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// How often what requests ask for was taken from memory.
    pub fn remembered(&self) -> Remembered {
        self.memory().map(Memory::taken).unwrap_or_default()
    }

    /// What requests ask for again.
    pub(super) fn memory(&self) -> Option<&Memory> {
        self.inner.memory.as_ref()
    }

    /// Before it there may be tiles, and all that is not late is published.
    pub(super) fn settled(&self) -> Timestamp {
        Timestamp(self.inner.settled.load(Ordering::Acquire))
    }

    pub(super) fn settle(&self, until: Timestamp) {
        self.inner.settled.fetch_max(until.0, Ordering::AcqRel);
    }

    /// Before it tiles may stand in for rows, of any entity.
    pub fn kept(&self) -> Timestamp {
        Timestamp(self.inner.kept.load(Ordering::Acquire))
    }

    /// Called where batches are made, when nothing else gets a place.
    pub(super) fn set_kept(&self, until: Timestamp) {
        self.inner.kept.fetch_max(until.0, Ordering::AcqRel);
    }

    /// Before it tiles may stand in for rows, and all that is not late is published.
    pub(super) fn kept_settled(&self) -> Timestamp {
        Timestamp(self.inner.kept_settled.load(Ordering::Acquire))
    }

    pub(super) fn settle_kept(&self, until: Timestamp) {
        self.inner.kept_settled.fetch_max(until.0, Ordering::AcqRel);
    }

    /// Whether there may be a tile that a row belongs to.
    fn is_late(&self, row: &ViewRow<'_>) -> bool {
        let event_time = row.order.event_time;
        event_time < self.kept() || event_time < self.tiled() && self.may_have_tiles(row.key)
    }

    /// Puts a row; called where its batch is made. `s`: the first position of the batch. Whether so many rows of the
    /// entity came that it is worth a look of [`super::Tiler`].
    ///
    /// # Errors
    /// [`crate::Error::TooLong`].
    pub fn put(&self, row: &ViewRow<'_>, s: Position, to: &mut Writing) -> Result<bool> {
        let mut place = key::rows(row.key);
        let rows = place.len();
        key::put_order(row.order, row.number, &mut place);
        let mut entry = Vec::with_capacity(row.values.len() + 16);
        let held = key::Row { op: row.order.op, valid_until: row.valid_until, values: row.values };
        key::put_row(&held, key::length(row.key)?, &mut entry);
        to.put(self.number(), &place, &entry)?;
        let Some(counters) = &self.inner.counters else { return Ok(false) };
        if self.is_late(row) {
            let mut late = Vec::with_capacity(place.len() + 16);
            key::put_late(row.key, s, &mut late);
            late.extend_from_slice(&place[rows..]);
            to.put(self.number(), &late, &entry)?;
        }
        let hash = KeyEncoder::hash(row.key);
        if let Some(memory) = self.memory() {
            memory.wrote(row.key, hash, s);
        }
        let counter = &counters[hash as usize % COUNTERS];
        // Two may count as one: it is a hint.
        let count = counter.load(Ordering::Relaxed) + 1;
        counter.store(if count >= MANY { 0 } else { count }, Ordering::Relaxed);
        Ok(count >= MANY)
    }

    /// The keys of entities with rows, or tiles in place of them, in order, until `each` says false; `after`: those past it.
    ///
    /// # Errors
    /// [`crate::Error::Io`], [`crate::Error::Damaged`], and what `each` gives, which ends it.
    pub fn entities(
        &self,
        from: &dyn LiveSnapshot,
        after: Option<&[u8]>,
        each: &mut dyn FnMut(&[u8]) -> Result<bool>,
    ) -> Result<()> {
        // What a row was let go of may leave, an end that came after it say, is no row.
        self.entities_by(from, after, key::entity_of, each)
    }

    /// As [`ViewTable::entities`], and those that have only ends: their rows were let go of, or never kept.
    pub(super) fn entities_with_ends(
        &self,
        from: &dyn LiveSnapshot,
        after: Option<&[u8]>,
        each: &mut dyn FnMut(&[u8]) -> Result<bool>,
    ) -> Result<()> {
        self.entities_by(from, after, key::entity_of_either, each)
    }

    /// The entities that `of` finds in entries, place and what stands there.
    fn entities_by(
        &self,
        from: &dyn LiveSnapshot,
        after: Option<&[u8]>,
        of: for<'a> fn(&'a [u8], &[u8]) -> Option<&'a [u8]>,
        each: &mut dyn FnMut(&[u8]) -> Result<bool>,
    ) -> Result<()> {
        // No key begins another, so nothing of an entity comes past this.
        let past = |entity: &[u8]| [entity, &[0xFF]].concat();
        let mut next = after.map(past);
        loop {
            let mut found = None;
            from.scan(self.number(), &[], next.as_deref(), Direction::Forward, &mut |place, entry| {
                found = of(place, entry).map(<[u8]>::to_vec);
                Ok(found.is_none())
            })?;
            let Some(entity) = found else { return Ok(()) };
            if !each(&entity)? {
                return Ok(());
            }
            next = Some(past(&entity));
        }
    }

    /// Marks a row that a later version ends at `at`, its `v`; called where that version's batch is made.
    ///
    /// # Errors
    /// [`crate::Error::TooLong`].
    pub fn end(&self, row: &ViewRow<'_>, at: Timestamp, s: Position, to: &mut Writing) -> Result<()> {
        let mut place = key::rows(row.key);
        let rows = place.len();
        key::put_order(row.order, row.number, &mut place);
        place.push(0);
        to.put(self.number(), &place, &key::end_of(at, key::length(row.key)?))?;
        if self.inner.counters.is_some() && self.is_late(row) {
            let mut late = Vec::with_capacity(place.len() + 16);
            key::put_late(row.key, s, &mut late);
            late.extend_from_slice(&place[rows..]);
            to.put(self.number(), &late, &key::end(at))?;
        }
        self.wrote_end(row.key, s);
        Ok(())
    }

    /// Marks a row that was read and that a later version ends at `at`, where no push did. It is nowhere written down as
    /// late: no tile is made of a generation before its rows have their ends.
    pub(super) fn end_if_absent(
        &self,
        entity: &[u8],
        order: &RowOrder,
        at: Timestamp,
        s: Position,
        to: &mut Writing,
    ) -> Result<()> {
        self.wrote_end(entity, s);
        let mut place = key::rows(entity);
        key::put_order(order, 0, &mut place);
        place.push(0);
        to.put_if_absent(self.number(), &place, &key::end_of(at, key::length(entity)?))
    }

    fn wrote_end(&self, entity: &[u8], s: Position) {
        if let Some(memory) = self.memory() {
            memory.wrote(entity, KeyEncoder::hash(entity), s);
        }
    }
}

/// The word and the bit of an entity.
fn tiled_key(entity: &[u8]) -> (usize, u64) {
    // Its lowest bits choose the counter.
    let hash = KeyEncoder::hash(entity) >> 12;
    (((hash >> 6) as usize) % WORDS, 1 << (hash % 64))
}
