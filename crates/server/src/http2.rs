//! One connection over HTTP/2: hyper speaks it, and [`Streams`] adds what hyper has no timers for: a connection without
//! requests is told to end, and a peer that does not take an answer loses that answer, not its others.

use std::convert::Infallible;
use std::future::Future;
use std::pin::{Pin, pin};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};
use std::time::Duration;

use asof_model::Kind;
use axum::Router;
use axum::body::Body;
use axum::response::IntoResponse as _;
use bytes::Bytes;
use http::{Request, Response};
use hyper::body::{Body as HttpBody, Frame, Incoming, SizeHint};
use hyper::rt::{Executor, Read, Write};
use hyper::server::conn::http2;
use hyper::service::service_fn;
use hyper_util::rt::TokioTimer;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::{Instant, Sleep};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tower::ServiceExt as _;

use crate::body::Moving;
use crate::error::Failure;
use crate::grpc::Wire;
use crate::limits::Limits;

/// Requests that a connection may have at once; its peer keeps others back.
const AT_ONCE: u32 = 128;
/// Bytes of one body, and of all bodies of a connection, that may come before they are read.
const AHEAD: u32 = 256 << 10;
const ALL_AHEAD: u32 = 1 << 20;
/// Bytes of an answer that are handed over at once, each piece within [`Limits::stall`], and those that wait to be sent.
const PIECE: usize = 64 << 10;

/// Serves a connection until it ends, is quiet for too long, or `stop` has let it finish.
pub(crate) async fn serve<I>(
    io: I,
    app: Router,
    limits: &Arc<Limits>,
    requests: Arc<Semaphore>,
    stop: CancellationToken,
) -> hyper::Result<()>
where
    I: Read + Write + Unpin + Send + 'static,
{
    let streams = Streams::new(limits.stall);
    let of_requests = Arc::clone(limits);
    let service = service_fn(move |request: Request<Incoming>| {
        let (wire, app) = (Wire::of(&request), app.clone());
        let permit = Arc::clone(&requests).try_acquire_owned();
        let cap = of_requests.connections;
        let request = request.map(|body| Body::new(Moving::new(body, &of_requests, None)));
        async move {
            let Ok(permit) = permit else {
                let message = format!("{cap} requests are being answered, which is the limit");
                let failure =
                    Failure::new(Kind::Exhausted, "too_many_requests", message).hint("send it again later");
                return Ok(wire.told(failure.into_response()).map(|body| Pieces::new(body, None)));
            };
            let response = match app.oneshot(request).await {
                Ok(response) => response,
                Err(never) => match never {},
            };
            Ok::<Response<Pieces>, Infallible>(response.map(|body| Pieces::new(body, Some(permit))))
        }
    });
    let mut builder = http2::Builder::new(streams.clone());
    builder
        .timer(TokioTimer::new())
        .keep_alive_interval(limits.stall)
        .keep_alive_timeout(limits.header)
        .max_concurrent_streams(AT_ONCE)
        .max_header_list_size(u32::try_from(limits.header_bytes).unwrap_or(u32::MAX))
        .initial_stream_window_size(AHEAD)
        .initial_connection_window_size(ALL_AHEAD)
        .max_send_buf_size(PIECE);
    let ended = {
        let mut connection = pin!(builder.serve_connection(io, service));
        tokio::select! {
            ended = connection.as_mut() => ended,
            () = asked_to_end(&streams, limits, &stop) => {
                // Its peer is told, and what it had sent by then is answered.
                connection.as_mut().graceful_shutdown();
                tokio::select! {
                    ended = connection => ended,
                    () = streams.quiet(limits.stall) => Ok(()),
                }
            }
        }
    };
    streams.tasks.close();
    streams.tasks.wait().await;
    ended
}

async fn asked_to_end(streams: &Streams, limits: &Limits, stop: &CancellationToken) {
    let lingered = async {
        stop.cancelled().await;
        // A request may have been accepted by the kernel and not yet been read here.
        tokio::time::sleep(limits.linger).await;
    };
    tokio::select! {
        () = lingered => {}
        () = streams.quiet(limits.idle) => {}
    }
}

/// The requests of one connection, each answered in a task of its own.
#[derive(Debug, Clone)]
struct Streams {
    tasks: TaskTracker,
    stall: Duration,
    open: Arc<Mutex<Open>>,
}

#[derive(Debug)]
struct Open {
    count: usize,
    /// When it last became what it is.
    since: Instant,
}

