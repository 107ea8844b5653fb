//! The naive oracle: SEMANTICS, sentence by sentence, for latest values without ids.
//! Slow and plain on purpose. Every path is held against it.

use asof_compute::Status;
use asof_model::Question;

use crate::world::{KeyValue, Row, View};

/// What is answered at `t` for a key: a status, and the row where one answers or has expired.
pub fn latest<'a>(
    rows: &'a [Row],
    view: &View,
    key: &[Option<KeyValue>],
    t: i64,
    question: Question,
) -> (Status, Option<&'a Row>) {
    // A null key: that entity's features are null with status `no_key`.
    if key.iter().any(Option::is_none) {
        return (Status::NoKey, None);
    }
    let mut last: Option<&Row> = None;
    for row in rows {
        // known: rows with v <= t. event: all rows.
        if question == Question::Known && row.v > t {
            continue;
        }
        // The view's `where`, which every delete without id passes.
        if !row.delete && !view.passes(row) {
            continue;
        }
        // A row with a null key belongs to no entity of that view.
        if row.key(view) != key {
            continue;
        }
        // The last row in order with e <= t.
        if row.e <= t && last.is_none_or(|last| order(row) > order(last)) {
            last = Some(row);
        }
    }
    match last {
        // None, or a delete: null, `not_found`.
        None => (Status::NotFound, None),
        Some(row) if row.delete => (Status::NotFound, None),
        // t - e > ttl, or t >= valid_until: null, `expired`; the row below does not return.
        Some(row) if row.has_clock() && view.ttl.is_some_and(|ttl| t - row.e > ttl) => {
            (Status::Expired, last)
        }
        Some(row) if row.until.is_some_and(|until| t >= until) => (Status::Expired, last),
        Some(_) => (Status::Present, last),
    }
}

/// Rows are ordered by (e, v, o, s, c); among rows equal in the first four a delete comes last.
pub fn order(row: &Row) -> (i64, i64, Option<i64>, Option<i64>, bool, [u8; 16]) {
    (row.e, row.v, row.o, row.s, row.delete, row.digest)
}
