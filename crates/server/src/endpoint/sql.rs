//! `POST /v1/sql`: a read-only query.

use std::sync::Arc;

use asof_engine::query::{Recall, SqlLimits, SqlScope};
use asof_model::{Explain as _, FileFormat, Kind, Name, Principal};
use axum::extract::State;
use axum::response::Response;
use axum::routing::post;
use serde::{Deserialize, Serialize};
use serde_json::json;

use super::{Endpoint, Patience};
use crate::access::Caller;
use crate::error::Failure;
use crate::outflow;
use crate::request::{Json, known_project};
use crate::rooms::Shared;

pub(super) const ENDPOINT: Endpoint = Endpoint {
    method: "POST",
    path: "/v1/sql",
    open: false,
    patience: Patience::Long,
    summary: "Run a read-only query",
    about: "Over sources, views and recorded training sets (`training_set_ID`) of the projects the caller may see, and over the \
            registry itself: `things`, `features`, `versions`, `runs`, `training_sets` (`system.NAME` where a thing has such a name). \
            In the project asked in a thing is its bare name, elsewhere `project.name`. Limits hold bytes, tokens, nesting, time, \
            memory and rows. A number that JSON has none for is the string `NaN`, `Infinity` or `-Infinity`. An answer that \
            reaches a limit after it began breaks off: with `run`, an id of the caller's choice, `/v1/runs/{id}` says why; \
            without it the last line of an ndjson answer does, as `{\"error\": ...}`.",
    route: || post(sql),
    operation: || {
        json!({
            "requestBody": {"required": true, "content": {"application/json": {"example": {
                "project": "flights", "sql": "select carrier, count(*) from flights group by carrier", "format": "ndjson"
            }}}},
            "responses": {"200": {"description": "The rows in the format asked for", "content": {
                "application/x-ndjson": {"example": "{\"carrier\":\"UA\",\"count(*)\":58665}\n"},
                "text/csv": {"schema": {"type": "string"}},
                "application/vnd.apache.arrow.stream": {"schema": {"type": "string", "format": "binary"}},
                "application/vnd.apache.parquet": {"schema": {"type": "string", "format": "binary"}},
            }}},
        })
    },
};

/// A query.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SqlRequest {
    /// The project whose things go by their bare names.
    pub project: Name,
    /// One query that only reads.
    pub sql: String,
    /// How the rows are written; ndjson if not said.
    #[serde(default = "ndjson")]
    pub format: FileFormat,
    /// An id to ask `/v1/runs/{id}` by why an answer broke off.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub run: Option<String>,
}

fn ndjson() -> FileFormat {
    FileFormat::Ndjson
}

async fn sql(
    Caller(principal): Caller,
    State(state): State<Shared>,
    Json(request): Json<SqlRequest>,
) -> Result<Response, Failure> {
    let scope = scope(&state, principal, request.project).await?;
    let limits = SqlLimits::of(&state.engine);
    // A reader that takes nothing must not keep others from asking past the time there is.
    let (time, deadline) = (limits.time, tokio::time::Instant::now() + limits.time);
    let answer = state.engine.sql(scope, &request.sql, limits).await?;
    let (engine, format) = (state.engine.clone(), request.format);
    let work = move |chunks: outflow::Chunks| async move {
        let to = chunks.clone();
        let writing = engine.run(outflow::write_all(format, answer.schema, answer.rows, to));
        let last = tokio::time::timeout_at(deadline, writing).await.map_err(|_| too_slow(time))??;
        outflow::send_last(&chunks, last).await;
        Ok(())
    };
    let ended = {
        let (work, run) = (state.work.clone(), request.run.clone());
        move |outcome: Result<(), Failure>| async move {
            if let (Err(failure), Some(run)) = (outcome, run) {
                work.failed(&run, *failure.body);
            }
        }
    };
    let last_words = request.run.is_none();
    outflow::respond(&state, format, last_words, work, ended).await
}

fn too_slow(time: std::time::Duration) -> Failure {
    Failure::new(
        Kind::Timeout,
        "timeout",
        format!("the query and its answer took over {} s, which is the limit", time.as_secs()),
    )
    .hint("ask for fewer rows, or read the answer faster")
}

/// What a query of this principal sees.
pub(super) async fn scope(state: &Shared, principal: Principal, project: Name) -> Result<SqlScope, Failure> {
    let catalog = state.registry.catalog();
    known_project(&principal, &catalog, &project)?;
    let training_sets = state.registry.training_set_ids(&principal, &project).await?;
    let system = state.registry.system_tables(&principal, &project).await?;
    let (registry, asker, home) = (state.registry.clone(), principal.clone(), project.clone());
    let recall = Recall(Arc::new(move |id| {
        let (registry, asker, home) = (registry.clone(), asker.clone(), home.clone());
        Box::pin(async move {
            match registry.training_set(&asker, &id).await {
                // The whole id names a table, and a project sees its own.
                Ok(set) => Ok(Some(set).filter(|set| set.id == id && set.project == home)),
                Err(error) if matches!(error.kind(), Kind::NotFound | Kind::Invalid) => Ok(None),
                Err(error) => Err(asof_engine::Error::Conflict {
                    code: error.code(),
                    message: error.to_string(),
                    hint: error.hint(),
                }),
            }
        })
    }));
    Ok(SqlScope { catalog, project, principal, system, training_sets, recall })
}
