//! A node with a store of live rows, and sources that rows are pushed to.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::AtomicI64;

use arrow::array::{
    ArrayRef, AsArray, BooleanArray, Int64Array, RecordBatch, StringArray, TimestampMicrosecondArray,
    new_null_array,
};
use arrow::datatypes::{Int64Type, TimestampMicrosecondType};
use asof_engine::intake::LiveRows;
use asof_engine::source::{ScanColumns, scan};
use asof_engine::{Engine, EngineConfig};
use asof_flow::{Flow, FlushBounds, NoLiveViews};
use asof_model::{
    About, Clock, Column, Cut, DataType, Format, NullKeys, Place, Principal, Source, SourceVersion, TimeRule,
    Version, VersionId,
};
use asof_online::live::{
    Accepted, Durability, Incoming, Intake, LiveOptions, LiveStore, SourceNumber, TableNumber,
};
use asof_registry::{Apply, Registry};

use crate::fixture::{TestClock, address, name, rows_of};

/// A row as a reader finds it: its number, `v`, whether it is a delete.
pub(crate) type Row = (i64, i64, bool);

pub(crate) struct Node {
    pub(crate) root: PathBuf,
    pub(crate) clock: Arc<TestClock>,
    pub(crate) registry: Registry,
    pub(crate) engine: Engine,
    pub(crate) live: Arc<dyn LiveStore>,
    pub(crate) flow: Flow,
    pub(crate) runtime: tokio::runtime::Runtime,
}

/// Source `called`, which rows are pushed to.
pub(crate) fn source(called: &str) -> SourceVersion {
    let columns = [("at", DataType::Timestamp), ("n", DataType::Int64), ("text", DataType::String)];
    let columns = columns.into_iter().map(|(name, data_type)| Column { name: name.to_owned(), data_type });
    let columns: Vec<Column> = columns.collect();
    SourceVersion {
        address: address(called),
        id: VersionId(format!("{called:0<32}")),
        definition: Source {
            name: name(called),
            place: Place::Push { past: None },
            store: false,
            event_time: Some(TimeRule::Column { name: "at".to_owned(), unit: None, zone: None }),
            available_at: None,
            valid_until: None,
            id: None,
            order_by: None,
            delete_when: None,
            null_keys: NullKeys::Keep,
            schema: columns.clone(),
            about: About::default(),
        },
        columns,
    }
}

impl Node {
    /// A node over a folder; what it kept before is there.
    pub(crate) fn open(root: &Path, bounds: FlushBounds) -> Node {
        let runtime =
            tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
        let clock = Arc::new(TestClock(AtomicI64::new(1_000)));
        let shared: Arc<dyn Clock> = Arc::<TestClock>::clone(&clock);
        let data = root.join(".asof");
        std::fs::create_dir_all(&data).unwrap();
        let engine = Engine::new(EngineConfig {
            data_dir: data.clone(),
            memory: 256 << 20,
            threads: 2,
            code_version: "test".to_owned(),
        })
        .unwrap();
        let registry =
            runtime.block_on(Registry::open(&data.join("registry.db"), Arc::clone(&shared))).unwrap();
        let online =
            asof_online::open(&data.join("online"), &asof_online::Options { cache: 8 << 20 }).unwrap();
        let floor = runtime.block_on(engine.greatest_position()).unwrap();
        let options = LiveOptions {
            floor,
            cache: 8 << 20,
            memory: 1 << 20,
            log_file: 1 << 16,
            ..LiveOptions::new(Arc::clone(&shared))
        };
        // What an earlier node of this process was cut off in may hold the store for a moment longer.
        let live = loop {
            match asof_online::live::open(&data.join("live"), &options) {
                Err(asof_online::Error::Owned { .. }) => {
                    std::thread::sleep(std::time::Duration::from_millis(20))
                }
                opened => break opened.unwrap(),
            }
        };
        let flow = Flow::new(registry.clone(), engine.clone(), online, shared)
            .with_intake(Arc::clone(&live), Arc::new(NoLiveViews))
            .with_live(Arc::clone(&live), floor, bounds);
        Node { root: root.to_owned(), clock, registry, engine, live, flow, runtime }
    }

