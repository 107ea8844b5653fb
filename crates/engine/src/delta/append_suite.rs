//! Loads against each other and against what other writers do, without the lock that keeps them apart.

use std::collections::BTreeMap;
use std::sync::Arc;

use arrow::array::{ArrayRef, AsArray, BooleanArray, Int64Array, RecordBatch, StringArray};
use arrow::datatypes::{Int64Type, TimestampMicrosecondType};
use asof_model::{
    Address, Column, DataType, Format, Name, Place, Source, SourceVersion, TimeRule, VersionId,
};

use super::append::{Committed, Mark, Sizes, Staging};
use super::durable::DurableFiles;
use super::scan::{StoredFiles, position, stored_files};
use super::stored::Layout;
use super::suite_scan::{source_schema, stored_scan};
use super::table;
use crate::{Engine, EngineConfig};

fn source(columns: &[(&str, DataType)]) -> SourceVersion {
    let name = Name::new("listings").unwrap();
    SourceVersion {
        address: Address { project: Name::new("shop").unwrap(), name: name.clone() },
        id: VersionId("0".repeat(32)),
        definition: Source {
            name,
            place: Place::Files {
                path: "*.csv".to_owned(),
                format: Format::Csv,
                options: BTreeMap::default(),
            },
            store: true,
            event_time: Some(TimeRule::Column { name: columns[0].0.to_owned(), unit: None, zone: None }),
            available_at: None,
            valid_until: None,
            id: None,
            order_by: None,
            delete_when: None,
            null_keys: asof_model::NullKeys::Keep,
            schema: Vec::new(),
            about: asof_model::About::default(),
        },
        columns: columns
            .iter()
            .map(|(name, kind)| Column { name: (*name).to_owned(), data_type: kind.clone() })
            .collect(),
    }
}

struct Room {
    folder: tempfile::TempDir,
    source: SourceVersion,
}

impl Room {
    fn new() -> Room {
        let columns = [("at", DataType::Timestamp), ("who", DataType::String), ("n", DataType::UInt64)];
        Room { folder: tempfile::tempdir().unwrap(), source: source(&columns) }
    }

    fn engine(&self) -> Engine {
        Engine::new(EngineConfig {
            data_dir: self.folder.path().to_owned(),
            memory: 1 << 30,
            threads: 2,
            code_version: "test".to_owned(),
        })
        .unwrap()
    }

    fn layout(&self) -> Layout {
        Layout::of(self.folder.path(), &self.source).unwrap()
    }

    /// A load of its own engine: `rows` rows that say `who` and count from zero.
    async fn load(&self, who: &str, rows: u64, sizes: Sizes) -> Committed {
        let files = DurableFiles::everywhere();
        let layout = self.layout();
        let properties = layout.properties(&self.source);
        let mut table =
            table::open_or_make(&files, &layout.folder, &layout.table, &properties).await.unwrap();
        let mut staging = Staging::begin(layout.clone(), &table, sizes).await.unwrap();
        let mut at = 0;
        while at < rows {
            let end = rows.min(at + 1_000);
            let times: ArrayRef = Arc::new(
                arrow::array::TimestampMicrosecondArray::from_iter_values((at..end).map(|n| n as i64))
                    .with_timezone("UTC"),
            );
            let batch = RecordBatch::try_new(
                source_schema(&self.source),
                vec![
                    Arc::clone(&times),
                    Arc::new(StringArray::from_iter_values((at..end).map(|_| who))),
                    Arc::new(arrow::array::UInt64Array::from_iter_values((at..end).map(|n| u64::MAX - n))),
                ],
            )
            .unwrap();
            let delete: BooleanArray = (at..end).map(|n| Some(n % 10 == 9)).collect();
            staging.write(&batch, &times, &times, &delete).await.unwrap();
            at = end;
        }
        let mark = Mark { hash: who.to_owned(), before: 0 };
        staging.commit(&mut table, &[mark], std::collections::HashMap::new()).await.unwrap()
    }

