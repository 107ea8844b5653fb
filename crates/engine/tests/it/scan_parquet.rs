//! Parquet sources: the fixed columns, every time type, errors with file and row.

use std::sync::Arc;

use arrow::array::{
    Array, ArrayRef, AsArray, Date32Array, Float32Array, Float64Array, Int64Array, ListArray, RecordBatch,
    StringArray, StructArray, TimestampMicrosecondArray, TimestampMillisecondArray, TimestampNanosecondArray,
};
use arrow::buffer::OffsetBuffer;
use arrow::datatypes::{DataType as ArrowType, Field, Float32Type, Float64Type, Int64Type};
use asof_engine::rows::ViewProgress;
use asof_engine::source::ScanColumns;
use asof_model::{Column, FileFormat, Format, TimeRule, TimeUnit, Timestamp};

use crate::flock::Flock;
use crate::project::{Folder, all, at, columns, expression, files, said, table, version};

fn times(values: &[Option<i64>]) -> ArrayRef {
    Arc::new(TimestampNanosecondArray::from(values.to_vec()))
}

#[test]
fn the_fixed_columns_come_first() {
    let folder = Folder::new();
    let batch = RecordBatch::try_from_iter([
        ("id", Arc::new(Int64Array::from(vec![1, 2, 3])) as ArrayRef),
        ("at", times(&[Some(-1), Some(1_999), Some(3_000_000)])),
        ("seen", Arc::new(TimestampMicrosecondArray::from(vec![Some(5), None, Some(7)])) as ArrayRef),
        ("state", Arc::new(StringArray::from(vec![Some("x"), Some("gone"), None])) as ArrayRef),
    ])
    .unwrap();
    folder.parquet("data/a.parquet", 2, &[batch]);
    let mut source = files("events", "data/a.parquet", Format::Parquet);
    source.event_time = at("at");
    source.available_at = at("seen");
    source.order_by = Some(expression("id"));
    source.delete_when = Some(expression("State = 'gone'"));
    let source = version(
        source,
        columns(&[("id", "int64"), ("at", "timestamp"), ("seen", "timestamp"), ("state", "string")]),
    );
    let mut found = folder.rows(&source, &all()).unwrap();
    let order = found.column_by_name("__o").unwrap();
    assert_eq!(order.null_count(), 0);
    found.remove_column(2);
    insta::assert_snapshot!(table(&found));
    let one = folder.rows(
        &source,
        &ScanColumns { columns: vec!["id".to_owned()], address: true, ..ScanColumns::default() },
    );
    assert_eq!(one.unwrap().schema().fields().len(), 8);
}

#[test]
fn a_null_event_time_is_refused_with_its_place() {
    let folder = Folder::new();
    for (file, values) in [("a", [Some(1), Some(2), Some(3)]), ("b", [Some(1), Some(2), None])] {
        let batch = RecordBatch::try_from_iter_with_nullable([("at", times(&values), true)]).unwrap();
        folder.parquet(&format!("data/{file}.parquet"), 2, &[batch]);
    }
    let mut source = files("events", "data/*.parquet", Format::Parquet);
    source.event_time = at("at");
    let error = folder.rows(&version(source, columns(&[("at", "timestamp")])), &all()).unwrap_err();
    insta::assert_snapshot!(said(&error));
}

