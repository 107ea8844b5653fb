//! What a store of live rows does.

use asof_compute::Position;
use asof_model::{Explain, Kind, Timestamp};
use asof_online::Error;
use asof_online::live::{
    Direction, Durability, Incoming, Intake, LiveOptions, LiveStore, SourceNumber, TableNumber, open,
};

use super::{COUNTED, Hand, ROWS, SOURCE, log, opened, options, push, push_as, rows, version};

#[test]
fn an_acknowledged_batch_is_readable_by_the_next_request() {
    let folder = tempfile::tempdir().unwrap();
    let clock = Hand::at(1_000);
    let store = opened(folder.path(), &clock);
    let first = push(&*store, &["a", "b"]);
    assert_eq!(
        (first.visible_at, first.first, first.count, first.durable),
        (Timestamp(1_000), Position(1), 2, true)
    );
    let before = store.read().unwrap();
    assert_eq!((before.answer_time(), before.position()), (Timestamp(1_000), Position(2)));
    // Another one in the same microsecond, and one after a backward step of the clock.
    let second = push(&*store, &["c"]);
    clock.set(10);
    let third = push(&*store, &["d"]);
    assert_eq!([second.visible_at.0, third.visible_at.0], [1_001, 1_002]);
    assert_eq!([second.first.0, third.first.0], [3, 4]);
    let after = store.read().unwrap();
    assert_eq!(after.answer_time(), Timestamp(1_002));
    let names = |rows: Vec<(i64, String)>| rows.into_iter().map(|(_, name)| name).collect::<String>();
    assert_eq!(names(rows(&*after)), "abcd");
    assert_eq!(names(rows(&*before)), "ab", "a snapshot does not move");
    assert_eq!(before.get(ROWS, &3_i64.to_be_bytes()).unwrap(), None);
    assert_eq!(after.get(ROWS, &3_i64.to_be_bytes()).unwrap(), Some(b"c".to_vec()));
    assert_eq!(
        log(&*store, 0),
        [(1, 2, "a\nb\n".to_owned()), (3, 1, "c\n".to_owned()), (4, 1, "d\n".to_owned())]
    );
    assert_eq!(log(&*store, 1).len(), 3, "an entry that holds a row past the position");
    assert_eq!(log(&*store, 3), [(4, 1, "d\n".to_owned())]);
}

#[test]
fn a_refused_batch_changes_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let clock = Hand::at(1_000);
    let store = opened(folder.path(), &clock);
    let intake =
        Intake { source: SOURCE, rows: Incoming::Plain(1), key: None, durability: Durability::Durable };
    let refused = store.accept(&intake, &mut |_, writing| writing.put(ROWS, &[7; 70_000], b""));
    assert!(matches!(refused, Err(Error::TooLong { .. })), "{refused:?}");
    let long = "k".repeat(256);
    let refused = push_as(&*store, &["a"], Some(&long), Durability::Durable);
    assert!(matches!(refused, Err(Error::TooLong { limit: 255, .. })), "{refused:?}");
    assert!(rows(&*store.read().unwrap()).is_empty() && log(&*store, 0).is_empty());
    assert_eq!(push_as(&*store, &["a"], Some(&long[..255]), Durability::Durable).unwrap().first, Position(1));
}

#[test]
fn an_idempotency_key_gets_its_first_answer_for_seven_days() {
    const DAY: i64 = 86_400_000_000;
    let folder = tempfile::tempdir().unwrap();
    let clock = Hand::at(1_000);
    let mut store = opened(folder.path(), &clock);
    let send = |store: &dyn LiveStore, rows: &[&str]| push_as(store, rows, Some("k1"), Durability::Durable);
    let first = send(&*store, &["a", "b"]).unwrap();
    assert!(!first.repeated);
    for round in 0..2 {
        clock.set(1_000 + 7 * DAY - 1);
        let again = send(&*store, &["a", "b"]).unwrap();
        assert!(again.repeated);
        assert_eq!(
            (again.visible_at, again.first, again.count),
            (first.visible_at, first.first, first.count)
        );
        let refused = send(&*store, &["other"]).unwrap_err();
        assert!(matches!(refused, Error::KeyReused { at } if at == first.visible_at), "{refused}");
        assert_eq!((refused.kind(), refused.code()), (Kind::Conflict, "idempotency_key_reused"));
        assert_eq!(rows(&*store.read().unwrap()).len(), 2);
        if round == 0 {
            drop(store);
            store = opened(folder.path(), &clock);
        }
    }
    // The same key of another source is another key.
    let other = Intake {
        source: SourceNumber(9),
        rows: Incoming::Plain(1),
        key: Some(asof_online::live::IdempotencyKey { key: "k1", content: [0; 32] }),
        durability: Durability::Durable,
    };
    assert!(!store.accept(&other, &mut |_, _| Ok(())).unwrap().repeated);
    clock.set(1_000 + 7 * DAY);
    let anew = send(&*store, &["other"]).unwrap();
    assert!(!anew.repeated && anew.first > first.first);
    assert!(send(&*store, &["other"]).unwrap().repeated, "the new answer is kept in its turn");
}

