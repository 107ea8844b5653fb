//! Sources with ids that nobody pushes to, however their rows are kept: what comes to them may end any row that was there
//! before, and is online as it is in training.

use std::path::Path;
use std::sync::Arc;

use arrow::array::{ArrayRef, BooleanArray, Int64Array, RecordBatch, TimestampMicrosecondArray};
use arrow::util::display::array_value_to_string;
use asof_engine::delta::{LoadFile, OnBadRow};
use asof_engine::no_progress;
use asof_flow::MaterializeReport;
use asof_model::{Ask, Explain as _, Principal, Question, Timestamp};
use asof_serve::EntityColumns;

use crate::delta_table::DeltaTable;
use crate::fixture::{address, name};
use crate::node::{Node, request, resolved};

/// Where the rows of each source are.
const SOURCES: [(&str, &str); 4] = [
    ("files", "path: files/*.parquet"),
    ("delta", "path: table\nformat: delta"),
    ("stored", "path: load/*.parquet\nstore: true"),
    ("asked", "sql: select * from stored"),
];

/// 2026-01-01T00:00:00Z.
const BEGIN: i64 = 1_767_225_600_000_000;
const MINUTE: i64 = 60_000_000;

/// Event, shop, when it happened and was known in minutes, number, whether it is a withdrawal.
type Row = (Option<i64>, Option<i64>, i64, i64, i64, bool);

/// What comes at once.
const PORTIONS: [&[Row]; 4] = [
    &[
        (Some(1), Some(1), 1, 1, 10, false),
        (Some(2), Some(1), 3, 3, 20, false),
        (Some(3), Some(2), 2, 2, 30, false),
        (None, Some(1), 2, 2, 5, false),
    ],
    // One that happened later than was said, one withdrawn, one of another shop.
    &[
        (Some(1), Some(1), 4, 6, 11, false),
        (Some(2), None, 5, 7, 0, true),
        (Some(3), Some(1), 2, 5, 33, false),
    ],
    // Withdrawn before it comes, and one that comes back.
    &[(Some(4), None, 0, 4, 0, true), (Some(2), Some(1), 3, 9, 21, false)],
    // Known before what is there already.
    &[(Some(4), Some(2), 1, 3, 40, false), (Some(1), Some(2), 1, 2, 12, false)],
];

fn batch(rows: &[Row]) -> RecordBatch {
    let numbers = |of: &dyn Fn(&Row) -> Option<i64>| -> ArrayRef {
        Arc::new(rows.iter().map(of).collect::<Int64Array>())
    };
    let times = |of: &dyn Fn(&Row) -> i64| -> ArrayRef {
        let times = rows.iter().map(|row| BEGIN + of(row) * MINUTE);
        Arc::new(TimestampMicrosecondArray::from_iter_values(times).with_timezone("UTC"))
    };
    let columns: [(&str, ArrayRef); 6] = [
        ("event", numbers(&|row| row.0)),
        ("shop", numbers(&|row| row.1)),
        ("at", times(&|row| row.2)),
        ("known", times(&|row| row.3)),
        ("n", numbers(&|row| Some(row.4))),
        ("gone", Arc::new(rows.iter().map(|row| Some(row.5)).collect::<BooleanArray>())),
    ];
    RecordBatch::try_from_iter_with_nullable(columns.map(|(name, column)| (name, column, true))).unwrap()
}

fn parquet(rows: &[Row], path: &Path) {
    std::fs::create_dir_all(path.parent().unwrap()).unwrap();
    let file = std::fs::File::create(path).unwrap();
    let rows = batch(rows);
    let mut writer = parquet::arrow::ArrowWriter::try_new(file, rows.schema(), None).unwrap();
    writer.write(&rows).unwrap();
    writer.close().unwrap();
}

fn definitions() -> String {
    let mut text = "entity: shop\nkeys: {shop: int64}\n".to_owned();
    for (name, place) in SOURCES {
        text += &format!(
            "---\nsource: {name}\n{place}\nevent_time: at\navailable_at: known\nid: event\ndelete_when: gone\n\
             ---\nview: last_{name}\nentity: shop\nsource: {name}\nhistory: all\nfeatures: {{n: n}}\n\
             ---\nview: sums_{name}\nentity: shop\nsource: {name}\nhistory: all\nwindows: [5m, all]\n\
             features: {{total: {{agg: sum(n)}}, rows: {{agg: count(*)}}}}\n"
        );
    }
    text
}

