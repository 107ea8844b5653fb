//! Which rows of a key the online store must keep (SEMANTICS section 5).

use std::collections::BTreeMap;

use asof_model::{History, Length, Question, Timestamp};

use crate::first_answer;

/// From when on a view keeps rows online and answers of them, as of the present T.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Keeping {
    /// The least T that may still be asked: `T - history`; [`Timestamp::BEFORE_ALL`] where all of
    /// history may be.
    pub horizon: Timestamp,
    /// Rows that happened before are kept offline only and do not answer online: `horizon - retention`;
    /// [`Timestamp::BEFORE_ALL`] without a retention. As a retention is at least the ttl, all that such a
    /// row could still say within the history is `expired`.
    pub oldest: Timestamp,
}

impl Keeping {
    /// Of a view with this history and retention.
    pub fn at(now: Timestamp, history: History, retention: Option<Length>) -> Keeping {
        let back = |from: Timestamp, length: Length| Timestamp(from.0.saturating_sub(length.micros()));
        let horizon = match history {
            History::None => now,
            History::Length(length) => back(now, length),
            History::All => Timestamp::BEFORE_ALL,
        };
        let oldest = match retention {
            Some(length) if horizon != Timestamp::BEFORE_ALL => back(horizon, length),
            _ => Timestamp::BEFORE_ALL,
        };
        Keeping { horizon, oldest }
    }

    /// Whether a row that happened then is too old to be kept; a row without a clock never is.
    pub fn is_past(&self, event_time: Timestamp) -> bool {
        event_time < self.oldest && event_time != Timestamp::BEFORE_ALL
    }
}

/// When a row may answer: what [`retain`] asks of it, under *known*.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Answering {
    /// `e`
    pub event_time: Timestamp,
    /// `v`
    pub visible_at: Timestamp,
    /// The `v` of its next version or withdrawal, from which on it no longer answers; none: it has none.
    pub next_version: Option<Timestamp>,
}

/// Of the rows of one key, last in order first: which of them win at some T from `horizon` on, under
/// *known*. Rows that win only to say `expired` or `not_found` are among them, and rows whose turn is
/// still to come; a row that is never visible is not.
///
/// `horizon` is the least T that may still be asked, `T - history`; [`Timestamp::BEFORE_ALL`] where
/// all history may be.
pub fn retain(rows: impl IntoIterator<Item = Answering>, horizon: Timestamp) -> Vec<bool> {
    let mut later = Covered::default();
    rows.into_iter()
        .map(|row| {
            let from = first_answer(Question::Known, row.event_time, row.visible_at).max(horizon);
            let until = row.next_version.unwrap_or(Timestamp::NEVER);
            later.add(from, until)
        })
        .collect()
}

/// Whether a row stands at some T from `horizon` on, whatever other rows there are: where rows have ids, any that stands
/// may be laid bare, since those before it may be corrected or withdrawn.
pub fn stands(row: &Answering, horizon: Timestamp) -> bool {
    let from = first_answer(Question::Known, row.event_time, row.visible_at).max(horizon);
    from < row.next_version.unwrap_or(Timestamp::NEVER)
}

/// The instants at which a row later in order answers: from `all_from` on, and some spans before.
struct Covered {
    all_from: Timestamp,
    spans: BTreeMap<Timestamp, Timestamp>,
}

impl Default for Covered {
    fn default() -> Covered {
        Covered { all_from: Timestamp::NEVER, spans: BTreeMap::new() }
    }
}

