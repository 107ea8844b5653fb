//! Live intake: `cargo run --release -- intake ENGINE FOLDER [ids]`, ENGINE one of redb, fjall, wal+redb,
//! wal+fjall, wal+lsm, or live, the store itself. One line of figures per engine.
//!
//! 8 clients push batches of 100 rows as fast as they are acknowledged; whoever commits takes all batches
//! that wait, makes them durable with one fsync and acknowledges them. A batch is one entry of the intake
//! log (10 kB), 100 raw rows (keys of 60 bytes, values of 100 of which half compress) and, if asked, 100
//! entries of ids. Beside it two readers scan the newest 50 rows of an entity, a thousand times a second
//! each. The store holds 1 M rows before: 20,000 entities x 50.

use std::fs::File;
use std::io::Write;
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use crate::{bytes_below, percentile, random};

pub const ENTITIES: u64 = 20_000;
pub const ROWS: u64 = 50;
pub const CLIENTS: u64 = 8;
pub const SECONDS: u64 = 10;

type Rows = Vec<(Vec<u8>, Vec<u8>)>;

trait Intake: Sync {
    /// Durable, or where a log of our own stands before it, applied.
    fn apply(&self, groups: &[Rows]);
    fn scan(&self, prefix: &[u8], rows: usize) -> usize;
    /// Now and then: what a log before it would need to be cut.
    fn keep(&self) {}
    fn settle(&self) {}
}

struct Redb(redb::Database, bool);
const ROWS_TABLE: redb::TableDefinition<'_, &[u8], &[u8]> = redb::TableDefinition::new("rows");

impl Intake for Redb {
    fn apply(&self, groups: &[Rows]) {
        let mut transaction = self.0.begin_write().unwrap();
        if self.1 {
            transaction.set_durability(redb::Durability::None).unwrap();
        }
        {
            let mut table = transaction.open_table(ROWS_TABLE).unwrap();
            for (key, value) in groups.iter().flatten() {
                table.insert(key.as_slice(), value.as_slice()).unwrap();
            }
        }
        transaction.commit().unwrap();
    }
    fn scan(&self, prefix: &[u8], rows: usize) -> usize {
        use redb::ReadableDatabase;
        let table = self.0.begin_read().unwrap().open_table(ROWS_TABLE).unwrap();
        table
            .range::<&[u8]>(prefix..)
            .unwrap()
            .map(Result::unwrap)
            .take_while(|(key, _)| key.value().starts_with(prefix))
            .take(rows)
            .map(|(_, value)| usize::from(!value.value().is_empty()))
            .sum()
    }
    fn keep(&self) {
        if self.1 {
            self.0.begin_write().unwrap().commit().unwrap();
        }
    }
}

struct Fjall(fjall::Database, fjall::Keyspace, bool);

impl Intake for Fjall {
    fn apply(&self, groups: &[Rows]) {
        let mode = if self.2 { None } else { Some(fjall::PersistMode::SyncData) };
        let mut batch = self.0.batch().durability(mode);
        for (key, value) in groups.iter().flatten() {
            batch.insert(&self.1, key.as_slice(), value.as_slice());
        }
        batch.commit().unwrap();
    }
    fn scan(&self, prefix: &[u8], rows: usize) -> usize {
        use fjall::Readable;
        let snapshot = self.0.snapshot();
        snapshot.prefix(&self.1, prefix).take(rows).map(|row| usize::from(!row.value().unwrap().is_empty())).sum()
    }
    fn settle(&self) {
        while self.0.active_compactions() > 0 || self.0.outstanding_flushes() > 0 {
            std::thread::sleep(Duration::from_millis(50));
        }
    }
}

/// The tree under fjall, without its journal.
struct Lsm {
    tree: Arc<lsm_tree::AnyTree>,
    sequence: lsm_tree::SequenceNumberCounter,
    published: AtomicU64,
    wake: Mutex<Option<Sender<()>>>,
    busy: Arc<AtomicBool>,
}

