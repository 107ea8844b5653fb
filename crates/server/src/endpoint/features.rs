//! `POST /v1/features`: the features of entities, from the online store.

use std::borrow::Cow;

use asof_compute::RowError;
use asof_model::{Ask, Name, OutputColumn, Principal, Timestamp};
use asof_serve::{EntityColumns, Features, PreparedSelection};
use axum::extract::State;
use axum::response::Response;
use axum::routing::post;
use serde::Deserialize;
use serde_json::json;

use super::{Endpoint, Patience};
use crate::access::Caller;
use crate::entities::{self, RawColumns, Text, Wanted};
use crate::error::Failure;
use crate::request::{JsonBytes, json_response, project_of};
use crate::rooms::Shared;
use crate::values::{self, Ints, Unwritable};

pub(super) const ENDPOINT: Endpoint = Endpoint {
    method: "POST",
    path: "/v1/features",
    open: false,
    patience: Patience::Short,
    summary: "Get features of entities",
    about: "Of a service or of features by name, for one or many entities, now or `as_of` an instant within the views' history. \
            The answer is whole or an error; its question is always `known`: rows that were known at `as_of`. Integers keep all their digits (`\"ints\": \"string\"` writes int64 and uint64 as strings), \
            floats read back as the same number, NaN and infinities are strings, times are RFC 3339 with microseconds, bytes are base64, \
            decimals and uuids are strings, a json column is a string that holds JSON. Status and event time are given once per view and role; \
            a feature over a window has a status of its own as well, present, null or overflow.",
    route: || post(features),
    operation: || {
        json!({
            "requestBody": {"required": true, "content": {"application/json": {
                "example": {
                    "project": "flights", "service": "late_departure",
                    "entities": {"origin": ["JFK"], "tailnum": ["N804JB"]},
                    "as_of": "2013-01-02T12:00:00Z", "include": ["status", "event_time"],
                },
                "schema": {"type": "object", "required": ["entities"], "properties": {
                    "project": {"type": "string", "description": "Needed where the node has several"},
                    "service": {"type": "string"},
                    "features": {"type": "array", "items": {"type": "string"}, "description": "Instead of a service: view.feature, view.*, project.view.feature"},
                    "full_names": {"type": "boolean"},
                    "entities": {"type": "object", "description": "A column per key, one value per entity"},
                    "request": {"type": "object", "description": "What derived features read of the request: a column each, one value per entity"},
                    "as_of": {"type": "string", "format": "date-time"},
                    "include": {"type": "array", "items": {"enum": ["status", "event_time"]}},
                    "ints": {"enum": ["number", "string"]},
                }},
            }}},
            "responses": {"200": {"description": "The features", "content": {"application/json": {"example": {
                "as_of": "2013-01-02T12:00:00.000000Z", "question": "known",
                "columns": [{"name": "temperature", "type": "float64", "reading": 0, "values": [30.02]}],
                "readings": [{"view": "origin_weather", "keys": ["origin"], "status": ["present"], "event_time": ["2013-01-02T12:00:00.000000Z"]}],
            }}}}},
        })
    },
};

/// So many entities at most in one request.
const MOST: usize = 10_000;

/// Past so many rows a request is read on a thread that may block.
const QUICK: usize = 1_000;

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Request<'a> {
    project: Option<Name>,
    #[serde(borrow)]
    service: Option<Text<'a>>,
    #[serde(borrow)]
    features: Option<Vec<Text<'a>>>,
    #[serde(default)]
    full_names: bool,
    #[serde(borrow)]
    entities: RawColumns<'a>,
    #[serde(borrow)]
    request: Option<RawColumns<'a>>,
    #[serde(borrow)]
    as_of: Option<Text<'a>>,
    #[serde(default)]
    include: Vec<Include>,
    #[serde(default)]
    ints: Ints,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Include {
    Status,
    EventTime,
}

