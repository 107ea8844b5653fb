//! `GET /v1/status`: how fresh every view is.

use asof_model::{Name, VersionId};
use axum::extract::State;
use axum::routing::get;
use serde::{Deserialize, Serialize};
use serde_json::json;

use super::{Endpoint, Patience};
use crate::access::Caller;
use crate::error::Failure;
use crate::request::{Answer, Query, known_project};
use crate::rooms::Shared;

pub(super) const ENDPOINT: Endpoint = Endpoint {
    method: "GET",
    path: "/v1/status",
    open: false,
    patience: Patience::Short,
    summary: "How fresh every view is in the online store",
    about: "Rows kept, rows of the source that are not materialised yet, time since the last materialisation and its error. \
            `/metrics` shows the same for machines.",
    route: || get(status),
    operation: || {
        json!({
            "parameters": [{"name": "project", "in": "query", "required": true, "schema": {"type": "string"}, "description": "The project"}],
            "responses": {"200": {"description": "The views", "content": {"application/json": {"example": {
                "views": [{"view": "origin_weather", "version": "0f3a...", "state": "ready", "rows": 26_115, "rows_behind": 0, "age_seconds": 12.5, "refresh": "1h"}]
            }}}}},
        })
    },
};

/// The answer.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct StatusAnswer {
    /// By name.
    pub views: Vec<StatusOfView>,
}

/// How fresh a view is.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct StatusOfView {
    /// The view.
    pub view: String,
    /// The version that stands.
    pub version: VersionId,
    /// `ready`, `building` or `missing`.
    pub state: String,
    /// Rows online.
    pub rows: u64,
    /// Rows of the source that are not materialised; none where that is not known.
    pub rows_behind: Option<u64>,
    /// Seconds since the last materialisation that ended well; none: never.
    pub age_seconds: Option<f64>,
    /// How often a running node materialises it; none: only when asked.
    pub refresh: Option<String>,
    /// Why the last materialisation failed, if it did.
    pub last_error: Option<String>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Which {
    project: Name,
}

async fn status(
    Caller(principal): Caller,
    State(state): State<Shared>,
    Query(which): Query<Which>,
) -> Result<Answer<StatusAnswer>, Failure> {
    known_project(&principal, &state.registry.catalog(), &which.project)?;
    Err(Failure::new(asof_model::Kind::Internal, "local_stub", "not landed"))
}
