//! Who may speak: a bearer token, or nobody but this machine's own programs.

use std::sync::Arc;

use asof_model::{Kind, Name, Principal};
use axum::extract::{FromRequestParts, Request, State};
use axum::middleware::Next;
use axum::response::{IntoResponse as _, Response};
use http::request::Parts;
use http::{HeaderMap, Uri, header};

use crate::endpoint::ENDPOINTS;
use crate::error::Failure;
use crate::grpc::Wire;

/// The rule by which requests from the network are let in.
#[derive(Debug, Clone)]
pub struct Access {
    token: Option<blake3::Hash>,
    any_host: bool,
}

impl Access {
    /// With a token every request carries it. Without one only programs of this machine are served: the
    /// host must be a name of loopback, unless `any_host`; and no web page of another host, whoever's
    /// browser shows it.
    pub fn new(token: Option<&str>, any_host: bool) -> Access {
        Access { token: token.map(|token| blake3::hash(token.as_bytes())), any_host }
    }

    fn principal(&self, uri: &Uri, headers: &HeaderMap) -> Result<Principal, Failure> {
        let Some(expected) = self.token else {
            return self.asked_here(uri, headers).map(|()| Principal::owner());
        };
        let missing = |message: &str| {
            Failure::new(Kind::Unauthenticated, "token_required", message)
                .hint("send `Authorization: Bearer TOKEN`; the commands take the token from ASOF_TOKEN")
        };
        let Some(given) = headers.get(header::AUTHORIZATION) else {
            return Err(missing("this server needs a token, and the request has none"));
        };
        let token = given.to_str().ok().and_then(|given| {
            let (scheme, token) = given.split_once(' ')?;
            scheme.eq_ignore_ascii_case("bearer").then(|| token.trim())
        });
        let Some(token) = token else {
            return Err(missing("the request's Authorization header is not `Bearer TOKEN`"));
        };
        // Comparing hashes takes the same time wherever they differ.
        if blake3::hash(token.as_bytes()) == expected {
            Ok(Principal::owner())
        } else {
            Err(Failure::new(Kind::Unauthenticated, "bad_token", "the request's token is not this server's")
                .hint(
                    "a node in this folder writes its token to .asof/node.json; for another set ASOF_TOKEN",
                ))
        }
    }

    /// A page from elsewhere, shown by a browser on this machine, must not reach a server without a token.
    fn asked_here(&self, uri: &Uri, headers: &HeaderMap) -> Result<(), Failure> {
        // HTTP/2 has it in the place of the URI; where both are said, the URI counts.
        let host = match uri.authority() {
            Some(authority) => authority.as_str(),
            None => headers.get(header::HOST).and_then(|host| host.to_str().ok()).unwrap_or_default(),
        };
        let refused = |message: String| {
            Failure::new(Kind::Forbidden, "foreign_host", message)
                .hint(if self.any_host {
                    "without a token this server answers no web page of another host: set ASOF_TOKEN"
                } else {
                    "without a token this server answers programs on its own machine only: use 127.0.0.1 or localhost, or set ASOF_TOKEN"
                })
        };
        if !self.any_host && !is_loopback_name(host) {
            return Err(refused(format!(
                "the request is for host `{host}`, which is not this machine's loopback"
            )));
        }
        if let Some(origin) = headers.get(header::ORIGIN) {
            let origin = origin.to_str().unwrap_or_default();
            let of_here = origin.split_once("://").is_some_and(|(_, from)| from == host);
            if !of_here {
                return Err(refused(format!("the request comes from a web page of `{origin}`")));
            }
        }
        Ok(())
    }
}

fn is_loopback_name(host: &str) -> bool {
    let name = match host.strip_prefix('[') {
        Some(rest) => rest.split(']').next().unwrap_or_default(),
        None => host.split(':').next().unwrap_or_default(),
    };
    name.eq_ignore_ascii_case("localhost")
        || name.parse::<std::net::IpAddr>().is_ok_and(|address| address.is_loopback())
}

/// Lets a request from the network in, with its principal, or answers it.
pub(crate) async fn guard(State(access): State<Arc<Access>>, mut request: Request, next: Next) -> Response {
    let path = request.uri().path();
    let open = ENDPOINTS.iter().any(|endpoint| endpoint.open && endpoint.path == path);
    let wire = Wire::of(&request);
    if !open {
        match access.principal(request.uri(), request.headers()) {
            Ok(principal) => request.extensions_mut().insert(principal),
            Err(failure) => return wire.told(failure.into_response()),
        };
    }
    wire.told(next.run(request).await)
}

/// The principal of a request; a request that came in without one is refused.
#[derive(Debug, Clone)]
pub(crate) struct Caller(pub(crate) Principal);

impl<S: Send + Sync> FromRequestParts<S> for Caller {
    type Rejection = Failure;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Caller, Failure> {
        parts.extensions.get::<Principal>().cloned().map(Caller).ok_or_else(|| {
            Failure::new(Kind::Unauthenticated, "token_required", "the request has no principal")
        })
    }
}

/// Whether a principal may see a project.
pub(crate) fn may_see(principal: &Principal, project: &Name) -> bool {
    principal.projects.as_ref().is_none_or(|projects| projects.contains(project))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn without_a_token_no_page_of_elsewhere_is_answered() {
        // Open to any host, host, origin, let in.
        for (any_host, host, origin, let_in) in [
            (false, "localhost:2763", None, true),
            (false, "localhost:2763", Some("http://localhost:2763"), true),
            (false, "localhost:2763", Some("http://attacker.example"), false),
            (false, "localhost:2763", Some("null"), false),
            (false, "attacker.example", None, false),
            (false, "attacker.example", Some("http://attacker.example"), false),
            (true, "features.example", None, true),
            (true, "features.example", Some("https://features.example"), true),
            (true, "features.example", Some("http://attacker.example"), false),
            (true, "10.0.0.7:2763", Some("null"), false),
        ] {
            let mut headers = HeaderMap::new();
            headers.insert(header::HOST, host.parse().unwrap());
            if let Some(origin) = origin {
                headers.insert(header::ORIGIN, origin.parse().unwrap());
            }
            let access = Access::new(None, any_host);
            let path = Uri::from_static("/v1/features");
            let answered = access.principal(&path, &headers).is_ok();
            assert_eq!(answered, let_in, "any host {any_host}, host {host}, origin {origin:?}");
            // The same over HTTP/2, which has the host in the URI.
            headers.remove(header::HOST);
            let whole = Uri::try_from(format!("http://{host}/v1/features")).unwrap();
            assert_eq!(access.principal(&whole, &headers).is_ok(), let_in, "{whole}, origin {origin:?}");
        }
    }

    #[test]
    fn only_names_of_loopback_are_here() {
        for host in ["localhost", "LOCALHOST:2763", "127.0.0.1:2763", "127.8.9.1", "[::1]:2763", "[::1]"] {
            assert!(is_loopback_name(host), "{host}");
        }
        for host in
            ["", "example.org", "localhost.example.org:80", "10.0.0.1:2763", "[::2]", "127.0.0.1.nip.io"]
        {
            assert!(!is_loopback_name(host), "{host}");
        }
    }
}
