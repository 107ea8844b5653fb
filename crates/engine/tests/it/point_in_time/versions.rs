//! Sources with ids through files on disk, a query, or a load, definitions and the driver: one test for each sentence of
//! the contract about versions.

use std::sync::Arc;

use arrow::array::{
    Array, ArrayRef, AsArray, BooleanArray, Int64Array, RecordBatch, StringArray, TimestampMicrosecondArray,
};
use arrow::datatypes::Int64Type;
use asof_engine::Error;
use asof_engine::delta::{LoadFile, OnBadRow};
use asof_engine::point_in_time::{PointInTimeAnswer, SpineRows, answer};
use asof_model::{
    Call, Cut, Format, Length, Origin, OutputColumn, Place, Question, Reading, Selection, Source, SourceCut,
    SourceVersion, VisibleTimes, Window,
};
use futures::TryStreamExt;

use crate::flock::view_version;
use crate::project::{Folder, at, columns, expression, files, name, said, standing, version};

/// A row: what it is a version of, its key, event time, visible time, and the rest.
#[derive(Debug, Clone, Copy)]
struct Told {
    id: Option<&'static str>,
    shop: Option<i64>,
    at: i64,
    seen: Option<i64>,
    rank: Option<i64>,
    gone: bool,
    n: Option<i64>,
    state: &'static str,
}

/// A row of shop 1.
fn told(id: &'static str, at: i64, seen: i64, n: i64) -> Told {
    let (id, seen) = ((!id.is_empty()).then_some(id), Some(seen));
    Told { id, shop: Some(1), at, seen, rank: None, gone: false, n: Some(n), state: "ok" }
}

/// A delete with an id, and nothing else that means anything.
fn withdrawn(id: &'static str, at: i64, seen: i64) -> Told {
    Told { shop: None, n: None, state: "spam", gone: true, ..told(id, at, seen, 0) }
}

/// Where rows come from.
#[derive(Debug, Clone, Copy, PartialEq)]
enum From {
    Parquet,
    Csv,
    Ndjson,
    Query,
    Load,
    /// The table of a load, read in place.
    Delta,
}

const EVERYWHERE: [From; 6] = [From::Parquet, From::Csv, From::Ndjson, From::Query, From::Load, From::Delta];

const COLUMNS: [(&str, &str); 8] = [
    ("id", "string"),
    ("shop", "int64"),
    ("at", "timestamp"),
    ("seen", "timestamp"),
    ("rank", "int64"),
    ("gone", "bool"),
    ("n", "int64"),
    ("state", "string"),
];

fn table(rows: &[Told]) -> RecordBatch {
    let ints =
        |of: fn(&Told) -> Option<i64>| Arc::new(rows.iter().map(of).collect::<Int64Array>()) as ArrayRef;
    let times = |of: fn(&Told) -> Option<i64>| {
        let times = rows.iter().map(of).collect::<TimestampMicrosecondArray>();
        Arc::new(times.with_timezone("UTC")) as ArrayRef
    };
    RecordBatch::try_from_iter_with_nullable([
        ("id", Arc::new(rows.iter().map(|row| row.id).collect::<StringArray>()) as ArrayRef, true),
        ("shop", ints(|row| row.shop), true),
        ("at", times(|row| Some(row.at)), true),
        ("seen", times(|row| row.seen), true),
        ("rank", ints(|row| row.rank), true),
        ("gone", Arc::new(rows.iter().map(|row| Some(row.gone)).collect::<BooleanArray>()), true),
        ("n", ints(|row| row.n), true),
        ("state", Arc::new(rows.iter().map(|row| Some(row.state)).collect::<StringArray>()), true),
    ])
    .unwrap()
}

