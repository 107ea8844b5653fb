//! One connection: how it begins tells whether it is HTTP/2, which has a file of its own, or HTTP/1.1. That is spoken by
//! hyper, whose own timer cuts it when idle, and [`Watched`] adds what hyper has no timer for: a head that trickles in,
//! and a peer that does not read.

use std::convert::Infallible;
use std::future::Future;
use std::io;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use bytes::{BufMut as _, Bytes, BytesMut};
use http::{HeaderValue, Request, Response, header};
use hyper::body::{Body as HttpBody, Frame, Incoming, SizeHint};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, ReadBuf};
use tokio::sync::{Semaphore, mpsc};
use tokio::time::{Instant, Sleep};
use tokio_util::sync::CancellationToken;
use tower::ServiceExt as _;

use crate::body::{Moving, Rest, read_rests};
use crate::http2;
use crate::limits::Limits;

/// Where a connection stands: in the lowest two bits, and how many requests came before.
#[derive(Debug, Default)]
struct Phase(AtomicU64);

impl Phase {
    /// No byte of the next request has come.
    const WAITING: u64 = 0;
    /// A head is coming in.
    const HEAD: u64 = 1;
    /// A request was handed to the router, and its answer is not finished or its body has not come.
    const SERVING: u64 = 2;
    const PHASES: u64 = 4;

    fn is(&self, phase: u64) -> bool {
        self.0.load(Ordering::Relaxed) % Self::PHASES == phase
    }

    /// The head of a request begins to come in.
    fn head(&self) {
        let requests = self.0.load(Ordering::Relaxed) / Self::PHASES;
        self.0.store(requests * Self::PHASES + Self::HEAD, Ordering::Relaxed);
    }

    /// From here on requests come beside one another, and none has a phase.
    fn share(&self) {
        self.0.store(Self::SERVING, Ordering::Relaxed);
    }

    /// Hands a request to the router.
    fn serve(self: &Arc<Phase>) -> Arc<Exchange> {
        let request = self.0.load(Ordering::Relaxed) / Self::PHASES + 1;
        let serving = request * Self::PHASES + Self::SERVING;
        self.0.store(serving, Ordering::Relaxed);
        Arc::new(Exchange { phase: Arc::clone(self), serving })
    }
}

/// A request and its answer; when both are gone the connection waits for its next request.
#[derive(Debug)]
pub(crate) struct Exchange {
    phase: Arc<Phase>,
    serving: u64,
}

impl Drop for Exchange {
    fn drop(&mut self) {
        // The next request may be there already.
        let waiting = self.serving - Phase::SERVING + Phase::WAITING;
        let order = Ordering::Relaxed;
        let _ = self.phase.0.compare_exchange(self.serving, waiting, order, order);
    }
}

/// What every connection over HTTP/2 begins with, and none over HTTP/1.1.
const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// Serves one connection until it ends, is cut, or `stop` has let it finish. Requests that share a connection, as
/// those over HTTP/2 may, each take one of `requests`.
pub(crate) async fn serve<S>(
    stream: S,
    app: Router,
    limits: Arc<Limits>,
    requests: Arc<Semaphore>,
    stop: CancellationToken,
) where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let phase = Arc::new(Phase::default());
    let mut io = Watched::new(stream, Arc::clone(&phase), &limits);
    let lingered = async {
        stop.cancelled().await;
        // A request may have been accepted by the kernel and not yet been read here.
        tokio::time::sleep(limits.linger).await;
    };
    let begun = tokio::select! {
        begun = begins_as_http2(&mut io) => begun,
        () = lingered => return,
    };
    let ended = match begun {
        Ok(true) => {
            phase.share();
            http2::serve(TokioIo::new(io), app, &limits, requests, stop)
                .await
                .map_err(|error| error.to_string())
        }
        Ok(false) => serve_one_by_one(TokioIo::new(io), phase, app, limits, stop)
            .await
            .map_err(|error| error.to_string()),
        Err(error) => Err(error.to_string()),
    };
    if let Err(error) = ended {
        tracing::debug!(%error, "connection ended");
    }
}

/// Whether a connection begins as one over HTTP/2; what was read to tell is read again.
async fn begins_as_http2<S: AsyncRead + Unpin>(io: &mut Watched<S>) -> io::Result<bool> {
    let mut begun = BytesMut::with_capacity(PREFACE.len());
    let mut more = true;
    while more && begun.len() < PREFACE.len() && PREFACE.starts_with(&begun) {
        let left = PREFACE.len() - begun.len();
        more = io.read_buf(&mut (&mut begun).limit(left)).await? > 0;
    }
    let http2 = begun == PREFACE;
    io.begun = begun.freeze();
    Ok(http2)
}

