//! What only the inside can show: the moment between a write and its fsync, an fsync that fails, a log that
//! was cut or damaged. On real files; only the fsync is held up or fails.

use std::fs::File;
use std::path::Path;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex};
use std::time::Duration;

use asof_compute::RowDigest;
use asof_model::{Clock, Timestamp};

use super::engine::Live;
use super::log::Fsync;
use super::record::RecordOf;
use super::*;
use crate::Error;

const TABLE: TableNumber = TableNumber::new(1).unwrap();

#[derive(Debug)]
struct Hand(AtomicI64);

impl Clock for Hand {
    fn now(&self) -> Timestamp {
        Timestamp(self.0.load(Ordering::SeqCst))
    }
}

fn clock(at: i64) -> Arc<Hand> {
    Arc::new(Hand(AtomicI64::new(at)))
}

fn options(clock: &Arc<Hand>) -> LiveOptions {
    let clock: Arc<dyn Clock> = Arc::clone(clock) as _;
    LiveOptions { cache: 1 << 20, memory: 1 << 20, ..LiveOptions::new(clock) }
}

fn real() -> Fsync {
    Arc::new(File::sync_data)
}

/// Pushes one row `name`, stored under its name with its `v`.
fn push(store: &dyn LiveStore, name: &str, durability: Durability) -> Result<Accepted> {
    let intake = Intake { source: SourceNumber(1), rows: Incoming::Plain(1), key: None, durability };
    store.accept(&intake, &mut |given, writing| {
        writing.rows().extend_from_slice(name.as_bytes());
        writing.put(TABLE, name.as_bytes(), &given.visible_at.0.to_be_bytes())
    })
}

/// Names and their `v`, as a request sees them at its T.
fn seen(store: &dyn LiveStore) -> (i64, Vec<(String, i64)>) {
    let snapshot = store.read().unwrap();
    let mut rows = Vec::new();
    snapshot
        .scan(TABLE, b"", None, Direction::Forward, &mut |key, value| {
            rows.push((
                String::from_utf8(key.to_vec()).unwrap(),
                i64::from_be_bytes(value.try_into().unwrap()),
            ));
            Ok(true)
        })
        .unwrap();
    (snapshot.answer_time().0, rows)
}

/// An fsync that waits while the gate is shut, and counts.
#[derive(Default)]
struct Gate {
    shut: Mutex<bool>,
    opened: Condvar,
    /// Those that began.
    begun: AtomicU64,
}

impl Gate {
    fn fsync(self: &Arc<Gate>) -> Fsync {
        let gate = Arc::clone(self);
        Arc::new(move |file: &File| {
            gate.begun.fetch_add(1, Ordering::SeqCst);
            let mut shut = gate.shut.lock().unwrap();
            while *shut {
                shut = gate.opened.wait(shut).unwrap();
            }
            drop(shut);
            file.sync_data()
        })
    }

    fn shut(&self, shut: bool) {
        *self.shut.lock().unwrap() = shut;
        self.opened.notify_all();
    }

    /// Waits for an fsync past so many to begin.
    fn begun_past(&self, count: u64) {
        while self.begun.load(Ordering::SeqCst) <= count {
            std::thread::sleep(Duration::from_millis(1));
        }
    }
}

/// Memory is not ended, so that no table knows it, before the log has what it holds.
#[test]
fn tables_never_know_what_the_log_may_lose() {
    let folder = tempfile::tempdir().unwrap();
    let (hand, gate) = (clock(1_000), Arc::new(Gate::default()));
    let store = Live::open(folder.path(), &options(&hand), &gate.fsync()).unwrap();
    let begun = gate.begun.load(Ordering::SeqCst);
    gate.shut(true);
    let opened = Opened(&gate);
    let intake = Intake {
        source: SourceNumber(1),
        rows: Incoming::Plain(1),
        key: None,
        durability: Durability::Relaxed,
    };
    let more_than_memory = vec![b'x'; 2 << 20];
    let accepted =
        store.accept(&intake, &mut |_, writing| writing.put(TABLE, b"long", &more_than_memory)).unwrap();
    assert!(!accepted.durable);
    // What ends memory asks for the log to be durable, and waits.
    gate.begun_past(begun);
    let held = store.usage().unwrap();
    assert!(held.memory_bytes > 2 << 20 && held.table_bytes == 0, "{held:?}");
    assert_eq!(store.shared.tree.waiting(), 0, "not ended yet");
    drop(opened);
    while store.usage().unwrap().table_bytes == 0 {
        std::thread::sleep(Duration::from_millis(1));
    }
}

