//! `GET /v1/training-sets`: the training sets of a project.

use asof_model::{Name, Timestamp};
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
    path: "/v1/training-sets",
    open: false,
    patience: Patience::Short,
    summary: "The training sets of a project",
    about: "Newest first, at most 1,000. `/v1/training-sets/{id}` has the whole record of one.",
    route: || get(training_sets),
    operation: || {
        json!({
            "parameters": [{"name": "project", "in": "query", "required": true, "schema": {"type": "string"}, "description": "The project"}],
            "responses": {"200": {"description": "The training sets", "content": {"application/json": {"schema": {"type": "object"}}}}},
        })
    },
};

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Which {
    project: Name,
}

/// The answer.
#[derive(Debug, Serialize, Deserialize)]
pub struct TrainingSets {
    /// Newest first.
    pub training_sets: Vec<TrainingSetLine>,
}

/// One line of a list.
#[derive(Debug, Serialize, Deserialize)]
pub struct TrainingSetLine {
    /// Its id.
    pub id: String,
    /// The service it is of, if it is of one.
    pub service: Option<String>,
    /// Which rows count.
    pub question: asof_model::Question,
    /// Its rows.
    pub rows: u64,
    /// Its columns.
    pub columns: usize,
    /// When it was made.
    pub created_at: Timestamp,
    /// Who made it.
    pub created_by: String,
    /// Its content hash.
    pub content_hash: String,
}

async fn training_sets(
    Caller(principal): Caller,
    State(state): State<Shared>,
    Query(which): Query<Which>,
) -> Result<Answer<TrainingSets>, Failure> {
    known_project(&principal, &state.registry.catalog(), &which.project)?;
    let sets = state.registry.training_sets(&principal, &which.project).await?;
    let training_sets = sets
        .into_iter()
        .map(|set| TrainingSetLine {
            id: set.id,
            service: set.service,
            question: set.question,
            rows: set.rows,
            columns: set.columns,
            created_at: set.created_at,
            created_by: set.created_by,
            content_hash: set.content_hash,
        })
        .collect();
    Ok(Answer(TrainingSets { training_sets }))
}
