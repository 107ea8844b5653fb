//! What a materialisation reads of a source that moved: what is new of it, and all of it only where more
//! was done to it than to add rows. Counted in rows read, never in time.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use arrow::array::{ArrayRef, BooleanArray, Int64Array, RecordBatch};
use asof_engine::delta::{LoadFile, OnBadRow};
use asof_engine::no_progress;
use asof_flow::MaterializeReport;
use asof_model::{Address, Format, Place, Principal, Source, SourceVersion, Version, VersionId};

use crate::delta_table::DeltaTable;
use crate::fixture::{Node, Row, Shape, address, csv, entity, name, row, source, view};

fn batch(rows: &[Row]) -> RecordBatch {
    let numbers = |of: &dyn Fn(&Row) -> Option<i64>| -> ArrayRef {
        Arc::new(rows.iter().map(of).collect::<Int64Array>())
    };
    let columns: [(&str, ArrayRef); 7] = [
        ("item", numbers(&|row| row.item)),
        ("e", numbers(&|row| Some(row.e))),
        ("v", numbers(&|row| row.v)),
        ("n", numbers(&|row| Some(row.n))),
        ("gone", Arc::new(rows.iter().map(|row| Some(row.gone)).collect::<BooleanArray>())),
        ("until", numbers(&|row| row.until)),
        ("price", numbers(&|row| row.price)),
    ];
    RecordBatch::try_from_iter_with_nullable(columns.map(|(name, column)| (name, column, true))).unwrap()
}

/// Applies view `price` over a source that is read from this place.
fn apply(node: &Node, place: Place, store: bool, others: Vec<SourceVersion>) {
    let shape = Shape::default();
    let made = source(true);
    let changed = SourceVersion { definition: Source { place, store, ..made.definition }, ..made };
    let mut put = vec![Version::Entity(Arc::new(entity())), Version::Source(Arc::new(changed))];
    put.extend(others.into_iter().map(|source| Version::Source(Arc::new(source))));
    put.push(Version::View(Arc::new(view("price", &shape))));
    node.put(put);
}

fn files(path: &str, format: Format) -> Place {
    Place::Files { path: path.to_owned(), format, options: BTreeMap::new() }
}

/// Units, rows read, rows online, and whether it was read anew, of a materialisation.
fn read(report: &MaterializeReport) -> (u64, u64, u64, bool) {
    (report.units, report.rows_read, report.rows, report.rebuilt.is_some())
}

fn price(node: &Node, item: i64) -> Option<i64> {
    node.answers(&node.reader(), &[Some(item)], None)[0].2
}

