//! HTTP as somebody speaks it who writes every byte by hand.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use crate::node::Node;
use crate::wait::PATIENCE;

/// The first address where a node answers HTTP.
#[track_caller]
pub fn address(node: &Node) -> SocketAddr {
    let status = node.json(["status"]);
    status["http"][0].as_str().expect("it listens for HTTP").parse().expect("an address")
}

/// An answer, taken apart.
#[derive(Clone, PartialEq, Eq)]
pub struct Answer {
    /// Its status.
    pub status: u16,
    /// Its head, in lower case.
    pub head: String,
    /// Its body, without chunks.
    pub body: Vec<u8>,
    /// Whether the body ended as its head or its last chunk said.
    pub whole: bool,
}

impl std::fmt::Debug for Answer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { status, head, body, whole } = self;
        let shown = String::from_utf8_lossy(&body[..body.len().min(400)]);
        write!(f, "{status} {head:?} {shown:?} ({} bytes, whole: {whole})", body.len())
    }
}

impl Answer {
    /// Its body as text.
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    /// Its body as JSON.
    #[track_caller]
    pub fn json(&self) -> serde_json::Value {
        serde_json::from_slice(&self.body).unwrap_or_else(|error| panic!("{error}: {self:?}"))
    }
}

/// A connection.
pub struct Client {
    stream: TcpStream,
    /// What came and is not part of an answer yet.
    rest: Vec<u8>,
}

impl Client {
    /// Connects.
    #[track_caller]
    pub fn to(address: SocketAddr) -> Self {
        let stream = TcpStream::connect(address).unwrap_or_else(|error| panic!("{address}: {error}"));
        stream.set_read_timeout(Some(PATIENCE)).expect("a timeout");
        stream.set_write_timeout(Some(PATIENCE)).expect("a timeout");
        Self { stream, rest: Vec::new() }
    }

    /// The socket.
    pub fn stream(&mut self) -> &mut TcpStream {
        &mut self.stream
    }

    /// Writes bytes; the other side may have closed.
    pub fn send(&mut self, bytes: &[u8]) -> &mut Self {
        let _ = self.stream.write_all(bytes);
        self
    }

    /// Asks for a path on this connection.
    #[track_caller]
    pub fn get(&mut self, path: &str) -> Answer {
        self.send(format!("GET {path} HTTP/1.1\r\nHost: test.example\r\n\r\n").as_bytes());
        self.answer()
    }

    /// The next answer.
    #[track_caller]
    pub fn answer(&mut self) -> Answer {
        self.try_answer()
            .unwrap_or_else(|| panic!("no answer, but {:?}", String::from_utf8_lossy(&self.rest)))
    }

    /// The next answer; none when the connection ends before its head does.
    #[track_caller]
    pub fn try_answer(&mut self) -> Option<Answer> {
        let end = loop {
            if let Some(at) = find(&self.rest, b"\r\n\r\n") {
                break at + 4;
            }
            if !self.more() {
                return None;
            }
        };
        let head = String::from_utf8_lossy(&self.rest[..end]).to_ascii_lowercase();
        self.rest.drain(..end);
        let status = head.split(' ').nth(1).and_then(|status| status.parse().ok()).expect("a status");
        let length = head.lines().find_map(|line| line.strip_prefix("content-length: "));
        let (body, whole) = match length {
            Some(length) => self.take(length.trim().parse().expect("a length")),
            None if head.contains("transfer-encoding: chunked") => self.chunks(),
            None => (Vec::new(), true),
        };
        Some(Answer { status, head, body, whole })
    }

    /// Waits until these bytes have come; they stay part of the next answer.
    #[track_caller]
    pub fn sees(&mut self, what: &[u8]) {
        while find(&self.rest, what).is_none() {
            assert!(self.more(), "closed after {:?}", String::from_utf8_lossy(&self.rest));
        }
    }

    /// Whether the other side closes the connection, after at most these bytes.
    #[track_caller]
    pub fn closes(&mut self) -> bool {
        while self.more() {}
        true
    }

    /// Whether it is closed within a time; nothing else may come.
    pub fn closed_within(&mut self, time: Duration) -> bool {
        self.stream.set_read_timeout(Some(time)).expect("a timeout");
        let mut byte = [0];
        match self.stream.read(&mut byte) {
            Ok(0) => true,
            Ok(_) => panic!("something came"),
            Err(error) => {
                !matches!(error.kind(), std::io::ErrorKind::WouldBlock | std::io::ErrorKind::TimedOut)
            }
        }
    }

    fn chunks(&mut self) -> (Vec<u8>, bool) {
        let mut body = Vec::new();
        loop {
            let Some(at) = find(&self.rest, b"\r\n") else {
                if self.more() {
                    continue;
                }
                return (body, false);
            };
            let line = String::from_utf8_lossy(&self.rest[..at]).into_owned();
            self.rest.drain(..at + 2);
            let size = usize::from_str_radix(line.trim(), 16).expect("a chunk's size");
            let (piece, whole) = self.take(size + 2);
            body.extend_from_slice(&piece[..size.min(piece.len())]);
            if size == 0 || !whole {
                return (body, whole);
            }
        }
    }

    fn take(&mut self, length: usize) -> (Vec<u8>, bool) {
        while self.rest.len() < length {
            if !self.more() {
                return (std::mem::take(&mut self.rest), false);
            }
        }
        let rest = self.rest.split_off(length);
        (std::mem::replace(&mut self.rest, rest), true)
    }

    /// Reads something; false at the end of the connection. Panics when nothing happens at all.
    #[track_caller]
    fn more(&mut self) -> bool {
        let mut bytes = [0; 64 << 10];
        match self.stream.read(&mut bytes) {
            Ok(0) => false,
            Ok(length) => {
                self.rest.extend_from_slice(&bytes[..length]);
                true
            }
            Err(error)
                if matches!(error.kind(), std::io::ErrorKind::WouldBlock | std::io::ErrorKind::TimedOut) =>
            {
                panic!(
                    "nothing comes and the connection stays open: {:?}",
                    String::from_utf8_lossy(&self.rest)
                )
            }
            Err(_) => false,
        }
    }
}

fn find(bytes: &[u8], what: &[u8]) -> Option<usize> {
    bytes.windows(what.len()).position(|window| window == what)
}
