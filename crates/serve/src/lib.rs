//! The read path: what is asked, entities and T in; values, statuses and event times out.
//!
//! One request has one T and one snapshot of the online store, however many views it reads. Which row
//! answers is the store's order and `asof_compute::status_at`, nothing here decides it again; values
//! stay the stored bytes until a wire writes them or asks for Arrow arrays.
//!
//! What is derived is computed of that in one batch, by what the engine compiled once for the selection
//! (`asof_compute::Derivations`): the same that training runs.
//!
//! It is not a wire: requests come as typed arrays and answers leave as typed values. It knows no
//! engine, and never reads a source.
//!
//! Of some keys every answer is kept, with what could be read when it was given: the serving log ([`ServingLog`]).
//!
//! Invariants:
//! - an answer is whole or an error: a missing key column, a view that is not materialised or an
//!   `as_of` out of reach refuses the request;
//! - T never goes back: it is that of the live store's sequencer, or without one the greater of the clock and the
//!   last T answered.
//!
//! Start reading at [`Reader`].

mod entities;
mod error;
mod features;
mod live;
mod log;
mod prepared;
mod reader;

pub use entities::EntityColumns;
pub use error::{Result, ServeError};
pub use features::{FeatureColumn, Features, ReadingStatus};
pub use log::{ServingLog, ServingLogStatus};
pub use prepared::{PreparedSelection, RequestKey};
pub use reader::Reader;
