//! The store against the plain rule: any batches with versions, loads, keys and restarts.

use std::collections::BTreeMap;

use asof_compute::Position;
use asof_model::Timestamp;
use asof_online::live::{Durability, Incoming, IncomingVersion, Intake, Version};
use proptest::prelude::*;

use super::{Hand, SOURCE, opened, version};

fn now(clock: &Hand) -> i64 {
    clock.0.load(std::sync::atomic::Ordering::SeqCst)
}

#[derive(Debug, Clone)]
struct Row {
    id: Option<u8>,
    content: u8,
    v: Option<i64>,
    order_by: u8,
}

#[derive(Debug, Clone)]
enum Step {
    Batch(Vec<Row>),
    Clock(i64),
    Reopen,
}

fn row() -> impl Strategy<Value = Row> {
    (
        proptest::option::weighted(0.9, 0_u8..3),
        b'a'..b'd',
        proptest::option::weighted(0.4, 0_i64..60),
        0_u8..3,
    )
        .prop_map(|(id, content, v, order_by)| Row { id, content, v, order_by })
}

/// Ids of which one begins another, and one holds what ends it in a key.
const IDS: [&str; 3] = ["a", "a\0", "ab"];
const ORDERS: [&[u8]; 3] = [b"", b"\0", b"\0\0\xff"];

/// What a version is ordered by, and its content.
type Plain = (i64, Vec<u8>, i64, u8);

fn plain(version: &Version) -> Plain {
    (version.visible_at.0, version.order_by.to_vec(), version.position.0, version.content[0])
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(60))]
    #[test]
    fn versions_stand_as_the_rule_says(steps in proptest::collection::vec(prop_oneof![
        6 => proptest::collection::vec(row(), 1..6).prop_map(Step::Batch),
        2 => (0_i64..60).prop_map(Step::Clock),
        1 => Just(Step::Reopen),
    ], 1..14)) {
        let folder = tempfile::tempdir().unwrap();
        let clock = Hand::at(10);
        let mut store = opened(folder.path(), &clock);
        let mut chains: BTreeMap<usize, Vec<Plain>> = BTreeMap::new();
        let (mut last, mut asked) = ((i64::MIN, 0), i64::MIN);
        for step in steps {
            match step {
                Step::Clock(at) => clock.set(at),
                Step::Reopen => {
                    drop(store);
                    store = opened(folder.path(), &clock);
                }
                Step::Batch(rows) => {
                    let incoming: Vec<Option<IncomingVersion<'_>>> = rows
                        .iter()
                        .map(|row| {
                            version(IDS[usize::from(row.id?)], row.content, row.v, ORDERS[usize::from(row.order_by)])
                        })
                        .collect();
                    let intake = Intake {
                        source: SOURCE,
                        rows: Incoming::Versions(&incoming),
                        key: None,
                        durability: Durability::Relaxed,
                    };
                    let mut told = Vec::new();
                    let mut given_v = None;
                    let accepted = store
                        .accept(&intake, &mut |given, _| {
                            given_v = Some((given.visible_at.0, given.first.0));
                            for row in given.rows {
                                told.push((row.row, row.before.as_ref().map(plain), row.after.as_ref().map(plain)));
                            }
                            Ok(())
                        })
                        .unwrap();
                    // The rule, row by row.
                    let v = now(&clock).max(last.0 + 1).max(asked + 1);
                    prop_assert!(given_v.is_none_or(|(given, _)| given == v));
                    let mut expected = Vec::new();
                    let mut already_there = Vec::new();
                    for (at, row) in rows.iter().enumerate() {
                        let s = last.1 + 1 + expected.len() as i64;
                        let Some(id) = row.id else {
                            expected.push((at, None, None));
                            continue;
                        };
                        let chain = chains.entry(usize::from(id)).or_default();
                        let order = ORDERS[usize::from(row.order_by)].to_vec();
                            let own = (row.v.unwrap_or(v), order, s, row.content);
                        let place = chain.partition_point(|other| *other < own);
                        let before = place.checked_sub(1).map(|at| chain[at].clone());
                        if row.v.is_none() && before.as_ref().is_some_and(|before| before.3 == row.content) {
                            already_there.push(at as u32);
                            continue;
                        }
                        expected.push((at, before, chain.get(place).cloned()));
                        chain.insert(place, own);
                    }
                    prop_assert_eq!(&told, &expected);
                    prop_assert_eq!(accepted.count as usize, expected.len());
                    if let Some((v, first)) = given_v {
                        prop_assert!(v > last.0 && first == last.1 + 1);
                        last = (v, first + i64::from(accepted.count) - 1);
                        prop_assert_eq!(accepted.visible_at, Timestamp(v));
                    }
                    prop_assert_eq!(accepted.already_there, already_there);
                }
            }
            let snapshot = store.read().unwrap();
            prop_assert_eq!(snapshot.answer_time().0, now(&clock).max(last.0).max(asked));
            asked = snapshot.answer_time().0;
            prop_assert!( snapshot.position() == Position(last.1));
            for (id, chain) in &chains {
                let found: Vec<Plain> =
                    snapshot.versions(SOURCE, IDS[*id].as_bytes()).unwrap().iter().map(plain).collect();
                prop_assert_eq!(&found, chain);
            }
        }
    }
}
