//! `GET /v1/projects/{project}/things/{thing}`: all about one thing.

use std::time::Duration;

use arrow::array::{Array, ArrayRef};
use asof_engine::expression::EVENT_TIME;
use asof_model::{Address, Catalog, Column, DataType, Explain as _, Version};
use asof_registry::{MASK, SampleColumn, Shown, ShownSample};
use axum::extract::{Path, State};
use axum::routing::get;
use serde::Deserialize;
use serde_json::{Value, json};

use super::{Endpoint, Patience};
use crate::access::Caller;
use crate::error::Failure;
use crate::request::{Answer, Query, known_project, name_in_path};
use crate::rooms::Shared;
use crate::values::{Ints, write_array};

pub(super) const ENDPOINT: Endpoint = Endpoint {
    method: "GET",
    path: "/v1/projects/{project}/things/{thing}",
    open: false,
    patience: Patience::Short,
    summary: "Show one thing",
    about: "Definition, owner, columns with types, versions, a sample of its rows, what it stands on and who uses it. A thing \
            is written `view`, `view.feature`, `project.view.feature`, or `source/NAME` where things of several kinds share a \
            name. Of a view and of a source some rows are read, for at most 5 s. Values of a feature with `sensitivity`, and of \
            the columns it reads, are shown as `***`.",
    route: || get(thing),
    operation: || {
        json!({
            "parameters": [
                {"name": "project", "in": "path", "required": true, "schema": {"type": "string"}, "description": "The project"},
                {"name": "thing", "in": "path", "required": true, "schema": {"type": "string"}, "description": "The thing"},
                {"name": "sample", "in": "query", "schema": {"type": "integer", "minimum": 0, "maximum": 100, "default": 5}, "description": "How many rows of the data; 0 for none"},
            ],
            "responses": {"200": {"description": "The thing", "content": {"application/json": {"example": {
                "project": "flights", "kind": "view", "name": "plane_facts", "version": "d34a227f...", "owner": "fleet",
                "description": "What the plane is.", "tags": [], "definition": {"view": "..."}, "yaml": "view: plane_facts\n...",
                "columns": [{"name": "tailnum", "role": "key", "type": "string"}, {"name": "seats", "role": "feature", "type": "int16"}],
                "stands_on": [{"kind": "source", "name": "flights.planes"}], "used_by": [{"kind": "service", "name": "flights.late_departure"}],
                "also": [], "versions": [{"version": "d34a227f...", "revision": 1, "action": "created", "by": "owner", "at": "2026-01-01T00:00:00.000000Z", "standing": true}],
                "sample": {"rows": 1, "columns": [
                    {"name": "tailnum", "type": "string", "values": ["N804JB"]}, {"name": "seats", "type": "int16", "values": [200]},
                ]},
            }}}}},
        })
    },
};

/// How much is shown.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Much {
    sample: Option<usize>,
}

/// Rows of a sample where nothing else is said.
const ROWS: usize = 5;
/// No sample has more.
const MOST_ROWS: usize = 100;
/// A sample is what is found by then.
const WITHIN: Duration = Duration::from_secs(5);

async fn thing(
    Caller(principal): Caller,
    State(state): State<Shared>,
    Path((project, thing)): Path<(String, String)>,
    Query(much): Query<Much>,
) -> Result<Answer<Shown>, Failure> {
    let project = name_in_path(&project)?;
    let catalog = state.registry.catalog();
    known_project(&principal, &catalog, &project)?;
    let rows = much.sample.unwrap_or(ROWS);
    if rows > MOST_ROWS {
        let text = format!("a sample of {rows} rows is asked for, and at most {MOST_ROWS} are given");
        return Err(Failure::invalid("bad_query", text).hint("`POST /v1/sql` reads as many as there are"));
    }
    let mut shown = state.registry.show(&project, &thing).await?;
    known_project(&principal, &catalog, &shown.project)?;
    if rows > 0 {
        shown.sample = sample(&state, &catalog, &shown, rows).await;
    }
    Ok(Answer(shown))
}

/// Some rows of a view or a source. That they cannot be read is part of the answer: the rest of it stands.
async fn sample(state: &Shared, catalog: &Catalog, shown: &Shown, rows: usize) -> Option<ShownSample> {
    let address = Address { project: shown.project.clone(), name: shown.name.clone() };
    let version = catalog.get(shown.kind, &address)?;
    let (found, columns) = match &version {
        Version::View(view) => {
            let column = |name: &str, data_type: &DataType| Column {
                name: name.to_owned(),
                data_type: data_type.clone(),
            };
            let keys = view.keys.iter().map(|it| column(it.key.name.as_str(), &it.key.data_type));
            let time = [column(EVENT_TIME, &DataType::Timestamp)];
            let features = view.features.iter().map(|it| column(it.feature.name.as_str(), &it.data_type));
            let columns: Vec<Column> = keys.chain(time).chain(features).collect();
            (state.engine.sample(catalog, view, rows, WITHIN).await, columns)
        }
        Version::Source(source) => {
            (state.engine.sample_source(catalog, source, rows, WITHIN).await, source.columns.clone())
        }
        Version::Entity(_) | Version::Derived(_) | Version::Service(_) => return None,
    };
    let found = match found {
        Ok(found) => found,
        Err(error) => {
            let (problem, hint) = (Some(error.to_string()), error.hint());
            return Some(ShownSample { problem, hint, ..ShownSample::default() });
        }
    };
    // Of one feature: itself, behind its view's keys and time.
    let before = columns.len() - if let Version::View(view) = &version { view.features.len() } else { 0 };
    let masked = asof_registry::masked(catalog, &version);
    let all = columns.into_iter().zip(found.rows.columns()).enumerate();
    let wanted = all.filter(|(at, (column, _))| {
        *at < before || shown.feature.as_ref().is_none_or(|feature| feature.as_str() == column.name)
    });
    let columns = wanted.map(|(_, (Column { name, data_type }, values))| {
        let masked = masked.get(&name).cloned();
        let values = match masked {
            Some(_) => veiled(values.as_ref()),
            None => plain(&data_type, values),
        };
        SampleColumn { name, data_type, masked, values }
    });
    Some(ShownSample {
        rows: found.rows.num_rows(),
        columns: columns.collect(),
        cut_short: found.cut_short,
        ..ShownSample::default()
    })
}

fn veiled(values: &dyn Array) -> Vec<Value> {
    (0..values.len()).map(|row| if values.is_null(row) { Value::Null } else { Value::from(MASK) }).collect()
}

fn plain(data_type: &DataType, values: &ArrayRef) -> Vec<Value> {
    let mut text = Vec::new();
    match write_array(&mut text, data_type, values, Ints::Number) {
        Ok(()) => serde_json::from_slice(&text).unwrap_or_default(),
        Err(_) => Vec::new(),
    }
}
