//! Latest values: a slot keeps its last row in order, a sweep carries it on.

use asof_model::Question;
use asof_testkit::{BEFORE_ALL, Row, SpineRow, View};

use super::{Standing, Tree, below, by_key, standing};

/// Status and row for every spine row.
pub(crate) fn latest<'a>(
    rows: &'a [Row],
    spine: &[SpineRow],
    view: &View,
    question: Question,
) -> Vec<(&'static str, Option<&'a Row>)> {
    let standing = standing(rows, question);
    let mut answers = vec![("no_key", None); spine.len()];
    for (key, asked) in by_key(spine, view) {
        let mut slots: Vec<Option<&Standing>> = vec![None; asked.times.len() + 1];
        let mut ended: Tree<&Standing> = Tree::new(asked.times.len());
        for one in standing.iter().filter(|one| one.row.key(view) == key) {
            let passes = !view.filter || matches!(one.row.state, Some("ok"));
            let counts = if one.row.delete { one.row.id.is_none() } else { passes };
            if !counts {
                continue;
            }
            let first = below(&asked.times, one.row.e.max(one.from));
            match one.until {
                None => {
                    slots[first] =
                        [slots[first], Some(one)].into_iter().flatten().max_by_key(|one| &one.order)
                }
                Some(until) => ended.put(first, below(&asked.times, until).max(first), one),
            }
        }
        let mut last: Option<&Standing> = None;
        for (place, (t, number)) in asked.times.iter().zip(&asked.numbers).enumerate() {
            last = last.into_iter().chain(slots[place]).max_by_key(|one| &one.order);
            let answer = last.into_iter().chain(ended.at(place)).max_by_key(|one| &one.order);
            answers[*number] = match answer.map(|one| one.row) {
                Some(row) if row.delete => ("not_found", None),
                Some(row) => (if is_past(row, view, *t) { "expired" } else { "present" }, Some(row)),
                None => ("not_found", None),
            };
        }
    }
    answers
}

fn is_past(row: &Row, view: &View, t: i64) -> bool {
    let old = view.ttl.is_some_and(|ttl| row.e != BEFORE_ALL && row.e + ttl < t);
    old || row.until.is_some_and(|until| until <= t)
}