/// Opens the gate with whatever ends a test, so that its store can close.
struct Opened<'a>(&'a Gate);

impl Drop for Opened<'_> {
    fn drop(&mut self) {
        self.0.shut(false);
    }
}

fn waiting(store: &Live) -> usize {
    store.usage().unwrap().waiting
}

/// A request between the write of a batch and its fsync stands one microsecond before the batch, does not
/// see it, and no batch gets a v at or before its T; after the fsync the next request sees all.
#[test]
fn a_request_between_write_and_fsync_does_not_see_the_batch() {
    let folder = tempfile::tempdir().unwrap();
    let (hand, gate) = (clock(1_000), Arc::new(Gate::default()));
    let store = Live::open(folder.path(), &options(&hand), &gate.fsync()).unwrap();
    let first = push(&store, "a", Durability::Durable).unwrap();
    assert_eq!((first.visible_at.0, first.first.0, first.durable), (1_000, 1, true));
    hand.0.store(2_000, Ordering::SeqCst);
    assert_eq!(seen(&store), (2_000, vec![("a".to_owned(), 1_000)]));
    let begun = gate.begun.load(Ordering::SeqCst);
    gate.shut(true);
    std::thread::scope(|scope| {
        let second = scope.spawn(|| push(&store, "b", Durability::Durable).unwrap());
        gate.begun_past(begun);
        assert!(!second.is_finished(), "not acknowledged before the fsync");
        hand.0.store(5_000, Ordering::SeqCst);
        assert_eq!(seen(&store), (2_000, vec![("a".to_owned(), 1_000)]), "one microsecond before 2001");
        let third = scope.spawn(|| push(&store, "c", Durability::Durable).unwrap());
        while waiting(&store) < 2 {
            std::thread::yield_now();
        }
        assert_eq!(seen(&store).0, 2_000);
        assert_eq!(store.log().unwrap().end().0, 1, "the log is what is published");
        gate.shut(false);
        assert_eq!(second.join().unwrap().visible_at.0, 2_001);
        assert_eq!(third.join().unwrap().visible_at.0, 5_000);
    });
    let rows = [("a", 1_000), ("b", 2_001), ("c", 5_000)].map(|(name, v)| (name.to_owned(), v));
    assert_eq!(seen(&store), (5_000, rows.to_vec()));
    // The rows as they are stored say the same at every T that was answered: those with v <= T were seen.
    drop(store);
    let store = Live::open(folder.path(), &options(&hand), &gate.fsync()).unwrap();
    let stored = seen(&store).1;
    for (t, names) in [(2_000, &["a"][..]), (5_000, &["a", "b", "c"])] {
        let known: Vec<&str> =
            stored.iter().filter(|(_, v)| *v <= t).map(|(name, _)| name.as_str()).collect();
        assert_eq!(known, names, "as of {t}");
    }
}

