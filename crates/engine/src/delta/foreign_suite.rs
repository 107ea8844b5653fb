//! Tables that other engines wrote (`tests/fixtures/delta/make.py` says which and how).

use std::path::PathBuf;

use arrow::util::display::{ArrayFormatter, FormatOptions};
use asof_model::Explain;

use super::*;
use crate::EngineConfig;

fn fixture(name: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/delta").join(name)
}

/// All rows as text, sorted: cells with `|` between them.
async fn rows(folder: &Path, version: Option<u64>, columns: &[&str]) -> Vec<String> {
    let spill = tempfile::tempdir().unwrap();
    let table = Foreign::open(folder, version).await.unwrap();
    rows_of(&engine_over(spill.path()), &table, columns).await
}

fn engine_over(spill: &Path) -> Engine {
    Engine::new(EngineConfig {
        data_dir: spill.to_owned(),
        memory: 1 << 28,
        threads: 2,
        code_version: "test".to_owned(),
    })
    .unwrap()
}

async fn rows_of(engine: &Engine, table: &Foreign, columns: &[&str]) -> Vec<String> {
    let columns: Vec<String> = columns.iter().map(|name| (*name).to_owned()).collect();
    let plan = table.scan(engine, &columns).await.unwrap();
    for (field, wanted) in plan.schema().fields().iter().zip(&columns) {
        assert_eq!(field.data_type(), table.schema.field_with_name(wanted).unwrap().data_type());
    }
    let batches = datafusion::physical_plan::collect(plan, engine.session().task_ctx()).await.unwrap();
    let options = FormatOptions::default().with_null("null");
    let mut found = Vec::new();
    for batch in &batches {
        let cells: Vec<ArrayFormatter<'_>> = batch
            .columns()
            .iter()
            .map(|column| ArrayFormatter::try_new(column.as_ref(), &options).unwrap())
            .collect();
        for row in 0..batch.num_rows() {
            let row: Vec<String> = cells.iter().map(|cell| cell.value(row).to_string()).collect();
            found.push(row.join("|"));
        }
    }
    found.sort();
    found
}

fn types(table: &Foreign) -> Vec<String> {
    table.schema.fields().iter().map(|field| format!("{}: {}", field.name(), field.data_type())).collect()
}

#[tokio::test]
async fn partition_values_and_times_without_a_zone() {
    let folder = fixture("partitioned");
    assert_eq!(
        rows(&folder, None, &["id", "who", "at", "day", "city"]).await,
        [
            "1|a|2024-01-01T10:00:00|2024-01-01|San José/=%",
            "2|null|null|2024-01-02|x y",
            "3|c|1969-12-31T23:59:59.123456|null|null",
        ]
    );
    // Partition columns on their own, and in another order.
    assert_eq!(rows(&folder, None, &["city", "id"]).await, ["San José/=%|1", "null|3", "x y|2"]);
    let table = Foreign::open(&folder, None).await.unwrap();
    assert_eq!(types(&table), ["id: Int64", "who: Utf8", "at: Timestamp(µs)", "day: Date32", "city: Utf8"]);
    assert_eq!((table.version, table.rows()), (1, Some(3)));
    assert_eq!(table.table_id.len(), 36);
}

#[tokio::test]
async fn columns_mapped_by_name_and_by_id() {
    for name in ["mapped_by_name", "mapped_by_id"] {
        assert_eq!(
            rows(&fixture(name), None, &["id", "who is it", "renamed", "part"]).await,
            ["1|a|10|x", "2|b|20|y", "3|c|30|x"],
            "{name}"
        );
        // Before the rename.
        assert_eq!(rows(&fixture(name), Some(1), &["n", "part"]).await, ["10|x", "20|y"], "{name}");
    }
    // Files that only their ids tell apart are refused, not read as nulls.
    let refused = Foreign::open(&fixture("mapped_by_id_only"), None).await.unwrap_err();
    assert_eq!(refused.code(), "delta_mapping_by_id");
    assert!(refused.to_string().contains("maps columns by id, and its file"), "{refused}");
}

