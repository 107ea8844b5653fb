//! Bounded memory: a source many times larger than what a node may take is applied, materialised and trained on, and
//! the process is no larger for it than for a source a quarter of that.

use std::io::{BufWriter, Write as _};
use std::ops::RangeInclusive;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use crate::project::Project;

const DEFINITIONS: &str = "\
entity: item
keys: {item: int64}
---
source: in_place
path: data/*.csv
event_time: {column: at, unit: s}
---
source: kept
path: data/*.csv
store: true
event_time: {column: at, unit: s}
---
view: newest
entity: item
source: in_place
features: {note: note, price: price}
---
view: newest_kept
entity: item
source: kept
features: {note: note, price: price}
";

/// What a node is told it may take.
const MEMORY: u64 = 16 << 20;
/// About 80 MB.
const ROWS: u64 = 800_000;
const ITEMS: u64 = 2_000;

/// A file of so many rows; its bytes.
fn write(to: &Path, rows: u64) -> u64 {
    std::fs::create_dir_all(to.parent().unwrap()).unwrap();
    let mut file = BufWriter::new(std::fs::File::create(to).unwrap());
    writeln!(file, "item,at,price,note").unwrap();
    for n in 0..rows {
        // Items come in no order, and what is written of each never repeats.
        let mixed = n.wrapping_mul(0x9e37_79b9_7f4a_7c15) ^ (n << 7);
        let item = mixed % ITEMS;
        writeln!(
            file,
            "{item},{n},{}.5,{mixed:020} {:020} {:020} {:020}",
            n % 1_000,
            !mixed,
            mixed / 3,
            mixed / 7
        )
        .unwrap();
    }
    file.flush().unwrap();
    to.metadata().unwrap().len()
}

/// Runs a command; the most memory that it ever had, in bytes.
fn peak(project: &Project, args: &[&str]) -> u64 {
    peak_of(project.command(args))
}

fn peak_of(mut command: Command) -> u64 {
    let mut child = command
        .env("ASOF_MEMORY", format!("{}MB", MEMORY >> 20))
        // What is asked for is measured, and not what the allocator keeps for a while of what was given back.
        .env("MIMALLOC_PURGE_DELAY", "0")
        .stdout(Stdio::null())
        .spawn()
        .unwrap();
    let status = format!("/proc/{}/status", child.id());
    let mut most = 0;
    loop {
        let ended = child.try_wait().unwrap();
        let text = std::fs::read_to_string(&status).unwrap_or_default();
        let line = text.lines().find_map(|line| line.strip_prefix("VmHWM:"));
        let kilobytes = line.and_then(|line| line.trim().trim_end_matches(" kB").parse::<u64>().ok());
        most = most.max(kilobytes.unwrap_or(0) << 10);
        if let Some(ended) = ended {
            assert!(ended.success(), "{command:?}");
            return most;
        }
        std::thread::sleep(Duration::from_millis(2));
    }
}

#[test]
fn what_a_source_holds_is_not_what_a_node_takes() {
    let mut found: Vec<Vec<(&str, u64)>> = Vec::new();
    let mut sizes = Vec::new();
    for rows in [ROWS / 4, ROWS] {
        let project = Project::empty();
        project.write("asof.yaml", "project: shop\n");
        project.write("features/shop.yaml", DEFINITIONS);
        sizes.push(write(&project.path().join("data/a.csv"), rows));
        let mut peaks = vec![("apply", peak(&project, &["apply", "--yes"]))];
        for view in ["newest", "newest_kept"] {
            if view == "newest_kept" {
                peaks.push(("load", peak(&project, &["load", "kept"])));
            }
            peaks.push((view, peak(&project, &["materialize", view])));
            // What comes to a view that answers is staged first and then merged.
            let more = project.path().join("data/b.csv");
            if view == "newest" {
                write(&more, rows / 2);
                peaks.push(("merge", peak(&project, &["materialize", view])));
                std::fs::remove_file(&more).unwrap();
            }
        }
        found.push(peaks);
    }
    assert!(sizes[1] > 4 * MEMORY, "{sizes:?}");
    let told: Vec<String> = found[0]
        .iter()
        .zip(&found[1])
        .map(|((what, small), (_, large))| {
            format!(
                "{what}: {} MB of {} MB, {} MB of {} MB",
                small >> 20,
                sizes[0] >> 20,
                large >> 20,
                sizes[1] >> 20
            )
        })
        .collect();
    println!("{}", told.join("\n"));
    for ((what, small), (_, large)) in found[0].iter().zip(&found[1]) {
        assert!(*large < small + (32 << 20), "{what} grows with its source:\n{}", told.join("\n"));
    }
}

const VISITS: &str = "\
entity: item
keys: {item: int64}
---
source: visits
path: data/*.csv
event_time: {column: at, unit: s}
---
view: visited
entity: item
source: visits
windows: [7d]
features:
  pages: {agg: count_distinct(page)}
  places: {agg: count_distinct(place)}
  phones: {agg: count_distinct(phone)}
  people: {agg: count_distinct(person)}
---
service: visiting
features: [visited.*]
";

/// The most memory that training takes over so many visits of so many items, for a spine that has each item at the begins
/// of these days, by so many threads.
fn training((rows, items): (u64, u64), days: RangeInclusive<u64>, threads: u64) -> u64 {
    let project = Project::empty();
    project.write("asof.yaml", "project: shop\n");
    project.write("features/shop.yaml", VISITS);
    std::fs::create_dir_all(project.path().join("data")).unwrap();
    let mut file = BufWriter::new(std::fs::File::create(project.path().join("data/a.csv")).unwrap());
    writeln!(file, "item,at,page,place,phone,person").unwrap();
    for n in 0..rows {
        let (item, at, mixed) = (n % items, n % 600_000, n.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 40);
        writeln!(file, "{item},{at},{mixed},{},{n},{}", mixed ^ 77, n ^ 1).unwrap();
    }
    file.flush().unwrap();
    let mut spine = String::from("item,at\n");
    for day in days {
        for item in 0..items {
            spine.push_str(&format!("{item},1970-01-{day:02}T00:00:00Z\n"));
        }
    }
    project.write("spine.csv", &spine);
    project.well(&["apply", "--yes"]);
    let train = ["train", "visiting", "--spine", "spine.csv", "--out", "out.parquet"];
    let mut command = project.command(&train);
    command.env("ASOF_THREADS", threads.to_string());
    peak_of(command)
}

/// Rows whose values are counted by how many differ are listed before they are counted, and lists are no part of the
/// states that a spine of this size is known to need: with memory for all of them, 800,000 rows took 46 MB more than
/// 200,000.
#[test]
fn rows_that_are_listed_for_windows_are_bounded() {
    let found = [ROWS / 4, ROWS].map(|rows| training((rows, ITEMS), 1..=10, 2));
    let told = found.map(|bytes| bytes >> 20);
    println!("train: {told:?} MB");
    assert!(found[1] < found[0] + (32 << 20), "training grows with its source: {told:?} MB");
}

/// Where slots are few, rows leave their lists for states that hold each value: 300,000 rows took 186 MB more than 50,000.
#[test]
fn values_that_states_hold_for_windows_are_bounded() {
    // One thread has all slots in one list.
    let found = [ROWS / 16, ROWS * 3 / 8].map(|rows| training((rows, ITEMS / 4), 8..=8, 1));
    let told = found.map(|bytes| bytes >> 20);
    println!("train: {told:?} MB");
    // A list becomes states at once, before these are found too many.
    assert!(found[1] < found[0] + (64 << 20), "training grows with its source: {told:?} MB");
}
