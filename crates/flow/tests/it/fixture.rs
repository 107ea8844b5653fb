//! A project folder of CSV files, applied, with everything that a node has.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI64, Ordering};

use arrow::array::RecordBatch;
use asof_engine::source::SourceScan;
use asof_engine::{Engine, EngineConfig, no_progress};
use asof_flow::{Flow, FlowError, MaterializeReport};
use asof_model::{
    About, Address, Clock, Column, DataType, Entity, EntityVersion, Expression, Feature, Features, Format,
    History, Key, Length, Name, NullKeys, Place, Principal, Reference, Source, SourceVersion, TimeRule,
    TimeUnit, Timestamp, TypedFeature, Version, VersionId, View, ViewKey, ViewVersion,
};
use asof_online::{OnlineStore, Options, open};
use asof_registry::{Apply, Registry};
use asof_serve::Reader;
use futures::TryStreamExt;
use tokio::runtime::Runtime;

/// All that a reading of a source gives.
pub(crate) fn rows_of(engine: &Engine, runtime: &Runtime, scan: &SourceScan) -> Vec<RecordBatch> {
    let read = |partition| {
        let stream = scan.plan.execute(partition, engine.session().task_ctx()).unwrap();
        runtime.block_on(stream.try_collect::<Vec<RecordBatch>>()).unwrap()
    };
    (0..scan.plan.properties().partitioning.partition_count()).flat_map(read).collect()
}

#[derive(Debug)]
pub(crate) struct TestClock(pub(crate) AtomicI64);

impl TestClock {
    pub(crate) fn set(&self, micros: i64) {
        self.0.store(micros, Ordering::Release);
    }
}

impl Clock for TestClock {
    fn now(&self) -> Timestamp {
        Timestamp(self.0.load(Ordering::Acquire))
    }
}

/// A row of the source, times in microseconds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Row {
    pub(crate) item: Option<i64>,
    pub(crate) e: i64,
    pub(crate) v: Option<i64>,
    /// Breaks all ties, so that the plain rule needs no digest.
    pub(crate) n: i64,
    pub(crate) gone: bool,
    pub(crate) until: Option<i64>,
    pub(crate) price: Option<i64>,
}

/// A value that is visible when it happened.
pub(crate) fn row(item: i64, e: i64, n: i64, price: i64) -> Row {
    Row { item: Some(item), e, v: Some(e), n, price: Some(price), ..Row::default() }
}

pub(crate) fn csv(rows: &[Row]) -> String {
    let mut text = "item,e,v,n,gone,until,price\n".to_owned();
    let cell = |value: Option<i64>| value.map(|value| value.to_string()).unwrap_or_default();
    for row in rows {
        let Row { item, e, v, n, gone, until, price } = *row;
        writeln!(text, "{},{e},{},{n},{gone},{},{}", cell(item), cell(v), cell(until), cell(price)).unwrap();
    }
    text
}

pub(crate) fn name(text: &str) -> Name {
    Name::new(text).unwrap()
}

pub(crate) fn address(text: &str) -> Address {
    Address { project: name("shop"), name: name(text) }
}

/// Says that it is over when it is dropped, however that comes.
pub(crate) struct SetAtEnd<'a>(pub(crate) &'a AtomicBool);

impl Drop for SetAtEnd<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Release);
    }
}

pub(crate) fn expression(text: &str) -> Expression {
    Expression { text: text.to_owned() }
}

fn at(column: &str) -> Option<TimeRule> {
    Some(TimeRule::Column { name: column.to_owned(), unit: Some(TimeUnit::Us), zone: None })
}

/// What a test changes of the view.
#[derive(Debug, Clone)]
pub(crate) struct Shape {
    pub(crate) version: &'static str,
    pub(crate) clock: bool,
    pub(crate) ttl: Option<i64>,
    pub(crate) history: History,
    pub(crate) retention: Option<i64>,
    pub(crate) refresh: Option<i64>,
    pub(crate) filter: &'static str,
    pub(crate) double: &'static str,
}

impl Default for Shape {
    fn default() -> Shape {
        Shape {
            version: "1",
            clock: true,
            ttl: None,
            history: History::None,
            retention: None,
            refresh: None,
            filter: "price <> 13",
            double: "price * 2",
        }
    }
}

pub(crate) struct Node {
    pub(crate) root: PathBuf,
    pub(crate) registry: Registry,
    pub(crate) store: Arc<dyn OnlineStore>,
    pub(crate) clock: Arc<TestClock>,
    pub(crate) flow: Flow,
    pub(crate) runtime: tokio::runtime::Runtime,
}

