//! The wires: HTTP and JSON on axum and hyper, gRPC, TLS, metrics. The only crate with wire types, and the only
//! one that names axum.
//!
//! What it is not: it decides nothing. A handler reads a request strictly, asks one room with the caller's
//! principal, and writes the answer; a wrong request is an error and never a part of an answer.
//!
//! Start reading at [`App`], then `endpoint/mod.rs`: one file per endpoint and one line in its list.
//! [`Server`] is the connection loop with its time limits.

mod access;
mod agree;
mod backup;
mod body;
mod connection;
mod endpoint;
mod entities;
mod error;
mod grpc;
mod http2;
mod limits;
mod listen;
mod metrics;
mod outflow;
mod request;
mod rooms;
mod tls;
mod values;
mod work;

pub use access::Access;
pub use backup::{BackupFile, BackupManifest, clear_unfinished_backups, make_private_folder};
pub use endpoint::*;
pub use error::{Failure, FailureBody, FailureDocument, ServerError, http_status};
pub use grpc::v1;
pub use limits::Limits;
pub use listen::{Listen, Server, TlsFiles};
pub use rooms::{App, Body, CopyOnline, Rooms};
pub use work::Stage;
