//! Which edges random worlds hit: a generator that misses one proves nothing about it.
//!
//! Those of rows and latest values stand here, those of versions, of windows and of what a service asks beside each in a
//! file of their own.

mod services;
mod versions;
mod windows;

use std::collections::BTreeMap;

use asof_compute::Status;
use asof_model::Question;

use crate::oracle::{latest, order};
use crate::world::{NEVER, World};

/// How often each edge was hit.
#[derive(Debug, Clone, Default)]
pub struct Edges {
    hits: BTreeMap<&'static str, u64>,
}

impl Edges {
    /// Every edge of rows without ids and of latest values.
    pub const ALL: [&'static str; 42] = [
        "tie on e",
        "tie on e, v",
        "tie on e, v, o",
        "null o against o",
        "tie on e, v, o, s, told apart by content",
        "equal rows",
        "a value ties with a delete",
        "a delete answers",
        "null key of a row",
        "null part of a composite key",
        "null key of a spine row",
        "unknown key",
        "null value answers",
        "NaN answers",
        "minus zero",
        "null available_at",
        "null available_at wins under event",
        "late row (e <= t < v)",
        "future-dated row (v <= t < e)",
        "row known before it happens (v < e)",
        "t = e",
        "t = e - 1",
        "t = v",
        "t = v - 1",
        "t - e = ttl",
        "t - e = ttl + 1",
        "t = valid_until",
        "t = valid_until - 1",
        "valid_until before e",
        "expired by ttl or valid_until hides an older row",
        "event time before 1970",
        "event time at the first instant",
        "event time at the last instant",
        "equal spine rows",
        "source without a clock",
        "row without a clock known later",
        "stored rows",
        "questions differ",
        "present",
        "not_found",
        "expired",
        "no_key",
    ];

    fn hit(&mut self, edge: &'static str, when: bool) {
        if when {
            *self.hits.entry(edge).or_default() += 1;
        }
    }

    /// Adds the hits of others.
    pub fn merge(&mut self, other: &Edges) {
        for (edge, count) in &other.hits {
            *self.hits.entry(edge).or_default() += count;
        }
    }

