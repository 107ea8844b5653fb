//! For which instants t a row is a candidate (SEMANTICS section 2, last paragraph), as half-open
//! integer edges.

use asof_model::{Question, Timestamp};

/// The first t at which a row of a latest view can answer: `max(v, e)` under *known*, `e` under
/// *event*. [`Timestamp::NEVER`] where there is no such t.
#[inline]
pub fn first_answer(question: Question, event_time: Timestamp, visible_at: Timestamp) -> Timestamp {
    match question {
        Question::Known => event_time.max(visible_at),
        Question::Event => event_time,
    }
}

/// From when on a row that has another version after it counts no more: before the v of that version under *known*, and
/// never at all under *event*, where only last versions count. [`Timestamp::NEVER`] where it counts for good. A delete
/// with an id counts never: its `next` is [`Timestamp::BEFORE_ALL`].
#[inline]
pub fn counts_until(question: Question, next: Option<Timestamp>) -> Timestamp {
    match (question, next) {
        (_, None) => Timestamp::NEVER,
        (Question::Known, Some(next)) => next,
        (Question::Event, Some(_)) => Timestamp::BEFORE_ALL,
    }
}