/// A version that equals one which still waits for its fsync is the same as that, and acknowledged no sooner.
#[test]
fn an_equal_version_waits_for_the_one_on_its_way() {
    let folder = tempfile::tempdir().unwrap();
    let (hand, gate) = (clock(1_000), Arc::new(Gate::default()));
    let store = Live::open(folder.path(), &options(&hand), &gate.fsync()).unwrap();
    let send = |content: u8| {
        let version = Some(IncomingVersion {
            id: b"x",
            visible_at: None,
            order_by: b"",
            digest: RowDigest([content; 16]),
            event_time: Timestamp(1),
            content: [content; 16],
            kept: b"",
        });
        let intake = Intake {
            source: SourceNumber(1),
            rows: Incoming::Versions(&[version]),
            key: None,
            durability: Durability::Durable,
        };
        let accepted = store.accept(&intake, &mut |given, writing| {
            given.rows.iter().try_for_each(|row| writing.put(TABLE, &row.position.0.to_be_bytes(), b"row"))
        });
        accepted.unwrap()
    };
    // So that T may be answered while no fsync ends.
    seen(&store);
    let begun = gate.begun.load(Ordering::SeqCst);
    gate.shut(true);
    std::thread::scope(|scope| {
        let first = scope.spawn(|| send(1));
        gate.begun_past(begun);
        let again = scope.spawn(|| send(1));
        let other = scope.spawn(|| {
            while waiting(&store) < 2 {
                std::thread::yield_now();
            }
            send(2)
        });
        while waiting(&store) < 3 {
            std::thread::yield_now();
        }
        assert!(![&first, &again, &other].into_iter().any(|it| it.is_finished()), "none before the fsync");
        assert!(store.read().unwrap().versions(SourceNumber(1), b"x").unwrap().is_empty());
        gate.shut(false);
        let (first, again, other) = (first.join().unwrap(), again.join().unwrap(), other.join().unwrap());
        assert_eq!((first.count, first.first.0, first.already_there), (1, 1, vec![]));
        assert_eq!((again.count, again.already_there), (0, vec![0]));
        assert_eq!((other.count, other.first.0, other.already_there), (1, 2, vec![]));
    });
    let kept = store.read().unwrap().versions(SourceNumber(1), b"x").unwrap();
    assert_eq!(kept.iter().map(|version| version.content[0]).collect::<Vec<_>>(), [1, 2]);
}

#[test]
fn many_writers_share_an_fsync() {
    let folder = tempfile::tempdir().unwrap();
    let (hand, gate) = (clock(1_000), Arc::new(Gate::default()));
    let store = Live::open(folder.path(), &options(&hand), &gate.fsync()).unwrap();
    let begun = gate.begun.load(Ordering::SeqCst);
    gate.shut(true);
    std::thread::scope(|scope| {
        let pushes: Vec<_> = (0..40)
            .map(|n| {
                let store = &store;
                scope.spawn(move || push(store, &format!("{n:02}"), Durability::Durable).unwrap())
            })
            .collect();
        while waiting(&store) < 40 {
            std::thread::yield_now();
        }
        gate.shut(false);
        let mut given: Vec<_> = pushes
            .into_iter()
            .map(|push| push.join().unwrap())
            .map(|it| (it.first.0, it.visible_at.0))
            .collect();
        given.sort_unstable();
        assert_eq!(given, (0..40).map(|n| (n + 1, 1_000 + n)).collect::<Vec<_>>());
    });
    let fsyncs = gate.begun.load(Ordering::SeqCst) - begun;
    assert!(fsyncs <= 3, "{fsyncs} fsyncs for 40 batches");
    assert_eq!(seen(&store).1.len(), 40);
}

#[test]
fn a_relaxed_batch_does_not_wait_and_a_durable_one_does() {
    let folder = tempfile::tempdir().unwrap();
    let (hand, gate) = (clock(1_000), Arc::new(Gate::default()));
    let store = Live::open(folder.path(), &options(&hand), &gate.fsync()).unwrap();
    // So that T may be answered while no fsync ends.
    seen(&store);
    gate.shut(true);
    let relaxed = push(&store, "a", Durability::Relaxed).unwrap();
    assert!(!relaxed.durable);
    assert_eq!(seen(&store).1.len(), 1, "readable by the next request");
    std::thread::scope(|scope| {
        let durable = scope.spawn(|| push(&store, "b", Durability::Durable).unwrap());
        let log = scope.spawn(|| store.log().unwrap().end().0);
        std::thread::sleep(Duration::from_millis(50));
        assert!(!durable.is_finished());
        assert!(!log.is_finished(), "what is handed on is durable");
        gate.shut(false);
        assert!(durable.join().unwrap().durable);
        assert!(log.join().unwrap() >= 1);
    });
}

