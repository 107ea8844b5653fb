//! The serving log: which rows are kept, as what, and what becomes of those that cannot be.

use std::collections::{BTreeMap, BTreeSet};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, Int64Array, RecordBatch};
use arrow::compute::cast;
use arrow::datatypes::{DataType as Arrow, Int64Type, TimestampMicrosecondType};
use arrow::ipc::reader::StreamReader;
use asof_model::{Ask, Clock, DataType, History, Length, LogHeader, ServingLogOptions};
use asof_serve::{EntityColumns, PreparedSelection, Reader, ServingLog};

use crate::fixture::{TestClock, Times, catalog, name, put, store, view};

const DAY: i64 = 86_400_000_000;

struct Logged {
    folder: tempfile::TempDir,
    clock: Arc<TestClock>,
    reader: Reader,
    log: ServingLog,
    asked: Arc<PreparedSelection>,
}

/// A reader of a view with a row for each key below 1,000: `double`, twice the key.
fn logged(sample: f64, waiting: usize) -> Logged {
    let folder = tempfile::tempdir().unwrap();
    let store = store(&folder.path().join("online"));
    let doubles =
        view("doubles", &[("item", DataType::Int64)], &[("double", DataType::Int64)], None, History::None);
    let keys: ArrayRef = Arc::new((0..1_000).collect::<Int64Array>());
    let values: ArrayRef = Arc::new((0..1_000).map(|key| key * 2).collect::<Int64Array>());
    put(store.as_ref(), 1, &doubles, &[keys], &[values], &[Times(5, 5, None, false); 1_000]);
    let clock = TestClock::at(DAY);
    let log = opened(folder.path(), &clock, sample, waiting);
    let reader = Reader::new(store, Arc::<TestClock>::clone(&clock)).with_log(log.clone());
    let ask = Ask::Features(vec!["doubles.*".to_owned()]);
    let asked = reader.prepare(&catalog(1, &doubles), &name("shop"), &ask, false).unwrap();
    Logged { folder, clock, reader, log, asked }
}

fn opened(folder: &Path, clock: &Arc<TestClock>, sample: f64, waiting: usize) -> ServingLog {
    let options = ServingLogOptions { sample, keep: Length::from_micros(30 * DAY) };
    let clock: Arc<dyn Clock> = Arc::<TestClock>::clone(clock);
    ServingLog::with_room(folder.join("log"), &options, clock, waiting).unwrap()
}

impl Logged {
    fn ask(&self, keys: &[Option<i64>]) {
        let keys: ArrayRef = Arc::new(Int64Array::from(keys.to_vec()));
        let entities = EntityColumns::new(vec![("item".to_owned(), keys)]).unwrap();
        self.reader.read(&self.asked, &entities, None).unwrap();
    }

    fn files(&self) -> Vec<PathBuf> {
        let entries =
            |path: &Path| std::fs::read_dir(path).into_iter().flatten().flatten().map(|it| it.path());
        let asked = entries(&self.folder.path().join("log")).flat_map(|project| entries(&project));
        asked.flat_map(|asked| entries(&asked)).collect()
    }

    fn rows(&self) -> Vec<RecordBatch> {
        let read = |path: &PathBuf| {
            let reader = StreamReader::try_new(std::fs::File::open(path).unwrap(), None).unwrap();
            reader.map(Result::unwrap).collect::<Vec<_>>()
        };
        self.files().iter().flat_map(read).collect()
    }
}

fn within(batch: &RecordBatch, group: &str, column: &str) -> ArrayRef {
    Arc::clone(batch.column_by_name(group).unwrap().as_struct().column_by_name(column).unwrap())
}

#[test]
fn all_rows_of_few_keys_are_logged_as_they_were_answered() {
    let logged = logged(0.2, 8_192);
    // Each key alone and among others; some of them are not there.
    for key in 0..600 {
        logged.clock.set(DAY + key);
        logged.ask(&[Some(key * 2)]);
    }
    for first in [0, 400, 800] {
        let keys: Vec<Option<i64>> = (first..first + 400).map(Some).chain([None]).collect();
        logged.ask(&keys);
    }
    logged.log.flush();
    let mut found: BTreeMap<Option<i64>, usize> = BTreeMap::new();
    for batch in logged.rows() {
        let (keys, values) = (within(&batch, "keys", "item"), within(&batch, "features", "double"));
        let status = cast(&within(&batch, "status", "double"), &Arrow::Utf8).unwrap();
        let times = batch.column_by_name("as_of").unwrap().as_primitive::<TimestampMicrosecondType>().clone();
        for row in 0..batch.num_rows() {
            let key = keys.is_valid(row).then(|| keys.as_primitive::<Int64Type>().value(row));
            let value = values.is_valid(row).then(|| values.as_primitive::<Int64Type>().value(row));
            assert_eq!(value, key.filter(|key| *key < 1_000).map(|key| key * 2));
            let expected = match key {
                None => "no_key",
                Some(key) if key < 1_000 => "present",
                Some(_) => "not_found",
            };
            assert_eq!(status.as_string::<i32>().value(row), expected);
            assert!((DAY..DAY + 600).contains(&times.value(row)));
            *found.entry(key).or_default() += 1;
        }
    }
    for (key, times) in &found {
        let alone = usize::from(key.is_some_and(|key| key % 2 == 0));
        let among = if key.is_none() { 3 } else { 1 };
        assert_eq!(*times, alone + among, "every answer of key {key:?} is there");
    }
    let share = found.len() as f64 / 1_200.0;
    assert!((0.15..0.25).contains(&share), "{share}");
    let status = logged.log.status();
    assert_eq!((status.logged, status.dropped), (found.values().sum::<usize>() as u64, 0));
}

