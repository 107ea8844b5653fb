//! Rows of the intake log, of every format that was ever written (`docs/formats/live-rows.md`).

use std::sync::Arc;

use arrow::array::{
    ArrayRef, AsArray, BooleanArray, Float64Array, Int64Array, ListArray, RecordBatch, StringArray,
    TimestampMicrosecondArray,
};
use arrow::datatypes::{Int64Type, TimestampMicrosecondType};
use asof_compute::Position;
use asof_engine::delta::{Next, Superseded};
use asof_engine::intake::{LIVE_ROWS_FORMAT, LiveRows};
use asof_model::{Place, SourceVersion, Timestamp};

use crate::project::{at, columns, files, version};

/// The source as it stood when the rows were written. Never change it.
fn source() -> SourceVersion {
    let mut source = files("orders", "", asof_model::Format::Csv);
    source.place = Place::Push { past: None };
    source.event_time = at("at");
    let kinds = [("at", "timestamp"), ("who", "string"), ("amount", "float64"), ("items", "list<int64>")];
    version(source, columns(&kinds))
}

fn times(values: Vec<Option<i64>>) -> ArrayRef {
    Arc::new(TimestampMicrosecondArray::from(values).with_timezone("UTC"))
}

/// The batch that was written. Never change it.
fn rows(own: Vec<Option<i64>>) -> RecordBatch {
    let items = vec![Some(vec![Some(1), None]), None, Some(vec![])];
    let columns: Vec<ArrayRef> = vec![
        times(vec![Some(5), Some(-1), None]),
        Arc::new(StringArray::from(vec![Some("ä"), None, Some("")])),
        Arc::new(Float64Array::from(vec![Some(0.5), Some(f64::NAN), None])),
        Arc::new(ListArray::from_iter_primitive::<Int64Type, _, _>(items)),
        times(vec![Some(5), Some(-1), Some(7)]),
        Arc::new(BooleanArray::from(vec![false, true, false])),
        times(own),
    ];
    RecordBatch::try_new(Arc::clone(LiveRows::of(&source()).unwrap().schema()), columns).unwrap()
}

fn stored(text: &str) -> Vec<Vec<u8>> {
    let read = |line: &str| {
        (0..line.len() / 2).map(|at| u8::from_str_radix(&line[2 * at..2 * at + 2], 16).unwrap()).collect()
    };
    text.lines().map(read).collect()
}

/// Of each format what was written, and what of it is written today.
fn formats() -> [(Vec<Vec<u8>>, [Vec<u8>; 2]); 2] {
    let stored_1 = stored(include_str!("../compat/live-rows-1.txt"));
    [(stored_1, batches(false)), (stored(include_str!("../compat/live-rows-2.txt")), batches(true))]
}

/// What each batch says of rows that are superseded. Never change it.
fn superseded() -> [[Superseded; 2]; 2] {
    let version = |row, visible_at, position| {
        let by = Next::Version { visible_at: Timestamp(visible_at), position: Position(position) };
        Superseded { row: Position(row), by }
    };
    let delete = |row, by| Superseded { row: Position(row), by };
    [
        [version(3, 100, 11), delete(12, Next::Withdrawal)],
        [version(14, Timestamp::NEVER.0, 5), delete(15, Next::Delete)],
    ]
}

fn batches(versions: bool) -> [Vec<u8>; 2] {
    let entries = superseded();
    let entries = |batch: usize| versions.then_some(&entries[batch][..]);
    let live = LiveRows::of(&source()).unwrap();
    let pushed = live.encode(&rows(vec![None; 3])).unwrap();
    let loaded = live.encode(&rows(vec![Some(9), Some(Timestamp::NEVER.0), None])).unwrap();
    [pushed.of(0..3, entries(0)), loaded.of([0, 1].into_iter(), entries(1))]
}

/// Writes the kept bytes anew, for a new format: run it by name, and keep the old file.
#[test]
#[ignore = "makes a file that must never change"]
fn make_live_rows() {
    let hex = |bytes: &Vec<u8>| bytes.iter().map(|byte| format!("{byte:02x}")).collect::<String>() + "\n";
    let path = format!("{}/tests/compat/live-rows-{LIVE_ROWS_FORMAT}.txt", env!("CARGO_MANIFEST_DIR"));
    std::fs::write(path, batches(true).iter().map(hex).collect::<String>()).unwrap();
}

#[test]
fn live_rows_load() {
    for (number, (stored, batches)) in formats().into_iter().enumerate() {
        assert_eq!(stored, batches, "written as before");
        load(&stored, (number == 1).then(|| superseded().concat()));
    }
}

fn load(stored: &[Vec<u8>], superseded: Option<Vec<Superseded>>) {
    let live = LiveRows::of(&source()).unwrap();
    let mut reader = live.reader(8).unwrap();
    reader.take(&stored[0], Timestamp(100), Position(11), Position(11)).unwrap();
    reader.take(&stored[1], Timestamp(200), Position(14), Position(11)).unwrap();
    assert_eq!(reader.superseded(), superseded);
    let read = reader.finish().unwrap();
    let (first, second) = (rows(vec![None; 3]).slice(1, 2), rows(vec![None; 3]).slice(0, 2));
    for column in 0..6 {
        let given = arrow::compute::concat(&[first.column(column), second.column(column)]).unwrap();
        // NaN is no number's equal, but its bits are.
        assert_eq!(format!("{:?}", read.column(column)), format!("{given:?}"), "column {column}");
    }
    let visible_at = read.column(6).as_primitive::<TimestampMicrosecondType>();
    assert_eq!(visible_at.iter().collect::<Vec<_>>(), [Some(100), Some(100), Some(9), None]);
    let positions: &Int64Array = read.column(7).as_primitive::<Int64Type>();
    assert_eq!(positions.values().as_ref(), [12, 13, 14, 15]);
}

#[test]
fn what_is_no_batch_is_refused() {
    let live = LiveRows::of(&source()).unwrap();
    let [(first, _), (second, _)] = formats();
    let (whole, versions) = (&first[0], &second[0]);
    let mut newer = whole.clone();
    newer[0] = 3;
    for (bytes, said) in [
        (&newer[..], "in the intake log have format 3, and this Asof reads up to 2"),
        (&[][..], "is damaged"),
        (&whole[..whole.len() - 1], "is damaged"),
        (&whole[..3], "is damaged"),
        (&versions[..versions.len() - 1], "is damaged"),
        (&versions[..40], "is damaged"),
        (&versions[..3], "is damaged"),
    ] {
        let mut reader = live.reader(8).unwrap();
        let error = reader.take(bytes, Timestamp(1), Position(1), Position(0)).unwrap_err().to_string();
        assert!(error.contains(said), "{error}");
    }
}