    /// The edges of [`Edges::ALL`] hit less often than so.
    pub fn missed(&self, least: u64) -> Vec<&'static str> {
        self.missed_of(&Edges::ALL, least)
    }

    /// The edges of some that were hit less often than so.
    pub fn missed_of(&self, edges: &[&'static str], least: u64) -> Vec<&'static str> {
        edges.iter().copied().filter(|edge| self.count(edge) < least).collect()
    }

    /// Edges that were hit and stand in no list.
    pub fn unlisted(&self) -> Vec<&'static str> {
        let lists = [&Edges::ALL[..], &Edges::VERSIONS, &Edges::WINDOWS, &Edges::SERVICES];
        let listed = |edge: &&str| lists.iter().any(|list| list.contains(edge));
        self.hits.keys().copied().filter(|edge| !listed(edge)).collect()
    }

    /// How often an edge was hit.
    pub fn count(&self, edge: &str) -> u64 {
        self.hits.get(edge).copied().unwrap_or(0)
    }

    /// Counts the edges a world hits.
    pub fn look(&mut self, world: &World) {
        self.look_at_steps(world);
        for (rows, spine) in &world.cases {
            let (rows, spine) = (&world.rows[rows.clone()], &world.spine[spine.clone()]);
            self.look_at_versions(world, rows, spine);
            self.look_at_windows(world, rows, spine);
            for (at, one) in rows.iter().enumerate() {
                self.look_at_row(world, one);
                for other in &rows[..at] {
                    let same_e = one.e == other.e && one.shop == other.shop && one.shop.is_some();
                    let same_v = same_e && one.v == other.v;
                    let same_o = same_v && one.o == other.o;
                    self.hit("tie on e", same_e && one.v != other.v && one.has_clock());
                    self.hit("tie on e, v", same_v && one.o != other.o);
                    self.hit("tie on e, v, o", same_o && one.s != other.s);
                    self.hit("null o against o", same_v && one.o.is_none() != other.o.is_none());
                    let same_s = same_o && one.s == other.s;
                    self.hit("a value ties with a delete", same_s && one.delete != other.delete);
                    let content = same_s && one.delete == other.delete && one.digest != other.digest;
                    self.hit("tie on e, v, o, s, told apart by content", content);
                    self.hit("equal rows", same_s && one.digest == other.digest);
                }
            }
            for (at, asked) in spine.iter().enumerate() {
                self.hit("equal spine rows", spine[..at].contains(asked));
                for row in rows.iter().filter(|row| row.has_clock()) {
                    self.hit("late row (e <= t < v)", row.e <= asked.t && asked.t < row.v && row.v != NEVER);
                    self.hit("future-dated row (v <= t < e)", row.v <= asked.t && asked.t < row.e);
                    self.hit("t = e", asked.t == row.e);
                    self.hit("t = e - 1", asked.t == row.e - 1);
                    self.hit("t = v", asked.t == row.v);
                    self.hit("t = v - 1", row.v != NEVER && asked.t == row.v - 1);
                }
                for view in &world.views {
                    let key = view.asked(asked);
                    let known = latest(rows, view, &key, asked.t, Question::Known);
                    let event = latest(rows, view, &key, asked.t, Question::Event);
                    self.hit("null key of a spine row", known.0 == Status::NoKey);
                    self.hit(
                        "unknown key",
                        known.0 != Status::NoKey && !rows.iter().any(|row| row.key(view) == key),
                    );
                    self.hit(
                        "questions differ",
                        known.0 != event.0 || known.1.map(order) != event.1.map(order),
                    );
                    self.hit("null available_at wins under event", event.1.is_some_and(|row| row.v == NEVER));
                    for (status, row) in [known, event] {
                        self.hit(status.name(), true);
                        let Some(row) = row else {
                            let gone =
                                |row: &&crate::world::Row| row.delete && row.e <= asked.t && row.v <= asked.t;
                            self.hit(
                                "a delete answers",
                                rows.iter().filter(gone).any(|row| row.key(view) == key),
                            );
                            continue;
                        };
                        let present = status == Status::Present;
                        self.hit("null value answers", present && row.n.is_none());
                        self.hit("NaN answers", present && row.x.is_some_and(f64::is_nan));
                        self.hit("t = valid_until", row.until == Some(asked.t));
                        self.hit("t = valid_until - 1", row.until == Some(asked.t + 1));
                        if let Some(ttl) = view.ttl.filter(|_| row.has_clock()) {
                            self.hit("t - e = ttl", asked.t - row.e == ttl);
                            self.hit("t - e = ttl + 1", asked.t - row.e == ttl + 1);
                        }
                        let older = |other: &&crate::world::Row| order(other) < order(row) && !other.delete;
                        let hidden = rows.iter().filter(older).any(|other| other.key(view) == key);
                        self.hit(
                            "expired by ttl or valid_until hides an older row",
                            status == Status::Expired && hidden,
                        );
                    }
                }
            }
        }
    }

    fn look_at_row(&mut self, world: &World, row: &crate::world::Row) {
        self.hit("null key of a row", row.shop.is_none());
        self.hit("null part of a composite key", row.shop.is_some() != row.user.is_some());
        self.hit("minus zero", row.x.is_some_and(|x| x == 0.0 && x.is_sign_negative()));
        self.hit("null available_at", row.v == NEVER);
        self.hit("stored rows", row.s.is_some());
        self.hit("source without a clock", world.clockless);
        self.hit("row without a clock known later", world.clockless && !world.assumed && row.v != NEVER);
        if row.has_clock() {
            self.hit("row known before it happens (v < e)", row.v < row.e);
            self.hit("valid_until before e", row.until.is_some_and(|until| until <= row.e));
            self.hit("event time before 1970", row.e < 0);
            self.hit("event time at the first instant", row.e == asof_model::Timestamp::FIRST.0);
            self.hit("event time at the last instant", row.e == asof_model::Timestamp::LAST.0);
        }
    }
}
