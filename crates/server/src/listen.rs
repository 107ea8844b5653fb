//! Accepting connections: who may listen where, the cap, TLS, and a stop that finishes what was accepted.

use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use futures::FutureExt as _;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::task::JoinSet;
use tokio_rustls::TlsAcceptor;
use tokio_util::sync::CancellationToken;

use crate::limits::Limits;
use crate::{Access, App, ServerError, connection, tls};

/// Where and how to listen.
#[derive(Debug, Clone)]
pub struct Listen {
    /// `host:port`; port 0 takes a free one.
    pub address: String,
    /// Whether requests must carry a token.
    pub token: bool,
    /// TLS from certificate files.
    pub tls: Option<TlsFiles>,
    /// Listen beyond loopback without token and TLS all the same.
    pub insecure: bool,
    /// Times, bytes and connections.
    pub limits: Limits,
}

impl Listen {
    /// The addresses meant, none of them one that may not be listened on as told. Nothing is bound.
    ///
    /// # Errors
    /// The address is no address, or others can reach it and a token or TLS is missing.
    pub async fn check(&self) -> Result<Vec<SocketAddr>, ServerError> {
        let bad = |source: io::Error| ServerError::Address { address: self.address.clone(), source };
        let mut addresses = tokio::net::lookup_host(&self.address).await.map_err(bad)?.peekable();
        let mut open = Vec::new();
        if addresses.peek().is_none() {
            return Err(bad(io::Error::new(io::ErrorKind::NotFound, "the name has no address")));
        }
        for address in addresses {
            let safe = address.ip().is_loopback() || (self.token && self.tls.is_some());
            if !safe && !self.insecure {
                return Err(ServerError::Exposed {
                    address: self.address.clone(),
                    token: self.token,
                    tls: self.tls.is_some(),
                });
            }
            open.push(address);
        }
        Ok(open)
    }
}

/// Files in PEM form.
#[derive(Debug, Clone)]
pub struct TlsFiles {
    /// The certificate, followed by those that vouch for it.
    pub certificate: PathBuf,
    /// Its private key.
    pub key: PathBuf,
}

/// A bound listener.
pub struct Server {
    listener: TcpListener,
    address: SocketAddr,
    tls: Option<TlsAcceptor>,
    certificate: Option<Vec<u8>>,
    limits: Arc<Limits>,
}

impl std::fmt::Debug for Server {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Server").field("address", &self.address).finish_non_exhaustive()
    }
}

