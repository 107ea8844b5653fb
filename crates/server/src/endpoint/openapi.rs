//! `GET /openapi.json`: the description of every endpoint, made from [`ENDPOINTS`].

use axum::routing::get;
use serde_json::{Map, Value, json};

use super::{ENDPOINTS, Endpoint, Patience};
use crate::request::Answer;

pub(super) const ENDPOINT: Endpoint = Endpoint {
    method: "GET",
    path: "/openapi.json",
    open: true,
    patience: Patience::Short,
    summary: "This description, in OpenAPI 3.1",
    about: "For clients made by machines. `/docs` shows the same to people.",
    route: || get(|| async { Answer(document()) }),
    operation: || json!({"responses": {"200": {"description": "The document"}}}),
};

/// The OpenAPI document.
pub(crate) fn document() -> Value {
    let mut paths = Map::new();
    for endpoint in ENDPOINTS {
        let mut operation = (endpoint.operation)();
        if let Value::Object(fields) = &mut operation {
            fields.insert("summary".to_owned(), endpoint.summary.into());
            fields.insert("description".to_owned(), endpoint.about.into());
            fields.insert("operationId".to_owned(), operation_id(endpoint).into());
            if endpoint.open {
                fields.insert("security".to_owned(), json!([]));
            }
            if let Some(Value::Object(responses)) = fields.get_mut("responses") {
                responses.insert("default".to_owned(), json!({"$ref": "#/components/responses/Error"}));
            }
        }
        let item = paths.entry(endpoint.path).or_insert_with(|| json!({}));
        if let Value::Object(item) = item {
            item.insert(endpoint.method.to_ascii_lowercase(), operation);
        }
    }
    json!({
        "openapi": "3.1.0",
        "info": {
            "title": "Asof",
            "version": env!("CARGO_PKG_VERSION"),
            "description": "Features with a clock: training sets that never leak the future, and the same values online.",
            "license": {"name": "Apache-2.0", "identifier": "Apache-2.0"},
        },
        "paths": paths,
        "security": [{"token": []}],
        "components": {
            "securitySchemes": {"token": {"type": "http", "scheme": "bearer"}},
            "responses": {"Error": {
                "description": "An error: nothing was changed, and no part of an answer was given",
                "content": {"application/json": {"schema": {"$ref": "#/components/schemas/Error"}}},
            }},
            "schemas": {"Error": {
                "type": "object",
                "required": ["error"],
                "properties": {"error": {
                    "type": "object",
                    "required": ["kind", "code", "message"],
                    "properties": {
                        "kind": {"enum": asof_model::Kind::ALL.map(asof_model::Kind::name)},
                        "code": {"type": "string", "description": "Stable; `asof explain CODE` tells more"},
                        "message": {"type": "string"},
                        "hint": {"type": "string"},
                        "diagnostics": {"type": "array", "items": {"type": "object"}},
                    },
                }},
            }},
        },
    })
}

fn operation_id(endpoint: &Endpoint) -> String {
    let path = endpoint.path.trim_start_matches('/').replace(['/', '-', '.'], "_").replace(['{', '}'], "");
    format!("{}_{path}", endpoint.method.to_ascii_lowercase())
}
