//! The neck of this room: what a store of live rows does, and the plain structs that cross it.

use std::path::Path;

use asof_compute::{Position, RowDigest};
use asof_model::Timestamp;

use crate::Result;
use crate::live::Writing;

/// A durable store of rows that are pushed one batch at a time and read in the next moment. One per node.
/// All methods block; [`LiveStore::read`] and what it gives take microseconds, but for a request after a
/// pause, which may wait for one fsync; all else is kept off an async thread.
pub trait LiveStore: Send + Sync + std::fmt::Debug {
    /// Accepts a batch or refuses all of it. `make` is told the `v` and `s` it gets, under the order of all
    /// batches, and writes what is stored; it must neither block nor call this store. What it gives as an
    /// error refuses the batch.
    ///
    /// When this returns, the batch is durable (or as [`Accepted::durable`] says) and the next
    /// [`LiveStore::read`] holds it.
    ///
    /// # Errors
    /// Nothing was changed: [`crate::Error::Busy`], [`crate::Error::Full`],
    /// [`crate::Error::KeyReused`], [`crate::Error::TooLong`], what `make` gives. Nothing was acknowledged,
    /// and what is there is known after the store was opened again: [`crate::Error::Stopped`].
    fn accept(
        &self,
        intake: &Intake<'_>,
        make: &mut dyn FnMut(&Given<'_>, &mut Writing) -> Result<()>,
    ) -> Result<Accepted>;

    /// Writes entries that are no pushed rows (what expires, what a table is filled with, what is computed of
    /// rows): one durable batch without `v`. `make` is told a position of its own, which no row gets, so that what
    /// it writes can be told from what a [`LiveSnapshot`] of a lesser position holds; it must neither block nor call
    /// this store. Pushes wait behind it, so batches of a megabyte or so are the best.
    ///
    /// # Errors
    /// As [`LiveStore::accept`].
    fn write(&self, make: &mut dyn FnMut(Position, &mut Writing) -> Result<()>) -> Result<()>;

    /// The same for who may wait: while more waits to be written than the store holds back, it waits as well.
    ///
    /// # Errors
    /// As [`LiveStore::write`], but for [`crate::Error::Busy`].
    fn write_patiently(&self, make: &mut dyn FnMut(Position, &mut Writing) -> Result<()>) -> Result<()> {
        loop {
            match self.write(make) {
                Err(crate::Error::Busy { retry_after, .. }) => std::thread::sleep(retry_after),
                done => return done,
            }
        }
    }

    /// One T and one view of everything published, consistent with each other. No later row gets a `v` at
    /// or before that T, also after a restart, whatever the clock does.
    ///
    /// # Errors
    /// [`crate::Error::Stopped`] where T can no longer be remembered, [`crate::Error::Io`].
    fn read(&self) -> Result<Box<dyn LiveSnapshot>> {
        self.read_from(Timestamp::BEFORE_ALL)
    }

    /// The same, with a T that is not before `floor` unless a batch waits that comes before it.
    ///
    /// # Errors
    /// As [`LiveStore::read`].
    fn read_from(&self, floor: Timestamp) -> Result<Box<dyn LiveSnapshot>>;

    /// The intake log as it stands, all of it durable: nothing of it is trimmed while this is held.
    ///
    /// # Errors
    /// [`crate::Error::Stopped`], [`crate::Error::Io`].
    fn log(&self) -> Result<Box<dyn LogSnapshot>>;

    /// Lets go of log entries up to and with this position, which must stand durable elsewhere. What an
    /// open [`LogSnapshot`] holds stays, and goes with the next call. Gives the position up to which entries
    /// are gone.
    ///
    /// # Errors
    /// [`crate::Error::Stopped`], [`crate::Error::Io`].
    fn trim(&self, to: Position) -> Result<Position>;

    /// What the store takes up.
    ///
    /// # Errors
    /// [`crate::Error::Io`].
    fn usage(&self) -> Result<LiveUsage>;

    /// Copies what is published into a new store in this folder, which must not exist or be empty, while
    /// reads and writes go on. Durable when it returns.
    ///
    /// # Errors
    /// [`crate::Error::BackupExists`], [`crate::Error::Full`], [`crate::Error::Io`].
    fn backup(&self, to: &Path) -> Result<()>;
}

/// The number of a source within the store; the caller keeps what it stands for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SourceNumber(pub u32);

/// The number of one of the caller's tables of entries.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TableNumber(u32);

impl TableNumber {
    /// The greatest; those above are the store's own.
    pub const GREATEST: u32 = 0xFFFF_FEFF;

