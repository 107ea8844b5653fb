//! `GET /v1/projects/{project}/things/{thing}`: all about one thing.

use asof_registry::Shown;
use axum::extract::{Path, State};
use axum::routing::get;
use serde_json::json;

use super::{Endpoint, Patience};
use crate::access::Caller;
use crate::error::Failure;
use crate::request::{Answer, known_project, name_in_path};
use crate::rooms::Shared;

pub(super) const ENDPOINT: Endpoint = Endpoint {
    method: "GET",
    path: "/v1/projects/{project}/things/{thing}",
    open: false,
    patience: Patience::Short,
    summary: "Show one thing",
    about: "Definition, owner, columns with types, versions, what it stands on and who uses it. A thing is written \
            `view`, `view.feature`, `project.view.feature`, or `source/NAME` where things of several kinds share a name.",
    route: || get(thing),
    operation: || {
        json!({
            "parameters": [
                {"name": "project", "in": "path", "required": true, "schema": {"type": "string"}, "description": "The project"},
                {"name": "thing", "in": "path", "required": true, "schema": {"type": "string"}, "description": "The thing"},
            ],
            "responses": {"200": {"description": "The thing", "content": {"application/json": {"schema": {"type": "object"}}}}},
        })
    },
};

async fn thing(
    Caller(principal): Caller,
    State(state): State<Shared>,
    Path((project, thing)): Path<(String, String)>,
) -> Result<Answer<Shown>, Failure> {
    let project = name_in_path(&project)?;
    known_project(&principal, &state.registry.catalog(), &project)?;
    let shown = state.registry.show(&project, &thing).await?;
    known_project(&principal, &state.registry.catalog(), &shown.project)?;
    Ok(Answer(shown))
}
