//! `POST /v1/plan`: what applying a folder would change.

use std::path::PathBuf;

use asof_flow::Operation;
use asof_model::{Change, Diagnostics, Name, ProjectFile, Revision};
use axum::extract::State;
use axum::routing::post;
use serde::{Deserialize, Serialize};
use serde_json::json;

use super::{Endpoint, Patience};
use crate::access::Caller;
use crate::agree;
use crate::error::Failure;
use crate::request::{Answer, Json};
use crate::rooms::Shared;

pub(super) const ENDPOINT: Endpoint = Endpoint {
    method: "POST",
    path: "/v1/plan",
    open: false,
    patience: Patience::Long,
    summary: "What applying a project's files would change",
    about: "Takes the whole text of `asof.yaml` and of every file below `features/`. All problems come at once, as \
            diagnostics with file, line and column. The folder is the whole of its project: what it does not define would be removed.",
    route: || post(plan),
    operation: || {
        json!({
            "requestBody": {"required": true, "content": {"application/json": {"example": {
                "root": "/srv/shop",
                "files": [{"path": "asof.yaml", "text": "project: shop\n"}, {"path": "features/seller.yaml", "text": "entity: seller\n..."}],
            }}}},
            "responses": {"200": {"description": "The plan", "content": {"application/json": {"example": {
                "project": "shop", "base": 3, "changes": [{"kind": "view", "name": "seller_profile", "action": "changed", "lines": ["-ttl: 90d", "+ttl: 30d"], "invalidates": ["the rows of it in the online store"]}],
                "rows_to_materialize": [{"view": "seller_profile", "rows": 120_000, "estimated": false}], "without_owner": ["seller_profile.tier"], "diagnostics": [],
            }}}}},
        })
    },
};

/// A project's files.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PlanRequest {
    /// The folder, on the node's machine, that relative paths of sources start from; none: the one that
    /// stands, else the node's own project.
    #[serde(default)]
    pub root: Option<PathBuf>,
    /// All of them.
    pub files: Vec<ProjectFile>,
}

/// What would change.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct PlanAnswer {
    /// The project.
    pub project: Name,
    /// The revision it was compared with.
    pub base: Revision,
    /// The changes, in the order of kinds and names.
    pub changes: Vec<Change>,
    /// The folder that sources were read from up to now, where this is another: applying makes this one stand.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub moved_from: Option<PathBuf>,
    /// Rows that views which are new or changed have to materialise.
    pub rows_to_materialize: Vec<RowsToMaterialize>,
    /// Features and things that name no owner.
    pub without_owner: Vec<String>,
    /// Warnings.
    pub diagnostics: Diagnostics,
}

/// How many rows a view would have to materialise.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct RowsToMaterialize {
    /// The view.
    pub view: Name,
    /// Rows of its source; none where that is not known.
    pub rows: Option<u64>,
    /// The number is judged by the size of text files, not counted.
    #[serde(default)]
    pub estimated: bool,
}

async fn plan(
    Caller(principal): Caller,
    State(state): State<Shared>,
    Json(request): Json<PlanRequest>,
) -> Result<Answer<PlanAnswer>, Failure> {
    let agreed = agree::prepare(&state, &principal, Operation::Plan, &request.files, request.root).await?;
    Ok(Answer(agreed.plan(&state).await))
}
