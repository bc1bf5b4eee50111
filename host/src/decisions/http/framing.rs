//! The boundaries of HTTP/1 requests on one connection, found before the parser that serves them sees the bytes.
//!
//! The parser behind drops a `Content-Length` that stands beside a `Transfer-Encoding`, takes bare line feeds and a missing `Host`;
//! what it has read cannot be asked any more. So a connection's bytes go through a [`Scanner`] first, which lets through whole heads that
//! [`judge`] takes, and bodies exactly up to their end.

use super::Refusal;
use super::head::{Framing, HEAD_MAX, Head, TARGET_MAX, Version, field, judge};

/// Bytes of a line that begins a chunk, its extensions included. A signature of a chunk has 85.
const CHUNK_LINE_MAX: usize = 256;
/// Hexadecimal digits of a chunk's size: 4 GiB.
const CHUNK_DIGITS: usize = 8;
/// Bytes of all trailers.
const TRAILERS_MAX: usize = 4 << 10;
/// What trailers may not say, because it belongs before the body.
const NOT_IN_TRAILERS: [&[u8]; 6] =
    [b"content-length", b"transfer-encoding", b"host", b"trailer", b"connection", b"authorization"];

/// What the first bytes of those that wait are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Piece {
    /// Not decided yet: more bytes are needed.
    More,
    /// A whole head of so many bytes, which may go on.
    Head(usize),
    /// So many bytes of a body, which may go on.
    Body(usize),
}

/// Where a connection is in its requests.
#[derive(Debug, Default)]
pub struct Scanner {
    state: State,
    /// Bytes of an unfinished head or line that were looked at before.
    looked: usize,
    /// Bytes of trailers so far.
    trailers: usize,
}

#[derive(Debug, Default, PartialEq, Eq)]
enum State {
    #[default]
    Head,
    Length(u64),
    ChunkLine,
    Chunk(u64),
    ChunkEnd,
    Trailers,
}

impl Scanner {
    /// Whether the next byte begins a request.
    pub fn at_head(&self) -> bool {
        self.state == State::Head
    }

    /// Looks at the bytes that wait: those that came since the last piece, all of them.
    ///
    /// # Errors
    /// Why these bytes are not taken. Nothing that comes later on this connection is.
    pub fn next(&mut self, waiting: &[u8]) -> Result<Piece, Refusal> {
        if waiting.is_empty() {
            return Ok(Piece::More);
        }
        match self.state {
            State::Head => self.head(waiting),
            State::Length(left) => {
                let taken = take(left, waiting);
                let left = left.saturating_sub(taken as u64);
                self.state = if left == 0 { State::Head } else { State::Length(left) };
                Ok(Piece::Body(taken))
            }
            State::Chunk(left) => {
                let taken = take(left, waiting);
                let left = left.saturating_sub(taken as u64);
                self.state = if left == 0 { State::ChunkEnd } else { State::Chunk(left) };
                Ok(Piece::Body(taken))
            }
            State::ChunkEnd => match waiting {
                [b'\r', b'\n', ..] => {
                    self.state = State::ChunkLine;
                    Ok(Piece::Body(2))
                }
                [b'\r'] => Ok(Piece::More),
                _ => Err(Refusal::bad("a chunk is longer than its size")),
            },
            State::ChunkLine => self.chunk_line(waiting),
            State::Trailers => self.trailer(waiting),
        }
    }

    fn head(&mut self, waiting: &[u8]) -> Result<Piece, Refusal> {
        let window = waiting.get(..HEAD_MAX).unwrap_or(waiting);
        // Control characters are refused where they come: a head with bare line feeds would otherwise be waited for in vain.
        for at in self.looked..window.len() {
            let byte = window.get(at).copied().unwrap_or_default();
            let before = at.checked_sub(1).and_then(|at| window.get(at)).copied();
            plain(before, byte)?;
            if byte == b'\n' && window.get(..=at).is_some_and(|head| head.ends_with(b"\r\n\r\n")) {
                let end = at + 1;
                self.looked = 0;
                self.state = match parse(window.get(..end).unwrap_or_default())? {
                    Framing::Length(0) => State::Head,
                    Framing::Length(length) => State::Length(length),
                    Framing::Chunked => State::ChunkLine,
                };
                return Ok(Piece::Head(end));
            }
        }
        if window.starts_with(b"\r\n") {
            return Err(Refusal::bad("there is an empty line before the request"));
        }
        self.looked = window.len();
        let first = window.iter().position(|b| *b == b'\n');
        if first.unwrap_or(window.len()) > TARGET_MAX + 64 {
            return Err(Refusal::TARGET);
        }
        if waiting.len() >= HEAD_MAX { Err(Refusal::HEAD) } else { Ok(Piece::More) }
    }

