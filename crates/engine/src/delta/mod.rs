//! Delta tables: the tables of stored sources, and foreign tables read in place.
//!
//! A stored source has one table per family of its versions ([`stored`]); a load stages data files and
//! commits them once ([`append`]); all of it goes through a local object store whose acknowledgement is
//! durable ([`durable`]).

mod append;
mod copied;
mod durable;
mod foreign;
mod load;
mod quarantine;
mod scan;
mod stored;
mod table;

#[cfg(test)]
mod append_suite;
#[cfg(test)]
mod suite_scan;

pub(crate) use durable::DurableFiles;
pub(crate) use foreign::Foreign;
pub use load::{FileLoad, LoadFile, OnBadRow, Standing};
pub(crate) use scan::{in_order, stored_files};
pub(crate) use stored::Layout;
