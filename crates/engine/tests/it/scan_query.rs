//! Sources with `sql`: one order of rows whatever the threads, and errors that never hold a cell.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use arrow::array::{ArrayRef, AsArray, Float64Array, Int64Array, RecordBatch};
use arrow::datatypes::{Float64Type, Int64Type};
use asof_engine::Error;
use asof_engine::rows::ViewProgress;
use asof_engine::source::scan;
use asof_engine::training::TrainRequest;
use asof_model::{
    Catalog, FileFormat, Format, Origin, OutputColumn, Place, Reading, Revision, Selection, SourceVersion,
    Version,
};

use crate::flock::{Flock, SPINE, view_version};
use crate::project::{Folder, all, at, columns, files, name, said, version};

fn query(called: &str, text: &str, types: &[(&str, &str)]) -> SourceVersion {
    let mut source = files(called, "", Format::Parquet);
    source.place = Place::Sql { text: text.to_owned() };
    version(source, columns(types))
}

/// Two threads read the file's row groups at once, the largest first; a query sees them as they stand.
#[test]
fn a_query_reads_rows_in_the_order_of_files_and_rows() {
    let folder = Folder::new();
    let numbers = |from: i64, to: i64| {
        let n = Int64Array::from_iter_values(from..to);
        let x = Float64Array::from_iter_values((from..to).map(|n| 0.1 * n as f64));
        RecordBatch::try_from_iter([("n", Arc::new(n) as ArrayRef), ("x", Arc::new(x))]).unwrap()
    };
    folder.parquet("d/a.parquet", 700, &[numbers(0, 10_000)]);
    folder.parquet("d/b.parquet", 900, &[numbers(10_000, 30_000)]);
    let table = version(files("t", "d", Format::Parquet), columns(&[("n", "int64"), ("x", "float64")]));
    let read = |text: &str, types: &[(&str, &str)]| {
        let source = query("q", text, types);
        let catalog = folder.catalog(&[table.clone(), source.clone()]);
        let scan = folder.runtime.block_on(scan(&folder.engine, &catalog, &source, &all())).unwrap();
        folder.collect(&scan).unwrap()
    };
    let found = read("select n, row_number() over () as r from t", &[("n", "int64"), ("r", "uint64")]);
    let n = found.column_by_name("n").unwrap().as_primitive::<Int64Type>().values().to_vec();
    assert_eq!(n, (0..30_000).collect::<Vec<_>>());
    let found = read("select n from t limit 10", &[("n", "int64")]);
    let n = found.column_by_name("n").unwrap().as_primitive::<Int64Type>().values().to_vec();
    assert_eq!(n, (0..10).collect::<Vec<_>>());
    let found = read("select sum(x) as s from t", &[("s", "float64")]);
    let sum = found.column_by_name("s").unwrap().as_primitive::<Float64Type>().value(0);
    for _ in 0..3 {
        let again = read("select sum(x) as s from t", &[("s", "float64")]);
        let again = again.column_by_name("s").unwrap().as_primitive::<Float64Type>().value(0);
        assert_eq!(again.to_bits(), sum.to_bits());
    }
}

/// Training, materialisation, looking and asking: the query of a source fails on a row, and none of them
/// says what stands in it.
#[test]
fn errors_of_a_source_with_sql_never_hold_a_cell() {
    let flock = Flock::new();
    let mut told = Vec::new();
    for (text, kind) in [
        ("select cast(secret as int) as n, seller, posted from price_rows", "int32"),
        ("select cast(secret as date) as n, seller, posted from price_rows", "date"),
        ("select cast(decode(secret, 'base64') as varchar) as n, seller, posted from price_rows", "string"),
        ("select 10 / (price - 10) as n, seller, posted from price_rows", "int64"),
        ("select price * 9223372036854775807 as n, seller, posted from price_rows", "int64"),
        (
            "select sum(cast(secret as decimal(4,2))) as n, seller, posted from price_rows group by 2, 3",
            "decimal(14,2)",
        ),
    ] {
        let mut source =
            query("broken_rows", text, &[("n", kind), ("seller", "int64"), ("posted", "timestamp")]);
        source.definition.event_time = at("posted");
        let view = view_version("broken", &source, "seller", None, None, &[("n", "n", kind)]);
        let (source, view) = (Arc::new(source), Arc::new(view));
        let selection = Selection {
            project: name("shop"),
            service: None,
            columns: vec![OutputColumn {
                name: "n".to_owned(),
                from: Origin::Feature { reading: 0, feature: 0 },
                data_type: view.features[0].data_type.clone(),
            }],
            readings: vec![Reading {
                source: Arc::clone(&source),
                view: Arc::clone(&view),
                keys: vec![name("seller")],
            }],
            request: Vec::new(),
            steps: Vec::new(),
            labels: Vec::new(),
        };
        let of_flock = flock.catalog.projects[&name("shop")].sources.values().cloned().map(Version::Source);
        let versions = of_flock.chain([Version::Source(source), Version::View(Arc::clone(&view))]);
        let roots = BTreeMap::from([(name("shop"), flock.folder.root().to_owned())]);
        let catalog = Arc::new(Catalog::from_versions(Revision(8), roots, versions));
        let engine = &flock.folder.engine;
        let wait = &flock.folder.runtime;

        let train = wait.block_on(async {
            let request = TrainRequest { selection, ..flock.request(SPINE, FileFormat::Csv) };
            let mut training =
                engine.train(Arc::clone(&catalog), request, asof_engine::no_progress()).await?;
            while training.next().await?.is_some() {}
            training.finish().await.map(drop)
        });
        let materialize = wait.block_on(async {
            let rows = engine.rows(&catalog, &view, &ViewProgress::default()).await?;
            let (to, mut from) = tokio::sync::mpsc::channel(8);
            let taken = async { while from.recv().await.is_some() {} };
            let (read, ()) = futures::join!(rows.read(&rows.units()[0], to), taken);
            read.map(drop)
        });
        let sample = wait.block_on(engine.sample(&catalog, &view, 10, Duration::from_secs(600))).map(drop);
        let mut scope = flock.scope(Vec::new());
        scope.catalog = Arc::clone(&catalog);
        let sql = flock.sql_in(scope, "select * from broken", Default::default()).map(drop);
        for (what, done) in [("train", train), ("materialize", materialize), ("sample", sample), ("sql", sql)]
        {
            let error: Error = done.unwrap_err();
            let whole = format!("{}\n{error:?}", said(&error));
            for cell in ["BOB", "SSN", "123"] {
                assert!(!whole.contains(cell), "{what} {text}: {whole}");
            }
            told.push(format!("{what}: {text}\n{}", said(&error)));
        }
    }
    insta::assert_snapshot!(told.join("\n"));
}