/// The rows in a folder, and the source that reads them, behind what it reads.
fn sources(folder: &Folder, from: From, rows: &[Told], define: &dyn Fn(&mut Source)) -> Vec<SourceVersion> {
    // Two files, so that versions are in both.
    let (one, two) = rows.split_at(rows.len() / 2);
    let format = match from {
        From::Csv | From::Query => Format::Csv,
        From::Ndjson => Format::Ndjson,
        From::Parquet | From::Load | From::Delta => Format::Parquet,
    };
    for (called, rows) in [("b", one), ("a", two)] {
        let path = format!("data/{called}.{}", format.name());
        let mut text = Vec::new();
        match format {
            Format::Csv => arrow::csv::Writer::new(&mut text).write(&table(rows)).unwrap(),
            Format::Ndjson => arrow::json::LineDelimitedWriter::new(&mut text).write(&table(rows)).unwrap(),
            _ => {
                folder.parquet(&path, 2, &[table(rows)]);
                continue;
            }
        }
        folder.write(&path, text);
    }
    let mut source = files("events", &format!("data/*.{}", format.name()), format);
    (source.event_time, source.available_at) = (at("at"), at("seen"));
    (source.id, source.delete_when) = (Some(expression("id")), Some(expression("gone")));
    source.store = matches!(from, From::Load | From::Delta);
    define(&mut source);
    if from == From::Query {
        let mut base = files("base", "data/*.csv", Format::Csv);
        base.event_time = at("at");
        source.place = Place::Sql { text: "select * from base where shop is null or shop >= 0".to_owned() };
        return vec![version(base, columns(&COLUMNS)), version(source, columns(&COLUMNS))];
    }
    let mut source = version(source, columns(&COLUMNS));
    if source.definition.store {
        load(folder, &source, &["a", "b"]);
    }
    if from == From::Delta {
        let tables = std::fs::read_dir(folder.root().join(".asof/offline/shop/events")).unwrap();
        let mut tables = tables.map(|entry| entry.unwrap().path());
        let table = tables.find(|path| path.join("_delta_log").is_dir()).unwrap();
        let path = table.to_str().unwrap().to_owned();
        source.definition.place = Place::Files { path, format: Format::Delta, options: Default::default() };
        source.definition.store = false;
    }
    vec![source]
}

/// Loads files; how many rows were stored.
fn load(folder: &Folder, source: &SourceVersion, called: &[&str]) -> u64 {
    let file = |called: &&str| LoadFile {
        path: folder.root().join(format!("data/{called}.parquet")),
        name: (*called).to_owned(),
        partitions: Vec::new(),
    };
    let files: Vec<LoadFile> = called.iter().map(file).collect();
    let quiet: asof_engine::Progress = Arc::new(|_| {});
    let standing = standing(source);
    let load = folder.engine.load(source, &files, OnBadRow::Stop, &[], &standing, &quiet);
    folder.runtime.block_on(load).unwrap().iter().map(|file| file.rows).sum()
}

/// What is asked of the last source: the latest `n`, and with `windows` how many rows are in the last hundred
/// microseconds, the sum of their `n`, and of the last hour the last `n`.
fn ask(
    folder: &Folder,
    sources: &[SourceVersion],
    asked: &[i64],
    windows: bool,
    (question, at): (Question, &[SourceCut]),
) -> Result<PointInTimeAnswer, Error> {
    let source = Arc::new(sources.last().unwrap().clone());
    let filter = "state <> 'spam'";
    let latest = view_version("latest", &source, "shop", Some(filter), None, &[("n", "n", "int64")]);
    let length = Some(Length::from_micros(100));
    let mut in_window = super::windows::view(&[Window {
        length,
        offset: Length::from_micros(0),
        include_now: false,
        resolution: None,
    }]);
    in_window.definition.filter = Some(expression(filter));
    let mut in_order = in_window.clone();
    in_order.features.truncate(1);
    let last = &mut in_order.features[0].feature;
    last.expression = expression("last(n)");
    if let Some(aggregate) = &mut last.aggregate {
        aggregate.call = Call::parse("last(n)").unwrap();
        aggregate.windows[0].window.length = Some(Length::parse("1h").unwrap());
    }
    let mut readings =
        vec![Reading { view: Arc::new(latest), source: Arc::clone(&source), keys: vec![name("shop")] }];
    let mut outputs = vec![(0, 0)];
    if windows {
        // `count(*)` and `sum(n)`.
        for view in [in_window, in_order] {
            let source = Arc::clone(&source);
            readings.push(Reading { view: Arc::new(view), source, keys: vec![name("shop")] });
        }
        outputs.extend([(1, 0), (1, 2), (2, 0)]);
    }
    let output = |(reading, feature): (usize, usize)| OutputColumn {
        name: format!("{reading}_{feature}"),
        from: Origin::Feature { reading, feature },
        data_type: asof_model::DataType::Int64,
    };
    let selection = Selection {
        project: name("shop"),
        service: None,
        columns: outputs.into_iter().map(output).collect(),
        readings,
        request: Vec::new(),
        steps: Vec::new(),
        labels: Vec::new(),
    };
    let catalog = Arc::new(folder.catalog(sources));
    let times = TimestampMicrosecondArray::from(asked.to_vec()).with_timezone("UTC");
    let table = RecordBatch::try_from_iter([
        ("shop", Arc::new(Int64Array::from(vec![1; asked.len()])) as ArrayRef),
        ("t", Arc::new(times) as ArrayRef),
    ])
    .unwrap();
    let spine = SpineRows { batches: vec![table], time: "t".to_owned() };
    folder.runtime.block_on(answer(&folder.engine, &catalog, &selection, &spine, question, at, None))
}

