//! A node that has everything: rows pushed and loaded, views in both stores, a log that is flushed, and a reader.

use std::error::Error;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::{Duration, Instant};

use arrow::array::RecordBatch;
use arrow::compute::concat_batches;
use asof_engine::training::{SpineInput, TrainRequest, TrainingReport};
use asof_engine::{Engine, EngineConfig, no_progress};
use asof_flow::{Flow, FlushBounds, LiveViews};
use asof_model::{
    Ask, Catalog, Clock, FileFormat, OnImmature, OnNullKey, OnOverflow, Principal, Project, ProjectFile,
    Question, Timestamp, Version, has_errors, render, resolve,
};
use asof_online::live::{LiveOptions, LiveStore};
use asof_online::views::LiveGenerations;
use asof_registry::{Apply, Registry, RegistryError};
use asof_serve::Reader;
use tokio::runtime::Runtime;

use crate::fixture::{TestClock, name};

pub(crate) struct Node {
    pub(crate) root: PathBuf,
    pub(crate) clock: Arc<TestClock>,
    pub(crate) registry: Registry,
    pub(crate) engine: Engine,
    pub(crate) flow: Flow,
    pub(crate) reader: Reader,
    pub(crate) views: Arc<LiveGenerations>,
    pub(crate) runtime: Runtime,
}

/// Threads that wait for work.
pub(crate) fn runtime() -> Runtime {
    tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap()
}

/// An engine over a data directory.
pub(crate) fn engine(data: &Path, threads: usize) -> Engine {
    let config = EngineConfig {
        data_dir: data.to_owned(),
        memory: 256 << 20,
        threads,
        code_version: "test".to_owned(),
    };
    Engine::new(config).unwrap()
}

/// The versions that an apply of these definitions as those of project `shop` records.
pub(crate) fn resolved(runtime: &Runtime, engine: &Engine, root: &Path, definitions: &str) -> Vec<Version> {
    let file = |path: &str, text: &str| ProjectFile { path: path.to_owned(), text: text.to_owned() };
    let files = [file("asof.yaml", "project: shop"), file("features/a.yaml", definitions)];
    let (project, mut told) = Project::read(&files);
    let before = Catalog::default();
    let mut versions = Vec::new();
    if let Some(project) = project {
        let (types, of_types) = runtime.block_on(engine.check(&project, root, &before));
        told.extend(of_types);
        let (put, of_names) = resolve(&project, &before, &types);
        told.extend(of_names);
        versions = put;
    }
    assert!(!has_errors(&told), "{}", render(&told, &files, false));
    versions
}

/// Asks for what `ask` names over a spine in a CSV file, whose time is `t`; all is kept, and an overflow is an error.
pub(crate) fn request(catalog: &Catalog, ask: Ask, spine: &Path, question: Question) -> TrainRequest {
    let selection = catalog.select(&name("shop"), &ask, false);
    TrainRequest {
        project: name("shop"),
        selection: selection.unwrap_or_else(|error| panic!("{ask:?}: {error}")),
        ask,
        full_names: false,
        spine: SpineInput::File {
            path: spine.to_owned(),
            format: FileFormat::Csv,
            name: None,
            settled: false,
        },
        time: Some("t".to_owned()),
        question,
        on_null_key: OnNullKey::Keep,
        on_overflow: OnOverflow::Refuse,
        on_immature: OnImmature::Keep,
        asked_at: Timestamp::LAST,
        output: FileFormat::Parquet,
    }
}

/// A training set in one batch, and what is recorded of it.
pub(crate) fn trained(
    runtime: &Runtime,
    engine: &Engine,
    catalog: &Arc<Catalog>,
    request: TrainRequest,
) -> Result<(RecordBatch, TrainingReport), asof_engine::Error> {
    runtime.block_on(async {
        let mut training = engine.train(Arc::clone(catalog), request, no_progress()).await?;
        let schema = Arc::clone(training.schema());
        let mut batches = Vec::new();
        while let Some(batch) = training.next().await? {
            batches.push(batch);
        }
        let record = training.finish().await?;
        Ok((concat_batches(&schema, &batches)?, record))
    })
}

