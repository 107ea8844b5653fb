//! Which embedded engine for the online store: `cargo run --release -- ENGINE FOLDER`, ENGINE one of
//! fjall, redb, lmdb. One line of figures per engine. Live intake is measured by `intake` ([`intake`]).
//!
//! The data is the store's own: 5 views x 100,000 entities x 4 rows, keys of 54 bytes laid out as
//! `docs/formats/online-store.md` has them, values of 200 bytes of which half compress. Rows come in
//! random order of entities, in durable batches of 20,000, as a materialisation writes them.

mod engines;
mod intake;
mod live;

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use engines::{Engine, open};

const VIEWS: u64 = 5;
const ENTITIES: u64 = 100_000;
const VERSIONS: u64 = 4;
const BATCH: usize = 20_000;
const SECONDS: u64 = 12;

/// The one that asof itself runs on.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn random(state: &mut u64) -> u64 {
    *state ^= *state << 13;
    *state ^= *state >> 7;
    *state ^= *state << 17;
    *state
}

fn prefix(view: u64, entity: u64) -> Vec<u8> {
    let mut key = (view as u32).to_be_bytes().to_vec();
    key.extend_from_slice(&[1, 5]);
    key.extend_from_slice(&entity.wrapping_mul(0x9E37_79B9_7F4A_7C15).to_be_bytes());
    key
}

fn row_key(view: u64, entity: u64, time: u64) -> Vec<u8> {
    let mut key = prefix(view, entity);
    key.extend_from_slice(&(!time).to_be_bytes());
    key.extend_from_slice(&(!time).to_be_bytes());
    key.extend_from_slice(&[0xFF, 0xFF, 0xFF, 1]);
    let mut state = time ^ entity.rotate_left(32) | 1;
    key.extend_from_slice(&random(&mut state).to_be_bytes());
    key.extend_from_slice(&random(&mut state).to_be_bytes());
    key
}

fn value(seed: u64) -> Vec<u8> {
    let mut state = seed | 1;
    let mut value = vec![1, 0, 14, 0];
    while value.len() < 200 {
        value.extend_from_slice(&random(&mut state).to_le_bytes());
        value.extend_from_slice(&[0; 8]);
    }
    value.truncate(200);
    value
}

fn percentile(sorted: &[u64], of: f64) -> u64 {
    sorted[((sorted.len() - 1) as f64 * of) as usize]
}

fn bytes_below(path: &Path) -> u64 {
    let Ok(entries) = path.read_dir() else { return path.metadata().map_or(0, |m| m.len()) };
    entries
        .flatten()
        .map(|entry| {
            let path = entry.path();
            if path.is_dir() {
                bytes_below(&path)
            } else {
                use std::os::unix::fs::MetadataExt;
                path.metadata().map_or(0, |m| m.blocks() * 512)
            }
        })
        .sum()
}

/// 100 entities of 5 views, the first row at or before a time; microseconds it took.
fn read(engine: &dyn Engine, state: &mut u64, entities: u64) -> u64 {
    let start = Instant::now();
    let starts: Vec<(usize, Vec<u8>)> = (0..VIEWS)
        .flat_map(|view| (0..entities).map(move |at| (view, at)))
        .map(|(view, _)| {
            let mut start = prefix(view, random(state) % ENTITIES);
            let length = start.len();
            start.extend_from_slice(&(!u64::MAX).to_be_bytes());
            (length, start)
        })
        .collect();
    let mut sum = 0_usize;
    let found = engine.first_from(&starts, &mut |value| sum += usize::from(value[10]));
    assert_eq!(found, starts.len(), "every entity has a row");
    std::hint::black_box(sum);
    start.elapsed().as_nanos() as u64 / 1_000
}

/// Reads for so long; sorted microseconds.
fn read_for(engine: &dyn Engine, seconds: u64, entities: u64, seed: u64) -> Vec<u64> {
    let end = Instant::now() + Duration::from_secs(seconds);
    let mut state = seed | 1;
    let mut taken = Vec::new();
    while Instant::now() < end {
        taken.push(read(engine, &mut state, entities));
    }
    taken.sort_unstable();
    taken
}

/// Events: new rows of some entities, in one durable commit.
fn write_events(engine: &dyn Engine, state: &mut u64, time: u64, events: u64) {
    let rows: Vec<(Vec<u8>, Vec<u8>)> = (0..events)
        .map(|at| {
            let entity = random(state) % ENTITIES;
            (row_key(random(state) % VIEWS, entity, 1_000_000 + time * events + at), value(random(state)))
        })
        .collect();
    engine.commit(rows);
}