/// What shop 1 is answered at some times, as `LATEST COUNT SUM`, null as `-`; and what was read.
fn said_at(
    folder: &Folder,
    sources: &[SourceVersion],
    asked: &[i64],
    windows: bool,
    at: (Question, &[SourceCut]),
) -> (Vec<String>, Cut) {
    let answered = match ask(folder, sources, asked, windows, at) {
        Ok(answered) => answered,
        Err(error) => panic!("{}", said(&error)),
    };
    let cut = answered.cuts[0].1.clone();
    let batches: Vec<_> = folder.runtime.block_on(answered.batches.try_collect()).unwrap();
    let row = |row: usize| {
        let cell = |column: &ArrayRef| {
            let column = column.as_primitive::<Int64Type>();
            if column.is_null(row) { "-".to_owned() } else { column.value(row).to_string() }
        };
        let mut cells: Vec<String> = batches[0].columns.iter().map(cell).collect();
        if windows {
            // The last of an hour is the latest.
            assert_eq!(cells.pop().as_ref(), cells.first(), "the last at {}", asked[row]);
        }
        cells.join(" ")
    };
    ((0..asked.len()).map(row).collect(), cut)
}

/// What shop 1 is answered, wherever the rows come from: per time what is said under *known* and under *event*.
fn says_of(
    everywhere: &[From],
    rows: &[Told],
    define: &dyn Fn(&mut Source),
    windows: bool,
    wanted: &[(i64, &str, &str)],
) {
    let asked: Vec<i64> = wanted.iter().map(|(t, ..)| *t).collect();
    for from in everywhere {
        let folder = Folder::new();
        let sources = sources(&folder, *from, rows, define);
        for question in [Question::Known, Question::Event] {
            let (found, _) = said_at(&folder, &sources, &asked, windows, (question, &[]));
            for (found, (t, known, event)) in found.iter().zip(wanted) {
                let wanted = if question == Question::Known { known } else { event };
                assert_eq!(found, wanted, "{from:?} at {t} under {question:?}");
            }
        }
    }
}

fn says(rows: &[Told], wanted: &[(i64, &str, &str)]) {
    says_of(&EVERYWHERE, rows, &|_| {}, true, wanted);
}

#[test]
fn of_each_id_the_version_last_in_v_counts() {
    let rows = [told("a", 10, 30, 3), told("b", 5, 5, 7), told("a", 10, 10, 1), told("a", 10, 20, 2)];
    says(
        &rows,
        &[
            (15, "1 2 8", "3 2 10"),
            (19, "1 2 8", "3 2 10"),
            (20, "2 2 9", "3 2 10"),
            (35, "3 2 10", "3 2 10"),
        ],
    );
}

#[test]
fn a_delete_with_an_id_withdraws_its_event_whatever_its_own_event_time() {
    let rows = [told("b", 5, 5, 7), told("a", 10, 10, 1), withdrawn("a", 99, 20)];
    says(&rows, &[(15, "1 2 8", "7 1 7"), (20, "7 1 7", "7 1 7"), (100, "7 1 7", "7 1 7")]);
}

#[test]
fn a_withdrawal_before_its_event_leaves_what_comes_later() {
    // The row came after its withdrawal: it is the last version.
    says(&[withdrawn("a", 10, 5), told("a", 10, 20, 1)], &[(15, "- 0 -", "1 1 1"), (25, "1 1 1", "1 1 1")]);
    says(&[withdrawn("a", 10, 20)], &[(15, "- 0 -", "- 0 -"), (25, "- 0 -", "- 0 -")]);
}

#[test]
fn a_later_version_brings_a_withdrawn_event_back() {
    let rows = [told("a", 10, 10, 1), withdrawn("a", 10, 20), told("a", 10, 30, 2)];
    says(&rows, &[(15, "1 1 1", "2 1 2"), (25, "- 0 -", "2 1 2"), (30, "2 1 2", "2 1 2")]);
}

