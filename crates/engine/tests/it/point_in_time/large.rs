//! Answers larger than what is given at once, and sources larger than what may be held.

use std::collections::BTreeMap;
use std::sync::Arc;

use arrow::array::{
    Array, ArrayRef, AsArray, Date32Array, Float64Array, Int8Array, Int16Array, Int32Array, Int64Array,
    RecordBatch, StringArray, TimestampMicrosecondArray, UInt8Array, UInt16Array, UInt32Array, UInt64Array,
};
use asof_engine::point_in_time::{AnswerBatch, SpineRows, answer};
use asof_model::{
    Catalog, DataType, Format, Origin, OutputColumn, Place, Question, Reading, Revision, Selection,
    SourceVersion, Version,
};
use asof_testkit::Random;
use futures::StreamExt;

use crate::flock::view_version;
use crate::project::{Folder, at, columns, expression, files, name, version};

const COLUMNS: [(&str, &str); 3] = [("id", "int64"), ("note", "string"), ("at", "timestamp")];

fn rows(ids: impl Iterator<Item = i64>, note: impl Fn(i64) -> String) -> RecordBatch {
    let ids: Vec<i64> = ids.collect();
    let notes = StringArray::from_iter_values(ids.iter().map(|id| note(*id)));
    let times = TimestampMicrosecondArray::from(vec![1; ids.len()]).with_timezone("UTC");
    let columns: [(&str, ArrayRef); 3] =
        [("id", Arc::new(Int64Array::from(ids))), ("note", Arc::new(notes)), ("at", Arc::new(times))];
    RecordBatch::try_from_iter(columns).unwrap()
}

/// The notes of the spine's ids, in at most so many batches.
fn notes(folder: &Folder, sources: &[SourceVersion], spine: Vec<i64>, most: usize) -> Vec<AnswerBatch> {
    notes_at(folder, sources, &spine.into_iter().map(|id| (id, 2)).collect::<Vec<_>>(), most)
}

/// The notes of ids at times, in at most so many batches.
fn notes_at(
    folder: &Folder,
    sources: &[SourceVersion],
    spine: &[(i64, i64)],
    most: usize,
) -> Vec<AnswerBatch> {
    let source = sources.last().unwrap();
    let view = Arc::new(view_version("notes", source, "id", None, None, &[("note", "note", "string")]));
    let data_type = view.features[0].data_type.clone();
    let source = Arc::new(source.clone());
    let selection = Selection {
        project: name("shop"),
        service: None,
        columns: vec![OutputColumn {
            name: "note".to_owned(),
            from: Origin::Feature { reading: 0, feature: 0 },
            data_type,
        }],
        readings: vec![Reading { source, view, keys: vec![name("id")] }],
        request: Vec::new(),
        steps: Vec::new(),
        labels: Vec::new(),
    };
    let roots = BTreeMap::from([(name("shop"), folder.root().to_owned())]);
    let versions = sources.iter().map(|source| Version::Source(Arc::new(source.clone())));
    let catalog: Arc<Catalog> = Arc::new(Catalog::from_versions(Revision(1), roots, versions));
    let times =
        TimestampMicrosecondArray::from_iter_values(spine.iter().map(|row| row.1)).with_timezone("UTC");
    let ids: ArrayRef = Arc::new(Int64Array::from_iter_values(spine.iter().map(|row| row.0)));
    let table = RecordBatch::try_from_iter([("id", ids), ("t", Arc::new(times) as ArrayRef)]).unwrap();
    let spine = SpineRows { batches: vec![table], time: "t".to_owned() };
    folder.runtime.block_on(async {
        let asked = answer(&folder.engine, &catalog, &selection, &spine, Question::Known, &[], None);
        let batches = asked.await.unwrap().batches.take(most).collect::<Vec<_>>().await;
        batches.into_iter().map(Result::unwrap).collect()
    })
}

/// A row of a long history: its number is its note, and tells it from rows of one (e, v).
#[derive(Clone)]
struct Happened {
    id: i64,
    e: i64,
    v: Option<i64>,
    number: i64,
}

const HAPPENED: [(&str, &str); 5] =
    [("id", "int64"), ("note", "string"), ("at", "timestamp"), ("seen", "timestamp"), ("number", "int64")];