/// Rows are equal whatever the form of their floats, so a scan gives one form: which of equal rows answers
/// cannot be seen.
#[test]
fn floats_have_one_form() {
    let nan = f64::from_bits(0xfff8_0000_0000_0001);
    let floats = Float64Array::from(vec![Some(-0.0), Some(0.0), Some(nan), Some(f64::NAN), Some(-1.5), None]);
    let narrow: Float32Array = floats.iter().map(|x| x.map(|x| x as f32)).collect();
    let item = Arc::new(Field::new_list_field(ArrowType::Float64, true));
    let offsets = OffsetBuffer::from_lengths([1; 6]);
    let lists = ListArray::new(item, offsets, Arc::new(floats.clone()), None);
    let part = Arc::new(Field::new("x", ArrowType::Float64, true));
    let parts = StructArray::from(vec![(part, Arc::new(floats.clone()) as ArrayRef)]);
    let folder = Folder::new();
    let batch = RecordBatch::try_from_iter_with_nullable([
        ("x", Arc::new(floats) as ArrayRef, true),
        ("n", Arc::new(narrow), true),
        ("l", Arc::new(lists), true),
        ("s", Arc::new(parts), true),
    ])
    .unwrap();
    folder.parquet("a.parquet", 100, &[batch]);
    let types = [("x", "float64"), ("n", "float32"), ("l", "list<float64>"), ("s", "struct<x: float64>")];
    let source = version(files("events", "a.parquet", Format::Parquet), columns(&types));
    let found = folder.rows(&source, &all()).unwrap();
    let column = |name: &str| found.column_by_name(name).unwrap();
    let want = [0.0, 0.0, f64::NAN, f64::NAN, -1.5].map(f64::to_bits);
    let wide = |array: &ArrayRef| -> Vec<u64> {
        array.as_primitive::<Float64Type>().iter().flatten().map(f64::to_bits).collect()
    };
    assert_eq!(wide(column("x")), want);
    assert_eq!(wide(column("l").as_list::<i32>().values()), want);
    assert_eq!(wide(column("s").as_struct().column(0)), want);
    let narrow: Vec<u32> =
        column("n").as_primitive::<Float32Type>().iter().flatten().map(f32::to_bits).collect();
    assert_eq!(narrow, [0.0, 0.0, f32::NAN, f32::NAN, -1.5].map(f32::to_bits));
    let json = "{\"x\": -0.0}\n";
    folder.write("a.ndjson", json);
    let source = version(files("events", "a.ndjson", Format::Ndjson), columns(&[("x", "float64")]));
    assert_eq!(wide(folder.rows(&source, &all()).unwrap().column_by_name("x").unwrap()), want[..1]);
}

/// A value in a declared type is that value or an error: what Arrow type, what type, is it read.
#[test]
fn values_that_a_type_cannot_hold_are_refused() {
    let cases: [(ArrayRef, &str, bool); 10] = [
        (Arc::new(Int64Array::from(vec![1 << 53])), "float64", true),
        (Arc::new(Int64Array::from(vec![(1 << 53) + 1])), "float64", false),
        (Arc::new(Int64Array::from(vec![i64::MAX])), "float64", false),
        (Arc::new(Int64Array::from(vec![(1 << 24) + 1])), "float32", false),
        // Digits of a fraction are rounded once, as they are in a text.
        (Arc::new(Float64Array::from(vec![0.1])), "float32", true),
        (Arc::new(Date32Array::from(vec![2_932_896])), "date", true),
        (Arc::new(Date32Array::from(vec![2_932_897])), "date", false),
        (Arc::new(Date32Array::from(vec![-719_163])), "date", false),
        (Arc::new(TimestampMicrosecondArray::from(vec![i64::MAX]).with_timezone("UTC")), "timestamp", false),
        (Arc::new(TimestampMicrosecondArray::from(vec![0]).with_timezone("UTC")), "timestamp", true),
    ];
    for (array, kind, good) in cases {
        let folder = Folder::new();
        folder.parquet("a.parquet", 10, &[RecordBatch::try_from_iter([("a", Arc::clone(&array))]).unwrap()]);
        let source = version(files("events", "a.parquet", Format::Parquet), columns(&[("a", kind)]));
        match folder.rows(&source, &all()) {
            Ok(_) => assert!(good, "{array:?} as {kind}"),
            Err(error) => {
                let said = said(&error);
                assert!(!good, "{array:?} as {kind}: {said}");
                assert!(said.contains("a.parquet, row 1: column `a` is "), "{said}");
            }
        }
    }
}

/// `cp -p` over a file of the same size: the same number, size and time of change.
#[test]
fn a_file_written_over_with_its_times_is_another() {
    let flock = Flock::new();
    let path = flock.folder.root().join("data/prices.csv");
    let view = flock.catalog.views().find(|view| view.address.name.as_str() == "prices").unwrap();
    let (engine, wait) = (&flock.folder.engine, &flock.folder.runtime);
    let mut progress = ViewProgress::default();
    wait.block_on(async {
        let rows = engine.rows(&flock.catalog, view, &progress).await.unwrap();
        for unit in rows.units() {
            let (to, mut from) = tokio::sync::mpsc::channel(8);
            let taken = async { while from.recv().await.is_some() {} };
            let (read, ()) = futures::join!(rows.read(unit, to), taken);
            progress.units.insert(unit.name().to_owned(), read.unwrap().seen);
        }
    });
    let again = || wait.block_on(engine.rows(&flock.catalog, view, &progress)).unwrap();
    assert!(again().units().is_empty() && again().changed().is_none());
    let modified = std::fs::metadata(&path).unwrap().modified().unwrap();
    let other = std::fs::read_to_string(&path).unwrap().replace(",10,", ",11,");
    // Not a clock is waited for but the file system's own tick.
    while std::fs::metadata(&path).unwrap().modified().unwrap() == modified {
        std::fs::write(&path, &other).unwrap();
    }
    std::fs::File::options().write(true).open(&path).unwrap().set_modified(modified).unwrap();
    assert_eq!(std::fs::metadata(&path).unwrap().modified().unwrap(), modified);
    assert!(again().changed().is_some());
}

