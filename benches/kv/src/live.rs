//! The store of live rows itself under the work of [`crate::intake`].

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use asof_compute::{Position, RowDigest};
use asof_model::{Clock, Timestamp};
use asof_online::live::{
    Direction, Durability, Incoming, IncomingVersion, Intake, LiveOptions, LiveStore, SourceNumber, TableNumber, open,
};

use crate::intake::{CLIENTS, ENTITIES, ROWS, SECONDS, cpu_seconds, entity, raw_row};
use crate::{bytes_below, percentile, random};

/// Goes as time does; what it says to begin with does not matter here.
#[derive(Debug)]
struct Since(Instant);

impl Clock for Since {
    fn now(&self) -> Timestamp {
        Timestamp(1_370_044_800_000_000 + self.0.elapsed().as_micros() as i64)
    }
}

const TABLE: TableNumber = TableNumber::new(7).unwrap();

fn push(store: &dyn LiveStore, time: u64, ids: bool, state: &mut u64) {
    let rows: Vec<_> = (0..100).map(|at| raw_row(random(state) % ENTITIES, time + at, state)).collect();
    let names: Vec<String> = (0..100).map(|_| format!("order-{:016x}", random(state))).collect();
    let versions: Vec<_> = names
        .iter()
        .map(|name| {
            Some(IncomingVersion {
                id: name.as_bytes(),
                visible_at: None,
                order_by: b"",
                digest: RowDigest([7; 16]),
                event_time: Timestamp(5),
                content: [9; 16],
                kept: &[0; 16],
            })
        })
        .collect();
    let intake = Intake {
        source: SourceNumber(1),
        rows: if ids { Incoming::Versions(&versions) } else { Incoming::Plain(100) },
        key: None,
        durability: Durability::Durable,
    };
    let accepted = store
        .accept(&intake, &mut |_, writing| {
            for (key, value) in &rows {
                writing.rows().extend_from_slice(value);
                writing.put(TABLE, &key[4..], value)?;
            }
            Ok(())
        })
        .unwrap();
    assert_eq!(accepted.count, 100);
}

pub fn run(folder: &Path, ids: bool) {
    let options = LiveOptions { cache: 1 << 30, ..LiveOptions::new(Arc::new(Since(Instant::now()))) };
    let store = open(folder, &options).unwrap();
    let mut state = 42;
    let mut order: Vec<(u64, u64)> = (0..ROWS).flat_map(|time| (0..ENTITIES).map(move |at| (at, time))).collect();
    for at in (1..order.len()).rev() {
        order.swap(at, (random(&mut state) % (at as u64 + 1)) as usize);
    }
    // As a backfill puts them, which takes a look at what is there.
    let began = Instant::now();
    for chunk in order.chunks(5_000) {
        store
            .write(&mut |_, writing| {
                for (at, time) in chunk {
                    let (key, value) = raw_row(*at, *time, &mut state);
                    writing.put_if_absent(TABLE, &key[4..], &value)?;
                }
                Ok(())
            })
            .unwrap();
    }
    println!("live: filled with {} rows/s", (order.len() as f64 / began.elapsed().as_secs_f64()).round());
    drop(store);
    let before = bytes_below(&folder.join("tables"));
    let store = open(folder, &options).unwrap();

    let time = AtomicU64::new(1_000_000);
    let (stop, batches) = (AtomicBool::new(false), AtomicU64::new(0));
    let (mut scans, mut pushes, mut opened) = (Vec::new(), Vec::new(), Vec::new());
    let used = cpu_seconds();
    let start = Instant::now();
    std::thread::scope(|scope| {
        let (store, time, stop, batches) = (store.as_ref(), &time, &stop, &batches);
        let readers: Vec<_> = (0..2_u64)
            .map(|reader| {
                scope.spawn(move || {
                    let mut state = 7 + reader;
                    let (mut taken, mut opened) = (Vec::new(), Vec::new());
                    while !stop.load(Ordering::Relaxed) {
                        let prefix = entity(random(&mut state) % ENTITIES);
                        let start = Instant::now();
                        let snapshot = store.read().unwrap();
                        opened.push(start.elapsed().as_nanos() as u64);
                        let mut count = 0;
                        snapshot
                            .scan(TABLE, &prefix[4..], None, Direction::Forward, &mut |_, value| {
                                count += usize::from(!value.is_empty());
                                Ok(count < 50)
                            })
                            .unwrap();
                        taken.push(start.elapsed().as_micros() as u64);
                        assert_eq!(count, 50);
                        drop(snapshot);
                        std::thread::sleep(Duration::from_millis(1));
                    }
                    (taken, opened)
                })
            })
            .collect();
        let clients: Vec<_> = (0..CLIENTS)
            .map(|client| {
                scope.spawn(move || {
                    let mut state = 1_000 + client;
                    let mut taken = Vec::new();
                    while !stop.load(Ordering::Relaxed) {
                        let first = time.fetch_add(100, Ordering::Relaxed);
                        let start = Instant::now();
                        push(store, first, ids, &mut state);
                        taken.push(start.elapsed().as_micros() as u64);
                        batches.fetch_add(1, Ordering::Relaxed);
                    }
                    taken
                })
            })
            .collect();
        // The flusher: what the log holds goes elsewhere and is trimmed.
        let flusher = scope.spawn(move || {
            let mut to = Position(0);
            while !stop.load(Ordering::Relaxed) {
                std::thread::sleep(Duration::from_millis(500));
                let log = store.log().unwrap();
                let (mut bytes, end) = (0, log.end());
                log.entries(to, None, &mut |entry| {
                    bytes += entry.rows.len();
                    Ok(true)
                })
                .unwrap();
                drop(log);
                to = store.trim(end).unwrap();
                std::hint::black_box(bytes);
            }
        });
        std::thread::sleep(Duration::from_secs(SECONDS));
        stop.store(true, Ordering::Relaxed);
        flusher.join().unwrap();
        for reader in readers {
            let (taken, open) = reader.join().unwrap();
            scans.extend(taken);
            opened.extend(open);
        }
        for client in clients {
            pushes.extend(client.join().unwrap());
        }
    });
    let seconds = start.elapsed().as_secs_f64();
    let cpu = cpu_seconds() - used;
    let rows = batches.load(Ordering::Relaxed) * 100;
    let usage = store.usage().unwrap();
    drop(store);
    let after = bytes_below(&folder.join("tables"));
    let began = Instant::now();
    let store = open(folder, &options).unwrap();
    let reopened = began.elapsed();
    drop(store);
    scans.sort_unstable();
    pushes.sort_unstable();
    opened.sort_unstable();
    println!(
        "live{}: {:.0} rows/s acknowledged; {:.2} us of processor a row; push p50 {} p99 {} us; scan of 50 p50 {} p99 {} \
         p99.9 {} us ({} scans), its opening p50 {} p99 {} ns; {} MB before, {:.0} bytes a row after; log {} MB; opened \
         again in {:.2} s",
        if ids { " with ids" } else { "" },
        rows as f64 / seconds, cpu * 1e6 / rows as f64,
        percentile(&pushes, 0.5), percentile(&pushes, 0.99),
        percentile(&scans, 0.5), percentile(&scans, 0.99), percentile(&scans, 0.999), scans.len(),
        percentile(&opened, 0.5), percentile(&opened, 0.99),
        before >> 20, after.saturating_sub(before) as f64 / rows as f64, usage.log_bytes >> 20, reopened.as_secs_f64(),
    );
}