impl Node {
    /// A node over a project's folder; what it kept before is there.
    pub(crate) fn open(root: &Path) -> Node {
        let clock = Arc::new(TestClock(AtomicI64::new(1_000)));
        Node::with(root, Arc::clone(&clock), clock)
    }

    /// The same, with a clock of its own for what moves data.
    pub(crate) fn with(root: &Path, clock: Arc<TestClock>, shared: Arc<dyn Clock>) -> Node {
        let runtime =
            tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
        let data = root.join(".asof");
        std::fs::create_dir_all(&data).unwrap();
        let engine = Engine::new(EngineConfig {
            data_dir: data.clone(),
            memory: 256 << 20,
            threads: 2,
            code_version: "test".to_owned(),
        })
        .unwrap();
        let file = data.join("registry.db");
        let registry = runtime.block_on(Registry::open(&file, Arc::clone(&shared))).unwrap();
        let store = open(&data.join("online"), &Options { cache: 8 << 20 }).unwrap();
        let flow = Flow::new(registry.clone(), engine, Arc::clone(&store), shared);
        Node { root: root.to_owned(), registry, store, clock, flow, runtime }
    }

    pub(crate) fn write(&self, path: &str, rows: &[Row]) {
        let whole = self.root.join(path);
        std::fs::create_dir_all(whole.parent().unwrap()).unwrap();
        std::fs::write(whole, csv(rows)).unwrap();
    }

    /// Applies entity `item`, source `prices` over `data/*.csv` and view `price` of this shape.
    pub(crate) fn apply(&self, shape: &Shape) {
        self.apply_views(&[("price", shape)]);
    }

    pub(crate) fn apply_views(&self, views: &[(&str, &Shape)]) {
        let mut put = vec![Version::Entity(Arc::new(entity()))];
        let clock = views.first().is_some_and(|(_, shape)| shape.clock);
        put.push(Version::Source(Arc::new(source(clock))));
        put.extend(views.iter().map(|(called, shape)| Version::View(Arc::new(view(called, shape)))));
        self.put(put);
    }

    /// Applies these versions as they are.
    pub(crate) fn put(&self, put: Vec<Version>) {
        let catalog = self.registry.catalog();
        let change = Apply {
            project: name("shop"),
            root: self.root.clone(),
            base: catalog.revision,
            put,
            remove: vec![],
        };
        self.runtime.block_on(self.registry.apply(&Principal::owner(), change)).unwrap();
    }

    pub(crate) fn remove_view(&self, called: &str) {
        let change = Apply {
            project: name("shop"),
            root: self.root.clone(),
            base: self.registry.catalog().revision,
            put: vec![],
            remove: vec![(asof_model::ThingKind::View, name(called))],
        };
        self.runtime.block_on(self.registry.apply(&Principal::owner(), change)).unwrap();
    }

    /// Writes batches as one Parquet file.
    pub(crate) fn parquet(&self, path: &str, batch: &arrow::array::RecordBatch) {
        let whole = self.root.join(path);
        std::fs::create_dir_all(whole.parent().unwrap()).unwrap();
        let file = std::fs::File::create(whole).unwrap();
        let mut writer = parquet::arrow::ArrowWriter::try_new(file, batch.schema(), None).unwrap();
        writer.write(batch).unwrap();
        writer.close().unwrap();
    }

    pub(crate) fn materialize(&self) -> Result<MaterializeReport, FlowError> {
        let (owner, shop) = (Principal::owner(), name("shop"));
        let done = self.flow.materialize(&owner, &shop, None, no_progress());
        self.runtime.block_on(done).map(|mut reports| reports.swap_remove(0))
    }

    pub(crate) fn reader(&self) -> Reader {
        Reader::new(Arc::clone(&self.store), Arc::<TestClock>::clone(&self.clock) as Arc<dyn Clock>)
    }

    /// Everything the live generation of the view answers: per item its status, event time, price and
    /// double, at the clock's time or as of another.
    pub(crate) fn answers(&self, reader: &Reader, items: &[Option<i64>], as_of: Option<i64>) -> Vec<Answer> {
        use arrow::array::{ArrayRef, AsArray, Int64Array};
        use arrow::datatypes::Int64Type;
        let catalog = self.registry.catalog();
        let ask = asof_model::Ask::Features(vec!["price.*".to_owned()]);
        let prepared = reader.prepare(&catalog, &name("shop"), &ask, false).unwrap();
        let keys: ArrayRef = Arc::new(Int64Array::from(items.to_vec()));
        let entities = asof_serve::EntityColumns::new(vec![("item".to_owned(), keys)]).unwrap();
        let found = reader.read(&prepared, &entities, as_of.map(Timestamp)).unwrap();
        let numbers = |at: usize| -> Vec<Option<i64>> {
            found.columns().nth(at).unwrap().array().unwrap().as_primitive::<Int64Type>().iter().collect()
        };
        let (price, double) = (numbers(0), numbers(1));
        let reading = &found.readings[0];
        (0..items.len())
            .map(|at| {
                (reading.status[at].name(), reading.event_time[at].map(|at| at.0), price[at], double[at])
            })
            .collect()
    }
}

