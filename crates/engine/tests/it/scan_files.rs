//! Which files are read, as one snapshot: globs, folders, partitions, unions, queries, changes.

use std::collections::BTreeMap;
use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, Int64Array, RecordBatch, UInt64Array};
use arrow::datatypes::{Int64Type, UInt64Type};
use asof_engine::source::{ScanColumns, scan};
use asof_model::{Cut, Format, Place, SourceVersion};

use crate::project::{Folder, all, columns, fetched, files, said, table, version};

fn ints(name: &str, values: &[i64]) -> RecordBatch {
    RecordBatch::try_from_iter([(name, Arc::new(Int64Array::from(values.to_vec())) as ArrayRef)]).unwrap()
}

fn values(batch: &RecordBatch, column: &str) -> Vec<i64> {
    let mut found: Vec<i64> =
        batch.column_by_name(column).unwrap().as_primitive::<Int64Type>().values().to_vec();
    found.sort_unstable();
    found
}

#[test]
fn paths_are_found_as_duckdb_finds_them() {
    let folder = Folder::new();
    for (at, path) in ["d/a1.parquet", "d/a2.parquet", "d/b.parquet", "d/deep/c.parquet", "d/_tmp.parquet"]
        .iter()
        .enumerate()
    {
        folder.parquet(path, 10, &[ints("n", &[at as i64])]);
    }
    folder.write("d/notes.txt", "x");
    for (path, want) in [
        ("d/a1.parquet", vec![0]),
        ("d/*.parquet", vec![0, 1, 2]),
        ("d/a?.parquet", vec![0, 1]),
        ("d/a[2-9].parquet", vec![1]),
        ("d/{a1,b}.parquet", vec![0, 2]),
        ("d/**/*.parquet", vec![0, 1, 2, 3]),
        ("d", vec![0, 1, 2, 3]),
        ("d/_tmp.parquet", vec![4]),
    ] {
        let source = version(files("s", path, Format::Parquet), columns(&[("n", "int64")]));
        assert_eq!(values(&folder.rows(&source, &all()).unwrap(), "n"), want, "{path}");
    }
    let mut told = String::new();
    for path in ["d/a9.parquet", "nowhere/a.parquet", "d/*.csv", "s3://bucket/a.parquet", "d/deep/../none"] {
        let source = version(files("s", path, Format::Parquet), columns(&[("n", "int64")]));
        told += &format!("{path}\n{}\n\n", said(&folder.rows(&source, &all()).unwrap_err()));
    }
    folder.write("broken/empty.parquet", "");
    folder.write("broken/text.parquet", "not parquet at all, honestly");
    let whole = std::fs::read(folder.root().join("d/a1.parquet")).unwrap();
    folder.write("broken/cut.parquet", &whole[..whole.len() - 20]);
    let mut footer = whole.clone();
    let end = footer.len();
    footer[end - 30] ^= 0x55;
    footer[end - 60] ^= 0x55;
    for file in ["empty", "text", "cut"] {
        let source = version(
            files("s", &format!("broken/{file}.parquet"), Format::Parquet),
            columns(&[("n", "int64")]),
        );
        told += &format!("{file}\n{}\n\n", said(&folder.rows(&source, &all()).unwrap_err()));
    }
    insta::assert_snapshot!(told);
}

#[test]
fn partitions_are_columns() {
    let folder = Folder::new();
    folder.parquet("d/year=2012/city=New%20York/a.parquet", 10, &[ints("n", &[1])]);
    folder.parquet("d/year=2013/city=__HIVE_DEFAULT_PARTITION__/a.parquet", 10, &[ints("n", &[2])]);
    let types = [("n", "int64"), ("year", "int64"), ("city", "string")];
    let source = version(files("s", "d", Format::Parquet), columns(&types));
    let found = folder.rows(&source, &all()).unwrap();
    let mut rows: Vec<String> = table(&found.project(&[6, 7, 8]).unwrap())
        .lines()
        .map(str::to_owned)
        .filter(|l| l.contains("201"))
        .collect();
    rows.sort();
    assert_eq!(rows, ["| 1 | 2012 | New York |", "| 2 | 2013 |          |"]);
}