    /// None where the number is past [`TableNumber::GREATEST`].
    pub const fn new(number: u32) -> Option<TableNumber> {
        if number <= TableNumber::GREATEST { Some(TableNumber(number)) } else { None }
    }

    /// The number.
    pub const fn number(self) -> u32 {
        self.0
    }

    /// As a record of the log has it.
    pub(super) const fn stored(number: u32) -> TableNumber {
        TableNumber(number)
    }

    /// One of the store's own.
    pub(super) const fn own(number: u32) -> TableNumber {
        TableNumber(TableNumber::GREATEST + 1 + number)
    }
}

/// When a batch is acknowledged.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Durability {
    /// After an fsync: power may go.
    #[default]
    Durable,
    /// After it was handed to the system: the process may be killed, power may not go. It is on disk with
    /// the next fsync, within a second.
    Relaxed,
}

/// A batch to be accepted.
#[derive(Debug, Clone)]
pub struct Intake<'a> {
    /// The source.
    pub source: SourceNumber,
    /// Its rows.
    pub rows: Incoming<'a>,
    /// The caller's name for this batch: sent again, it gets the first answer.
    pub key: Option<IdempotencyKey<'a>>,
    /// When it is acknowledged.
    pub durability: Durability,
}

/// The rows of a batch.
#[derive(Debug, Clone)]
pub enum Incoming<'a> {
    /// So many, each an event of its own.
    Plain(u32),
    /// Each a version of an event, or (none) an event of its own.
    Versions(&'a [Option<IncomingVersion<'a>>]),
}

/// A row that is a version of the event its id names.
#[derive(Debug, Clone, Copy)]
pub struct IncomingVersion<'a> {
    /// Names the event within its source.
    pub id: &'a [u8],
    /// `v`, where the row has one of its own because its past is loaded; else the batch's. Only a version
    /// without one is left out where it equals the standing version.
    pub visible_at: Option<Timestamp>,
    /// `o` in an order-preserving encoding; empty is null.
    pub order_by: &'a [u8],
    /// `c`
    pub digest: RowDigest,
    /// `e`
    pub event_time: Timestamp,
    /// Digest of what makes two versions equal: all the row's own columns, `e`, keys and op.
    pub content: [u8; 16],
    /// What the caller needs of it later, to end it.
    pub kept: &'a [u8],
}

/// The caller's name for a batch, kept for seven days.
#[derive(Debug, Clone, Copy)]
pub struct IdempotencyKey<'a> {
    /// At most 255 bytes.
    pub key: &'a str,
    /// Of what the batch holds: the same key with another is refused.
    pub content: [u8; 32],
}

/// Gives the value of a key, as of some moment.
pub type Published<'a> = &'a dyn Fn(TableNumber, &[u8]) -> Result<Option<Vec<u8>>>;

/// What a batch gets, as `make` is told.
pub struct Given<'a> {
    /// `v` of all its rows but those that bring their own.
    pub visible_at: Timestamp,
    /// `s` of its first row; those after follow without a gap.
    pub first: Position,
    /// Rows that are stored.
    pub count: u32,
    /// Of [`Incoming::Versions`] the rows that are stored, in the caller's order; else empty.
    pub rows: &'a [GivenRow],
    /// Entries as they were when the batch got its place: all that was acknowledged by then, and nothing of batches that
    /// still wait.
    pub published: Published<'a>,
}

impl std::fmt::Debug for Given<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Given { visible_at, first, count, rows, published: _ } = self;
        let mut given = f.debug_struct("Given");
        given.field("visible_at", visible_at).field("first", first).field("count", count);
        given.field("rows", rows).finish_non_exhaustive()
    }
}

/// A row that is stored.
#[derive(Debug)]
pub struct GivenRow {
    /// Which of the caller's rows, from 0.
    pub row: usize,
    /// `s`
    pub position: Position,
    /// The version before it in version order.
    pub before: Option<Version>,
    /// The version after it in version order: it arrives superseded.
    pub after: Option<Version>,
}