#[test]
fn a_version_to_another_key_or_to_none_ends_the_event_under_the_old_key() {
    for shop in [Some(2), None] {
        let rows = [told("b", 5, 5, 7), told("a", 10, 10, 1), Told { shop, ..told("a", 10, 20, 2) }];
        says(&rows, &[(15, "1 2 8", "7 1 7"), (25, "7 1 7", "7 1 7")]);
    }
}

#[test]
fn where_is_asked_of_the_last_version() {
    let spam = |id, seen, n| Told { state: "spam", ..told(id, 10, seen, n) };
    says(&[told("a", 10, 10, 1), spam("a", 20, 2)], &[(15, "1 1 1", "- 0 -"), (25, "- 0 -", "- 0 -")]);
    says(&[spam("a", 10, 1), told("a", 10, 20, 2)], &[(15, "- 0 -", "2 1 2"), (25, "2 1 2", "2 1 2")]);
}

#[test]
fn a_version_may_move_its_event_in_time() {
    // Past t: no row of the event is left at t, though the version before it happened.
    let later = [told("b", 5, 5, 7), told("a", 10, 10, 1), told("a", 50, 20, 2)];
    says(&later, &[(15, "1 2 8", "7 1 7"), (25, "7 1 7", "7 1 7"), (55, "2 2 9", "2 2 9")]);
    // Back, behind a row that came before.
    let earlier = [told("b", 20, 20, 7), told("a", 30, 30, 1), told("a", 10, 40, 2)];
    says(&earlier, &[(35, "1 2 8", "7 2 9"), (45, "7 2 9", "7 2 9")]);
}

#[test]
fn versions_of_one_v_are_ordered_by_order_by_and_then_by_what_they_say() {
    let ranked = |rank, n| Told { rank, ..told("a", 10, 20, n) };
    let order: &dyn Fn(&mut Source) = &|source| source.order_by = Some(expression("rank"));
    let rows = [ranked(Some(2), 1), told("a", 10, 10, 9), ranked(None, 3), ranked(Some(1), 2)];
    says_of(&EVERYWHERE, &rows, order, true, &[(15, "9 1 9", "1 1 1"), (25, "1 1 1", "1 1 1")]);
    // Equal in all that is said they are one.
    let twice = [ranked(None, 4), ranked(None, 4), told("b", 5, 5, 7)];
    says(&twice, &[(15, "7 1 7", "4 2 11"), (25, "4 2 11", "4 2 11")]);
    // Read in place what they say decides, whatever the order of rows.
    let in_place: Vec<Vec<String>> = [[1, 2, 3], [3, 1, 2], [2, 3, 1]]
        .iter()
        .map(|order| {
            let rows: Vec<Told> = order.iter().map(|n| ranked(None, *n)).collect();
            let folder = Folder::new();
            let sources = sources(&folder, From::Parquet, &rows, &|_| {});
            said_at(&folder, &sources, &[25], true, (Question::Known, &[])).0
        })
        .collect();
    assert!(in_place.iter().all(|found| *found == in_place[0]), "{in_place:?}");
}

#[test]
fn loaded_versions_of_one_v_are_ordered_by_position() {
    // The second half of the rows is in the file that is first by name.
    let rows = [told("a", 10, 20, 1), told("a", 10, 20, 5), told("a", 10, 20, 4), told("a", 10, 20, 2)];
    says_of(&[From::Load], &rows, &|_| {}, true, &[(25, "5 1 5", "5 1 5")]);
}

#[test]
fn a_null_id_is_an_event_of_its_own() {
    let rows = [told("", 10, 10, 1), told("", 10, 20, 2), told("", 11, 30, 3)];
    says(&rows, &[(15, "1 1 1", "3 3 6"), (25, "2 2 3", "3 3 6"), (35, "3 3 6", "3 3 6")]);
}

#[test]
fn a_version_never_known_is_the_last_under_event_and_ends_nothing_under_known() {
    let rows = [told("a", 10, 10, 1), Told { seen: None, ..told("a", 10, 0, 2) }];
    says(&rows, &[(15, "1 1 1", "2 1 2"), (1_000, "1 0 -", "2 0 -")]);
}

#[test]
fn without_an_available_at_versions_are_ordered_by_event_time() {
    // So a correction with an earlier event time never counts.
    let assumed: &dyn Fn(&mut Source) = &|source| source.available_at = None;
    let rows = [told("a", 10, 10, 1), told("a", 30, 30, 2), told("a", 20, 40, 3)];
    says_of(
        &EVERYWHERE,
        &rows,
        assumed,
        true,
        &[(15, "1 1 1", "- 0 -"), (25, "3 1 3", "- 0 -"), (35, "2 1 2", "2 1 2")],
    );
}