#[tokio::test]
async fn deleted_rows_stay_away() {
    let left: Vec<i64> =
        (0..1000).chain(2000..2100).filter(|n| n % 3 != 0 && *n != 1 && *n != 2099).collect();
    let mut left: Vec<String> = left.iter().map(i64::to_string).collect();
    left.sort();
    for name in ["deletion_vectors", "deletion_vectors_checkpointed"] {
        assert_eq!(rows(&fixture(name), None, &["id"]).await, left, "{name}");
        let table = Foreign::open(&fixture(name), None).await.unwrap();
        assert_eq!(table.rows(), Some(left.len() as u64), "{name}");
    }
    assert_eq!(rows(&fixture("deletion_vectors"), Some(2), &["id"]).await.len(), 1100);
    assert_eq!(
        rows(&fixture("inline_deletion_vector"), None, &["n"]).await,
        ["0", "2", "4", "5", "6", "7", "8"]
    );
    assert_eq!(
        rows(&fixture("mapped_deletion_vectors"), None, &["n", "part"]).await,
        ["1|x", "3|x", "4|y", "6|y"]
    );
    // Deletion vectors hold also where no column is read but a partition's.
    assert_eq!(rows(&fixture("mapped_deletion_vectors"), None, &["part"]).await, ["x", "x", "y", "y"]);
}

/// What came since an earlier version, where files were only appended since; else that this is not so.
#[tokio::test]
async fn only_what_was_appended() {
    let spill = tempfile::tempdir().unwrap();
    let engine = engine_over(spill.path());
    let all = |range: std::ops::Range<i64>| -> Vec<String> {
        let mut all: Vec<String> = range.map(|n| n.to_string()).collect();
        all.sort();
        all
    };
    let none = Some(Vec::new());
    for (name, version, since, column, expected) in [
        // Names of files that are written in three ways: in the log, on disk, in an address.
        ("partitioned", 1, 0, "id", Some(all(1..4))),
        ("partitioned", 1, 1, "id", none.clone()),
        ("deletion_vectors", 1, 0, "id", Some(all(0..1000))),
        ("deletion_vectors", 2, 1, "id", Some(all(2000..2100))),
        // A file of before has a deletion vector, or another one.
        ("deletion_vectors", 3, 2, "id", None),
        ("deletion_vectors", 5, 4, "id", None),
        ("inline_deletion_vector", 1, 0, "n", None),
        // The new files have them, so they are read without the rows that are gone.
        ("mapped_deletion_vectors", 2, 0, "n", Some(["1", "3", "4", "6"].map(str::to_owned).to_vec())),
        ("deletion_vectors", 5, 5, "id", none),
        // The columns were renamed meanwhile.
        ("mapped_by_name", 3, 1, "id", None),
        ("mapped_by_name", 3, 2, "id", Some(all(3..4))),
        ("checkpointed", 13, 11, "n", Some(["12", "13"].map(str::to_owned).to_vec())),
        // What was there then is not known any more.
        ("checkpointed", 13, 10, "n", None),
    ] {
        let what = format!("{name} {since} to {version}");
        let table = Foreign::open(&fixture(name), Some(version)).await.unwrap();
        let found = match table.appended_since(since).await.unwrap() {
            Some(grown) => {
                let found = rows_of(&engine, &grown, &[column]).await;
                assert_eq!(grown.rows(), Some(found.len() as u64), "{what}");
                Some(found)
            }
            None => None,
        };
        assert_eq!(found, expected, "{what}");
    }
}

#[tokio::test]
async fn a_log_that_begins_with_a_checkpoint() {
    let mut expected: Vec<String> = (0..14).map(|n| format!("{n}|w{n}")).collect();
    expected.sort();
    let folder = fixture("checkpointed");
    assert_eq!(rows(&folder, None, &["n", "who"]).await, expected);
    assert!(!folder.join("_delta_log/00000000000000000000.json").exists());
    let gone = Foreign::open(&folder, Some(3)).await.unwrap_err();
    assert_eq!(gone.code(), "changed");
    assert!(gone.to_string().contains("no longer has version 3"), "{gone}");
}

