//! Edges of ids: versions, withdrawals, deletes, how rows came to a stored source, and older cuts of it.

use asof_compute::Status;
use asof_model::Question;

use super::Edges;
use crate::oracle::{edges, latest, order, version_after, windows};
use crate::world::{NEVER, Row, SpineRow, Step, World};

impl Edges {
    /// Every edge of ids, deletes and positions.
    pub const VERSIONS: [&'static str; 37] = [
        "delete with id",
        "delete without id",
        "delete with id and null columns",
        "delete without id and null columns",
        "withdrawal without keys",
        "null id in a source with ids",
        "equal versions of one id",
        "versions tie in v, s, told apart by order_by",
        "versions tie in v, o, s, told apart by content",
        "versions tie in v, told apart by position",
        "version never known",
        "version moves e forward over t",
        "version moves e back over t",
        "version moves e over ttl edge",
        "version to another key",
        "version to a null key",
        "version into where",
        "version out of where",
        "version changes valid_until",
        "version v around t",
        "version of the same instant",
        "three versions, t between",
        "withdrawn before t",
        "withdrawal with e > t, v <= t",
        "withdrawal with v > t under event",
        "revived after a withdrawal",
        "the row below returns after a withdrawal",
        "default of not_found",
        "default of expired",
        "pushed again: not stored",
        "pushed again after a newer version: stored",
        "pushed again after a tie: not stored",
        "pushed again after a tie: stored",
        "load after a push",
        "load into the middle of a version chain",
        "an older cut answers otherwise",
        "an older cut under event answers otherwise",
    ];

    /// Counts how rows came to a stored source.
    pub(super) fn look_at_steps(&mut self, world: &World) {
        // So many rows were stored before the step.
        let mut stored = 0;
        for step in &world.steps {
            let (at, retry) = match step {
                Step::Load(rows) => {
                    stored = rows.end;
                    continue;
                }
                Step::Push(at) => (*at, false),
                Step::Retry(at) => (*at, true),
            };
            let row = &world.rows[at];
            let before = world.rows[..stored].iter().enumerate();
            let others: Vec<&Row> = before
                .filter(|(other, before)| *other != at && row.id.is_some() && before.id == row.id)
                .map(|(_, before)| before)
                .collect();
            // Versions that the row is equal to, and whether one of them stands at the v of another.
            let mut again = others.iter().filter(|other| other.says_the_same(row)).peekable();
            self.hit("pushed again: not stored", retry);
            self.hit("pushed again after a newer version: stored", !retry && again.peek().is_some());
            let tie = others.iter().any(|other| other.v == row.v);
            self.hit("pushed again after a tie: not stored", retry && tie);
            let tie = again.any(|same| others.iter().any(|other| other.v == same.v && other.s != same.s));
            self.hit("pushed again after a tie: stored", !retry && tie);
            stored = stored.max(at + 1);
        }
        for pair in world.steps.windows(2) {
            self.hit("load after a push", matches!(pair, [Step::Push(_), Step::Load(_)]));
        }
    }