impl Covered {
    /// Adds `from <= t < until`; whether any of it was not covered before.
    fn add(&mut self, from: Timestamp, until: Timestamp) -> bool {
        let until = until.min(self.all_from);
        if from >= until {
            return false;
        }
        if until == self.all_from {
            // Nearly every row: no next version, so the spans that it reaches into are swallowed.
            let start = match self.spans.range(..=from).next_back() {
                Some((_, end)) if *end >= until => return false,
                Some((start, end)) if *end >= from => *start,
                _ => from,
            };
            self.spans.split_off(&start);
            self.all_from = start;
            return true;
        }
        let (mut start, mut end) = (from, until);
        if let Some((before, until_before)) = self.spans.range(..=from).next_back() {
            if *until_before >= until {
                return false;
            }
            if *until_before >= from {
                start = *before;
            }
        }
        let swallowed: Vec<Timestamp> = self.spans.range(start..=until).map(|(at, _)| *at).collect();
        for at in swallowed {
            if let Some(other) = self.spans.remove(&at) {
                end = end.max(other);
            }
        }
        self.spans.insert(start, end);
        true
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::{Op, Position, RowDigest, RowOrder};

    #[test]
    fn from_when_on_is_kept() {
        let (before, length) = (i64::MIN, |micros| Length::from_micros(micros));
        for (now, history, retention, horizon, oldest) in [
            (100, History::None, None, 100, before),
            (100, History::None, Some(length(30)), 100, 70),
            (100, History::Length(length(20)), Some(length(30)), 80, 50),
            (100, History::Length(length(20)), None, 80, before),
            (100, History::All, Some(length(30)), before, before),
            (before + 5, History::Length(length(20)), Some(length(30)), before, before),
        ] {
            let keeping = Keeping::at(Timestamp(now), history, retention);
            assert_eq!(
                (keeping.horizon.0, keeping.oldest.0),
                (horizon, oldest),
                "{now} {history:?} {retention:?}"
            );
            for (event_time, past) in
                [(oldest, false), (oldest.saturating_sub(1), oldest > before), (before, false)]
            {
                assert_eq!(keeping.is_past(Timestamp(event_time)), past, "{event_time} against {oldest}");
            }
        }
    }

    #[test]
    fn what_is_kept() {
        // (e, v, next) last in order first, horizon, kept
        let never = i64::MAX;
        for (rows, horizon, kept) in [
            // Only the last stands when all its times are past.
            (vec![(5, 5, never), (4, 4, never), (3, 3, never)], 10, vec![true, false, false]),
            // A future-dated row does not hide today's.
            (vec![(20, 5, never), (4, 4, never), (3, 3, never)], 10, vec![true, true, false]),
            // Nor does one that is not visible yet.
            (vec![(5, 20, never), (4, 4, never)], 10, vec![true, true]),
            // A late row that a later one hides from its first moment.
            (vec![(5, 20, never), (4, 30, never)], 10, vec![true, false]),
            // History asks for what won within it.
            (
                vec![(9, 9, never), (7, 7, never), (5, 5, never), (3, 3, never)],
                6,
                vec![true, true, true, false],
            ),
            // All of it.
            (vec![(9, 9, never), (7, 7, never), (7, 8, never)], i64::MIN, vec![true, true, false]),
            // Never visible.
            (vec![(9, never, never), (7, 7, never)], i64::MIN, vec![false, true]),
            // A version that ends lays the row below bare.
            (vec![(9, 9, 15), (7, 7, never)], 10, vec![true, true]),
            (vec![(9, 9, 10), (7, 7, never)], 10, vec![false, true]),
            (vec![(9, 12, 15), (8, 9, 14), (7, 7, never)], 10, vec![true, true, true]),
            (vec![(9, 10, 15), (8, 9, 14), (7, 7, never)], 10, vec![true, false, true]),
        ] {
            let asked = rows.iter().map(|(e, v, next)| Answering {
                event_time: Timestamp(*e),
                visible_at: Timestamp(*v),
                next_version: (*next != never).then_some(Timestamp(*next)),
            });
            assert_eq!(retain(asked, Timestamp(horizon)), kept, "{rows:?} from {horizon}");
        }
    }

    fn row() -> impl Strategy<Value = (RowOrder, Option<Timestamp>)> {
        let order = (-4_i64..12, -4_i64..14, 0_u8..3, -1_i64..3, any::<bool>(), 0_u8..3);
        (order, proptest::option::weighted(0.3, -4_i64..14)).prop_map(|((e, v, o, s, delete, c), next)| {
            let order = RowOrder {
                event_time: Timestamp(e),
                visible_at: if v == 13 { Timestamp::NEVER } else { Timestamp(v) },
                order_by: vec![o; usize::from(o)].into(),
                position: if s < 0 { Position::NONE } else { Position(s) },
                op: if delete { Op::Delete } else { Op::Value },
                digest: RowDigest([c; 16]),
            };
            (order, next.map(Timestamp))
        })
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(2000))]
        /// By trying every T: a row is kept exactly where it is the last of those that answer.
        #[test]
        fn kept_is_what_wins(mut rows in proptest::collection::vec(row(), 0..9), horizon in -6_i64..16, all: bool) {
            rows.sort_by(|a, b| b.0.cmp(&a.0));
            rows.dedup_by(|a, b| a.0 == b.0);
            let horizon = if all { Timestamp::BEFORE_ALL } else { Timestamp(horizon) };
            let mut wins = vec![false; rows.len()];
            for t in horizon.0.max(-10)..40 {
                let winner = rows
                    .iter()
                    .enumerate()
                    .filter(|(_, (order, next))| {
                        order.event_time.0 <= t && order.visible_at.0 <= t && next.is_none_or(|next| t < next.0)
                    })
                    .max_by(|a, b| a.1.0.cmp(&b.1.0));
                if let Some((at, _)) = winner {
                    wins[at] = true;
                }
            }
            let asked = rows.iter().map(|(order, next_version)| Answering {
                event_time: order.event_time,
                visible_at: order.visible_at,
                next_version: *next_version,
            });
            prop_assert_eq!(retain(asked, horizon), wins);
        }
    }
}
