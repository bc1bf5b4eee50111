//! Frames on streams: QUIC streams between nodes, and the control socket.

use std::future::Future;

use bytes::{Bytes, BytesMut};
use futures::FutureExt;
use quinn::{RecvStream, SendStream};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};

use super::errors::{read_fault, stream_fault, varint_of};
use crate::words::fault::{Code, Fault, Outcome};
use crate::words::frame::{
    BODY_MAX, Frame, FrameKind, FrameParser, frames_of, header, put_frame, put_frame_with,
};
use crate::words::note::encode_fault;

/// Most bytes taken from a stream at a time: one frame.
const CHUNK_MAX: usize = BODY_MAX;
/// A body up to this length is copied behind its header and leaves in one write with it; a longer one is written by itself.
const JOIN_MAX: usize = 8 * 1024;
/// What is kept of the write buffer between two writes.
const BUFFER_KEPT: usize = 2 * JOIN_MAX;

/// Where chunks of a stream come from: a QUIC stream hands them out without copying, anything else through [`Pipe`].
pub trait Chunks: Send {
    /// The next bytes, `None` at the end. Dropping the future loses nothing.
    fn chunk(&mut self) -> impl Future<Output = Outcome<Option<Bytes>>> + Send;
}

impl Chunks for RecvStream {
    async fn chunk(&mut self) -> Outcome<Option<Bytes>> {
        let chunk = self.read_chunk(CHUNK_MAX, true).await.map_err(|error| read_fault(&error))?;
        Ok(chunk.map(|chunk| chunk.bytes))
    }
}

/// Chunks of any reader.
#[derive(Debug)]
pub struct Pipe<R> {
    reader: R,
    buffer: BytesMut,
}

impl<R: AsyncRead + Unpin + Send> Chunks for Pipe<R> {
    async fn chunk(&mut self) -> Outcome<Option<Bytes>> {
        self.buffer.reserve(JOIN_MAX);
        let read = (&mut self.reader).take(CHUNK_MAX as u64).read_buf(&mut self.buffer).await;
        let read = read.map_err(|error| stream_fault(&error))?;
        Ok((read > 0).then(|| self.buffer.split().freeze()))
    }
}

/// What comes out of a stream: frames, with the parts of an item put together.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Piece {
    /// The body of the open frame.
    Open(Bytes),
    /// A whole item.
    Item(Bytes),
    /// The body of a note.
    Note(Bytes),
    /// All went well; nothing more comes.
    End,
    /// The other side reports a failure; nothing more comes. The body of the error frame, see [`crate::words::note::decode_fault`].
    Error(Bytes),
}

/// Reads frames. Every method may be cancelled without losing bytes.
#[derive(Debug)]
pub struct FrameReader<S> {
    source: S,
    input: Bytes,
    parser: FrameParser,
    parts: BytesMut,
    in_parts: bool,
    item_max: usize,
    ended: bool,
}

impl<R: AsyncRead + Unpin + Send> FrameReader<Pipe<R>> {
    /// Reads frames from any reader, for example half a Unix socket.
    pub fn over(reader: R, item_max: usize) -> Self {
        Self::new(Pipe { reader, buffer: BytesMut::new() }, item_max)
    }
}

impl FrameReader<RecvStream> {
    /// Tells the other side that nothing more is read, and why.
    pub fn stop(&mut self, code: Code) {
        // A stream that is closed already needs no telling.
        let _ = self.source.stop(varint_of(code));
    }
}

impl<S: Chunks> FrameReader<S> {
    /// Reads frames from `source`; an item put together from parts may have up to `item_max` bytes.
    pub fn new(source: S, item_max: usize) -> Self {
        let parser = FrameParser::default();
        let parts = BytesMut::new();
        Self { source, input: Bytes::new(), parser, parts, in_parts: false, item_max, ended: false }
    }

    /// The next frame as it is. `None`: the stream ended between two frames.
    ///
    /// # Errors
    /// `protocol` and `too-large` for what is no frame, `link-lost` when the stream ends within a frame, and the code
    /// that the other side reset the stream with.
    pub async fn next(&mut self) -> Outcome<Option<Frame>> {
        loop {
            if !self.input.is_empty()
                && let Some(frame) = self.parser.take(&mut self.input)?
            {
                return Ok(Some(frame));
            }
            match self.source.chunk().await? {
                Some(chunk) => self.input = chunk,
                None if self.parser.at_boundary() => return Ok(None),
                None => {
                    let held = self.parser.held();
                    return Err(Fault::new(
                        Code::LinkLost,
                        format!("stream ended {held} bytes into a frame"),
                    ));
                }
            }
        }
    }