#[test]
fn more_than_may_wait_is_refused_as_busy() {
    let folder = tempfile::tempdir().unwrap();
    let (hand, gate) = (clock(1_000), Arc::new(Gate::default()));
    let options = LiveOptions { waiting: 400, ..options(&hand) };
    let store = Live::open(folder.path(), &options, &gate.fsync()).unwrap();
    gate.shut(true);
    std::thread::scope(|scope| {
        let store = &store;
        let pushes: Vec<_> = (0..20)
            .map(|n| scope.spawn(move || push(store, &format!("{n:02}"), Durability::Durable)))
            .collect();
        // All have been put behind the fsync, or refused.
        while pushes.iter().filter(|push| push.is_finished()).count() + waiting(store) < 20 {
            std::thread::yield_now();
        }
        gate.shut(false);
        let answers: Vec<_> = pushes.into_iter().map(|push| push.join().unwrap()).collect();
        let accepted = answers.iter().filter(|answer| answer.is_ok()).count();
        assert!((1..20).contains(&accepted), "{accepted} of 20");
        for refused in answers.into_iter().filter_map(Result::err) {
            let Error::Busy { retry_after, waiting, .. } = refused else { panic!("{refused}") };
            assert!(waiting >= 400 && retry_after > Duration::ZERO);
        }
        assert_eq!(seen(store).1.len(), accepted, "nothing accepted is dropped, nothing refused is there");
        push(store, "again", Durability::Durable).unwrap();
    });
}

/// Whichever fsync fails: nothing is acknowledged after it, and opened again the store has each
/// acknowledged row once, and what it gives on rises.
#[test]
fn after_a_failed_fsync_nothing_is_acknowledged() {
    let mut failed_pushes = 0;
    for failing in 1.. {
        let folder = tempfile::tempdir().unwrap();
        let calls = Arc::new(AtomicU64::new(0));
        let count = Arc::clone(&calls);
        let fsync: Fsync = Arc::new(move |file: &File| {
            if count.fetch_add(1, Ordering::SeqCst) + 1 == failing {
                return Err(std::io::Error::from_raw_os_error(5));
            }
            file.sync_data()
        });
        let hand = clock(1_000);
        // Files of the log end often, memory is written often.
        let options = LiveOptions { memory: 20_000, log_file: 20_000, ..options(&hand) };
        let (mut acknowledged, mut stopped, mut last_t) = (Vec::new(), false, i64::MIN);
        match Live::open(folder.path(), &options, &fsync) {
            Err(error) => assert!(matches!(error, Error::Io { .. }), "{error}"),
            Ok(store) => {
                for n in 0..50 {
                    hand.0.fetch_add(300_000, Ordering::SeqCst);
                    if n == 30 {
                        store.trim(Position(15)).ok();
                    }
                    let name = format!("{n:03}{}", "x".repeat(1_200));
                    match push(&store, &name, Durability::Durable) {
                        Ok(accepted) => {
                            assert!(!stopped, "fsync {failing}: acknowledged after a failure");
                            acknowledged.push((name, accepted.visible_at.0));
                        }
                        Err(Error::Stopped { .. }) => {
                            failed_pushes += u64::from(!stopped);
                            stopped = true;
                        }
                        Err(error) => panic!("fsync {failing}: {error}"),
                    }
                    if let Ok(snapshot) = store.read() {
                        last_t = snapshot.answer_time().0;
                    } else {
                        stopped = true;
                    }
                }
                // One that fails beside the last push is noticed a moment later. One that is not called yet may
                // be at any moment, also while the store is closed. Reads do not tell: what they need may be
                // on disk already.
                let mut looks = 0;
                while !stopped && calls.load(Ordering::SeqCst) >= failing {
                    assert!(looks < 1_000, "fsync {failing} went unnoticed");
                    looks += 1;
                    std::thread::sleep(Duration::from_millis(5));
                    stopped = matches!(store.trim(Position(0)), Err(Error::Stopped { .. }));
                }
            }
        }
        let made = calls.load(Ordering::SeqCst);
        // Opened again, with a clock that was set back.
        hand.0.store(500, Ordering::SeqCst);
        let store = Live::open(folder.path(), &options, &real()).unwrap();
        let (t, rows) = seen(&store);
        assert!(t >= last_t, "fsync {failing}: T fell from {last_t} to {t}");
        for (name, v) in &acknowledged {
            let found: Vec<_> = rows.iter().filter(|(found, _)| found == name).collect();
            assert!(matches!(found[..], [(_, at)] if at == v), "fsync {failing}: {v} was acknowledged");
        }
        assert!(rows.len() <= acknowledged.len() + 1, "fsync {failing}");
        let after = push(&store, "after", Durability::Durable).unwrap();
        assert!(rows.iter().all(|(_, v)| *v < after.visible_at.0) && after.visible_at.0 > last_t);
        if made < failing {
            assert!(failed_pushes > 30, "{failed_pushes} of {failing}");
            break;
        }
    }
}

