//! The naive oracle: SEMANTICS, sentence by sentence, for latest values, windows, derived features and labels of rows
//! with and without ids. Slow and plain on purpose. Every path is held against it.

mod aggregates;
mod exact;
mod service;
mod windows;

use asof_compute::Status;
use asof_model::Question;

use crate::world::{KeyValue, Row, View};
pub use service::{Reach, derived, feature, label, reads};
pub use windows::{Answer, WindowStatus, edges, windows};

/// The rows that count for a key of a view, asked at `t`, of whatever event time.
pub fn counting<'a>(
    rows: &'a [Row],
    view: &View,
    key: &[Option<KeyValue>],
    t: i64,
    question: Question,
) -> Vec<&'a Row> {
    // known: rows with v <= t. event: all rows.
    let asked: Vec<&Row> = rows.iter().filter(|row| question == Question::Event || row.v <= t).collect();
    let mut counting = Vec::new();
    for (at, row) in asked.iter().enumerate() {
        // Of each id keep the version last in (v, o, s, c); of equal ones it is all the same which.
        let later = |(other_at, other): (usize, &&Row)| {
            other.id == row.id && (version_order(other), other_at) > (version_order(row), at)
        };
        if row.id.is_some() && asked.iter().enumerate().any(later) {
            continue;
        }
        // Drop events whose last version is a delete.
        if row.id.is_some() && row.delete {
            continue;
        }
        // The view's `where`, which every delete without id passes.
        if !row.delete && !view.passes(row) {
            continue;
        }
        // A row with a null key belongs to no entity of that view.
        if row.key(view) == key {
            counting.push(*row);
        }
    }
    counting
}

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
    // The last row in order with e <= t.
    let counting = counting(rows, view, key, t, question);
    let last = counting.into_iter().filter(|row| row.e <= t).max_by_key(|row| order(row));
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

/// The feature `n` of what [`latest`] answers: `default:` replaces null of `not_found` and `expired`, and no other.
pub fn latest_n(view: &View, answer: (Status, Option<&Row>)) -> Option<i64> {
    match answer {
        (Status::Present, row) => row.and_then(|row| row.n),
        (Status::NotFound | Status::Expired, _) => view.default,
        (Status::NoKey | Status::NotMature, _) => None,
    }
}

/// The feature `state` of what [`latest`] answers.
pub fn latest_state(answer: (Status, Option<&Row>)) -> Option<&'static str> {
    answer.1.filter(|_| answer.0 == Status::Present).and_then(|row| row.state)
}

/// Rows are ordered by (e, v, o, s, c); among rows equal in the first four a delete comes last.
pub fn order(row: &Row) -> (i64, i64, Option<i64>, Option<i64>, bool, [u8; 16]) {
    (row.e, row.v, row.o, row.s, row.delete, row.digest)
}

/// The versions of an id are ordered by (v, o, s, c).
pub fn version_order(row: &Row) -> (i64, Option<i64>, Option<i64>, [u8; 16]) {
    (row.v, row.o, row.s, row.digest)
}

/// The version after that at a place in `rows`, if there is one. Equal versions are in the order of `rows`.
pub fn version_after(rows: &[Row], at: usize) -> Option<usize> {
    let after = |other: &usize| {
        rows[*other].id == rows[at].id
            && (version_order(&rows[*other]), *other) > (version_order(&rows[at]), at)
    };
    rows[at].id?;
    (0..rows.len()).filter(after).min_by_key(|other| (version_order(&rows[*other]), *other))
}
