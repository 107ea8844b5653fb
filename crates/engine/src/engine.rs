//! The handle of the room: its configuration, its memory, its threads.

use std::future::Future;
use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};

use datafusion::execution::SessionState;
use datafusion::execution::disk_manager::{DiskManagerBuilder, DiskManagerMode};
use datafusion::execution::memory_pool::{FairSpillPool, TrackConsumersPool};
use datafusion::execution::runtime_env::{RuntimeEnv, RuntimeEnvBuilder};
use datafusion::prelude::{SessionConfig, SessionContext};

use crate::delta::{DurableFiles, LiveTail, Readers};
use crate::expression::InUse;
use crate::growth::Bounds;
use crate::query::Room;
use crate::{Error, Result};

/// What an engine is told at its start.
#[derive(Debug, Clone)]
pub struct EngineConfig {
    /// The node's data directory: stored sources below `offline/`, spilled data below `spill/`.
    pub data_dir: PathBuf,
    /// Bytes that plans may hold in memory before they spill or cut portions.
    pub memory: u64,
    /// How many threads one plan may use; at least 1.
    pub threads: usize,
    /// Named in every training set's record, e.g. `0.1.0+3f2a91c`.
    pub code_version: String,
}

/// Reads sources, answers spines, runs SQL. A cheap clone; all clones share one memory limit and the
/// same worker threads, which are not the caller's: a heavy plan cannot stall whoever awaits it.
#[derive(Clone)]
pub struct Engine {
    inner: Arc<Inner>,
}

struct Inner {
    config: EngineConfig,
    files: DurableFiles,
    /// Of data files below its tables.
    readers: Readers,
    /// Where rows of push sources are that do not stand in their tables yet.
    tail: OnceLock<Arc<dyn LiveTail>>,
    environment: Arc<RuntimeEnv>,
    /// Types expressions: the functions there are, names as they are written.
    language: SessionState,
    /// Derived features that are compiled.
    derived: InUse,
    /// Where SQL runs; made when the first query comes.
    sql: OnceLock<Room>,
    /// Only dropping takes it out.
    workers: Option<tokio::runtime::Runtime>,
}

impl Drop for Inner {
    fn drop(&mut self) {
        // A runtime must not be dropped by waiting inside another one.
        if let Some(workers) = self.workers.take() {
            workers.shutdown_background();
        }
    }
}

impl std::fmt::Debug for Engine {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Engine").field("config", &self.inner.config).finish_non_exhaustive()
    }
}

/// Planning recurses with the depth of an expression; a small stack ends the process instead.
pub(crate) const WORKER_STACK: usize = 8 << 20;

/// How far the engine's threads stand below those that answer: a third of a full share where both want the processor,
/// so that tables still get their rows.
const NICENESS: i32 = 5;

/// Lowers the calling thread's share of the processor; where that is refused it keeps the one it has.
pub(crate) fn step_back(niceness: i32) {
    // On Linux this is the thread's own.
    if niceness > 0
        && let Err(error) = rustix::process::setpriority_process(None, niceness)
    {
        tracing::warn!(%error, "threads of the engine keep their full share of the processor");
    }
}

/// How the names of files begin that a spine is written to until its training ends, below `spines/`.
pub(crate) const INCOMING: &str = "incoming-";

/// Removes what an earlier process left in a folder under names that begin so. What cannot be removed is
/// only in the way of space.
fn remove_leftovers(folder: &Path, prefix: &str) {
    for entry in std::fs::read_dir(folder).into_iter().flatten().flatten() {
        if !entry.file_name().to_string_lossy().starts_with(prefix) {
            continue;
        }
        let path = entry.path();
        let is_folder = entry.file_type().is_ok_and(|kind| kind.is_dir());
        let removed = if is_folder { std::fs::remove_dir_all(&path) } else { std::fs::remove_file(&path) };
        if let Err(error) = removed {
            tracing::warn!(path = %path.display(), %error, "a leftover of an earlier process stays behind");
        }
    }
}

impl Engine {
    /// An engine over this data directory, which is nobody else's: what an earlier process spilled, or
    /// staged of a spine, and did not live to remove is removed.
    ///
    /// # Errors
    /// [`Error::Io`] where the directory for spilled data cannot be made or no thread be started.
    pub fn new(config: EngineConfig) -> Result<Engine> {
        Engine::start(config, 0)
    }

    /// The same for a process that answers requests: whatever the engine does steps back for them.
    ///
    /// # Errors
    /// As [`Engine::new`].
    pub fn beside_requests(config: EngineConfig) -> Result<Engine> {
        Engine::start(config, NICENESS)
    }

