//! `POST /v1/apply`: makes a folder's definitions the ones that stand.

use std::path::PathBuf;

use asof_flow::Operation;
use asof_model::{Change, Diagnostics, Kind, Name, ProjectFile, Revision, ThingKind};
use asof_registry::Apply;
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
    path: "/v1/apply",
    open: false,
    patience: Patience::Long,
    summary: "Make a project's files the definitions that stand",
    about: "One transaction, compared with the revision `base` of the plan: where somebody else changed the project since, \
            it is refused (409) and says what changed. Removing a thing needs `allow_remove`.",
    route: || post(apply),
    operation: || {
        json!({
            "requestBody": {"required": true, "content": {"application/json": {"example": {
                "root": "/srv/shop", "base": 3, "allow_remove": false,
                "files": [{"path": "asof.yaml", "text": "project: shop\n"}],
            }}}},
            "responses": {"200": {"description": "It stands", "content": {"application/json": {"example": {"project": "shop", "revision": 4, "changes": [], "diagnostics": []}}}}},
        })
    },
};

/// A project's files, to be applied.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ApplyRequest {
    /// As in a plan.
    #[serde(default)]
    pub root: Option<PathBuf>,
    /// All of them.
    pub files: Vec<ProjectFile>,
    /// The revision the change was planned on; none: the one that stands.
    #[serde(default)]
    pub base: Option<Revision>,
    /// Things that the files do not define any more may be removed.
    #[serde(default)]
    pub allow_remove: bool,
}

/// What was changed.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct ApplyAnswer {
    /// The project.
    pub project: Name,
    /// The revision that holds the change; the standing one where nothing changed.
    pub revision: Revision,
    /// The changes.
    pub changes: Vec<Change>,
    /// Warnings.
    pub diagnostics: Diagnostics,
}

async fn apply(
    Caller(principal): Caller,
    State(state): State<Shared>,
    Json(request): Json<ApplyRequest>,
) -> Result<Answer<ApplyAnswer>, Failure> {
    let agreed = agree::prepare(&state, &principal, Operation::Apply, &request.files, request.root).await?;
    let changes = agreed.changes(&state).await;
    let removed: Vec<(ThingKind, Name)> = agree::Agreed::removed(&changes);
    if !removed.is_empty() && !request.allow_remove {
        let names: Vec<String> = removed.iter().map(|(kind, name)| format!("{kind} `{name}`")).collect();
        return Err(Failure::new(
            Kind::Conflict,
            "removal_not_allowed",
            format!("applying would remove {}, which the files do not define any more", names.join(", ")),
        )
        .hint("say --allow-remove to remove what the folder does not define"));
    }
    let base = request.base.unwrap_or(agreed.base);
    let change = Apply {
        project: agreed.project.config.project.clone(),
        root: agreed.root.clone(),
        base,
        put: agreed.versions.clone(),
        remove: removed,
    };
    let revision = state.registry.apply(&principal, change).await?;
    Ok(Answer(ApplyAnswer {
        project: agreed.project.config.project.clone(),
        revision,
        changes,
        diagnostics: agreed.warnings.clone(),
    }))
}