async fn features(
    Caller(principal): Caller,
    State(state): State<Shared>,
    body: JsonBytes,
) -> Result<Response, Failure> {
    let request: Request<'_> = body.read()?;
    let as_of = request
        .as_of
        .as_ref()
        .map(|text| Timestamp::parse(&text.0))
        .transpose()
        .map_err(|error| Failure::invalid("bad_as_of", format!("`as_of`: {error}")))?;
    let catalog = state.registry.catalog();
    let project = project_of(&state, &principal, &catalog, request.project.as_ref())?;
    let listed = |features: &Vec<Text<'_>>| features.iter().map(|text| text.0.clone().into_owned()).collect();
    let ask = super::train::ask(
        request.service.as_ref().map(|text| &*text.0),
        request.features.as_ref().map(listed),
    )?;
    let prepared = state.reader.prepare(&catalog, project, &ask, request.full_names)?;
    if let Some(reading) = hidden(&prepared, &principal) {
        return Err(Failure::new(
            asof_model::Kind::Forbidden,
            "project_forbidden",
            format!("project `{reading}` is not open to `{}`", principal.name),
        ));
    }
    let (entities, rows) = asked(&prepared, &request, &said(&ask))?;
    let (include, ints) = (request.include, request.ints);
    let answer = if rows * prepared.selection().readings.len().max(1) <= QUICK {
        write(&state.reader.read(&prepared, &entities, as_of)?, &include, ints)
    } else {
        let (reader, include) = (state.reader.clone(), include.clone());
        let read = tokio::task::spawn_blocking(move || {
            let features = reader.read(&prepared, &entities, as_of)?;
            Ok::<_, Failure>(write(&features, &include, ints))
        });
        read.await.map_err(|_| {
            Failure::new(asof_model::Kind::Internal, "panic", "the read ended by a defect of Asof")
        })??
    };
    answer.map(json_response)
}

/// What a request asks for: keys, and beside them what derived features read of it.
fn asked(
    prepared: &PreparedSelection,
    request: &Request<'_>,
    said: &str,
) -> Result<(EntityColumns, usize), Failure> {
    let keys: Vec<Wanted<'_>> =
        prepared.keys().iter().map(|key| Wanted { name: &key.name, data_type: &key.data_type }).collect();
    let brought = prepared.selection().request.iter();
    let brought: Vec<Wanted<'_>> =
        brought.map(|it| Wanted { name: it.name.as_str(), data_type: &it.data_type }).collect();
    let given = request.entities.0.iter().map(|(name, _)| name.as_ref());
    let misplaced: Vec<String> = given
        .filter(|name| brought.iter().any(|column| column.name == *name))
        .map(|name| format!("`{name}`"))
        .collect();
    if !misplaced.is_empty() {
        let message = format!("`entities` holds {}, no key of {said}", misplaced.join(", "));
        return Err(Failure::invalid("request_column_in_entities", message)
            .hint("derived features read it of `request`: put it there"));
    }
    let (mut arrays, rows) = entities::read(&request.entities, &keys, said, MOST)?;
    let rows = (!keys.is_empty()).then_some(rows);
    let (read, rows) = entities::read_request(request.request.as_ref(), &brought, &keys, said, rows, MOST)?;
    arrays.extend(read);
    let names = keys.iter().chain(&brought).map(|column| column.name.to_owned());
    // What reads neither keys nor request hangs on the time alone, and is answered once.
    let rows = rows.unwrap_or(1);
    let columns: Vec<_> = names.zip(arrays).collect();
    let columns = if columns.is_empty() { EntityColumns::none(rows) } else { EntityColumns::new(columns)? };
    Ok((columns, rows))
}

/// A project of what is asked that the principal may not see.
fn hidden<'a>(prepared: &'a PreparedSelection, principal: &Principal) -> Option<&'a Name> {
    let selection = prepared.selection();
    let views = selection.readings.iter().map(|reading| &reading.view.address.project);
    let mut projects = views.chain(selection.steps.iter().map(|step| &step.derived.address.project));
    projects.find(|project| !crate::access::may_see(principal, project))
}