    /// Every stored row by its position: who, n, whether a delete.
    async fn rows(&self, cut: Option<i64>) -> BTreeMap<i64, (String, u64, bool)> {
        let engine = self.engine();
        let columns = ["who".to_owned(), "n".to_owned()];
        let scan = stored_scan(&engine, &self.source, &columns, cut).await.unwrap();
        let batches =
            datafusion::physical_plan::collect(scan.plan, engine.session().task_ctx()).await.unwrap();
        let mut found = BTreeMap::new();
        for batch in &batches {
            let who = batch.column(0).as_string::<i32>();
            let n = batch.column(1).as_primitive::<arrow::datatypes::UInt64Type>();
            let e = batch.column(2).as_primitive::<TimestampMicrosecondType>();
            let s: &Int64Array = batch.column(4).as_primitive::<Int64Type>();
            let op = batch.column(5).as_boolean();
            for row in 0..batch.num_rows() {
                assert_eq!(u64::MAX - n.value(row), e.value(row) as u64);
                let before =
                    found.insert(s.value(row), (who.value(row).to_owned(), n.value(row), op.value(row)));
                assert!(before.is_none(), "position {} twice", s.value(row));
            }
        }
        found
    }
}

#[tokio::test]
async fn one_load_is_one_version_of_several_files() {
    let room = Room::new();
    let small = Sizes { file: 20_000, group: 500 };
    assert_eq!(room.load("a", 20_000, small).await, Committed::After(0));
    let engine = room.engine();
    let StoredFiles { files, last, .. } = stored_files(&engine, &room.source).await.unwrap();
    assert!(files.len() > 2, "{files:?}");
    assert_eq!(last, Some(20_000));
    assert_eq!(files.iter().filter_map(|file| file.last).max(), Some(20_000));
    let commits = std::fs::read_dir(room.layout().folder.join("_delta_log")).unwrap().count();
    assert_eq!(commits, 2, "one that makes the table, one for the load");
    let rows = room.rows(None).await;
    assert_eq!(rows.len(), 20_000);
    for (position, (who, n, delete)) in &rows {
        assert_eq!((who.as_str(), u64::MAX - n), ("a", *position as u64 - 1));
        assert_eq!(*delete, (position - 1) % 10 == 9);
    }
    assert_eq!(room.load("a", 5, small).await, Committed::Before, "the same content again");
    assert_eq!(room.rows(None).await.len(), 20_000);
}

#[tokio::test]
async fn a_cut_reads_what_was_there_then() {
    let room = Room::new();
    assert!(room.rows(None).await.is_empty(), "nothing loaded yet");
    room.load("a", 1_500, Sizes::default()).await;
    room.load("b", 1_500, Sizes::default()).await;
    assert_eq!(room.load("empty", 0, Sizes::default()).await, Committed::After(3_000));
    assert_eq!(room.rows(Some(1_600)).await.len(), 1_600);
    assert_eq!(room.rows(Some(1_600)).await.last_key_value().unwrap().1.0, "b");
    assert_eq!(room.rows(None).await.len(), 3_000);
    let engine = room.engine();
    assert_eq!(position(&engine, &room.source).await.unwrap(), Some(3_000));
    let beyond = stored_scan(&engine, &room.source, &[], Some(3_001)).await.unwrap_err();
    assert_eq!(
        beyond.to_string(),
        "stored source `listings` ends at position 3000 and was read up to 3001: its table was removed or is an older copy"
    );
}