impl Lsm {
    fn open(folder: &Path) -> Lsm {
        let sequence = lsm_tree::SequenceNumberCounter::default();
        let tree = lsm_tree::Config::new(folder, sequence.clone(), lsm_tree::SequenceNumberCounter::default())
            .use_cache(Arc::new(lsm_tree::Cache::with_capacity_bytes(1 << 30)))
            .data_block_compression_policy(lsm_tree::config::CompressionPolicy::all(lsm_tree::CompressionType::Lz4))
            .open()
            .unwrap();
        let (wake, woken) = channel::<()>();
        let tree = Arc::new(tree);
        let busy = Arc::new(AtomicBool::new(false));
        let (kept, working) = (Arc::clone(&tree), Arc::clone(&busy));
        std::thread::spawn(move || {
            use lsm_tree::AbstractTree;
            let strategy = Arc::new(lsm_tree::compaction::Leveled::default());
            while woken.recv().is_ok() {
                working.store(true, Ordering::Release);
                let lock = kept.get_flush_lock();
                kept.flush(&lock, 0).unwrap();
                drop(lock);
                kept.compact(strategy.clone(), 0).unwrap();
                working.store(false, Ordering::Release);
            }
        });
        Lsm { tree, sequence, published: AtomicU64::new(0), wake: Mutex::new(Some(wake)), busy }
    }
}

impl Intake for Lsm {
    fn apply(&self, groups: &[Rows]) {
        use lsm_tree::AbstractTree;
        let sequence = self.sequence.next();
        let mut size = 0;
        // The entries of the intake log stay in the log; rows in order are found a place for faster.
        let mut rows: Vec<_> = groups.iter().flatten().filter(|(key, _)| key[3] != 1).collect();
        rows.sort_unstable();
        for (key, value) in rows {
            size = self.tree.insert(key.as_slice(), value.as_slice(), sequence).1;
        }
        self.published.store(sequence + 1, Ordering::Release);
        if size > 32 << 20 {
            self.tree.rotate_memtable();
            self.wake.lock().unwrap().as_ref().unwrap().send(()).unwrap();
        }
    }
    fn scan(&self, prefix: &[u8], rows: usize) -> usize {
        use lsm_tree::{AbstractTree, Guard};
        let at = self.published.load(Ordering::Acquire);
        self.tree.prefix(prefix, at, None).take(rows).map(|row| usize::from(!row.value().unwrap().is_empty())).sum()
    }
    fn settle(&self) {
        std::thread::sleep(Duration::from_millis(300));
        while self.busy.load(Ordering::Acquire) {
            std::thread::sleep(Duration::from_millis(50));
        }
    }
}

pub fn entity(number: u64) -> Vec<u8> {
    let mut key = vec![0, 0, 0, 7, 0, 0, 0, 1, 1, 5];
    key.extend_from_slice(&number.wrapping_mul(0x9E37_79B9_7F4A_7C15).to_be_bytes());
    key
}

pub fn raw_row(number: u64, time: u64, state: &mut u64) -> (Vec<u8>, Vec<u8>) {
    let mut key = entity(number);
    key.extend_from_slice(&(!time).to_be_bytes());
    key.extend_from_slice(&(!time).to_be_bytes());
    key.extend_from_slice(&[0xFF, 0xFF, 0xFE]);
    key.extend_from_slice(&(!time).to_be_bytes());
    key.push(1);
    while key.len() < 60 {
        key.push(random(state) as u8);
    }
    let mut value = vec![1, 0, 14, 0];
    while value.len() < 100 {
        value.extend_from_slice(&random(state).to_le_bytes());
        value.extend_from_slice(&[0; 8]);
    }
    value.truncate(100);
    (key, value)
}

fn batch(time: &AtomicU64, ids: bool, state: &mut u64) -> Rows {
    let first = time.fetch_add(100, Ordering::Relaxed);
    let mut rows: Rows = (0..100).map(|at| raw_row(random(state) % ENTITIES, first + at, state)).collect();
    let log = rows.iter().flat_map(|(_, value)| value.clone()).collect();
    rows.push(([&[0, 0, 0, 1][..], &first.to_be_bytes()].concat(), log));
    if ids {
        for at in 0..100 {
            let mut key = vec![0, 0, 0, 2, 0, 0, 0, 1];
            key.extend_from_slice(format!("order-{:016x}", random(state)).as_bytes());
            rows.push((key, [&(first + at).to_le_bytes()[..], &[9; 40]].concat()));
        }
    }
    rows
}

/// The log of our own: one write and one fsync a group.
struct Log {
    folder: std::path::PathBuf,
    file: File,
    written: u64,
    number: u64,
    buffer: Vec<u8>,
}

