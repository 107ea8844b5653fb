//! How a command speaks to a node: HTTP over TCP to one that runs, or the same requests to a node opened in
//! this process when none does.

use std::sync::Arc;

use asof_model::{Kind, Principal};
use asof_server::{Body, FailureDocument};
use bytes::Bytes;
use http::{Method, Request, Response, header};
use http_body_util::{BodyExt as _, Empty, Full};
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{DigitallySignedStruct, SignatureScheme};
use serde::Serialize;
use serde::de::DeserializeOwned;
use tokio::net::TcpStream;

use crate::node::Node;
use crate::problem::Problem;

/// A node to speak to.
#[derive(Debug, Clone)]
pub(crate) enum Client {
    /// Opened in this process for the length of a command.
    Inside(Arc<Node>),
    /// Another process.
    Remote(Arc<Remote>),
}

/// A node of another process.
#[derive(Debug)]
pub(crate) struct Remote {
    /// As given, for messages.
    pub url: String,
    host: String,
    port: u16,
    token: Option<String>,
    tls: Option<Arc<rustls::ClientConfig>>,
}

/// Which certificates are trusted.
#[derive(Debug, Clone)]
pub(crate) enum Trust {
    /// Those that the given file of authorities vouches for, else those of the system.
    Authorities(Option<std::path::PathBuf>),
    /// Exactly the one with this BLAKE3 hash.
    Certificate(String),
}

impl Remote {
    /// The node at a URL.
    ///
    /// # Errors
    /// The URL or the trusted certificates cannot be used.
    pub(crate) fn new(url: &str, token: Option<String>, trust: &Trust) -> Result<Remote, Problem> {
        let bad = || {
            Problem::invalid("bad_server_url", format!("`{url}` is not the URL of a server"))
                .hint("write it as http://HOST:PORT or https://HOST:PORT")
        };
        let uri: http::Uri = url.parse().map_err(|_| bad())?;
        let secure = match uri.scheme_str() {
            Some("http") => false,
            Some("https") => true,
            _ => return Err(bad()),
        };
        let host = uri.host().ok_or_else(bad)?.to_owned();
        if uri.path() != "/" && !uri.path().is_empty() {
            return Err(bad());
        }
        let authority = uri.authority().map(http::uri::Authority::as_str).unwrap_or_default();
        let after_host = authority.rsplit(']').next().unwrap_or_default();
        if after_host.contains(':') && uri.port_u16().is_none() {
            return Err(bad());
        }
        let port = uri.port_u16().unwrap_or(if secure { 443 } else { 2763 });
        let tls = if secure { Some(Arc::new(tls_config(trust)?)) } else { None };
        Ok(Remote { url: url.trim_end_matches('/').to_owned(), host, port, token, tls })
    }

    async fn send(&self, mut request: Request<Body>) -> Result<Response<Body>, Problem> {
        let unreachable = |error: &dyn std::fmt::Display| {
            Problem::new(
                Kind::Unavailable,
                "server_unreachable",
                format!("cannot reach the server `{}`: {error}", self.url),
            )
            .hint("is it running? `asof up` starts one")
        };
        let authority = if self.host.contains(':') && !self.host.starts_with('[') {
            format!("[{}]:{}", self.host, self.port)
        } else {
            format!("{}:{}", self.host, self.port)
        };
        let value = |text: &str| {
            http::HeaderValue::from_str(text).map_err(|_| {
                Problem::invalid(
                    "bad_token",
                    "the token of ASOF_TOKEN holds characters that no header can carry",
                )
            })
        };
        request.headers_mut().insert(header::HOST, value(&authority)?);
        if let Some(token) = &self.token {
            request.headers_mut().insert(header::AUTHORIZATION, value(&format!("Bearer {token}"))?);
        }
        let bare = self.host.trim_start_matches('[').trim_end_matches(']');
        let stream = TcpStream::connect((bare, self.port)).await.map_err(|error| unreachable(&error))?;
        stream.set_nodelay(true).map_err(|error| unreachable(&error))?;
        match &self.tls {
            None => talk(TokioIo::new(stream), request).await.map_err(|error| unreachable(&error)),
            Some(config) => {
                let name = ServerName::try_from(bare.to_owned()).map_err(|error| unreachable(&error))?;
                let connector = tokio_rustls::TlsConnector::from(Arc::clone(config));
                let stream = connector.connect(name, stream).await.map_err(|error| unreachable(&error))?;
                talk(TokioIo::new(stream), request).await.map_err(|error| unreachable(&error))
            }
        }
    }
}

