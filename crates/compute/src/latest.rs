//! The latest value: the last row in order, and what it answers at t (SEMANTICS 3.1).

use asof_model::{Length, Timestamp};

use crate::Op;

/// What an answer is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Status {
    /// A row answers.
    Present,
    /// No row, or a delete.
    NotFound,
    /// A row would answer, but `t - e > ttl` or `t >= valid_until`.
    Expired,
    /// A key of the request or spine row is null.
    NoKey,
    /// A label is asked past the greatest event time of its source: what it will be is not known yet.
    NotMature,
}

impl Status {
    /// Every status; its place here is its [`Status::code`].
    pub const ALL: [Status; 5] =
        [Status::Present, Status::NotFound, Status::Expired, Status::NoKey, Status::NotMature];

    /// Its number in columns of statuses: 0 present, 1 not_found, 2 expired, 3 no_key, 4 not_mature.
    pub const fn code(self) -> u8 {
        self as u8
    }

    /// The status with this number.
    pub fn from_code(code: u8) -> Option<Status> {
        Status::ALL.get(usize::from(code)).copied()
    }

    /// Its name on the wire, e.g. `not_found`.
    pub fn name(self) -> &'static str {
        match self {
            Status::Present => "present",
            Status::NotFound => "not_found",
            Status::Expired => "expired",
            Status::NoKey => "no_key",
            Status::NotMature => "not_mature",
        }
    }
}

/// What the row that is last in order answers at `t`. The one place that decides it.
///
/// `event_time` is [`Timestamp::BEFORE_ALL`] for rows without a clock, which never expire by ttl;
/// a null `valid_until` is none.
#[inline]
pub fn status_at(
    t: Timestamp,
    event_time: Timestamp,
    op: Op,
    valid_until: Option<Timestamp>,
    ttl: Option<Length>,
) -> Status {
    if op == Op::Delete {
        return Status::NotFound;
    }
    if let Some(ttl) = ttl
        && event_time != Timestamp::BEFORE_ALL
        && i128::from(t.0) - i128::from(event_time.0) > i128::from(ttl.micros())
    {
        return Status::Expired;
    }
    if valid_until.is_some_and(|until| t >= until) {
        return Status::Expired;
    }
    Status::Present
}