    fn start(config: EngineConfig, niceness: i32) -> Result<Engine> {
        let spill = config.data_dir.join("spill");
        std::fs::create_dir_all(&spill).map_err(|e| Error::io("create the folder", &spill, &e))?;
        remove_leftovers(&spill, "");
        remove_leftovers(&config.data_dir.join("spines"), INCOMING);
        let memory = usize::try_from(config.memory).unwrap_or(usize::MAX);
        let consumers = std::num::NonZeroUsize::MIN.saturating_add(4);
        let pool = TrackConsumersPool::new(FairSpillPool::new(memory), consumers);
        let environment = RuntimeEnvBuilder::new()
            .with_memory_pool(Arc::new(pool))
            .with_disk_manager_builder(
                DiskManagerBuilder::default().with_mode(DiskManagerMode::Directories(vec![spill])),
            )
            .build_arc()?;
        let workers = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(config.threads.max(1))
            .thread_name("asof-engine")
            .thread_stack_size(WORKER_STACK)
            .on_thread_start(move || step_back(niceness))
            .enable_all()
            .build()
            .map_err(|e| Error::io("start the worker threads below", &config.data_dir, &e))?;
        let names = SessionConfig::new().set_bool("datafusion.sql_parser.enable_ident_normalization", false);
        let language = SessionContext::new_with_config_rt(names, Arc::clone(&environment)).state();
        Ok(Engine {
            inner: Arc::new(Inner {
                config,
                files: DurableFiles::everywhere(),
                readers: Readers::default(),
                tail: OnceLock::new(),
                environment,
                language,
                derived: InUse::default(),
                sql: OnceLock::new(),
                workers: Some(workers),
            }),
        })
    }

    /// What it was told at its start.
    pub fn config(&self) -> &EngineConfig {
        &self.inner.config
    }

    /// The store below every Delta table of ours: a failed fsync in one of them stops all of them.
    pub(crate) fn files(&self) -> &DurableFiles {
        &self.inner.files
    }

    /// Who reads data files of its tables.
    pub(crate) fn readers(&self) -> &Readers {
        &self.inner.readers
    }

    /// The store of live rows it follows, once one was given.
    pub(crate) fn tail_given(&self) -> &OnceLock<Arc<dyn LiveTail>> {
        &self.inner.tail
    }

    /// A fresh session: the engine's memory and threads, no tables, UTC.
    pub fn session(&self) -> SessionContext {
        let config = SessionConfig::new()
            .with_target_partitions(self.inner.config.threads.max(1))
            .with_information_schema(false);
        SessionContext::new_with_config_rt(config, Arc::clone(&self.inner.environment))
    }

    /// A fresh session in which names are matched as they are written; bare ones stand in this schema.
    pub(crate) fn named_session(&self, partitions: usize, schema: &str) -> SessionContext {
        let config = SessionConfig::new()
            .with_target_partitions(partitions)
            .with_default_catalog_and_schema(crate::query::CATALOG, schema)
            .with_information_schema(false)
            .set_bool("datafusion.sql_parser.enable_ident_normalization", false);
        SessionContext::new_with_config_rt(config, Arc::clone(&self.inner.environment))
    }

    /// What expressions are typed against: the functions there are, and names as they are written.
    pub(crate) fn language(&self) -> &SessionState {
        &self.inner.language
    }

    pub(crate) fn derived(&self) -> &InUse {
        &self.inner.derived
    }

    /// How large the answers of functions in definitions may be.
    pub(crate) fn bounds(&self) -> Bounds {
        Bounds::of_expressions(self.inner.config.memory)
    }

    /// Where SQL runs.
    pub(crate) fn sql_room(&self) -> Result<&Room> {
        if let Some(room) = self.inner.sql.get() {
            return Ok(room);
        }
        // Of two made at once one is dropped, unused.
        let room = Room::new(self.inner.config.threads)?;
        Ok(self.inner.sql.get_or_init(|| room))
    }

    /// Runs blocking work, such as opening files, on threads that are there for it.
    ///
    /// # Errors
    /// What the work gives; [`Error::Internal`] where it panicked.
    pub async fn blocking<T, F>(&self, work: F) -> Result<T>
    where
        T: Send + 'static,
        F: FnOnce() -> Result<T> + Send + 'static,
    {
        let Some(workers) = self.inner.workers.as_ref() else {
            return Err(Error::internal("the engine has stopped"));
        };
        match workers.handle().spawn_blocking(work).await {
            Ok(answer) => answer,
            Err(ended) => Err(gone(&ended)),
        }
    }

    /// Begins blocking work that goes on beside its caller.
    pub(crate) fn begin_blocking<T, F>(&self, work: F) -> Result<tokio::task::JoinHandle<Result<T>>>
    where
        T: Send + 'static,
        F: FnOnce() -> Result<T> + Send + 'static,
    {
        match self.inner.workers.as_ref() {
            Some(workers) => Ok(workers.handle().spawn_blocking(work)),
            None => Err(Error::internal("the engine has stopped")),
        }
    }

    /// Runs on the engine's own worker threads. Dropping the returned future ends the work.
    ///
    /// # Errors
    /// What the work gives; [`Error::Internal`] where it panicked.
    pub async fn run<T, F>(&self, work: F) -> Result<T>
    where
        T: Send + 'static,
        F: Future<Output = Result<T>> + Send + 'static,
    {
        let Some(workers) = self.inner.workers.as_ref() else {
            return Err(Error::internal("the engine has stopped"));
        };
        let mut task = tokio::task::JoinSet::new();
        task.spawn_on(work, workers.handle());
        match task.join_next().await {
            Some(Ok(answer)) => answer,
            Some(Err(ended)) => Err(gone(&ended)),
            None => Err(Error::internal("a task of the engine vanished")),
        }
    }
}

/// What a panic said goes to standard error alone, since it may hold a value.
pub(crate) fn gone(ended: &tokio::task::JoinError) -> Error {
    Error::internal(match ended.is_panic() {
        true => "a task of the engine panicked, a defect in Asof: what it said is on standard error",
        false => "a task of the engine was cut off",
    })
}
