//! Loading files into stored sources.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;

use arrow::array::{Array, ArrayRef, Int64Array, RecordBatch, TimestampMicrosecondArray};
use asof_engine::delta::{FileLoad, LoadFile, OnBadRow};
use asof_engine::{Error, no_progress};
use asof_model::{Format, NullKeys, Source, SourceVersion};
use deltalake_core::DeltaTableBuilder;

use crate::project::{Folder, at, columns, expression, files, said, version};

fn stored(format: Format) -> Source {
    let ending = match format {
        Format::Csv => "csv",
        Format::Ndjson => "ndjson",
        _ => "parquet",
    };
    let mut source = files("events", &format!("data/*.{ending}"), format);
    source.store = true;
    source.event_time = at("at");
    source
}

fn prices(format: Format) -> SourceVersion {
    version(stored(format), columns(&[("at", "timestamp"), ("id", "int64"), ("price", "float64")]))
}

impl Folder {
    fn load(&self, source: &SourceVersion, names: &[&str], on: OnBadRow) -> Result<Vec<FileLoad>, Error> {
        let patterns: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
        self.runtime.block_on(async {
            let patterns = (!patterns.is_empty()).then_some(patterns.as_slice());
            let files = self.engine.files_to_load(source, self.root(), patterns).await?;
            let standing = crate::project::standing(source);
            self.engine.load(source, &files, on, &["id".to_owned()], &standing, &no_progress()).await
        })
    }

    fn tables(&self) -> Vec<PathBuf> {
        let folder = self.root().join(".asof/offline/shop/events");
        let Ok(entries) = std::fs::read_dir(folder) else { return Vec::new() };
        let mut found: Vec<PathBuf> =
            entries.flatten().map(|entry| entry.path()).filter(|path| path.is_dir()).collect();
        found.sort();
        found.retain(|path| path.file_name().is_some_and(|name| name != "quarantine"));
        found
    }

    /// A Delta table as any engine reads it.
    fn read(&self, folder: PathBuf, sql: &str) -> String {
        self.runtime.block_on(async {
            let url = url::Url::from_directory_path(folder).unwrap();
            let table = DeltaTableBuilder::from_url(url).unwrap().load().await.unwrap();
            let session = datafusion::prelude::SessionContext::new();
            session.register_table("t", table.table_provider().await.unwrap()).unwrap();
            let batches = session.sql(sql).await.unwrap().collect().await.unwrap();
            arrow::util::pretty::pretty_format_batches(&batches).unwrap().to_string()
        })
    }

    fn stored_rows(&self) -> String {
        self.read(self.tables()[0].clone(), "select * from t order by seq")
    }

    fn quarantine(&self) -> String {
        let folder = self.root().join(".asof/offline/shop/events/quarantine");
        self.read(folder, "select file, row, reason, content from t order by file, row")
    }
}

fn report(done: &[FileLoad]) -> Vec<String> {
    done.iter()
        .map(|file| {
            let what = if file.loaded_before { "before" } else { "loaded" };
            format!("{} {what} rows={} bad={} {:?}", file.name, file.rows, file.quarantined, file.positions)
        })
        .collect()
}

