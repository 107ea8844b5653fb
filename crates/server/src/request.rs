//! What handlers take from a request: a strict JSON body, a strict query.

use axum::extract::{FromRequest, FromRequestParts, Request};
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use http::request::Parts;
use http::{HeaderMap, HeaderValue, header};
use serde::Serialize;
use serde::de::DeserializeOwned;

use asof_model::{Catalog, Kind, Name, Principal, nearest};

use crate::access::may_see;
use crate::body::{Unread, read_whole};
use crate::error::Failure;
use crate::rooms::Shared;

/// A JSON body read into `T`; a field it does not know is refused.
#[derive(Debug)]
pub(crate) struct Json<T>(pub(crate) T);

impl<T: DeserializeOwned> FromRequest<Shared> for Json<T> {
    type Rejection = Failure;

    async fn from_request(request: Request, state: &Shared) -> Result<Json<T>, Failure> {
        let body = JsonBytes::from_request(request, state).await?;
        body.read().map(Json)
    }
}

/// The bytes of a JSON body.
#[derive(Debug)]
pub(crate) struct JsonBytes(pub(crate) Bytes);

impl JsonBytes {
    /// Reads them.
    pub(crate) fn read<'a, T: serde::Deserialize<'a>>(&'a self) -> Result<T, Failure> {
        // Read as a list, a record's fields would be taken by their order.
        if self.0.trim_ascii_start().first().is_some_and(|first| *first == b'[') {
            let message = "the request's body is a JSON list, and this endpoint takes a JSON object";
            return Err(
                Failure::invalid("bad_request", message).hint("/docs shows what every endpoint takes")
            );
        }
        serde_json::from_slice(&self.0).map_err(|error| not_json(&error))
    }
}

impl FromRequest<Shared> for JsonBytes {
    type Rejection = Failure;

    async fn from_request(request: Request, state: &Shared) -> Result<JsonBytes, Failure> {
        must_be_json(request.headers())?;
        let limit = state.limits.body_bytes;
        read_whole(request.into_body(), limit).await.map(JsonBytes).map_err(|unread| unread.explain(limit))
    }
}

impl Unread {
    /// As the sender of the body sees it.
    pub(crate) fn explain(self, limit: usize) -> Failure {
        match self {
            Unread::TooLarge => Failure::invalid(
                "body_too_large",
                format!("the body of the request is over {limit} bytes, which is the limit"),
            )
            .hint("split the request"),
            Unread::Stalled => Failure::invalid("body_stalled", "the body of the request stopped coming"),
            Unread::Broken => Failure::invalid("body_broken", "the body of the request broke off"),
        }
    }
}

fn must_be_json(headers: &HeaderMap) -> Result<(), Failure> {
    let given = headers.get(header::CONTENT_TYPE).and_then(|kind| kind.to_str().ok()).unwrap_or_default();
    let plain = given.split(';').next().unwrap_or_default().trim();
    if plain.eq_ignore_ascii_case("application/json") {
        return Ok(());
    }
    let what =
        if given.is_empty() { "no content type".to_owned() } else { format!("content type `{given}`") };
    Err(Failure::invalid("not_json", format!("the request has {what}; this endpoint takes JSON"))
        .hint("send `Content-Type: application/json`"))
}

/// What is wrong with a JSON text, without its values.
pub(crate) fn not_json(error: &serde_json::Error) -> Failure {
    let place = format!("line {}, column {}", error.line(), error.column());
    match error.classify() {
        serde_json::error::Category::Data => {
            let text = error.to_string();
            let text = text.split(" at line ").next().unwrap_or_default().to_owned();
            Failure::invalid(
                "bad_request",
                format!("the request's JSON is not what this endpoint takes: {text} ({place})"),
            )
            .hint("/docs shows what every endpoint takes")
        }
        _ => {
            Failure::invalid("bad_json", format!("the request's body is not JSON: {}", shape(error, &place)))
        }
    }
}

fn shape(error: &serde_json::Error, place: &str) -> String {
    if error.is_eof() { format!("it ends too early ({place})") } else { format!("syntax error ({place})") }
}

