//! The neck of this room: what a store of online rows does, whichever engine it stands on.

use std::path::Path;
use std::sync::Arc;

use asof_compute::Op;
use asof_model::Timestamp;

use crate::{Generation, GenerationId, Result, RowBatch};

/// A durable store of online rows. All methods block. Reads of few entities take microseconds where the
/// file is cached, and may stay on an async thread; all else is kept off. What a read of an entity costs
/// grows with the rows that happened and are not visible yet, which it passes over.
pub trait OnlineStore: Send + Sync + std::fmt::Debug {
    /// Everything committed up to now, unmoved by what is committed later.
    ///
    /// # Errors
    /// [`crate::Error::Io`], [`crate::Error::Damaged`].
    fn snapshot(&self) -> Result<Box<dyn Snapshot>>;

    /// Applies all of it or nothing; durable when it returns.
    ///
    /// # Errors
    /// Nothing was changed: [`crate::Error::NoGeneration`] (also for one that is being dropped),
    /// [`crate::Error::Full`],
    /// [`crate::Error::Io`], [`crate::Error::Damaged`].
    fn commit(&self, commit: &Commit<'_>) -> Result<Committed>;

    /// Removes a generation with its rows, progress and record, in several steps that may be cut off
    /// and begun again: the first leaves it [`crate::GenerationState::Dropped`], which no commit puts
    /// rows into or takes rows from, and its record goes last. One that does not exist is no error.
    ///
    /// # Errors
    /// [`crate::Error::Io`], [`crate::Error::Damaged`].
    fn drop_generation(&self, id: GenerationId) -> Result<()>;

    /// What the store takes up.
    ///
    /// # Errors
    /// [`crate::Error::Io`], [`crate::Error::Damaged`].
    fn usage(&self) -> Result<Usage>;

    /// Copies one snapshot into a new store in this folder, which must not exist or be empty, while
    /// reads and commits go on. Durable when it returns.
    ///
    /// # Errors
    /// [`crate::Error::BackupExists`], [`crate::Error::Full`], [`crate::Error::Io`].
    fn backup(&self, to: &Path) -> Result<()>;
}

/// One entity of one generation, to be read.
#[derive(Debug, Clone, Copy)]
pub struct Wanted<'a> {
    /// The generation.
    pub generation: GenerationId,
    /// The bytes of `asof_compute::KeyEncoder`.
    pub key: &'a [u8],
}

/// The row that is last in order at T, as it stands in the store.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Found<'a> {
    /// `e`
    pub event_time: Timestamp,
    /// `v`
    pub visible_at: Timestamp,
    /// A delete answers `not_found` and has no values.
    pub op: Op,
    /// From then on it no longer answers.
    pub valid_until: Option<Timestamp>,
    /// The bytes of `asof_compute::RowLayout`; empty for a delete.
    pub values: &'a [u8],
}

/// A [`Found`] of its own.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoredRow {
    /// `e`
    pub event_time: Timestamp,
    /// `v`
    pub visible_at: Timestamp,
    /// A delete answers `not_found` and has no values.
    pub op: Op,
    /// From then on it no longer answers.
    pub valid_until: Option<Timestamp>,
    /// The bytes of `asof_compute::RowLayout`; empty for a delete.
    pub values: Vec<u8>,
}

impl From<Found<'_>> for StoredRow {
    fn from(found: Found<'_>) -> StoredRow {
        let Found { event_time, visible_at, op, valid_until, values } = found;
        StoredRow { event_time, visible_at, op, valid_until, values: values.to_vec() }
    }
}

/// A view of the store that does not move.
pub trait Snapshot: Send {
    /// Hands out, for each entity wanted and in their order, its position and the row that is last in
    /// order at `at`, if there is one.
    ///
    /// # Errors
    /// [`crate::Error::Io`], [`crate::Error::Damaged`], and whatever `found` gives, which ends the read.
    fn latest_many(
        &self,
        wanted: &mut dyn Iterator<Item = Wanted<'_>>,
        at: Timestamp,
        found: &mut dyn FnMut(usize, Option<Found<'_>>) -> Result<()>,
    ) -> Result<()>;

    /// The row that is last in order at `at`, of one entity.
    ///
    /// # Errors
    /// As [`Snapshot::latest_many`].
    fn latest(&self, generation: GenerationId, key: &[u8], at: Timestamp) -> Result<Option<StoredRow>> {
        let mut answer = None;
        self.latest_many(&mut std::iter::once(Wanted { generation, key }), at, &mut |_, found| {
            answer = found.map(StoredRow::from);
            Ok(())
        })?;
        Ok(answer)
    }

    /// The record of every generation, by number.
    ///
    /// # Errors
    /// [`crate::Error::Io`], [`crate::Error::Damaged`].
    fn generations(&self) -> Result<Arc<Vec<Generation>>>;

    /// The progress entries of a generation: unit and what was said of it, by unit.
    ///
    /// # Errors
    /// [`crate::Error::Io`], [`crate::Error::Damaged`].
    fn progress(&self, id: GenerationId) -> Result<Vec<(Vec<u8>, Vec<u8>)>>;
}

/// What rows a commit may let go of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Horizon(
    /// The least T that may still be asked; [`Timestamp::BEFORE_ALL`] keeps every row.
    pub Timestamp,
);

impl Horizon {
    /// Every row stays.
    pub const ALL: Horizon = Horizon(Timestamp::BEFORE_ALL);
}

/// One atomic, durable batch. Records are put before rows, so that a new generation and its first
/// rows may come together.
#[derive(Debug)]
pub struct Commit<'a> {
    /// Records to put, each in the place of the one with its number.
    pub generations: &'a [Generation],
    /// Rows to put; of the entities they belong to, what the horizon lets go of is removed. A row
    /// equal in all five parts of the order takes the place of the one there.
    pub rows: Option<&'a RowBatch>,
    /// A generation whose rows are all put into this other one as `rows` would be. It is emptied by
    /// [`OnlineStore::drop_generation`], not here.
    pub merge: Option<(GenerationId, GenerationId)>,
    /// For `rows` and `merge`.
    pub horizon: Horizon,
    /// Progress entries to put: generation, unit, what is said of it.
    pub progress: &'a [(GenerationId, &'a [u8], &'a [u8])],
    /// Progress entries to remove.
    pub forget: &'a [(GenerationId, &'a [u8])],
}

impl Default for Commit<'_> {
    fn default() -> Self {
        Commit {
            generations: &[],
            rows: None,
            merge: None,
            horizon: Horizon::ALL,
            progress: &[],
            forget: &[],
        }
    }
}

/// What a commit did.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Committed {
    /// Rows that were not there before and are now.
    pub added: u64,
    /// Rows that were there before and are not now.
    pub removed: u64,
}

/// What a store takes up.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Usage {
    /// Bytes of its files.
    pub bytes: u64,
    /// Rows and entities per generation, by number.
    pub generations: Vec<GenerationUsage>,
}

/// What one generation holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct GenerationUsage {
    /// Its number.
    pub id: GenerationId,
    /// Its rows.
    pub rows: u64,
    /// Entities with a row.
    pub keys: u64,
}
