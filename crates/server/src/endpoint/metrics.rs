//! `GET /metrics`: Prometheus' text form.

use std::sync::atomic::Ordering;

use asof_flow::ViewStatus;
use asof_model::Principal;
use axum::extract::State;
use axum::response::IntoResponse;
use axum::routing::get;
use http::header;
use serde_json::json;

use super::{Endpoint, Patience};
use crate::access::Caller;
use crate::metrics::{OfOperation, OfView};
use crate::rooms::Shared;

pub(super) const ENDPOINT: Endpoint = Endpoint {
    method: "GET",
    path: "/metrics",
    open: false,
    patience: Patience::Short,
    summary: "Counters of this node for Prometheus",
    about: "Requests and their times by endpoint; long operations that go on, wait and were refused; rows pushed and what the live store holds; age, failure and rows behind of every view, the last as of \
            when its source was last looked at (`asof_view_rows_behind_age_seconds`): asking this reads no source.",
    route: || get(metrics),
    operation: || json!({"responses": {"200": {"description": "OpenMetrics text", "content": {"text/plain": {"schema": {"type": "string"}}}}}}),
};

async fn metrics(_: Caller, State(state): State<Shared>) -> impl IntoResponse {
    match state.flow.last_status(&Principal::owner(), None).await {
        Ok(views) => views.iter().for_each(|view| observe(&state, view)),
        Err(error) => tracing::warn!(%error, "the metrics of views are not known"),
    }
    match state.flow.intake_status().await {
        Ok(Some(live)) => {
            state.metrics.live_log.set(whole(live.log_bytes));
            state.metrics.live_tables.set(whole(live.table_bytes));
            state.metrics.live_memory.set(whole(live.memory_bytes));
            state.metrics.live_waiting.set(whole(live.waiting));
            state.metrics.live_position.set(live.accepted);
        }
        Ok(None) => {}
        Err(error) => tracing::warn!(%error, "the metrics of the live store are not known"),
    }
    match state.flow.flush_status().await {
        Ok(Some(flush)) => {
            state.metrics.flush_lag.set(flush.lag_micros.unwrap_or(0) as f64 / 1e6);
            state.metrics.flush_failed.set(whole(flush.failures.len() as u64));
        }
        Ok(None) => {}
        Err(error) => tracing::warn!(%error, "the metrics of the flush are not known"),
    }
    if let Some(log) = state.reader.log() {
        let status = log.status();
        state.metrics.logged.inner().store(status.logged, Ordering::Relaxed);
        state.metrics.not_logged.inner().store(status.dropped, Ordering::Relaxed);
    }
    let operations = state.flow.operations();
    for count in operations.counts() {
        let of = OfOperation { operation: count.operation.name() };
        state.metrics.running.get_or_create(&of).set(whole(count.running));
        state.metrics.waiting.get_or_create(&of).set(whole(count.waiting));
    }
    state.metrics.refused.inner().store(operations.refused(), Ordering::Relaxed);
    (
        [(header::CONTENT_TYPE, "application/openmetrics-text; version=1.0.0; charset=utf-8")],
        state.metrics.text(),
    )
}

fn whole(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}

fn observe(state: &Shared, view: &ViewStatus) {
    let of = OfView { project: view.view.project.to_string(), view: view.view.name.to_string() };
    if let Some(age) = view.success_age_micros {
        state.metrics.age.get_or_create(&of).set(age as f64 / 1e6);
    }
    if let Some(behind) = view.rows_behind {
        state.metrics.behind.get_or_create(&of).set(whole(behind));
    }
    if let Some(age) = view.behind_age_micros {
        state.metrics.behind_age.get_or_create(&of).set(age as f64 / 1e6);
    }
    state.metrics.past_retention.get_or_create(&of).set(whole(view.past_retention));
    state.metrics.null_keys.get_or_create(&of).set(whole(view.null_keys));
    state.metrics.failed.get_or_create(&of).set(i64::from(view.last_error.is_some()));
    if let Some(rows) = view.rows {
        state.metrics.rows.get_or_create(&of).set(whole(rows));
    }
}
