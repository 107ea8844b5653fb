//! Loads killed at random moments, and what a load asks of the disk.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Arc;

use arrow::array::{ArrayRef, AsArray, Int64Array, RecordBatch, StringArray, TimestampMicrosecondArray};
use arrow::datatypes::Int64Type;
use asof_engine::delta::{LoadFile, OnBadRow};
use asof_engine::{Engine, EngineConfig, no_progress};
use asof_model::{Format, SourceVersion};
use asof_testkit::{is_permitted, kill_rounds};
use deltalake_core::DeltaTableBuilder;
use rand::Rng;

use crate::project::{at, columns, files, version};

const FILES: usize = 12;

fn source() -> SourceVersion {
    let mut source = files("events", "*.parquet", Format::Parquet);
    source.store = true;
    source.event_time = at("at");
    version(source, columns(&[("at", "timestamp"), ("file", "string"), ("n", "int64")]))
}

fn rows_of(file: usize) -> i64 {
    // From files of one commit's size to some of several row groups.
    [10, 1, 0, 3_000, 500, 20_000, 7, 7, 4_000, 100, 60_000, 2][file]
}

fn make_files(folder: &Path) {
    std::fs::create_dir_all(folder).unwrap();
    for file in 0..FILES {
        let rows = rows_of(file);
        let batch = RecordBatch::try_from_iter([
            ("at", Arc::new(TimestampMicrosecondArray::from_iter_values(0..rows)) as ArrayRef),
            ("file", Arc::new(StringArray::from(vec![format!("f{file:02}"); rows as usize]))),
            ("n", Arc::new(Int64Array::from_iter_values(0..rows))),
        ])
        .unwrap();
        let out = std::fs::File::create(folder.join(format!("f{file:02}.parquet"))).unwrap();
        let mut writer = parquet::arrow::ArrowWriter::try_new(out, batch.schema(), None).unwrap();
        writer.write(&batch).unwrap();
        writer.close().unwrap();
    }
}

fn engine(data: &Path) -> Engine {
    Engine::new(EngineConfig {
        data_dir: data.to_owned(),
        memory: 256 << 20,
        threads: 2,
        code_version: "test".to_owned(),
    })
    .unwrap()
}

/// Loads every file, saying so after each acknowledgement.
async fn load_all(folder: &Path, out: &mut impl Write) {
    let engine = engine(&folder.join("data"));
    let source = source();
    let standing = crate::project::standing(&source);
    for file in 0..FILES {
        let name = format!("f{file:02}.parquet");
        let file = LoadFile { path: folder.join("files").join(&name), name, partitions: Vec::new() };
        let done = engine
            .load(&source, std::slice::from_ref(&file), OnBadRow::Stop, &[], &standing, &no_progress())
            .await
            .unwrap();
        writeln!(out, "\nacknowledged {} {}", done[0].name, done[0].loaded_before).unwrap();
        out.flush().unwrap();
    }
}

#[expect(clippy::disallowed_methods, reason = "how a test hands its folder to the process it starts")]
fn asked_folder() -> Option<PathBuf> {
    std::env::var_os("ASOF_TEST_FOLDER").map(PathBuf::from)
}

/// Not a test of its own: what the tests below start as a process and kill.
#[test]
fn child() {
    let Some(folder) = asked_folder() else { return };
    if !folder.join("files").exists() {
        make_files(&folder.join("files"));
    }
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(load_all(&folder, &mut std::io::stdout()));
}

/// Not a test of its own: what a campaign asks of the copy of a disk.
#[test]
fn verify() {
    let (Some(folder), Some(acknowledged)) = (asked_folder(), asked_files()) else { return };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let found = runtime.block_on(check(&folder.join("data")));
    for name in acknowledged.split(',').filter(|name| !name.is_empty()) {
        let file = name.trim_end_matches(".parquet");
        let rows = rows_of(file[1..].parse().unwrap());
        assert_eq!(found.get(file).copied().unwrap_or(0), rows, "{name} was acknowledged");
    }
}

#[expect(clippy::disallowed_methods, reason = "how a campaign says what was acknowledged")]
fn asked_files() -> Option<String> {
    std::env::var("ASOF_TEST_ACKNOWLEDGED").ok()
}

