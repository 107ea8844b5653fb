//! Live rows: pushed a batch at a time, durable when acknowledged, readable in the next moment.
//!
//! A store is a log and the sorted tables behind it. A batch is given its `v` and `s` by the one
//! [`sequence`], appended to the log with all others that wait, made durable by one fsync for all of them,
//! put into the tables in memory, published, and acknowledged, in this order and in the order of `v`. The
//! log is the intake log at once: it is read from a position on, and trimmed when what it holds stands
//! elsewhere. Tables are written to disk in the background; opening replays the log past what they hold.
//!
//! It knows no SQL, no definition's syntax and no Arrow: rows and entries are the caller's bytes. What
//! the caller stores of a batch may depend on its `v` and `s` and on the versions around it, so it gives
//! a function that is called when they are known.
//!
//! Invariants:
//! - one atomic batch holds the log entry, the answer to its idempotency key, the versions of its ids and
//!   the caller's entries;
//! - what is read is durable, but for batches that were asked to be relaxed;
//! - `v` and `s` rise without repeating, T does not fall, no `v` is given at or before a T answered: also
//!   over restarts and backward steps of the clock;
//! - after a write that failed for another reason than want of space nothing is acknowledged until the
//!   store is opened again;
//! - one process owns a directory.
//!
//! Start reading at [`LiveStore`], then [`sequence`] and [`log`], then [`engine`], which puts them together.
//! The bytes are `docs/formats/live-store.md`; why it stands on a log of its own, and on which tables,
//! `docs/decisions/live-store.md`.

mod engine;
mod group;
mod intake;
mod keeper;
mod keys;
mod lease;
mod log;
mod pending;
mod record;
mod sequence;
mod snapshot;
mod store;
mod sweep;
#[cfg(test)]
mod tests;
mod tree;
mod versions;

use std::fs::File;
use std::path::Path;
use std::sync::Arc;

use asof_compute::Position;
use asof_model::Clock;

pub use record::{LONGEST_KEY, Writing};
pub use store::{
    Accepted, Direction, Durability, Given, GivenRow, IdempotencyKey, Incoming, IncomingVersion, Intake,
    LiveSnapshot, LiveStore, LiveUsage, LogEntry, LogSnapshot, Published, SourceNumber, TableNumber, Version,
};
pub use sweep::{Swept, sweep};
pub(crate) use versions::escaped_length;
pub use versions::version_key_length;

use crate::Result;

/// How a store of live rows is opened.
#[derive(Debug, Clone)]
pub struct LiveOptions {
    /// Gives `v` and T.
    pub clock: Arc<dyn Clock>,
    /// The greatest position known elsewhere: the offline tables', the registry's. None is given again.
    pub floor: Position,
    /// Bytes of tables' blocks kept in memory.
    pub cache: usize,
    /// Bytes of new rows that memory takes before they are written to a table. Up to four times as much is
    /// held while writing does not keep up, and three times as much is left free on the disk.
    pub memory: usize,
    /// Bytes of batches that wait to be acknowledged before further ones are refused as busy.
    pub waiting: usize,
    /// Bytes after which a file of the log is ended.
    pub log_file: u64,
}

impl LiveOptions {
    /// With this clock, all else as it usually is.
    pub fn new(clock: Arc<dyn Clock>) -> LiveOptions {
        LiveOptions {
            clock,
            floor: Position(0),
            cache: 256 << 20,
            memory: 64 << 20,
            waiting: 64 << 20,
            log_file: 64 << 20,
        }
    }
}

/// Opens the store of live rows in this directory, making it if there is none.
///
/// # Errors
/// [`crate::Error::Owned`] where another has it open, [`crate::Error::Newer`] where a newer Asof wrote it,
/// [`crate::Error::Full`], [`crate::Error::Io`] and [`crate::Error::LiveDamaged`] where the files cannot be
/// used.
pub fn open(path: &Path, options: &LiveOptions) -> Result<Arc<dyn LiveStore>> {
    Ok(Arc::new(engine::Live::open(path, options, &(Arc::new(File::sync_data) as log::Fsync))?))
}
