//! The store of live rows, on real files.

mod crash;
mod faults;
mod random;
mod suite;
mod tables;

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};

use asof_compute::RowDigest;
use asof_model::{Clock, Timestamp};
use asof_online::Result;
use asof_online::live::{
    Accepted, Direction, Durability, IdempotencyKey, Incoming, IncomingVersion, Intake, LiveOptions,
    LiveSnapshot, LiveStore, SourceNumber, TableNumber, open,
};

/// The rows of pushes: position -> name.
const ROWS: TableNumber = TableNumber::new(1).unwrap();
const COUNTED: TableNumber = TableNumber::new(9).unwrap();
const SOURCE: SourceNumber = SourceNumber(3);

/// A clock that is set by hand.
#[derive(Debug)]
struct Hand(AtomicI64);

impl Hand {
    fn at(micros: i64) -> Arc<Hand> {
        Arc::new(Hand(AtomicI64::new(micros)))
    }

    fn set(&self, micros: i64) {
        self.0.store(micros, Ordering::SeqCst);
    }
}

impl Clock for Hand {
    fn now(&self) -> Timestamp {
        Timestamp(self.0.load(Ordering::SeqCst))
    }
}

/// Small, so that files and tables change often.
fn options(clock: &Arc<Hand>) -> LiveOptions {
    let clock: Arc<dyn Clock> = Arc::clone(clock) as _;
    LiveOptions { cache: 1 << 20, memory: 64 << 10, log_file: 64 << 10, ..LiveOptions::new(clock) }
}

fn opened(folder: &Path, clock: &Arc<Hand>) -> Arc<dyn LiveStore> {
    open(folder, &options(clock)).unwrap()
}

/// Pushes rows without ids, stored under their positions, and counted.
fn push_as(
    store: &dyn LiveStore,
    rows: &[&str],
    key: Option<&str>,
    durability: Durability,
) -> Result<Accepted> {
    let mut content = [0; 32];
    for (place, byte) in rows.concat().bytes().enumerate() {
        content[place % 32] ^= byte.rotate_left((place / 32) as u32);
    }
    let intake = Intake {
        source: SOURCE,
        rows: Incoming::Plain(rows.len() as u32),
        key: key.map(|key| IdempotencyKey { key, content }),
        durability,
    };
    store.accept(&intake, &mut |given, writing| {
        for (row, name) in rows.iter().enumerate() {
            writing.rows().extend_from_slice(format!("{name}\n").as_bytes());
            writing.put(ROWS, &(given.first.0 + row as i64).to_be_bytes(), name.as_bytes())?;
        }
        writing.count(COUNTED, b"rows", rows.len() as u64);
        Ok(())
    })
}

fn push(store: &dyn LiveStore, rows: &[&str]) -> Accepted {
    push_as(store, rows, None, Durability::Durable).unwrap()
}

/// Positions and names of all rows, as one snapshot has them; so many were counted, whatever was refused or cut off.
fn rows(snapshot: &dyn LiveSnapshot) -> Vec<(i64, String)> {
    let mut found = Vec::new();
    snapshot
        .scan(ROWS, b"", None, Direction::Forward, &mut |key, value| {
            let position = i64::from_be_bytes(key.try_into().unwrap());
            found.push((position, String::from_utf8(value.to_vec()).unwrap()));
            Ok(true)
        })
        .unwrap();
    let counted = snapshot.get(COUNTED, b"rows").unwrap();
    let counted = counted.map_or(0, |count| u64::from_le_bytes(count.try_into().unwrap()));
    assert_eq!(counted, found.len() as u64);
    found
}

/// The intake log past a position: first position, count, rows.
fn log(store: &dyn LiveStore, after: i64) -> Vec<(i64, u32, String)> {
    let mut found = Vec::new();
    let log = store.log().unwrap();
    log.entries(asof_compute::Position(after), None, &mut |entry| {
        assert_eq!(entry.source, SOURCE);
        found.push((entry.first.0, entry.count, String::from_utf8(entry.rows.to_vec()).unwrap()));
        Ok(true)
    })
    .unwrap();
    found
}

/// A version of an id whose content is a letter.
fn version<'a>(id: &'a str, content: u8, v: Option<i64>, order_by: &'a [u8]) -> Option<IncomingVersion<'a>> {
    Some(IncomingVersion {
        id: id.as_bytes(),
        visible_at: v.map(Timestamp),
        order_by,
        digest: RowDigest([content; 16]),
        event_time: Timestamp(i64::from(content)),
        content: [content; 16],
        kept: b"kept",
    })
}