#[test]
fn files_become_one_table_in_the_order_of_their_names() {
    let folder = Folder::new();
    folder.write("data/b.csv", "at,id,price\n2024-01-03,3,1e3\n2024-01-04,,\n");
    folder.write("data/a.csv", "price,at,id\n1.5,2024-01-01T10:00:00+02:00,1\n,2024-01-02,2\n");
    let done = folder.load(&prices(Format::Csv), &[], OnBadRow::Stop).unwrap();
    insta::assert_snapshot!(report(&done).join("\n"), @r"
    data/a.csv loaded rows=2 bad=0 Some((1, 2))
    data/b.csv loaded rows=2 bad=0 Some((3, 4))
    ");
    insta::assert_snapshot!(folder.stored_rows());
    let log = folder.tables()[0].join("_delta_log");
    assert_eq!(std::fs::read_dir(log).unwrap().count(), 2, "the table's making, and one commit");
}

#[test]
fn a_content_is_loaded_once_whatever_its_name() {
    let folder = Folder::new();
    let source = prices(Format::Csv);
    folder.write("data/a.csv", "at,id,price\n2024-01-03,3,1\n");
    folder.load(&source, &["data/a.csv"], OnBadRow::Stop).unwrap();
    folder.write("data/c.csv", "at,id,price\n2024-01-03,3,1\n");
    folder.write("data/d.csv", "at,id,price\n2024-01-04,3,1\n");
    folder.write("data/e.csv", "at,id,price\n2024-01-04,3,1\n");
    let done = folder.load(&source, &[], OnBadRow::Stop).unwrap();
    insta::assert_snapshot!(report(&done).join("\n"), @r"
    data/a.csv before rows=0 bad=0 None
    data/c.csv before rows=0 bad=0 None
    data/d.csv loaded rows=1 bad=0 Some((2, 2))
    data/e.csv before rows=0 bad=0 None
    ");
    let again = folder.load(&source, &[], OnBadRow::Stop).unwrap();
    assert!(again.iter().all(|file| file.loaded_before));
    assert_eq!(folder.runtime.block_on(folder.engine.position(&source)).unwrap(), Some(2));
}

/// Every way a row or a file can be wrong: nothing of any file of the load is there afterwards.
#[test]
fn what_is_wrong_stops_the_load_and_nothing_is_loaded() {
    let good = "at,id,price\n2024-01-03,3,1\n";
    let null_key = |source: &mut Source| source.null_keys = NullKeys::Refuse;
    let nothing = |_: &mut Source| {};
    let cases: Vec<(&str, Format, &str, fn(&mut Source))> = vec![
        ("cell", Format::Csv, "at,id,price\n2024-01-01,1,2\n2024-01-01,x7,2\n", nothing),
        ("cells", Format::Csv, "at,id,price\n2024-01-01,1,2\n2024-01-01,1\n", nothing),
        ("time", Format::Csv, "at,id,price\n,1,2\n", nothing),
        ("year", Format::Csv, "at,id,price\n0000-01-01,1,2\n", nothing),
        ("key", Format::Csv, "at,id,price\n2024-01-01,,2\n", null_key),
        ("new", Format::Csv, "at,id,price,colour,size\n2024-01-01,1,2,red,8\n", nothing),
        ("lost", Format::Csv, "at,id\n2024-01-01,1\n", nothing),
        ("empty", Format::Csv, "", nothing),
        ("object", Format::Ndjson, "{\"at\":\"2024-01-01\",\"id\":1}\n[1,2]\n", nothing),
        ("text", Format::Ndjson, "{\"at\":\"2024-01-01\",\"id\":1}\n{\"at\":\n", nothing),
        ("type", Format::Ndjson, "{\"at\":\"2024-01-01\",\"id\":1.5}\n", nothing),
        ("key", Format::Ndjson, "{\"at\":\"2024-01-01\",\"id\":1,\"colour\":\"red\"}\n", nothing),
        ("bytes", Format::Parquet, "no parquet", nothing),
    ];
    let mut texts = Vec::new();
    for (name, format, content, change) in cases {
        let folder = Folder::new();
        let mut source = prices(format);
        change(&mut source.definition);
        let ending = match format {
            Format::Csv => "csv",
            Format::Ndjson => "ndjson",
            _ => "parquet",
        };
        if format == Format::Csv {
            folder.write("data/a_good.csv", good);
        }
        folder.write(&format!("data/{name}.{ending}"), content);
        let error = folder.load(&source, &[], OnBadRow::Stop).unwrap_err();
        texts.push(said(&error));
        assert_eq!(folder.runtime.block_on(folder.engine.position(&source)).unwrap(), None, "{name}");
        for table in folder.tables() {
            assert!(folder.read(table, "select count(*) as n from t").contains("| 0 |"), "{name}");
        }
    }
    insta::assert_snapshot!(texts.join("\n"));
}

#[test]
fn a_changed_type_of_a_parquet_file_is_refused() {
    let folder = Folder::new();
    let batch = |id: ArrayRef| {
        RecordBatch::try_from_iter([
            ("at", Arc::new(TimestampMicrosecondArray::from(vec![1, 2])) as ArrayRef),
            ("id", id),
            ("price", Arc::new(arrow::array::Float32Array::from(vec![1.5, 2.5]))),
        ])
        .unwrap()
    };
    // Narrower is read exactly, another type is not.
    folder.parquet("data/a.parquet", 10, &[batch(Arc::new(arrow::array::Int8Array::from(vec![1, 2])))]);
    folder.load(&prices(Format::Parquet), &[], OnBadRow::Stop).unwrap();
    folder.parquet(
        "data/b.parquet",
        10,
        &[batch(Arc::new(arrow::array::BooleanArray::from(vec![true, false])))],
    );
    let error = folder.load(&prices(Format::Parquet), &["data/b.parquet"], OnBadRow::Quarantine).unwrap_err();
    insta::assert_snapshot!(said(&error));
    let none = Arc::new(Int64Array::from(vec![Some(1), None]));
    folder.parquet("data/c.parquet", 10, &[batch(none)]);
    let mut source = prices(Format::Parquet);
    source.definition.null_keys = NullKeys::Refuse;
    let error = folder.load(&source, &["data/c.parquet"], OnBadRow::Stop).unwrap_err();
    insta::assert_snapshot!(said(&error));
}

#[test]
fn bad_rows_go_to_the_quarantine_with_their_reasons() {
    let folder = Folder::new();
    let mut source = prices(Format::Csv);
    source.definition.null_keys = NullKeys::Refuse;
    folder.write(
        "data/a.csv",
        "at,id,price\n2024-01-01,1,2\n2024-01-01,x7,2\n2024-01-02,\"2\n2\",\n2024-01-03,3,3,\"a,b\"\n,4,4\n2024-01-05,5,5\n2024-01-06,,6\n",
    );
    folder.write("data/b.csv", "at,id,price\n2024-01-07,7,seven\n");
    let done = folder.load(&source, &[], OnBadRow::Quarantine).unwrap();
    insta::assert_snapshot!(report(&done).join("\n"), @r"
    data/a.csv loaded rows=2 bad=5 Some((1, 2))
    data/b.csv loaded rows=0 bad=1 None
    ");
    insta::assert_snapshot!(folder.quarantine());
    insta::assert_snapshot!(folder.stored_rows());
    // Again: nothing twice, neither here nor there.
    let before = folder.quarantine();
    assert!(folder.load(&source, &[], OnBadRow::Quarantine).unwrap().iter().all(|file| file.loaded_before));
    assert_eq!(folder.quarantine(), before);
    // The log of neither table holds a cell.
    for table in
        folder.tables().into_iter().chain([folder.root().join(".asof/offline/shop/events/quarantine")])
    {
        for entry in std::fs::read_dir(table.join("_delta_log")).unwrap().flatten() {
            let text = std::fs::read_to_string(entry.path()).unwrap();
            assert!(!text.contains("seven") && !text.contains("x7"), "{text}");
        }
    }
}

#[test]
fn ndjson_lines_that_are_no_rows_are_kept_as_text() {
    let folder = Folder::new();
    let source = prices(Format::Ndjson);
    folder.write(
        "data/a.ndjson",
        "{\"at\":\"2024-01-01\",\"id\":1}\n\n{\"at\":\n{\"at\":\"2024-01-02\",\"id\":\"x\",\"price\":0.5}\n[3]\n{\"id\":4,\"at\":\"2024-01-04\"}",
    );
    let done = folder.load(&source, &[], OnBadRow::Quarantine).unwrap();
    assert_eq!(report(&done), ["data/a.ndjson loaded rows=2 bad=3 Some((1, 2))"]);
    insta::assert_snapshot!(folder.quarantine());
}

/// As a kill between the two commits leaves it: the quarantine knows the file, the table does not.
#[test]
fn a_quarantine_is_not_filled_twice() {
    let folder = Folder::new();
    let source = prices(Format::Csv);
    folder.write("data/a.csv", "at,id,price\n2024-01-01,1,2\n2024-01-01,x7,2\n");
    folder.load(&source, &[], OnBadRow::Quarantine).unwrap();
    let before = folder.quarantine();
    std::fs::remove_dir_all(&folder.tables()[0]).unwrap();
    let done = folder.load(&source, &[], OnBadRow::Quarantine).unwrap();
    assert_eq!(report(&done), ["data/a.csv loaded rows=1 bad=1 Some((1, 1))"]);
    assert_eq!(folder.quarantine(), before);
}

#[test]
fn deletes_and_rows_never_known_are_stored_as_such() {
    let folder = Folder::new();
    let mut source = stored(Format::Csv);
    source.available_at = at("seen");
    source.delete_when = Some(expression("state = 'gone'"));
    let source = version(
        source,
        columns(&[("at", "timestamp"), ("seen", "timestamp"), ("state", "string"), ("seq", "int64")]),
    );
    folder.write(
        "data/a.csv",
        "at,seen,state,seq\n2024-01-01,2024-01-02,new,7\n2024-01-03,,gone,8\n2024-01-04,2024-01-04,,\n",
    );
    folder.load(&source, &[], OnBadRow::Stop).unwrap();
    insta::assert_snapshot!(folder.stored_rows());
}

#[test]
fn only_a_stored_source_of_files_is_loaded() {
    let folder = Folder::new();
    folder.write("data/a.csv", "at,id,price\n");
    let mut in_place = prices(Format::Csv);
    in_place.definition.store = false;
    let mut delta = prices(Format::Csv);
    delta.definition.place =
        asof_model::Place::Files { path: "t".to_owned(), format: Format::Delta, options: BTreeMap::new() };
    let errors = [
        folder.load(&in_place, &[], OnBadRow::Stop).unwrap_err(),
        folder.load(&delta, &[], OnBadRow::Stop).unwrap_err(),
        folder.load(&prices(Format::Csv), &["data/b.csv"], OnBadRow::Stop).unwrap_err(),
    ];
    insta::assert_snapshot!(errors.iter().map(said).collect::<Vec<_>>().join("\n"));
}

/// What decides the stored rows decides the table; the rest of a definition may change.
#[test]
fn a_family_of_versions_shares_a_table() {
    let folder = Folder::new();
    folder.write("data/a.csv", "at,id,price\n2024-01-03,3,1\n");
    let first = prices(Format::Csv);
    folder.load(&first, &[], OnBadRow::Stop).unwrap();
    let mut other = first.clone();
    other.definition.order_by = Some(expression("id"));
    other.definition.about.description = Some("prices".to_owned());
    assert!(folder.load(&other, &[], OnBadRow::Stop).unwrap()[0].loaded_before);
    let mut third = first.clone();
    third.definition.delete_when = Some(expression("price < 0"));
    assert!(!folder.load(&third, &[], OnBadRow::Stop).unwrap()[0].loaded_before);
    assert_eq!(folder.tables().len(), 2);
}

#[test]
fn a_file_that_changes_while_it_is_loaded_is_refused() {
    let folder = Folder::new();
    let source = prices(Format::Csv);
    let mut text = "at,id,price\n".to_owned();
    for row in 0..100_000 {
        text.push_str(&format!("2024-01-03,{row},1\n"));
    }
    folder.write("data/a.csv", &text);
    let path = folder.root().join("data/a.csv");
    let changed = std::sync::atomic::AtomicBool::new(false);
    let progress: asof_engine::Progress = Arc::new(move |_| {
        if !changed.swap(true, std::sync::atomic::Ordering::Relaxed) {
            let mut file = std::fs::File::options().append(true).open(&path).unwrap();
            std::io::Write::write_all(&mut file, b"2024-01-03,1,1\n").unwrap();
        }
    });
    let error = folder.runtime.block_on(async {
        let files = folder.engine.files_to_load(&source, folder.root(), None).await.unwrap();
        let standing = crate::project::standing(&source);
        folder.engine.load(&source, &files, OnBadRow::Stop, &[], &standing, &progress).await.unwrap_err()
    });
    assert_eq!(error.to_string(), "file `data/a.csv` was changed while it was read");
    assert_eq!(folder.runtime.block_on(folder.engine.position(&source)).unwrap(), None);
}

/// Two engines, as two processes that both think they own the directory, on one table at once.
#[test]
fn two_engines_on_one_table() {
    let folder = Folder::new();
    let source = prices(Format::Csv);
    let (one, two) = (folder.engine.clone(), {
        let config = folder.engine.config().clone();
        asof_engine::Engine::new(config).unwrap()
    });
    for file in 0..24 {
        let rows: String = (0..50).map(|row| format!("2024-01-03,{},{file}\n", file * 100 + row)).collect();
        folder.write(&format!("data/f{file:02}.csv"), format!("at,id,price\n{rows}"));
    }
    let root = folder.root().to_owned();
    let load = |engine: asof_engine::Engine, order: Vec<usize>| {
        let (root, source) = (root.clone(), source.clone());
        std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            for file in order {
                let name = format!("data/f{file:02}.csv");
                let file = LoadFile { path: root.join(&name), name, partitions: Vec::new() };
                let files = std::slice::from_ref(&file);
                let quiet = no_progress();
                let standing = crate::project::standing(&source);
                runtime
                    .block_on(engine.load(&source, files, OnBadRow::Stop, &[], &standing, &quiet))
                    .unwrap();
            }
        })
    };
    let threads = [load(one, (0..24).collect()), load(two, (0..24).rev().collect())];
    threads.into_iter().for_each(|thread| thread.join().unwrap());
    let counts = folder.read(
        folder.tables()[0].clone(),
        "select count(*) as rows, count(distinct id) as ids, min(seq) as least, max(seq) as greatest from t",
    );
    insta::assert_snapshot!(counts, @r"
    +------+------+-------+----------+
    | rows | ids  | least | greatest |
    +------+------+-------+----------+
    | 1200 | 1200 | 1     | 1200     |
    +------+------+-------+----------+
    ");
}

/// How a file is read decides its rows: other options, another table, and its files are loaded again.
#[test]
fn other_options_begin_another_table() {
    let folder = Folder::new();
    folder.write("data/a.csv", "at,id,price\n2024-01-03,3,NaN\n2024-01-04,4,2\n");
    let first = prices(Format::Csv);
    folder.load(&first, &[], OnBadRow::Stop).unwrap();
    let mut other = first.clone();
    let null = BTreeMap::from([("null".to_owned(), "NaN".to_owned())]);
    if let asof_model::Place::Files { options, .. } = &mut other.definition.place {
        *options = null;
    }
    let done = folder.load(&other, &[], OnBadRow::Stop).unwrap();
    assert_eq!(report(&done), ["data/a.csv loaded rows=2 bad=0 Some((1, 2))"]);
    let nulls = folder.tables().into_iter().filter(|table| {
        let count = folder.read(table.clone(), "select count(*) as n from t where price is null");
        count.contains("| 1 |")
    });
    assert_eq!((folder.tables().len(), nulls.count()), (2, 1));
}

/// A file's folder gives its rows a column, so the same content in two folders is two files.
#[test]
fn one_content_in_two_partitions_is_loaded_twice() {
    let folder = Folder::new();
    let mut source = stored(Format::Csv);
    source.place = asof_model::Place::Files {
        path: "data/**/*.csv".to_owned(),
        format: Format::Csv,
        options: BTreeMap::new(),
    };
    let source = version(source, columns(&[("at", "timestamp"), ("id", "int64"), ("year", "int64")]));
    for year in ["2023", "2024"] {
        folder.write(&format!("data/year={year}/a.csv"), "at,id\n2024-01-03,3\nx,4\n");
    }
    let done = folder.load(&source, &[], OnBadRow::Quarantine).unwrap();
    assert_eq!(
        report(&done),
        [
            "data/year=2023/a.csv loaded rows=1 bad=1 Some((1, 1))",
            "data/year=2024/a.csv loaded rows=1 bad=1 Some((2, 2))"
        ]
    );
    assert!(folder.load(&source, &[], OnBadRow::Quarantine).unwrap().iter().all(|file| file.loaded_before));
    let years = folder.read(folder.tables()[0].clone(), "select sum(year) as y from t");
    assert!(years.contains("4047"), "{years}");
}

/// As a kill between the two commits leaves it, and then more files come with the one.
#[test]
fn a_file_in_the_quarantine_is_not_put_there_again_with_others() {
    let folder = Folder::new();
    let source = prices(Format::Csv);
    folder.write("data/a.csv", "at,id,price\n2024-01-01,1,2\n2024-01-01,x7,2\n");
    folder.load(&source, &[], OnBadRow::Quarantine).unwrap();
    std::fs::remove_dir_all(&folder.tables()[0]).unwrap();
    folder.write("data/b.csv", "at,id,price\n2024-01-01,x8,2\n2024-01-01,x9,2\n2024-01-01,9,9\n");
    let done = folder.load(&source, &[], OnBadRow::Quarantine).unwrap();
    assert_eq!(
        report(&done),
        ["data/a.csv loaded rows=1 bad=1 Some((1, 1))", "data/b.csv loaded rows=1 bad=2 Some((2, 2))"]
    );
    let here = folder.read(
        folder.root().join(".asof/offline/shop/events/quarantine"),
        "select file, count(*) as n from t group by file order by file",
    );
    assert!(here.contains("| data/a.csv | 1 |") && here.contains("| data/b.csv | 2 |"), "{here}");
}

/// A text with an offset of its own means one instant here and another behind the table, so it is refused.
#[test]
fn a_bound_in_a_zone_is_kept_only_without_offsets() {
    let folder = Folder::new();
    let mut source = stored(Format::Csv);
    source.valid_until = Some(asof_model::TimeRule::Column {
        name: "until".to_owned(),
        unit: None,
        zone: Some("America/New_York".to_owned()),
    });
    let types = columns(&[("at", "timestamp"), ("until", "timestamp")]);
    let source = version(source, types);
    let mut in_place = source.clone();
    in_place.definition.store = false;
    let until = |source: &SourceVersion| {
        let rows = folder.rows(source, &crate::project::all()).unwrap();
        let shown = crate::project::table(&rows.project(&[5]).unwrap());
        shown.lines().filter(|line| line.contains("2013")).map(str::to_owned).collect::<Vec<_>>()
    };
    folder.write("data/a.csv", "at,until\n2013-06-01,2013-06-01T12:00:00\n2013-06-01,\n");
    folder.load(&source, &[], OnBadRow::Stop).unwrap();
    assert_eq!(until(&source), until(&in_place));
    assert_eq!(until(&source), ["| 2013-06-01T16:00:00Z |"]);
    for text in ["2013-06-01T12:00:00Z", "2013-06-01T12:00:00-04:00", "2013-06-01 12:00+02:00"] {
        folder.write("data/b.csv", format!("at,until\n2013-06-01,2013-06-02\n2013-06-01,{text}\n"));
        let error = folder.load(&source, &["data/b.csv"], OnBadRow::Stop).unwrap_err();
        let said = crate::project::said(&error);
        let reason = "valid_until column `until` carries an offset, and its rule names a `zone`";
        assert!(said.contains("data/b.csv, row 2") && said.contains(reason), "{said}");
        // Read in place it is refused as well: two rows could be equal in all columns and end apart.
        let said = crate::project::said(&folder.rows(&in_place, &crate::project::all()).unwrap_err());
        assert!(said.contains("data/b.csv, row 2") && said.contains(reason), "{said}");
    }
}

/// The same of every way that Parquet has for texts.
#[test]
fn a_bound_in_a_zone_is_kept_without_offsets_whatever_the_type_of_its_text() {
    use arrow::datatypes::DataType as T;
    let dictionary = |value: T| T::Dictionary(Box::new(T::Int32), Box::new(value));
    for kind in [T::Utf8, T::LargeUtf8, T::Utf8View, dictionary(T::Utf8), dictionary(T::LargeUtf8)] {
        let folder = Folder::new();
        let mut source = stored(Format::Parquet);
        source.valid_until = Some(asof_model::TimeRule::Column {
            name: "until".to_owned(),
            unit: None,
            zone: Some("America/New_York".to_owned()),
        });
        let source = version(source, columns(&[("at", "timestamp"), ("until", "timestamp")]));
        let load = |texts: [&str; 2]| {
            let texts: ArrayRef = Arc::new(arrow::array::StringArray::from(texts.to_vec()));
            let batch = RecordBatch::try_from_iter([
                ("at", Arc::new(TimestampMicrosecondArray::from(vec![0, 1])) as ArrayRef),
                ("until", arrow::compute::cast(&texts, &kind).unwrap()),
            ]);
            folder.parquet("data/a.parquet", 10, &[batch.unwrap()]);
            folder.load(&source, &[], OnBadRow::Stop)
        };
        let error = said(&load(["2013-06-01T12:00:00", "2013-06-01T12:00:00Z"]).unwrap_err());
        assert!(
            error.contains("data/a.parquet, row 2: valid_until column `until` carries"),
            "{kind}: {error}"
        );
        load(["2013-06-01T12:00:00", "2013-06-01"]).unwrap();
        let rows = folder.rows(&source, &crate::project::all()).unwrap();
        let until = crate::project::table(&rows.project(&[5]).unwrap());
        assert!(until.contains("2013-06-01T16:00:00Z") && until.contains("2013-06-01T04:00:00Z"), "{until}");
    }
}

/// Without a zone a table keeps instants, with one what clocks show: one is no other.
#[test]
fn another_zone_of_a_bound_is_another_table() {
    let folder = Folder::new();
    folder.write("data/a.csv", "at,until\n2013-06-01,2013-06-01T12:00:00Z\n");
    folder.write("data/b.csv", "at,until\n2013-06-01,2013-06-01T12:00:00\n");
    let source = |zone: Option<&str>| {
        let mut source = stored(Format::Csv);
        let zone = zone.map(str::to_owned);
        source.valid_until =
            Some(asof_model::TimeRule::Column { name: "until".to_owned(), unit: None, zone });
        version(source, columns(&[("at", "timestamp"), ("until", "timestamp")]))
    };
    folder.load(&source(None), &["data/a.csv"], OnBadRow::Stop).unwrap();
    let error = folder.load(&source(Some("Asia/Tokyo")), &["data/a.csv"], OnBadRow::Stop).unwrap_err();
    assert!(said(&error).contains("carries an offset"), "{}", said(&error));
    let done = folder.load(&source(Some("Asia/Tokyo")), &["data/b.csv"], OnBadRow::Stop).unwrap();
    assert_eq!(report(&done), ["data/b.csv loaded rows=1 bad=0 Some((1, 1))"]);
}

/// Of a line that is too long the row goes to the quarantine with how it begins. Behind a record of CSV that
/// is too long nobody can tell where the next one begins, so nothing of its file is loaded.
#[test]
fn a_record_without_end_goes_to_the_quarantine_where_the_next_can_be_found() {
    let folder = Folder::new();
    let spaces = " ".repeat(65 << 20);
    folder.write(
        "data/a.ndjson",
        format!("{{\"at\":\"2024-01-01\"}}\n{{\"id\":{spaces}1}}\n{{\"at\":\"2024-01-02\"}}\n"),
    );
    let done = folder.load(&prices(Format::Ndjson), &[], OnBadRow::Quarantine).unwrap();
    assert_eq!(report(&done), ["data/a.ndjson loaded rows=2 bad=1 Some((1, 2))"]);
    let quarantine = folder.root().join(".asof/offline/shop/events/quarantine");
    let kept =
        folder.read(quarantine, "select row, reason, length(content) as n, left(content, 6) as c from t");
    let line = "| 2   | is longer than 64 MiB (line 2 of the file) | 6";
    assert!(kept.contains(line) && kept.contains("{\"id\":"), "{kept}");
    folder.write("data/a.csv", format!("at,id,price\n2024-01-01,1,1\n\"{}", "x\n".repeat(33 << 20)));
    let error = folder.load(&prices(Format::Csv), &[], OnBadRow::Quarantine).unwrap_err();
    assert!(
        said(&error).contains("file `data/a.csv`: what follows row 2 cannot be read"),
        "{}",
        said(&error)
    );
    let error = folder.load(&prices(Format::Csv), &[], OnBadRow::Stop).unwrap_err();
    assert!(said(&error).contains("data/a.csv, row 2: is longer than 64 MiB"), "{}", said(&error));
}

/// Files that come without their folders have the columns of their folders by their names.
#[test]
fn uploaded_files_have_the_columns_of_their_folders() {
    let source = prices(Format::Csv);
    let mut plain = source.clone();
    if let asof_model::Place::Files { options, .. } = &mut plain.definition.place {
        options.insert("hive_partitioning".to_owned(), "false".to_owned());
    }
    let by = |source: &SourceVersion, names: &[&str]| {
        let files = names.iter().map(|name| (PathBuf::from("x"), (*name).to_owned()));
        let shown = |files: Vec<LoadFile>| {
            let values = files.into_iter().map(|file| {
                let columns = file.partitions.into_iter();
                let columns =
                    columns.map(|(key, value)| format!("{key}={}", value.unwrap_or("null".to_owned())));
                columns.collect::<Vec<_>>().join(" ")
            });
            values.collect::<Vec<_>>()
        };
        LoadFile::uploaded(source, files).map(shown).map_err(|error| said(&error))
    };
    let of = |names: &[&str]| by(&source, names);
    assert_eq!(by(&plain, &["y=1/a.csv", "z=1/b.csv"]).unwrap(), ["", ""]);
    assert_eq!(of(&["a.csv", "d/b.csv"]).unwrap(), ["", ""]);
    assert_eq!(of(&["d/y=1/a.csv", "d/y=a%2Fb/b.csv"]).unwrap(), ["y=1", "y=a/b"]);
    assert_eq!(of(&["/d/y=__HIVE_DEFAULT_PARTITION__/m=2/a.csv"]).unwrap(), ["y=null m=2"]);
    assert_eq!(of(&["y=1/a.csv", "b.csv"]).unwrap(), ["", ""]);
    let refused = of(&["y=1/a.csv", "z=1/b.csv"]).unwrap_err();
    assert!(
        refused.contains("[source_partitions] path of the upload: file `z=1/b.csv` lies in"),
        "{refused}"
    );
}

/// Facts without any time: no instant before all time stands in a table that others read.
#[test]
fn rows_without_a_time_have_none_in_the_table() {
    let folder = Folder::new();
    let mut source = stored(Format::Csv);
    source.event_time = None;
    let source = version(source, columns(&[("id", "int64"), ("town", "string")]));
    folder.write("data/a.csv", "id,town\n1,Oslo\n2,Bergen\n");
    folder.load(&source, &[], OnBadRow::Stop).unwrap();
    let table = folder.tables()[0].clone();
    let none = folder
        .read(table.clone(), "select count(*) as n from t where visible_at is null and event_time is null");
    assert!(none.contains("| 2 |"), "{none}");
    for entry in std::fs::read_dir(table.join("_delta_log")).unwrap().flatten() {
        let text = std::fs::read_to_string(entry.path()).unwrap();
        assert!(!text.contains("before all time"), "{text}");
    }
    // Here they are visible before all time, as where the files are read in place.
    let mut in_place = source.clone();
    in_place.definition.store = false;
    let fixed = |source: &SourceVersion| folder.rows(source, &crate::project::all()).unwrap();
    assert_eq!(fixed(&source).column(1), fixed(&in_place).column(1));
    assert_eq!(fixed(&source).column(1).null_count(), 0);
}