    fn chunk_line(&mut self, waiting: &[u8]) -> Result<Piece, Refusal> {
        let Some((line, taken)) = self.line(waiting, CHUNK_LINE_MAX)? else { return Ok(Piece::More) };
        let digits = line.iter().position(|b| !b.is_ascii_hexdigit()).unwrap_or(line.len());
        let (size, extension) = line.split_at(digits);
        let visible = |b: &u8| *b == b'\t' || *b == b' ' || b.is_ascii_graphic();
        let extends = extension.is_empty() || extension.starts_with(b";") && extension.iter().all(visible);
        if !extends {
            return Err(Refusal::bad("a chunk's size is no hexadecimal number"));
        }
        let size = std::str::from_utf8(size).ok().filter(|size| (1..=CHUNK_DIGITS).contains(&size.len()));
        let size = size.and_then(|size| u64::from_str_radix(size, 16).ok());
        let size = size.ok_or(Refusal::bad("a chunk's size is no hexadecimal number"))?;
        self.state = if size == 0 { State::Trailers } else { State::Chunk(size) };
        self.trailers = 0;
        Ok(Piece::Body(taken))
    }

    fn trailer(&mut self, waiting: &[u8]) -> Result<Piece, Refusal> {
        let most = TRAILERS_MAX.saturating_sub(self.trailers);
        let Some((line, taken)) = self.line(waiting, most)? else { return Ok(Piece::More) };
        self.trailers += taken;
        if line.is_empty() {
            self.state = State::Head;
            return Ok(Piece::Body(taken));
        }
        let (name, value) = split_field(line)?;
        field(name, value)?;
        if NOT_IN_TRAILERS.iter().any(|wrong| name.eq_ignore_ascii_case(wrong)) {
            return Err(Refusal::bad("a trailer says what belongs before the body"));
        }
        Ok(Piece::Body(taken))
    }

    /// A line without its end, and its length with it; none while it has not ended.
    fn line<'a>(&mut self, waiting: &'a [u8], most: usize) -> Result<Option<(&'a [u8], usize)>, Refusal> {
        let window = waiting.get(..most).unwrap_or(waiting);
        for at in self.looked..window.len() {
            let byte = window.get(at).copied().unwrap_or_default();
            let before = at.checked_sub(1).and_then(|at| window.get(at)).copied();
            plain(before, byte)?;
            if byte == b'\n' {
                self.looked = 0;
                return Ok(Some((window.get(..at.saturating_sub(1)).unwrap_or_default(), at + 1)));
            }
        }
        self.looked = window.len();
        if waiting.len() >= most { Err(Refusal::HEAD) } else { Ok(None) }
    }
}

fn take(left: u64, waiting: &[u8]) -> usize {
    usize::try_from(left).unwrap_or(usize::MAX).min(waiting.len())
}

/// Line ends are CR LF, and there are no other control characters but tabs.
fn plain(before: Option<u8>, byte: u8) -> Result<(), Refusal> {
    match (before, byte) {
        (Some(b'\r'), b'\n') => Ok(()),
        (Some(b'\r'), _) => Err(Refusal::bad("there is a carriage return without a line feed")),
        (_, b'\n') => Err(Refusal::bad("there is a line feed without a carriage return")),
        (_, b'\r' | b'\t') => Ok(()),
        (_, byte) if byte < 0x20 || byte == 0x7f => {
            Err(Refusal::bad("there is a control character in the head"))
        }
        _ => Ok(()),
    }
}

/// Takes a head apart, which ends with an empty line, and judges it.
fn parse(head: &[u8]) -> Result<Framing, Refusal> {
    let bad_line = Refusal::bad("the request line is not METHOD TARGET HTTP/1.1");
    let mut lines = Lines(head);
    let first = lines.next().ok_or(bad_line)?;
    let mut words = first.split(|b| *b == b' ');
    let (Some(method), Some(target), Some(version), None) =
        (words.next(), words.next(), words.next(), words.next())
    else {
        return Err(bad_line);
    };
    let version = match version {
        b"HTTP/1.1" => Version::Http11,
        b"HTTP/1.0" => Version::Http10,
        _ => return Err(bad_line),
    };
    let mut fields = Vec::with_capacity(16);
    for line in lines.take_while(|line| !line.is_empty()) {
        fields.push(split_field(line)?);
    }
    judge(&Head { version, method, target, authority: None, fields })
}

/// Lines that end with CR LF, without it.
struct Lines<'a>(&'a [u8]);

impl<'a> Iterator for Lines<'a> {
    type Item = &'a [u8];

    fn next(&mut self) -> Option<&'a [u8]> {
        let end = self.0.iter().position(|b| *b == b'\n')?;
        let (line, rest) = self.0.split_at(end + 1);
        self.0 = rest;
        Some(line.strip_suffix(b"\r\n").unwrap_or(line))
    }
}

/// Name and value of a field's line; space around the value is not part of it.
fn split_field(line: &[u8]) -> Result<(&[u8], &[u8]), Refusal> {
    if line.starts_with(b" ") || line.starts_with(b"\t") {
        return Err(Refusal::bad("a field goes on in the next line"));
    }
    let colon = line.iter().position(|b| *b == b':').ok_or(Refusal::bad("a field has no colon"))?;
    let (name, value) = line.split_at(colon);
    Ok((name, value.get(1..).unwrap_or_default().trim_ascii()))
}

#[cfg(test)]
mod tests;
