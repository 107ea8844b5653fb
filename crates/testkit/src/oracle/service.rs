//! Derived features and labels (SEMANTICS 3.3 and 3.4).

use asof_compute::Status;
use asof_model::Question;

use super::windows::WindowStatus;
use super::{Answer, latest, latest_n, windows};
use crate::world::{Row, SpineRow, World};
use crate::{Label, Read, Value, brought};

/// What the derived features of a world answer a spine row, by what a feature of a view answers it.
pub fn derived(world: &World, spine: &SpineRow, feature: impl Fn(Read) -> Value) -> Vec<Value> {
    let (quantity, price) = brought(spine);
    let mut found: Vec<Value> = Vec::new();
    for (term, _) in &world.service.derived {
        let value = term.value(&|read| match read {
            Read::Derived(before) => found.get(before).cloned().unwrap_or(Value::Null),
            Read::Quantity => quantity.map_or(Value::Null, Value::Int),
            Read::Price => price.map_or(Value::Null, Value::float),
            Read::Time => Value::Int(spine.t),
            feature_of_view => feature(feature_of_view),
        });
        found.push(value);
    }
    found
}

/// What a label answers a spine row: read at `t + after` with the question *event*; not mature past `reach`, the greatest
/// event time of its source, or where rows are pushed the lesser of that and T. Over windows the status is that of the
/// answer.
pub fn label(
    rows: &[Row],
    world: &World,
    label: &Label,
    spine: &SpineRow,
    reach: Option<i64>,
) -> (Status, Value) {
    let t = spine.t + label.after;
    if reach.is_none_or(|reach| t > reach) {
        return (Status::NotMature, Value::Null);
    }
    match label.of {
        Read::N(view) | Read::State(view) => {
            let view = &world.views[view];
            let answer = latest(rows, view, &view.asked(spine), t, Question::Event);
            let state = answer.1.filter(|_| answer.0 == Status::Present).and_then(|row| row.state);
            let value = match label.of {
                Read::N(_) => latest_n(view, answer).map(Value::Int),
                _ => state.map(|state| Value::Text(state.to_owned())),
            };
            (answer.0, value.unwrap_or(Value::Null))
        }
        Read::Window(view, feature) => {
            let view = &world.window_views[view];
            let mut answers = windows(rows, view, &view.view.asked(spine), t, Question::Event);
            let Answer { status, value } = answers.swap_remove(feature);
            let status = match status {
                WindowStatus::Present => Status::Present,
                WindowStatus::Null | WindowStatus::Overflow => Status::NotFound,
                WindowStatus::NoKey => Status::NoKey,
            };
            (status, value)
        }
        Read::Derived(_) | Read::Quantity | Read::Price | Read::Time => (Status::NotFound, Value::Null),
    }
}