fn only_log(folder: &Path) -> std::path::PathBuf {
    let mut files: Vec<_> =
        folder.join("log").read_dir().unwrap().map(|entry| entry.unwrap().path()).collect();
    files.retain(|path| path.extension().is_some_and(|ending| ending == "log"));
    assert_eq!(files.len(), 1);
    files.pop().unwrap()
}

/// As the process leaves it that is killed: nothing is closed.
fn killed(folder: &Path, rows: usize) {
    let hand = clock(1_000);
    let store = Live::open(folder, &options(&hand), &real()).unwrap();
    for n in 0..rows {
        push(&store, &format!("{n:02}"), Durability::Durable).unwrap();
    }
    copy_store(folder, &folder.join("copy"));
}

fn copy_store(folder: &Path, copy: &Path) {
    std::fs::create_dir(copy).unwrap();
    for name in ["log", "tables"] {
        asof_testkit::copy_folder(&folder.join(name), &copy.join(name)).unwrap();
    }
    std::fs::copy(folder.join("sequence"), copy.join("sequence")).unwrap();
}

/// A crash leaves T where it may have been answered, ahead of the clock; the next one leaves it no further ahead.
#[test]
fn crashes_do_not_add_up_to_a_time_ahead_of_the_clock() {
    let folder = tempfile::tempdir().unwrap();
    let hand = clock(1_000_000_000);
    let (mut last_v, mut last_t) = (0, 0);
    for life in 0..10 {
        let now = hand.0.fetch_add(10_000, Ordering::SeqCst) + 10_000;
        let path = folder.path().join(life.to_string());
        let store = Live::open(&path, &options(&hand), &real()).unwrap();
        let durability = if life % 2 == 0 { Durability::Durable } else { Durability::Relaxed };
        for n in 0..3 {
            let v = push(&store, &format!("{life} {n}"), durability).unwrap().visible_at.0;
            let (t, rows) = seen(&store);
            assert!(v > last_v.max(last_t) && t >= v && t >= last_t, "{life}: {v} and {t} rise");
            assert_eq!(rows.len(), 3 * life + n + 1, "what is acknowledged is readable");
            assert!(t - now <= super::engine::LEASE + 100, "{life}: {} ahead of the clock", t - now);
            (last_v, last_t) = (v, t);
        }
        // What the keeper does of its own does not lead further either.
        std::thread::sleep(Duration::from_millis(300));
        copy_store(&path, &folder.path().join((life + 1).to_string()));
    }
    // Once the clock has passed it, all is as it was.
    hand.0.fetch_add(super::engine::LEASE + 1_000, Ordering::SeqCst);
    let store = Live::open(&folder.path().join("10"), &options(&hand), &real()).unwrap();
    assert_eq!(seen(&store).0, hand.0.load(Ordering::SeqCst));
}

