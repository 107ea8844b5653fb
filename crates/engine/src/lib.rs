//! Definitions to plans to Arrow streams.
//!
//! The only crate that names DataFusion and Delta Lake. It reads sources in place ([`source`]) and
//! from their own Delta tables ([`delta`]), types and evaluates expressions ([`expression`]), checks
//! definitions against the data ([`check`]), answers spines as of their own times
//! ([`point_in_time`], [`training`]), reads the bodies of pushes ([`intake`]), streams a view's rows to be
//! materialised ([`rows`]) and runs read-only SQL ([`query`]).
//!
//! It is not a server and knows no wire and no online store. What a value is stands in
//! `asof-compute`; nothing here decides it again.
//!
//! Start reading at [`Engine`], then [`source::scan`]: everything else stands on the fixed columns
//! that a scan gives.

pub mod check;
pub mod delta;
mod engine;
mod error;
pub mod expression;
mod growth;
pub mod intake;
mod integers;
pub mod point_in_time;
mod progress;
pub mod query;
pub mod rows;
pub mod source;
mod threads;
pub mod training;

pub use engine::{Engine, EngineConfig};
pub use error::{Error, Result};
pub use progress::{Progress, ProgressEvent, no_progress};