#[test]
fn a_delta_table_that_only_grew_is_read_on_from_there() {
    let folder = tempfile::tempdir().unwrap();
    let node = Node::open(folder.path());
    let mut table = DeltaTable::begin(&node.root.join("table"), &batch(&[]).schema(), &[]);
    let first =
        table.add("part%20a.parquet", &batch(&[row(1, 10, 1, 100), row(2, 10, 2, 200), row(3, 10, 3, 300)]));
    // The log writes the name of a file as an address.
    table.commit(&[first.replace("part%20a", "part%2520a")]);
    apply(&node, files("table", Format::Delta), false, Vec::new());
    let built = node.materialize().unwrap();
    assert_eq!(read(&built), (1, 3, 3, false));
    assert_eq!(read(&node.materialize().unwrap()), (0, 0, 3, false), "the same version");

    let added = table.add("b.parquet", &batch(&[row(1, 20, 4, 101), row(4, 20, 5, 400)]));
    table.commit(&[added]);
    let status = node.runtime.block_on(node.flow.status(&Principal::owner(), None)).unwrap();
    assert_eq!((status[0].units_behind, status[0].rows_behind), (Some(1), Some(2)));
    let grown = node.materialize().unwrap();
    assert_eq!((read(&grown), grown.generation), ((1, 2, 4, false), built.generation));
    assert_eq!([1, 2, 4].map(|item| price(&node, item)), [Some(101), Some(200), Some(400)]);

    // Two versions at once, then one that adds no rows.
    for (file, item) in [("c.parquet", 5), ("d.parquet", 6)] {
        let added = table.add(file, &batch(&[row(item, 30, item, item * 100)]));
        table.commit(&[added]);
    }
    assert_eq!(read(&node.materialize().unwrap()), (1, 2, 6, false));
    table.commit(&[r#"{"commitInfo":{"operation":"OPTIMIZE"}}"#.to_owned()]);
    assert_eq!(read(&node.materialize().unwrap()), (1, 0, 6, false));
    assert_eq!(read(&node.materialize().unwrap()), (0, 0, 6, false));

    // A file is taken away as another comes: all is read anew, aside.
    let remove = r#"{"remove":{"path":"b.parquet","deletionTimestamp":1,"dataChange":true}}"#.to_owned();
    let added = table.add("e.parquet", &batch(&[row(7, 40, 9, 700)]));
    table.commit(&[remove, added]);
    let rebuilt = node.materialize().unwrap();
    assert_eq!(read(&rebuilt), (1, 6, 6, true));
    assert_ne!(rebuilt.generation, built.generation);
    assert_eq!(
        rebuilt.rebuilt.unwrap(),
        "more was done to the Delta table `table` between its versions 5 and 6 than to append files"
    );
    assert_eq!([1, 4, 7].map(|item| price(&node, item)), [Some(100), None, Some(700)]);
    assert_eq!(node.store.snapshot().unwrap().generations().unwrap().len(), 1);
}

fn load(node: &Node, source: &str, rows: &[Row], file: &str) -> u64 {
    node.write(file, rows);
    let file = LoadFile { path: node.root.join(file), name: file.to_owned(), partitions: Vec::new() };
    let (owner, shop, source) = (Principal::owner(), name("shop"), name(source));
    let load = node.flow.load(&owner, &shop, &source, Some(vec![file]), OnBadRow::Stop, no_progress());
    node.runtime.block_on(load).unwrap().rows
}

#[test]
fn a_stored_source_is_read_from_the_last_position_on() {
    let folder = tempfile::tempdir().unwrap();
    let node = Node::open(folder.path());
    apply(&node, files("in/*.csv", Format::Csv), true, Vec::new());
    let rows = |from: i64, to: i64| -> Vec<Row> { (from..to).map(|n| row(n % 40, n, n, n)).collect() };
    assert_eq!(load(&node, "prices", &rows(0, 900), "in/a.csv"), 900);
    assert_eq!(read(&node.materialize().unwrap()), (1, 900, 40, false));
    assert_eq!(read(&node.materialize().unwrap()), (0, 0, 40, false));
    assert_eq!(load(&node, "prices", &rows(900, 907), "in/b.csv"), 7);
    // Rows read are those that the scan gave, so what was loaded before was not even looked at.
    assert_eq!(read(&node.materialize().unwrap()), (1, 7, 40, false));
    for n in 0..3 {
        load(&node, "prices", &rows(907 + n, 908 + n), &format!("in/c{n}.csv"));
    }
    assert_eq!(read(&node.materialize().unwrap()), (1, 3, 40, false));
    assert_eq!(price(&node, 909 % 40), Some(909));
    // A load of no rows is a version of the table, and nothing new.
    assert_eq!(load(&node, "prices", &[], "in/d.csv"), 0);
    assert_eq!(read(&node.materialize().unwrap()), (0, 0, 40, false));
}

#[test]
fn a_query_is_read_again_only_where_its_sources_moved() {
    let folder = tempfile::tempdir().unwrap();
    let node = Node::open(folder.path());
    let made = source(true);
    let input = |called: &str, store: bool| SourceVersion {
        address: Address { name: name(called), ..address(called) },
        id: VersionId(format!("{called:0>32}")),
        definition: Source {
            name: name(called),
            place: files(&format!("{called}/*.csv"), Format::Csv),
            store,
            ..made.definition.clone()
        },
        columns: made.columns.clone(),
    };
    let text = "select * from kept union all select * from there".to_owned();
    apply(&node, Place::Sql { text }, false, vec![input("kept", true), input("there", false)]);
    load(&node, "kept", &[row(1, 10, 1, 100)], "kept/a.csv");
    node.write("there/a.csv", &[row(2, 10, 2, 200)]);
    assert_eq!(read(&node.materialize().unwrap()), (1, 2, 2, false));
    assert_eq!(read(&node.materialize().unwrap()), (0, 0, 2, false));
    // The table has another version, and the same rows.
    load(&node, "kept", &[], "kept/b.csv");
    assert_eq!(read(&node.materialize().unwrap()), (0, 0, 2, false));
    load(&node, "kept", &[row(3, 20, 3, 300)], "kept/c.csv");
    let again = node.materialize().unwrap();
    assert_eq!(read(&again), (1, 3, 3, true));
    assert_eq!(again.rebuilt.unwrap(), "a source that its query reads moved");
    overwrite(&node.root.join("there/a.csv"), &[row(2, 30, 4, 201)]);
    assert_eq!(read(&node.materialize().unwrap()), (1, 3, 3, true));
    assert_eq!([1, 2, 3].map(|item| price(&node, item)), [Some(100), Some(201), Some(300)]);
}

fn overwrite(file: &Path, rows: &[Row]) {
    std::fs::write(file, csv(rows)).unwrap();
}
