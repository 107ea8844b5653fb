//! `POST /v1/materialize`: brings views up to date in the online store.

use asof_model::Name;
use axum::extract::State;
use axum::routing::post;
use serde::{Deserialize, Serialize};
use serde_json::json;

use super::{Endpoint, Patience};
use crate::access::Caller;
use crate::error::Failure;
use crate::request::{Answer, Json, known_project};
use crate::rooms::Shared;

pub(super) const ENDPOINT: Endpoint = Endpoint {
    method: "POST",
    path: "/v1/materialize",
    open: false,
    patience: Patience::Long,
    summary: "Bring views up to date in the online store",
    about: "Reads only what was not read; a file that changed since is read again aside and swapped in. It can be stopped at any \
            point and goes on where it was.",
    route: || post(materialize),
    operation: || {
        json!({
            "requestBody": {"required": true, "content": {"application/json": {"example": {"project": "flights", "views": ["origin_weather"]}}}},
            "responses": {"200": {"description": "What became of every view", "content": {"application/json": {"example": {
                "views": [{"view": "origin_weather", "rows_read": 26_115, "rows_kept": 26_115, "rebuilt": false}]
            }}}}},
        })
    },
};

/// What to materialise.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct MaterializeRequest {
    /// The project.
    pub project: Name,
    /// Only these views; none: all.
    #[serde(default)]
    pub views: Vec<String>,
    /// An id to ask for progress by.
    #[serde(default)]
    pub run: Option<String>,
}

/// What became of every view.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct MaterializeAnswer {
    /// In the order of their names.
    pub views: Vec<MaterializedView>,
}

/// What became of a view.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct MaterializedView {
    /// The view.
    pub view: String,
    /// Rows read of its source.
    pub rows_read: u64,
    /// Rows it has online now.
    pub rows_kept: u64,
    /// It was read again from the beginning, aside, and swapped in.
    pub rebuilt: bool,
}

async fn materialize(
    Caller(principal): Caller,
    State(state): State<Shared>,
    Json(request): Json<MaterializeRequest>,
) -> Result<Answer<MaterializeAnswer>, Failure> {
    known_project(&principal, &state.registry.catalog(), &request.project)?;
    Err(Failure::new(asof_model::Kind::Internal, "local_stub", "not landed"))
}
