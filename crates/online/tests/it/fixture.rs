//! Rows to put into a store, and what a store must answer for them.

use std::path::Path;
use std::sync::Arc;

use asof_compute::{Op, Position, RowDigest, RowOrder};
use asof_model::{Address, Name, Timestamp, VersionId};
use asof_online::{Error, Generation, GenerationId, GenerationState, OnlineStore, Options, RowBatch, open};

pub(crate) fn opened(path: &Path) -> Arc<dyn OnlineStore> {
    open(path, &Options { cache: 8 << 20 }).unwrap()
}

pub(crate) fn generation(id: u32) -> Generation {
    let address = Address { project: Name::new("shop").unwrap(), name: Name::new("prices").unwrap() };
    Generation::new(GenerationId(id), address, VersionId(format!("{id:032x}")), GenerationState::Live)
}

/// A row of a test: times in microseconds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct TestRow {
    pub(crate) key: Vec<u8>,
    pub(crate) order: RowOrder,
    pub(crate) valid_until: Option<Timestamp>,
    pub(crate) next_version: Option<Timestamp>,
    pub(crate) values: Vec<u8>,
}

/// A value without tie-breaks.
pub(crate) fn row(key: &str, e: i64, v: i64, values: &str) -> TestRow {
    TestRow {
        key: prefix_free(key.as_bytes()),
        order: RowOrder {
            event_time: Timestamp(e),
            visible_at: Timestamp(v),
            order_by: Box::default(),
            position: Position::NONE,
            op: Op::Value,
            digest: RowDigest(digest(values)),
        },
        valid_until: None,
        next_version: None,
        values: values.as_bytes().to_vec(),
    }
}

fn digest(values: &str) -> [u8; 16] {
    let mut digest = [0; 16];
    for (to, from) in digest.iter_mut().zip(values.bytes()) {
        *to = from;
    }
    digest
}

/// As keys are from the encoder: none begins another.
pub(crate) fn prefix_free(key: &[u8]) -> Vec<u8> {
    let mut bytes = key.to_vec();
    bytes.push(0);
    bytes
}

pub(crate) fn batch(id: u32, rows: &[TestRow]) -> RowBatch {
    let mut batch = RowBatch::new(GenerationId(id));
    for row in rows {
        batch
            .push(&row.key, &row.order, row.valid_until, row.next_version, |out| {
                out.extend_from_slice(&row.values);
                Ok::<(), Error>(())
            })
            .unwrap();
    }
    batch
}

/// What one entity answers at `t`: event time and values, `-` for a delete.
pub(crate) fn answer(store: &dyn OnlineStore, id: u32, key: &str, t: i64) -> Option<(i64, String)> {
    let found = store
        .snapshot()
        .unwrap()
        .latest(GenerationId(id), &prefix_free(key.as_bytes()), Timestamp(t))
        .unwrap()?;
    let values =
        if found.op == Op::Delete { "-".to_owned() } else { String::from_utf8(found.values).unwrap() };
    Some((found.event_time.0, values))
}