impl Streams {
    fn new(stall: Duration) -> Streams {
        let open = Open { count: 0, since: Instant::now() };
        Streams { tasks: TaskTracker::new(), stall, open: Arc::new(Mutex::new(open)) }
    }

    fn count(&self, change: impl FnOnce(usize) -> usize) {
        let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        *open = Open { count: change(open.count), since: Instant::now() };
    }

    /// Returns when there has been no request for so long, counted from now on.
    async fn quiet(&self, time: Duration) {
        let began = Instant::now();
        loop {
            let until = {
                let open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
                let since = if open.count == 0 { open.since.max(began) } else { Instant::now() };
                since + time
            };
            if until <= Instant::now() {
                return;
            }
            tokio::time::sleep_until(until).await;
        }
    }
}

impl<F> Executor<F> for Streams
where
    F: Future<Output = ()> + Send + 'static,
{
    fn execute(&self, run: F) {
        self.count(|count| count + 1);
        let stream = Stream { run: Box::pin(run), handed: Arc::default(), stalled: None, of: self.clone() };
        self.tasks.spawn(stream);
    }
}

tokio::task_local! {
    /// What the stream that is being polled handed over of its answer.
    static HANDED: Arc<Handed>;
}

/// How far an answer was handed over.
#[derive(Debug, Default)]
struct Handed {
    pieces: AtomicU64,
    /// A piece was handed over and no other asked for: the peer is waited for, not the answer.
    waits: AtomicBool,
}

/// One request from its head to the end of its answer. Ended before that, it tells its peer so.
struct Stream<F> {
    run: Pin<Box<F>>,
    handed: Arc<Handed>,
    /// Until when the peer must have taken a piece, and how many were handed over with it.
    stalled: Option<(u64, Pin<Box<Sleep>>)>,
    of: Streams,
}

impl<F: Future<Output = ()>> Future for Stream<F> {
    type Output = ();

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        let this = self.get_mut();
        let run = &mut this.run;
        if HANDED.sync_scope(Arc::clone(&this.handed), || run.as_mut().poll(cx)).is_ready() {
            return Poll::Ready(());
        }
        if !this.handed.waits.load(Ordering::Relaxed) {
            this.stalled = None;
            return Poll::Pending;
        }
        let pieces = this.handed.pieces.load(Ordering::Relaxed);
        this.stalled.take_if(|(before, _)| *before != pieces);
        let stall = this.of.stall;
        let (_, timer) = this.stalled.get_or_insert_with(|| (pieces, Box::pin(tokio::time::sleep(stall))));
        if timer.as_mut().poll(cx).is_ready() {
            tracing::debug!("a peer does not take its answer");
            return Poll::Ready(());
        }
        Poll::Pending
    }
}

impl<F> Drop for Stream<F> {
    fn drop(&mut self) {
        self.of.count(|count| count.saturating_sub(1));
    }
}

/// An answer's body in pieces, so that a slow reader is told from one that does not read.
struct Pieces {
    body: Body,
    rest: Bytes,
    _permit: Option<OwnedSemaphorePermit>,
}

impl Pieces {
    fn new(body: Body, permit: Option<OwnedSemaphorePermit>) -> Pieces {
        Pieces { body, rest: Bytes::new(), _permit: permit }
    }
}

impl HttpBody for Pieces {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        let this = self.get_mut();
        let frame = match this.rest.is_empty() {
            true => Pin::new(&mut this.body).poll_frame(cx),
            false => Poll::Ready(Some(Ok(Frame::data(std::mem::take(&mut this.rest))))),
        };
        // Outside a stream nobody asks.
        let _ = HANDED.try_with(|handed| {
            handed.waits.store(frame.is_ready(), Ordering::Relaxed);
            handed.pieces.fetch_add(u64::from(frame.is_ready()), Ordering::Relaxed);
        });
        frame.map_ok(|frame| match frame.into_data() {
            Ok(mut data) => {
                this.rest = data.split_off(data.len().min(PIECE));
                Frame::data(data)
            }
            Err(frame) => frame,
        })
    }

    fn is_end_stream(&self) -> bool {
        self.rest.is_empty() && self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        let mut hint = self.body.size_hint();
        let rest = self.rest.len() as u64;
        if let Some(upper) = hint.upper() {
            hint.set_upper(upper + rest);
        }
        hint.set_lower(hint.lower() + rest);
        hint
    }
}
