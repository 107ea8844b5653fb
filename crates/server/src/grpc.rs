//! gRPC as far as one message is asked and one answered: the frame of a message, and how an error looks. Its requests
//! go through the router as others do, so that access, time limits and metrics are the same.
//!
//! What it is not: streaming calls and compression; see `docs/decisions/grpc-by-hand.md`.

use std::fmt::Write as _;

use asof_model::Kind;
use axum::body::Body;
use axum::extract::Request;
use axum::response::{IntoResponse, Response};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD_NO_PAD;
use bytes::{BufMut as _, Bytes, BytesMut};
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode, Version, header};
use http_body_util::{BodyExt as _, Full};
use prost::Message;

use crate::body::Unread;
use crate::error::Failure;

/// The messages of `proto/asof/v1`, made from it: CONTRIBUTING.md says how.
pub mod v1 {
    include!("grpc/asof.v1.rs");
}

const CONTENT_TYPE: HeaderValue = HeaderValue::from_static("application/grpc");
const STATUS: HeaderName = HeaderName::from_static("grpc-status");
const MESSAGE: HeaderName = HeaderName::from_static("grpc-message");
const DETAILS: HeaderName = HeaderName::from_static("grpc-status-details-bin");
const CODE: HeaderName = HeaderName::from_static("asof-code");

/// A flag and a length stand before every message.
const PREFIX: usize = 5;

/// Bytes of an error's text, as it is sent: clients take 8 KiB of metadata in all.
const LONGEST_TEXT: usize = 6 << 10;

/// How the sender of a request wants to hear of errors.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Wire {
    /// By a status of HTTP, in JSON.
    Http,
    /// By a status of gRPC.
    Grpc,
}

impl Wire {
    /// That of this request.
    pub(crate) fn of<B>(request: &http::Request<B>) -> Wire {
        let kind = request.headers().get(header::CONTENT_TYPE);
        let grpc = kind.is_some_and(|kind| kind.as_bytes().starts_with(b"application/grpc"));
        // Before HTTP/2 nobody reads the trailers.
        if grpc && request.version() == Version::HTTP_2 { Wire::Grpc } else { Wire::Http }
    }

    /// An answer as this wire has it: an error takes its form, any other is in it.
    pub(crate) fn told(self, mut response: Response) -> Response {
        match (self, response.extensions_mut().remove::<Failure>()) {
            (Wire::Grpc, Some(failure)) => status(&failure),
            _ => response,
        }
    }
}

/// The one message of a call. Its length comes first, and `room` is asked for so much before the rest is taken in.
///
/// # Errors
/// The request is no call of gRPC, its message is over `limit` bytes or no `M`, or there is no room.
pub(crate) async fn message<M: Message + Default, R>(
    request: Request,
    limit: usize,
    room: impl FnOnce(usize) -> Result<R, Failure>,
) -> Result<(M, R), Failure> {
    if Wire::of(&request) == Wire::Http {
        let message = "this path is of gRPC, and the request is not, or came by HTTP/1.1";
        return Err(Failure::invalid("bad_grpc_message", message)
            .hint("call it with a client of gRPC, or use the path of HTTP that does the same: /docs"));
    }
    let mut body = request.into_body();
    let mut bytes = BytesMut::new();
    while bytes.len() < PREFIX && take(&mut body, &mut bytes).await? {}
    let Some((&[compressed, a, b, c, d], _)) = bytes.split_first_chunk::<PREFIX>() else {
        return Err(wrong("the call has no whole message".to_owned()));
    };
    if compressed != 0 {
        let mut failure = wrong("the message is compressed".to_owned()).hint("send it as it is");
        // Which gRPC tells apart.
        failure.status = StatusCode::NOT_IMPLEMENTED;
        return Err(failure);
    }
    let length = u32::from_be_bytes([a, b, c, d]) as usize;
    if length > limit {
        return Err(Unread::TooLarge.explain(limit));
    }
    let room = room(length)?;
    bytes.reserve((PREFIX + length).saturating_sub(bytes.len()));
    while bytes.len() <= PREFIX + length && take(&mut body, &mut bytes).await? {}
    let bytes = bytes.freeze();
    let message = bytes.get(PREFIX..).filter(|message| message.len() == length).map(|it| bytes.slice_ref(it));
    let message = message.ok_or_else(|| wrong(format!("the call is not one message of {length} bytes")))?;
    // What prost says names fields, never what is in them.
    let message = M::decode(message).map_err(|error| wrong(error.to_string()))?;
    Ok((message, room))
}

/// More of a body; false at its end.
async fn take(body: &mut Body, bytes: &mut BytesMut) -> Result<bool, Failure> {
    match body.frame().await {
        Some(Ok(frame)) => {
            bytes.extend_from_slice(frame.data_ref().map_or(&[], |data| data));
            Ok(true)
        }
        Some(Err(error)) => Err(Unread::from_error(&error).explain(0)),
        None => Ok(false),
    }
}

/// A message that is not what the service takes.
pub(crate) fn wrong(what: String) -> Failure {
    Failure::invalid("bad_grpc_message", what).hint("proto/asof/v1/intake.proto has what a call takes")
}

/// The answer to a call that ended well.
#[derive(Debug)]
pub(crate) struct Reply<M>(pub(crate) M);

