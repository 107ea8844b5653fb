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
    about: "Reads only what was not read, but all of a source with an `id` that is not pushed to; a file that changed since \
            is read again aside and swapped in. It can be stopped at any point and goes on where it was.",
    route: || post(materialize),
    operation: || {
        json!({
            "requestBody": {"required": true, "content": {"application/json": {"example": {"project": "flights", "views": ["origin_weather"]}}}},
            "responses": {"200": {"description": "What became of every view", "content": {"application/json": {"example": {
                "views": [{"view": "origin_weather", "rows_read": 26_115, "rows_added": 26_115, "rows": 26_115, "keys": 3, "rebuilt": null}]
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
    /// Rows that were not there before.
    pub rows_added: u64,
    /// Rows it has online now.
    pub rows: u64,
    /// Entities it has online now.
    pub keys: u64,
    /// Why all of it was read again, aside, and swapped in, where it was.
    pub rebuilt: Option<String>,
    /// Rows that are never visible, their `available_at` being null.
    pub never_known: u64,
    /// Rows that belong to no entity.
    pub null_keys: u64,
    /// Rows older than the view's retention: kept offline only.
    pub past_retention: u64,
}

async fn materialize(
    Caller(principal): Caller,
    State(state): State<Shared>,
    Json(request): Json<MaterializeRequest>,
) -> Result<Answer<MaterializeAnswer>, Failure> {
    let catalog = state.registry.catalog();
    known_project(&principal, &catalog, &request.project)?;
    let progress = state.work.progress(request.run.as_deref().unwrap_or_default());
    let views = request.views.into_iter().map(Name::new);
    let views: Vec<Name> =
        views.collect::<Result<_, _>>().map_err(|error| Failure::invalid("bad_name", error.to_string()))?;
    let only = (!views.is_empty()).then_some(views.as_slice());
    let reports = state.flow.materialize(&principal, &request.project, only, progress).await?;
    let views = reports
        .into_iter()
        .map(|report| MaterializedView {
            view: report.view,
            rows_read: report.rows_read,
            rows_added: report.rows_added,
            rows: report.rows,
            keys: report.keys,
            rebuilt: report.rebuilt,
            never_known: report.never_known,
            null_keys: report.null_keys,
            past_retention: report.past_retention,
        })
        .collect();
    Ok(Answer(MaterializeAnswer { views }))
}
