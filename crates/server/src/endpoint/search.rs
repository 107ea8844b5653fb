//! `GET /v1/search`: things by words.

use asof_model::Name;
use asof_registry::Found;
use axum::extract::State;
use axum::routing::get;
use serde::Deserialize;
use serde_json::json;

use super::{Endpoint, Patience};
use crate::access::{Caller, may_see};
use crate::error::Failure;
use crate::request::{Answer, Query};
use crate::rooms::Shared;

pub(super) const ENDPOINT: Endpoint = Endpoint {
    method: "GET",
    path: "/v1/search",
    open: false,
    patience: Patience::Short,
    summary: "Search every project's things",
    about: "Every word must stand in a name, description, tag, owner or column; best hits first.",
    route: || get(search),
    operation: || {
        json!({
            "parameters": [
                {"name": "text", "in": "query", "required": true, "schema": {"type": "string"}, "description": "Words"},
                {"name": "project", "in": "query", "schema": {"type": "string"}, "description": "Only in this project"},
            ],
            "responses": {"200": {"description": "The hits", "content": {"application/json": {"example": {
                "hits": [{"kind": "feature", "name": "flights.origin_weather.wind_gust", "matched": ["name"], "score": 90, "owner": "operations"}]
            }}}}},
        })
    },
};

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Words {
    text: String,
    project: Option<Name>,
}

async fn search(
    Caller(principal): Caller,
    State(state): State<Shared>,
    Query(words): Query<Words>,
) -> Result<Answer<Found>, Failure> {
    if words.text.trim().is_empty() {
        return Err(Failure::invalid("no_words", "the text to search for is empty"));
    }
    let catalog = state.registry.catalog();
    let mut found = asof_registry::search(&catalog, words.project.as_ref(), &words.text);
    let visible = |name: &str| {
        name.split('.')
            .next()
            .and_then(|project| Name::new(project).ok())
            .is_some_and(|it| may_see(&principal, &it))
    };
    found.hits.retain(|hit| visible(&hit.name));
    found.nearest.retain(|name| visible(name));
    Ok(Answer(found))
}
