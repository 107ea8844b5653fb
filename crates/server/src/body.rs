//! Bodies of requests: read within limits, and what is left of one that nobody reads.

use std::convert::Infallible;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use axum::body::Body;
use bytes::Bytes;
use http_body_util::{BodyExt as _, Limited};
use hyper::body::{Body as HttpBody, Frame, Incoming, SizeHint};
use tokio::sync::mpsc;
use tokio::time::{Instant, Sleep};

use crate::connection::Exchange;
use crate::limits::Limits;

/// A request's body that fails when it stands still, or comes in drops that would hold what it takes up
/// for ever.
pub(crate) struct Moving {
    /// None when it has failed.
    body: Option<Incoming>,
    /// Where what is not read of it goes; by HTTP/2 nowhere, where its sender is told to send no more.
    rest: Option<Rest>,
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
    /// A body within these limits.
    pub(crate) fn new(body: Incoming, limits: &Limits, rest: Option<Rest>) -> Moving {
        Moving {
            body: Some(body),
            rest,
            stall: limits.stall,
            timer: None,
            rate: limits.body_rate,
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
        if let Some(rest) = &mut this.rest {
            rest.asks = false;
        }
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
        let Some(rest) = self.rest.take().filter(|rest| !rest.asks) else { return };
        if let Some(body) = self.body.take().filter(|body| !body.is_end_stream()) {
            // The connection that would read it may have ended.
            let _ = rest.to.send((body, rest.exchange));
        }
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

/// Reads what is left of bodies whose requests were answered before they had come, and throws it away, within
/// limits: a connection that is closed over bytes that nobody read is reset, and its peer may lose the answer.
pub(crate) async fn read_rests(mut rests: mpsc::UnboundedReceiver<Left>, limits: &Limits) -> Infallible {
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
pub(crate) type Left = (Incoming, Arc<Exchange>);

/// Where the rest of a body goes if it is not read to its end.
pub(crate) struct Rest {
    pub(crate) to: mpsc::UnboundedSender<Left>,
    /// Its sender waits to be asked for it, and was not: the answer tells it that it need not send it.
    pub(crate) asks: bool,
    pub(crate) exchange: Arc<Exchange>,
}