/// Serves a connection over HTTP/1.1.
async fn serve_one_by_one<S>(
    io: TokioIo<Watched<S>>,
    phase: Arc<Phase>,
    app: Router,
    limits: Arc<Limits>,
    stop: CancellationToken,
) -> hyper::Result<()>
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let (to_rest, rest) = mpsc::unbounded_channel();
    let stopping = stop.clone();
    let of_requests = Arc::clone(&limits);
    let service = service_fn(move |request: Request<Incoming>| {
        let exchange = phase.serve();
        let asks = request.headers().contains_key(header::EXPECT);
        let rest = Rest { to: to_rest.clone(), asks, exchange: Arc::clone(&exchange) };
        let request = request.map(|body| Body::new(Moving::new(body, &of_requests, Some(rest))));
        let (app, stopping) = (app.clone(), stopping.clone());
        async move {
            let mut response = match app.oneshot(request).await {
                Ok(response) => response,
                Err(never) => match never {},
            };
            if stopping.is_cancelled() {
                response.headers_mut().insert(header::CONNECTION, HeaderValue::from_static("close"));
            }
            Ok::<Response<Answer>, Infallible>(response.map(|body| Answer { body, _exchange: exchange }))
        }
    });
    let mut builder = http1::Builder::new();
    builder
        .timer(TokioTimer::new())
        .header_read_timeout(limits.idle)
        .max_buf_size(limits.header_bytes.max(8 << 10));
    let mut connection = pin!(builder.serve_connection(io, service));
    let ended = async {
        tokio::select! {
            ended = connection.as_mut() => return ended,
            () = stop.cancelled() => {}
        }
        // As above.
        match tokio::time::timeout(limits.linger, connection.as_mut()).await {
            Ok(ended) => ended,
            Err(_) => {
                connection.as_mut().graceful_shutdown();
                connection.await
            }
        }
    };
    tokio::select! {
        ended = ended => ended,
        never = read_rests(rest, &limits) => match never {},
    }
}

/// A stream that ends when a head takes too long or the peer does not take what is written.
pub(crate) struct Watched<S> {
    stream: S,
    /// The first bytes, which were read to tell what is spoken, and are to be read again.
    begun: Bytes,
    phase: Arc<Phase>,
    header: Duration,
    head_by: Option<Instant>,
    head_timer: Option<Pin<Box<Sleep>>>,
    stall: Duration,
    stalled: Option<Pin<Box<Sleep>>>,
    /// No byte has come at all: hyper's timer starts only with the first read of a head.
    fresh_until: Option<Instant>,
}

impl<S> Watched<S> {
    fn new(stream: S, phase: Arc<Phase>, limits: &Limits) -> Watched<S> {
        Watched {
            stream,
            begun: Bytes::new(),
            phase,
            header: limits.header,
            head_by: None,
            head_timer: None,
            stall: limits.stall,
            stalled: None,
            fresh_until: Some(Instant::now() + limits.idle),
        }
    }

    /// The instant by which the next byte must have come, if any.
    fn deadline(&self) -> Option<Instant> {
        if self.phase.is(Phase::HEAD) { self.head_by } else { self.fresh_until }
    }

    fn written<T>(&mut self, cx: &mut Context<'_>, result: Poll<io::Result<T>>) -> Poll<io::Result<T>> {
        if result.is_ready() {
            self.stalled = None;
            return result;
        }
        let stall = self.stall;
        let timer = self.stalled.get_or_insert_with(|| Box::pin(tokio::time::sleep(stall)));
        match timer.as_mut().poll(cx) {
            Poll::Ready(()) => Poll::Ready(Err(io::Error::new(
                io::ErrorKind::TimedOut,
                "the peer does not take what is written",
            ))),
            Poll::Pending => Poll::Pending,
        }
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Watched<S> {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        if !this.begun.is_empty() {
            let again = this.begun.split_to(this.begun.len().min(buf.remaining()));
            buf.put_slice(&again);
            return Poll::Ready(Ok(()));
        }
        let late = || io::Error::new(io::ErrorKind::TimedOut, "the head of the request took too long");
        let before = buf.filled().len();
        let result = Pin::new(&mut this.stream).poll_read(cx, buf);
        match &result {
            Poll::Ready(Ok(())) if buf.filled().len() > before => {
                this.fresh_until = None;
                if this.phase.is(Phase::WAITING) {
                    this.phase.head();
                    this.head_by = Some(Instant::now() + this.header);
                } else if this.phase.is(Phase::HEAD) && this.head_by.is_some_and(|by| Instant::now() >= by) {
                    return Poll::Ready(Err(late()));
                }
            }
            Poll::Ready(_) => {}
            Poll::Pending => {
                if let Some(deadline) = this.deadline() {
                    let timer =
                        this.head_timer.get_or_insert_with(|| Box::pin(tokio::time::sleep_until(deadline)));
                    if timer.deadline() != deadline {
                        timer.as_mut().reset(deadline);
                    }
                    if timer.as_mut().poll(cx).is_ready() {
                        return Poll::Ready(Err(late()));
                    }
                }
            }
        }
        result
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Watched<S> {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        let result = Pin::new(&mut this.stream).poll_write(cx, buf);
        this.written(cx, result)
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        let result = Pin::new(&mut this.stream).poll_flush(cx);
        this.written(cx, result)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        let result = Pin::new(&mut this.stream).poll_shutdown(cx);
        this.written(cx, result)
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        let result = Pin::new(&mut this.stream).poll_write_vectored(cx, bufs);
        this.written(cx, result)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }
}

/// An answer's body.
struct Answer {
    body: Body,
    _exchange: Arc<Exchange>,
}

impl HttpBody for Answer {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        Pin::new(&mut self.get_mut().body).poll_frame(cx)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}
