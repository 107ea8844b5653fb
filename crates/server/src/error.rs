//! Errors of this room, and how an error of any room looks on the wire.

use std::borrow::Cow;
use std::io;
use std::path::PathBuf;
use std::time::Duration;

use asof_model::{Diagnostics, Explain, Kind};
use axum::response::{IntoResponse, Response};
use http::{HeaderValue, StatusCode, header};
use serde::{Deserialize, Serialize};

/// Why the server cannot listen, or a backup cannot be made or used.
#[derive(Debug, thiserror::Error)]
pub enum ServerError {
    /// The address cannot be bound.
    #[error("cannot listen on `{address}`: {source}")]
    Address {
        /// As given.
        address: String,
        /// What the system says.
        source: io::Error,
    },
    /// Something else listens there.
    #[error("cannot listen on `{address}`: another program listens there")]
    AddressTaken {
        /// As given.
        address: String,
    },
    /// Beyond loopback, without what that needs.
    #[error("refused to listen on `{address}`, which other machines can reach, without {}", missing(*.token, *.tls))]
    Exposed {
        /// As given.
        address: String,
        /// Whether a token is set.
        token: bool,
        /// Whether TLS is set.
        tls: bool,
    },
    /// A TLS file cannot be used.
    #[error("TLS file `{}` cannot be used: {reason}", file.display())]
    Certificate {
        /// The file.
        file: PathBuf,
        /// Why.
        reason: String,
        /// There is no such file.
        missing: bool,
    },
    /// A backup's file cannot be read or written.
    #[error("cannot {doing} `{}`: {source}", path.display())]
    Backup {
        /// What was tried.
        doing: &'static str,
        /// The file.
        path: PathBuf,
        /// What the system says.
        source: io::Error,
    },
    /// The folder is no backup.
    #[error("`{}` is no backup that this program can use: {reason}", folder.display())]
    NotABackup {
        /// The folder.
        folder: PathBuf,
        /// Why.
        reason: String,
    },
    /// A file is not what the backup's list says.
    #[error("the backup's file `{}` is damaged: it is not what its list says", file.display())]
    BackupDamaged {
        /// The file.
        file: PathBuf,
    },
}

fn missing(token: bool, tls: bool) -> &'static str {
    match (token, tls) {
        (false, false) => "a token and TLS",
        (false, true) => "a token",
        _ => "TLS",
    }
}

impl Explain for ServerError {
    fn kind(&self) -> Kind {
        match self {
            ServerError::AddressTaken { .. } => Kind::Conflict,
            ServerError::Certificate { missing: true, .. } => Kind::NotFound,
            ServerError::Address { .. } | ServerError::Exposed { .. } | ServerError::Certificate { .. } => {
                Kind::Invalid
            }
            ServerError::NotABackup { .. } => Kind::Invalid,
            ServerError::Backup { .. } => Kind::Unavailable,
            ServerError::BackupDamaged { .. } => Kind::Internal,
        }
    }

    fn code(&self) -> &'static str {
        match self {
            ServerError::Address { .. } => "bad_listen_address",
            ServerError::AddressTaken { .. } => "address_taken",
            ServerError::Exposed { .. } => "exposed_address",
            ServerError::Certificate { .. } => "bad_tls_file",
            ServerError::Backup { .. } => "backup_failed",
            ServerError::NotABackup { .. } => "not_a_backup",
            ServerError::BackupDamaged { .. } => "backup_damaged",
        }
    }

    fn hint(&self) -> Option<String> {
        Some(match self {
            ServerError::Address { .. } => "write it as HOST:PORT, e.g. 127.0.0.1:2763".to_owned(),
            ServerError::AddressTaken { .. } => {
                "stop that program, or listen elsewhere with --listen 127.0.0.1:0 (0 takes a free port)"
                    .to_owned()
            }
            ServerError::Exposed { .. } => {
                "set ASOF_TOKEN and give --tls-certificate and --tls-key, or say --insecure where the network is trusted"
                    .to_owned()
            }
            ServerError::Certificate { .. } => {
                "give a certificate chain and its private key, both in PEM form".to_owned()
            }
            ServerError::Backup { .. } => "nothing was changed; try again when the disk is well".to_owned(),
            ServerError::NotABackup { .. } => "name a folder that `asof backup` made".to_owned(),
            ServerError::BackupDamaged { .. } => "use another backup".to_owned(),
        })
    }
}

/// An error as it goes over the wire: `{"error": {kind, code, message, hint, diagnostics}}`.
#[derive(Debug, Clone)]
pub struct Failure {
    /// The HTTP status, see [`http_status`].
    pub status: StatusCode,
    /// What went wrong.
    pub body: Box<FailureBody>,
    /// After how long the same request may succeed, where that is known.
    pub retry_after: Option<Duration>,
}

/// What went wrong.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct FailureBody {
    /// The name of a [`Kind`].
    pub kind: Cow<'static, str>,
    /// A stable identifier.
    pub code: Cow<'static, str>,
    /// For people.
    pub message: String,
    /// The nearest valid value, or what to do.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hint: Option<String>,
    /// Findings about definitions, where there are any.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub diagnostics: Diagnostics,
}

