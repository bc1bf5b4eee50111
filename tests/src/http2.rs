//! HTTP/2 as somebody speaks it who writes every frame by hand (RFC 9113).

use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::{Duration, Instant};

use crate::wait::PATIENCE;

/// What a connection begins with.
const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
/// Bytes of a frame's head.
const HEAD: usize = 9;

/// Kinds of frames.
pub mod kind {
    #![allow(missing_docs, reason = "the names are those of RFC 9113 §6")]
    pub const DATA: u8 = 0;
    pub const HEADERS: u8 = 1;
    pub const PRIORITY: u8 = 2;
    pub const RST_STREAM: u8 = 3;
    pub const SETTINGS: u8 = 4;
    pub const PING: u8 = 6;
    pub const GOAWAY: u8 = 7;
    pub const WINDOW_UPDATE: u8 = 8;
    pub const CONTINUATION: u8 = 9;
}

/// Flags of frames.
pub mod flag {
    #![allow(missing_docs, reason = "the names are those of RFC 9113 §6")]
    pub const ACK: u8 = 1;
    pub const END_STREAM: u8 = 1;
    pub const END_HEADERS: u8 = 4;
}

/// A frame.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Frame {
    /// One of [`kind`].
    pub kind: u8,
    /// Some of [`flag`].
    pub flags: u8,
    /// 0 is the connection.
    pub stream: u32,
    /// What it carries.
    pub payload: Vec<u8>,
}

/// The bytes of a frame.
pub fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let length = u32::try_from(payload.len()).expect("a frame is small").to_be_bytes();
    let mut bytes = vec![length[1], length[2], length[3], kind, flags];
    bytes.extend_from_slice(&stream.to_be_bytes());
    bytes.extend_from_slice(payload);
    bytes
}

/// A header field that no table remembers (RFC 7541 §6.2.2), both parts below 127 bytes.
pub fn field(name: &str, value: &str) -> Vec<u8> {
    let (name_length, value_length) = (u8::try_from(name.len()), u8::try_from(value.len()));
    let mut bytes = vec![0, name_length.expect("a short name")];
    bytes.extend_from_slice(name.as_bytes());
    bytes.push(value_length.ok().filter(|length| *length < 127).expect("a short value"));
    bytes.extend_from_slice(value.as_bytes());
    bytes
}

/// The fields of a request.
pub fn request(method: &str, path: &str) -> Vec<u8> {
    let fields = [(":method", method), (":scheme", "http"), (":path", path), (":authority", "test.example")];
    fields.into_iter().flat_map(|(name, value)| field(name, value)).collect()
}

/// A connection.
pub struct Client {
    stream: TcpStream,
    rest: Vec<u8>,
}

impl Client {
    /// Connects, and says that it speaks HTTP/2.
    #[track_caller]
    pub fn to(address: SocketAddr) -> Self {
        let stream = TcpStream::connect(address).unwrap_or_else(|error| panic!("{address}: {error}"));
        stream.set_read_timeout(Some(PATIENCE)).expect("a timeout");
        stream.set_write_timeout(Some(PATIENCE)).expect("a timeout");
        let mut client = Self { stream, rest: Vec::new() };
        client.send(PREFACE);
        client.send(&frame(kind::SETTINGS, 0, 0, &[]));
        client
    }

    /// Writes bytes; whether the other side took them.
    pub fn send(&mut self, bytes: &[u8]) -> bool {
        self.stream.write_all(bytes).is_ok()
    }

    /// Asks for a path.
    pub fn ask(&mut self, stream: u32, path: &str) -> bool {
        let flags = flag::END_STREAM | flag::END_HEADERS;
        self.send(&frame(kind::HEADERS, flags, stream, &request("GET", path)))
    }

    /// The next frame; none when the connection has ended. Panics when nothing comes.
    #[track_caller]
    pub fn read(&mut self) -> Option<Frame> {
        loop {
            if let Some(next) = self.take() {
                if next.kind == kind::PING && next.flags & flag::ACK == 0 {
                    self.send(&frame(kind::PING, flag::ACK, 0, &next.payload));
                    continue;
                }
                return Some(next);
            }
            let mut bytes = [0; 64 << 10];
            match self.stream.read(&mut bytes) {
                Ok(0) => return None,
                Ok(length) => self.rest.extend_from_slice(&bytes[..length]),
                Err(error) if is_pause(&error) => panic!("nothing comes and the connection stays open"),
                Err(_) => return None,
            }
        }
    }

    /// Waits for the answer on a stream: whether there was one with status 200, in the static table's short form.
    #[track_caller]
    pub fn is_answered(&mut self, stream: u32) -> bool {
        while let Some(frame) = self.read() {
            match (frame.kind, frame.stream) {
                (kind::HEADERS, from) if from == stream => return frame.payload.first() == Some(&0x88),
                (kind::RST_STREAM, from) if from == stream => return false,
                (kind::GOAWAY, _) => return false,
                _ => {}
            }
        }
        false
    }

    /// Sends pieces until the other side does not take them any more or a time is over, reading what comes meanwhile. Returns how many
    /// pieces were sent, and whether the other side ended it.
    pub fn flood(&mut self, most: Duration, mut piece: impl FnMut(u32) -> Vec<u8>) -> (u32, bool) {
        let (began, mut sent) = (Instant::now(), 0);
        self.stream.set_nonblocking(true).expect("a socket");
        let mut waiting = Vec::new();
        let ended = loop {
            if began.elapsed() > most {
                break false;
            }
            if waiting.is_empty() {
                waiting = piece(sent);
                sent += 1;
            }
            match self.stream.write(&waiting) {
                Ok(length) => drop(waiting.drain(..length)),
                Err(error) if is_pause(&error) => {}
                Err(_) => break true,
            }
            let mut bytes = [0; 64 << 10];
            match self.stream.read(&mut bytes) {
                Ok(0) => break true,
                Ok(length) => self.rest.extend_from_slice(&bytes[..length]),
                Err(error) if is_pause(&error) => {}
                Err(_) => break true,
            }
        };
        self.stream.set_nonblocking(false).expect("a socket");
        (sent, ended)
    }

    /// Writes the same until it is cut off, and reads nothing at all.
    pub fn shout(&mut self, most: Duration, bytes: &[u8]) -> bool {
        self.stream.set_write_timeout(Some(most)).expect("a timeout");
        let began = Instant::now();
        while began.elapsed() < most {
            match self.stream.write_all(bytes) {
                Ok(()) => {}
                Err(error) if is_pause(&error) => return false,
                Err(_) => return true,
            }
        }
        false
    }

    fn take(&mut self) -> Option<Frame> {
        let head: &[u8; HEAD] = self.rest.first_chunk()?;
        let length = u32::from_be_bytes([0, head[0], head[1], head[2]]) as usize;
        let stream = u32::from_be_bytes([head[5], head[6], head[7], head[8]]) & (u32::MAX >> 1);
        let (kind, flags) = (head[3], head[4]);
        let payload = self.rest.get(HEAD..HEAD + length)?.to_vec();
        self.rest.drain(..HEAD + length);
        Some(Frame { kind, flags, stream, payload })
    }
}

fn is_pause(error: &std::io::Error) -> bool {
    matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut)
}