fn child_command(program: &[&str], folder: &Path) -> Command {
    let this = std::env::current_exe().unwrap();
    let mut command = match program {
        [] => Command::new(this),
        [first, rest @ ..] => {
            let mut command = Command::new(first);
            command.args(rest).arg(this);
            command
        }
    };
    command
        .args(["load_kill::child", "--exact", "--nocapture", "--test-threads", "1"])
        .env("ASOF_TEST_FOLDER", folder)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    command
}

/// The folder of the source's one table.
fn table_folder(data: &Path) -> Option<PathBuf> {
    let entries = std::fs::read_dir(data.join("offline/shop/events")).ok()?;
    let mut folders = entries.flatten().map(|entry| entry.path()).filter(|path| path.is_dir());
    let found = folders.next();
    assert!(folders.next().is_none(), "one family, one table");
    found.filter(|folder| folder.join("_delta_log/00000000000000000000.json").exists())
}

/// Reads the table as any engine would; how many rows each file has, having checked that what is there
/// is whole, once, and in dense positions in the order of each file.
async fn check(data: &Path) -> BTreeMap<String, i64> {
    let mut found: BTreeMap<String, i64> = BTreeMap::new();
    let Some(folder) = table_folder(data) else { return found };
    let url = url::Url::from_directory_path(&folder).unwrap();
    let table = DeltaTableBuilder::from_url(url).unwrap().load().await.unwrap();
    let session = datafusion::prelude::SessionContext::new();
    session.register_table("t", table.table_provider().await.unwrap()).unwrap();
    let sql = "select cast(file as varchar), n, seq from t order by seq";
    let batches = session.sql(sql).await.unwrap().collect().await.unwrap();
    let mut expected = 1;
    for batch in &batches {
        let batch_files = arrow::compute::cast(batch.column(0), &arrow::datatypes::DataType::Utf8).unwrap();
        let batch_files = batch_files.as_string::<i32>();
        let n = batch.column(1).as_primitive::<Int64Type>();
        let seq = batch.column(2).as_primitive::<Int64Type>();
        for row in 0..batch.num_rows() {
            assert_eq!(seq.value(row), expected, "positions are dense and unique");
            expected += 1;
            let count = found.entry(batch_files.value(row).to_owned()).or_default();
            assert_eq!(n.value(row), *count, "rows of a file stand in its order, once");
            *count += 1;
        }
    }
    for (file, rows) in &found {
        let number: usize = file[1..].parse().unwrap();
        assert_eq!(*rows, rows_of(number), "file {file} is whole or not there");
    }
    let position = engine(data).position(&source()).await.unwrap().unwrap_or(0);
    assert_eq!(position, expected - 1);
    found
}

#[tokio::test]
async fn a_kill_at_any_moment_loses_nothing_and_shows_nothing_half_done() {
    // How long a load of everything takes here decides when to kill one.
    let mut folder = tempfile::tempdir().unwrap();
    make_files(&folder.path().join("files"));
    let begun = std::time::Instant::now();
    assert!(child_command(&[], folder.path()).output().unwrap().status.success());
    let longest = begun.elapsed();
    assert_eq!(check(&folder.path().join("data")).await.len(), FILES - 1, "one file has no rows");
    folder = tempfile::tempdir().unwrap();
    make_files(&folder.path().join("files"));
    let (mut killed, mut completed, mut acknowledged) = (0_u64, 0, Vec::new());
    let mut round = 0_u64;
    while killed < kill_rounds() {
        round += 1;
        assert!(
            round < kill_rounds() * 4,
            "{killed} kills in {round} rounds: loads end before they are killed"
        );
        let mut child = child_command(&[], folder.path()).spawn().unwrap();
        std::thread::sleep(longest.mul_f64(rand::rng().random_range(0.0..0.9)));
        child.kill().unwrap();
        for line in BufReader::new(child.stdout.take().unwrap()).lines() {
            if let Some(rest) = line.unwrap().strip_prefix("acknowledged ") {
                let (name, before) = rest.split_once(' ').unwrap();
                let known = acknowledged.contains(&name.to_owned());
                assert!(!known || before == "true", "round {round}: {name} was loaded twice");
                if !known {
                    acknowledged.push(name.to_owned());
                }
            }
        }
        let status = child.wait().unwrap();
        killed += u64::from(!status.success());
        let found = check(&folder.path().join("data")).await;
        for name in &acknowledged {
            let file = name.trim_end_matches(".parquet");
            let rows = rows_of(file[1..].parse().unwrap());
            assert_eq!(found.get(file).copied().unwrap_or(0), rows, "round {round}: {name} was acknowledged");
        }
        if acknowledged.len() == FILES {
            // Everything is in: nothing of what killed loads left is there after one more load.
            load_all(folder.path(), &mut Vec::new()).await;
            leftovers(&folder.path().join("data")).await;
            completed += 1;
            acknowledged.clear();
            folder = tempfile::tempdir().unwrap();
            make_files(&folder.path().join("files"));
        }
    }
    println!("{killed} kills, {completed} tables completed");
}

