//! The nine kinds of error, and the one trait that tells a caller what to do about one.

use std::fmt;
use std::time::Duration;

/// What a caller can do about an error. Maps once to an HTTP status, a gRPC code, an exit code and
/// a Python exception.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Kind {
    /// The request or definition is wrong; sending it again unchanged cannot help.
    Invalid,
    /// The named thing does not exist.
    NotFound,
    /// Somebody else changed the same thing first, or the thing is not in the state required.
    Conflict,
    /// The principal is not known.
    Unauthenticated,
    /// The principal is known and may not.
    Forbidden,
    /// A limit on bytes, rows, memory or rate was reached.
    Exhausted,
    /// The operation ran out of its time.
    Timeout,
    /// A store, file or peer cannot be reached now; the same request may succeed later.
    Unavailable,
    /// A defect in Asof or damage to its stores.
    Internal,
}

impl Kind {
    /// Every kind, in the order of the documentation.
    pub const ALL: [Kind; 9] = [
        Kind::Invalid,
        Kind::NotFound,
        Kind::Conflict,
        Kind::Unauthenticated,
        Kind::Forbidden,
        Kind::Exhausted,
        Kind::Timeout,
        Kind::Unavailable,
        Kind::Internal,
    ];

    /// The name on the wire, e.g. `not_found`.
    pub fn name(self) -> &'static str {
        match self {
            Kind::Invalid => "invalid",
            Kind::NotFound => "not_found",
            Kind::Conflict => "conflict",
            Kind::Unauthenticated => "unauthenticated",
            Kind::Forbidden => "forbidden",
            Kind::Exhausted => "exhausted",
            Kind::Timeout => "timeout",
            Kind::Unavailable => "unavailable",
            Kind::Internal => "internal",
        }
    }

    /// What it means, in a line.
    pub fn means(self) -> &'static str {
        match self {
            Kind::Invalid => "the request, definition or data is wrong; asking again unchanged cannot help",
            Kind::NotFound => "a thing or file that was named does not exist",
            Kind::Conflict => "somebody else changed it first, or it is not in the state required",
            Kind::Unauthenticated => "who asks is not known",
            Kind::Forbidden => "who asks is known and may not",
            Kind::Exhausted => "a limit on bytes, rows or memory was reached",
            Kind::Timeout => "it ran out of its time",
            Kind::Unavailable => "a store, disk or server cannot be reached now; the same may succeed later",
            Kind::Internal => "a defect of Asof, or damage to its stores",
        }
    }

    /// The HTTP status of this kind.
    pub fn http_status(self) -> u16 {
        match self {
            Kind::Invalid => 400,
            Kind::NotFound => 404,
            Kind::Conflict => 409,
            Kind::Unauthenticated => 401,
            Kind::Forbidden => 403,
            Kind::Exhausted => 429,
            Kind::Timeout => 504,
            Kind::Unavailable => 503,
            Kind::Internal => 500,
        }
    }

    /// The number of the gRPC status of this kind.
    pub fn grpc_status(self) -> u8 {
        match self {
            Kind::Invalid => 3,
            Kind::NotFound => 5,
            Kind::Conflict => 10,
            Kind::Unauthenticated => 16,
            Kind::Forbidden => 7,
            Kind::Exhausted => 8,
            Kind::Timeout => 4,
            Kind::Unavailable => 14,
            Kind::Internal => 13,
        }
    }

    /// The exit code of the command line for this kind (0 is success, 2 is wrong usage of flags).
    pub fn exit_code(self) -> u8 {
        match self {
            Kind::Invalid => 1,
            Kind::NotFound => 3,
            Kind::Conflict => 4,
            Kind::Unauthenticated => 5,
            Kind::Forbidden => 6,
            Kind::Exhausted => 7,
            Kind::Timeout => 8,
            Kind::Unavailable => 9,
            Kind::Internal => 10,
        }
    }

    /// The kind with this name on the wire.
    pub fn from_name(name: &str) -> Option<Kind> {
        Kind::ALL.into_iter().find(|kind| kind.name() == name)
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// What every error of every room can say. The text itself is the error's `Display`: the kind of
/// thing, its name, the offending value, never a cell of data.
pub trait Explain: std::error::Error {
    /// What the caller can do.
    fn kind(&self) -> Kind;
    /// A stable identifier, e.g. `view_not_found`; one page of documentation each.
    fn code(&self) -> &'static str;
    /// The nearest valid value, or the next step to take.
    fn hint(&self) -> Option<String> {
        None
    }
    /// After how long the same request may succeed, where that is known.
    fn retry_after(&self) -> Option<Duration> {
        None
    }
}