fn happened(rows: &[Happened]) -> RecordBatch {
    let time = |times: TimestampMicrosecondArray| Arc::new(times.with_timezone("UTC")) as ArrayRef;
    let columns: [(&str, ArrayRef); 5] = [
        ("id", Arc::new(Int64Array::from_iter_values(rows.iter().map(|row| row.id)))),
        ("note", Arc::new(StringArray::from_iter_values(rows.iter().map(|row| row.number.to_string())))),
        ("at", time(rows.iter().map(|row| Some(row.e)).collect())),
        ("seen", time(rows.iter().map(|row| row.v).collect())),
        ("number", Arc::new(Int64Array::from_iter_values(rows.iter().map(|row| row.number)))),
    ];
    RecordBatch::try_from_iter(columns).unwrap()
}

/// In the order of time rows meet at their keys' cursors, in no order cursors are given up; with ties, late
/// rows and rows never known; by address, and where candidate rows are kept and compacted on the way.
#[test]
fn the_order_of_a_long_history_does_not_matter() {
    let mut random = Random::new(5);
    let sorted: Vec<Happened> = (0..200_000)
        .map(|number| {
            let e = number / 10;
            let v = match random.between(0, 9) {
                0 => None,
                1 | 2 => Some(e + random.between(1, 3_000)),
                _ => Some(e),
            };
            Happened { id: random.between(0, 30), e, v, number }
        })
        .collect();
    let spine: Vec<(i64, i64)> =
        (0..4_000).map(|_| (random.between(0, 31), random.between(-10, 20_010))).collect();
    let expected = |seen: bool| -> Vec<Option<i64>> {
        let last = |(id, t): &(i64, i64)| {
            let v = |row: &Happened| if seen { row.v } else { Some(row.e) };
            let known = |row: &&Happened| row.id == *id && row.e <= *t && v(row).is_some_and(|v| v <= *t);
            let last = sorted.iter().filter(known).max_by_key(|row| (row.e, v(row), row.number));
            last.map(|row| row.number)
        };
        spine.iter().map(last).collect()
    };
    // Where v is e, rows of one e are ordered by their numbers as they are folded.
    let expected = [(true, expected(true)), (false, expected(false))];
    let mut shuffled = sorted.clone();
    for at in (1..shuffled.len()).rev() {
        shuffled.swap(at, random.between(0, at as i64) as usize);
    }
    let reversed: Vec<Happened> = sorted.iter().rev().cloned().collect();
    // In order long enough to be trusted, then not.
    let both = [&sorted[..100_000], &shuffled].concat();
    for (order, rows) in [
        ("sorted", &sorted),
        ("reversed", &reversed),
        ("shuffled", &shuffled),
        ("half, then shuffled", &both),
    ] {
        let folder = Folder::with_memory(64 << 20);
        folder.parquet("d/a.parquet", 50_000, &[happened(rows)]);
        let ruled = |mut source: asof_model::Source, seen: bool| {
            source.event_time = at("at");
            source.available_at = at("seen").filter(|_| seen);
            source.order_by = Some(expression("number"));
            version(source, columns(&HAPPENED))
        };
        for (seen, expected) in &expected {
            let table = ruled(files("t", "d", Format::Parquet), *seen);
            let mut query = files("q", "", Format::Parquet);
            let text = "select id, lpad(note, 200, '0') as note, at, seen, number from t";
            query.place = Place::Sql { text: text.to_owned() };
            for sources in [vec![table.clone()], vec![table, ruled(query, *seen)]] {
                let found: Vec<Option<i64>> = notes_at(&folder, &sources, &spine, usize::MAX)
                    .iter()
                    .flat_map(|batch| batch.columns[0].as_string::<i32>().iter())
                    .map(|note| note.map(|note| note.parse().unwrap()))
                    .collect();
                assert!(found == *expected, "{order}, {} sources, seen: {seen}", sources.len());
            }
        }
    }
}

