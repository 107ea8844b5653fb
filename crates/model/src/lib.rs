//! The nouns of a feature repository as users write them: entities, sources, views, derived features and
//! services; read from YAML with a place for everything, checked, hashed and compared.
//!
//! What it is: text in, plain data and diagnostics out. What it is not: it opens no file, knows no
//! clock, no async and no Arrow, and evaluates nothing; SQL is parsed for names, shape and carets only.
//!
//! The way of a definition: [`Project::read`] parses and checks what needs no data; the engine looks
//! at the data and fills a [`TypedProject`]; [`resolve`] makes [`Version`]s named by hash; [`diff`]
//! shows what would change; the registry keeps them and hands every room a [`Catalog`], from which
//! [`Catalog::select`] makes what training and serving read.
//!
//! Invariants: all problems of a folder come back at once; nothing here panics, whatever the text;
//! two texts that differ in spacing, comments or quotes make the same version; every key there is
//! stands in one table, from which the reader, the JSON Schema and the reference page are made.
//!
//! ```
//! use asof_model::{Project, ProjectFile};
//! let file = |path: &str, text: &str| ProjectFile { path: path.into(), text: text.into() };
//! let (project, diagnostics) = Project::read(&[
//!     file("asof.yaml", "project: shop"),
//!     file("features/a.yaml", "entity: seller\nkeys: {seller_id: int64}"),
//! ]);
//! assert!(diagnostics.is_empty());
//! assert_eq!(project.map(|it| it.definitions.len()), Some(1));
//! ```
mod call;
pub mod catalog;
mod check;
mod config;
mod data_type;
pub mod definition;
mod definitions;
mod derived;
mod diagnostic;
mod diff;
mod error;
mod expression;
mod hash;
mod keys;
mod literal;
mod located;
mod name;
mod nearest;
mod number;
mod principal;
mod read;
mod reference;
mod render;
mod resolve;
mod schema;
mod select;
mod serving_log;
mod stale;
mod stored;
mod system_table;
mod time;
mod to_yaml;
mod training_set;
mod version;
mod window;
mod yaml;

pub use call::{Call, CallPlaces};
pub use catalog::*;
pub use config::Config;
pub use data_type::{BadDataType, Column, DataType};
pub use definition::*;
pub use definitions::{Definitions, Missing};
pub use diagnostic::{Diagnostic, Diagnostics, ProjectFile, Severity, Span, has_errors};
pub use diff::{Action, Change, diff, without_owner};
pub use error::{Explain, Kind};
pub use expression::{Expression, ExpressionError};
pub use literal::{Double, Literal};
pub use located::Located;
pub use name::{BadName, Name, Reference};
pub use nearest::{did_you_mean, nearest};
pub use number::{float_text, float32_text, special_float};
pub use principal::Principal;
pub use read::{CONFIG_FILE, Project};
pub use reference::reference_page;
pub use render::render;
pub use resolve::{TypedProject, bind_keys, expand_features, resolve};
pub use schema::json_schema;
pub use select::SelectError;
pub use serving_log::*;
pub use stale::Stale;
pub use stored::{StoredVersionError, VERSION_FORMAT, canonical_json};
pub use system_table::SystemTable;
pub use time::{BadLength, BadTimestamp, Clock, Length, Timestamp};
pub use to_yaml::to_yaml;
pub use training_set::*;
pub use version::Version;
pub use window::{NamedWindow, Window};
