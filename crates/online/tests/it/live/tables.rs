//! The callers' tables beside intake: filled from elsewhere, and swept.

use std::collections::BTreeMap;
use std::process::Command;
use std::sync::atomic::{AtomicBool, Ordering};

use asof_online::Error;
use asof_online::live::{
    Direction, Durability, Incoming, Intake, LiveOptions, LiveStore, TableNumber, open, sweep,
};

use super::{Hand, ROWS, SOURCE, opened, options, push};

const TABLE: TableNumber = TableNumber::new(5).unwrap();

fn entries(store: &dyn LiveStore) -> BTreeMap<u32, Vec<u8>> {
    let mut found = BTreeMap::new();
    store
        .read()
        .unwrap()
        .scan(TABLE, b"", None, Direction::Forward, &mut |key, value| {
            found.insert(u32::from_be_bytes(key[key.len() - 4..].try_into().unwrap()), value.to_vec());
            Ok(true)
        })
        .unwrap();
    found
}

/// A fill in order of keys, beside batches that put and remove what it meets: what a batch put stays, whichever
/// came first, and a replay of the log comes to the same.
#[test]
fn a_table_is_filled_beside_batches_that_know_better() {
    const KEYS: u32 = 6_000;
    const WRITERS: u32 = 3;
    // All of it in memory, so that the log is replayed; and in many tables.
    for (memory, replayed) in [(64 << 20, true), (64 << 10, false)] {
        let folder = tempfile::tempdir().unwrap();
        let clock = Hand::at(1_000);
        let path = folder.path().join("store");
        let options = LiveOptions { memory, ..options(&clock) };
        let store = open(&path, &options).unwrap();
        std::thread::scope(|scope| {
            let store = &store;
            scope.spawn(move || {
                for first in (0..KEYS).step_by(100) {
                    let fill = store.write(&mut |_, writing| {
                        (first..first + 100)
                            .try_for_each(|key| writing.put_if_absent(TABLE, &key.to_be_bytes(), b"filled"))
                    });
                    fill.unwrap();
                }
            });
            for writer in 0..WRITERS {
                scope.spawn(move || {
                    let intake = Intake {
                        source: SOURCE,
                        rows: Incoming::Plain(1),
                        key: None,
                        durability: Durability::Durable,
                    };
                    // One from behind, one from before, each past what is filled and what is not.
                    let keys: Vec<u32> = (writer..KEYS).step_by(10 * WRITERS as usize).collect();
                    for at in 0..keys.len() {
                        let key = if writer == 0 { keys[keys.len() - 1 - at] } else { keys[at] };
                        let pushed = store.accept(&intake, &mut |_, writing| {
                            if writer == 2 {
                                return writing.remove(TABLE, &key.to_be_bytes());
                            }
                            writing.put(TABLE, &key.to_be_bytes(), &writer.to_be_bytes())
                        });
                        pushed.unwrap();
                    }
                });
            }
        });
        let found = entries(&*store);
        for key in 0..KEYS {
            let value = found.get(&key).map(Vec::as_slice);
            match key % (10 * WRITERS) {
                writer @ 0..2 => assert_eq!(value, Some(&writer.to_be_bytes()[..]), "{key}"),
                // Removed after it was filled, or filled after it was removed.
                2 => assert!(value.is_none_or(|value| value == b"filled"), "{key}"),
                _ => assert_eq!(value, Some(&b"filled"[..]), "{key}"),
            }
        }
        if replayed {
            // As a process leaves it that is killed.
            let copy = folder.path().join("copy");
            assert!(Command::new("cp").arg("-r").args([&path, &copy]).status().unwrap().success());
            assert!(entries(&*open(&copy, &options).unwrap()) == found, "a replay comes to the same");
        }
        drop(store);
        assert!(entries(&*open(&path, &options).unwrap()) == found, "so does opening");
    }
}