/// Sends one request over a fresh connection; the connection lives in the body of the answer.
async fn talk<S>(io: TokioIo<S>, request: Request<Body>) -> Result<Response<Body>, hyper::Error>
where
    S: tokio::io::AsyncRead + tokio::io::AsyncWrite + Unpin + Send + 'static,
{
    let (mut sender, connection) = http1::handshake(io).await?;
    let mut driver = tokio::task::JoinSet::new();
    driver.spawn(async move {
        if let Err(error) = connection.await {
            tracing::debug!(%error, "the connection to the server ended");
        }
    });
    let response = sender.send_request(request).await?;
    Ok(response.map(|body| Driven { body, _driver: driver }.map_err(Into::into).boxed_unsync()))
}

/// A body that keeps the connection it comes from going.
struct Driven {
    body: hyper::body::Incoming,
    _driver: tokio::task::JoinSet<()>,
}

impl hyper::body::Body for Driven {
    type Data = Bytes;
    type Error = hyper::Error;

    fn poll_frame(
        mut self: std::pin::Pin<&mut Self>,
        cx: &mut std::task::Context<'_>,
    ) -> std::task::Poll<Option<Result<hyper::body::Frame<Bytes>, hyper::Error>>> {
        std::pin::Pin::new(&mut self.body).poll_frame(cx)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> hyper::body::SizeHint {
        self.body.size_hint()
    }
}

fn tls_config(trust: &Trust) -> Result<rustls::ClientConfig, Problem> {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let builder = rustls::ClientConfig::builder_with_provider(Arc::clone(&provider))
        .with_safe_default_protocol_versions()
        .map_err(|error| Problem::new(Kind::Internal, "internal", error.to_string()))?;
    match trust {
        Trust::Certificate(hash) => Ok(builder
            .dangerous()
            .with_custom_certificate_verifier(Arc::new(Exactly { hash: hash.clone(), provider }))
            .with_no_client_auth()),
        Trust::Authorities(file) => {
            use rustls::pki_types::pem::PemObject as _;
            let mut roots = rustls::RootCertStore::empty();
            match file {
                Some(file) => {
                    let bad = |reason: String| {
                        Problem::invalid(
                            "bad_tls_file",
                            format!(
                                "file of trusted authorities `{}` cannot be used: {reason}",
                                file.display()
                            ),
                        )
                    };
                    let found =
                        CertificateDer::pem_file_iter(file).map_err(|error| bad(error.to_string()))?;
                    for certificate in found {
                        let certificate = certificate.map_err(|error| bad(error.to_string()))?;
                        roots.add(certificate).map_err(|error| bad(error.to_string()))?;
                    }
                }
                None => {
                    let found = rustls_native_certs::load_native_certs();
                    roots.add_parsable_certificates(found.certs);
                }
            }
            Ok(builder.with_root_certificates(roots).with_no_client_auth())
        }
    }
}

/// Trusts the certificate that the node of this folder wrote down, whatever name it was made for.
#[derive(Debug)]
struct Exactly {
    hash: String,
    provider: Arc<rustls::crypto::CryptoProvider>,
}

impl ServerCertVerifier for Exactly {
    fn verify_server_cert(
        &self,
        certificate: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        if blake3::hash(certificate).to_hex().as_str() == self.hash {
            Ok(ServerCertVerified::assertion())
        } else {
            Err(rustls::Error::InvalidCertificate(rustls::CertificateError::ApplicationVerificationFailure))
        }
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let known = &self.provider.signature_verification_algorithms;
        rustls::crypto::verify_tls12_signature(message, certificate, signed, known)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let known = &self.provider.signature_verification_algorithms;
        rustls::crypto::verify_tls13_signature(message, certificate, signed, known)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider.signature_verification_algorithms.supported_schemes()
    }
}

/// No body.
pub(crate) fn nothing() -> Body {
    Empty::new().map_err(|never| match never {}).boxed_unsync()
}

/// A body of these bytes.
pub(crate) fn whole(bytes: impl Into<Bytes>) -> Body {
    Full::new(bytes.into()).map_err(|never| match never {}).boxed_unsync()
}

/// A path with a query: `/v1/things?a=b`, every part escaped.
pub(crate) fn path(path: &[&str], query: &[(&str, &str)]) -> String {
    let mut text = String::new();
    for part in path {
        text.push('/');
        escape(&mut text, part);
    }
    for (index, (name, value)) in query.iter().enumerate() {
        text.push(if index == 0 { '?' } else { '&' });
        escape(&mut text, name);
        text.push('=');
        escape(&mut text, value);
    }
    text
}

/// A path with the fields of `query` that are not null as its query.
pub(crate) fn path_with(parts: &[&str], query: &impl Serialize) -> String {
    let fields = match serde_json::to_value(query) {
        Ok(serde_json::Value::Object(fields)) => fields,
        _ => serde_json::Map::new(),
    };
    let text = |value: &serde_json::Value| match value {
        serde_json::Value::String(text) => text.clone(),
        other => other.to_string(),
    };
    let pairs: Vec<(String, String)> = fields
        .iter()
        .filter(|(_, value)| !value.is_null())
        .map(|(name, value)| (name.clone(), text(value)))
        .collect();
    let pairs: Vec<(&str, &str)> =
        pairs.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
    path(parts, &pairs)
}

/// A request with a body.
///
/// # Errors
/// No request can be made of these.
pub(crate) fn request(
    method: Method,
    path: &str,
    content_type: Option<&str>,
    body: Body,
) -> Result<Request<Body>, Problem> {
    let mut builder = Request::builder().method(method).uri(path);
    if let Some(content_type) = content_type {
        builder = builder.header(header::CONTENT_TYPE, content_type);
    }
    builder.body(body).map_err(|error| Problem::new(Kind::Internal, "internal", error.to_string()))
}

fn escape(text: &mut String, part: &str) {
    for byte in part.bytes() {
        if byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_' | b'~') {
            text.push(char::from(byte));
        } else {
            text.push_str(&format!("%{byte:02X}"));
        }
    }
}

