//! The server over real sockets.

mod connection;
mod listening;
mod socket;