/// What the last write left half done is cut off; what was acknowledged before it stays, and the next opening
/// goes on from there.
#[test]
fn a_torn_end_is_cut_off() {
    let folder = tempfile::tempdir().unwrap();
    killed(folder.path(), 5);
    let path = folder.path().join("copy");
    let log = only_log(&path);
    let whole = std::fs::read(&log).unwrap();
    let sizes: Vec<usize> = {
        let mut at = log::header(log::Before { number: 1, s: Position(0), v: Timestamp(0) }).len();
        let mut ends = vec![at];
        while let Some((_, size)) = record::Record::read(&whole[at..]) {
            at += size;
            ends.push(at);
        }
        assert_eq!((ends.len(), at), (6, whole.len()));
        ends
    };
    let hand = clock(1);
    for cut in (sizes[3]..whole.len()).step_by(7) {
        // Cut off, and with zeros or noise where the rest should be.
        for rest in [vec![], vec![0; 300], vec![0xA5; 300]] {
            std::fs::write(&log, [&whole[..cut], &rest].concat()).unwrap();
            let expected = sizes.iter().filter(|end| **end <= cut).count() - 1;
            let store = Live::open(&path, &options(&hand), &real()).unwrap();
            assert_eq!(seen(&store).1.len(), expected, "cut at {cut}");
            let accepted = push(&store, "next", Durability::Durable).unwrap();
            assert_eq!(accepted.first.0, expected as i64 + 1);
            drop(store);
            // Tables know the log's end now: back to what was killed.
            std::fs::remove_dir_all(path.join("tables")).unwrap();
        }
    }
}

/// A record that was known to be durable and is not what was written is damage, not an end.
#[test]
fn damage_before_the_end_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    killed(folder.path(), 5);
    let path = folder.path().join("copy");
    let log = only_log(&path);
    let whole = std::fs::read(&log).unwrap();
    let head = log::header(log::Before { number: 1, s: Position(0), v: Timestamp(0) }).len();
    let (_, size) = record::Record::read(&whole[head..]).unwrap();
    // The last record of all may be one that was never acknowledged.
    for at in head..head + 4 * size {
        let mut broken = whole.clone();
        broken[at] ^= 4;
        std::fs::write(&log, &broken).unwrap();
        let refused = Live::open(&path, &options(&clock(1)), &real()).unwrap_err();
        assert!(matches!(&refused, Error::LiveDamaged { .. }), "byte {at}: {refused}");
    }
    let mut broken = whole.clone();
    broken[head - 20] ^= 4;
    std::fs::write(&log, &broken).unwrap();
    assert!(Live::open(&path, &options(&clock(1)), &real()).is_err(), "its header");
    std::fs::write(&log, &whole).unwrap();
    assert_eq!(seen(&Live::open(&path, &options(&clock(1)), &real()).unwrap()).1.len(), 5);
}

#[test]
fn a_newer_format_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("store");
    drop(Live::open(&path, &options(&clock(1)), &real()).unwrap());
    let file = path.join("sequence");
    let mut bytes = std::fs::read(&file).unwrap();
    for at in [0, 4096] {
        bytes[at + 7] = 9;
        let checksum = xxhash_rust::xxh3::xxh3_64(&bytes[at..at + 32]).to_le_bytes();
        bytes[at + 32..at + 40].copy_from_slice(&checksum);
    }
    std::fs::write(&file, bytes).unwrap();
    let refused = Live::open(&path, &options(&clock(1)), &real()).unwrap_err();
    assert!(matches!(refused, Error::Newer { found: 9, known: 1, .. }), "{refused}");
    std::fs::remove_file(file).unwrap();
    // Without it there is nothing but an empty log: a store that was being made.
    drop(Live::open(&path, &options(&clock(1)), &real()).unwrap());
}

