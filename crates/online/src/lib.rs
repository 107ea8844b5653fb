//! The rows of views that may still answer, per entity: ordered, durable, in the process.
//!
//! There are two stores. [`live`] takes rows that are pushed one by one, with its log, and [`views`] are the
//! views in it: over windows, over pushed rows and over rows with an `id`. All others are in [`OnlineStore`],
//! which the rest of this page is about; its files are written in whole batches.
//!
//! It holds *generations*: all rows of one version of one view, as one materialisation built
//! them. A read takes, of one entity of one generation, the first row in order with `e <= T`, `v <= T`
//! and T before the `v` of its next version; so a future-dated row never hides today's. What the row
//! then answers (ttl, `valid_until`, deletes) is not decided here but by `asof_compute::status_at`.
//!
//! It knows no SQL, no definition's syntax and no Arrow: values are the bytes of
//! `asof_compute::RowLayout`, keys those of `asof_compute::KeyEncoder`.
//!
//! Invariants:
//! - a commit is one atomic batch, durable before it returns: rows, progress and records of
//!   generations together;
//! - a snapshot sees whole commits only, and the same ones however long it lives;
//! - of each entity everything is kept that wins at some T from the commit's horizon on
//!   (`asof_compute::retain`);
//! - one process owns a directory; another is refused by name.
//!
//! Start reading at [`OnlineStore`], then [`key`] (the layout, `docs/formats/online-store.md`), then
//! [`embedded`], the engine in the process. What decided for it is `docs/decisions/0001-online-store.md`. For
//! rows that are pushed start at [`live`], then [`views`].

mod embedded;
mod error;
mod generation;
mod key;
pub mod live;
mod lock;
mod rows;
mod store;
pub mod views;

use std::path::Path;
use std::sync::Arc;

pub use error::{Error, Result};
pub use generation::{Generation, GenerationId, GenerationState};
pub use rows::RowBatch;
pub use store::{
    Commit, Committed, Found, GenerationUsage, Horizon, OnlineStore, Snapshot, StoredRow, Usage, Wanted,
};

/// How a store is opened.
#[derive(Debug, Clone)]
pub struct Options {
    /// Bytes of pages the store keeps in memory.
    pub cache: usize,
}

impl Default for Options {
    fn default() -> Options {
        Options { cache: 256 << 20 }
    }
}

/// Opens the store in this directory, making it if there is none.
///
/// # Errors
/// [`Error::Owned`] where another process has it open, [`Error::Newer`] where a newer Asof wrote it,
/// [`Error::Io`] and [`Error::Damaged`] where the files cannot be used.
pub fn open(path: &Path, options: &Options) -> Result<Arc<dyn OnlineStore>> {
    Ok(Arc::new(embedded::Embedded::open(path, options)?))
}
