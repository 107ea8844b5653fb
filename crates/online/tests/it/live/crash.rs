//! Kill -9 in the middle of pushes: no acknowledged batch is lost, none is doubled, none is half there.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::Duration;

use asof_compute::Position;
use asof_online::live::{Durability, LiveStore, open};
use asof_testkit::{Child, kill_rounds};

use super::{Hand, log, opened, options, push_as, rows};

const FOLDER: &str = "ASOF_TEST_FOLDER";
const ACKNOWLEDGED: &str = "ASOF_TEST_ACKNOWLEDGED";
const WRITERS: usize = 4;

/// The child's work: writers push batches of three rows, each under a key of its own, again when it is not
/// known whether it was accepted; one reads and trims.
#[test]
#[ignore = "run by `acknowledged_pushes_survive_kill_9` as its child"]
fn pushes_until_killed() {
    #[expect(clippy::disallowed_methods, reason = "the parent test hands the folder over")]
    let folder = std::env::var(FOLDER).unwrap();
    // Each start a little before the one before: what is given must rise all the same.
    let store = open(folder.as_ref(), &options(&Hand::at(1_000_000))).unwrap();
    let done = by_writer(&*store);
    std::thread::scope(|scope| {
        for writer in 0..WRITERS {
            let (store, next) = (&store, done.get(&writer).copied().unwrap_or(0));
            scope.spawn(move || {
                // The one that is there may not have been acknowledged: sent again, it is there once.
                for n in next.. {
                    let names = [0, 1, 2].map(|row| name(writer, n, row));
                    let names: Vec<&str> = names.iter().map(String::as_str).collect();
                    let key = format!("{writer} {n}");
                    push_as(&**store, &names, Some(&key), Durability::Durable).unwrap();
                    println!("\nacknowledged {writer}-{n}");
                }
            });
        }
        scope.spawn(|| {
            for _ in 0.. {
                let t = store.read().unwrap().answer_time().0;
                println!("\nanswered {t}");
                let end = store.log().unwrap().end();
                store.trim(Position(end.0 - 500)).unwrap();
                std::thread::sleep(Duration::from_millis(2));
            }
        });
    });
}

fn name(writer: usize, n: u64, row: usize) -> String {
    format!("{writer} {n} {row} {}", "x".repeat(150))
}

/// The last batch of each writer. All before it are there, once, whole, in order.
fn by_writer(store: &dyn LiveStore) -> BTreeMap<usize, u64> {
    let mut last: BTreeMap<usize, u64> = BTreeMap::new();
    let mut halves: BTreeMap<usize, (u64, usize)> = BTreeMap::new();
    let snapshot = store.read().unwrap();
    for (at, (position, name)) in rows(&*snapshot).into_iter().enumerate() {
        assert_eq!(position, at as i64 + 1, "positions have no gaps");
        let parts: Vec<u64> = name.split(' ').take(3).map(|part| part.parse().unwrap()).collect();
        let [writer, n, row] = parts[..] else { panic!("{name}") };
        let writer = writer as usize;
        let (expected, expected_row) = halves.get(&writer).copied().unwrap_or((0, 0));
        assert_eq!((n, row as usize), (expected, expected_row), "writer {writer}: lost or doubled");
        halves.insert(writer, if row == 2 { (n + 1, 0) } else { (n, row as usize + 1) });
        last.insert(writer, n);
    }
    assert!(halves.values().all(|(_, row)| *row == 0), "a batch is half there");
    // The log says the same, from where it was trimmed.
    let trimmed = store.log().unwrap().trimmed().0;
    let names: Vec<(i64, String)> = rows(&*snapshot);
    let mut next = None;
    for (first, count, text) in log(store, trimmed) {
        assert_eq!((count, first), (3, next.unwrap_or(first)), "entries follow each other");
        next = Some(first + 3);
        for (row, line) in text.lines().enumerate() {
            assert_eq!(names[(first - 1) as usize + row].1, line);
        }
    }
    assert!(next.is_none_or(|next| next == snapshot.position().0 + 1), "up to the last row");
    assert!(next.is_some() || trimmed >= snapshot.position().0, "from where it was trimmed");
    last
}

#[test]
fn acknowledged_pushes_survive_kill_9() {
    let folder = tempfile::tempdir().unwrap();
    let mut highest: BTreeMap<usize, u64> = BTreeMap::new();
    let mut total = 0;
    let mut asked = i64::MIN;
    for round in 0_u64.. {
        if round >= kill_rounds() && total > 400 {
            break;
        }
        assert!(round < 10 * kill_rounds(), "the child hardly ran: {total} batches");
        if round % 40 == 39 {
            // So that rounds stay short: what is there was looked at.
            std::fs::remove_dir_all(folder.path()).unwrap();
            (highest, asked) = (BTreeMap::new(), i64::MIN);
        }
        let environment = [(FOLDER, folder.path().as_os_str())];
        let child = Child::begin("live::crash::pushes_until_killed", &environment).unwrap();
        std::thread::sleep(Duration::from_micros(15_000 + round * 7_919 % (45_000 + 700 * round.min(500))));
        let mut acknowledged: BTreeMap<usize, u64> = BTreeMap::new();
        for line in child.kill().unwrap() {
            if let Some(said) = line.strip_prefix("acknowledged ")
                && let Some((writer, n)) = said.split_once('-')
                && let (Ok(writer), Ok(n)) = (writer.parse(), n.parse())
            {
                acknowledged.insert(writer, n);
            }
            if let Some(Ok(t)) = line.strip_prefix("answered ").map(str::parse::<i64>) {
                asked = asked.max(t);
            }
        }

        // Opened with a clock that was set back.
        let clock = Hand::at(1_000_000 - round as i64);
        let store = opened(folder.path(), &clock);
        assert!(store.read().unwrap().answer_time().0 >= asked, "round {round}: T fell");
        let done = by_writer(&*store);
        for (writer, n) in highest.iter().chain(&acknowledged) {
            assert!(done.get(writer).is_some_and(|done| done >= n), "round {round}: {writer} {n} is lost");
        }
        for (writer, n) in &done {
            // One batch of each may be there and not acknowledged.
            let known = acknowledged.get(writer).or(highest.get(writer)).map_or(0, |known| known + 1);
            assert!(*n <= known, "round {round}: {writer} {n} was never sent");
        }
        total += acknowledged.values().sum::<u64>();
        highest = done;
    }
}

/// What a campaign asks of the copy of a disk.
#[test]
#[ignore = "run by `cargo xtask campaign power-loss`"]
fn verify() {
    #[expect(
        clippy::disallowed_methods,
        reason = "the campaign hands over the folder and what was acknowledged"
    )]
    let (folder, acknowledged) = (std::env::var(FOLDER).unwrap(), std::env::var(ACKNOWLEDGED).unwrap());
    let store = opened(Path::new(&folder), &Hand::at(1));
    let done = by_writer(&*store);
    for said in acknowledged.split(',').filter_map(|said| said.split_once('-')) {
        let (writer, n): (usize, u64) = (said.0.parse().unwrap(), said.1.parse().unwrap());
        assert!(done.get(&writer).is_some_and(|done| *done >= n), "{writer} {n} was acknowledged");
    }
}