#[test]
fn batches_with_one_key_at_once_are_stored_once() {
    let folder = tempfile::tempdir().unwrap();
    let clock = Hand::at(1_000);
    let store = opened(folder.path(), &clock);
    std::thread::scope(|scope| {
        let pushes: Vec<_> = (0..16)
            .map(|_| scope.spawn(|| push_as(&*store, &["a"], Some("k"), Durability::Durable).unwrap()))
            .collect();
        let answers: Vec<_> = pushes.into_iter().map(|push| push.join().unwrap()).collect();
        assert_eq!(answers.iter().filter(|answer| !answer.repeated).count(), 1);
        assert!(answers.iter().all(|answer| answer.first == Position(1)));
    });
    assert_eq!(log(&*store, 0).len(), 1);
}

/// What `make` was told: for each stored row its place, and the contents of the versions around it.
type Told = Vec<(usize, Option<u8>, Option<u8>)>;

fn push_versions(
    store: &dyn LiveStore,
    versions: &[Option<asof_online::live::IncomingVersion<'_>>],
) -> (asof_online::live::Accepted, Told) {
    let intake = Intake {
        source: SOURCE,
        rows: Incoming::Versions(versions),
        key: None,
        durability: Durability::Durable,
    };
    let mut told = Told::new();
    let accepted = store
        .accept(&intake, &mut |given, writing| {
            assert_eq!(given.rows.len(), given.count as usize);
            for (at, row) in given.rows.iter().enumerate() {
                assert_eq!(row.position.0, given.first.0 + at as i64);
                writing.put(ROWS, &row.position.0.to_be_bytes(), b"row")?;
                writing.count(COUNTED, b"rows", 1);
                let content = |version: &Option<asof_online::live::Version>| {
                    version.as_ref().map(|version| {
                        assert_eq!(&*version.kept, b"kept");
                        version.content[0]
                    })
                };
                told.push((row.row, content(&row.before), content(&row.after)));
            }
            Ok(())
        })
        .unwrap();
    (accepted, told)
}

fn chain(store: &dyn LiveStore, id: &str) -> String {
    let versions = store.read().unwrap().versions(SOURCE, id.as_bytes()).unwrap();
    versions.iter().map(|version| char::from(version.content[0])).collect()
}

#[test]
fn versions_of_an_id_are_kept_in_version_order() {
    let folder = tempfile::tempdir().unwrap();
    let clock = Hand::at(1_000);
    let mut store = opened(folder.path(), &clock);
    let (first, told) =
        push_versions(&*store, &[version("x", b'a', None, b""), None, version("y", b'a', None, b"")]);
    assert_eq!((first.count, told), (3, vec![(0, None, None), (1, None, None), (2, None, None)]));
    // The standing version again: acknowledged and not stored; a batch of nothing else takes no position.
    let (same, told) =
        push_versions(&*store, &[version("x", b'a', None, b""), version("y", b'a', None, b"")]);
    assert_eq!((same.count, same.already_there, told), (0, vec![0, 1], vec![]));
    let (second, told) =
        push_versions(&*store, &[version("x", b'b', None, b""), version("y", b'a', None, b"")]);
    assert_eq!((second.first.0, second.count, second.already_there), (4, 1, vec![1]));
    assert_eq!(told, [(0, Some(b'a'), None)]);
    // One that arrives after a newer version is a new version.
    push_versions(&*store, &[version("x", b'a', None, b"")]);
    assert_eq!(chain(&*store, "x"), "aba");
    // A load into the middle of the chain, at its beginning, and past its end.
    let (_, told) = push_versions(
        &*store,
        &[
            version("x", b'm', Some(1_001), b""),
            version("x", b'f', Some(5), b""),
            version("x", b'l', Some(9_000), b""),
            version("x", b'n', Some(1_001), b"later"),
        ],
    );
    assert_eq!(
        told,
        [
            (0, Some(b'b'), Some(b'a')),
            (1, None, Some(b'a')),
            (2, Some(b'a'), None),
            (3, Some(b'm'), Some(b'a'))
        ]
    );
    assert_eq!(chain(&*store, "x"), "fabmnal");
    // What stands at its v is what a pushed version is compared with, not what a load put into the future.
    let (same, _) = push_versions(&*store, &[version("x", b'a', None, b"")]);
    assert_eq!(same.already_there, [0]);
    // Two versions of one id in a batch: the second stands on the first. A load repeats what it is told to.
    let (two, told) = push_versions(
        &*store,
        &[
            version("z", b'p', None, b""),
            version("z", b'p', None, b""),
            version("z", b'q', None, b""),
            version("w", b'p', Some(3), b""),
            version("w", b'p', Some(4), b""),
        ],
    );
    assert_eq!(two.already_there, [1]);
    assert_eq!(told, [(0, None, None), (2, Some(b'p'), None), (3, None, None), (4, Some(b'p'), None)]);
    drop(store);
    store = opened(folder.path(), &clock);
    assert_eq!([chain(&*store, "x"), chain(&*store, "z"), chain(&*store, "w")], ["fabmnal", "pq", "pp"]);
    assert_eq!(chain(&*store, "never"), "");
}

#[test]
fn scans_go_both_ways_from_any_place() {
    let folder = tempfile::tempdir().unwrap();
    let clock = Hand::at(1_000);
    let store = opened(folder.path(), &clock);
    let table = |number| TableNumber::new(number).unwrap();
    assert!(TableNumber::new(u32::MAX).is_none(), "the store's own");
    store
        .write(&mut |_, writing| {
            for key in [&b"a"[..], b"b", b"ba", b"bb", b"b\xff", b"b\xff\xff", b"c"] {
                writing.put(table(5), key, key)?;
            }
            writing.put(table(4), b"b", b"")?;
            writing.put(table(6), b"b", b"")
        })
        .unwrap();
    let snapshot = store.read().unwrap();
    let scan = |prefix: &[u8], from: Option<&[u8]>, direction, limit: usize| {
        let mut found = Vec::new();
        snapshot
            .scan(table(5), prefix, from, direction, &mut |key, value| {
                assert_eq!(key, value);
                found.push(key.to_vec());
                Ok(found.len() < limit)
            })
            .unwrap();
        found
    };
    let all = [&b"b"[..], b"ba", b"bb", b"b\xff", b"b\xff\xff"].map(<[u8]>::to_vec);
    let reversed: Vec<_> = all.iter().rev().cloned().collect();
    assert_eq!(scan(b"b", None, Direction::Forward, 9), all);
    assert_eq!(scan(b"b", None, Direction::Backward, 9), reversed);
    assert_eq!(scan(b"b", Some(b"ab"), Direction::Forward, 9), all[2..]);
    assert_eq!(scan(b"b", Some(b"b"), Direction::Forward, 1), all[2..3]);
    assert_eq!(scan(b"b", Some(b"b"), Direction::Backward, 2), [all[2].clone(), all[1].clone()]);
    assert_eq!(scan(b"b", Some(b"az"), Direction::Backward, 9), [all[1].clone(), all[0].clone()]);
    assert_eq!(scan(b"", None, Direction::Forward, 9).len(), 7, "the table's own");
    assert_eq!(scan(b"b\xff", None, Direction::Backward, 9).len(), 2);
    store.write(&mut |_, writing| writing.remove(table(5), b"bb")).unwrap();
    assert_eq!(scan(b"b", None, Direction::Forward, 9), all, "a snapshot does not move");
    assert_eq!(store.read().unwrap().get(table(5), b"bb").unwrap(), None);
}

/// Many small files of the log and tables, a snapshot that stays open over all of it, and restarts.
#[test]
fn the_log_is_trimmed_and_no_row_is_lost() {
    let folder = tempfile::tempdir().unwrap();
    let clock = Hand::at(1_000);
    let mut store = opened(folder.path(), &clock);
    let name = |n: i64| format!("{n:05}{}", "x".repeat(700));
    let early = {
        push(&*store, &[&name(1)]);
        store.read().unwrap()
    };
    for n in 2..=1_000 {
        push(&*store, &[&name(n)]);
    }
    assert_eq!(rows(&*early), [(1, name(1))], "over flushes and merges");
    let files = || {
        let names = folder.path().join("log").read_dir().unwrap().map(|entry| entry.unwrap().file_name());
        names.filter(|name| name.to_string_lossy().ends_with(".log")).count()
    };
    assert!(files() > 10, "{} files", files());
    let held = store.log().unwrap();
    assert_eq!((held.trimmed(), held.end()), (Position(0), Position(1_000)));
    assert_eq!(store.trim(Position(600)).unwrap(), Position(0), "never past an open reading");
    let mut count = 0;
    held.entries(Position(0), None, &mut |_| {
        count += 1;
        Ok(true)
    })
    .unwrap();
    assert_eq!(count, 1_000);
    let mut none = 0;
    held.entries(Position(0), Some(SourceNumber(8)), &mut |_| {
        none += 1;
        Ok(true)
    })
    .unwrap();
    assert_eq!(none, 0);
    drop(held);
    assert_eq!(store.trim(Position(600)).unwrap(), Position(600));
    assert_eq!(store.trim(Position(500)).unwrap(), Position(600));
    assert_eq!(log(&*store, 0).first().map(|entry| entry.0), Some(601));
    assert_eq!(store.trim(Position(5_000)).unwrap(), Position(1_000), "what is published at most");
    assert!(log(&*store, 0).is_empty());
    drop(early);
    for _ in 0..2 {
        drop(store);
        store = opened(folder.path(), &clock);
        assert_eq!(rows(&*store.read().unwrap()), (1..=1_000).map(|n| (n, name(n))).collect::<Vec<_>>());
        assert!(log(&*store, 0).is_empty());
    }
    store.trim(Position(1_000)).unwrap();
    assert_eq!(files(), 1, "what tables hold and was trimmed is gone");
    let usage = store.usage().unwrap();
    assert_eq!((usage.trimmed, usage.published, usage.waiting), (Position(1_000), Position(1_000), 0));
    assert!(usage.table_bytes > 0 && usage.log_bytes > 0);
    // Files are used again; what they held before is no part of what they hold.
    for n in 1_001..=1_400 {
        push(&*store, &[&name(n)]);
        if n % 100 == 0 {
            store.trim(Position(n - 50)).unwrap();
            drop(store);
            store = opened(folder.path(), &clock);
            assert_eq!(
                log(&*store, 0).iter().map(|entry| entry.0).collect::<Vec<_>>(),
                (n - 49..=n).collect::<Vec<_>>()
            );
        }
    }
    assert_eq!(rows(&*store.read().unwrap()).len(), 1_400);
}

#[test]
fn what_is_given_rises_over_restarts_whatever_the_clock_does() {
    let folder = tempfile::tempdir().unwrap();
    let clock = Hand::at(1_000_000);
    let (mut last, mut asked) = ((i64::MIN, 0), i64::MIN);
    for round in 0..6 {
        clock.set([1_000_000, 50, 2_000_000, 1_999_000, 0, 3_000_000][round]);
        let floor = Position(if round == 2 { 500 } else { 0 });
        let store = open(folder.path(), &LiveOptions { floor, ..options(&clock) }).unwrap();
        let t = store.read().unwrap().answer_time().0;
        assert!(t >= asked, "T fell from {asked} to {t}");
        let accepted = push(&*store, &["a"]);
        assert!(accepted.visible_at.0 > t && accepted.visible_at.0 > last.0);
        assert_eq!(accepted.first.0, if round == 2 { 501 } else { last.1 + 1 });
        last = (accepted.visible_at.0, accepted.first.0);
        clock.set(clock.0.load(std::sync::atomic::Ordering::SeqCst) + 70);
        asked = store.read().unwrap().answer_time().0;
        assert!(asked >= last.0, "readable by the next request");
    }
    // Closed in order, the next start is not ahead of the clock.
    clock.set(10_000_000);
    let store = opened(folder.path(), &clock);
    assert_eq!(store.read().unwrap().answer_time(), Timestamp(10_000_000));
    drop(store);
    clock.set(10_000_001);
    assert_eq!(push(&*opened(folder.path(), &clock), &["a"]).visible_at, Timestamp(10_000_001));
}

#[test]
fn a_backup_is_a_store_of_its_own() {
    let folder = tempfile::tempdir().unwrap();
    let clock = Hand::at(1_000);
    let store = opened(&folder.path().join("live"), &clock);
    for n in 0..400 {
        let name = format!("{n}{}", "x".repeat(500));
        push_as(&*store, &[&name], Some(&format!("k{n}")), Durability::Durable).unwrap();
    }
    push_versions(&*store, &[version("id", b'a', None, b"")]);
    store.trim(Position(100)).unwrap();
    let copy = folder.path().join("copy");
    std::thread::scope(|scope| {
        let pushing = scope.spawn(|| (0..200).for_each(|_| drop(push(&*store, &["later"]))));
        store.backup(&copy).unwrap();
        pushing.join().unwrap();
    });
    let refused = store.backup(&copy).unwrap_err();
    assert!(matches!(refused, Error::BackupExists { .. }), "{refused}");
    let copied = opened(&copy, &clock);
    let snapshot = copied.read().unwrap();
    let found = rows(&*snapshot);
    assert!((401..=601).contains(&found.len()), "{} rows", found.len());
    assert_eq!(found, rows(&*store.read().unwrap())[..found.len()], "a beginning of all that was accepted");
    assert_eq!(log(&*copied, 0), log(&*store, 0)[..found.len() - 100]);
    assert_eq!(chain(&*copied, "id"), "a");
    let first = format!("0{}", "x".repeat(500));
    assert!(push_as(&*copied, &[&first], Some("k0"), Durability::Durable).unwrap().repeated);
    let next = push(&*copied, &["next"]);
    assert_eq!(next.first.0, found.len() as i64 + 1);
}

#[test]
fn a_second_owner_is_refused_by_name() {
    let folder = tempfile::tempdir().unwrap();
    let clock = Hand::at(1_000);
    let store = opened(folder.path(), &clock);
    let refused = open(folder.path(), &options(&clock)).unwrap_err();
    assert!(matches!(&refused, Error::Owned { holder: Some(_), .. }), "{refused}");
    drop(store);
    opened(folder.path(), &clock);
    // A store whose sequence is gone gives nothing anew.
    std::fs::remove_file(folder.path().join("sequence")).unwrap();
    let store = open(folder.path(), &options(&clock));
    assert!(store.is_ok(), "no row was ever accepted");
    push(&*store.unwrap(), &["a"]);
    std::fs::remove_file(folder.path().join("sequence")).unwrap();
    let refused = open(folder.path(), &options(&clock)).unwrap_err();
    assert!(matches!(&refused, Error::LiveDamaged { .. }), "{refused}");
}

/// What a batch counts is as its rows are: there if it is accepted, and else not, whatever is written in between.
#[test]
fn what_is_refused_is_not_counted() {
    let folder = tempfile::tempdir().unwrap();
    let clock = Hand::at(1);
    let mut store = open(folder.path(), &options(&clock)).unwrap();
    let intake =
        Intake { source: SOURCE, rows: Incoming::Plain(1), key: None, durability: Durability::Relaxed };
    for round in 0..4 {
        push(&*store, &["a", "b"]);
        store
            .accept(&intake, &mut |_, writing| {
                writing.count(COUNTED, b"rows", 100);
                Err(Error::TooLong { what: "a row", limit: 0 })
            })
            .unwrap_err();
        // Under another name, and where no row is pushed.
        store
            .write(&mut |_, writing| {
                writing.count(COUNTED, b"steps", 2);
                writing.count(COUNTED, b"steps", 1);
                Ok(())
            })
            .unwrap();
        push(&*store, &["c"]);
        if round == 2 {
            drop(store);
            store = open(folder.path(), &options(&clock)).unwrap();
        }
    }
    let snapshot = store.read().unwrap();
    assert_eq!(rows(&*snapshot).len(), 12);
    assert_eq!(snapshot.get(COUNTED, b"steps").unwrap().unwrap(), 12_u64.to_le_bytes());
}
