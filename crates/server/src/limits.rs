//! What one listener allows: times, bytes and connections.

use std::time::Duration;

/// Times, bytes and connections that the server allows. The defaults are those of the documentation;
/// tests shorten them.
#[derive(Debug, Clone)]
pub struct Limits {
    /// Connections open at once; one more is answered 503 and closed. Also the requests answered at once over
    /// HTTP/2, where a connection may have many; one more is answered 503.
    pub connections: usize,
    /// How long a connection may wait between two requests.
    pub idle: Duration,
    /// How long a request's head may take, counted from its first byte; also a TLS handshake.
    pub header: Duration,
    /// The greatest request head, in bytes.
    pub header_bytes: usize,
    /// How long a request may take until its answer begins, where its endpoint sets no other time.
    pub request: Duration,
    /// How long either side of a body may stand still.
    pub stall: Duration,
    /// The least bytes a second that a request's body must bring, over every [`Limits::stall`] of waiting
    /// for it.
    pub body_rate: u64,
    /// The greatest body that is taken whole, in bytes; streamed bodies have no such limit.
    pub body_bytes: usize,
    /// How long what is left of a body is still read, and thrown away, when its request was answered before it had
    /// come; [`Limits::body_bytes`] of it at most.
    pub rest: Duration,
    /// How long a stop waits for the answers of what was accepted.
    pub drain: Duration,
    /// How long, within a stop, a quiet connection may still bring a request that was already on its way.
    pub linger: Duration,
}

impl Default for Limits {
    fn default() -> Limits {
        Limits {
            connections: 4096,
            idle: Duration::from_secs(60),
            header: Duration::from_secs(10),
            header_bytes: 64 << 10,
            request: Duration::from_secs(30),
            stall: Duration::from_secs(60),
            body_rate: 1 << 10,
            body_bytes: 16 << 20,
            rest: Duration::from_secs(5),
            drain: Duration::from_secs(30),
            linger: Duration::from_millis(200),
        }
    }
}
