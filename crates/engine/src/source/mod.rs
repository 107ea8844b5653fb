//! Sources as one stream of rows with fixed columns in front, whatever they are read from.
//!
//! [`scan`] gives a plan whose schema begins with the columns of [`fixed`]; the time rules of a
//! source are applied there, once. A row whose event time is null or outside the years 0001 to 9999
//! ends the plan with an error that names source, file and row.
//!
//! Not here: which rows count, and what answers (`asof-compute`, [`crate::point_in_time`]).

mod identity;

use std::sync::Arc;

use datafusion::physical_plan::ExecutionPlan;

pub use identity::{Cut, FileIdentity};

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
    /// must then be empty.
    pub all_for_digest: bool,
    /// Also [`fixed::ADDRESS`], where the source's rows have stable addresses.
    pub address: bool,
}

/// A scan ready to run.
#[derive(Debug)]
pub struct SourceScan {
    /// Gives the rows.
    pub plan: Arc<dyn ExecutionPlan>,
    /// What exactly is read; check it again with [`Cut::verify`] when the plan is through.
    pub identity: Cut,
    /// Reads columns of single rows by address; none where rows have no stable address.
    pub fetch: Option<Arc<dyn FetchRows>>,
}

/// Reads columns of rows by the addresses a scan gave, from the very files the scan held open.
pub trait FetchRows: std::fmt::Debug + Send + Sync {
    /// One row out per address, in the order of the addresses, which must ascend; columns in the
    /// order asked. Blocking.
    ///
    /// # Errors
    /// [`crate::Error::Changed`] where a file is no longer what the scan read.
    fn fetch(&self, addresses: &[u64], columns: &[String]) -> crate::Result<arrow::array::RecordBatch>;
}
