//! A server on a free port, and a client that speaks bytes.

use std::net::SocketAddr;
use std::time::Duration;

use asof_server::{Limits, Listen, Server};
use axum::Router;
use axum::extract::Request;
use axum::http::StatusCode;
use axum::routing::{get, post};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

pub(crate) const SOON: Duration = Duration::from_secs(20);

/// Limits that are met soon.
pub(crate) fn short() -> Limits {
    Limits {
        idle: Duration::from_millis(400),
        header: Duration::from_millis(300),
        stall: Duration::from_millis(300),
        ..Limits::default()
    }
}

pub(crate) struct Running {
    pub(crate) address: SocketAddr,
    pub(crate) stop: CancellationToken,
    pub(crate) task: JoinHandle<()>,
}

pub(crate) fn listen(limits: Limits) -> Listen {
    Listen { address: "127.0.0.1:0".to_owned(), token: false, tls: None, insecure: false, limits }
}

pub(crate) async fn start(listen: Listen) -> Running {
    let server = Server::bind(&listen).await.unwrap();
    let address = server.address();
    let stop = CancellationToken::new();
    #[expect(clippy::disallowed_methods, reason = "the test owns the task and awaits it")]
    let task = tokio::spawn(server.serve_router(app(), stop.clone()));
    Running { address, stop, task }
}

/// Answers `/quick` at once, `/slow` after half a second, `/large` and `/some` with as many bytes, `/count` with the bytes of the body, `/refused`
/// without reading it.
fn app() -> Router {
    Router::new()
        .route("/quick", get(|| async { "ok" }))
        .route(
            "/slow",
            get(|| async {
                tokio::time::sleep(Duration::from_millis(500)).await;
                "slow"
            }),
        )
        .route("/refused", post(|| async { StatusCode::TOO_MANY_REQUESTS }))
        .route("/large", get(|| async { vec![b'x'; 64 << 20] }))
        .route("/some", get(|| async { vec![b'x'; 2 << 20] }))
        .route(
            "/count",
            post(|request: Request| async {
                match axum::body::to_bytes(request.into_body(), usize::MAX).await {
                    Ok(bytes) => bytes.len().to_string(),
                    Err(error) => error.to_string(),
                }
            }),
        )
}

pub(crate) async fn connect(address: SocketAddr) -> TcpStream {
    TcpStream::connect(address).await.unwrap()
}

pub(crate) async fn send(stream: &mut (impl AsyncWriteExt + Unpin), text: &str) {
    stream.write_all(text.as_bytes()).await.unwrap();
    stream.flush().await.unwrap();
}

/// Reads one answer with a content length: its first line and its body.
pub(crate) async fn answer(stream: &mut (impl AsyncRead + Unpin)) -> (String, String) {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        let byte = stream.read_u8().await.expect("the connection ended within a head");
        head.push(byte);
    }
    let head = String::from_utf8(head).unwrap();
    let length: usize = head
        .lines()
        .find_map(|line| line.to_ascii_lowercase().strip_prefix("content-length: ").map(str::to_owned))
        .map_or(0, |length| length.trim().parse().unwrap());
    let mut body = vec![0; length];
    stream.read_exact(&mut body).await.unwrap();
    (head.lines().next().unwrap().to_owned(), String::from_utf8(body).unwrap())
}

/// Waits until the peer closes; what came before is dropped.
pub(crate) async fn closed(stream: &mut TcpStream) {
    let mut sink = [0; 1024];
    loop {
        match stream.read(&mut sink).await {
            Ok(0) | Err(_) => return,
            Ok(_) => {}
        }
    }
}

pub(crate) const QUICK: &str = "GET /quick HTTP/1.1\r\nhost: localhost\r\n\r\n";