    /// Applies these sources as they are.
    pub(crate) fn apply(&self, sources: &[&SourceVersion]) {
        let change = Apply {
            project: name("shop"),
            root: self.root.clone(),
            base: self.registry.catalog().revision,
            put: sources.iter().map(|source| Version::Source(Arc::new((*source).clone()))).collect(),
            remove: vec![],
        };
        self.runtime.block_on(self.registry.apply(&Principal::owner(), change)).unwrap();
    }

    /// Gives a source a number as `docs/formats/live-entries.md` says.
    pub(crate) fn number(&self, source: &SourceVersion, number: u32) -> SourceNumber {
        let table = self.engine.table_of(source).unwrap();
        let mut value = vec![1];
        value.extend_from_slice(&number.to_le_bytes());
        let entries = TableNumber::new(1).unwrap();
        self.live.write(&mut |_, writing| writing.put(entries, table.as_bytes(), &value)).unwrap();
        SourceNumber(number)
    }

    /// Pushes rows with these numbers.
    pub(crate) fn push(
        &self,
        source: &SourceVersion,
        number: SourceNumber,
        rows: std::ops::Range<i64>,
    ) -> Accepted {
        let n: Vec<i64> = rows.collect();
        let times: ArrayRef = Arc::new(
            TimestampMicrosecondArray::from_iter_values(n.iter().map(|n| n * 10)).with_timezone("UTC"),
        );
        let columns: Vec<ArrayRef> = vec![
            Arc::clone(&times),
            Arc::new(Int64Array::from(n.clone())),
            Arc::new(StringArray::from_iter_values(n.iter().map(|n| format!("row {n}")))),
            Arc::clone(&times),
            Arc::new(n.iter().map(|n| Some(n % 7 == 3)).collect::<BooleanArray>()),
            new_null_array(times.data_type(), n.len()),
        ];
        let live = LiveRows::of(source).unwrap();
        let rows =
            live.encode(&RecordBatch::try_new(Arc::clone(live.schema()), columns).unwrap()).unwrap().all();
        let intake = Intake {
            source: number,
            rows: Incoming::Plain(n.len() as u32),
            key: None,
            durability: Durability::Durable,
        };
        self.live
            .accept(&intake, &mut |_, writing| {
                writing.rows().extend_from_slice(&rows);
                Ok(())
            })
            .unwrap()
    }

    /// What a reading of a source gives by position, and up to which position it is.
    pub(crate) fn read(&self, source: &SourceVersion, cut: Option<i64>) -> (BTreeMap<i64, Row>, i64) {
        let at = cut.map(|position| Cut::Stored { position, table_version: 0, past: None });
        let catalog = self.registry.catalog();
        let want = ScanColumns { all_for_digest: true, at, ..ScanColumns::default() };
        let scan = self.runtime.block_on(scan(&self.engine, &catalog, source, &want)).unwrap();
        let mut found = BTreeMap::new();
        for batch in rows_of(&self.engine, &self.runtime, &scan) {
            let column = |name: &str| batch.column_by_name(name).unwrap();
            let e = column("__e").as_primitive::<TimestampMicrosecondType>();
            let v = column("__v").as_primitive::<TimestampMicrosecondType>();
            let s = column("__s").as_primitive::<Int64Type>();
            let (n, text) = (column("n").as_primitive::<Int64Type>(), column("text").as_string::<i32>());
            let op = column("__op").as_boolean();
            for row in 0..batch.num_rows() {
                assert_eq!(
                    (e.value(row), text.value(row)),
                    (n.value(row) * 10, &*format!("row {}", n.value(row)))
                );
                let read = (n.value(row), v.value(row), op.value(row));
                assert!(found.insert(s.value(row), read).is_none(), "position {} twice", s.value(row));
            }
        }
        scan.verify().unwrap();
        let Cut::Stored { position, .. } = scan.identity else { panic!("{:?}", scan.identity) };
        (found, position)
    }

    /// The folder of a source's table.
    pub(crate) fn table(&self, source: &SourceVersion) -> PathBuf {
        self.root.join(".asof/offline").join(self.engine.table_of(source).unwrap())
    }
}

/// CSV files of its own beside a source's table.
pub(crate) fn past(path: &str) -> asof_model::Past {
    asof_model::Past { path: path.to_owned(), format: Format::Csv, options: BTreeMap::new(), until: None }
}