/// Parquet's reader goes one frame deeper for each group within a group, however many a footer says.
#[test]
fn a_schema_that_nests_without_end_is_refused() {
    let mut footer = vec![0x15, 0x04, 0x19, 0xfc];
    // 100,001 elements: groups of one child each, then a leaf.
    footer.extend([0xa1, 0x8d, 0x06]);
    for _ in 0..100_000 {
        footer.extend([0x35, 0x04, 0x18, 0x01, b'g', 0x15, 0x02, 0]);
    }
    footer.extend([0x15, 0x04, 0x25, 0x02, 0x18, 0x01, b'x', 0]);
    // No rows, no row groups.
    footer.extend([0x16, 0x00, 0x19, 0x0c, 0]);
    let file = [b"PAR1", footer.as_slice(), &(footer.len() as u32).to_le_bytes(), b"PAR1"].concat();
    let flock = Flock::new();
    flock.folder.write("a.parquet", &file);
    let source = version(files("events", "a.parquet", Format::Parquet), columns(&[("g", "int64")]));
    let said_of_source = said(&flock.folder.rows(&source, &all()).unwrap_err());
    assert!(said_of_source.contains("nests more than 128 groups"), "{said_of_source}");
    let error = flock.train(flock.request(file, FileFormat::Parquet)).unwrap_err();
    assert!(said(&error).contains("nests more than 128 groups"), "{}", said(&error));
}

/// A row group without a time that is needed is not read. Text is not in the order of its instants, so what a
/// footer says of it leaves nothing out.
#[test]
fn row_groups_past_what_is_needed_are_left_out_by_times_alone() {
    let day = 86_400_000_000_i64;
    let seconds = |days: [i64; 4]| days.map(|days| days * 86_400);
    let check = |called: &str, times: ArrayRef, unit: Option<TimeUnit>, until: i64, left: &[i64]| {
        let folder = Folder::new();
        let n: ArrayRef = Arc::new(Int64Array::from_iter_values(0..times.len() as i64));
        let rows = RecordBatch::try_from_iter_with_nullable([("n", n, true), ("at", times, true)]).unwrap();
        folder.parquet("d/a.parquet", 2, std::slice::from_ref(&rows));
        let mut source = files("s", "d", Format::Parquet);
        source.event_time = Some(TimeRule::Column { name: "at".to_owned(), unit, zone: None });
        let kind = asof_compute::from_arrow_type(rows.schema().field(1).data_type()).unwrap();
        let mut all = columns(&[("n", "int64")]);
        all.push(Column { name: "at".to_owned(), data_type: kind });
        let source = version(source, all);
        let thin = |until| ScanColumns {
            columns: vec!["n".to_owned()],
            address: true,
            until: Some(Timestamp(until)),
            ..ScanColumns::default()
        };
        let n = |until| {
            let rows = folder.rows(&source, &thin(until)).unwrap();
            let mut n = rows.column_by_name("n").unwrap().as_primitive::<Int64Type>().values().to_vec();
            n.sort_unstable();
            n
        };
        assert_eq!(n(until), left, "{called}");
        assert_eq!(n(i64::MAX).len(), rows.num_rows(), "{called}: all of it");
    };
    let days = [1, 2, 3, 4];
    let micros = TimestampMicrosecondArray::from(days.map(|it| it * day).to_vec());
    check("us", Arc::new(micros.clone().with_timezone("UTC")), None, 2 * day, &[0, 1]);
    check("us before its first", Arc::new(micros), None, 3 * day - 1, &[0, 1]);
    let millis = TimestampMillisecondArray::from(days.map(|it| it * day / 1_000).to_vec());
    check("ms", Arc::new(millis), None, 2 * day, &[0, 1]);
    let nanos = TimestampNanosecondArray::from(days.map(|it| it * day * 1_000 + 999).to_vec());
    // Nanoseconds are floored: the third row is at its day exactly.
    check("ns", Arc::new(nanos), None, 3 * day, &[0, 1, 2, 3]);
    check("days", Arc::new(Date32Array::from(vec![1, 2, 3, 4])), None, 2 * day, &[0, 1]);
    let unit = Some(TimeUnit::S);
    check("seconds", Arc::new(Int64Array::from(seconds(days).to_vec())), unit, 2 * day, &[0, 1]);
    // The second row of the second group was before all others, and its text is after theirs.
    let text = vec![
        "2013-06-01T10:00:00Z",
        "2013-06-01T11:00:00Z",
        "2013-06-01T23:30:00-05:00",
        "2013-06-02T01:00:00+16:00",
    ];
    let until = Timestamp::parse("2013-06-01T12:00:00Z").unwrap();
    check("text", Arc::new(StringArray::from(text)), None, until.0, &[0, 1, 2, 3]);
}

