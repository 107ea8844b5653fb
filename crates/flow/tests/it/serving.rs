//! Online equals the plain rule, whatever came in which files and when it was materialised.

use asof_model::{History, Length};
use proptest::prelude::*;

use crate::fixture::{Answer, Node, Row, Shape, plain_rule};

const SPAN: i64 = 60;

fn rows() -> impl Strategy<Value = Vec<Row>> {
    let times = (0..SPAN, proptest::option::weighted(0.9, -5_i64..15));
    let row = (
        proptest::option::weighted(0.9, 0_i64..4),
        times,
        proptest::bool::weighted(0.1),
        proptest::option::weighted(0.3, 0..SPAN),
        proptest::option::weighted(0.9, 10_i64..16),
    );
    let made = row.prop_map(|(item, (e, late), gone, until, price)| Row {
        item,
        e,
        v: late.map(|late| e + late),
        n: 0,
        gone,
        until,
        price,
    });
    proptest::collection::vec(made, 0..40)
}

/// A row older than the retention, counted back from the least T that may be asked now, is kept offline
/// only. All it could still say is that it expired.
fn kept(rule: Answer, now: i64, history: History, retention: Option<i64>) -> Answer {
    let from = match history {
        History::None => now,
        History::Length(length) => now - length.micros(),
        History::All => return rule,
    };
    match (rule.1, retention) {
        (Some(event_time), Some(retention)) if event_time < from - retention => {
            assert_eq!(rule.0, "expired");
            ("not_found", None, None, None)
        }
        _ => rule,
    }
}

proptest! {
    #![proptest_config(ProptestConfig { max_shrink_iters: 200, ..ProptestConfig::with_cases(60) })]
    #[test]
    fn online_equals_the_rule(
        mut rows in rows(),
        order in any::<u64>(),
        cuts in proptest::collection::vec(0..SPAN, 1..4),
        ttl in proptest::option::weighted(0.5, 0..SPAN / 2),
        history in prop_oneof![Just(None), Just(Some(History::All)), (1..SPAN).prop_map(|length| Some(History::Length(Length::from_micros(length))))],
        retained: bool,
        small: bool,
    ) {
        // Numbers that break ties run against the order of the files.
        for (n, row) in rows.iter_mut().enumerate() {
            row.n = (n as i64 ^ (order as i64 & 31)) * 64 + n as i64;
        }
        let folder = tempfile::tempdir().unwrap();
        let mut node = Node::open(folder.path());
        if small {
            node.flow = node.flow.clone().with_batch_bytes(1);
        }
        let history = history.unwrap_or_default();
        let retention = if retained { ttl } else { None };
        node.apply(&Shape { ttl, history, retention, ..Shape::default() });
        let reader = node.reader();
        let items = [Some(0), Some(1), Some(2), Some(3), Some(4), None];
        let mut given: Vec<Row> = Vec::new();
        let mut now = 0;
        let mut waiting = rows.as_slice();
        for (file, cut) in cuts.iter().enumerate() {
            now = now.max(*cut);
            node.clock.set(now);
            let take = if file + 1 == cuts.len() { waiting.len() } else { waiting.len() * (file + 1) / cuts.len() };
            let (new, rest) = waiting.split_at(take);
            waiting = rest;
            given.extend_from_slice(new);
            node.write(&format!("data/{}.csv", (order >> file) % 7 * 10 + file as u64), new);
            node.materialize().unwrap();
            let earliest = match history {
                History::None => now,
                History::Length(length) => (now - length.micros()).max(0),
                History::All => 0,
            };
            for t in earliest..=now {
                let found = node.answers(&reader, &items, Some(t));
                for (item, found) in items.iter().zip(found) {
                    let expected = kept(plain_rule(&given, *item, t, ttl), now, history, retention);
                    prop_assert_eq!(found, expected, "item {:?} at {} of {}", item, t, now);
                }
            }
        }
        // And later, without another materialisation.
        for later in [now + 1, now + SPAN / 2, now + 3 * SPAN] {
            node.clock.set(later);
            let found = node.answers(&reader, &items, None);
            for (item, found) in items.iter().zip(found) {
                let expected = kept(plain_rule(&given, *item, later, ttl), later, history, retention);
                prop_assert_eq!(found, expected, "item {:?} at {}", item, later);
            }
        }
    }
}
