//! One connection: hyper speaks HTTP/1.1 on it, its own timer cuts it when idle, and [`Watched`] adds
//! what hyper has no timer for: a head that trickles in, and a peer that does not read.

use std::convert::Infallible;
use std::future::Future;
use std::io;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use bytes::Bytes;
use http::{HeaderValue, Request, Response, header};
use http_body_util::{BodyExt as _, Limited};
use hyper::body::{Body as HttpBody, Frame, Incoming, SizeHint};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::sync::mpsc;
use tokio::time::{Instant, Sleep};
use tokio_util::sync::CancellationToken;
use tower::ServiceExt as _;

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
struct Exchange {
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

/// Serves one connection until it ends, is cut, or `stop` has let it finish.
pub(crate) async fn serve<S>(stream: S, app: Router, limits: &Limits, stop: CancellationToken)
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let phase = Arc::new(Phase::default());
    let io = TokioIo::new(Watched::new(stream, Arc::clone(&phase), limits));
    let (stall, rate) = (limits.stall, limits.body_rate);
    let (to_rest, rest) = mpsc::unbounded_channel();
    let stopping = stop.clone();
    let service = service_fn(move |request: Request<Incoming>| {
        let exchange = phase.serve();
        let (app, rest, stopping) = (app.clone(), to_rest.clone(), stopping.clone());
        async move {
            let asks = request.headers().contains_key(header::EXPECT);
            let of_body = Arc::clone(&exchange);
            let request = request.map(|body| {
                Body::new(Moving::new(body, stall, rate, Rest { to: rest, asks, exchange: of_body }))
            });
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
        // A request may have been accepted by the kernel and not yet been read here.
        match tokio::time::timeout(limits.linger, connection.as_mut()).await {
            Ok(ended) => ended,
            Err(_) => {
                connection.as_mut().graceful_shutdown();
                connection.await
            }
        }
    };
    let ended = tokio::select! {
        ended = ended => ended,
        never = read_rests(rest, limits) => match never {},
    };
    if let Err(error) = ended {
        tracing::debug!(%error, "connection ended");
    }
}

/// Reads what is left of bodies whose requests were answered before they had come, and throws it away, within
/// limits: a connection that is closed over bytes that nobody read is reset, and its peer may lose the answer.
async fn read_rests(mut rests: mpsc::UnboundedReceiver<Left>, limits: &Limits) -> Infallible {
    while let Some((rest, _exchange)) = rests.recv().await {
        let all = Limited::new(rest, limits.body_bytes);
        let mut all = pin!(all);
        let read = async { while let Some(Ok(_)) = all.frame().await {} };
        // What has not come by then is the peer's loss.
        let _ = tokio::time::timeout(limits.rest, read).await;
    }
    std::future::pending().await
}

/// What is left of a body, and the exchange it belongs to.
type Left = (Incoming, Arc<Exchange>);

/// Where the rest of a body goes if it is not read to its end.
struct Rest {
    to: mpsc::UnboundedSender<Left>,
    /// Its sender waits to be asked for it, and was not: the answer tells it that it need not send it.
    asks: bool,
    exchange: Arc<Exchange>,
}

/// A stream that ends when a head takes too long or the peer does not take what is written.
struct Watched<S> {
    stream: S,
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

/// A request's body that fails when it stands still, or comes in drops that would hold what it takes up
/// for ever.
struct Moving {
    /// None when it has failed.
    body: Option<Incoming>,
    rest: Rest,
    stall: Duration,
    timer: Option<Pin<Box<Sleep>>>,
    rate: u64,
    /// Since when the sender is waited for; the time that the reader takes is not the sender's.
    waiting: Option<Instant>,
    waited: Duration,
    /// Bytes that came in that time.
    came: u64,
}

impl Moving {
    fn new(body: Incoming, stall: Duration, rate: u64, rest: Rest) -> Moving {
        Moving {
            body: Some(body),
            rest,
            stall,
            timer: None,
            rate,
            waiting: None,
            waited: Duration::ZERO,
            came: 0,
        }
    }

    /// Whether what came is too little for the time that it was waited for.
    fn trickles(&mut self, bytes: usize) -> bool {
        self.came += bytes as u64;
        self.waited += self.waiting.take().map(|since| since.elapsed()).unwrap_or_default();
        if self.waited < self.stall {
            return false;
        }
        let least = self.waited.as_secs_f64() * self.rate as f64;
        let too_little = (self.came as f64) < least;
        (self.waited, self.came) = (Duration::ZERO, 0);
        too_little
    }
}

/// The sender of a body stopped sending, or sends next to nothing.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Stalled {
    #[error("the body of the request stood still for {seconds} s", seconds = .0.as_secs())]
    Still(Duration),
    #[error("the body of the request comes at less than {0} bytes a second")]
    Trickles(u64),
}

impl HttpBody for Moving {
    type Data = Bytes;
    type Error = axum::BoxError;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, axum::BoxError>>> {
        let this = self.get_mut();
        let Some(body) = &mut this.body else { return Poll::Ready(None) };
        this.rest.asks = false;
        if let Poll::Ready(frame) = Pin::new(body).poll_frame(cx) {
            this.timer = None;
            match &frame {
                Some(Ok(part)) if this.trickles(part.data_ref().map_or(0, Bytes::len)) => {
                    this.body = None;
                    return Poll::Ready(Some(Err(Stalled::Trickles(this.rate).into())));
                }
                Some(Err(_)) => this.body = None,
                Some(Ok(_)) | None => {}
            }
            return Poll::Ready(frame.map(|frame| frame.map_err(Into::into)));
        }
        let stall = this.stall;
        this.waiting.get_or_insert_with(Instant::now);
        let timer = this.timer.get_or_insert_with(|| Box::pin(tokio::time::sleep(stall)));
        ready!(timer.as_mut().poll(cx));
        this.body = None;
        Poll::Ready(Some(Err(Stalled::Still(stall).into())))
    }

    fn is_end_stream(&self) -> bool {
        self.body.as_ref().is_none_or(Incoming::is_end_stream)
    }

    fn size_hint(&self) -> SizeHint {
        self.body.as_ref().map(Incoming::size_hint).unwrap_or_default()
    }
}

impl Drop for Moving {
    fn drop(&mut self) {
        let body = self.body.take().filter(|body| !body.is_end_stream() && !self.rest.asks);
        if let Some(body) = body {
            // The connection that would read it may have ended.
            let _ = self.rest.to.send((body, Arc::clone(&self.rest.exchange)));
        }
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

/// Reads a whole body of at most `limit` bytes.
///
/// # Errors
/// [`Unread`]: too large, stood still, or broken off.
pub(crate) async fn read_whole(body: Body, limit: usize) -> Result<Bytes, Unread> {
    if body.size_hint().lower() > limit as u64 {
        return Err(Unread::TooLarge);
    }
    match Limited::new(body, limit).collect().await {
        Ok(collected) => Ok(collected.to_bytes()),
        Err(error) if error.is::<http_body_util::LengthLimitError>() => Err(Unread::TooLarge),
        Err(error) => Err(Unread::from_error(error.as_ref())),
    }
}

/// Why a body could not be read.
#[derive(Debug)]
pub(crate) enum Unread {
    /// More bytes than allowed.
    TooLarge,
    /// It stood still for too long.
    Stalled,
    /// The connection broke or the framing is wrong.
    Broken,
}

impl Unread {
    /// What an error of a body's stream means.
    pub(crate) fn from_error(error: &(dyn std::error::Error + 'static)) -> Unread {
        let mut next = Some(error);
        while let Some(error) = next {
            if error.is::<Stalled>() {
                return Unread::Stalled;
            }
            next = error.source();
        }
        Unread::Broken
    }
}