#[test]
fn a_batch_is_put_in_in_its_order() {
    let folder = tempfile::tempdir().unwrap();
    let store = opened(folder.path(), &Hand::at(1_000));
    store
        .write(&mut |_, writing| {
            writing.put_if_absent(TABLE, &[0, 0, 0, 1], b"first")?;
            writing.put_if_absent(TABLE, &[0, 0, 0, 1], b"second")?;
            writing.put(TABLE, &[0, 0, 0, 2], b"put")?;
            writing.put_if_absent(TABLE, &[0, 0, 0, 2], b"late")?;
            writing.put_if_absent(TABLE, &[0, 0, 0, 3], b"early")?;
            writing.put(TABLE, &[0, 0, 0, 3], b"put")?;
            writing.put(TABLE, &[0, 0, 0, 4], b"gone")?;
            writing.remove(TABLE, &[0, 0, 0, 4])?;
            writing.put_if_absent(TABLE, &[0, 0, 0, 4], b"again")
        })
        .unwrap();
    let expected = [&b"first"[..], b"put", b"put", b"again"].map(<[u8]>::to_vec);
    assert_eq!(entries(&*store).into_values().collect::<Vec<_>>(), expected);
}

/// Entries are let go of in steps, while rows are pushed, and stay gone.
#[test]
fn a_table_is_swept_beside_writers() {
    const KEYS: u32 = 5_000;
    let folder = tempfile::tempdir().unwrap();
    let clock = Hand::at(1_000);
    let store = opened(folder.path(), &clock);
    let key = |prefix: u8, n: u32| [&[prefix][..], &n.to_be_bytes()].concat();
    let fill = store.write(&mut |_, writing| {
        writing.put(TABLE, &key(6, KEYS), b"another's")?;
        (0..KEYS).try_for_each(|n| writing.put(TABLE, &key(7, n), b"row"))
    });
    fill.unwrap();
    let before = store.read().unwrap();

    let refused = sweep(&*store, TABLE, &[7], None, &mut |_, _| Err(Error::TooLong { what: "it", limit: 0 }));
    assert!(matches!(refused, Err(Error::TooLong { .. })), "{refused:?}");
    assert_eq!(entries(&*store).len(), KEYS as usize + 1, "nothing was removed");

    let done = AtomicBool::new(false);
    let (mut steps, mut removed) = (0, 0);
    let pushed = std::thread::scope(|scope| {
        let pushing = scope.spawn(|| {
            loop {
                let accepted = push(&*store, &["a"]);
                if done.load(Ordering::SeqCst) {
                    return accepted.first;
                }
            }
        });
        let mut from = None;
        loop {
            let swept = sweep(&*store, TABLE, &[7], from.as_deref(), &mut |key, value| {
                assert_eq!(value, b"row");
                Ok(key[4] % 3 != 0)
            })
            .unwrap();
            (steps, removed) = (steps + 1, removed + swept.removed);
            from = swept.next;
            if from.is_none() {
                break;
            }
        }
        done.store(true, Ordering::SeqCst);
        pushing.join().unwrap()
    });
    let left: Vec<u32> = (0..KEYS).filter(|n| n % 256 % 3 == 0).chain([KEYS]).collect();
    assert_eq!((removed, steps > 2), (KEYS as usize + 1 - left.len(), true));
    let mut seen = 0;
    before
        .scan(TABLE, &[7], None, Direction::Backward, &mut |_, _| {
            seen += 1;
            Ok(true)
        })
        .unwrap();
    assert_eq!(seen, KEYS, "a snapshot does not move");
    drop(before);
    assert_eq!(entries(&*store).into_keys().collect::<Vec<_>>(), left);
    drop(store);
    let store = opened(folder.path(), &clock);
    assert_eq!(entries(&*store).into_keys().collect::<Vec<_>>(), left);
    let snapshot = store.read().unwrap();
    assert!(snapshot.get(ROWS, &pushed.0.to_be_bytes()).unwrap().is_some());
}