#[test]
fn rows_are_fetched_by_their_addresses() {
    let folder = Folder::new();
    for (file, from) in [("a", 0), ("b", 1_000)] {
        let batch = ints("n", &(from..from + 100).collect::<Vec<_>>());
        folder.parquet(&format!("d/{file}.parquet"), 30, &[batch]);
    }
    let source = version(files("s", "d", Format::Parquet), columns(&[("n", "int64")]));
    let want = ScanColumns { columns: vec!["n".to_owned()], address: true, ..ScanColumns::default() };
    let scan = folder.scan(&source, &want).unwrap();
    let rows = folder.collect(&scan).unwrap();
    let addresses = rows.column_by_name("__row").unwrap().as_primitive::<UInt64Type>().values().to_vec();
    let numbers = rows.column_by_name("n").unwrap().as_primitive::<Int64Type>().values().to_vec();
    let mut pairs: Vec<(u64, i64)> = addresses.into_iter().zip(numbers).collect();
    pairs.sort_unstable();
    let picked: Vec<(u64, i64)> = pairs.iter().copied().filter(|(_, n)| n % 7 == 0 || n % 31 == 1).collect();
    let asked: Vec<u64> = picked.iter().flat_map(|(address, _)| [*address, *address]).collect();
    let fetch = scan.fetch.as_deref().unwrap();
    let found = fetched(fetch, &asked, &["__op".to_owned(), "n".to_owned()]).unwrap();
    let found = arrow::compute::concat_batches(&found[0].schema(), &found).unwrap();
    let want: Vec<i64> = picked.iter().flat_map(|(_, n)| [*n, *n]).collect();
    assert_eq!(found.column(1).as_primitive::<Int64Type>().values().to_vec(), want);
    assert_eq!(found.column(0).null_count(), 0);
    assert!(fetched(fetch, &[], &["n".to_owned()]).unwrap().is_empty());
    let descending = UInt64Array::from(vec![5, 4]);
    assert!(fetched(fetch, descending.values(), &["n".to_owned()]).is_err());
}

/// However many rows of a row group are wanted, they are not held together.
#[test]
fn fetched_rows_come_in_batches() {
    let folder = Folder::new();
    folder.parquet("d/a.parquet", 30_000, &[ints("n", &(0..50_000).collect::<Vec<_>>())]);
    let source = version(files("s", "d", Format::Parquet), columns(&[("n", "int64")]));
    let want = ScanColumns { columns: vec!["n".to_owned()], address: true, ..ScanColumns::default() };
    let scan = folder.scan(&source, &want).unwrap();
    let rows = folder.collect(&scan).unwrap();
    let mut addresses = rows.column_by_name("__row").unwrap().as_primitive::<UInt64Type>().values().to_vec();
    addresses.sort_unstable();
    let found = fetched(scan.fetch.as_deref().unwrap(), &addresses, &["n".to_owned()]).unwrap();
    assert!(found.iter().all(|batch| batch.num_rows() <= 8_192));
    let n = found.iter().flat_map(|batch| batch.column(0).as_primitive::<Int64Type>().values().to_vec());
    assert_eq!(n.collect::<Vec<_>>(), (0..50_000).collect::<Vec<_>>());
}