/// A version of an event, as the store keeps it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Version {
    /// `v`
    pub visible_at: Timestamp,
    /// `o`
    pub order_by: Box<[u8]>,
    /// `s`
    pub position: Position,
    /// `c`
    pub digest: RowDigest,
    /// `e`
    pub event_time: Timestamp,
    /// See [`IncomingVersion::content`].
    pub content: [u8; 16],
    /// The caller's own.
    pub kept: Box<[u8]>,
}

impl Version {
    /// What versions of an id are ordered by: `(v, o, s, c)`.
    pub(super) fn order(&self) -> (Timestamp, &[u8], Position, RowDigest) {
        (self.visible_at, &self.order_by, self.position, self.digest)
    }
}

/// The acknowledgement of a batch.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Accepted {
    /// `v` given to it.
    pub visible_at: Timestamp,
    /// `s` of its first stored row.
    pub first: Position,
    /// Rows stored.
    pub count: u32,
    /// Rows left out because they equal the version that stood, by their place in the batch.
    pub already_there: Vec<u32>,
    /// The first answer to this idempotency key, given again.
    pub repeated: bool,
    /// Whether an fsync came before this acknowledgement.
    pub durable: bool,
}

/// Which end of a range comes first.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Direction {
    /// Ascending keys.
    Forward,
    /// Descending keys.
    Backward,
}

/// A view of what is published, and its T. It does not move.
pub trait LiveSnapshot: Send + Sync {
    /// T: every row with `v <= T` is in this view, and no row that comes later has such a `v`.
    fn answer_time(&self) -> Timestamp;

    /// The greatest `s` in it; everything published up to it is in it, and nothing past it.
    fn position(&self) -> Position;

    /// The value of one key.
    ///
    /// # Errors
    /// [`crate::Error::Io`], [`crate::Error::LiveDamaged`].
    fn get(&self, table: TableNumber, key: &[u8]) -> Result<Option<Vec<u8>>>;

    /// Hands out the keys that begin with `prefix` and their values, in order, until `each` says false.
    /// `from`, where given, is what follows the prefix in the key to begin at, which is among them if it
    /// exists.
    ///
    /// # Errors
    /// [`crate::Error::Io`], [`crate::Error::LiveDamaged`], and what `each` gives, which ends the scan.
    fn scan(
        &self,
        table: TableNumber,
        prefix: &[u8],
        from: Option<&[u8]>,
        direction: Direction,
        each: &mut dyn FnMut(&[u8], &[u8]) -> Result<bool>,
    ) -> Result<()>;

    /// The versions of an id, in version order.
    ///
    /// # Errors
    /// [`crate::Error::Io`], [`crate::Error::LiveDamaged`].
    fn versions(&self, source: SourceNumber, id: &[u8]) -> Result<Vec<Version>>;
}

/// An accepted batch in the intake log.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LogEntry<'a> {
    /// The source.
    pub source: SourceNumber,
    /// `v` given to the batch.
    pub visible_at: Timestamp,
    /// `s` of its first row.
    pub first: Position,
    /// How many rows.
    pub count: u32,
    /// The rows as the caller wrote them.
    pub rows: &'a [u8],
}

/// The intake log at one moment.
pub trait LogSnapshot: Send + Sync {
    /// Entries up to this position are gone.
    fn trimmed(&self) -> Position;

    /// The position up to which everything is published and in this snapshot.
    fn end(&self) -> Position;

    /// Hands out the entries that hold a row past `after`, of one source or of all, in order, until `each`
    /// says false.
    ///
    /// # Errors
    /// [`crate::Error::Io`], [`crate::Error::LiveDamaged`], and what `each` gives, which ends the reading.
    fn entries(
        &self,
        after: Position,
        source: Option<SourceNumber>,
        each: &mut dyn FnMut(LogEntry<'_>) -> Result<bool>,
    ) -> Result<()>;
}

/// What a store of live rows takes up.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LiveUsage {
    /// Bytes of its log.
    pub log_bytes: u64,
    /// Bytes of its sorted tables.
    pub table_bytes: u64,
    /// Bytes in memory that its log alone keeps.
    pub memory_bytes: u64,
    /// Batches that wait to be acknowledged.
    pub waiting: usize,
    /// Log entries up to here are gone.
    pub trimmed: Position,
    /// Everything up to here is published.
    pub published: Position,
}