impl Client {
    /// Sends a request and gives its answer as it is, if it is no error.
    ///
    /// # Errors
    /// What the node says, or that it cannot be reached.
    pub(crate) async fn send(
        &self,
        method: Method,
        path: &str,
        content_type: Option<&str>,
        body: Body,
    ) -> Result<Response<Body>, Problem> {
        self.ask(request(method, path, content_type, body)?).await
    }

    /// Whether requests stay in this process, so that what they name need not be sent.
    pub(crate) fn is_inside(&self) -> bool {
        matches!(self, Client::Inside(_))
    }

    /// Sends a request and gives its answer as it is, if it is no error.
    ///
    /// # Errors
    /// What the node says, or that it cannot be reached.
    pub(crate) async fn ask(&self, request: Request<Body>) -> Result<Response<Body>, Problem> {
        let response = match self {
            Client::Inside(node) => node.app().call(Principal::owner(), request).await,
            Client::Remote(remote) => remote.send(request).await?,
        };
        if response.status().is_success() {
            return Ok(response);
        }
        let status = response.status();
        let body = self.collect(response.into_body()).await?;
        match serde_json::from_slice::<FailureDocument>(&body) {
            Ok(document) => Err(Problem::said(document.error)),
            Err(_) => Err(Problem::new(
                Kind::Unavailable,
                "not_an_asof_server",
                format!("the server answered {status} and not as an Asof server does"),
            )),
        }
    }

    /// The whole of a body.
    ///
    /// # Errors
    /// It broke off.
    pub(crate) async fn collect(&self, body: Body) -> Result<Bytes, Problem> {
        body.collect().await.map(http_body_util::Collected::to_bytes).map_err(|error| broken(error.as_ref()))
    }

    /// Asks with GET and reads the JSON of the answer.
    ///
    /// # Errors
    /// What the node says.
    pub(crate) async fn get<T: DeserializeOwned>(&self, path: &str) -> Result<T, Problem> {
        let response = self.send(Method::GET, path, None, nothing()).await?;
        read(&self.collect(response.into_body()).await?)
    }

    /// Asks with POST, JSON both ways.
    ///
    /// # Errors
    /// What the node says.
    pub(crate) async fn post<T: DeserializeOwned>(
        &self,
        path: &str,
        body: &impl Serialize,
    ) -> Result<T, Problem> {
        let body = serde_json::to_vec(body)
            .map_err(|error| Problem::new(Kind::Internal, "internal", error.to_string()))?;
        let response = self.send(Method::POST, path, Some("application/json"), whole(body)).await?;
        read(&self.collect(response.into_body()).await?)
    }
}

/// A body that did not come to its end.
pub(crate) fn broken(error: &(dyn std::error::Error + Send + Sync + 'static)) -> Problem {
    Problem::new(Kind::Unavailable, "answer_broken", format!("the answer of the server broke off: {error}"))
}

fn read<T: DeserializeOwned>(body: &[u8]) -> Result<T, Problem> {
    serde_json::from_slice(body).map_err(|error| {
        Problem::new(
            Kind::Internal,
            "bad_answer",
            format!("the answer of the server is not what was expected: {error}"),
        )
        .hint("are this program and the server of the same version?")
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_are_escaped() {
        assert_eq!(path(&["v1", "search"], &[("text", "a b&c=ü")]), "/v1/search?text=a%20b%26c%3D%C3%BC");
    }

    #[test]
    fn urls_of_servers_are_read() {
        for url in ["http://127.0.0.1:2763", "http://[::1]:9/", "https://features.example.org"] {
            let trust = Trust::Certificate(String::new());
            Remote::new(url, None, &trust).unwrap();
        }
        for url in ["", "localhost:2763", "ftp://a", "http://", "http://a/b", "http://a:b"] {
            let trust = Trust::Authorities(None);
            assert_eq!(Remote::new(url, None, &trust).unwrap_err().body.code, "bad_server_url", "{url}");
        }
    }
}