#[test]
fn a_changed_file_fails_the_run_and_the_record() {
    let folder = Folder::new();
    folder.parquet("d/a.parquet", 10, &[ints("n", &[1, 2])]);
    let source = version(files("s", "d/*.parquet", Format::Parquet), columns(&[("n", "int64")]));
    let before = folder.scan(&source, &all()).unwrap();
    before.verify().unwrap();
    // Replaced by a rename, as writers do: the scan still reads what it opened, and says so at its end.
    folder.parquet("new/a.parquet", 10, &[ints("n", &[8, 9, 10])]);
    std::fs::rename(folder.root().join("new/a.parquet"), folder.root().join("d/a.parquet")).unwrap();
    assert_eq!(values(&folder.collect(&before).unwrap(), "n"), [1, 2]);
    assert_eq!(
        said(&before.verify().unwrap_err()).lines().next().unwrap(),
        "conflict [changed] file `d/a.parquet` was replaced while it was read"
    );
    // A record of then cannot be read again; one of now can, and a file that came later is left out.
    let again = |at: &Cut| folder.scan(&source, &ScanColumns { at: Some(at.clone()), ..all() });
    assert!(matches!(again(&before.identity), Err(asof_engine::Error::Changed { .. })));
    let now = folder.scan(&source, &all()).unwrap().identity;
    folder.parquet("d/later.parquet", 10, &[ints("n", &[99])]);
    assert_eq!(values(&folder.collect(&again(&now).unwrap()).unwrap(), "n"), [8, 9, 10]);
    std::fs::remove_file(folder.root().join("d/a.parquet")).unwrap();
    assert!(matches!(again(&now), Err(asof_engine::Error::Changed { .. })));
}

fn query(called: &str, text: &str, types: &[(&str, &str)]) -> SourceVersion {
    let mut source = files(called, "", Format::Parquet);
    source.place = Place::Sql { text: text.to_owned() };
    version(source, columns(types))
}

#[test]
fn a_query_reads_other_sources_and_nothing_else() {
    let folder = Folder::new();
    folder.parquet("a.parquet", 10, &[ints("N", &[1, 2, 3])]);
    folder.write("b.csv", "n,name\n1,one\n3,three\n");
    let a = version(files("a", "a.parquet", Format::Parquet), columns(&[("N", "int64")]));
    let b = version(files("b", "b.csv", Format::Csv), columns(&[("n", "int64"), ("name", "string")]));
    let read = |text: &str| {
        let source = query("joined", text, &[("n", "int64"), ("name", "string")]);
        let catalog = folder.catalog(&[a.clone(), b.clone(), source.clone()]);
        let scan = folder.runtime.block_on(scan(&folder.engine, &catalog, &source, &all()))?;
        assert!(matches!(&scan.identity, Cut::Sql(cuts) if !cuts.is_empty()));
        folder.collect(&scan)
    };
    let found =
        read("select \"N\" as n, upper(name) as name from a join b on a.\"N\" = b.n order by 1").unwrap();
    insta::assert_snapshot!(table(&found.project(&[6, 7]).unwrap()));
    let mut told = String::new();
    for text in [
        "select * from bb",
        "select * from joined",
        "select m from b",
        "select nosuch(n) from b",
        "select n, random() as name from b",
        "create table x as select * from b",
        "insert into b values (1, 'x')",
        "copy b to 'out.csv'",
        "set datafusion.execution.batch_size = 1",
        "select 1; select 2",
        "select * from 'b.csv'",
        "select * frm b",
        "",
    ] {
        told += &format!("{text}\n{}\n\n", said(&read(text).unwrap_err()));
    }
    let deep = format!("select {} as n from b", vec!["1"; 9_000].join("+"));
    told += &format!("deep\n{}\n\n", said(&read(&deep).unwrap_err()));
    let nested = format!("select {}1{} as n from b", "(".repeat(200), ")".repeat(200));
    told += &format!("nested\n{}\n", said(&read(&nested).unwrap_err()));
    insta::assert_snapshot!(told);
}

#[test]
fn options_are_checked() {
    let mut told = String::new();
    for (name, value) in [("delimeter", ";"), ("header", "yes"), ("quote", "''"), ("hive_partitioning", "0")]
    {
        let folder = Folder::new();
        folder.write("a.csv", "a\n1\n");
        let mut source = files("s", "a.csv", Format::Csv);
        if let Place::Files { options, .. } = &mut source.place {
            *options = BTreeMap::from([(name.to_owned(), value.to_owned())]);
        }
        let error = folder.rows(&version(source, columns(&[("a", "int64")])), &all()).unwrap_err();
        told += &format!("{name}: {value}\n{}\n\n", said(&error));
    }
    insta::assert_snapshot!(told);
}
