//! Where queries run: threads of their own with a lower share and a big stack, and an environment
//! without any way to files.

use std::future::Future;
use std::sync::Arc;

use datafusion::error::DataFusionError;
use datafusion::execution::disk_manager::{DiskManagerBuilder, DiskManagerMode};
use datafusion::execution::memory_pool::FairSpillPool;
use datafusion::execution::object_store::ObjectStoreRegistry;
use datafusion::execution::runtime_env::{RuntimeEnv, RuntimeEnvBuilder};
use object_store::ObjectStore;
use tokio::sync::Semaphore;
use tokio::task::AbortHandle;

use super::SqlLimits;
use crate::engine::step_back;
use crate::{Engine, Error, Result};

/// A tree within the limits never comes near; only touched pages cost memory.
const STACK: usize = 256 << 20;
/// How many queries run at once; more wait, within their time.
const SEATS: usize = 4;
/// How far below the rest of the process: at this niceness a busy query gets about a tenth.
const NICENESS: i32 = 10;
/// Bytes one query may spill.
const SPILL: u64 = 16 << 30;

/// The threads and seats of queries.
#[derive(Debug)]
pub(crate) struct Room {
    /// Only dropping takes it out.
    runtime: Option<tokio::runtime::Runtime>,
    seats: Arc<Semaphore>,
}

impl Room {
    /// A room with so many threads.
    pub(crate) fn new(threads: usize) -> Result<Room> {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(threads.max(1))
            .thread_name("asof-sql")
            .thread_stack_size(STACK)
            .on_thread_start(|| step_back(NICENESS))
            .enable_all()
            .build()
            .map_err(|error| Error::internal(format!("cannot start the threads of SQL: {error}")))?;
        Ok(Room { runtime: Some(runtime), seats: Arc::new(Semaphore::new(SEATS)) })
    }

    pub(super) fn seats(&self) -> Arc<Semaphore> {
        Arc::clone(&self.seats)
    }

    /// Runs work on the room's threads until it ends or is aborted.
    pub(super) fn spawn(&self, work: impl Future<Output = ()> + Send + 'static) -> AbortHandle {
        match &self.runtime {
            Some(runtime) => runtime.spawn(work).abort_handle(),
            // Taken out only by dropping, after which nobody calls this.
            None => tokio::runtime::Handle::current().spawn(work).abort_handle(),
        }
    }
}

impl Drop for Room {
    fn drop(&mut self) {
        // A runtime must not be dropped by waiting inside another one.
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}

/// Knows no store at all: whatever a plan might name, there is nothing behind it. Sources are read
/// through plans that hold their files open, or bring the engine's own environment.
#[derive(Debug)]
struct NoStores;

impl ObjectStoreRegistry for NoStores {
    fn register_store(&self, _: &url::Url, _: Arc<dyn ObjectStore>) -> Option<Arc<dyn ObjectStore>> {
        None
    }

    fn get_store(&self, _: &url::Url) -> datafusion::error::Result<Arc<dyn ObjectStore>> {
        Err(DataFusionError::Plan("queries have no access to files".to_owned()))
    }
}

/// The environment of one query.
pub(super) fn environment(engine: &Engine, limits: &SqlLimits) -> Result<Arc<RuntimeEnv>> {
    let spill = engine.config().data_dir.join("spill");
    let disk = DiskManagerBuilder::default()
        .with_mode(DiskManagerMode::Directories(vec![spill]))
        .with_max_temp_directory_size(SPILL);
    Ok(RuntimeEnvBuilder::new()
        .with_memory_pool(Arc::new(FairSpillPool::new(limits.memory)))
        .with_disk_manager_builder(disk)
        .with_object_store_registry(Arc::new(NoStores))
        .build_arc()?)
}