#[test]
fn a_delete_without_an_id_ends_its_key_and_has_no_place_beside_windows() {
    let gone = Told { gone: true, ..told("", 20, 20, 0) };
    let rows = [told("a", 10, 10, 1), gone, told("a", 12, 15, 2), told("b", 30, 30, 3)];
    says_of(
        &EVERYWHERE,
        &rows,
        &|_| {},
        false,
        &[(11, "1", "-"), (17, "2", "2"), (25, "-", "-"), (35, "3", "3")],
    );
    let refused: Vec<String> = EVERYWHERE
        .iter()
        .map(|from| {
            let folder = Folder::new();
            let sources = sources(&folder, *from, &rows, &|_| {});
            format!(
                "{from:?}: {}",
                said(&ask(&folder, &sources, &[25], true, (Question::Known, &[])).err().unwrap())
            )
        })
        .collect();
    insta::assert_snapshot!(refused.join("\n"));
}

#[test]
fn an_id_may_be_an_expression_over_several_columns() {
    let text: &dyn Fn(&mut Source) =
        &|source| source.id = Some(expression("id || '/' || cast(rank as varchar)"));
    let line =
        |rank, at, seen, n| Told { rank: Some(rank), ..told("an order with a long name", at, seen, n) };
    let rows = [line(1, 10, 10, 1), line(2, 11, 11, 2), line(1, 12, 20, 3)];
    says_of(&EVERYWHERE, &rows, text, true, &[(15, "2 2 3", "3 2 5"), (25, "3 2 5", "3 2 5")]);
}

#[test]
fn a_correction_that_is_loaded_later_changes_nothing_at_an_older_cut() {
    let folder = Folder::new();
    let none: &dyn Fn(&mut Source) = &|_| {};
    let rows = [told("a", 10, 10, 1), told("b", 5, 5, 7)];
    let sources = sources(&folder, From::Load, &rows, none);
    let asked = [15, 25];
    for question in [Question::Known, Question::Event] {
        let (before, _) = said_at(&folder, &sources, &asked, true, (question, &[]));
        assert_eq!(before, ["1 2 8", "1 2 8"]);
    }
    let (_, cut) = said_at(&folder, &sources, &asked, true, (Question::Known, &[]));
    folder.parquet("data/c.parquet", 10, &[table(&[told("a", 10, 20, 2), withdrawn("b", 5, 12)])]);
    assert_eq!(load(&folder, &sources[0], &["c"]), 2);
    let now = |question| said_at(&folder, &sources, &asked, true, (question, &[])).0;
    assert_eq!(now(Question::Known), ["1 1 1", "2 1 2"]);
    assert_eq!(now(Question::Event), ["2 1 2", "2 1 2"]);
    let at = SourceCut {
        source: sources[0].address.clone(),
        source_id: sources[0].id.clone(),
        visible: VisibleTimes::Declared,
        cut,
    };
    for question in [Question::Known, Question::Event] {
        let at = (question, std::slice::from_ref(&at));
        assert_eq!(said_at(&folder, &sources, &asked, true, at).0, ["1 2 8", "1 2 8"]);
    }
}

#[test]
fn rows_that_are_loaded_again_change_nothing() {
    let folder = Folder::new();
    let none: &dyn Fn(&mut Source) = &|_| {};
    let rows = [told("a", 10, 10, 1), told("b", 5, 5, 7), told("a", 10, 20, 2), withdrawn("b", 5, 30)];
    let sources = sources(&folder, From::Load, &rows, none);
    let asked = [7, 15, 25, 35];
    let all = |question| said_at(&folder, &sources, &asked, true, (question, &[])).0;
    let before = [all(Question::Known), all(Question::Event)];
    assert_eq!(before[0], ["7 1 7", "1 2 8", "2 2 9", "2 1 2"]);
    // The same file, and the same rows in another one.
    assert_eq!(load(&folder, &sources[0], &["a", "b"]), 0);
    let other: Vec<Told> = rows.iter().rev().copied().chain([told("c", 2_000, 2_000, 9)]).collect();
    folder.parquet("data/c.parquet", 10, &[table(&other)]);
    assert_eq!(load(&folder, &sources[0], &["c"]), 5);
    assert_eq!([all(Question::Known), all(Question::Event)], before);
}
