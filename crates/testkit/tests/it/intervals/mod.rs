//! The contract a second time, by intervals of t (SEMANTICS section 2, "in one sentence"): each row is a candidate for
//! one stretch of t, rows are folded into slots between the edges of the spine, and what cannot stay in a slot is
//! added where its stretch begins and taken out behind its end. It shares rows and views with the oracle, and no rule.

mod latest;
mod windows;

use std::collections::BTreeMap;
use std::sync::Arc;

use arrow::array::{ArrayRef, Int64Array};
use asof_compute::{Op, Position, RowDigest, RowOrder, order_key};
use asof_model::{Question, Timestamp};
use asof_testkit::{KeyValue, Row, SpineRow, View};

pub(crate) use latest::latest;
pub(crate) use windows::{Found, windows};

/// A row and for how long it is the version that stands.
struct Standing<'a> {
    row: &'a Row,
    /// The first t that may see it.
    from: i64,
    /// The first t that sees another version or a withdrawal; none: it is the last.
    until: Option<i64>,
    order: RowOrder,
}

/// The rows that stand for any t at all.
fn standing(rows: &[Row], question: Question) -> Vec<Standing<'_>> {
    let mut versions: BTreeMap<i64, Vec<usize>> = BTreeMap::new();
    for (at, row) in rows.iter().enumerate() {
        if let Some(id) = row.id {
            versions.entry(id).or_default().push(at);
        }
    }
    let mut next: Vec<Option<i64>> = vec![None; rows.len()];
    for chain in versions.values_mut() {
        chain.sort_by(|a, b| {
            let (a, b) = (&rows[*a], &rows[*b]);
            a.v.cmp(&b.v).then(a.o.cmp(&b.o)).then(a.s.cmp(&b.s)).then(a.digest.cmp(&b.digest))
        });
        for pair in chain.windows(2) {
            next[pair[0]] = Some(rows[pair[1]].v);
        }
    }
    let mut standing = Vec::new();
    for (row, until) in rows.iter().zip(next) {
        let order_by: ArrayRef = Arc::new(Int64Array::from(vec![row.o]));
        let order = RowOrder {
            event_time: Timestamp(row.e),
            visible_at: Timestamp(row.v),
            order_by: order_key(&order_by, 0).unwrap(),
            position: row.s.map_or(Position::NONE, Position),
            op: if row.delete { Op::Delete } else { Op::Value },
            digest: RowDigest(row.digest),
        };
        match question {
            // Every v counts as before all time, and only last versions have an interval.
            Question::Event if until.is_some() => {}
            Question::Event => standing.push(Standing { row, from: i64::MIN, until: None, order }),
            Question::Known if until.is_some_and(|until| until <= row.v) => {}
            Question::Known => standing.push(Standing { row, from: row.v, until, order }),
        }
    }
    standing
}

/// The spine rows of one key, by their times.
struct Asked {
    times: Vec<i64>,
    /// Their numbers in the spine.
    numbers: Vec<usize>,
}

fn by_key(spine: &[SpineRow], view: &View) -> BTreeMap<Vec<Option<KeyValue>>, Asked> {
    let mut keys: BTreeMap<_, Vec<(i64, usize)>> = BTreeMap::new();
    for (number, asked) in spine.iter().enumerate() {
        let key = view.asked(asked);
        if key.iter().all(Option::is_some) {
            keys.entry(key).or_default().push((asked.t, number));
        }
    }
    let sorted = |(key, mut asked): (_, Vec<(i64, usize)>)| {
        asked.sort_unstable();
        (
            key,
            Asked {
                times: asked.iter().map(|at| at.0).collect(),
                numbers: asked.iter().map(|at| at.1).collect(),
            },
        )
    };
    keys.into_iter().map(sorted).collect()
}

/// How many of some sorted numbers are less than one.
fn below(sorted: &[i64], than: i64) -> usize {
    sorted.partition_point(|one| *one < than)
}

/// A segment tree over the spine rows of a key: what is put on a range of them is found at each of them.
struct Tree<T> {
    leaves: usize,
    nodes: Vec<Vec<T>>,
}

impl<T: Copy> Tree<T> {
    fn new(leaves: usize) -> Tree<T> {
        Tree { leaves, nodes: vec![Vec::new(); 2 * leaves.max(1)] }
    }

    fn put(&mut self, from: usize, to: usize, item: T) {
        let (mut from, mut to) = (from + self.leaves, to + self.leaves);
        while from < to {
            if from % 2 == 1 {
                self.nodes[from].push(item);
                from += 1;
            }
            if to % 2 == 1 {
                to -= 1;
                self.nodes[to].push(item);
            }
            (from, to) = (from / 2, to / 2);
        }
    }

    fn at(&self, leaf: usize) -> Vec<T> {
        let mut found = Vec::new();
        let mut node = leaf + self.leaves;
        while node > 0 {
            found.extend(&self.nodes[node]);
            node /= 2;
        }
        found
    }
}
