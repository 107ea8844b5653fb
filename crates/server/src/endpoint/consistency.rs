//! `POST /v1/check/consistency`: what was answered online, answered again through the training path.

use asof_flow::{ConsistencyReport, ConsistencyRequest, FeatureConsistency, Inconsistency, LogPlace};
use asof_model::{Name, Timestamp};
use axum::extract::State;
use axum::routing::post;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::{Endpoint, Patience};
use crate::access::Caller;
use crate::error::Failure;
use crate::request::{Answer, Json, known_project};
use crate::rooms::Shared;

pub(super) const ENDPOINT: Endpoint = Endpoint {
    method: "POST",
    path: "/v1/check/consistency",
    open: false,
    patience: Patience::Long,
    summary: "Answer the serving log again through the training path, and compare",
    about: "Each logged row is answered offline at its T from what was readable of each source when it was served; values and \
            statuses must be equal to the bit: `mismatched`, `missing` (null online) and `extra` (null offline) are 0. `lag` counts values \
            that a training set would have otherwise now, since rows came after the time they say they were known from. Places name rows of \
            the log; keys, which are data, come with `show_keys` only.",
    route: || post(check),
    operation: || {
        json!({
            "requestBody": {"required": true, "content": {"application/json": {
                "example": {"project": "shop", "service": "pricing", "since": "2025-06-01T00:00:00Z"},
                "schema": {"type": "object", "required": ["project"], "properties": {
                    "project": {"type": "string"},
                    "service": {"type": "string", "description": "Only what was asked of it"},
                    "since": {"type": "string", "format": "date-time", "description": "Only what was asked since then"},
                    "show_keys": {"type": "boolean", "description": "Tell the keys of the places"},
                    "run": {"type": "string", "description": "An id to ask for progress by"},
                }},
            }}},
            "responses": {"200": {"description": "What came of it", "content": {"application/json": {"example": {
                "consistent": true, "rows": 10_000, "values": 50_000, "mismatched": 0, "missing": 0, "extra": 0, "lag": 12, "trainings": 3,
                "features": [{"feature": "seller_profile.tier", "values": 10_000, "mismatched": 0, "missing": 0, "extra": 0, "lag": 12,
                    "places": [{"what": "lag", "file": "shop/pricing-0f3a/1748736000000000-0.arrows", "row": 17, "as_of": "2025-06-01T00:00:17.000000Z"}]}],
                "not_checkable": [], "files": 1, "broken_ends": 0, "dropped": 0
            }}}}},
        })
    },
};

/// What is to be checked.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CheckConsistency {
    /// The project.
    pub project: Name,
    /// Only what was asked of this service.
    #[serde(default)]
    pub service: Option<String>,
    /// Only what was asked since then.
    #[serde(default)]
    pub since: Option<String>,
    /// Whether places are told with their keys.
    #[serde(default)]
    pub show_keys: bool,
    /// An id to ask for progress by.
    #[serde(default)]
    pub run: Option<String>,
}

/// What a check came to.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct ConsistencyAnswer {
    /// Whether all that was compared is equal.
    pub consistent: bool,
    /// Rows of the log.
    pub rows: u64,
    /// Values that were compared.
    pub values: u64,
    /// Other values than were served, or null for another reason.
    pub mismatched: u64,
    /// Null online and a value offline.
    pub missing: u64,
    /// A value online and null offline.
    pub extra: u64,
    /// Values that a training set would have otherwise now.
    pub lag: u64,
    /// Trainings that they were answered again with.
    pub trainings: u64,
    /// The least T of them; none where there are no rows.
    pub from: Option<Timestamp>,
    /// The greatest.
    pub to: Option<Timestamp>,
    /// By feature, in order of their names.
    pub features: Vec<ConsistencyOfFeature>,
    /// What could not be answered as it was, and why.
    pub not_checkable: Vec<NotCheckable>,
    /// Files of the log that were read.
    pub files: u64,
    /// Of these, files whose writer was killed.
    pub broken_ends: u64,
    /// Rows in the sample that were not logged since the node was opened.
    pub dropped: u64,
}