    /// Counts the edges of ids that a case hits.
    pub(super) fn look_at_versions(&mut self, world: &World, rows: &[Row], spine: &[SpineRow]) {
        for (at, row) in rows.iter().enumerate() {
            let named = row.id.is_some();
            let empty = row.delete && row.n.is_none() && row.x.is_none() && row.state.is_none();
            self.hit("delete with id", row.delete && named);
            self.hit("delete without id", row.delete && !named);
            self.hit("delete with id and null columns", empty && named);
            self.hit("delete without id and null columns", empty && !named);
            self.hit("withdrawal without keys", empty && named && row.shop.is_none() && row.user.is_none());
            self.hit("null id in a source with ids", world.ids && !named);
            self.hit("version never known", named && row.v == NEVER);
            let Some(after) = version_after(rows, at).map(|after| &rows[after]) else { continue };
            let tie = row.v == after.v;
            let content = row.digest != after.digest;
            self.hit("version of the same instant", tie && content);
            self.hit("equal versions of one id", tie && row.s == after.s && row.o == after.o && !content);
            self.hit(
                "versions tie in v, s, told apart by order_by",
                tie && row.s == after.s && row.o != after.o,
            );
            let by_content = tie && row.o == after.o && row.s == after.s && content;
            self.hit("versions tie in v, o, s, told apart by content", by_content);
            self.hit("versions tie in v, told apart by position", tie && row.o == after.o && row.s < after.s);
            // What came later by position stands before what was there, and after something else.
            let middle = row.s > after.s
                && !row.pushed
                && rows.iter().any(|other| other.id == row.id && other.v < row.v && other.s < row.s);
            self.hit("load into the middle of a version chain", middle);
        }
        for asked in spine {
            for view in &world.views {
                let key = view.asked(asked);
                let answer = latest(rows, view, &key, asked.t, Question::Known);
                let default = view.default.is_some();
                self.hit("default of not_found", default && answer.0 == Status::NotFound);
                self.hit("default of expired", default && answer.0 == Status::Expired);
                for (at, row) in rows.iter().enumerate().filter(|(_, row)| row.id.is_some()) {
                    let Some(next) = version_after(rows, at) else { continue };
                    let after = &rows[next];
                    if row.key(view) != key && after.key(view) != key || row.v == after.v {
                        continue;
                    }
                    self.look_at_pair(world, row, after, asked.t, view);
                    let third = version_after(rows, next).map(|third| rows[third].v);
                    let between = row.v <= asked.t && third.is_some_and(|third| asked.t < third);
                    self.hit("three versions, t between", after.v <= asked.t && between);
                    let withdrawn = after.delete && !row.delete && after.v <= asked.t;
                    let below = answer.1.is_some_and(|answer| order(answer) < order(row));
                    let stood = row.e <= asked.t && row.key(view) == key && view.passes(row);
                    let last = third.is_none_or(|third| asked.t < third);
                    self.hit("the row below returns after a withdrawal", withdrawn && stood && below && last);
                }
            }
        }
    }

    fn look_at_pair(&mut self, world: &World, row: &Row, after: &Row, t: i64, view: &crate::View) {
        let known = after.v <= t;
        self.hit("version v around t", row.v <= t && t < after.v);
        self.hit("withdrawn before t", after.delete && known);
        self.hit("withdrawal with e > t, v <= t", after.delete && known && t < after.e);
        self.hit("withdrawal with v > t under event", after.delete && row.e <= t && t < after.v);
        self.hit("revived after a withdrawal", row.delete && !after.delete && known);
        if row.delete || after.delete || !known {
            return;
        }
        self.hit("version moves e forward over t", row.e <= t && t < after.e);
        self.hit("version moves e back over t", after.e <= t && t < row.e);
        let (from, to) = (row.key(view), after.key(view));
        let whole = |key: &[Option<crate::KeyValue>]| key.iter().all(Option::is_some);
        self.hit("version to another key", from != to && whole(&from) && whole(&to));
        self.hit("version to a null key", whole(&from) && !whole(&to));
        self.hit("version into where", view.filter && !view.passes(row) && view.passes(after));
        self.hit("version out of where", view.filter && view.passes(row) && !view.passes(after));
        self.hit("version changes valid_until", row.until != after.until);
        let expired = |row: &Row| view.ttl.is_some_and(|ttl| t - row.e > ttl);
        self.hit(
            "version moves e over ttl edge",
            row.e <= t && after.e <= t && expired(row) != expired(after),
        );
        for window in
            world.window_views.iter().filter(|of| of.view.keys == view.keys).flat_map(|of| &of.windows)
        {
            let (lower, upper) = edges(window, t);
            let within = |row: &Row| lower.is_none_or(|lower| lower <= row.e) && row.e < upper;
            self.hit("version moves e over window edge", within(row) != within(after));
        }
    }

    /// Counts what a rebuild at an older cut answers otherwise: `cut` is a world as it stood then.
    pub fn look_at_cut(&mut self, world: &World, cut: &World) {
        for ((now, spine), (then, _)) in world.cases.iter().zip(&cut.cases) {
            let (now, then) = (&world.rows[now.clone()], &cut.rows[then.clone()]);
            if now.len() == then.len() || then.is_empty() {
                continue;
            }
            for asked in &world.spine[spine.clone()] {
                for question in [Question::Known, Question::Event] {
                    let edge = match question {
                        Question::Known => "an older cut answers otherwise",
                        Question::Event => "an older cut under event answers otherwise",
                    };
                    for view in &world.views {
                        let answer = |rows| latest(rows, view, &view.asked(asked), asked.t, question);
                        self.hit(edge, answer(now).1.map(order) != answer(then).1.map(order));
                    }
                    for view in &world.window_views {
                        let key = view.view.asked(asked);
                        let answer = |rows| windows(rows, view, &key, asked.t, question);
                        self.hit(edge, answer(now) != answer(then));
                    }
                }
            }
        }
    }
}
