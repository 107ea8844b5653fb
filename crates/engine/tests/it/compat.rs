//! Stored tables of every format that was ever written load forever (`docs/formats/stored-source.md`).

use std::path::PathBuf;

use asof_engine::delta::{LoadFile, OnBadRow};
use asof_engine::no_progress;
use asof_engine::source::ScanColumns;
use asof_model::{Format, SourceVersion};
use asof_testkit::copy_folder;

use crate::project::{Folder, at, columns, expression, files, table, version};

/// The source as it stood when the tables were written. Never change it.
fn source() -> SourceVersion {
    let mut source = files("events", "data/*.csv", Format::Csv);
    source.store = true;
    source.event_time = at("at");
    source.available_at = at("seen");
    source.delete_when = Some(expression("op = 'gone'"));
    let kinds = [
        ("at", "timestamp"),
        ("seen", "timestamp"),
        ("op", "string"),
        ("small", "uint8"),
        ("large", "uint64"),
        ("exact", "decimal(10,2)"),
        ("who", "uuid"),
        ("day", "date"),
        ("good", "bool"),
    ];
    version(source, columns(&kinds))
}

const FIRST: &str = "at,seen,op,small,large,exact,who,day,good\n\
    2024-01-01T10:00:00Z,2024-01-02,new,255,18446744073709551615,-12.34,123e4567-e89b-12d3-a456-426614174000,2024-02-29,true\n\
    1969-12-31T23:59:59.999999Z,,gone,,,,,,\n";
const SECOND: &str = "at,seen,op,small,large,exact,who,day,good\n2024-01-03,2024-01-03,late,1,2,3,,,false\n";

fn kept() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/compat/stored-source-1")
}

fn load(folder: &Folder, name: &str, text: &str) -> Option<(i64, i64)> {
    folder.write(name, text);
    let file = LoadFile { path: folder.root().join(name), name: name.to_owned(), partitions: Vec::new() };
    let quiet = no_progress();
    let files = [file];
    let source = source();
    let standing = crate::project::standing(&source);
    let done = folder.engine.load(&source, &files, OnBadRow::Stop, &[], &standing, &quiet);
    folder.runtime.block_on(done).unwrap()[0].positions
}

/// Writes the kept table anew, for a new format: run it by name, and keep the folder's old ones.
#[test]
#[ignore = "makes a file that must never change"]
fn make_stored_source() {
    let folder = Folder::new();
    load(&folder, "data/first.csv", FIRST);
    let offline = folder.root().join(".asof/offline/shop/events");
    for entry in std::fs::read_dir(offline).unwrap().flatten().filter(|entry| entry.path().is_dir()) {
        copy_folder(&entry.path(), &kept().join(entry.file_name())).unwrap();
    }
}

#[test]
fn stored_source_1_loads_and_goes_on() {
    let folder = Folder::new();
    copy_folder(&kept(), &folder.root().join(".asof/offline/shop/events")).unwrap();
    assert_eq!(load(&folder, "data/other.csv", FIRST), None, "it was loaded before");
    assert_eq!(load(&folder, "data/second.csv", SECOND), Some((3, 3)));
    let all = ScanColumns { all_for_digest: true, ..ScanColumns::default() };
    let mut rows = folder.rows(&source(), &all).unwrap();
    rows.remove_column(2);
    insta::assert_snapshot!(table(&rows));
}