fn materialize(node: &Node) -> Vec<MaterializeReport> {
    let (owner, shop) = (Principal::owner(), name("shop"));
    node.runtime.block_on(node.flow.materialize(&owner, &shop, None, no_progress())).unwrap()
}

fn load(node: &Node, path: &Path) {
    let (owner, shop, source) = (Principal::owner(), name("shop"), name("stored"));
    let called = path.file_name().unwrap().to_string_lossy().into_owned();
    let file = LoadFile { path: path.to_owned(), name: called, partitions: Vec::new() };
    let load = node.flow.load(&owner, &shop, &source, Some(vec![file]), OnBadRow::Stop, no_progress());
    node.runtime.block_on(load).unwrap();
}

const FEATURES: [&str; 5] = ["n", "total_5m", "total_all", "rows_5m", "rows_all"];

/// The features over a source.
fn ask(source: &str) -> Ask {
    let view = |feature: &str| if feature == "n" { "last" } else { "sums" };
    Ask::Features(FEATURES.iter().map(|it| format!("{}_{source}.{it}", view(it))).collect())
}

/// What is answered of both shops at a minute, as one line.
fn served(node: &Node, source: &str, minute: i64) -> Vec<String> {
    let prepared = node.reader.prepare(&node.registry.catalog(), &name("shop"), &ask(source), false).unwrap();
    let shops = Arc::new(Int64Array::from(vec![1, 2]));
    let entities = EntityColumns::new(vec![("shop".to_owned(), shops)]).unwrap();
    let found = node.reader.read(&prepared, &entities, Some(Timestamp(BEGIN + minute * MINUTE))).unwrap();
    let columns: Vec<ArrayRef> = found.columns().map(|column| column.array().unwrap()).collect();
    lines(&columns)
}

fn lines(columns: &[ArrayRef]) -> Vec<String> {
    let line = |row| {
        let values = columns.iter().map(|column| match column.is_null(row) {
            true => "null".to_owned(),
            false => array_value_to_string(column, row).unwrap(),
        });
        values.collect::<Vec<_>>().join(" ")
    };
    (0..columns[0].len()).map(line).collect()
}

/// The same of all minutes, as a training set has them.
fn trained(node: &Node, source: &str) -> Vec<String> {
    let mut spine = "shop,t\n".to_owned();
    for minute in 0..MINUTES {
        for shop in 1..=2 {
            spine += &format!("{shop},2026-01-01T00:{minute:02}:00Z\n");
        }
    }
    let (rows, _) = node.train(ask(source), &spine, Question::Known);
    let columns: Vec<ArrayRef> =
        FEATURES.iter().map(|name| Arc::clone(rows.column_by_name(name).unwrap())).collect();
    lines(&columns)
}

const MINUTES: i64 = 13;