/// The query of a request, read into `T`; a parameter it does not know is refused.
#[derive(Debug)]
pub(crate) struct Query<T>(pub(crate) T);

impl<T: DeserializeOwned, S: Send + Sync> FromRequestParts<S> for Query<T> {
    type Rejection = Failure;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Query<T>, Failure> {
        match axum::extract::Query::<T>::from_request_parts(parts, state).await {
            Ok(axum::extract::Query(query)) => Ok(Query(query)),
            Err(rejection) => {
                let text = rejection.body_text();
                let text = text.strip_prefix("Failed to deserialize query string: ").unwrap_or(&text);
                Err(Failure::invalid(
                    "bad_query",
                    format!("the request's query is not what this endpoint takes: {text}"),
                )
                .hint("/docs shows what every endpoint takes"))
            }
        }
    }
}

/// A project's name as part of a path.
pub(crate) fn name_in_path(text: &str) -> Result<Name, Failure> {
    Name::new(text).map_err(|error| Failure::invalid("bad_name", error.to_string()))
}

/// That the project exists and the principal may see it; one that it may not see does not exist for it.
pub(crate) fn known_project(principal: &Principal, catalog: &Catalog, project: &Name) -> Result<(), Failure> {
    if catalog.projects.contains_key(project) && may_see(principal, project) {
        return Ok(());
    }
    let failure = Failure::new(Kind::NotFound, "project_not_found", format!("project `{project}` not found"));
    let seen = catalog.projects.keys().filter(|other| may_see(principal, other));
    let near = nearest(project.as_str(), seen.map(Name::as_str));
    Err(match near {
        Some(near) => failure.hint(format!("did you mean `{near}`?")),
        None => failure.hint("`asof apply` in its folder makes a project known"),
    })
}

/// The project asked in: the one named, else the node's own, else the only one.
pub(crate) fn project_of<'a>(
    state: &'a Shared,
    principal: &Principal,
    catalog: &'a Catalog,
    named: Option<&'a Name>,
) -> Result<&'a Name, Failure> {
    if let Some(named) = named {
        known_project(principal, catalog, named)?;
        return Ok(named);
    }
    let visible = |project: &&Name| crate::access::may_see(principal, project);
    let own = state.project.as_ref().filter(|own| catalog.projects.contains_key(*own)).filter(visible);
    let mut all = catalog.projects.keys().filter(visible);
    let only = all.next().filter(|_| all.next().is_none());
    own.or(only).ok_or_else(|| {
        Failure::invalid("project_needed", "the request names no project, and this node has none or several")
            .hint("say `project`; GET /v1/projects/*/things lists them")
    })
}

/// Refuses who may not see every project what holds them all.
pub(crate) fn sees_all(principal: &Principal) -> Result<(), Failure> {
    if principal.projects.is_none() {
        return Ok(());
    }
    Err(Failure::new(
        Kind::Forbidden,
        "forbidden",
        "a backup holds every project, and the caller may not see them all",
    )
    .hint("ask the owner of the data directory for it"))
}

/// An answer of JSON.
#[derive(Debug)]
pub(crate) struct Answer<T>(pub(crate) T);

impl<T: Serialize> IntoResponse for Answer<T> {
    fn into_response(self) -> Response {
        match serde_json::to_vec(&self.0) {
            Ok(body) => json_response(body),
            Err(error) => {
                tracing::error!(%error, "an answer cannot be written as JSON");
                Failure::new(Kind::Internal, "unwritable_answer", "the answer cannot be written as JSON")
                    .into_response()
            }
        }
    }
}

/// A 200 of JSON bytes.
pub(crate) fn json_response(body: impl Into<axum::body::Body>) -> Response {
    let mut response = Response::new(body.into());
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
    response
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_backup_of_every_project_is_not_for_who_sees_some() {
        assert!(sees_all(&Principal::owner()).is_ok());
        let some = Principal { name: "ads".to_owned(), projects: Some(Vec::new()) };
        assert_eq!(sees_all(&some).unwrap_err().body.code, "forbidden");
    }
}