/// Of rows of one key and event time the last by `order_by`, whatever its type; null comes first.
#[test]
fn what_rows_are_ordered_by_may_be_of_any_type() {
    fn eight<T: Clone>([least, middle, greatest]: [T; 3]) -> [Option<T>; 8] {
        let (least, middle, greatest) = (Some(least), Some(middle), Some(greatest));
        [middle, greatest, None, least.clone(), None, least.clone(), least, None]
    }
    macro_rules! of {
        ($kind:ty, $values:expr) => {
            Arc::new(<$kind>::from(eight($values).to_vec())) as ArrayRef
        };
    }
    let times = of!(TimestampMicrosecondArray, [-62_135_596_800_000_000, -1, 1]);
    let times = arrow::compute::cast(&times, &asof_compute::arrow_type(&DataType::Timestamp)).unwrap();
    let orders: Vec<(&str, &str, ArrayRef)> = vec![
        ("tiny", "int8", of!(Int8Array, [i8::MIN, 0, i8::MAX])),
        ("short", "int16", of!(Int16Array, [i16::MIN, 0, i16::MAX])),
        ("middling", "int32", of!(Int32Array, [-5, 0, 5])),
        ("whole", "int64", of!(Int64Array, [i64::MIN, 0, i64::MAX])),
        ("few", "uint8", of!(UInt8Array, [0, 127, u8::MAX])),
        ("some", "uint16", of!(UInt16Array, [0, 32_767, u16::MAX])),
        ("many", "uint32", of!(UInt32Array, [0, 1 << 30, u32::MAX])),
        ("lots", "uint64", of!(UInt64Array, [0, 1 << 40, u64::MAX])),
        ("day", "date", of!(Date32Array, [-719_162, 0, 2_932_896])),
        ("time", "timestamp", times),
        ("x", "float64", of!(Float64Array, [f64::NEG_INFINITY, -0.5, f64::NAN])),
        ("Called So", "string", of!(StringArray, ["", "a", "b"])),
        ("Number", "int64", of!(Int64Array, [-1, 0, 1])),
    ];
    let ids: ArrayRef = Arc::new(Int64Array::from(vec![1, 1, 1, 1, 2, 2, 3, 3]));
    let notes: ArrayRef = Arc::new(StringArray::from_iter_values((0..8).map(|row| row.to_string())));
    let same: ArrayRef = Arc::new(TimestampMicrosecondArray::from(vec![1; 8]).with_timezone("UTC"));
    let mut table = vec![("id", ids), ("note", notes), ("at", same)];
    table.extend(orders.iter().map(|(name, _, values)| (*name, Arc::clone(values))));
    let folder = Folder::new();
    folder.parquet("d/a.parquet", 3, &[RecordBatch::try_from_iter(table).unwrap()]);
    let mut all: Vec<(&str, &str)> = COLUMNS.to_vec();
    all.extend(orders.iter().map(|(name, kind, _)| (*name, *kind)));
    let mut asked: Vec<(String, &str)> = orders
        .iter()
        .map(|(name, ..)| match name.chars().any(char::is_uppercase) {
            true => (format!("\"{name}\""), "1"),
            false => ((*name).to_owned(), "1"),
        })
        .collect();
    asked.extend([
        ("-middling".to_owned(), "3"),
        (" Whole ".to_owned(), "1"),
        ("cast(few as int)".to_owned(), "1"),
    ]);
    for (order_by, first) in asked {
        let mut source = files("t", "d", Format::Parquet);
        (source.event_time, source.order_by) = (at("at"), Some(expression(&order_by)));
        let source = version(source, columns(&all));
        let found = notes_at(&folder, &[source], &[(1, 2), (2, 2), (3, 2)], 1);
        let found: Vec<Option<&str>> = found[0].columns[0].as_string::<i32>().iter().collect();
        assert_eq!(found, [Some(first), Some("5"), Some("6")], "by {order_by}");
    }
}

/// A sort with a limit keeps what it saw: run anew because memory was short, it would lose its last rows.
#[test]
fn a_query_with_a_limit_is_run_again_from_nothing() {
    let folder = Folder::with_memory(3 << 20);
    folder.parquet("d/a.parquet", 10_000, &[rows((0..30_000).rev(), |_| String::new())]);
    let table = version(files("t", "d", Format::Parquet), columns(&COLUMNS));
    let mut query = files("q", "", Format::Parquet);
    let text = "select id, repeat('n', 300) as note, at from (select id, at from t order by id limit 20000)";
    query.place = Place::Sql { text: text.to_owned() };
    query.event_time = at("at");
    let query = version(query, columns(&COLUMNS));
    let found = notes(&folder, &[table, query], (0..30_000).collect(), usize::MAX);
    let there: usize = found.iter().map(|batch| batch.columns[0].len() - batch.columns[0].null_count()).sum();
    assert_eq!(there, 20_000);
}

/// A note that many spine rows share would not fit into one array of text.
#[test]
fn a_long_value_may_answer_many_rows() {
    let folder = Folder::new();
    folder.parquet("d/a.parquet", 10, &[rows([7].into_iter(), |_| "n".repeat(100_000))]);
    let mut table = files("t", "d", Format::Parquet);
    table.event_time = at("at");
    let table = version(table, columns(&COLUMNS));
    let found = notes(&folder, &[table], vec![7; 100_000], 3);
    for batch in &found {
        let notes = batch.columns[0].as_string::<i32>();
        assert!(notes.iter().all(|note| note.is_some_and(|note| note.len() == 100_000)));
        assert!(notes.value_data().len() <= 64 << 20);
    }
    assert!(found.iter().map(|batch| batch.rows).sum::<usize>() > 1_000);
}