/// What was asked, for messages.
fn said(ask: &Ask) -> Cow<'static, str> {
    match ask {
        Ask::Service(name) => format!("service `{name}`").into(),
        Ask::Features(_) => "the list of features".into(),
    }
}

/// The answer's JSON.
fn write(features: &Features, include: &[Include], ints: Ints) -> Result<Vec<u8>, Failure> {
    let heads = features.selection().heads(head);
    let values = heads.len() * features.entities();
    let heads_bytes = heads.iter().map(Vec::len).sum::<usize>();
    let mut out = Vec::with_capacity(128 + heads_bytes + 4 * heads.len() + 18 * values);
    out.extend_from_slice(b"{\"as_of\":");
    values::time(&mut out, features.at.0);
    // What is answered online is what was known at that time, always.
    out.extend_from_slice(b",\"question\":\"known\",\"columns\":[");
    for (index, (column, head)) in features.columns().zip(heads).enumerate() {
        if index > 0 {
            out.push(b',');
        }
        out.extend_from_slice(head);
        let OutputColumn { name, data_type, .. } = column.about;
        let values = column.values().map(|value| value.map_err(NotWritten::Bad));
        values::write_list(&mut out, data_type, values, ints).map_err(|why| match why {
            NotWritten::Bad(error) => Failure::from(column.bad(error)),
            NotWritten::Unwritable => {
                let text = format!("column `{name}` is not stored as {data_type}");
                Failure::new(asof_model::Kind::Internal, "unwritable_column", text)
            }
        })?;
        if include.contains(&Include::Status)
            && let Some(statuses) = column.statuses()
        {
            out.extend_from_slice(b",\"status\":");
            listed(&mut out, &statuses.collect::<Vec<_>>(), |out, status| values::text(out, status));
        }
        out.push(b'}');
    }
    out.push(b']');
    if !include.is_empty() {
        out.extend_from_slice(b",\"readings\":[");
        for (index, reading) in features.readings.iter().enumerate() {
            out.extend_from_slice(if index > 0 { b",{\"view\":" } else { b"{\"view\":" });
            values::text(&mut out, &reading.view);
            out.extend_from_slice(b",\"keys\":");
            listed(&mut out, &reading.keys, |out, key| values::text(out, key));
            if include.contains(&Include::Status) {
                out.extend_from_slice(b",\"status\":");
                listed(&mut out, &reading.status, |out, status| values::text(out, status.name()));
            }
            if include.contains(&Include::EventTime) {
                out.extend_from_slice(b",\"event_time\":");
                listed(&mut out, &reading.event_time, |out, instant| match instant {
                    Some(instant) => values::time(out, instant.0),
                    None => out.extend_from_slice(b"null"),
                });
            }
            out.push(b'}');
        }
        out.push(b']');
    }
    out.push(b'}');
    Ok(out)
}

/// What stands before a column's values.
fn head(column: &OutputColumn) -> Vec<u8> {
    let mut out = b"{\"name\":".to_vec();
    values::text(&mut out, &column.name);
    out.extend_from_slice(b",\"type\":");
    values::text(&mut out, &column.data_type.to_string());
    // What is computed has no reading that answers for it.
    if let Some((reading, _)) = column.read() {
        out.extend_from_slice(format!(",\"reading\":{reading}").as_bytes());
    }
    out.extend_from_slice(b",\"values\":");
    out
}

/// Why a column was not written; small, since it passes with every value.
enum NotWritten {
    Bad(RowError),
    Unwritable,
}

impl From<Unwritable> for NotWritten {
    fn from(_: Unwritable) -> NotWritten {
        NotWritten::Unwritable
    }
}

fn listed<T>(out: &mut Vec<u8>, items: &[T], write: impl Fn(&mut Vec<u8>, &T)) {
    out.push(b'[');
    for (index, item) in items.iter().enumerate() {
        if index > 0 {
            out.push(b',');
        }
        write(out, item);
    }
    out.push(b']');
}
