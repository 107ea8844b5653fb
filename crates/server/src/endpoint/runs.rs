//! `GET /v1/runs`: what was run of late.

use asof_model::Name;
use asof_registry::Run;
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
    path: "/v1/runs",
    open: false,
    patience: Patience::Short,
    summary: "The newest loads, materialisations and trainings of a project",
    about: "Newest first, with state, error and counts.",
    route: || get(runs),
    operation: || {
        json!({
            "parameters": [
                {"name": "project", "in": "query", "required": true, "schema": {"type": "string"}, "description": "The project"},
                {"name": "limit", "in": "query", "schema": {"type": "integer"}, "description": "At most so many, 100 if not said"},
            ],
            "responses": {"200": {"description": "The runs", "content": {"application/json": {"schema": {"type": "object"}}}}},
        })
    },
};

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Which {
    project: Name,
    limit: Option<u32>,
}

/// The answer.
#[derive(Debug, Serialize, Deserialize)]
pub struct Runs {
    /// Newest first.
    pub runs: Vec<Run>,
}

async fn runs(
    Caller(principal): Caller,
    State(state): State<Shared>,
    Query(which): Query<Which>,
) -> Result<Answer<Runs>, Failure> {
    known_project(&principal, &state.registry.catalog(), &which.project)?;
    let runs = state.registry.runs(&which.project, which.limit.unwrap_or(100).min(10_000)).await?;
    Ok(Answer(Runs { runs }))
}