impl Log {
    fn open(folder: &Path) -> Log {
        let file = File::create(folder.join("0.log")).unwrap();
        Log { folder: folder.to_owned(), file, written: 0, number: 0, buffer: Vec::new() }
    }
    /// Whether a new file was begun.
    fn append(&mut self, groups: &[Rows]) -> bool {
        self.buffer.clear();
        for rows in groups {
            for (key, value) in rows {
                self.buffer.extend_from_slice(&(key.len() as u16).to_le_bytes());
                self.buffer.extend_from_slice(&(value.len() as u32).to_le_bytes());
                self.buffer.extend_from_slice(key);
                self.buffer.extend_from_slice(value);
            }
        }
        self.file.write_all(&self.buffer).unwrap();
        self.file.sync_data().unwrap();
        self.written += self.buffer.len() as u64;
        let next = self.written > 64 << 20;
        if next {
            // As if trimmed: two files stay.
            self.number += 1;
            self.written = 0;
            self.file = File::create(self.folder.join(format!("{}.log", self.number))).unwrap();
            if self.number >= 2 {
                std::fs::remove_file(self.folder.join(format!("{}.log", self.number - 2))).unwrap();
            }
        }
        next
    }
}

/// What fjall makes of a journal whose last batch, never synced, lost a page in the middle, as a power cut
/// leaves it: `cargo run --release -- torn FOLDER`.
pub fn torn(folder: &Path) {
    let mut state = 7;
    let mut write = |folder: &Path| {
        let database = fjall::Database::builder(folder).open().unwrap();
        let rows = database.keyspace("rows", fjall::KeyspaceCreateOptions::default).unwrap();
        for (number, mode) in [fjall::PersistMode::SyncAll, fjall::PersistMode::Buffer].into_iter().enumerate() {
            let mut batch = database.batch().durability(Some(mode));
            for row in 0..20_u8 {
                // As entries of the intake log are, of values that do not compress.
                let value: Vec<u8> = (0..16_384).map(|_| random(&mut state) as u8 | 1).collect();
                batch.insert(&rows, [number as u8, row], value);
            }
            batch.commit().unwrap();
        }
        let copy = folder.with_extension("copy");
        assert!(std::process::Command::new("cp").arg("-r").args([folder, &copy]).status().unwrap().success());
        copy
    };
    let copy = write(&folder.join("db"));
    let journal = copy.read_dir().unwrap().flatten().find(|it| it.path().extension().is_some_and(|it| it == "jnl"));
    let journal = journal.unwrap().path();
    let mut bytes = std::fs::read(&journal).unwrap();
    let end = bytes.iter().rposition(|byte| *byte != 0).unwrap();
    let page = (end - 30_000) / 4_096 * 4_096;
    bytes[page..page + 4_096].fill(0);
    std::fs::write(&journal, bytes).unwrap();
    match fjall::Database::builder(&copy).open() {
        Ok(database) => {
            let rows = database.keyspace("rows", fjall::KeyspaceCreateOptions::default).unwrap();
            println!("opened, {} rows", rows.len().unwrap());
        }
        Err(error) => println!("refused: {error:?}"),
    }
}

pub fn cpu_seconds() -> f64 {
    let stat = std::fs::read_to_string("/proc/self/stat").unwrap();
    let fields: Vec<&str> = stat.rsplit(')').next().unwrap().split_whitespace().collect();
    (fields[11].parse::<f64>().unwrap() + fields[12].parse::<f64>().unwrap()) / 100.0
}

