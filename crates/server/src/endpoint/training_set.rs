//! `GET /v1/training-sets/{id}`: the record of one training set.

use asof_model::TrainingSet;
use axum::extract::{Path, State};
use axum::routing::get;
use serde_json::json;

use super::{Endpoint, Patience};
use crate::access::Caller;
use crate::error::Failure;
use crate::request::Answer;
use crate::rooms::Shared;

pub(super) const ENDPOINT: Endpoint = Endpoint {
    method: "GET",
    path: "/v1/training-sets/{id}",
    open: false,
    patience: Patience::Short,
    summary: "The record of a training set",
    about: "Everything needed to say what it holds and to make it again: spine, versions, cuts, question, counts, content hash.",
    route: || get(training_set),
    operation: || {
        json!({
            "parameters": [{"name": "id", "in": "path", "required": true, "schema": {"type": "string"}, "description": "Its id, or the beginning of it"}],
            "responses": {"200": {"description": "The record", "content": {"application/json": {"schema": {"type": "object"}}}}},
        })
    },
};

async fn training_set(
    Caller(principal): Caller,
    State(state): State<Shared>,
    Path(id): Path<String>,
) -> Result<Answer<TrainingSet>, Failure> {
    Ok(Answer(state.registry.training_set(&principal, &id).await?))
}
