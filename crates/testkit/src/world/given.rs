//! The rows of shaped worlds: read in place, loaded or pushed, with ids and all that values can be.

use asof_model::Timestamp;

use super::{Kind, Row, Step, World};
use crate::Random;
use crate::oracle::version_order;

/// Floats by case: those that cancel, those at the ends of the range, those that are no numbers, and ordinary ones.
const FLOATS: [[f64; 4]; 4] = [
    [1e16, 1.0, -1e16, 0.1],
    [f64::MAX, f64::MAX, -1e300, 5e-324],
    [f64::INFINITY, f64::NEG_INFINITY, f64::INFINITY, 1.0],
    [0.1, 0.2, -0.3, 19.99],
];

/// What gives v and s to the rows of a world, as the one sequencer of a store does.
pub(super) struct Sequencer {
    v: i64,
    /// The last v that a row got.
    given: i64,
    position: i64,
}

impl Sequencer {
    pub(super) fn new(random: &mut Random) -> Sequencer {
        let starts = [0, -20, -600, -200_000, Timestamp::FIRST.0 + 100];
        Sequencer::beginning(*random.pick(&starts))
    }

    pub(super) fn beginning(v: i64) -> Sequencer {
        Sequencer { v, given: i64::MIN, position: 0 }
    }

    /// The clock goes on to the time of the next case; where its event times begin.
    fn next_case(&mut self, random: &mut Random) -> i64 {
        let base = self.v + 12;
        self.v = base + random.between(-5, 5);
        base
    }

    fn next_v(&mut self, random: &mut Random) -> i64 {
        self.v += *random.pick(&[1, 1, 1, 2, 3, 7]);
        self.v
    }

    /// A load takes a v of its own, whatever its rows bring.
    fn loaded(&mut self) {
        (self.v, self.given) = (self.v + 1, self.given.saturating_add(1));
    }

    fn next_position(&mut self) -> Option<i64> {
        self.position += 1;
        Some(self.position)
    }
}

impl World {
    /// The rows of a case of a shaped world, so many or a few, and the steps in which they came.
    pub(super) fn given_rows(
        &mut self,
        random: &mut Random,
        case: i64,
        (kind, count): (Kind, Option<usize>),
        sequencer: &mut Sequencer,
    ) -> Vec<Row> {
        let mut base = match kind {
            _ if self.dense => sequencer.next_case(random),
            Kind::Pushed | Kind::Mixed => sequencer.next_case(random),
            Kind::InPlace | Kind::Stored => {
                *random.pick(&[0, 0, 0, 0, -20, -200_000, Timestamp::FIRST.0, Timestamp::LAST.0 - 24])
            }
        };
        let ordered = random.chance(40);
        let few = |random: &mut Random| *random.pick(&[0, 1, 2, 3, 5, 6, 8, 10, 14, 20]);
        let count = count.unwrap_or_else(|| few(random));
        let first = self.rows.len();
        let mut rows: Vec<Row> = Vec::new();
        while rows.len() < count {
            if self.dense && random.chance(8) {
                base = sequencer.next_case(random);
            }
            match kind {
                Kind::InPlace if !rows.is_empty() && random.chance(10) => {
                    // Equal in all five; with an id, one event.
                    rows.push(random.pick(&rows).clone());
                }
                Kind::InPlace => rows.push(self.given_row(random, case, base, ordered, &rows)),
                Kind::Pushed => self.push(random, case, base, ordered, &mut rows, sequencer),
                Kind::Mixed if random.chance(60) => {
                    self.push(random, case, base, ordered, &mut rows, sequencer);
                }
                Kind::Stored | Kind::Mixed => {
                    let begin = rows.len();
                    for _ in 0..random.between(1, 3) {
                        let mut row = self.given_row(random, case, base, ordered, &rows);
                        if self.available_at && !rows.is_empty() && random.chance(35) {
                            // Ties with another version, as only a load can.
                            let other = random.pick(&rows);
                            (row.v, row.id) = (other.v, other.id);
                            row.delete &= row.id.is_some() || self.window_views.is_empty();
                        }
                        row.s = sequencer.next_position();
                        rows.push(row);
                    }
                    self.steps.push(Step::Load(first + begin..first + rows.len()));
                    sequencer.loaded();
                }
            }
        }
        rows
    }

    /// A row is pushed: a new one, or one that the source has, again.
    fn push(
        &mut self,
        random: &mut Random,
        case: i64,
        base: i64,
        ordered: bool,
        rows: &mut Vec<Row>,
        sequencer: &mut Sequencer,
    ) {
        let named: Vec<&Row> = rows.iter().filter(|row| row.id.is_some()).collect();
        let again = !named.is_empty() && random.chance(25);
        let row = if again {
            // As it was sent, with the time that a loaded one has as its `available_at`.
            (*random.pick(&named)).clone()
        } else {
            self.given_row(random, case, base, ordered, rows)
        };
        let row = Row { pushed: true, told: row.seen().filter(|_| again), ..row };
        // The version of its event that stands when it comes, be it published or not: one that was loaded with a later v
        // does not stand yet.
        let (v, s) = (sequencer.next_v(random), sequencer.position + 1);
        let own = version_order(&Row { v, s: Some(s), ..row.clone() });
        let of_event = |other: &&Row| row.id.is_some() && other.id == row.id && version_order(other) < own;
        let standing = rows.iter().filter(of_event).max_by_key(|other| version_order(other));
        if let Some(standing) = standing.filter(|standing| standing.says_the_same(&row)) {
            let at = rows.iter().position(|other| std::ptr::eq(other, standing)).unwrap_or(0);
            // What is not stored has no v: where it would matter, nothing is pushed.
            let mut loaded = rows.iter().filter(|other| other.id == row.id && !other.pushed);
            if !loaded.any(|other| sequencer.given < other.v && other.v <= v) {
                self.steps.push(Step::Retry(self.rows.len() + at));
            }
            return;
        }
        let delete = row.delete && (row.id.is_some() || self.window_views.is_empty());
        self.steps.push(Step::Push(self.rows.len() + rows.len()));
        rows.push(Row { v, s: sequencer.next_position(), delete, ..row });
        sequencer.given = v;
    }

    fn given_row(&self, random: &mut Random, case: i64, base: i64, ordered: bool, rows: &[Row]) -> Row {
        let mut row = self.random_row(random, case, base, ordered, rows);
        if self.ids && random.chance(85) {
            let others = if self.dense { rows.len() as i64 } else { 2 };
            row.id = Some(case * 10 + random.between(0, others));
        }
        if !self.window_views.is_empty() {
            // Deletes that may lack an id and window views do not go together.
            row.delete &= row.id.is_some();
            if random.chance(75) {
                row.x = Some(*random.pick(&FLOATS[case.rem_euclid(4) as usize]));
            }
            if random.chance(8) {
                row.n = Some(*random.pick(&[i64::MAX - 1, i64::MIN]));
            }
        }
        if row.delete && random.chance(50) {
            (row.x, row.n, row.state, row.until) = (None, None, None, None);
            if row.id.is_some() && random.chance(50) {
                // All that a withdrawal needs is its id.
                (row.shop, row.user) = (None, None);
            }
        }
        row
    }
}
