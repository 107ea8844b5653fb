//! `GET /v1/projects/{project}/things/{thing}`: all about one thing.

use asof_engine::query::SqlLimits;
use asof_model::{Principal, ThingKind};
use asof_registry::Shown;
use axum::extract::{Path, State};
use axum::routing::get;
use serde::{Deserialize, Serialize};
use serde_json::json;
use serde_json::value::RawValue;

use super::{Endpoint, Patience};
use crate::access::Caller;
use crate::error::Failure;
use crate::outflow;
use crate::request::{Answer, Query, known_project, name_in_path};
use crate::rooms::Shared;

pub(super) const ENDPOINT: Endpoint = Endpoint {
    method: "GET",
    path: "/v1/projects/{project}/things/{thing}",
    open: false,
    patience: Patience::Short,
    summary: "Show one thing",
    about: "Definition, owner, columns with types, versions, what it stands on and who uses it. A thing is written \
            `view`, `view.feature`, `project.view.feature`, or `source/NAME` where things of several kinds share a name. With \
            `sample` some rows of a view or source come along, or why they cannot be read.",
    route: || get(thing),
    operation: || {
        json!({
            "parameters": [
                {"name": "project", "in": "path", "required": true, "schema": {"type": "string"}, "description": "The project"},
                {"name": "thing", "in": "path", "required": true, "schema": {"type": "string"}, "description": "The thing"},
                {"name": "sample", "in": "query", "schema": {"type": "integer", "maximum": 100}, "description": "So many rows of a view or source"},
            ],
            "responses": {"200": {"description": "The thing", "content": {"application/json": {"example": {
                "project": "flights", "kind": "view", "name": "plane_facts", "version": "d34a227f...", "owner": "fleet",
                "description": "What the plane is.", "tags": [], "definition": {"view": "..."}, "yaml": "view: plane_facts\n...",
                "columns": [{"name": "tailnum", "role": "key", "type": "string"}, {"name": "seats", "role": "feature", "type": "int16"}],
                "stands_on": [{"kind": "source", "name": "flights.planes"}], "used_by": [{"kind": "service", "name": "flights.late_departure"}],
                "also": [], "versions": [{"version": "d34a227f...", "revision": 1, "action": "created", "by": "owner", "at": "2026-01-01T00:00:00.000000Z", "standing": true}],
                "sample": [{"tailnum": "N804JB", "seats": 200}],
            }}}}},
        })
    },
};

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct With {
    #[serde(default)]
    sample: u8,
}

/// A thing, and some of its rows where they are asked for.
#[derive(Debug, Serialize)]
struct ThingAnswer {
    #[serde(flatten)]
    shown: Shown,
    #[serde(skip_serializing_if = "Option::is_none")]
    sample: Option<Vec<Box<RawValue>>>,
    /// Why there is no sample.
    #[serde(skip_serializing_if = "Option::is_none")]
    no_sample: Option<String>,
}

async fn thing(
    Caller(principal): Caller,
    State(state): State<Shared>,
    Path((project, thing)): Path<(String, String)>,
    Query(with): Query<With>,
) -> Result<Answer<ThingAnswer>, Failure> {
    let project = name_in_path(&project)?;
    known_project(&principal, &state.registry.catalog(), &project)?;
    let shown = state.registry.show(&project, &thing).await?;
    known_project(&principal, &state.registry.catalog(), &shown.project)?;
    let mut answer = ThingAnswer { shown, sample: None, no_sample: None };
    if with.sample > 0 && matches!(answer.shown.kind, ThingKind::View | ThingKind::Source) {
        match sample(&state, principal, &answer.shown, with.sample.min(MOST)).await {
            Ok(rows) => answer.sample = Some(rows),
            Err(failure) => answer.no_sample = Some(failure.body.message),
        }
    }
    Ok(Answer(answer))
}

/// Rows of a sample at most.
const MOST: u8 = 100;

async fn sample(
    state: &Shared,
    principal: Principal,
    shown: &Shown,
    rows: u8,
) -> Result<Vec<Box<RawValue>>, Failure> {
    let scope = super::sql::scope(state, principal, shown.project.clone()).await?;
    let text = format!("select * from {}.{} limit {rows}", shown.project, shown.name);
    let answer = state.engine.sql(scope, &text, SqlLimits::default()).await?;
    Ok(state.engine.run(outflow::objects(answer.schema, answer.rows)).await?)
}
