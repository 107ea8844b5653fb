//! What handlers work with: one handle of every room.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use asof_engine::Engine;
use asof_flow::Flow;
use asof_model::{Clock, Name, Principal};
use asof_registry::Registry;
use asof_serve::Reader;
use axum::Router;
use axum::middleware::from_fn_with_state;
use http_body_util::BodyExt as _;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tower::ServiceExt as _;

use crate::access::{Access, guard};
use crate::endpoint;
use crate::error::Failure;
use crate::limits::Limits;
use crate::metrics::Metrics;
use crate::work::Work;

/// Copies the stores of rows for serving into the folder of a backup, each under its own name, durably, while they
/// are in use.
#[derive(Clone)]
pub struct CopyOnline(pub Arc<dyn Fn(&Path) -> Result<(), Failure> + Send + Sync>);

impl std::fmt::Debug for CopyOnline {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("CopyOnline")
    }
}

/// The rooms of one node.
#[derive(Debug, Clone)]
pub struct Rooms {
    /// What was agreed.
    pub registry: Registry,
    /// Plans and queries.
    pub engine: Engine,
    /// Data in motion.
    pub flow: Flow,
    /// The newest rows, read.
    pub reader: Reader,
    /// Copies the online store and the live store for a backup.
    pub copy_online: CopyOnline,
    /// The project that requests mean when they name none.
    pub project: Option<Name>,
    /// Where the present comes from.
    pub clock: Arc<dyn Clock>,
    /// The node's folder; uploads pass through it.
    pub data_dir: PathBuf,
    /// Times, bytes and connections.
    pub limits: Limits,
    /// Cancelled when the node is told to stop.
    pub stop: CancellationToken,
}

/// What every handler is given.
pub(crate) type Shared = Arc<State>;

/// The rooms and what the server itself keeps.
#[derive(Debug)]
pub(crate) struct State {
    pub(crate) rooms: Rooms,
    pub(crate) metrics: Metrics,
    pub(crate) work: Work,
    pub(crate) tasks: TaskTracker,
}

impl std::ops::Deref for State {
    type Target = Rooms;
    fn deref(&self) -> &Rooms {
        &self.rooms
    }
}

/// A body that a caller in this process sends and takes.
pub type Body =
    http_body_util::combinators::UnsyncBoxBody<bytes::Bytes, Box<dyn std::error::Error + Send + Sync>>;

/// All operations of one node, on the network and in this process.
#[derive(Clone)]
pub struct App {
    inside: Router,
    tasks: TaskTracker,
}

impl std::fmt::Debug for App {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("App")
    }
}

impl App {
    /// The operations of these rooms.
    pub fn new(rooms: Rooms) -> App {
        let tasks = TaskTracker::new();
        let state = State { rooms, metrics: Metrics::default(), work: Work::default(), tasks: tasks.clone() };
        App { inside: endpoint::router(Arc::new(state)), tasks }
    }

    /// Answers a request of this process, asked by `principal`.
    pub async fn call(&self, principal: Principal, mut request: http::Request<Body>) -> http::Response<Body> {
        request.extensions_mut().insert(principal);
        let request = request.map(axum::body::Body::new);
        let response = match self.inside.clone().oneshot(request).await {
            Ok(response) => response,
            Err(never) => match never {},
        };
        response.map(|body| body.map_err(Into::into).boxed_unsync())
    }

    /// Waits for what goes on behind answers to end.
    pub async fn finished(&self) {
        self.tasks.close();
        self.tasks.wait().await;
    }

    /// The same operations for requests from the network, let in by `access`.
    pub(crate) fn guarded(self, access: Access) -> Router {
        self.inside.layer(from_fn_with_state(Arc::new(access), guard))
    }
}
