//! What a room knows, as a table that SQL can read.

use crate::Column;

/// A small table, whole in memory.
#[derive(Debug, Clone, PartialEq)]
pub struct SystemTable {
    /// Its name, e.g. `runs`.
    pub name: &'static str,
    /// Its columns.
    pub columns: Vec<Column>,
    /// Its rows: objects with a value per column, absent for null; times are whole microseconds.
    pub rows: Vec<serde_json::Value>,
}
