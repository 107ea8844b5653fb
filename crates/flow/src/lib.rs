//! Data in motion: files into stored sources ([`Flow::load`]), pushed rows into the store of live rows
//! ([`Flow::push`]) and from its log into their tables ([`Flow::flush`]), views into the online stores
//! ([`Flow::materialize`]), again at their `refresh`, with their tiles; and what was served answered again
//! ([`Flow::check_consistency`]).
//!
//! It says in which order things happen and keeps the record of runs; how rows are read, checked and
//! stored is `asof-engine`'s, how they lie online is `asof-online`'s.

mod consistency;
mod error;
mod flush;
mod live_tiles;
mod live_views;
mod load;
mod materialize;
mod nameless;
mod numbers;
mod operation;
mod past;
mod push;
mod refresh;
mod seats;
mod status;
mod tail;
mod writer;

use std::sync::Arc;
use std::time::Duration;

use asof_engine::{Engine, Progress, ProgressEvent};
use asof_model::Clock;
use asof_online::OnlineStore;
use asof_online::views::LiveGenerations;
use asof_registry::Registry;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

pub use asof_engine::delta::{FileLoad, LoadFile, OnBadRow};
pub use asof_engine::intake::{BodyFormat, PushedOp};
pub use asof_online::live::Durability;
pub use consistency::{
    ConsistencyReport, ConsistencyRequest, FeatureConsistency, Inconsistency, LogPlace, NotCheckable,
    greatest_logged_position,
};
pub use error::{FlowError, Result};
pub use flush::{FlushBounds, FlushFailure, FlushPause, FlushReport, FlushStatus};
pub use load::LoadReport;
pub use materialize::MaterializeReport;
pub use push::{AcceptedBatch, IntakeStatus, LiveViews, NoLiveViews, PushReport, PushRequest, PushRoom};
pub use seats::{Operation, OperationCount, Operations, Seat};
pub use status::{ViewFailure, ViewStatus};

/// Moves data. A cheap clone.
#[derive(Clone)]
pub struct Flow {
    pub(crate) registry: Registry,
    pub(crate) engine: Engine,
    pub(crate) online: Arc<dyn OnlineStore>,
    pub(crate) clock: Arc<dyn Clock>,
    /// The store of live rows and its log; none in a node that takes none.
    pub(crate) log: Option<Arc<flush::Log>>,
    /// The views in the store of live rows; none in a node that has none.
    pub(crate) live_views: Option<Arc<LiveGenerations>>,
    /// Takes pushed rows; none in a node that takes none.
    pub(crate) live: Option<Arc<push::Live>>,
    pub(crate) views: Arc<status::Views>,
    /// What goes on, whoever waits for it.
    pub(crate) tasks: TaskTracker,
    /// Cancelled when no more is to be begun.
    pub(crate) stop: CancellationToken,
    /// Bytes of rows that a materialisation gathers before it commits.
    pub(crate) batch_bytes: usize,
    /// How long after its first failed turn a view without `refresh` has its next.
    pub(crate) retry: Duration,
    /// How often rows are looked at for those that may go.
    pub(crate) expire: Duration,
    /// The seats of long operations.
    pub(crate) operations: Operations,
}

/// Unless told otherwise.
const BATCH_BYTES: usize = 64 << 20;
/// Unless told otherwise.
const RETRY: Duration = Duration::from_secs(30);

impl std::fmt::Debug for Flow {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Flow").field("engine", &self.engine).finish_non_exhaustive()
    }
}

impl Flow {
    /// Over these rooms.
    pub fn new(
        registry: Registry,
        engine: Engine,
        online: Arc<dyn OnlineStore>,
        clock: Arc<dyn Clock>,
    ) -> Flow {
        Flow {
            registry,
            engine,
            online,
            clock,
            log: None,
            live_views: None,
            live: None,
            views: Arc::default(),
            tasks: TaskTracker::new(),
            stop: CancellationToken::new(),
            batch_bytes: BATCH_BYTES,
            retry: RETRY,
            expire: live_tiles::EXPIRE,
            operations: Operations::default(),
        }
    }

    /// The same, which keeps views over windows and over pushed sources in the store of live rows.
    #[must_use]
    pub fn with_views(mut self, live: Arc<LiveGenerations>) -> Flow {
        self.live_views = Some(live);
        self
    }

    /// The same, gathering so many bytes of rows before each commit of a materialisation; 64 MiB is
    /// right but for tests.
    #[must_use]
    pub fn with_batch_bytes(mut self, bytes: usize) -> Flow {
        self.batch_bytes = bytes;
        self
    }

    /// The same, in which a view without `refresh` that fails has its next turn after this time, doubled with
    /// each turn that fails; 30 s is right but for tests.
    #[must_use]
    pub fn with_retry(mut self, after: Duration) -> Flow {
        self.retry = after;
        self
    }

    /// The same, which looks so often for rows of live views that may go; 10 minutes is right but for tests.
    #[must_use]
    pub fn with_expiry(mut self, every: Duration) -> Flow {
        self.expire = every;
        self
    }

    /// The same, with so many long operations at once; 4 where this is not said.
    #[must_use]
    pub fn with_operations(mut self, at_once: usize) -> Flow {
        self.operations = Operations::new(at_once);
        self
    }

    /// The seats of this node's long operations.
    pub fn operations(&self) -> &Operations {
        &self.operations
    }

    /// Takes a seat for a long operation; `progress` is told where it has to wait for one.
    ///
    /// # Errors
    /// As [`Operations::enter`].
    pub async fn enter(&self, operation: Operation, progress: &Progress) -> Result<Seat> {
        let waits = || {
            progress(ProgressEvent { phase: "waiting for other operations", done: 0, total: None, unit: "" })
        };
        self.operations.enter(operation, &self.stop, waits).await
    }
}
