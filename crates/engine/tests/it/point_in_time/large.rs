//! Answers larger than what is given at once, and sources larger than what may be held.

use std::collections::BTreeMap;
use std::sync::Arc;

use arrow::array::{
    Array, ArrayRef, AsArray, Int64Array, RecordBatch, StringArray, TimestampMicrosecondArray,
};
use asof_engine::point_in_time::{AnswerBatch, SpineRows, answer};
use asof_model::{
    Catalog, Format, OutputColumn, Place, Question, Reading, Revision, Selection, SourceVersion, Version,
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
        columns: vec![OutputColumn { name: "note".to_owned(), reading: 0, feature: 0, data_type }],
        readings: vec![Reading { source, view, keys: vec![name("id")] }],
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
    let expected: Vec<Option<i64>> = spine
        .iter()
        .map(|(id, t)| {
            let known = |row: &&Happened| row.id == *id && row.e <= *t && row.v.is_some_and(|v| v <= *t);
            let last = sorted.iter().filter(known).max_by_key(|row| (row.e, row.v, row.number));
            last.map(|row| row.number)
        })
        .collect();
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
        let ruled = |mut source: asof_model::Source| {
            source.event_time = at("at");
            source.available_at = at("seen");
            source.order_by = Some(expression("number"));
            version(source, columns(&HAPPENED))
        };
        let table = ruled(files("t", "d", Format::Parquet));
        let mut query = files("q", "", Format::Parquet);
        let text = "select id, lpad(note, 200, '0') as note, at, seen, number from t";
        query.place = Place::Sql { text: text.to_owned() };
        for sources in [vec![table.clone()], vec![table, ruled(query)]] {
            let found: Vec<Option<i64>> = notes_at(&folder, &sources, &spine, usize::MAX)
                .iter()
                .flat_map(|batch| batch.columns[0].as_string::<i32>().iter())
                .map(|note| note.map(|note| note.parse().unwrap()))
                .collect();
            assert!(found == expected, "{order}, {} sources", sources.len());
        }
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
