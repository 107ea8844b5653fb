//! Sources as one stream of rows with fixed columns in front, whatever they are read from.
//!
//! [`scan`] gives a plan whose schema begins with the columns of [`fixed`]; the time rules of a
//! source are applied there, once. A row whose event time is null or outside the years 0001 to 9999
//! ends the plan with an error that names source, file and row.
//!
//! Not here: which rows count, and what answers (`asof-compute`, [`crate::point_in_time`]).

pub(crate) mod columns;
mod csv;
mod descriptors;
pub(crate) mod exec;
mod fetch;
pub(crate) mod files;
pub(crate) mod find;
mod footer;
pub(crate) mod identity;
pub(crate) mod infer;
pub(crate) mod instants;
pub(crate) mod ndjson;
pub(crate) mod opened;
pub(crate) mod options;
mod pages;
pub(crate) mod parquet;
mod query;
pub(crate) mod rules;
mod taken;

use std::sync::Arc;

use asof_model::{Catalog, Cut, SourceVersion, Timestamp};
use datafusion::physical_plan::ExecutionPlan;

pub(crate) use columns::convert;
pub use find::means;

use self::exec::FilesExec;
use self::fetch::FilesFetch;
use self::files::OpenFile;
pub(crate) use self::opened::{Opened, open};
use crate::{Engine, Result};

/// The longest record of a CSV file and the longest line of an NDJSON file: 64 MiB. One is held whole while
/// it is read, and a stray quote makes one record of all that follows.
pub(crate) const LONGEST_RECORD: usize = 64 << 20;

/// Past so many bytes of cells a batch of a text file ends, however few rows it has: 64 MiB.
const LONGEST_BATCH: usize = 64 << 20;

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
    /// The v of the version after a row of a source with ids, before all time of a delete with an id: Timestamp(us,
    /// UTC), null where the row counts for good. No scan has it: the operator puts it behind what a scan gives.
    pub const ENDS: &str = "__ends";
    /// Names that no column of a source has, in any case.
    pub const OWN: [&str; 8] = [EVENT_TIME, VISIBLE_AT, ORDER_BY, POSITION, OP, UNTIL, ADDRESS, ENDS];
    /// The six that every scan has.
    pub const ALL: [&str; 6] = [EVENT_TIME, VISIBLE_AT, ORDER_BY, POSITION, OP, UNTIL];
}

/// What a scan shall give besides the fixed columns.
#[derive(Debug, Clone, Default)]
pub struct ScanColumns {
    /// Source columns by name, in this order.
    pub columns: Vec<String>,
    /// All source columns, in the source's order, because a digest of the row is needed; `columns`
    /// is then not looked at.
    pub all_for_digest: bool,
    /// Also [`fixed::ADDRESS`], where the source's rows have stable addresses. `order_by` and
    /// `valid_until` are then not read: both columns are null, to be fetched for the rows that need them.
    pub address: bool,
    /// Rows are folded into windows: many are read at once where they are of fixed width.
    pub folded: bool,
    /// Also [`fixed::ADDRESS`] of rows that cannot be fetched by it, of text files say, for
    /// [`SourceScan::place`]; as `address` else.
    pub numbered: bool,
    /// Also [`fixed::ADDRESS`], whatever the source is, and all else as without: rows of what has no stable addresses
    /// are numbered as they come, in one order. Two scans number rows alike if they ask for the same columns, and of
    /// files whatever they ask for.
    pub named: bool,
    /// Rows of later event times are not needed: row groups whose statistics say that they hold no others,
    /// and no null that would be counted, are left out.
    pub until: Option<Timestamp>,
    /// Read what was read then: a stored source up to that position, a Delta table at that version,
    /// the files of that record ([`crate::Error::Changed`] where one is gone or another). None: as it is now.
    pub at: Option<Cut>,
}

/// A scan ready to run.
#[derive(Debug)]
pub struct SourceScan {
    /// Gives the rows. It may be executed more than once; each time gives the same rows.
    pub plan: Arc<dyn ExecutionPlan>,
    /// What exactly is read.
    pub identity: Cut,
    /// Reads single rows by address; there exactly if [`ScanColumns::address`] asked for it and the source has
    /// stable addresses. The plan then has more partitions than there are threads: each thread is meant to
    /// read one after another.
    pub fetch: Option<Arc<dyn FetchRows>>,
    files: Vec<Arc<Vec<OpenFile>>>,
}