fn main() {
    let mut args = std::env::args().skip(1).peekable();
    if args.next_if(|arg| arg == "torn").is_some() {
        return intake::torn(&PathBuf::from(args.next().unwrap()));
    }
    if args.next_if(|arg| arg == "intake").is_some() {
        let (name, folder) = (args.next().unwrap(), PathBuf::from(args.next().unwrap()));
        return intake::run(&name, &folder, args.next().as_deref() == Some("ids"));
    }
    let (name, folder) = (args.next().unwrap(), PathBuf::from(args.next().unwrap()));
    if args.next().as_deref() == Some("--die") {
        // The child of the reopening: commits, then ends without closing anything.
        let engine = open(&name, &folder);
        let mut state = 77;
        for time in 0..50 {
            write_events(engine.as_ref(), &mut state, 5_000_000 + time, 10);
        }
        std::process::abort();
    }

    let engine = open(&name, &folder);
    let mut order: Vec<(u64, u64, u64)> = (0..VERSIONS)
        .flat_map(|version| (0..VIEWS).flat_map(move |view| (0..ENTITIES).map(move |entity| (version, view, entity))))
        .collect();
    let mut state = 42;
    for at in (1..order.len()).rev() {
        order.swap(at, (random(&mut state) % (at as u64 + 1)) as usize);
    }
    let start = Instant::now();
    for chunk in order.chunks(BATCH) {
        let mut rows: Vec<(Vec<u8>, Vec<u8>)> = chunk
            .iter()
            .map(|(version, view, entity)| (row_key(*view, *entity, *version), value(random(&mut state))))
            .collect();
        rows.sort_unstable();
        engine.commit(rows);
    }
    let load = start.elapsed();
    engine.settle();
    let settled = start.elapsed();
    let size = bytes_below(&folder);
    drop(order);

    // Warm, then quiet.
    read_for(engine.as_ref(), 3, 100, 5);
    let quiet = read_for(engine.as_ref(), 5, 100, 7);
    let single = read_for(engine.as_ref(), 3, 1, 8);

    let start = Instant::now();
    let snapshots = 200_000;
    for _ in 0..snapshots {
        engine.snapshot();
    }
    let snapshot = start.elapsed().as_nanos() as u64 / snapshots;

    // Events as fast as they are durable, one at a time, with reads beside them.
    let stop = AtomicBool::new(false);
    let commits = AtomicU64::new(0);
    let mut written = Vec::new();
    let beside = std::thread::scope(|scope| {
        let writer = scope.spawn(|| {
            let mut taken = Vec::new();
            let mut state = 99;
            let mut time = 0;
            while !stop.load(Ordering::Relaxed) {
                let start = Instant::now();
                write_events(engine.as_ref(), &mut state, time, 1);
                taken.push(start.elapsed().as_micros() as u64);
                commits.fetch_add(1, Ordering::Relaxed);
                time += 1;
            }
            taken
        });
        let beside = read_for(engine.as_ref(), SECONDS, 100, 11);
        stop.store(true, Ordering::Relaxed);
        written = writer.join().unwrap();
        beside
    });
    written.sort_unstable();
    let after = bytes_below(&folder);
    drop(engine);

    let died = std::process::Command::new(std::env::current_exe().unwrap())
        .args([name.as_str(), folder.to_str().unwrap(), "--die"])
        .stderr(std::process::Stdio::null())
        .status()
        .unwrap();
    assert!(!died.success());
    let start = Instant::now();
    let engine = open(&name, &folder);
    read(engine.as_ref(), &mut state, 1);
    let reopened = start.elapsed();
    drop(engine);

    let memory = std::fs::read_to_string("/proc/self/status")
        .unwrap_or_default()
        .lines()
        .find_map(|line| line.strip_prefix("VmHWM:").map(|rest| rest.trim().to_owned()))
        .unwrap_or_default();
    println!(
        "{name}: load {:.1} s (settled {:.1} s), {} MB then {} MB; 500 rows quiet p50 {} us p99 {} us; 5 rows p50 {} us p99 {} us; \
         500 rows beside commits p50 {} us p99 {} us p99.9 {} us ({} reads/s); {} commits/s p50 {} us p99 {} us; snapshot {} ns; \
         reopened after abort {:.2} s; peak memory {memory}",
        load.as_secs_f64(), settled.as_secs_f64(), size >> 20, after >> 20,
        percentile(&quiet, 0.5), percentile(&quiet, 0.99), percentile(&single, 0.5), percentile(&single, 0.99),
        percentile(&beside, 0.5), percentile(&beside, 0.99), percentile(&beside, 0.999), beside.len() as u64 / SECONDS,
        commits.load(Ordering::Relaxed) / SECONDS, percentile(&written, 0.5), percentile(&written, 0.99),
        snapshot, reopened.as_secs_f64(),
    );
}
