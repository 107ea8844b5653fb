//! `POST /v1/push/{source}`: takes rows into a source that is pushed to.

use asof_flow::{BodyFormat, Durability, PushReport, PushRequest, PushRoom, PushedOp};
use asof_model::{Name, Principal, Timestamp};
use axum::extract::{Path, Request, State};
use axum::routing::post;
use http::{HeaderMap, header};
use serde::{Deserialize, Serialize};
use serde_json::json;

use super::{Endpoint, Patience};
use crate::access::Caller;
use crate::body::read_whole;
use crate::error::Failure;
use crate::metrics::OfSource;
use crate::request::{Answer, Query, name_in_path, project_of};
use crate::rooms::Shared;

pub(super) const ENDPOINT: Endpoint = Endpoint {
    method: "POST",
    path: "/v1/push/{source}",
    open: false,
    patience: Patience::Short,
    summary: "Push rows to a source",
    about: "All rows of the body are stored or none. When this answers they are on disk, and the next request finds them, unless \
            `durability=relaxed` was asked for, which the answer says. JSON is an array of objects, one object, or `{\"rows\": [...]}`; \
            NDJSON an object a line; Arrow an IPC stream. A column that is not there is null, one that the source has not is an error; \
            every bad row is named. Sent again with the same `Idempotency-Key` within seven days a batch gets its first answer and is \
            not stored twice. 429 means that more waits to be written than the node holds back: send it again later.",
    route: || post(push),
    operation: || {
        json!({
            "parameters": [
                {"name": "source", "in": "path", "required": true, "schema": {"type": "string"}, "description": "The source, which has `push: true`"},
                {"name": "project", "in": "query", "schema": {"type": "string"}, "description": "Needed where the node has several"},
                {"name": "durability", "in": "query", "schema": {"enum": ["durable", "relaxed"]}, "description": "`relaxed`: answered before it is on disk, so that power may take it; `durable` if not said"},
                {"name": "op", "in": "query", "schema": {"enum": ["as_written", "delete"]}, "description": "`delete`: every row is a delete, whatever the source's `delete_when` says of it"},
                {"name": "Idempotency-Key", "in": "header", "schema": {"type": "string"}, "description": "Your name for this batch, 1 to 255 bytes, e.g. a UUID"},
            ],
            "requestBody": {"required": true, "content": {
                "application/json": {"example": [{"listing_id": 7, "seller_id": 42, "posted_at": "2026-06-01T12:00:00Z", "price": 199.0}]},
                "application/x-ndjson": {"schema": {"type": "string"}},
                "application/vnd.apache.arrow.stream": {"schema": {"type": "string", "format": "binary"}},
            }},
            "responses": {"200": {"description": "What became of the rows", "content": {"application/json": {"example": {
                "source": "shop.listings", "accepted": 1, "already_there": [], "first": 120, "visible_at": "2026-06-01T12:00:00.481516Z",
                "durable": true, "repeated": false,
            }}}}},
        })
    },
};

/// How rows are pushed.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PushQuery {
    /// The project; the node's only one where it is not said.
    #[serde(default)]
    pub project: Option<Name>,
    /// When they are acknowledged.
    #[serde(default)]
    pub durability: PushDurability,
    /// What they are.
    #[serde(default)]
    pub op: PushOp,
}

/// When a push is acknowledged.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum PushDurability {
    /// When it is on disk.
    #[default]
    Durable,
    /// When the system has it.
    Relaxed,
}

/// What pushed rows are.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum PushOp {
    /// Values, or deletes where the source's `delete_when` says so.
    #[default]
    AsWritten,
    /// Deletes.
    Delete,
}

/// What became of a push.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PushAnswer {
    /// The source.
    pub source: String,
    /// Rows stored.
    pub accepted: u64,
    /// Rows left out because they equal the version that stands, by their number in the batch, from 1.
    pub already_there: Vec<u64>,
    /// The position of the first row stored.
    pub first: Option<i64>,
    /// From when on the rows may be used; none of no rows in a store that never took any.
    pub visible_at: Option<String>,
    /// Whether they were on disk before this was said.
    pub durable: bool,
    /// It is the first answer to this idempotency key.
    pub repeated: bool,
}