/// A Parquet file without rows whose schema is so many groups within each other.
fn nested(groups: usize) -> Vec<u8> {
    let mut footer = vec![0x15, 0x04, 0x19, 0xfc];
    let mut length = groups + 1;
    while length >= 0x80 {
        footer.push(length as u8 | 0x80);
        length >>= 7;
    }
    footer.push(length as u8);
    for _ in 0..groups {
        footer.extend([0x35, 0x04, 0x18, 0x01, b'g', 0x15, 0x02, 0]);
    }
    footer.extend([0x15, 0x04, 0x25, 0x02, 0x18, 0x01, b'x', 0]);
    footer.extend([0x16, 0x00, 0x19, 0x0c, 0]);
    [b"PAR1", footer.as_slice(), &(footer.len() as u32).to_le_bytes(), b"PAR1"].concat()
}

fn copied(name: &str) -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    let copied = std::process::Command::new("cp").arg("-r").arg(fixture(name)).arg(folder.path()).status();
    assert!(copied.unwrap().success());
    folder
}

/// A table that others write to must not end the process: neither its data files nor its checkpoints.
#[tokio::test]
async fn files_that_nest_without_end_are_refused() {
    let spill = tempfile::tempdir().unwrap();
    let engine = engine_over(spill.path());
    let told = |error: Error| assert!(error.to_string().contains("nests more than 128 groups"), "{error}");
    for name in ["checkpointed", "partitioned"] {
        let copy = copied(name);
        let folder = copy.path().join(name);
        let table = Foreign::open(&folder, None).await.unwrap();
        let (path, _) = table.data_files().unwrap().pop().unwrap();
        let column = table.schema.field(0).name().clone();
        table.scan(&engine, std::slice::from_ref(&column)).await.unwrap();
        // Of the length that the log says; the footer stands at the end of it.
        std::fs::write(&path, nested(100_000)).unwrap();
        told(table.scan(&engine, &[column]).await.unwrap_err());
    }
    let copy = copied("checkpointed");
    let folder = copy.path().join("checkpointed");
    std::fs::write(folder.join("_delta_log/00000000000000000011.checkpoint.parquet"), nested(100_000))
        .unwrap();
    told(Foreign::open(&folder, None).await.unwrap_err());
    let copy = copied("mapped_by_id");
    let folder = copy.path().join("mapped_by_id");
    let (path, _) = Foreign::open(&folder, None).await.unwrap().data_files().unwrap().pop().unwrap();
    std::fs::write(&path, nested(100_000)).unwrap();
    told(Foreign::open(&folder, None).await.unwrap_err());
}

/// A table without rows whose protocol is this.
fn table_with(protocol: &str) -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    let log = folder.path().join("_delta_log");
    std::fs::create_dir(&log).unwrap();
    let schema = r#"{\"type\":\"struct\",\"fields\":[{\"name\":\"n\",\"type\":\"long\",\"nullable\":true,\"metadata\":{}}]}"#;
    let metadata = format!(
        r#"{{"metaData":{{"id":"5fba94ed-9794-4965-ba6e-6ee3c0d22af9","format":{{"provider":"parquet","options":{{}}}},"schemaString":"{schema}","partitionColumns":[],"configuration":{{}}}}}}"#
    );
    let lines = format!("{{\"protocol\":{protocol}}}\n{metadata}\n");
    std::fs::write(log.join("00000000000000000000.json"), lines).unwrap();
    folder
}