#[test]
fn files_are_their_owners_and_say_what_they_are_of() {
    let logged = logged(1.0, 8_192);
    logged.ask(&[Some(1), Some(2)]);
    logged.log.flush();
    let [file] = logged.files().try_into().unwrap();
    let mode = |path: &Path| std::fs::metadata(path).unwrap().permissions().mode() & 0o777;
    assert_eq!((mode(&file), mode(file.parent().unwrap())), (0o600, 0o700));
    let [batch] = logged.rows().try_into().unwrap();
    let header: LogHeader = serde_json::from_str(&batch.schema().metadata()[LogHeader::ENTRY]).unwrap();
    assert_eq!(header.definitions.ask, Ask::Features(vec!["doubles.*".to_owned()]));
    assert_eq!(header.definitions.views[0].address.name, name("doubles"));
    let cuts = cast(batch.column_by_name("cuts").unwrap(), &Arrow::Utf8).unwrap();
    assert_eq!(cuts.as_string::<i32>().value(1), "[{\"generation\":1}]");
}

#[test]
fn what_finds_no_room_is_counted() {
    let logged = logged(1.0, 1);
    for key in 0..20_000 {
        logged.ask(&[Some(key % 1_000)]);
    }
    logged.log.flush();
    let rows: usize = logged.rows().iter().map(RecordBatch::num_rows).sum();
    let status = logged.log.status();
    assert_eq!((status.logged, status.logged + status.dropped), (rows as u64, 20_000));
    assert!(status.dropped > 0, "{status:?}");
    // After it is closed nothing is kept, and nobody is kept from an answer.
    logged.log.close();
    logged.ask(&[Some(1), Some(2)]);
    assert_eq!(logged.log.status().dropped, status.dropped + 2);
}

#[test]
fn what_cannot_be_written_is_counted_and_told() {
    let logged = logged(1.0, 8_192);
    std::fs::write(logged.folder.path().join("log"), "in the way").unwrap();
    logged.ask(&[Some(1), Some(2), Some(3)]);
    logged.log.flush();
    let status = logged.log.status();
    assert_eq!((status.logged, status.dropped), (0, 3));
    assert!(status.error.is_some(), "{status:?}");
    // It goes on when the way is free.
    std::fs::remove_file(logged.folder.path().join("log")).unwrap();
    logged.ask(&[Some(1)]);
    logged.log.flush();
    let status = logged.log.status();
    assert_eq!((status.logged, status.dropped, status.error), (1, 3, None));
}

#[test]
fn files_are_ended_and_go_when_they_are_old() {
    let logged = logged(1.0, 8_192);
    let mut files = BTreeSet::new();
    for hours in [0, 1, 3] {
        logged.clock.set(DAY + hours * 3_600_000_000);
        logged.ask(&[Some(hours)]);
        logged.log.flush();
        // The second turn ends what is an hour old.
        logged.log.flush();
        files.extend(logged.files());
    }
    assert!(files.len() >= 2, "{files:?}");
    logged.log.close();
    logged.clock.set(DAY + 30 * DAY + 2 * 3_600_000_000);
    drop(opened(logged.folder.path(), &logged.clock, 1.0, 1));
    let left = logged.files();
    assert!(!left.is_empty() && left.len() < files.len(), "{left:?} of {files:?}");
    logged.clock.set(DAY + 40 * DAY);
    drop(opened(logged.folder.path(), &logged.clock, 1.0, 1));
    assert_eq!(logged.files(), Vec::<PathBuf>::new());
    let folders = std::fs::read_dir(logged.folder.path().join("log/shop")).unwrap().count();
    assert_eq!(folders, 0, "and folders without files");
}
