//! `GET /v1/runs/{id}`: how far a long operation is, and how it ended.

use asof_registry::{RegistryError, Run};
use axum::extract::{Path, State};
use axum::routing::get;
use serde::{Deserialize, Serialize};
use serde_json::json;

use super::{Endpoint, Patience};
use crate::access::Caller;
use crate::error::{Failure, FailureBody};
use crate::request::{Answer, known_project};
use crate::rooms::Shared;
use crate::work::{Known, Stage};

pub(super) const ENDPOINT: Endpoint = Endpoint {
    method: "GET",
    path: "/v1/runs/{id}",
    open: false,
    patience: Patience::Short,
    summary: "How far a load, materialisation or training is",
    about: "An operation that takes `run` runs under the id its caller chose; ask here for its progress while it \
            runs and for its outcome after. A training that is done names its training set.",
    route: || get(run),
    operation: || {
        json!({
            "parameters": [{"name": "id", "in": "path", "required": true, "schema": {"type": "string"}, "description": "The run"}],
            "responses": {"200": {"description": "The run", "content": {"application/json": {"example": {
                "run": {"id": "3f8a", "project": "flights", "kind": "train", "subject": "late_departure", "by": "owner", "state": "running"},
                "stage": {"phase": "scan", "done": 120_000, "total": 336_776, "unit": "rows"},
            }}}}},
        })
    },
};

/// The answer.
#[derive(Debug, Serialize, Deserialize)]
pub struct RunAnswer {
    /// The record, once it is written.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub run: Option<Run>,
    /// How far it is, while it runs.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stage: Option<Stage>,
    /// The training set it made.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub training_set: Option<String>,
    /// Why it failed, where its answer had begun before.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub failure: Option<FailureBody>,
}

async fn run(
    Caller(principal): Caller,
    State(state): State<Shared>,
    Path(id): Path<String>,
) -> Result<Answer<RunAnswer>, Failure> {
    let known = state.work.of(&id);
    let run = match state.registry.run(&id).await {
        Ok(run) => Some(run),
        Err(RegistryError::NotFound { .. }) if known.is_some() => None,
        Err(error) => return Err(error.into()),
    };
    if let Some(run) = &run {
        known_project(&principal, &state.registry.catalog(), &run.project)?;
    }
    let Known { stage, training_set, failure } = known.unwrap_or_default();
    Ok(Answer(RunAnswer { run, stage, training_set, failure }))
}
