//! `GET /metrics`: Prometheus' text form.

use axum::extract::State;
use axum::response::IntoResponse;
use axum::routing::get;
use http::header;
use serde_json::json;

use super::{Endpoint, Patience};
use crate::access::Caller;
use crate::rooms::Shared;

pub(super) const ENDPOINT: Endpoint = Endpoint {
    method: "GET",
    path: "/metrics",
    open: false,
    patience: Patience::Short,
    summary: "Counters of this node for Prometheus",
    about: "Requests and their times by endpoint; age, failure and rows behind of every materialised view.",
    route: || get(metrics),
    operation: || json!({"responses": {"200": {"description": "OpenMetrics text", "content": {"text/plain": {"schema": {"type": "string"}}}}}}),
};

async fn metrics(_: Caller, State(state): State<Shared>) -> impl IntoResponse {
    (
        [(header::CONTENT_TYPE, "application/openmetrics-text; version=1.0.0; charset=utf-8")],
        state.metrics.text(),
    )
}
