//! Edges of derived features and labels.

use asof_compute::Status;
use asof_model::Question;

use super::Edges;
use crate::oracle::{Reach, derived, feature, label, latest, order, reads};
use crate::world::{Row, SpineRow, World};
use crate::{Read, Term, Value};

impl Edges {
    /// Every edge of derived features and labels.
    pub const SERVICES: [&'static str; 19] = [
        "derived of a null",
        "derived of a derived",
        "derived of a window",
        "derived of what the request brings",
        "derived of the time asked",
        "derived: a division by 0",
        "derived: a comparison with null",
        "derived is NaN",
        "derived is null",
        "label at its source's last event",
        "label a microsecond past it",
        "label at T",
        "label past T, before its source's last event",
        "label not mature, and its row is there",
        "label of a row known later than it is asked",
        "label of an expired row",
        "label of a null key",
        "label of an empty window",
        "label is not the feature now",
    ];

    /// Counts the edges that the derived features and labels of a world hit, asked of these rows of a case.
    pub fn look_at_service(&mut self, world: &World, rows: &[Row], spine: &SpineRow, reach: Reach) {
        let now = |read: Read| feature(rows, world, read, spine, (spine.t, Question::Known)).1;
        let computed = derived(world, spine, now);
        let read = |it: Read| reads(it, spine, &computed, now);
        for ((term, _), value) in world.service.derived.iter().zip(&computed) {
            self.hit("derived is null", *value == Value::Null);
            self.hit("derived is NaN", *value == Value::float(f64::NAN));
            term.visit(&mut |term| match term {
                Term::Read(it) => {
                    self.hit("derived of a null", read(*it) == Value::Null);
                    self.hit("derived of a derived", matches!(it, Read::Derived(_)));
                    self.hit("derived of a window", matches!(it, Read::Window(..)));
                    self.hit(
                        "derived of what the request brings",
                        matches!(it, Read::Quantity | Read::Price),
                    );
                    self.hit("derived of the time asked", *it == Read::Time);
                }
                Term::Divide(a, b) => {
                    let by_zero = a.value(&read) != Value::Null && b.value(&read) == Value::Int(0);
                    self.hit("derived: a division by 0", by_zero);
                }
                Term::IfLess(of) => {
                    let null = of[..2].iter().any(|term| term.value(&read) == Value::Null);
                    self.hit("derived: a comparison with null", null);
                }
                _ => {}
            });
        }
        for it in &world.service.labels {
            let t = spine.t + it.after;
            let (status, value) = label(rows, world, it, spine, reach);
            let past = |time: Option<i64>| time.is_some_and(|time| time < t);
            self.hit(
                "label at its source's last event",
                reach.greatest == Some(t) && reach.last() == Some(t),
            );
            self.hit("label a microsecond past it", reach.greatest == Some(t - 1) && !past(reach.pushed));
            self.hit("label at T", reach.pushed == Some(t) && reach.last() == Some(t));
            self.hit(
                "label past T, before its source's last event",
                past(reach.pushed) && !past(reach.greatest),
            );
            let mature = label(rows, world, it, spine, Reach { greatest: Some(i64::MAX), pushed: None });
            let there = status == Status::NotMature && mature.0 == Status::Present && mature.1 != Value::Null;
            self.hit("label not mature, and its row is there", there);
            self.hit("label of a null key", status == Status::NoKey);
            self.hit("label of an expired row", status == Status::Expired);
            let is_window = matches!(it.of, Read::Window(..));
            self.hit("label of an empty window", is_window && status == Status::NotFound);
            let mature = status != Status::NotMature;
            self.hit("label is not the feature now", mature && value != now(it.of));
            if let Read::N(view) | Read::State(view) = it.of {
                let view = &world.views[view];
                let of = |question| latest(rows, view, &view.asked(spine), t, question).1.map(order);
                let differs = of(Question::Known) != of(Question::Event);
                self.hit("label of a row known later than it is asked", mature && differs);
            }
        }
    }
}
