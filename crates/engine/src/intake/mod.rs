//! Pushed rows: from the bytes of a request to what the live store keeps of them.
//!
//! Start reading at [`LiveRows`], the bytes of rows in the intake log.
//!
//! Not here: `v` and `s`, which the live store gives, and which versions stand.

mod stored;

pub use stored::{EncodedRows, LIVE_ROWS_FORMAT, LiveRows, LiveRowsReader};