/// How a feature was served.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct ConsistencyOfFeature {
    /// `view.feature`.
    pub feature: String,
    /// Values that were compared.
    pub values: u64,
    /// As [`ConsistencyAnswer::mismatched`].
    pub mismatched: u64,
    /// As [`ConsistencyAnswer::missing`].
    pub missing: u64,
    /// As [`ConsistencyAnswer::extra`].
    pub extra: u64,
    /// As [`ConsistencyAnswer::lag`].
    pub lag: u64,
    /// The first places of each.
    pub places: Vec<ConsistencyPlace>,
}

/// A row of the log.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct ConsistencyPlace {
    /// `mismatched`, `missing`, `extra` or `lag`.
    pub what: String,
    /// The file, below the folder of the log.
    pub file: String,
    /// Its row, from 1.
    pub row: u64,
    /// Its T.
    pub as_of: Timestamp,
    /// Its keys, where they were asked for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub keys: Option<Value>,
}

/// Rows that cannot be answered as they were.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct NotCheckable {
    /// The source.
    pub source: String,
    /// How many rows.
    pub rows: u64,
    /// Why.
    pub reason: String,
}

async fn check(
    Caller(principal): Caller,
    State(state): State<Shared>,
    Json(request): Json<CheckConsistency>,
) -> Result<Answer<ConsistencyAnswer>, Failure> {
    let catalog = state.registry.catalog();
    known_project(&principal, &catalog, &request.project)?;
    let progress = state.work.progress(request.run.as_deref().unwrap_or_default());
    let service = request.service.map(Name::new).transpose();
    let service = service.map_err(|error| Failure::invalid("bad_name", error.to_string()))?;
    let since = request.since.as_deref().map(Timestamp::parse).transpose();
    let since = since.map_err(|error| Failure::invalid("bad_since", format!("`since`: {error}")))?;
    let mut dropped = 0;
    if let Some(log) = state.reader.log().cloned() {
        // What was answered before is in the files then.
        let flushed = log.clone();
        let done = tokio::task::spawn_blocking(move || flushed.flush()).await;
        done.map_err(|_| {
            Failure::new(asof_model::Kind::Internal, "panic", "the serving log was not written")
        })?;
        dropped = log.status().dropped;
    }
    let asked = ConsistencyRequest { service, since, show_keys: request.show_keys };
    let report = state.flow.check_consistency(&principal, &request.project, asked, progress).await?;
    Ok(Answer(answer(report, dropped)))
}

fn answer(report: ConsistencyReport, dropped: u64) -> ConsistencyAnswer {
    ConsistencyAnswer {
        consistent: report.is_consistent(),
        rows: report.rows,
        values: report.values,
        mismatched: report.mismatched,
        missing: report.missing,
        extra: report.extra,
        lag: report.lag,
        trainings: report.trainings,
        from: report.times.map(|(from, _)| from),
        to: report.times.map(|(_, to)| to),
        features: report.features.into_iter().map(feature).collect(),
        not_checkable: report
            .not_checkable
            .into_iter()
            .map(|it| NotCheckable { source: it.source, rows: it.rows, reason: it.reason })
            .collect(),
        files: report.files,
        broken_ends: report.broken_ends,
        dropped,
    }
}

fn feature(of: FeatureConsistency) -> ConsistencyOfFeature {
    ConsistencyOfFeature {
        feature: of.feature,
        values: of.values,
        mismatched: of.mismatched,
        missing: of.missing,
        extra: of.extra,
        lag: of.lag,
        places: of.places.into_iter().map(place).collect(),
    }
}

fn place(LogPlace { what, file, row, as_of, keys }: LogPlace) -> ConsistencyPlace {
    let what = match what {
        Inconsistency::Mismatched => "mismatched",
        Inconsistency::Missing => "missing",
        Inconsistency::Extra => "extra",
        Inconsistency::Lag => "lag",
    };
    ConsistencyPlace { what: what.to_owned(), file, row, as_of, keys }
}