/// Eight writers, four loads each, all at once on one table, each content twice: every row is there once
/// and the positions are dense, as if the loads had come one after the other.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn concurrent_loads_are_as_if_one_after_the_other() {
    let room = Arc::new(Room::new());
    let mut writers = tokio::task::JoinSet::new();
    for writer in 0..8 {
        let room = Arc::clone(&room);
        writers.spawn(async move {
            let mut done = Vec::new();
            for load in 0..4 {
                // Writers 2n and 2n+1 load the same contents.
                let who = format!("{}-{load}", writer / 2);
                done.push((who.clone(), room.load(&who, 150, Sizes::default()).await));
            }
            done
        });
    }
    let done: Vec<(String, Committed)> = writers.join_all().await.into_iter().flatten().collect();
    let rows = room.rows(None).await;
    assert_eq!(rows.len(), 16 * 150);
    assert!(rows.keys().copied().eq(1..=16 * 150), "positions are dense");
    let mut new = 0;
    for (who, committed) in &done {
        if let Committed::After(base) = committed {
            new += 1;
            for (n, position) in (base + 1..=base + 150).enumerate() {
                assert_eq!(rows[&position], (who.clone(), u64::MAX - n as u64, n % 10 == 9));
            }
        }
    }
    assert_eq!((new, done.len() - new), (16, 16), "each content is new to exactly one of its two writers");
    let layout = room.layout();
    let left = std::fs::read_dir(&layout.folder).unwrap().flatten().filter(|e| e.path().is_file()).count();
    let named = stored_files(&room.engine(), &room.source).await.unwrap().files;
    assert_eq!(left, named.len(), "files of rounds that were lost are gone");
}

#[tokio::test]
async fn names_that_clash_and_types_that_delta_lacks() {
    let folder = tempfile::tempdir().unwrap();
    let clash = source(&[
        ("Event_Time", DataType::Timestamp),
        ("seq", DataType::UInt8),
        ("asof_seq", DataType::Uuid),
        ("op", DataType::List(Box::new(DataType::UInt32))),
        ("a b,c;{}()=\n\t.`\"x", DataType::Struct(vec![("z".to_owned(), DataType::UInt64)])),
    ]);
    let layout = Layout::of(folder.path(), &clash).unwrap();
    let names: Vec<&str> = layout.table.fields().iter().map(|field| field.name().as_str()).collect();
    assert_eq!(names[5..], ["asof_event_time", "visible_at", "asof_asof_seq", "asof_op"]);
    let files = DurableFiles::everywhere();
    let properties = layout.properties(&clash);
    let mut table = table::open_or_make(&files, &layout.folder, &layout.table, &properties).await.unwrap();
    let times: ArrayRef =
        Arc::new(arrow::array::TimestampMicrosecondArray::from(vec![Some(5), None]).with_timezone("UTC"));
    let schema = source_schema(&clash);
    let fields = schema.fields();
    let numbers = Arc::new(arrow::array::UInt32Array::from(vec![Some(7), None, Some(u32::MAX)]));
    let arrow::datatypes::DataType::List(item) = fields[3].data_type() else { panic!("a list") };
    let list = arrow::array::ListArray::new(
        Arc::clone(item),
        arrow::buffer::OffsetBuffer::new(vec![0, 3, 3].into()),
        numbers,
        None,
    );
    let arrow::datatypes::DataType::Struct(inner) = fields[4].data_type() else { panic!("a struct") };
    let whole = arrow::array::StructArray::new(
        inner.clone(),
        vec![Arc::new(arrow::array::UInt64Array::from(vec![u64::MAX, 0]))],
        None,
    );
    let uuid =
        arrow::array::FixedSizeBinaryArray::try_from_iter([[7_u8; 16], [9_u8; 16]].into_iter()).unwrap();
    let batch = RecordBatch::try_new(
        schema.clone(),
        vec![
            Arc::clone(&times),
            Arc::new(arrow::array::UInt8Array::from(vec![255, 0])),
            Arc::new(uuid),
            Arc::new(list),
            Arc::new(whole),
        ],
    )
    .unwrap();
    let mut staging = Staging::begin(layout.clone(), &table, Sizes::default()).await.unwrap();
    staging.write(&batch, &times, &times, &BooleanArray::from(vec![false, true])).await.unwrap();
    staging.commit(&mut table, &[], std::collections::HashMap::new()).await.unwrap();

    let room = Room { folder, source: clash };
    let engine = room.engine();
    let columns: Vec<String> = room.source.columns.iter().map(|column| column.name.clone()).collect();
    let scan = stored_scan(&engine, &room.source, &columns, None).await.unwrap();
    let found = datafusion::physical_plan::collect(scan.plan, engine.session().task_ctx()).await.unwrap();
    let found = arrow::compute::concat_batches(&found[0].schema(), &found).unwrap();
    for (column, expected) in found.columns().iter().zip(batch.columns()) {
        assert_eq!(column, expected);
    }

    let twice = source(&[("A", DataType::Timestamp), ("a", DataType::Int8)]);
    let refused = Layout::of(room.folder.path(), &twice).unwrap_err();
    assert!(refused.to_string().contains("differs from another in case only"), "{refused}");
}

