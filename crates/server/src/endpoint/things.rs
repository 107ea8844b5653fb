//! `GET /v1/projects/{project}/things`: what a project defines.

use asof_model::{Name, ThingKind};
use asof_registry::Listed;
use axum::extract::{Path, State};
use axum::routing::get;
use serde::{Deserialize, Serialize};
use serde_json::json;

use super::{Endpoint, Patience};
use crate::access::Caller;
use crate::error::Failure;
use crate::request::{Answer, Query, known_project, name_in_path};
use crate::rooms::Shared;

pub(super) const ENDPOINT: Endpoint = Endpoint {
    method: "GET",
    path: "/v1/projects/{project}/things",
    open: false,
    patience: Patience::Short,
    summary: "List entities, sources, views and services of a project",
    about: "By kind and name, with version, owner and first line of the description.",
    route: || get(things),
    operation: || {
        json!({
            "parameters": [
                {"name": "project", "in": "path", "required": true, "schema": {"type": "string"}, "description": "The project, or `*` for all"},
                {"name": "kind", "in": "query", "schema": {"enum": ["entity", "source", "view", "derived", "service"]}, "description": "Only things of this kind"},
            ],
            "responses": {"200": {"description": "The things", "content": {"application/json": {"example": {
                "things": [{"project": "flights", "kind": "view", "name": "origin_weather", "version": "0f3a...", "owner": "operations", "summary": "The weather at the origin as of departure.", "tags": ["weather"], "columns": 7}]
            }}}}},
        })
    },
};

/// What a list may be narrowed by.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Narrow {
    kind: Option<ThingKind>,
}

/// The answer.
#[derive(Debug, Serialize, Deserialize)]
pub struct Things {
    /// By project, kind and name.
    pub things: Vec<Listed>,
}

async fn things(
    Caller(principal): Caller,
    State(state): State<Shared>,
    Path(project): Path<String>,
    Query(narrow): Query<Narrow>,
) -> Result<Answer<Things>, Failure> {
    let catalog = state.registry.catalog();
    let project: Option<Name> = if project == "*" {
        None
    } else {
        let project = name_in_path(&project)?;
        known_project(&principal, &catalog, &project)?;
        Some(project)
    };
    let mut things = asof_registry::list(&catalog, project.as_ref(), narrow.kind);
    things.retain(|thing| crate::access::may_see(&principal, &thing.project));
    Ok(Answer(Things { things }))
}