    /// The next piece, with the parts of an item put together. Notes and errors may come between parts.
    ///
    /// # Errors
    /// As [`FrameReader::next`]; `too-large` for an item beyond the reader's limit, `link-lost` when the stream ends without an end
    /// or error frame, `protocol` for frames in an order that cannot be.
    pub async fn piece(&mut self) -> Outcome<Piece> {
        loop {
            let frame = match self.next().await? {
                Some(frame) => frame,
                None if self.ended => {
                    return Err(Fault::new(Code::Protocol, "stream was read after its end"));
                }
                None => return Err(Fault::new(Code::LinkLost, "stream ended without an end frame")),
            };
            if let Some(piece) = self.assemble(frame)? {
                if self.ended {
                    self.settle();
                }
                return Ok(piece);
            }
        }
    }

    /// Expects the open frame.
    ///
    /// # Errors
    /// As [`FrameReader::piece`]; `protocol` when something else comes first.
    pub async fn open(&mut self) -> Outcome<Bytes> {
        match self.piece().await? {
            Piece::Open(body) => Ok(body),
            _ => Err(Fault::new(Code::Protocol, "stream does not begin with an open frame")),
        }
    }

    /// Takes the end of the stream if it is there and nothing lies before it, after the last frame that is wanted. QUIC asks the
    /// other side to stop what is dropped before its end was seen, which costs a packet.
    pub fn settle(&mut self) {
        if self.input.is_empty()
            && let Some(Ok(Some(chunk))) = self.source.chunk().now_or_never()
        {
            self.input = chunk;
        }
    }

    /// The stream, and the bytes that were taken from it but not returned: what a splice has to pass on first. Only right after
    /// [`FrameReader::next`] or [`FrameReader::open`] returned a frame are these all of them.
    pub fn into_parts(self) -> (S, Bytes) {
        (self.source, self.input)
    }

    /// The stream.
    pub fn source(&self) -> &S {
        &self.source
    }

    fn assemble(&mut self, frame: Frame) -> Outcome<Option<Piece>> {
        if self.ended {
            return Err(Fault::new(Code::Protocol, format!("{} frame after the end", frame.kind.as_str())));
        }
        let open = matches!(frame.kind, FrameKind::Open | FrameKind::End);
        if self.in_parts && open {
            return Err(Fault::new(
                Code::Protocol,
                format!("{} frame between the parts of an item", frame.kind.as_str()),
            ));
        }
        match frame.kind {
            FrameKind::Open => Ok(Some(Piece::Open(frame.body))),
            FrameKind::Note => Ok(Some(Piece::Note(frame.body))),
            FrameKind::End if !frame.body.is_empty() => {
                Err(Fault::new(Code::Protocol, "end frame has a body"))
            }
            FrameKind::End => {
                self.ended = true;
                Ok(Some(Piece::End))
            }
            FrameKind::Error => {
                self.ended = true;
                Ok(Some(Piece::Error(frame.body)))
            }
            FrameKind::Part | FrameKind::Item => self.item(frame),
        }
    }

    fn item(&mut self, frame: Frame) -> Outcome<Option<Piece>> {
        let length = self.parts.len() + frame.body.len();
        if length > self.item_max {
            let most = self.item_max;
            return Err(Fault::new(
                Code::TooLarge,
                format!("item of {length} bytes or more: {most} are allowed here"),
            ));
        }
        match (frame.kind, self.in_parts) {
            (FrameKind::Item, false) => Ok(Some(Piece::Item(frame.body))),
            (FrameKind::Item, true) => {
                self.in_parts = false;
                self.parts.extend_from_slice(&frame.body);
                Ok(Some(Piece::Item(self.parts.split().freeze())))
            }
            // Without this rule a stream of empty parts would keep a reader busy for nothing.
            _ if frame.body.is_empty() => Err(Fault::new(Code::Protocol, "part frame is empty")),
            _ => {
                self.in_parts = true;
                self.parts.extend_from_slice(&frame.body);
                Ok(None)
            }
        }
    }
}

/// Writes frames. What `push` collects leaves with the next write in one piece. A write that is cancelled leaves the
/// stream in the middle of a frame: reset it then.
#[derive(Debug)]
pub struct FrameWriter<W> {
    writer: W,
    buffer: Vec<u8>,
}

impl FrameWriter<SendStream> {
    /// Gives up: what was not delivered yet is thrown away, and the other side gets the code's number.
    pub fn reset(&mut self, code: Code) {
        // A stream that is closed already needs no reset.
        let _ = self.writer.reset(varint_of(code));
    }
}

