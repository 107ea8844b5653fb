//! A store answers as the plain rule does, whatever came in which batches, and a horizon changes no
//! answer from it on.

use asof_compute::{Op, Position, RowDigest, RowOrder};
use asof_model::Timestamp;
use asof_online::{Commit, GenerationId, GenerationState, Horizon};
use proptest::prelude::*;

use crate::fixture::{TestRow, batch, generation, opened, prefix_free};

fn row() -> impl Strategy<Value = TestRow> {
    let order = (-3_i64..12, -3_i64..14, 0_u8..3, -1_i64..2, any::<bool>(), 0_u8..2);
    (0_u8..3, order, proptest::option::weighted(0.1, 0_i64..14), proptest::option::weighted(0.2, Just(5)))
        .prop_map(|(key, (e, v, o, s, delete, c), next, until)| TestRow {
            key: prefix_free(&vec![b'k'; usize::from(key)]),
            order: RowOrder {
                event_time: Timestamp(e),
                visible_at: Timestamp(v),
                order_by: vec![o % 2; usize::from(o)].into(),
                position: if s < 0 { Position::NONE } else { Position(s) },
                op: if delete { Op::Delete } else { Op::Value },
                digest: RowDigest([c; 16]),
            },
            valid_until: until.map(Timestamp),
            next_version: next.map(Timestamp),
            // Rows equal in the order are equal rows.
            values: format!("{e} {v} {o} {s} {delete} {c}").into_bytes(),
        })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(150))]
    #[test]
    fn stores_answer_as_the_rule(
        batches in proptest::collection::vec((proptest::collection::vec(row(), 0..8), any::<bool>()), 1..5),
        mut horizons in proptest::collection::vec(-5_i64..12, 5),
        all: bool,
    ) {
        let folder = tempfile::tempdir().unwrap();
        let store = opened(folder.path());
        let id = GenerationId(1);
        store.commit(&Commit { generations: &[generation(1)], ..Commit::default() }).unwrap();
        horizons.sort_unstable();
        let mut rows: Vec<TestRow> = Vec::new();
        let mut last = i64::MIN;
        for (at, (new, staged)) in batches.iter().enumerate() {
            if !all {
                last = horizons[at];
            }
            let horizon = Horizon(Timestamp(last));
            // The same row again, with the same room, as a file read again gives it.
            let mut new = new.clone();
            new.extend(rows.iter().step_by(3).cloned());
            for row in &mut new {
                if let Some(other) = rows.iter().find(|other| other.key == row.key && other.order == row.order) {
                    *row = other.clone();
                }
                rows.push(row.clone());
            }
            if *staged {
                let staging = 2 + u32::try_from(at).unwrap();
                let mut record = generation(staging);
                record.state = GenerationState::Staging;
                store.commit(&Commit { generations: &[record], rows: Some(&batch(staging, &new)), ..Commit::default() }).unwrap();
                store.commit(&Commit { merge: Some((GenerationId(staging), id)), horizon, ..Commit::default() }).unwrap();
                store.drop_generation(GenerationId(staging)).unwrap();
            } else {
                store.commit(&Commit { rows: Some(&batch(1, &new)), horizon, ..Commit::default() }).unwrap();
            }
        }
        let snapshot = store.snapshot().unwrap();
        for key in 0..3 {
            let key = prefix_free(&vec![b'k'; key]);
            for t in last.max(-6)..16 {
                let expected = rows
                    .iter()
                    .filter(|row| {
                        row.key == key
                            && row.order.event_time.0 <= t
                            && row.order.visible_at.0 <= t
                            && row.next_version.is_none_or(|next| t < next.0)
                    })
                    .max_by(|a, b| a.order.cmp(&b.order));
                let found = snapshot.latest(id, &key, Timestamp(t)).unwrap();
                prop_assert_eq!(
                    found.map(|row| (row.event_time, row.visible_at, row.op, row.valid_until, row.values)),
                    expected.map(|row| {
                        let order = &row.order;
                        (order.event_time, order.visible_at, order.op, row.valid_until, row.values.clone())
                    }),
                    "at {}", t
                );
            }
        }
        // What is counted is what is there.
        let usage = store.usage().unwrap().generations;
        let mut stored: Vec<_> = rows.iter().map(|row| (&row.key, format!("{:?}", row.order))).collect();
        stored.sort_unstable();
        stored.dedup();
        if all {
            let mut keys: Vec<_> = rows.iter().map(|row| &row.key).collect();
            keys.sort_unstable();
            keys.dedup();
            let counted = usage.iter().find(|usage| usage.id == id).map_or((0, 0), |usage| (usage.rows, usage.keys));
            prop_assert_eq!(counted, (stored.len() as u64, keys.len() as u64));
        }
    }
}