/// What a killed load leaves is invisible, and goes with the next load.
#[tokio::test]
async fn leftovers_are_invisible_and_removed() {
    let room = Room::new();
    room.load("a", 100, Sizes::default()).await;
    let layout = room.layout();
    for left in ["asof-dead-00000.parquet", "asof-dead-00001.parquet#4000000001"] {
        std::fs::write(layout.folder.join(left), "half").unwrap();
    }
    std::fs::write(layout.folder.join("somebody_elses.parquet"), "kept").unwrap();
    assert_eq!(room.rows(None).await.len(), 100);
    let table = table::open(&DurableFiles::everywhere(), &layout.folder).await.unwrap().unwrap();
    let removed = table::remove_leftovers(&table, &layout.folder, super::append::DATA_PREFIX).await.unwrap();
    assert_eq!(removed, 2);
    assert!(layout.folder.join("somebody_elses.parquet").exists());
    assert_eq!(room.rows(None).await.len(), 100);
}

/// The log carries no statistics of a user's columns, and the table tells others not to write any.
#[tokio::test]
async fn the_log_holds_no_values_of_the_source() {
    let room = Room::new();
    room.load("a@b.example", 100, Sizes::default()).await;
    let log = room.layout().folder.join("_delta_log");
    let text: String = std::fs::read_dir(log)
        .unwrap()
        .flatten()
        .map(|entry| std::fs::read_to_string(entry.path()).unwrap())
        .collect();
    let added = text.lines().find(|line| line.starts_with("{\"add\"")).unwrap();
    assert!(!added.contains("a@b.example") && !added.contains("who"), "{added}");
    assert!(added.contains("1970-01-01T00:00:00.000099Z"), "{added}");
    assert!(
        text.contains("\"delta.dataSkippingStatsColumns\":\"`event_time`,`visible_at`,`seq`\""),
        "{text}"
    );
}

/// A source of many loads has many data files: more than this process may open at once.
#[test]
fn more_data_files_than_may_be_open_are_read() {
    let output = std::process::Command::new("sh")
        .args(["-c", "ulimit -n 256 && exec \"$@\"", "sh"])
        .arg(std::env::current_exe().unwrap())
        .args(["delta::append_suite::many_data_files_are_read", "--exact", "--test-threads", "1"])
        .output()
        .unwrap();
    let told = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success() && told.contains("1 passed"), "{told}");
}

#[tokio::test]
async fn many_data_files_are_read() {
    let room = Room::new();
    room.load("a", 300_000, Sizes { file: 1, group: 1_000 }).await;
    let engine = room.engine();
    assert_eq!(stored_files(&engine, &room.source).await.unwrap().files.len(), 300);
    let mut catalog = asof_model::Catalog::default();
    catalog.projects.insert(room.source.address.project.clone(), Arc::default());
    let want = crate::source::ScanColumns { all_for_digest: true, ..crate::source::ScanColumns::default() };
    let scan = crate::source::scan(&engine, &catalog, &room.source, &want).await.unwrap();
    let context = engine.session().task_ctx();
    let found = datafusion::physical_plan::collect(Arc::clone(&scan.plan), context).await.unwrap();
    assert_eq!(found.iter().map(RecordBatch::num_rows).sum::<usize>(), 300_000);
    scan.verify().unwrap();
}