/// The whole body of an answer that is an error.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct FailureDocument {
    /// What went wrong.
    pub error: FailureBody,
}

/// The HTTP status of an error: that of its kind, unless HTTP has one for exactly this code.
pub fn http_status(kind: Kind, code: &str) -> StatusCode {
    match code {
        "bad_content_type" | "bad_grpc_message" | "not_json" => StatusCode::UNSUPPORTED_MEDIA_TYPE,
        "body_stalled" => StatusCode::REQUEST_TIMEOUT,
        "body_too_large" => StatusCode::PAYLOAD_TOO_LARGE,
        "disk_full" => StatusCode::INSUFFICIENT_STORAGE,
        "too_many_connections" | "too_many_requests" => StatusCode::SERVICE_UNAVAILABLE,
        "wrong_method" => StatusCode::METHOD_NOT_ALLOWED,
        _ => StatusCode::from_u16(kind.http_status()).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR),
    }
}

impl Failure {
    /// An error made here.
    pub fn new(kind: Kind, code: &'static str, message: impl Into<String>) -> Failure {
        Failure {
            status: http_status(kind, code),
            body: Box::new(FailureBody {
                kind: Cow::Borrowed(kind.name()),
                code: Cow::Borrowed(code),
                message: message.into(),
                hint: None,
                diagnostics: Vec::new(),
            }),
            retry_after: None,
        }
    }

    /// A wrong request.
    pub fn invalid(code: &'static str, message: impl Into<String>) -> Failure {
        Failure::new(Kind::Invalid, code, message)
    }

    /// What went wrong as a line of JSON, as the last of an answer that broke off.
    pub(crate) fn line(&self) -> bytes::Bytes {
        let document = FailureDocument { error: (*self.body).clone() };
        let mut line = serde_json::to_vec(&document).unwrap_or_default();
        line.push(b'\n');
        line.into()
    }

    /// With what to do.
    pub fn hint(mut self, hint: impl Into<String>) -> Failure {
        self.body.hint = Some(hint.into());
        self
    }

    /// With findings about definitions.
    pub fn diagnostics(mut self, diagnostics: Diagnostics) -> Failure {
        self.body.diagnostics = diagnostics;
        self
    }

    /// In how many seconds to ask again: none where asking again cannot help.
    pub(crate) fn retry_seconds(&self) -> Option<u64> {
        let after = match self.kind() {
            Kind::Exhausted | Kind::Unavailable => self.retry_after.unwrap_or_default(),
            _ => self.retry_after?,
        };
        // Sooner than it was said nobody is asked to come.
        Some((after.as_secs() + u64::from(after.subsec_nanos() > 0)).max(1))
    }

    /// Its kind.
    pub fn kind(&self) -> Kind {
        Kind::from_name(&self.body.kind).unwrap_or(Kind::Internal)
    }
}

impl<E: Explain> From<E> for Failure {
    fn from(error: E) -> Failure {
        let mut failure = Failure::new(error.kind(), error.code(), error.to_string());
        failure.body.hint = error.hint();
        failure.retry_after = error.retry_after();
        if error.kind() == Kind::Internal {
            tracing::error!(code = error.code(), %error, "internal error");
        }
        failure
    }
}

impl IntoResponse for Failure {
    fn into_response(self) -> Response {
        let document = FailureDocument { error: (*self.body).clone() };
        let body = serde_json::to_vec(&document).unwrap_or_default();
        let mut response = (self.status, body).into_response();
        let headers = response.headers_mut();
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
        if let Some(seconds) = self.retry_seconds() {
            headers.insert(header::RETRY_AFTER, seconds.into());
        }
        if self.status == StatusCode::UNAUTHORIZED {
            headers.insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
        }
        // Other wires say it in another form.
        response.extensions_mut().insert(self);
        response
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, thiserror::Error)]
    #[error("busy")]
    struct Busy(Option<Duration>);

    impl Explain for Busy {
        fn kind(&self) -> Kind {
            Kind::Exhausted
        }

        fn code(&self) -> &'static str {
            "live_store_busy"
        }

        fn retry_after(&self) -> Option<Duration> {
            self.0
        }
    }

    #[test]
    fn who_is_told_to_wait_waits_long_enough() {
        let busy = |millis| Failure::from(Busy(Some(Duration::from_millis(millis))));
        for (failure, seconds) in [
            (busy(0), Some("1")),
            (busy(10), Some("1")),
            (busy(1000), Some("1")),
            (busy(1001), Some("2")),
            (busy(5000), Some("5")),
            (Failure::from(Busy(None)), Some("1")),
            (Failure::new(Kind::Unavailable, "stopping", "stopping"), Some("1")),
            (Failure::invalid("bad_rows", "bad"), None),
        ] {
            let response = failure.into_response();
            let told = response.headers().get(header::RETRY_AFTER).map(|value| value.to_str().unwrap());
            assert_eq!(told, seconds);
        }
    }
}
