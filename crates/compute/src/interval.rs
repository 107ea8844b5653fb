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
