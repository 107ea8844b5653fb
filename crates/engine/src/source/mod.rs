//! Sources as one stream of rows with fixed columns in front, whatever they are read from.
//!
//! [`scan`] gives a plan whose schema begins with the columns of [`fixed`]; the time rules of a
//! source are applied there, once. A row whose event time is null or outside the years 0001 to 9999
//! ends the plan with an error that names source, file and row.
//!
//! Not here: which rows count, and what answers (`asof-compute`, [`crate::point_in_time`]).

mod columns;
mod exec;
pub(crate) mod files;
pub(crate) mod find;
mod identity;
pub(crate) mod instants;
pub(crate) mod options;
mod parquet;
pub(crate) mod rules;

use std::sync::Arc;

use asof_model::{Catalog, Cut, Place, SourceVersion};
use datafusion::physical_plan::ExecutionPlan;

pub(crate) use columns::convert;

use self::exec::FilesExec;
use self::files::OpenFile;
use self::rules::Rules;
use crate::{Engine, Error, Result};

/// The columns that every scan's schema begins with, in this order.
pub mod fixed {
    /// `e`: Timestamp(us, UTC); null where the source has no clock.
    pub const EVENT_TIME: &str = "__e";
    /// `v`: Timestamp(us, UTC); null is never known.
    pub const VISIBLE_AT: &str = "__v";
    /// `o`: Binary, an order-preserving key (`asof_compute::order_key`); null comes first.
    pub const ORDER_BY: &str = "__o";
    /// `s`: Int64; null for rows read in place.
    pub const POSITION: &str = "__s";
    /// Boolean, never null: true is a delete.
    pub const OP: &str = "__op";
    /// `valid_until`: Timestamp(us, UTC); null is never.
    pub const UNTIL: &str = "__until";
    /// The row's address: UInt64, never null. There only if [`super::ScanColumns::address`] asked for
    /// it and the source has stable addresses; then it stands right behind the other six.
    pub const ADDRESS: &str = "__row";
}

/// What a scan shall give besides the fixed columns.
#[derive(Debug, Clone, Default)]
pub struct ScanColumns {
    /// Source columns by name, in this order.
    pub columns: Vec<String>,
    /// All source columns, in the source's order, because a digest of the row is needed; `columns`
    /// is then not looked at.
    pub all_for_digest: bool,
    /// Also [`fixed::ADDRESS`], where the source's rows have stable addresses.
    pub address: bool,
}

/// A scan ready to run.
#[derive(Debug)]
pub struct SourceScan {
    /// Gives the rows. It may be executed more than once; each time gives the same rows.
    pub plan: Arc<dyn ExecutionPlan>,
    /// What exactly is read.
    pub identity: Cut,
    files: Vec<Arc<Vec<OpenFile>>>,
}

impl SourceScan {
    /// Refuses where a file is no longer what was opened. Call it when the plan is through; what was
    /// read before is right only if this is. Blocking.
    ///
    /// # Errors
    /// [`Error::Changed`] with the file.
    pub fn verify(&self) -> Result<()> {
        self.files.iter().flat_map(|files| files.iter()).try_for_each(OpenFile::verify)
    }
}

/// A scan of a source: the fixed columns, then those asked for.
///
/// # Errors
/// [`Error::Invalid`] where files are missing or broken or lack a column; [`Error::Io`].
pub async fn scan(
    engine: &Engine,
    catalog: &Catalog,
    source: &SourceVersion,
    want: &ScanColumns,
) -> Result<SourceScan> {
    let root = catalog
        .projects
        .get(&source.address.project)
        .map(|project| project.root.clone())
        .ok_or_else(|| Error::internal(format!("project of source `{}` is not there", source.address)))?;
    let name = source.address.name.as_str();
    match &source.definition.place {
        Place::Files { path, format, options } => {
            let (path, format, options) = (path.clone(), *format, options.clone());
            let rules = Arc::new(Rules::new(engine, name, &source.definition, &source.columns, want, true)?);
            let files = engine.blocking(move || files::open(&root, &path, format, &options)).await?;
            let identity = Cut::Files(files.iter().map(|file| file.identity.clone()).collect());
            let files = Arc::new(files);
            let plan = FilesExec::new(Arc::clone(&files), rules, engine.config().threads);
            Ok(SourceScan { plan: Arc::new(plan), identity, files: vec![files] })
        }
        Place::Sql { .. } => Err(Error::internal("sources with `sql` are not read yet")),
    }
}
