//! `GET /`: where a browser lands.

use axum::response::Redirect;
use axum::routing::get;
use serde_json::json;

use super::{Endpoint, Patience};

pub(super) const ENDPOINT: Endpoint = Endpoint {
    method: "GET",
    path: "/",
    open: true,
    patience: Patience::Short,
    summary: "Leads to /docs",
    about: "For who opens the address in a browser.",
    route: || get(root),
    operation: || json!({"responses": {"307": {"description": "To /docs"}}}),
};

async fn root() -> Redirect {
    Redirect::temporary("/docs")
}
