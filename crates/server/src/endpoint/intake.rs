//! `asof.v1.Intake/Push`: as `POST /v1/push/{source}`, by gRPC.

use asof_flow::{BodyFormat, Durability, PushRequest, PushedOp};
use asof_model::Timestamp;
use axum::extract::{Request, State};
use axum::routing::post;
use serde_json::Value;

use super::push::{bad_key, store};
use super::{Endpoint, Patience};
use crate::access::Caller;
use crate::error::Failure;
use crate::grpc::{self, Reply, v1};
use crate::request::{name_in_path, project_of};
use crate::rooms::Shared;

pub(super) const ENDPOINT: Endpoint = Endpoint {
    method: "POST",
    path: v1::PUSH_PATH,
    open: false,
    patience: Patience::Short,
    summary: "Push rows to a source by gRPC",
    about: "proto/asof/v1/intake.proto describes it.",
    route: || post(push),
    operation: || Value::Null,
};

async fn push(
    Caller(principal): Caller,
    State(state): State<Shared>,
    request: Request,
) -> Result<Reply<v1::PushReply>, Failure> {
    let room = |bytes| Ok(state.flow.room_to_push(bytes)?);
    let (asked, room): (v1::PushRequest, _) = grpc::message(request, state.limits.body_bytes, room).await?;
    let source = name_in_path(&asked.source)?;
    let named = asked.project.as_deref().map(name_in_path).transpose()?;
    let project = project_of(&state, &principal, &state.registry.catalog(), named.as_ref())?.clone();
    let format = match v1::Format::try_from(asked.format) {
        Ok(v1::Format::Json) => BodyFormat::Json,
        Ok(v1::Format::Ndjson) => BodyFormat::Ndjson,
        Ok(v1::Format::ArrowStream) => BodyFormat::Arrow,
        Ok(v1::Format::Unspecified) => return Err(grpc::wrong("`format` is not said".to_owned())),
        Err(_) => return Err(unknown("format", asked.format)),
    };
    if let Some(key) = &asked.idempotency_key
        && !key.bytes().all(|byte| matches!(byte, b' '..=b'~' | b'\t'))
    {
        return Err(bad_key("`idempotency_key`"));
    }
    let pushed = PushRequest {
        op: match v1::Op::try_from(asked.op) {
            Ok(v1::Op::AsWritten) => PushedOp::AsWritten,
            Ok(v1::Op::Delete) => PushedOp::Delete,
            Err(_) => return Err(unknown("op", asked.op)),
        },
        idempotency_key: asked.idempotency_key,
        durability: match v1::Durability::try_from(asked.durability) {
            Ok(v1::Durability::Durable) => Durability::Durable,
            Ok(v1::Durability::Relaxed) => Durability::Relaxed,
            Err(_) => return Err(unknown("durability", asked.durability)),
        },
        ..PushRequest::new(asked.rows, format)
    };
    let report = store(&state, &principal, &project, &source, pushed, room).await?;
    Ok(Reply(v1::PushReply {
        source: report.source.to_string(),
        accepted: report.accepted,
        already_there: report.already_there,
        first: report.first,
        visible_at: (report.visible_at != Timestamp::BEFORE_ALL).then(|| timestamp(report.visible_at)),
        durable: report.durable,
        repeated: report.repeated,
    }))
}

/// A value of a later version of the messages: what it asks for is not known, so it is not done.
fn unknown(field: &str, number: i32) -> Failure {
    grpc::wrong(format!("`{field}` is {number}, which this version of Asof does not know"))
}

fn timestamp(at: Timestamp) -> prost_types::Timestamp {
    let micros = at.0;
    let nanos = i32::try_from(micros.rem_euclid(1_000_000) * 1_000).unwrap_or_default();
    prost_types::Timestamp { seconds: micros.div_euclid(1_000_000), nanos }
}
