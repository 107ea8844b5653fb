//! The floor of the online benchmark: a bare axum handler that returns the bytes of a file.
//!
//! `floor ADDRESS FILE` answers `POST /v1/features` with the file's content and `GET /health` with nothing.
//! It parses no body and reads no store: what it takes is what HTTP alone costs on the machine.

use std::error::Error;
use std::net::SocketAddr;

use axum::Router;
use axum::body::Bytes;
use axum::http::header::CONTENT_TYPE;
use axum::routing::{get, post};
use hyper_util::rt::{TokioExecutor, TokioIo};
use hyper_util::server::conn::auto::Builder;
use hyper_util::service::TowerToHyperService;
use tokio::net::TcpListener;
use tokio::task::JoinSet;

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let mut arguments = std::env::args().skip(1);
    let (Some(address), Some(file)) = (arguments.next(), arguments.next()) else {
        return Err("usage: floor ADDRESS FILE".into());
    };
    let answer = Bytes::from(std::fs::read(file)?);
    let handler = move |_: Bytes| {
        let answer = answer.clone();
        async move { ([(CONTENT_TYPE, "application/json")], answer) }
    };
    let router = Router::new().route("/v1/features", post(handler)).route("/health", get(|| async {}));
    let listener = TcpListener::bind(address.parse::<SocketAddr>()?).await?;
    let mut connections = JoinSet::new();
    loop {
        let (stream, _) = listener.accept().await?;
        stream.set_nodelay(true)?;
        let service = TowerToHyperService::new(router.clone());
        connections.spawn(async move {
            // A connection that breaks is the load generator's to report.
            let _ = Builder::new(TokioExecutor::new()).serve_connection(TokioIo::new(stream), service).await;
        });
        while connections.try_join_next().is_some() {}
    }
}
