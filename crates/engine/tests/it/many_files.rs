//! Sources of more files than a process may open.

use std::process::Command;
use std::sync::Arc;

use arrow::array::{ArrayRef, Int64Array, RecordBatch};
use asof_engine::Error;
use asof_engine::source::ScanColumns;
use asof_model::{Format, Place, SourceVersion};

use crate::project::{Folder, all, columns, files, said, version};

/// How many files the tests have, and how many the processes that read them may open.
const FILES: i64 = 90;
const LIMIT: usize = 64;

fn one(number: i64) -> RecordBatch {
    let numbers = Int64Array::from(vec![number, -number]);
    RecordBatch::try_from_iter([("n", Arc::new(numbers) as ArrayRef)]).unwrap()
}

fn with_files(format: Format) -> (Folder, SourceVersion) {
    let folder = Folder::new();
    for number in 0..FILES {
        match format {
            Format::Parquet => folder.parquet(&format!("data/{number:03}.parquet"), 10, &[one(number)]),
            Format::Csv => {
                folder.write(&format!("data/{number:03}.csv"), format!("n\n{number}\n-{number}\n"))
            }
            _ => folder.write(
                &format!("data/{number:03}.ndjson"),
                format!("{{\"n\":{number}}}\n{{\"n\":-{number}}}\n"),
            ),
        }
    }
    let source = files("s", &format!("data/*.{}", format.name()), format);
    (folder, version(source, columns(&[("n", "int64")])))
}

/// Runs a test of this program as a process that may open few files.
fn limited(test: &str) {
    let output = Command::new("sh")
        .args(["-c", &format!("ulimit -n {LIMIT} && exec \"$@\""), "sh"])
        .arg(std::env::current_exe().unwrap())
        .args([&format!("many_files::{test}"), "--exact", "--nocapture", "--test-threads", "1"])
        .output()
        .unwrap();
    let told = [output.stdout.as_slice(), &output.stderr].concat();
    let told = String::from_utf8_lossy(&told);
    assert!(output.status.success() && told.contains("1 passed"), "{told}");
}

#[test]
fn more_files_than_may_be_open_are_read() {
    limited("files_are_read");
}

/// On its own it has room for all files, so [`more_files_than_may_be_open_are_read`] says what it shows.
#[test]
fn files_are_read() {
    for format in [Format::Parquet, Format::Csv, Format::Ndjson] {
        let (folder, source) = with_files(format);
        let scan = folder.scan(&source, &ScanColumns { address: true, ..all() }).unwrap();
        let read = folder.collect(&scan).unwrap();
        assert_eq!(read.num_rows() as i64, 2 * FILES, "{format:?}");
        scan.verify().unwrap();
        if let Some(fetch) = &scan.fetch {
            let addresses: Vec<u64> = (0..FILES as u64).map(|file| (file << 40) | 1).collect();
            let mut batches = Vec::new();
            let mut take = |rows| {
                batches.push(rows);
                Ok(())
            };
            fetch.fetch(&addresses, &["n".to_owned()], &mut take).unwrap();
            let rows = arrow::compute::concat_batches(&batches[0].schema(), &batches).unwrap();
            let wanted: Vec<i64> = (0..FILES).map(|number| -number).collect();
            assert_eq!(rows.column(0).as_ref(), &Int64Array::from(wanted), "{format:?}");
        }
    }
}

#[test]
fn a_file_that_is_opened_again_must_be_what_it_was() {
    limited("files_are_swapped");
}

/// With few files open, what was swapped is not there any more, and the scan says so; with many, it reads
/// what it opened, and says so at its end.
#[test]
fn files_are_swapped() {
    for format in [Format::Parquet, Format::Csv, Format::Ndjson] {
        for swap in ["replace", "write", "remove"] {
            let (folder, source) = with_files(format);
            let scan = folder.scan(&source, &all()).unwrap();
            let Place::Files { path, .. } = &source.definition.place else { panic!("files") };
            let path = folder.root().join(path.replace('*', "000"));
            match swap {
                "replace" => {
                    std::fs::copy(&path, folder.root().join("new")).unwrap();
                    std::fs::rename(folder.root().join("new"), &path).unwrap();
                }
                "write" => {
                    let was = std::fs::read(&path).unwrap();
                    let more: &[u8] = if format == Format::Csv { b"7\n" } else { b"{\"n\":7}\n" };
                    std::fs::write(&path, [was.as_slice(), more].concat()).unwrap();
                }
                _ => std::fs::remove_file(&path).unwrap(),
            }
            let ended = folder.collect(&scan).map(drop).and_then(|()| scan.verify()).unwrap_err();
            assert!(matches!(ended, Error::Changed { .. }), "{format:?} {swap}: {}", said(&ended));
        }
    }
}
