//! `GET /health`: the process is alive.

use axum::routing::get;
use serde_json::json;

use super::{Endpoint, Patience};
use crate::request::Answer;

pub(super) const ENDPOINT: Endpoint = Endpoint {
    method: "GET",
    path: "/health",
    open: true,
    patience: Patience::Short,
    summary: "Is the process alive",
    about: "Always 200 while the process answers at all. Use `/ready` to decide where to send requests.",
    route: || get(|| async { Answer(json!({"status": "ok", "version": env!("CARGO_PKG_VERSION")})) }),
    operation: || json!({"responses": {"200": {"description": "It is"}}}),
};
