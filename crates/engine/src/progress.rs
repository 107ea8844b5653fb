//! How far a long operation is.

use std::sync::Arc;

/// One report of an operation's progress.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ProgressEvent {
    /// What is being done, e.g. `scan`; the same word until the next phase begins.
    pub phase: &'static str,
    /// How much of it is done.
    pub done: u64,
    /// How much there is, where that is known.
    pub total: Option<u64>,
    /// What is counted: `rows` or `bytes`.
    pub unit: &'static str,
}

/// Where an operation reports its progress to; called from any thread, so it must be quick.
pub type Progress = Arc<dyn Fn(ProgressEvent) + Send + Sync>;

/// Reports to nobody.
pub fn no_progress() -> Progress {
    Arc::new(|_| {})
}