/// Opens what this process closed perhaps a moment ago: the engine's threads may still be at what a request left behind,
/// and nobody waits for them but the end of a process.
fn open_live(path: &Path, options: &LiveOptions) -> Result<Arc<dyn LiveStore>, asof_online::Error> {
    let own = std::process::id().to_string();
    let until = Instant::now() + Duration::from_secs(10);
    loop {
        match asof_online::live::open(path, options) {
            Err(asof_online::Error::Owned { holder, .. })
                if holder.as_ref() == Some(&own) && Instant::now() < until =>
            {
                std::thread::sleep(Duration::from_millis(1));
            }
            opened => return opened,
        }
    }
}

impl Node {
    /// A node over a project's folder at this time; what it kept before is there.
    pub(crate) fn open(root: &Path, now: i64) -> Node {
        Node::try_open(root, now, FlushBounds::default()).unwrap()
    }

    /// The same, with a log that is moved by these bounds; an error where the disk is in the way.
    pub(crate) fn try_open(root: &Path, now: i64, bounds: FlushBounds) -> Result<Node, Box<dyn Error>> {
        let runtime = runtime();
        let clock = Arc::new(TestClock(AtomicI64::new(now)));
        let shared: Arc<dyn Clock> = Arc::<TestClock>::clone(&clock);
        let data = root.join(".asof");
        std::fs::create_dir_all(&data)?;
        let engine = engine(&data, 1);
        let registry = runtime.block_on(Registry::open(&data.join("registry.db"), Arc::clone(&shared)))?;
        let online = asof_online::open(&data.join("online"), &asof_online::Options { cache: 8 << 20 })?;
        let floor = runtime.block_on(engine.greatest_position())?;
        let options =
            LiveOptions { floor, cache: 8 << 20, memory: 1 << 20, ..LiveOptions::new(Arc::clone(&shared)) };
        let live = open_live(&data.join("live"), &options)?;
        let views = Arc::new(LiveGenerations::open(Arc::clone(&live))?);
        let flow = Flow::new(registry.clone(), engine.clone(), Arc::clone(&online), Arc::clone(&shared))
            .with_intake(Arc::clone(&live), Arc::clone(&views) as Arc<dyn LiveViews>)
            .with_views(Arc::clone(&views))
            .with_live(live, floor, bounds);
        let reader = Reader::deriving(online, shared, Arc::new(engine.clone())).with_live(Arc::clone(&views));
        Ok(Node { root: root.to_owned(), clock, registry, engine, flow, reader, views, runtime })
    }

    pub(crate) fn now(&self) -> i64 {
        self.clock.0.load(Ordering::Acquire)
    }

    pub(crate) fn put(&self, put: Vec<Version>) {
        self.try_put(put).unwrap();
    }

    pub(crate) fn try_put(&self, put: Vec<Version>) -> Result<(), RegistryError> {
        let base = self.registry.catalog().revision;
        let change = Apply { project: name("shop"), root: self.root.clone(), base, put, remove: vec![] };
        self.runtime.block_on(self.registry.apply(&Principal::owner(), change)).map(drop)
    }

    pub(crate) fn materialize(&self) {
        let (owner, shop) = (Principal::owner(), name("shop"));
        self.runtime.block_on(self.flow.materialize(&owner, &shop, None, no_progress())).unwrap();
    }

    /// A training set over a spine of CSV, with a column `t` of times.
    pub(crate) fn train(&self, ask: Ask, spine: &str, question: Question) -> (RecordBatch, TrainingReport) {
        let path = self.root.join("spine.csv");
        std::fs::write(&path, spine).unwrap();
        let catalog = self.registry.catalog();
        let request = request(&catalog, ask, &path, question);
        trained(&self.runtime, &self.engine, &catalog, request).unwrap()
    }
}