pub fn run(name: &str, folder: &Path, ids: bool) {
    if name == "live" {
        return crate::live::run(folder, ids);
    }
    std::fs::create_dir_all(folder).unwrap();
    let log = name.strip_prefix("wal+");
    let store: Box<dyn Intake> = match log.unwrap_or(name) {
        "redb" => Box::new(Redb(
            redb::Builder::new().set_cache_size(1 << 30).create(folder.join("db")).unwrap(),
            log.is_some(),
        )),
        "fjall" => {
            let database = fjall::Database::builder(folder.join("db")).cache_size(1 << 30).open().unwrap();
            let rows = database.keyspace("rows", fjall::KeyspaceCreateOptions::default).unwrap();
            Box::new(Fjall(database, rows, log.is_some()))
        }
        "lsm" => Box::new(Lsm::open(&folder.join("db"))),
        other => panic!("no engine {other}"),
    };
    let mut state = 42;
    let mut order: Vec<(u64, u64)> = (0..ROWS).flat_map(|time| (0..ENTITIES).map(move |at| (at, time))).collect();
    for at in (1..order.len()).rev() {
        order.swap(at, (random(&mut state) % (at as u64 + 1)) as usize);
    }
    for chunk in order.chunks(10_000) {
        store.apply(&[chunk.iter().map(|(at, time)| raw_row(*at, *time, &mut state)).collect()]);
    }
    store.settle();
    store.keep();
    let before = bytes_below(&folder.join("db"));

    let time = AtomicU64::new(1_000_000);
    let stop = AtomicBool::new(false);
    let rows = AtomicU64::new(0);
    let (send, waiting): (Sender<(Rows, Sender<()>)>, Receiver<_>) = channel();
    let (mut scans, mut pushes) = (Vec::new(), Vec::new());
    let mut fsyncs = 0_u64;
    let used = cpu_seconds();
    let start = Instant::now();
    std::thread::scope(|scope| {
        let (store, time, stop, rows) = (store.as_ref(), &time, &stop, &rows);
        let readers: Vec<_> = (0..2_u64)
            .map(|reader| {
                scope.spawn(move || {
                    let mut state = 7 + reader;
                    let mut taken = Vec::new();
                    while !stop.load(Ordering::Relaxed) {
                        let prefix = entity(random(&mut state) % ENTITIES);
                        let start = Instant::now();
                        assert_eq!(store.scan(&prefix, 50), 50);
                        taken.push(start.elapsed().as_micros() as u64);
                        std::thread::sleep(Duration::from_millis(1));
                    }
                    taken
                })
            })
            .collect();
        let clients: Vec<_> = (0..CLIENTS)
            .map(|client| {
                let send = send.clone();
                scope.spawn(move || {
                    let mut state = 1_000 + client;
                    let mut taken = Vec::new();
                    let (acknowledge, acknowledged) = channel();
                    while !stop.load(Ordering::Relaxed) {
                        let batch = batch(time, ids, &mut state);
                        let start = Instant::now();
                        send.send((batch, acknowledge.clone())).unwrap();
                        acknowledged.recv().unwrap();
                        taken.push(start.elapsed().as_micros() as u64);
                        rows.fetch_add(100, Ordering::Relaxed);
                    }
                    taken
                })
            })
            .collect();
        drop(send);
        let mut written = log.map(|_| Log::open(folder));
        scope.spawn(move || {
            std::thread::sleep(Duration::from_secs(SECONDS));
            stop.store(true, Ordering::Relaxed);
        });
        while let Ok(first) = waiting.recv() {
            let (mut groups, mut waiters) = (vec![first.0], vec![first.1]);
            while let Ok((batch, waiter)) = waiting.try_recv() {
                groups.push(batch);
                waiters.push(waiter);
            }
            if let Some(log) = &mut written
                && log.append(&groups)
            {
                store.keep();
            }
            store.apply(&groups);
            fsyncs += 1;
            for waiter in waiters {
                waiter.send(()).ok();
            }
        }
        for reader in readers {
            scans.extend(reader.join().unwrap());
        }
        for client in clients {
            pushes.extend(client.join().unwrap());
        }
    });
    let seconds = start.elapsed().as_secs_f64();
    let cpu = cpu_seconds() - used;
    let written = rows.load(Ordering::Relaxed);
    store.settle();
    store.keep();
    let after = bytes_below(&folder.join("db"));
    scans.sort_unstable();
    pushes.sort_unstable();
    println!(
        "{name}{}: {:.0} rows/s acknowledged in {:.0} groups/s; {:.2} us of processor a row; push p50 {} p99 {} us; \
         scan of 50 p50 {} p99 {} p99.9 {} us ({} scans); {} MB before, {:.0} bytes a row after",
        if ids { " with ids" } else { "" },
        written as f64 / seconds, fsyncs as f64 / seconds, cpu * 1e6 / written as f64,
        percentile(&pushes, 0.5), percentile(&pushes, 0.99),
        percentile(&scans, 0.5), percentile(&scans, 0.99), percentile(&scans, 0.999), scans.len(),
        before >> 20, after.saturating_sub(before) as f64 / written as f64,
    );
}