/// Answers to keys past their time are swept, in steps; one given anew for the same key stays.
#[test]
fn keys_past_their_time_are_swept() {
    let folder = tempfile::tempdir().unwrap();
    let hand = clock(1_000);
    let store = Live::open(folder.path(), &options(&hand), &real()).unwrap();
    let send = |key: usize| {
        let key = format!("{key}");
        let intake = Intake {
            source: SourceNumber(1),
            rows: Incoming::Plain(1),
            key: Some(IdempotencyKey { key: &key, content: [1; 32] }),
            durability: Durability::Relaxed,
        };
        store.accept(&intake, &mut |_, _| Ok(())).unwrap()
    };
    let keys = keys::STEP + 200;
    for key in 0..keys {
        assert_eq!(send(key).visible_at.0, 1_000 + key as i64);
    }
    // All but the last are over.
    hand.0.store(1_000 + keys::KEPT + keys as i64 - 2, Ordering::SeqCst);
    assert!(!send(5).repeated);
    assert_eq!(intake::sweep(&store.shared).unwrap(), keys::STEP);
    assert_eq!(intake::sweep(&store.shared).unwrap(), 199);
    assert_eq!(intake::sweep(&store.shared).unwrap(), 0);
    assert!(send(5).repeated && send(keys - 1).repeated, "given anew, and not over");
    assert!(!send(6).repeated);
}

/// A sweep that comes when who writes the log has ended is told so: the close that waits for its end would else wait
/// for ever.
#[test]
fn a_sweep_under_a_close_ends() {
    let folder = tempfile::tempdir().unwrap();
    let store = Live::open(folder.path(), &options(&clock(1_000)), &real()).unwrap();
    let shared = Arc::clone(&store.shared);
    drop(store);
    let sweep = std::thread::spawn(move || intake::sweep(&shared));
    for _ in 0..1_000 {
        if sweep.is_finished() {
            assert!(matches!(sweep.join().unwrap(), Err(Error::Stopped { .. })));
            return;
        }
        std::thread::sleep(Duration::from_millis(10));
    }
    panic!("it waits for an answer that nobody gives");
}

/// A key that is too long to be there is not there; the longest that fits is.
#[test]
fn keys_of_any_length_can_be_asked_for() {
    let folder = tempfile::tempdir().unwrap();
    let store = Live::open(folder.path(), &options(&clock(1)), &real()).unwrap();
    let longest = vec![b'k'; LONGEST_KEY];
    store.write(&mut |_, writing| writing.put(TABLE, &longest, b"there")).unwrap();
    let too_long = store.write(&mut |_, writing| writing.put(TABLE, &[&longest[..], b"k"].concat(), b""));
    assert!(matches!(too_long, Err(Error::TooLong { limit: LONGEST_KEY, .. })), "{too_long:?}");
    let snapshot = store.read().unwrap();
    let scanned = |prefix: &[u8], from: Option<&[u8]>| {
        let mut found = 0;
        let mut each = |_: &[u8], _: &[u8]| {
            found += 1;
            Ok(true)
        };
        for direction in [Direction::Forward, Direction::Backward] {
            snapshot.scan(TABLE, prefix, from, direction, &mut each).unwrap();
        }
        found
    };
    for more in [0, 1, 32, 36, 37, 70_000] {
        let key = [&longest[..], &vec![b'k'; more]].concat();
        let expected = (more == 0).then(|| b"there".to_vec());
        assert_eq!(snapshot.get(TABLE, &key).unwrap(), expected, "{more}");
        assert_eq!(scanned(&key, None), if more == 0 { 2 } else { 0 }, "{more}");
        assert!(snapshot.versions(SourceNumber(1), &key).unwrap().is_empty());
    }
}