/// Reads columns of rows by the addresses a scan gave, from the very files the scan opened.
pub trait FetchRows: std::fmt::Debug + Send + Sync {
    /// One row out per address, in the order of the addresses, which must ascend (one may repeat), in
    /// batches of some thousand rows, each given to `take` as it is read. Columns in the order asked:
    /// source columns, and those of [`fixed::ALL`]. Blocking.
    ///
    /// # Errors
    /// As reading the source, and what `take` gives.
    fn fetch(
        &self,
        addresses: &[u64],
        columns: &[String],
        take: &mut dyn FnMut(arrow::array::RecordBatch) -> Result<()>,
    ) -> Result<()>;

    /// One past the last address of what is read together with this row, a row group say: who fetches
    /// many rows reads nothing twice if no fetch begins or ends within.
    fn read_together(&self, address: u64) -> u64;
}

impl SourceScan {
    /// Refuses where a file is no longer what was opened. Call it when the plan is through; what was
    /// read before is right only if this is. Blocking.
    ///
    /// # Errors
    /// [`crate::Error::Changed`] with the file.
    pub fn verify(&self) -> Result<()> {
        self.files.iter().flat_map(|files| files.iter()).try_for_each(OpenFile::verify)
    }

    /// The file of a row whose address the plan gave, as shown to people, and its number there, from 1 on.
    pub(crate) fn place(&self, address: u64) -> Option<(&str, u64)> {
        let [files] = self.files.as_slice() else { return None };
        let file = usize::try_from(address >> exec::ROW_BITS).ok().and_then(|at| files.get(at))?;
        Some((file.shown(), (address & ((1 << exec::ROW_BITS) - 1)) + 1))
    }
}

/// A scan of a source: the fixed columns, then those asked for.
///
/// # Errors
/// [`crate::Error::Invalid`] where files are missing or broken or lack a column;
/// [`crate::Error::Io`].
pub async fn scan(
    engine: &Engine,
    catalog: &Catalog,
    source: &SourceVersion,
    want: &ScanColumns,
) -> Result<SourceScan> {
    let opened = open(engine, catalog, source, want.at.as_ref(), 0).await?;
    scan_opened(engine, source, &opened, want).await
}

/// Into so many runs for each thread rows with addresses are cut: what one thread still reads when the others are
/// done is small then.
const RUNS: usize = 32;

/// [`scan`] of a source that is open.
pub(crate) async fn scan_opened(
    engine: &Engine,
    source: &SourceVersion,
    opened: &Opened,
    want: &ScanColumns,
) -> Result<SourceScan> {
    let files = opened.addressed().filter(|_| want.address);
    let numbered = want.numbered && opened.is_numbered();
    let want = ScanColumns { address: files.is_some() || numbered, ..want.clone() };
    let (rules, threads) = (opened.rules(engine, source, &want)?, engine.config().threads);
    let plan: Arc<dyn ExecutionPlan> = match files {
        Some(files) => Arc::new(FilesExec::in_runs(Arc::clone(files), rules, threads * RUNS)),
        None if want.named && !opened.is_numbered() => opened.plan(engine, &rules, 1).await?,
        None => opened.plan(engine, &rules, threads).await?,
    };
    let fetch = files.map(|files| {
        let fetch = FilesFetch::new(engine, &source.definition, &source.columns, files, opened.given());
        Arc::new(fetch) as Arc<dyn FetchRows>
    });
    Ok(SourceScan { plan, identity: opened.cut(), fetch, files: opened.files() })
}

/// The greatest event time of an open source, [`Timestamp::BEFORE_ALL`] where it has no rows; none where the
/// statistics of its files do not say it of every row.
///
/// # Errors
/// Where a rule of the source is broken.
pub(crate) fn last_event(
    engine: &Engine,
    source: &SourceVersion,
    opened: &Opened,
) -> Result<Option<Timestamp>> {
    let Some(files) = opened.addressed() else { return Ok(None) };
    let rules = opened.rules(engine, source, &ScanColumns::default())?;
    let of = |last: Timestamp, file: &OpenFile| Some(last.max(file.last_event(rules.of(file))?));
    Ok(files.iter().try_fold(Timestamp::BEFORE_ALL, of))
}