async fn push(
    Caller(principal): Caller,
    State(state): State<Shared>,
    Path(source): Path<String>,
    Query(query): Query<PushQuery>,
    request: Request,
) -> Result<Answer<PushAnswer>, Failure> {
    let source = name_in_path(&source)?;
    let project = project_of(&state, &principal, &state.registry.catalog(), query.project.as_ref())?.clone();
    let format = format(request.headers())?;
    let idempotency_key = idempotency_key(request.headers())?;
    let limit = state.limits.body_bytes;
    let length =
        request.headers().get(header::CONTENT_LENGTH).and_then(|length| length.to_str().ok()?.parse().ok());
    // Who does not say how much comes may send as much as anybody.
    let room = state.flow.room_to_push(length.unwrap_or(limit).min(limit))?;
    let body = read_whole(request.into_body(), limit).await.map_err(|unread| unread.explain(limit))?;
    let pushed = PushRequest {
        op: match query.op {
            PushOp::AsWritten => PushedOp::AsWritten,
            PushOp::Delete => PushedOp::Delete,
        },
        idempotency_key,
        durability: match query.durability {
            PushDurability::Durable => Durability::Durable,
            PushDurability::Relaxed => Durability::Relaxed,
        },
        ..PushRequest::new(body, format)
    };
    let report = store(&state, &principal, &project, &source, pushed, room).await?;
    Ok(Answer(PushAnswer {
        source: report.source.to_string(),
        accepted: report.accepted,
        already_there: report.already_there,
        first: report.first,
        visible_at: (report.visible_at != Timestamp::BEFORE_ALL).then(|| report.visible_at.to_string()),
        durable: report.durable,
        repeated: report.repeated,
    }))
}

/// Stores the rows, whichever wire they came by, and counts them; their room is held until then.
pub(super) async fn store(
    state: &Shared,
    principal: &Principal,
    project: &Name,
    source: &Name,
    pushed: PushRequest,
    room: PushRoom,
) -> Result<PushReport, Failure> {
    let report = state.flow.push(principal, project, source, pushed).await;
    drop(room);
    let report = report?;
    if !report.repeated {
        let of = OfSource { project: project.to_string(), source: source.to_string() };
        state.metrics.pushed.get_or_create(&of).inc_by(report.accepted);
    }
    Ok(report)
}

/// How the body is written, by its content type.
fn format(headers: &HeaderMap) -> Result<BodyFormat, Failure> {
    let given = headers.get(header::CONTENT_TYPE).and_then(|kind| kind.to_str().ok()).unwrap_or_default();
    let plain = given.split(';').next().unwrap_or_default().trim().to_ascii_lowercase();
    match plain.as_str() {
        "application/json" => Ok(BodyFormat::Json),
        "application/x-ndjson" | "application/ndjson" | "application/jsonl" => Ok(BodyFormat::Ndjson),
        "application/vnd.apache.arrow.stream" => Ok(BodyFormat::Arrow),
        _ => {
            let what = match given {
                "" => "no content type".to_owned(),
                other => format!("content type `{other}`"),
            };
            let message = format!("the request has {what}; rows are pushed as JSON, NDJSON or Arrow");
            Err(Failure::invalid("bad_content_type", message).hint(
                "send `Content-Type: application/json`, `application/x-ndjson` or \
                 `application/vnd.apache.arrow.stream`",
            ))
        }
    }
}

fn idempotency_key(headers: &HeaderMap) -> Result<Option<String>, Failure> {
    let mut all = headers.get_all("idempotency-key").iter();
    let (Some(key), more) = (all.next(), all.next()) else { return Ok(None) };
    match key.to_str() {
        Ok(key) if more.is_none() => Ok(Some(key.to_owned())),
        _ => Err(bad_key("the header `Idempotency-Key`")),
    }
}

/// An idempotency key is something else than one header can be.
pub(super) fn bad_key(what: &str) -> Failure {
    Failure::invalid("bad_idempotency_key", format!("{what} is not one line of plain characters"))
        .hint("e.g. a UUID, made once for each batch")
}