impl Server {
    /// Binds the address.
    ///
    /// # Errors
    /// The address is no address, is taken, may not be listened on as told, or the TLS files are bad.
    pub async fn bind(listen: &Listen) -> Result<Server, ServerError> {
        let bad = |source: io::Error| ServerError::Address { address: listen.address.clone(), source };
        let open = listen.check().await?;
        let (tls, certificate) = listen.tls.as_ref().map(tls::acceptor).transpose()?.unzip();
        let listener = match TcpListener::bind(open.as_slice()).await {
            Ok(listener) => listener,
            Err(error) if error.kind() == io::ErrorKind::AddrInUse => {
                return Err(ServerError::AddressTaken { address: listen.address.clone() });
            }
            Err(error) => return Err(bad(error)),
        };
        let address = listener.local_addr().map_err(bad)?;
        Ok(Server { listener, address, tls, certificate, limits: Arc::new(listen.limits.clone()) })
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// The certificate it shows, in DER form, where it speaks TLS.
    pub fn certificate(&self) -> Option<&[u8]> {
        self.certificate.as_deref()
    }

    /// `http://host:port` or `https://host:port`.
    pub fn url(&self) -> String {
        let scheme = if self.tls.is_some() { "https" } else { "http" };
        format!("{scheme}://{}", self.address)
    }

    /// Serves until `stop`, then takes no more connections and returns when every accepted request has
    /// its answer, at most [`Limits::drain`] later.
    pub async fn serve(self, app: App, access: Access, stop: CancellationToken) {
        self.serve_router(app.guarded(access), stop).await;
    }

    /// As [`Server::serve`], for a router of the caller's own.
    pub async fn serve_router(self, app: Router, stop: CancellationToken) {
        let caps = Caps {
            connections: Arc::new(Semaphore::new(self.limits.connections)),
            requests: Arc::new(Semaphore::new(self.limits.connections)),
            refusals: Arc::new(Semaphore::new(64)),
        };
        let mut tasks = JoinSet::new();
        loop {
            let accepted = tokio::select! {
                biased;
                () = stop.cancelled() => break,
                Some(_) = tasks.join_next(), if !tasks.is_empty() => continue,
                accepted = self.listener.accept() => accepted,
            };
            match accepted {
                Ok((stream, _)) => self.accept(stream, &app, &caps, &stop, &mut tasks),
                Err(error) => self.pause(&error).await,
            }
        }
        // Connections the kernel has completed are accepted ones.
        while let Some(Ok((stream, _))) = self.listener.accept().now_or_never() {
            self.accept(stream, &app, &caps, &stop, &mut tasks);
        }
        let drain = self.limits.drain;
        drop(self.listener);
        let finish = async { while tasks.join_next().await.is_some() {} };
        if tokio::time::timeout(drain, finish).await.is_err() {
            tracing::warn!(seconds = drain.as_secs(), "stopped with requests unanswered");
        }
    }

    fn accept(
        &self,
        stream: TcpStream,
        app: &Router,
        caps: &Caps,
        stop: &CancellationToken,
        tasks: &mut JoinSet<()>,
    ) {
        let Ok(permit) = Arc::clone(&caps.connections).try_acquire_owned() else {
            if let Ok(permit) = Arc::clone(&caps.refusals).try_acquire_owned() {
                tasks.spawn(refuse(stream, self.tls.is_some(), self.limits.connections, permit));
            }
            return;
        };
        // A small answer must not wait for the acknowledgement of the one before.
        if let Err(error) = stream.set_nodelay(true) {
            tracing::debug!(%error, "no TCP_NODELAY");
        }
        let (app, stop, limits, tls) =
            (app.clone(), stop.clone(), Arc::clone(&self.limits), self.tls.clone());
        let requests = Arc::clone(&caps.requests);
        tasks.spawn(async move {
            let _permit = permit;
            match tls {
                None => connection::serve(stream, app, limits, requests, stop).await,
                Some(tls) => match tokio::time::timeout(limits.header, tls.accept(stream)).await {
                    Ok(Ok(stream)) => connection::serve(stream, app, limits, requests, stop).await,
                    Ok(Err(error)) => tracing::debug!(%error, "no TLS handshake"),
                    Err(_) => tracing::debug!("the TLS handshake took too long"),
                },
            }
        });
    }

    /// Accepting fails when file descriptors run out; the cure is to wait for some to be closed.
    async fn pause(&self, error: &io::Error) {
        let of_peer = matches!(
            error.kind(),
            io::ErrorKind::ConnectionAborted | io::ErrorKind::ConnectionReset | io::ErrorKind::Interrupted
        );
        if !of_peer {
            tracing::warn!(%error, "cannot accept connections");
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    }
}

/// How much there may be at once.
struct Caps {
    connections: Arc<Semaphore>,
    /// Requests over HTTP/2, of which a connection may have many.
    requests: Arc<Semaphore>,
    /// Connections that are told why they are closed.
    refusals: Arc<Semaphore>,
}

/// Tells a connection past the cap why it is closed.
async fn refuse(mut stream: TcpStream, tls: bool, cap: usize, permit: OwnedSemaphorePermit) {
    if !tls {
        let body = format!(
            "{{\"error\":{{\"kind\":\"exhausted\",\"code\":\"too_many_connections\",\
             \"message\":\"{cap} connections are open, which is the limit\",\
             \"hint\":\"use fewer connections and keep them open, or try again later\"}}}}"
        );
        let head = format!(
            "HTTP/1.1 503 Service Unavailable\r\ncontent-type: application/json\r\nretry-after: 1\r\n\
             connection: close\r\ncontent-length: {}\r\n\r\n",
            body.len()
        );
        let talk = async {
            stream.write_all(head.as_bytes()).await?;
            stream.write_all(body.as_bytes()).await?;
            stream.shutdown().await?;
            // Closing with unread bytes would reset the connection and lose the answer.
            let mut sink = [0; 4096];
            while stream.read(&mut sink).await? > 0 {}
            Ok::<(), io::Error>(())
        };
        if !matches!(tokio::time::timeout(Duration::from_secs(1), talk).await, Ok(Ok(()))) {
            tracing::debug!("a refused connection did not take its answer");
        }
    }
    drop(permit);
}