/// Every data file of the folder is named by the table.
async fn leftovers(data: &Path) {
    let folder = table_folder(data).unwrap();
    let url = url::Url::from_directory_path(&folder).unwrap();
    let table = DeltaTableBuilder::from_url(url).unwrap().load().await.unwrap();
    let mut named: Vec<String> =
        table.snapshot().unwrap().log_data().iter().map(|file| file.path().to_string()).collect();
    named.sort();
    let mut there: Vec<String> = std::fs::read_dir(&folder)
        .unwrap()
        .flatten()
        .filter(|entry| entry.path().is_file())
        .map(|entry| entry.file_name().into_string().unwrap())
        .collect();
    there.sort();
    assert_eq!(there, named);
    let log = std::fs::read_dir(folder.join("_delta_log")).unwrap().flatten();
    for name in log.map(|entry| entry.file_name().into_string().unwrap()) {
        assert!(!name.contains('#'), "{name} is a temporary file");
    }
}

/// Every file that gets its name is on disk before, and its folder's entry after, whatever wrote it.
#[test]
fn a_commit_syncs_its_files_and_their_folders() {
    // The checks of the project install it; some machines let nobody trace.
    if !is_permitted("strace", &["-o", "/dev/null", "true"]) {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    make_files(&folder.path().join("files"));
    let trace = folder.path().join("trace");
    let calls = "trace=fsync,fdatasync,link,linkat,rename,renameat,renameat2,mkdir,mkdirat";
    let program = ["strace", "-f", "-y", "-s", "400", "-e", calls, "-o", trace.to_str().unwrap()];
    let output = child_command(&program, folder.path()).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let text = std::fs::read_to_string(&trace).unwrap();
    let calls: Vec<&str> = text.lines().filter(|line| line.contains("/data/offline")).collect();
    let synced = |from: usize, to: usize, path: &str| {
        calls[from..to].iter().any(|call| call.contains("sync(") && call.contains(&format!("{path}>")))
    };
    let (mut data, mut log) = (0, 0);
    for (at, call) in calls.iter().enumerate() {
        let paths: Vec<&str> = call.split('"').skip(1).step_by(2).collect();
        if call.contains("mkdir") {
            let parent = Path::new(paths[0]).parent().unwrap().to_str().unwrap();
            if !parent.contains("/data/offline") {
                continue;
            }
            assert!(synced(at, calls.len(), parent), "the new folder {} is not synced", paths[0]);
        }
        if !(call.contains("link") || call.contains("rename")) || call.contains("unlink") {
            continue;
        }
        let [from, to] = paths[..] else { panic!("{call}") };
        let parent = Path::new(to).parent().unwrap().to_str().unwrap();
        assert!(synced(0, at, from), "{to} gets its name before its content is on disk");
        assert!(synced(at, calls.len(), parent), "the folder of {to} is not synced");
        data += usize::from(to.ends_with(".parquet") && !to.contains("_delta_log"));
        log += usize::from(to.contains("_delta_log") && to.ends_with(".json"));
    }
    let data_folder = folder.path().join("data").display().to_string();
    for above in [folder.path().display().to_string(), data_folder] {
        let entry = format!("{above}>");
        assert!(text.lines().any(|line| line.contains("sync(") && line.contains(&entry)), "{above}");
    }
    // Eleven files have rows; the table's making is a commit too.
    assert!(data >= FILES - 1, "{data} data files\n{text}");
    assert!(log > FILES, "{log} commits\n{text}");
}