/// Publishing waits for memory to be written, which waits for an fsync of what is relaxed: under more than
/// memory takes, nothing waits for itself.
#[test]
fn relaxed_batches_past_what_memory_takes_go_on() {
    let folder = tempfile::tempdir().unwrap();
    let hand = clock(1_000);
    let options = LiveOptions { memory: 1, log_file: 2_000, ..options(&hand) };
    let store = Live::open(folder.path(), &options, &real()).unwrap();
    std::thread::scope(|scope| {
        for writer in 0..8 {
            let store = &store;
            scope.spawn(move || {
                for n in 0..40 {
                    push(store, &format!("{writer}{n:02}"), Durability::Relaxed).unwrap();
                }
            });
        }
    });
    assert_eq!(seen(&store).1.len(), 320);
    assert_eq!(store.log().unwrap().end().0, 320);
}

/// What stands in files of format 1 loads forever, and is written as before.
#[test]
fn format_1_loads() {
    use asof_compute::RowDigest;

    let stored = include_str!("../../tests/compat/live-store-1.txt");
    let field = |name: &str| -> Vec<u8> {
        let text = stored.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(": "));
        let text = text.unwrap_or_else(|| panic!("no {name}"));
        (0..text.len() / 2).map(|at| u8::from_str_radix(&text[2 * at..2 * at + 2], 16).unwrap()).collect()
    };
    let (v, s) = (Timestamp(1_370_044_800_000_000), Position(41));

    let kept = lease::Kept { lease: v, trimmed: Position(7) };
    assert_eq!(lease::newest(&field("slot")).unwrap(), (3, kept));
    assert_eq!(lease::slot(3, kept), field("slot"), "written as before");

    let before = log::Before { number: 9, s: Position(40), v: Timestamp(-1) };
    assert_eq!(log::read_header(&field("header")).unwrap(), Some(before));
    assert_eq!(log::header(before), field("header"), "written as before");

    let mut writing = Writing::default();
    writing.rows().extend_from_slice(b"two rows");
    writing.put(TABLE, b"key", b"value").unwrap();
    writing.put_if_absent(TABLE, b"new", b"first").unwrap();
    writing.remove(TABLE, b"gone").unwrap();
    let mut written = writing.record(RecordOf::Intake(SourceNumber(3), v, s, 2)).unwrap();
    record::seal(&mut written, 9, 8);
    let bytes = field("record");
    let (read, length) = record::Record::read(&bytes).unwrap();
    assert_eq!((length, read.number, read.entries().count()), (bytes.len(), 9, 3));
    let expected = LogEntry { source: SourceNumber(3), visible_at: v, first: s, count: 2, rows: b"two rows" };
    assert_eq!(read.intake(), Some(expected));
    assert_eq!(written, bytes, "written as before");

    let version = Version {
        visible_at: v,
        order_by: vec![1, 0, 255].into(),
        position: s,
        digest: RowDigest(*b"0123456789abcdef"),
        event_time: Timestamp(-5),
        content: *b"fedcba9876543210",
        kept: b"kept".as_slice().into(),
    };
    assert_eq!(versions::read(&field("version")).as_ref(), Some(&version));
    let mut value = Vec::new();
    versions::put(&mut value, &version);
    assert_eq!(value, field("version"), "written as before");
    let id = versions::id_key(SourceNumber(3), b"a\0b");
    assert_eq!(id, field("id"), "found as before");
    assert_eq!(
        versions::rest_key(&id, &versions::order_key(&version)),
        field("version key"),
        "found as before"
    );
    assert_eq!(version_key_length(b"a\0b", &version.order_by), field("version key").len());

    let key = IdempotencyKey { key: "k", content: [7; 32] };
    let accepted = Accepted {
        visible_at: v,
        first: s,
        count: 2,
        already_there: vec![1, 258],
        repeated: false,
        durable: true,
    };
    let answer = keys::Answer::new(&key, &accepted);
    assert_eq!(keys::Answer::read(&field("answer")), Some(answer.clone()));
    assert_eq!(answer.bytes(), field("answer"), "written as before");
    assert_eq!(keys::key_of(SourceNumber(3), "k"), field("key"), "found as before");
}
