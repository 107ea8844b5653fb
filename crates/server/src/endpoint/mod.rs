//! The endpoints: one file each, and one line in [`ENDPOINTS`]. The router, `/openapi.json`, `/docs`, the
//! metrics' labels and the list of what needs no token are all made from it.

mod apply;
mod backup;
mod consistency;
mod docs;
mod features;
mod health;
mod intake;
mod load;
mod materialize;
mod metrics;
mod openapi;
mod plan;
mod push;
mod ready;
mod rebuild;
mod root;
mod run;
mod runs;
mod search;
mod sql;
mod status;
mod thing;
mod things;
mod train;
mod training_set;
mod training_sets;

pub use apply::{ApplyAnswer, ApplyRequest};
pub use backup::{BackupAnswer, BackupRequest};
pub use consistency::{
    CheckConsistency, ConsistencyAnswer, ConsistencyOfFeature, ConsistencyPlace, NotCheckable,
};
pub use load::{LoadAnswer, LoadFiles, LoadQuery, LoadedFile, OnBadRow, UploadedFile};
pub use materialize::{MaterializeAnswer, MaterializeRequest, MaterializedView};
pub use plan::{PlanAnswer, PlanRequest, RowsToMaterialize};
pub use push::{PushAnswer, PushDurability, PushOp, PushQuery};
pub use rebuild::RebuildQuery;
pub use run::RunAnswer;
pub use runs::Runs;
pub use sql::SqlRequest;
pub use status::{StatusAnswer, StatusOfIntake, StatusOfOperations, StatusOfServingLog, StatusOfView};
pub use things::Things;
pub use train::{SpineFile, TrainQuery};
pub use training_sets::{TrainingSetLine, TrainingSets};

use std::panic::AssertUnwindSafe;
use std::time::{Duration, Instant};

use asof_model::{Kind, nearest};
use axum::Router;
use axum::extract::{Request, State};
use axum::middleware::{Next, from_fn_with_state};
use axum::response::{IntoResponse as _, Response};
use axum::routing::MethodRouter;
use futures::FutureExt as _;
use http::{StatusCode, Uri};
use serde_json::Value;

use crate::error::Failure;
use crate::rooms::Shared;

/// One operation on the wire.
pub(crate) struct Endpoint {
    /// `GET` or `POST`.
    pub(crate) method: &'static str,
    /// With `{name}` for parts that vary.
    pub(crate) path: &'static str,
    /// Needs no token.
    pub(crate) open: bool,
    /// How long it may take.
    pub(crate) patience: Patience,
    /// One line.
    pub(crate) summary: &'static str,
    /// What to know, for `/docs`.
    pub(crate) about: &'static str,
    /// Its handler.
    pub(crate) route: fn() -> MethodRouter<Shared>,
    /// Its `parameters`, `requestBody` and `responses` in OpenAPI's form.
    pub(crate) operation: fn() -> Value,
}

/// How long an operation may take until its answer begins.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Patience {
    /// [`crate::Limits::request`].
    Short,
    /// As long as the work takes: it shows its progress elsewhere, or ends with its connection.
    Long,
}

/// Every operation of the server.
pub(crate) const ENDPOINTS: &[Endpoint] = &[
    features::ENDPOINT,
    push::ENDPOINT,
    plan::ENDPOINT,
    apply::ENDPOINT,
    things::ENDPOINT,
    thing::ENDPOINT,
    search::ENDPOINT,
    load::ENDPOINT,
    materialize::ENDPOINT,
    status::ENDPOINT,
    train::ENDPOINT,
    training_sets::ENDPOINT,
    training_set::ENDPOINT,
    rebuild::ENDPOINT,
    sql::ENDPOINT,
    runs::ENDPOINT,
    run::ENDPOINT,
    backup::ENDPOINT,
    consistency::ENDPOINT,
    health::ENDPOINT,
    ready::ENDPOINT,
    metrics::ENDPOINT,
    openapi::ENDPOINT,
    docs::ENDPOINT,
    root::ENDPOINT,
];

/// The methods of gRPC services, which `proto` describes.
const METHODS: &[Endpoint] = &[intake::ENDPOINT];

/// All endpoints on one router, without the guard of the network.
pub(crate) fn router(state: Shared) -> Router {
    let mut router = Router::new();
    for endpoint in ENDPOINTS.iter().chain(METHODS) {
        let measured = from_fn_with_state((endpoint, state.clone()), measured);
        let route = (endpoint.route)().route_layer(measured);
        router = router.route(endpoint.path, route);
    }
    router.fallback(no_such_path).method_not_allowed_fallback(no_such_method).with_state(state)
}

/// Counts a request, gives it its time, and answers for a handler that panics.
async fn measured(
    State((endpoint, state)): State<(&'static Endpoint, Shared)>,
    request: Request,
    next: Next,
) -> Response {
    let began = Instant::now();
    let count = InFlight { state: &state, endpoint: endpoint.path, began, status: 499 };
    state.metrics.began();
    let answer = AssertUnwindSafe(next.run(request)).catch_unwind();
    let limit = match endpoint.patience {
        Patience::Short => state.limits.request,
        Patience::Long => Duration::MAX,
    };
    let response = match tokio::time::timeout(limit, answer).await {
        Ok(Ok(response)) => response,
        Ok(Err(_)) => {
            tracing::error!(endpoint = endpoint.path, "a handler panicked");
            Failure::new(Kind::Internal, "panic", "this request met a defect of Asof; the server goes on")
                .hint("please report it with the server's log")
                .into_response()
        }
        Err(_) => Failure::new(
            Kind::Timeout,
            "request_timeout",
            format!("the request took over {} s, which is the limit", limit.as_secs_f64()),
        )
        .into_response(),
    };
    count.ended(response.status());
    response
}

/// Counts a request down also where its client went away and the handler was dropped.
struct InFlight<'a> {
    state: &'a Shared,
    endpoint: &'static str,
    began: Instant,
    status: u16,
}

impl InFlight<'_> {
    fn ended(mut self, status: StatusCode) {
        self.status = status.as_u16();
    }
}

impl Drop for InFlight<'_> {
    fn drop(&mut self) {
        self.state.metrics.ended(self.endpoint, self.status, self.began.elapsed());
    }
}

async fn no_such_path(uri: Uri) -> Failure {
    let path = uri.path();
    let failure =
        Failure::new(Kind::NotFound, "no_such_endpoint", format!("no endpoint has the path `{path}`"));
    let near = nearest(path, ENDPOINTS.iter().map(|endpoint| endpoint.path));
    match near.and_then(|near| ENDPOINTS.iter().find(|endpoint| endpoint.path == near)) {
        Some(endpoint) => failure.hint(format!("did you mean {} {}?", endpoint.method, endpoint.path)),
        None => failure.hint("/docs lists the endpoints"),
    }
}

async fn no_such_method(method: http::Method, uri: Uri) -> Failure {
    let path = uri.path();
    Failure::invalid("wrong_method", format!("`{path}` does not take {method}"))
        .hint("/docs shows what every endpoint takes")
}
