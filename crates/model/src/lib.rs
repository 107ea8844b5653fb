//! The nouns of a feature repository as users write them.
pub mod catalog;
mod data_type;
pub mod definition;
mod diagnostic;
mod error;
mod expression;
mod name;
mod principal;
mod system_table;
mod time;
mod training_set;
mod version;

pub use catalog::*;
pub use data_type::{BadDataType, Column, DataType};
pub use definition::*;
pub use diagnostic::{Diagnostic, Diagnostics, ProjectFile, Severity, Span};
pub use error::{Explain, Kind};
pub use expression::Expression;
pub use name::{BadName, Name, Reference};
pub use principal::Principal;
pub use system_table::SystemTable;
pub use time::{BadLength, BadTimestamp, Clock, Length, Timestamp};
pub use training_set::*;
pub use version::Version;