/// Status, event time, price, double.
pub(crate) type Answer = (&'static str, Option<i64>, Option<i64>, Option<i64>);

pub(crate) fn entity() -> EntityVersion {
    EntityVersion {
        address: address("item"),
        id: VersionId("entity".repeat(4)),
        definition: Entity {
            name: name("item"),
            keys: vec![Key { name: name("item"), data_type: DataType::Int64 }],
            about: About::default(),
        },
    }
}

pub(crate) fn source(clock: bool) -> SourceVersion {
    let columns = [
        ("item", DataType::Int64),
        ("e", DataType::Int64),
        ("v", DataType::Int64),
        ("n", DataType::Int64),
        ("gone", DataType::Bool),
        ("until", DataType::Int64),
        ("price", DataType::Int64),
    ];
    SourceVersion {
        address: address("prices"),
        id: VersionId(if clock { "source".repeat(4) } else { "facts".repeat(4) }),
        definition: Source {
            name: name("prices"),
            place: Place::Files {
                path: "data/*.csv".to_owned(),
                format: Format::Csv,
                options: BTreeMap::new(),
            },
            store: false,
            event_time: if clock { at("e") } else { None },
            available_at: if clock { at("v") } else { None },
            valid_until: at("until"),
            id: None,
            order_by: Some(expression("n")),
            delete_when: Some(expression("gone")),
            null_keys: NullKeys::Keep,
            schema: Vec::new(),
            about: About::default(),
        },
        columns: columns
            .into_iter()
            .map(|(name, data_type)| Column { name: name.to_owned(), data_type })
            .collect(),
    }
}

pub(crate) fn view(called: &str, shape: &Shape) -> ViewVersion {
    let reference = |text| Reference { project: None, name: name(text) };
    let feature = |called: &str, text: &str| TypedFeature {
        feature: Feature {
            name: name(called),
            expression: expression(text),
            aggregate: None,
            default: None,
            sensitivity: None,
            about: About::default(),
        },
        data_type: DataType::Int64,
    };
    let features = vec![feature("price", "price"), feature("double", shape.double)];
    ViewVersion {
        address: address(called),
        id: VersionId(format!("view{called}{}", shape.version)),
        definition: View {
            name: name(called),
            entity: reference("item"),
            source: reference("prices"),
            keys: BTreeMap::new(),
            filter: Some(expression(shape.filter)),
            ttl: shape.ttl.map(Length::from_micros),
            history: shape.history,
            refresh: shape.refresh.map(Length::from_micros),
            windows: Vec::new(),
            retention: shape.retention.map(Length::from_micros),
            features: Features::Named(features.iter().map(|typed| typed.feature.clone()).collect()),
            about: About::default(),
        },
        entity: address("item"),
        source: address("prices"),
        source_id: source(shape.clock).id,
        keys: vec![ViewKey {
            key: Key { name: name("item"), data_type: DataType::Int64 },
            column: "item".to_owned(),
        }],
        features,
    }
}

/// What SEMANTICS says the view answers at `t`, sentence by sentence.
pub(crate) fn plain_rule(rows: &[Row], item: Option<i64>, t: i64, ttl: Option<i64>) -> Answer {
    let nothing = |status| (status, None, None, None);
    let Some(item) = item else { return nothing("no_key") };
    let last = rows
        .iter()
        .filter(|row| row.v.is_some_and(|v| v <= t))
        .filter(|row| row.gone || row.price.is_some_and(|price| price != 13))
        .filter(|row| row.item == Some(item))
        .filter(|row| row.e <= t)
        .max_by_key(|row| (row.e, row.v, row.n));
    let Some(row) = last.filter(|row| !row.gone) else { return nothing("not_found") };
    if ttl.is_some_and(|ttl| t - row.e > ttl) || row.until.is_some_and(|until| t >= until) {
        return ("expired", Some(row.e), None, None);
    }
    ("present", Some(row.e), row.price, row.price.map(|price| price * 2))
}
