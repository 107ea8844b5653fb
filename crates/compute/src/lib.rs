//! The algebra: what decides a feature's value stands here once, and every path calls it.

mod interval;
mod latest;
mod order;
mod retain;
mod row;

pub use interval::first_answer;
pub use latest::{Status, status_at};
pub use order::{Op, Position, RowDigest, RowOrder};
pub use retain::{Answering, retain};
pub use row::{ColumnBuilder, ROW_FORMAT, RowEncoder, RowError, RowLayout};
