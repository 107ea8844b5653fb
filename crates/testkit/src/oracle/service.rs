//! Derived features and labels (SEMANTICS 3.3 and 3.4).

use asof_compute::Status;
use asof_model::Question;

use super::windows::{Answer, WindowStatus};
use super::{latest, latest_n, latest_state, windows};
use crate::world::{Row, SpineRow, World};
use crate::{Label, Read, Value, brought};

/// How far a label's source reaches.
#[derive(Debug, Clone, Copy)]
pub struct Reach {
    /// The greatest e in the cut; none of no rows.
    pub greatest: Option<i64>,
    /// T, of a source that is pushed to.
    pub pushed: Option<i64>,
}

impl Reach {
    /// The last time at which a label is mature: the greatest e, for pushed sources the lesser of that and T.
    pub fn last(self) -> Option<i64> {
        Some(self.greatest?.min(self.pushed.unwrap_or(i64::MAX)))
    }
}

/// What the derived features of a world answer a spine row, by what a feature of a view answers it.
pub fn derived(world: &World, spine: &SpineRow, feature: impl Fn(Read) -> Value) -> Vec<Value> {
    let mut found: Vec<Value> = Vec::new();
    for (term, _) in &world.service.derived {
        let value = term.value(&|read| reads(read, spine, &found, &feature));
        found.push(value);
    }
    found
}

/// What a term reads, where so many derived features were computed.
pub fn reads(read: Read, spine: &SpineRow, computed: &[Value], feature: impl Fn(Read) -> Value) -> Value {
    let (quantity, price) = brought(spine);
    match read {
        Read::Derived(before) => computed.get(before).cloned().unwrap_or(Value::Null),
        Read::Quantity => quantity.map_or(Value::Null, Value::Int),
        Read::Price => price.map_or(Value::Null, Value::float),
        Read::Time => Value::Int(spine.t),
        Read::N(_) | Read::State(_) | Read::Window(..) => feature(read),
    }
}

/// What a label answers a spine row: read at `t + after` with the question *event*.
pub fn label(rows: &[Row], world: &World, label: &Label, spine: &SpineRow, reach: Reach) -> (Status, Value) {
    let t = spine.t + label.after;
    if reach.last().is_none_or(|last| t > last) {
        return (Status::NotMature, Value::Null);
    }
    feature(rows, world, label.of, spine, (t, Question::Event))
}

/// What a feature of a view answers the keys of a spine row at a time. Over windows it is present where anything counted, be
/// it out of range, and where the answer is 0 or a default.
pub fn feature(
    rows: &[Row],
    world: &World,
    of: Read,
    spine: &SpineRow,
    (t, question): (i64, Question),
) -> (Status, Value) {
    match of {
        Read::N(view) | Read::State(view) => {
            let view = &world.views[view];
            let answer = latest(rows, view, &view.asked(spine), t, question);
            let value = match of {
                Read::N(_) => latest_n(view, answer).map(Value::Int),
                _ => latest_state(answer).map(|state| Value::Text(state.to_owned())),
            };
            (answer.0, value.unwrap_or(Value::Null))
        }
        Read::Window(view, feature) => {
            let view = &world.window_views[view];
            let mut answers = windows(rows, view, &view.view.asked(spine), t, question);
            let Answer { status, value } = answers.swap_remove(feature);
            let status = match status {
                WindowStatus::Present | WindowStatus::Overflow => Status::Present,
                WindowStatus::Null => Status::NotFound,
                WindowStatus::NoKey => Status::NoKey,
            };
            (status, value)
        }
        Read::Derived(_) | Read::Quantity | Read::Price | Read::Time => (Status::NotFound, Value::Null),
    }
}