impl<M: Message> IntoResponse for Reply<M> {
    fn into_response(self) -> Response {
        let length = self.0.encoded_len();
        let mut bytes = BytesMut::with_capacity(PREFIX + length);
        bytes.put_u8(0);
        // An answer of 4 GiB there is not.
        bytes.put_u32(u32::try_from(length).unwrap_or(u32::MAX));
        // The buffer grows where it must, so there always is room.
        self.0.encode_raw(&mut bytes);
        let well = async { Some(Ok(HeaderMap::from_iter([(STATUS, HeaderValue::from_static("0"))]))) };
        let mut response = Response::new(Body::new(Full::<Bytes>::new(bytes.freeze()).with_trailers(well)));
        response.headers_mut().insert(header::CONTENT_TYPE, CONTENT_TYPE);
        response
    }
}

/// An error in the form of gRPC: no message, and what went wrong in the head, which is the end as well.
fn status(failure: &Failure) -> Response {
    let mut response = Response::new(Body::empty());
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, CONTENT_TYPE);
    let number = number(failure);
    headers.insert(STATUS, i32::from(number).into());
    let mut put = |name: HeaderName, text: &str| {
        if let Ok(value) = HeaderValue::from_str(text) {
            headers.insert(name, value);
        }
    };
    put(CODE, &failure.body.code);
    let hint = failure.body.hint.as_ref().map(|hint| format!("\nhint: {hint}")).unwrap_or_default();
    let (text, escaped) = escaped(&format!("{}{hint}", failure.body.message));
    put(MESSAGE, &escaped);
    if let Some(seconds) = failure.retry_seconds() {
        put(header::RETRY_AFTER, &seconds.to_string());
        let details = details(number, text, seconds);
        put(DETAILS, &STANDARD_NO_PAD.encode(details.encode_to_vec()));
    }
    response
}

/// The status' number: that of the kind, unless gRPC has a more exact one.
fn number(failure: &Failure) -> u8 {
    match (failure.status, failure.body.code.as_ref()) {
        // Who aborts tries again, and another batch will not get the same key however often it is sent.
        (_, "idempotency_key_reused") => 6,
        (_, "no_such_endpoint") | (StatusCode::NOT_IMPLEMENTED, _) => 12,
        (StatusCode::PAYLOAD_TOO_LARGE, _) => Kind::Exhausted.grpc_status(),
        (StatusCode::REQUEST_TIMEOUT, _) => Kind::Timeout.grpc_status(),
        _ => failure.kind().grpc_status(),
    }
}

/// A text as `grpc-message` takes it, and as it is read again: its beginning, where it is too long.
fn escaped(text: &str) -> (String, String) {
    let (mut whole, mut escaped) = (String::new(), String::new());
    for part in text.chars() {
        if escaped.len() > LONGEST_TEXT {
            whole.push_str("...");
            escaped.push_str("...");
            break;
        }
        whole.push(part);
        match part {
            ' '..='$' | '&'..='~' => escaped.push(part),
            _ => {
                for byte in part.encode_utf8(&mut [0; 4]).bytes() {
                    // Writing into a text does not fail.
                    let _ = write!(escaped, "%{byte:02X}");
                }
            }
        }
    }
    (whole, escaped)
}

/// `google.rpc.Status`, by which clients find out more.
#[derive(Clone, PartialEq, Message)]
struct Details {
    #[prost(int32, tag = "1")]
    code: i32,
    #[prost(string, tag = "2")]
    message: String,
    #[prost(message, repeated, tag = "3")]
    details: Vec<prost_types::Any>,
}

/// `google.rpc.RetryInfo`.
#[derive(Clone, PartialEq, Message)]
struct RetryInfo {
    #[prost(message, optional, tag = "1")]
    retry_delay: Option<prost_types::Duration>,
}

fn details(number: u8, message: String, seconds: u64) -> Details {
    let delay = prost_types::Duration { seconds: i64::try_from(seconds).unwrap_or(i64::MAX), nanos: 0 };
    let again = prost_types::Any {
        type_url: "type.googleapis.com/google.rpc.RetryInfo".to_owned(),
        value: RetryInfo { retry_delay: Some(delay) }.encode_to_vec(),
    };
    Details { code: i32::from(number), message, details: vec![again] }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_error_s_text_is_cut_where_clients_would_refuse_it() {
        for (text, sent) in [("50 % of \u{e5}\nb~\u{7f}", "50 %25 of %C3%A5%0Ab~%7F"), ("", "")] {
            assert_eq!(escaped(text), (text.to_owned(), sent.to_owned()));
        }
        let (whole, sent) = escaped(&"\u{20ac}".repeat(10_000));
        assert!(whole.ends_with("\u{20ac}...") && sent.ends_with("%AC...") && sent.len() < 7 << 10);
    }

    #[test]
    fn a_failure_has_its_status() {
        use asof_model::Kind::*;
        for (failure, number) in [
            (Failure::invalid("bad_rows", ""), 3),
            (Failure::new(NotFound, "not_found", ""), 5),
            (Failure::new(NotFound, "no_such_endpoint", ""), 12),
            (Failure::new(Conflict, "source_changed", ""), 10),
            (Failure::new(Conflict, "idempotency_key_reused", ""), 6),
            (Failure::new(Exhausted, "disk_full", ""), 8),
            (Unread::TooLarge.explain(1), 8),
            (Unread::Stalled.explain(1), 4),
            (Unread::Broken.explain(1), 3),
            (Failure::new(Unavailable, "stopping", ""), 14),
        ] {
            let response = Wire::Grpc.told(failure.clone().into_response());
            assert_eq!(response.status(), StatusCode::OK);
            assert_eq!(response.headers()[STATUS], number.to_string(), "{failure:?}");
            assert_eq!(response.headers()[CODE], failure.body.code.as_ref());
        }
    }
}
