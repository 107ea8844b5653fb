//! A connection to a node that is kept over requests.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::TcpStream;
use std::time::Duration;

use serde_json::Value;

pub(crate) struct Kept {
    stream: BufReader<TcpStream>,
}

impl Kept {
    /// To `host:port`; none where nothing listens.
    pub(crate) fn to(address: &str) -> Option<Kept> {
        let stream = TcpStream::connect(address).ok()?;
        stream.set_nodelay(true).ok()?;
        stream.set_read_timeout(Some(Duration::from_secs(60))).ok()?;
        Some(Kept { stream: BufReader::new(stream) })
    }

    /// The status and the answer; none where the node went away before it was whole.
    pub(crate) fn post(&mut self, path: &str, content_type: &str, body: &[u8]) -> Option<(u16, Value)> {
        let stream = &mut self.stream;
        let head = format!(
            "POST {path} HTTP/1.1\r\nhost: localhost\r\ncontent-type: {content_type}\r\ncontent-length: {}\r\n\r\n",
            body.len()
        );
        stream.get_mut().write_all([head.as_bytes(), body].concat().as_slice()).ok()?;
        let (mut status, mut length) = (0, 0);
        loop {
            let mut line = String::new();
            if stream.read_line(&mut line).ok()? == 0 {
                return None;
            }
            let line = line.trim_end().to_ascii_lowercase();
            if line.is_empty() {
                break;
            }
            if let Some(rest) = line.strip_prefix("http/1.1 ") {
                status = rest.split(' ').next()?.parse().ok()?;
            }
            if let Some(rest) = line.strip_prefix("content-length:") {
                length = rest.trim().parse().ok()?;
            }
        }
        let mut answer = vec![0; length];
        stream.read_exact(&mut answer).ok()?;
        Some((status, serde_json::from_slice(&answer).ok()?))
    }
}
