//! Between the socket and the parser: requests go through the scanner, writes are watched, and a close waits for the client's.

use std::pin::{Pin, pin};
use std::task::{Context, Poll, ready};

use bytes::{Buf, BytesMut};
use hyper::rt::ReadBufCursor;
use tokio::io::{AsyncReadExt, AsyncWrite};
use tokio::net::TcpStream;

use super::watch::{Reading, Watch};
use crate::decisions::http::framing::{Piece, Scanner};

/// Bytes that are made room for.
const READ: usize = 16 << 10;
/// Bytes that there is room for at least when something is read.
const READ_LEAST: usize = 4 << 10;
/// What an HTTP/2 connection begins with (RFC 9113 §3.4).
const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
/// What the parser gets for a request that is refused, so that the refusal is the answer in its turn.
const STAND_IN: &[u8] = b"GET / HTTP/1.1\r\nhost: refused.invalid\r\nconnection: close\r\n\r\n";
/// Bytes that are read and thrown away while a connection closes: unread ones would make the kernel take the answer back.
const LINGER: usize = 256 << 10;

/// Which protocol a client speaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Protocol {
    Http1,
    Http2,
}

/// A socket as the parser sees it.
pub(super) struct Io {
    stream: TcpStream,
    watch: Watch,
    /// None for HTTP/2, whose frames have boundaries of their own.
    scanner: Option<Scanner>,
    /// What came and was not read yet.
    buffer: BytesMut,
    /// How much of it may be read.
    released: usize,
    /// After this the parser gets nothing: a request, or a body, was refused.
    ended: Option<Ended>,
    lingered: usize,
    shut: bool,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Ended {
    InHead,
    InBody,
}

impl Io {
    pub(super) fn new(stream: TcpStream, watch: Watch) -> Self {
        let (buffer, scanner) = (BytesMut::new(), Some(Scanner::default()));
        Self { stream, watch, scanner, buffer, released: 0, ended: None, lingered: 0, shut: false }
    }

    /// Reads until it is known which protocol this is; none when the client is gone. Has no deadline of its own.
    pub(super) async fn sniff(&mut self) -> std::io::Result<Option<Protocol>> {
        loop {
            let have = self.buffer.len().min(PREFACE.len());
            if have > 0 && self.buffer.get(..have) != PREFACE.get(..have) {
                self.scan();
                return Ok(Some(Protocol::Http1));
            }
            if have == PREFACE.len() {
                self.scanner = None;
                self.released = self.buffer.len();
                return Ok(Some(Protocol::Http2));
            }
            if std::future::poll_fn(|cx| self.poll_fill(cx)).await? == 0 {
                return Ok(None);
            }
        }
    }

    fn poll_fill(&mut self, cx: &mut Context<'_>) -> Poll<std::io::Result<usize>> {
        if self.buffer.capacity() - self.buffer.len() < READ_LEAST {
            self.buffer.reserve(READ);
        }
        // The future keeps nothing between polls.
        pin!(self.stream.read_buf(&mut self.buffer)).poll(cx)
    }

    /// Releases what may be read of what has come.
    fn scan(&mut self) {
        let Some(scanner) = &mut self.scanner else {
            self.released = self.buffer.len();
            return;
        };
        loop {
            let at_head = scanner.at_head();
            let waiting = self.buffer.get(self.released..).unwrap_or_default();
            match scanner.next(waiting) {
                Ok(Piece::More) => {
                    self.watch.reading(match (at_head, waiting.is_empty()) {
                        (true, true) => Reading::Between,
                        (true, false) => Reading::Head,
                        (false, _) => Reading::Body,
                    });
                    return;
                }
                Ok(Piece::Head(length)) => {
                    self.released += length;
                    self.watch.head_passed();
                }
                Ok(Piece::Body(length)) => self.released += length,
                Err(refusal) => {
                    self.buffer.truncate(self.released);
                    if at_head {
                        self.watch.refuse(refusal);
                        self.watch.head_passed();
                        self.buffer.extend_from_slice(STAND_IN);
                        self.released = self.buffer.len();
                        self.ended = Some(Ended::InHead);
                    } else {
                        self.watch.fail(refusal);
                        self.ended = Some(Ended::InBody);
                    }
                    return;
                }
            }
        }
    }
}

impl hyper::rt::Read for Io {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        mut into: ReadBufCursor<'_>,
    ) -> Poll<std::io::Result<()>> {
        let this = self.get_mut();
        loop {
            if this.released > 0 {
                let length = this.released.min(into.remaining());
                into.put_slice(this.buffer.get(..length).unwrap_or_default());
                this.buffer.advance(length);
                this.released -= length;
                return Poll::Ready(Ok(()));
            }
            match this.ended {
                // The answer to the stand-in closes the connection; until then there is nothing to read.
                Some(Ended::InHead) => return Poll::Pending,
                Some(Ended::InBody) => {
                    return Poll::Ready(Err(std::io::Error::new(
                        std::io::ErrorKind::InvalidData,
                        "the body was refused",
                    )));
                }
                None => {}
            }
            if ready!(this.poll_fill(cx))? == 0 {
                return Poll::Ready(Ok(()));
            }
            this.scan();
        }
    }
}

impl hyper::rt::Write for Io {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<std::io::Result<usize>> {
        let this = self.get_mut();
        let written = Pin::new(&mut this.stream).poll_write(cx, bytes);
        note(&this.watch, &written);
        written
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        Pin::new(&mut self.get_mut().stream).poll_flush(cx)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        let this = self.get_mut();
        if !this.shut {
            this.watch.closing();
            ready!(Pin::new(&mut this.stream).poll_shutdown(cx))?;
            this.shut = true;
        }
        while this.lingered < LINGER {
            this.buffer.clear();
            match ready!(this.poll_fill(cx)) {
                Ok(0) | Err(_) => break,
                Ok(length) => this.lingered += length,
            }
        }
        Poll::Ready(Ok(()))
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        pieces: &[std::io::IoSlice<'_>],
    ) -> Poll<std::io::Result<usize>> {
        let this = self.get_mut();
        let written = Pin::new(&mut this.stream).poll_write_vectored(cx, pieces);
        note(&this.watch, &written);
        written
    }
}

fn note(watch: &Watch, written: &Poll<std::io::Result<usize>>) {
    match written {
        Poll::Pending => watch.write_waits(),
        Poll::Ready(_) => watch.wrote(),
    }
}