impl<W: AsyncWrite + Unpin> FrameWriter<W> {
    /// Writes frames to `writer`.
    pub fn new(writer: W) -> Self {
        Self { writer, buffer: Vec::new() }
    }

    /// Collects one frame for the next write.
    ///
    /// # Errors
    /// `too-large` beyond the limit of a frame.
    pub fn push(&mut self, kind: FrameKind, body: &[u8]) -> Outcome<()> {
        put_frame(&mut self.buffer, kind, body)
    }

    /// Collects one frame whose body `write` appends in place.
    ///
    /// # Errors
    /// What `write` says, and `too-large` beyond the limit of a frame.
    pub fn push_with(
        &mut self,
        kind: FrameKind,
        write: impl FnOnce(&mut Vec<u8>) -> Outcome<()>,
    ) -> Outcome<()> {
        put_frame_with(&mut self.buffer, kind, write)
    }

    /// Writes what was collected.
    ///
    /// # Errors
    /// Why the stream takes nothing more; the code of whoever stopped it.
    pub async fn flush(&mut self) -> Outcome<()> {
        let written = self.write_buffer().await;
        let flushed = if written.is_ok() { self.writer.flush().await } else { written };
        flushed.map_err(|error| stream_fault(&error))
    }

    /// Writes one frame, with what was collected before it.
    ///
    /// # Errors
    /// As [`FrameWriter::flush`], and `too-large` beyond the limit of a frame.
    pub async fn frame(&mut self, kind: FrameKind, body: &[u8]) -> Outcome<()> {
        self.gather(kind, body).await?;
        self.flush().await
    }

    /// Writes the open frame, whose body `write` appends in place, and the first item if there is one: one
    /// write when the item is short.
    ///
    /// # Errors
    /// As [`FrameWriter::frame`].
    pub async fn open(
        &mut self,
        write: impl FnOnce(&mut Vec<u8>) -> Outcome<()>,
        item: Option<&[u8]>,
    ) -> Outcome<()> {
        self.push_with(FrameKind::Open, write)?;
        match item {
            Some(item) => self.item(item).await,
            None => self.flush().await,
        }
    }

    /// Writes an item of any length, in parts where it is long.
    ///
    /// # Errors
    /// As [`FrameWriter::flush`].
    pub async fn item(&mut self, item: &[u8]) -> Outcome<()> {
        for (kind, body) in frames_of(item) {
            self.gather(kind, body).await?;
        }
        self.flush().await
    }

    /// Writes the last item, the end frame and the end of the stream: one write when the item is short.
    ///
    /// # Errors
    /// As [`FrameWriter::flush`].
    pub async fn last(&mut self, item: &[u8]) -> Outcome<()> {
        for (kind, body) in frames_of(item) {
            self.gather(kind, body).await?;
        }
        self.end().await
    }

    /// Writes the end frame and ends the stream.
    ///
    /// # Errors
    /// As [`FrameWriter::flush`].
    pub async fn end(&mut self) -> Outcome<()> {
        self.push(FrameKind::End, &[])?;
        self.finish().await
    }

    /// Writes the failure and ends the stream.
    ///
    /// # Errors
    /// As [`FrameWriter::flush`].
    pub async fn fail(&mut self, fault: &Fault) -> Outcome<()> {
        self.push(FrameKind::Error, &encode_fault(fault))?;
        self.finish().await
    }

    /// Writes what was collected and ends the stream, without an end frame.
    ///
    /// # Errors
    /// As [`FrameWriter::flush`].
    pub async fn finish(&mut self) -> Outcome<()> {
        self.flush().await?;
        self.writer.shutdown().await.map_err(|error| stream_fault(&error))
    }

    /// The stream. What was collected and not written is lost.
    pub fn into_inner(self) -> W {
        self.writer
    }

    /// The stream.
    pub fn inner(&self) -> &W {
        &self.writer
    }

    /// Collects a short frame; writes a long one, so that its body is not copied.
    async fn gather(&mut self, kind: FrameKind, body: &[u8]) -> Outcome<()> {
        if body.len() <= JOIN_MAX {
            return self.push(kind, body);
        }
        self.buffer.extend_from_slice(&header(kind, body.len())?);
        let written = self.write_buffer().await;
        let written = if written.is_ok() { self.writer.write_all(body).await } else { written };
        written.map_err(|error| stream_fault(&error))
    }

    async fn write_buffer(&mut self) -> std::io::Result<()> {
        let written = if self.buffer.is_empty() { Ok(()) } else { self.writer.write_all(&self.buffer).await };
        self.buffer.clear();
        self.buffer.shrink_to(BUFFER_KEPT);
        written
    }
}