/// Rows with addresses come in runs of row groups, for threads that take one after another: all of them, in order.
#[test]
fn rows_with_addresses_come_in_runs() {
    for groups in [1, 5, 300] {
        let folder = Folder::new();
        let rows = |from: i64, rows: i64| {
            let n: ArrayRef = Arc::new(Int64Array::from_iter_values(from..from + rows));
            let at: ArrayRef = Arc::new(TimestampMicrosecondArray::from_iter_values(from..from + rows));
            RecordBatch::try_from_iter_with_nullable([("n", n, true), ("at", at, true)]).unwrap()
        };
        folder.parquet("d/a.parquet", 2, &[rows(0, groups * 2)]);
        folder.parquet("d/b.parquet", 1_000, &[rows(groups * 2, 7)]);
        let mut source = files("s", "d", Format::Parquet);
        source.event_time = at("at");
        let source = version(source, columns(&[("n", "int64"), ("at", "timestamp")]));
        let want = ScanColumns { columns: vec!["n".to_owned()], address: true, ..ScanColumns::default() };
        let scan = folder.scan(&source, &want).unwrap();
        let runs = folder.partitions(&scan).unwrap();
        let n = |batch: &RecordBatch| {
            batch.column_by_name("n").unwrap().as_primitive::<Int64Type>().values().to_vec()
        };
        let found: Vec<Vec<i64>> = runs.iter().map(|run| run.iter().flat_map(n).collect()).collect();
        assert_eq!(found.concat(), (0..groups * 2 + 7).collect::<Vec<_>>());
        assert!(found.iter().all(|run| !run.is_empty()), "{groups}");
        let most = found.iter().map(Vec::len).max().unwrap() as i64;
        assert!(found.len() as i64 <= groups + 1 && most <= 7 + groups / 20 + 2, "{groups}: {found:?}");
        assert!(groups < 300 || (33..=65).contains(&found.len()), "{}", found.len());
    }
}

/// Whatever byte of a file is another: rows, or an error that names the file. Never one that a panic left.
#[test]
fn a_damaged_file_is_named() {
    let folder = Folder::new();
    let text = |row: i64| (row % 5 > 0).then(|| format!("text number {}", row % 7));
    let batch = RecordBatch::try_from_iter_with_nullable([
        (
            "at",
            Arc::new(TimestampMicrosecondArray::from_iter_values((0..60).map(|row| row * 1_000_000)))
                as ArrayRef,
            false,
        ),
        ("n", Arc::new(Int64Array::from_iter((0..60).map(|row| (row % 3 > 0).then_some(row)))), true),
        ("word", Arc::new(StringArray::from_iter((0..60).map(text))), true),
    ])
    .unwrap();
    folder.parquet("data/a.parquet", 40, &[batch]);
    let whole = std::fs::read(folder.root().join("data/a.parquet")).unwrap();
    let mut source = files("events", "data/a.parquet", Format::Parquet);
    source.event_time = at("at");
    let source = version(source, columns(&[("at", "timestamp"), ("n", "int64"), ("word", "string")]));
    let mut broken = 0;
    for at in 0..whole.len() {
        for flip in [0x10, 0xff] {
            let mut bytes = whole.clone();
            bytes[at] ^= flip;
            folder.write("data/a.parquet", &bytes);
            if let Err(error) = folder.rows(&source, &all()) {
                broken += 1;
                let told = said(&error);
                assert!(
                    told.contains("data/a.parquet") || told.contains("source `events`"),
                    "byte {at}: {told}"
                );
            }
        }
    }
    assert!(broken > 300, "only {broken} damages were found");
}
