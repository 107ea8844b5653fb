//! Windows (SEMANTICS 3.2): which rows are within, and what their features come to.

use asof_model::Question;

use super::aggregates::{Outcome, finish};
use super::{counting, order};
use crate::world::{KeyValue, Row};
use crate::{Value, Window, WindowView};

/// What an answer of a window is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum WindowStatus {
    /// Something counted, or the answer is 0 or a default.
    Present,
    /// Nothing counted.
    Null,
    /// A key of the request or spine row is null.
    NoKey,
    /// The value is out of range, or over a cap.
    Overflow,
}

impl WindowStatus {
    /// Its name on the wire.
    pub fn name(self) -> &'static str {
        match self {
            WindowStatus::Present => "present",
            WindowStatus::Null => "null",
            WindowStatus::NoKey => "no_key",
            WindowStatus::Overflow => "overflow",
        }
    }
}

/// What a feature of a window view answers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Answer {
    /// What it is.
    pub status: WindowStatus,
    /// The value; null unless present, and of a sample of one row.
    pub value: Value,
}

/// The event times of a window asked at `t`: from the first, if any, up to the second and without it.
pub fn edges(window: &Window, t: i64) -> (Option<i64>, i64) {
    // Rows with t - f - w <= e < t - f; `include_now`: t - f - w < e <= t - f, which is one microsecond later.
    let upper = t - window.offset + i64::from(window.include_now);
    // `window: all` has no lower edge; `resolution` floors it to a multiple since the epoch.
    let lower = window.length.map(|length| upper - length);
    let floored = |lower: i64| window.resolution.map_or(lower, |floor| lower - lower.rem_euclid(floor));
    (lower.map(floored), upper)
}

/// What the features of a window view answer at `t` for a key, in their order.
pub fn windows(
    rows: &[Row],
    view: &WindowView,
    key: &[Option<KeyValue>],
    t: i64,
    question: Question,
) -> Vec<Answer> {
    let null = |status| Answer { status, value: Value::Null };
    // A null key: that entity's features are null with status `no_key`.
    if key.iter().any(Option::is_none) {
        return view.features().map(|_| null(WindowStatus::NoKey)).collect();
    }
    let mut counting = counting(rows, &view.view, key, t, question);
    counting.sort_by_key(|row| order(row));
    let answer = |(aggregate, window): (&crate::Aggregate, &Window)| {
        let (lower, upper) = edges(window, t);
        let within = |row: &&&Row| lower.is_none_or(|lower| lower <= row.e) && row.e < upper;
        let rows: Vec<&Row> = counting.iter().filter(within).copied().collect();
        match (finish(aggregate, &rows, t), &aggregate.default) {
            (Outcome::Value(value), _) => Answer { status: WindowStatus::Present, value },
            // `default:` replaces null of empty windows.
            (Outcome::Nothing, Some(value)) => Answer { status: WindowStatus::Present, value: value.clone() },
            (Outcome::Nothing, None) => null(WindowStatus::Null),
            (Outcome::Overflow, _) => null(WindowStatus::Overflow),
        }
    };
    view.features().map(answer).collect()
}
