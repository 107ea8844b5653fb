//! What handlers work with: one handle of every room.

use std::sync::Arc;

use axum::Router;
use axum::middleware::from_fn_with_state;
use tokio_util::sync::CancellationToken;

use crate::access::{Access, guard};
use crate::endpoint;
use crate::limits::Limits;
use crate::metrics::Metrics;

/// The rooms of one node.
#[derive(Debug, Clone)]
pub struct Rooms {
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
}

impl std::ops::Deref for State {
    type Target = Rooms;
    fn deref(&self) -> &Rooms {
        &self.rooms
    }
}

/// All operations, for callers in this process: a request carries its [`asof_model::Principal`] as an
/// extension, and one without is refused.
pub fn router(rooms: Rooms) -> Router {
    endpoint::router(Arc::new(State { rooms, metrics: Metrics::default() }))
}

/// The same for requests from the network, let in by `access`.
pub fn guarded(router: Router, access: Access) -> Router {
    router.layer(from_fn_with_state(Arc::new(access), guard))
}
