//! `GET /v1/status`: how fresh every view is.

use std::collections::BTreeMap;

use asof_flow::OperationCount;
use asof_model::{Name, VersionId};
use asof_serve::ServingLogStatus;
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
    path: "/v1/status",
    open: false,
    patience: Patience::Short,
    summary: "How fresh every view is in the online store, and what the node is busy with",
    about: "Rows kept, rows of the source that are not materialised yet, time since the last materialisation and its error. \
            Long operations that go on and that wait, and what is held of pushed rows, are those of all projects. `/metrics` shows the same for machines.",
    route: || get(status),
    operation: || {
        json!({
            "parameters": [{"name": "project", "in": "query", "required": true, "schema": {"type": "string"}, "description": "The project"}],
            "responses": {"200": {"description": "The views", "content": {"application/json": {"example": {
                "views": [{"view": "origin_weather", "version": "0f3a...", "state": "ready", "rows": 26_115, "rows_behind": 0, "behind_age_seconds": 0.0, "age_seconds": 12.5, "refresh": "1h"}],
                "operations": {"at_once": 2, "running": {"train": 1}, "waiting": {}},
                "intake": {"accepted": 5_000, "trimmed": 0, "log_bytes": 700_000, "table_bytes": 0, "memory_bytes": 650_000, "waiting": 0, "flush_lag_seconds": 12.5, "flush_errors": {}},
                "serving_log": {"logged": 1_200, "dropped": 0, "error": null}
            }}}}},
        })
    },
};

/// The answer.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct StatusAnswer {
    /// By name.
    pub views: Vec<StatusOfView>,
    /// What the node is busy with.
    #[serde(default)]
    pub operations: StatusOfOperations,
    /// What the live store holds of pushed rows, of all projects.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub intake: Option<StatusOfIntake>,
    /// What of the answers is kept, of all projects; none where nothing is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub serving_log: Option<StatusOfServingLog>,
}

/// The serving log since the node was opened.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct StatusOfServingLog {
    /// Rows that were written.
    pub logged: u64,
    /// Rows in the sample that were not.
    pub dropped: u64,
    /// Why the last write failed, if it did.
    #[serde(default)]
    pub error: Option<String>,
}

/// What the live store holds of pushed rows.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct StatusOfIntake {
    /// The last position given.
    pub accepted: i64,
    /// Everything up to this position is gone from the log.
    pub trimmed: i64,
    /// Bytes of its log.
    pub log_bytes: u64,
    /// Bytes of its tables.
    pub table_bytes: u64,
    /// Bytes in memory that its log alone keeps.
    pub memory_bytes: u64,
    /// Batches that wait to be acknowledged.
    pub waiting: u64,
    /// Seconds since a row waits to be moved from the log into its source's table; none: none waits.
    #[serde(default)]
    pub flush_lag_seconds: Option<f64>,
    /// Why tables did not get their rows the last time, by `PROJECT/SOURCE/FAMILY`.
    #[serde(default)]
    pub flush_errors: BTreeMap<String, String>,
}

/// Long operations of a node, of all projects; plans and applies have as many seats of their own.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct StatusOfOperations {
    /// How many go on at once.
    pub at_once: u64,
    /// How many go on, by sort.
    pub running: BTreeMap<String, u64>,
    /// How many wait for others to end, by sort.
    pub waiting: BTreeMap<String, u64>,
}

/// How fresh a view is.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct StatusOfView {
    /// The view.
    pub view: String,
    /// The version that stands.
    pub version: VersionId,
    /// `ready`, or `missing` where this version does not answer yet.
    pub state: String,
    /// Rows online.
    pub rows: Option<u64>,
    /// Entities online.
    pub keys: Option<u64>,
    /// Rows of the source that are not materialised; none where that is not known.
    pub rows_behind: Option<u64>,
    /// Seconds since the source was looked at for them; none where it never was.
    #[serde(default)]
    pub behind_age_seconds: Option<f64>,
    /// Rows that were older than the view keeps online when they came or were read; they are kept offline.
    #[serde(default)]
    pub past_retention: u64,
    /// Rows that belong to no entity of the view, a key being null.
    #[serde(default)]
    pub null_keys: u64,
    /// Seconds since the last materialisation that ended well; none: never.
    pub age_seconds: Option<f64>,
    /// The time of its newest row that is not in the future.
    pub newest: Option<String>,
    /// How often a running node materialises it; none: only when asked.
    pub refresh: Option<String>,
    /// Why the last materialisation failed or, where it did not, why the source cannot be looked at.
    pub last_error: Option<String>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Which {
    project: Name,
}

async fn status(
    Caller(principal): Caller,
    State(state): State<Shared>,
    Query(which): Query<Which>,
) -> Result<Answer<StatusAnswer>, Failure> {
    let catalog = state.registry.catalog();
    known_project(&principal, &catalog, &which.project)?;
    let views = state.flow.status(&principal, Some(&which.project)).await?;
    let seconds = |micros: i64| micros as f64 / 1e6;
    let views = views
        .into_iter()
        .map(|view| StatusOfView {
            view: view.view.name.to_string(),
            version: view.version,
            state: if view.materialized { "ready" } else { "missing" }.to_owned(),
            rows: view.rows,
            keys: view.keys,
            rows_behind: view.rows_behind,
            behind_age_seconds: view.behind_age_micros.map(seconds),
            past_retention: view.past_retention,
            null_keys: view.null_keys,
            age_seconds: view.success_age_micros.map(seconds),
            newest: view.newest.map(|newest| newest.to_string()),
            refresh: view.refresh.map(|refresh| refresh.to_string()),
            last_error: view.last_error.map(|failure| failure.error.message),
        })
        .collect();
    let operations = state.flow.operations();
    let counts = operations.counts();
    let of = |count: fn(&OperationCount) -> u64| {
        let found = counts.iter().filter(|it| count(it) > 0);
        found.map(|it| (it.operation.name().to_owned(), count(it))).collect()
    };
    let operations = StatusOfOperations {
        at_once: operations.at_once() as u64,
        running: of(|count| count.running),
        waiting: of(|count| count.waiting),
    };
    let (flush_lag, flush_errors) = match state.flow.flush_status().await? {
        Some(flush) => {
            let errors = flush.failures.into_iter().map(|(table, failure)| (table, failure.error.message));
            (flush.lag_micros.map(seconds), errors.collect())
        }
        None => (None, BTreeMap::new()),
    };
    let intake = state.flow.intake_status().await?.map(|intake| StatusOfIntake {
        accepted: intake.accepted,
        trimmed: intake.trimmed,
        log_bytes: intake.log_bytes,
        table_bytes: intake.table_bytes,
        memory_bytes: intake.memory_bytes,
        waiting: intake.waiting,
        flush_lag_seconds: flush_lag,
        flush_errors,
    });
    let serving_log = state.reader.log().map(|log| {
        let ServingLogStatus { logged, dropped, error } = log.status();
        StatusOfServingLog { logged, dropped, error }
    });
    Ok(Answer(StatusAnswer { views, operations, intake, serving_log }))
}