#[test]
fn versions_are_served_wherever_they_are_read() {
    let folder = tempfile::tempdir().unwrap();
    let root = folder.path();
    let mut node = Node::open(root, BEGIN + MINUTES * MINUTE);
    parquet(PORTIONS[0], &root.join("files/0.parquet"));
    parquet(PORTIONS[0], &root.join("load/0.parquet"));
    let mut table = DeltaTable::begin(&root.join("table"), &batch(&[]).schema(), &[]);
    table.commit(&[table.add("0.parquet", &batch(PORTIONS[0]))]);
    node.put(resolved(&node.runtime, &node.engine, root, &definitions()));
    load(&node, &root.join("load/0.parquet"));
    for (number, rows) in PORTIONS.iter().enumerate() {
        if number > 0 {
            let called = format!("{number}.parquet");
            parquet(rows, &root.join("files").join(&called));
            table.commit(&[table.add(&called, &batch(rows))]);
            parquet(rows, &root.join("load").join(&called));
            load(&node, &root.join("load").join(&called));
            let status = node.runtime.block_on(node.flow.status(&Principal::owner(), None)).unwrap();
            for view in &status {
                assert_eq!(view.units_behind, Some(1), "{view:?}");
                let known =
                    ["delta", "stored"].iter().any(|source| view.view.name.as_str().ends_with(source));
                assert_eq!(view.rows_behind, known.then_some(rows.len() as u64), "{view:?}");
            }
        }
        for report in materialize(&node) {
            let source = report.view.rsplit('_').next().unwrap();
            let why = match source {
                "files" => format!("file `files/{number}.parquet` is new"),
                "asked" => "a source that its query reads moved".to_owned(),
                _ => "rows came that may be versions of events it has".to_owned(),
            };
            assert_eq!(report.rebuilt, (number > 0).then_some(why), "portion {number}: {report:?}");
        }
        for again in materialize(&node) {
            assert_eq!((again.units, &again.rebuilt), (0, &None), "nothing is new: {again:?}");
        }
        let first = trained(&node, "files");
        for (source, _) in SOURCES {
            assert_eq!(trained(&node, source), first, "portion {number}, trained on `{source}`");
            let found: Vec<String> = (0..MINUTES).flat_map(|minute| served(&node, source, minute)).collect();
            assert_eq!(found, first, "portion {number}, served from `{source}`");
        }
        let at = |minute: i64, shop: i64| first[(minute * 2 + shop - 1) as usize].as_str();
        match number {
            0 => assert_eq!([at(10, 1), at(10, 2)], ["20 null 35 0 3", "30 null 30 0 1"]),
            1 => {
                assert_eq!([at(5, 1), at(5, 2)], ["20 68 68 4 4", "null null null 0 0"]);
                assert_eq!([at(8, 1), at(10, 1)], ["11 11 49 1 3", "11 null 49 0 3"]);
            }
            2 => assert_eq!([at(8, 1), at(10, 1)], ["11 11 49 1 3", "11 null 70 0 4"]),
            // The fourth event stood for a minute; the first was another shop's until it was corrected.
            _ => assert_eq!([at(3, 2), at(4, 2), at(5, 1)], ["30 82 82 3 3", "30 42 42 2 2", "20 58 58 3 3"]),
        }
        // What was read is known over a restart.
        drop(node);
        node = Node::open(root, BEGIN + MINUTES * MINUTE);
        assert!(materialize(&node).iter().all(|report| report.units == 0 && report.rebuilt.is_none()));
    }
    // A file that went took its corrections along.
    std::fs::remove_file(root.join("files/1.parquet")).unwrap();
    let reports = materialize(&node);
    let rebuilt =
        reports.iter().filter_map(|report| Some((report.view.as_str(), report.rebuilt.as_deref()?)));
    for (view, why) in rebuilt.clone() {
        assert!(why.ends_with("files/1.parquet` is no longer there"), "{view}: {why}");
    }
    assert_eq!(rebuilt.map(|(view, _)| view).collect::<Vec<_>>(), ["shop.last_files", "shop.sums_files"]);
    let found: Vec<String> = (0..MINUTES).flat_map(|minute| served(&node, "files", minute)).collect();
    assert_eq!(found, trained(&node, "files"));
    assert_ne!(found, trained(&node, "delta"));
    // Without ids the latest values of files are kept in the other store, with them in this one; never in both.
    let live = |node: &Node| {
        let all = node.views.all();
        all.iter().filter(|generation| generation.record.view == address("last_files")).count()
    };
    assert_eq!(live(&node), 1);
    let ids = definitions();
    let id = "id: event\ndelete_when: gone\n---\nview: last_files";
    assert!(ids.contains(id));
    let without = ids
        .replace(id, "---\nview: last_files")
        .replace("sums_files\nentity: shop\nsource: files", "sums_files\nentity: shop\nsource: delta");
    for (text, kept) in [(without, 0), (ids, 1)] {
        node.put(resolved(&node.runtime, &node.engine, root, &text));
        materialize(&node);
        assert_eq!(live(&node), kept);
        let found: Vec<String> = (0..MINUTES).flat_map(|minute| served(&node, "files", minute)).collect();
        assert_eq!(found, trained(&node, "files"));
    }
    // A data file that somebody took from the table is named.
    std::fs::remove_file(root.join("table/2.parquet")).unwrap();
    let catalog = node.registry.catalog();
    let asked = request(&catalog, ask("delta"), &root.join("spine.csv"), Question::Known);
    let gone = crate::node::trained(&node.runtime, &node.engine, &catalog, asked).unwrap_err();
    assert!(gone.code() == "changed" && gone.to_string().contains("table/2.parquet` is not there"), "{gone}");
}
