//! `POST /v1/training-sets/{id}/rebuild`: makes a recorded training set again.

use asof_flow::Operation;
use asof_model::FileFormat;
use axum::extract::{Path, State};
use axum::response::Response;
use axum::routing::post;
use serde::{Deserialize, Serialize};
use serde_json::json;

use super::{Endpoint, Patience, train};
use crate::access::Caller;
use crate::error::Failure;
use crate::request::Query;
use crate::rooms::Shared;

pub(super) const ENDPOINT: Endpoint = Endpoint {
    method: "POST",
    path: "/v1/training-sets/{id}/rebuild",
    open: false,
    patience: Patience::Long,
    summary: "Make a recorded training set again",
    about: "The same content, or an error that names what is gone or changed.",
    route: || post(rebuild),
    operation: || {
        json!({
            "parameters": [
                {"name": "id", "in": "path", "required": true, "schema": {"type": "string"}, "description": "Its id, or the beginning of it"},
                {"name": "format", "in": "query", "schema": {"enum": ["parquet", "csv", "ndjson", "arrow"]}, "description": "Of the answer; that of the record if not said"},
                {"name": "run", "in": "query", "schema": {"type": "string"}, "description": "An id to ask for progress and outcome by"},
            ],
            "responses": {"200": {"description": "The training set", "content": {"application/vnd.apache.parquet": {"schema": {"type": "string"}}}}},
        })
    },
};

/// How to rebuild.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RebuildQuery {
    /// The format of the answer.
    #[serde(default)]
    pub format: Option<FileFormat>,
    /// An id to ask for progress and outcome by.
    #[serde(default)]
    pub run: Option<String>,
}

async fn rebuild(
    Caller(principal): Caller,
    State(state): State<Shared>,
    Path(id): Path<String>,
    Query(query): Query<RebuildQuery>,
) -> Result<Response, Failure> {
    let set = state.registry.training_set(&principal, &id).await?;
    state.flow.operations().admit(Operation::Rebuild)?;
    let format = query.format.unwrap_or(set.recipe.output);
    let subject = format!("rebuild {}", set.id);
    let run = train::begin(&state, &principal, &set.project, subject, query.run).await?;
    state.work.made(&run, &set.id);
    let (engine, progress) = (state.engine.clone(), state.work.progress(&run));
    let making = async move { engine.rebuild(&set, progress).await };
    train::answer(&state, principal, Operation::Rebuild, None, format, run, making, None).await
}