#[tokio::test]
async fn what_we_do_not_know_is_refused_by_name() {
    let cases = [
        (
            r#"{"minReaderVersion":3,"minWriterVersion":7,"readerFeatures":["deletionVectors","typeWidening"],"writerFeatures":["deletionVectors","typeWidening"]}"#,
            Some("needs the reader feature `typeWidening`, which Asof does not know"),
        ),
        (
            r#"{"minReaderVersion":3,"minWriterVersion":7,"readerFeatures":["variantType","zigzagRows"],"writerFeatures":["variantType","zigzagRows"]}"#,
            Some("needs the reader features `variantType`, `zigzagRows`, which Asof does not know"),
        ),
        (
            r#"{"minReaderVersion":4,"minWriterVersion":7,"readerFeatures":[],"writerFeatures":[]}"#,
            Some("needs reader version 4, and Asof knows up to 3"),
        ),
        (
            r#"{"minReaderVersion":3,"minWriterVersion":7,"readerFeatures":["v2Checkpoint","timestampNtz"],"writerFeatures":["v2Checkpoint","timestampNtz","somethingForWriters"]}"#,
            None,
        ),
        (r#"{"minReaderVersion":1,"minWriterVersion":2}"#, None),
    ];
    for (protocol, expected) in cases {
        let folder = table_with(protocol);
        match (Foreign::open(folder.path(), None).await, expected) {
            (Err(refused), Some(expected)) => {
                assert!(refused.to_string().contains(expected), "{refused}");
                assert!(refused.hint().is_some());
            }
            (Ok(_), None) => assert!(rows(folder.path(), None, &["n"]).await.is_empty()),
            (found, _) => panic!("{protocol}: {:?}", found.map(|table| table.version)),
        }
    }
    let nothing = tempfile::tempdir().unwrap();
    let missing = Foreign::open(nothing.path(), None).await.unwrap_err();
    assert_eq!(missing.code(), "not_found");
}

#[test]
fn the_newest_protocol_counts_wherever_it_stands() {
    let dv = |name: &str| newest_protocol(&fixture(name)).unwrap().unwrap();
    let expected = Asked { version: 3, features: vec!["deletionVectors".to_owned()] };
    assert_eq!(dv("deletion_vectors"), expected);
    assert_eq!(dv("deletion_vectors_checkpointed"), expected, "found in a checkpoint");
    assert_eq!(dv("checkpointed"), Asked { version: 1, features: Vec::new() });
    // An upgrade in a later commit.
    let folder = table_with(r#"{"minReaderVersion":1,"minWriterVersion":2}"#);
    let upgrade = r#"{"protocol":{"minReaderVersion":3,"minWriterVersion":7,"readerFeatures":["newThing"],"writerFeatures":["newThing"]}}"#;
    std::fs::write(folder.path().join("_delta_log/00000000000000000001.json"), upgrade).unwrap();
    assert_eq!(newest_protocol(folder.path()).unwrap().unwrap().features, ["newThing"]);
}

/// Whatever the order a log lists files in, a query reads them by their names.
#[tokio::test]
async fn files_come_in_the_order_of_their_names() {
    use datafusion::datasource::physical_plan::FileScanConfig;
    use datafusion::datasource::source::DataSourceExec;

    fn names(plan: &Arc<dyn ExecutionPlan>, into: &mut Vec<String>) {
        let config = plan
            .downcast_ref::<DataSourceExec>()
            .and_then(|exec| exec.data_source().downcast_ref::<FileScanConfig>());
        for file in config.into_iter().flat_map(|config| &config.file_groups).flat_map(|group| group.iter()) {
            into.push(file.object_meta.location.to_string());
        }
        plan.children().into_iter().for_each(|child| names(child, into));
    }

    let spill = tempfile::tempdir().unwrap();
    let engine = Engine::new(EngineConfig {
        data_dir: spill.path().to_owned(),
        memory: 1 << 28,
        threads: 2,
        code_version: "test".to_owned(),
    })
    .unwrap();
    let mut several = 0;
    for entry in
        std::fs::read_dir(fixture("")).unwrap().flatten().filter(|it| it.path().join("_delta_log").exists())
    {
        let Ok(table) = Foreign::open(&entry.path(), None).await else { continue };
        let columns: Vec<String> = table.schema.fields().iter().map(|field| field.name().clone()).collect();
        let plan = table.scan(&engine, &columns).await.unwrap();
        // Of some only the log is here.
        let task = engine.session().task_ctx();
        let Ok(before) = datafusion::physical_plan::collect(Arc::clone(&plan), task).await else { continue };
        let plan = super::super::in_order(plan).unwrap();
        let mut found = Vec::new();
        names(&plan, &mut found);
        assert!(found.is_sorted(), "{}: {found:?}", entry.path().display());
        assert!(plan.properties().partitioning.partition_count() <= 1, "{}", entry.path().display());
        several += usize::from(found.len() > 1);
        let after = datafusion::physical_plan::collect(plan, engine.session().task_ctx()).await.unwrap();
        let rows = |all: &[arrow::array::RecordBatch]| all.iter().map(|it| it.num_rows()).sum::<usize>();
        assert_eq!(rows(&after), rows(&before), "{}", entry.path().display());
    }
    assert!(several > 1, "{several} tables have several files");
}
