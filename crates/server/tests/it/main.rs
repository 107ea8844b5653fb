//! The server over real sockets.

#[cfg(test)]
mod connection;
#[cfg(test)]
mod formats;
#[cfg(test)]
mod http2;
#[cfg(test)]
mod listening;
#[cfg(test)]
mod socket;
