//! What was agreed: the versioned definitions of every project, the training sets made from them
//! and the runs that moved data, in one SQLite file.
//!
//! It is not a file format for definitions (that is `asof-model`), knows no engine, store or wire,
//! and does not decide whether a definition is good: [`Registry::apply`] takes versions that were
//! resolved and checked, and decides only whether they still fit what stands.
//!
//! Invariants:
//! - A change, a version and a training set are written once and never altered; the database itself
//!   refuses it. What stands is a pointer per (project, kind, name).
//! - An apply is one transaction. It is made against a base revision, and refused where its project,
//!   or a thing of another project it stands on, changed since.
//! - What was acknowledged is on the disk: WAL, `synchronous = FULL`. After a failed commit nothing
//!   more is written until the file is opened again.
//!
//! Start reading at [`Registry`]; the tables are in `docs/formats/registry.md`.
//!
//! ```
//! # use std::{path::Path, sync::Arc};
//! # use asof_model::{Clock, Name, Principal};
//! # use asof_registry::{Apply, Registry};
//! # async fn example(clock: Arc<dyn Clock>) -> Result<(), Box<dyn std::error::Error>> {
//! let registry = Registry::open(Path::new(".asof/registry.db"), clock).await?;
//! let change = Apply {
//!     project: Name::new("shop")?,
//!     root: "/home/me/shop".into(),
//!     base: registry.catalog().revision,
//!     put: vec![], // resolved versions
//!     remove: vec![],
//! };
//! let revision = registry.apply(&Principal::owner(), change).await?;
//! assert_eq!(registry.catalog().revision, revision);
//! # Ok(())
//! # }
//! ```

mod apply;
mod discover;
mod error;
mod record;
mod registry;
mod run;
mod system;
mod training_set;

pub use apply::{Apply, ChangeRecord, VersionRecord};
pub use discover::{
    Found, Hit, Listed, MASK, SampleColumn, Shown, ShownColumn, ShownSample, ShownVersion, User, list,
    masked, search, show,
};
pub use error::{RegistryError, Result};
pub use registry::Registry;
pub use run::{NewRun, Run, RunError, RunKind, RunState};
pub use training_set::{LISTED, ListedSet};
