//! Delta tables: the tables of stored sources, and foreign tables read in place.
//!
//! A stored source has one table per family of its versions ([`stored`]); a load stages data files and
//! commits them once ([`append`]), bad rows aside ([`quarantine`]); pushed rows are moved there from the
//! intake log ([`flush`]), read with what is still in the log ([`tail`]), and small files become larger ones
//! ([`compact`]). Which rows end because a version comes after them stands in a table beside ([`superseded`]).
//! All of it goes through a local object store whose acknowledgement is durable ([`durable`]).

mod append;
mod compact;
mod copied;
mod durable;
mod flush;
mod foreign;
mod late;
mod load;
mod quarantine;
mod readers;
mod scan;
mod stored;
mod superseded;
mod table;
mod tail;

#[cfg(test)]
mod append_suite;
#[cfg(test)]
mod flush_suite;
#[cfg(test)]
mod suite_scan;
#[cfg(test)]
mod superseded_suite;

pub use compact::Compacted;
pub(crate) use durable::DurableFiles;
pub use flush::Flushed;
pub(crate) use foreign::Foreign;
pub use load::{FileLoad, FileRead, LoadFile, LoadedRows, OnBadRow, ReadFile, Standing};
pub(crate) use readers::Readers;
pub(crate) use scan::{StoredFiles, in_order, reaches, stored_files};
pub(crate) use stored::{Layout, RENAME, case_twin, differs_in_case};
pub(crate) use superseded::{BYTES as SUPERSEDED_BYTES, Known};
pub use superseded::{Next, Superseded};
pub use tail::{HeldTail, LiveBatch, LiveTail, SharedTail};
pub(crate) use tail::{Tailed, tail_file};
