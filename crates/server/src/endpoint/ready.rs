//! `GET /ready`: requests may be sent here.

use asof_model::Kind;
use axum::extract::State;
use axum::response::{IntoResponse as _, Response};
use axum::routing::get;
use serde_json::json;

use super::{Endpoint, Patience};
use crate::error::Failure;
use crate::request::Answer;
use crate::rooms::Shared;

pub(super) const ENDPOINT: Endpoint = Endpoint {
    method: "GET",
    path: "/ready",
    open: true,
    patience: Patience::Short,
    summary: "May requests be sent here",
    about: "200 once every view is materialised or has failed once; 503 before, and from the moment the node was told to stop.",
    route: || get(ready),
    operation: || {
        json!({"responses": {
            "200": {"description": "It takes requests"},
            "503": {"description": "It is starting or stopping"},
        }})
    },
};

async fn ready(State(state): State<Shared>) -> Response {
    if state.stop.is_cancelled() {
        return Failure::new(Kind::Unavailable, "stopping", "this node is stopping").into_response();
    }
    // A view that failed is shown elsewhere; the others are worth asking for. Whoever can connect may ask this,
    // so it is answered from records.
    let (waiting, all) = match state.flow.starting().await {
        Ok(found) => found,
        Err(error) => return Failure::from(error).into_response(),
    };
    if waiting > 0 {
        let text = format!("{waiting} of {all} views are not materialised yet");
        return Failure::new(Kind::Unavailable, "starting", text).into_response();
    }
    Answer(json!({"status": "ready"})).into_response()
}
