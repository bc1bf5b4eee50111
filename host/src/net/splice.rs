//! Passing a stream on: what a node between two others does with each direction of a call.
//!
//! Bytes are not read as frames, only followed, so that the node knows where it may add an error frame of its own.

use std::pin::pin;

use bytes::Bytes;
use quinn::{ConnectionError, ReadError, RecvStream, SendStream, VarInt, WriteError};

use super::errors::{link_fault, varint_of};
use crate::words::fault::{Code, Fault};
use crate::words::frame::{BODY_MAX, BoundaryTracker};

/// Why a splice ended.
#[derive(Debug)]
pub enum Cause {
    /// The source ended and so did the sink.
    Finished,
    /// The source was reset with this number; the sink was reset with the same.
    Reset(u64),
    /// The sink was stopped with this number; the source was stopped with the same.
    Stopped(u64),
    /// The link that the source came over is gone. At a frame boundary the sink is handed back, still open, so that an error frame
    /// can be appended; otherwise it was reset with `link-lost`.
    SourceLost(Fault, Option<SendStream>),
    /// The link that the sink goes over is gone; the source was stopped with `link-lost`.
    SinkLost(Fault),
    /// The source sent what is no frame; both were ended with the fault's number.
    Broken(Fault),
}

/// How a splice ended.
#[derive(Debug)]
pub struct SpliceEnd {
    /// Why.
    pub cause: Cause,
    /// Bytes that were passed on.
    pub bytes: u64,
    /// Whether they end with a whole frame.
    pub at_boundary: bool,
    /// Whether the last of them was an end or error frame, so that the other side has its answer.
    pub ended: bool,
}

/// Passes `recv` on to `send` until one of them ends. A chunk is read when the one before it was taken, so the slowest link sets
/// the pace. Ends, resets and stops are passed on with their numbers. Dropping the future cuts the stream without
/// an end frame, which its reader notices.
pub async fn splice(recv: RecvStream, send: SendStream) -> SpliceEnd {
    splice_after(Bytes::new(), recv, send).await
}

/// The same, with bytes that were read from the source before and come first.
pub async fn splice_after(head: Bytes, recv: RecvStream, send: SendStream) -> SpliceEnd {
    let mut splice = Splice { recv, send, tracker: BoundaryTracker::new(), bytes: 0 };
    let halt = splice.run(head).await;
    let at_boundary = splice.tracker.at_boundary();
    let (bytes, ended) = (splice.bytes, splice.tracker.ended());
    SpliceEnd { cause: splice.settle(halt, at_boundary), bytes, at_boundary, ended }
}

struct Splice {
    recv: RecvStream,
    send: SendStream,
    tracker: BoundaryTracker,
    bytes: u64,
}

/// What stops the passing on.
enum Halt {
    Finished,
    Reset(VarInt),
    Stopped(VarInt),
    SourceLost(Option<ConnectionError>),
    SinkLost(Option<ConnectionError>),
    Broken(Fault),
}

impl Splice {
    async fn run(&mut self, head: Bytes) -> Halt {
        if !head.is_empty()
            && let Err(halt) = self.pass(head).await
        {
            return halt;
        }
        loop {
            let chunk = match self.read().await {
                Ok(Some(chunk)) => chunk,
                Ok(None) => return Halt::Finished,
                Err(halt) => return halt,
            };
            if let Err(halt) = self.pass(chunk).await {
                return halt;
            }
        }
    }

    /// The next chunk, unless the sink is stopped while there is none.
    async fn read(&mut self) -> Result<Option<Bytes>, Halt> {
        // Reading first: a stream that has bytes does not pay for the watch on the other one.
        let read = tokio::select! {
            biased;
            read = self.recv.read_chunk(BODY_MAX, true) => read,
            stopped = async { self.send.stopped().await } => return Err(match stopped {
                Ok(Some(number)) => Halt::Stopped(number),
                // The sink was not finished by us, so nothing else makes it known as taken.
                Ok(None) => Halt::SinkLost(None),
                Err(quinn::StoppedError::ConnectionLost(error)) => Halt::SinkLost(Some(error)),
                Err(_) => Halt::SinkLost(None),
            }),
        };
        match read {
            Ok(chunk) => Ok(chunk.map(|chunk| chunk.bytes)),
            Err(ReadError::Reset(number)) => Err(Halt::Reset(number)),
            Err(ReadError::ConnectionLost(error)) => Err(Halt::SourceLost(Some(error))),
            Err(_) => Err(Halt::SourceLost(None)),
        }
    }

    /// Passes one chunk on, unless the source is reset while the sink takes nothing.
    async fn pass(&mut self, chunk: Bytes) -> Result<(), Halt> {
        self.tracker.track(&chunk).map_err(Halt::Broken)?;
        let length = chunk.len() as u64;
        let mut write = pin!(self.send.write_chunk(chunk));
        let early = tokio::select! {
            biased;
            written = &mut write => Some(written),
            reset = self.recv.received_reset() => match reset {
                Ok(Some(number)) => return Err(Halt::Reset(number)),
                // Everything has come, or the link is gone: what was read is still passed on.
                Ok(None) | Err(_) => None,
            },
        };
        let written = match early {
            Some(written) => written,
            None => write.await,
        };
        match written {
            Ok(()) => {
                self.bytes += length;
                Ok(())
            }
            Err(WriteError::Stopped(number)) => Err(Halt::Stopped(number)),
            Err(WriteError::ConnectionLost(error)) => Err(Halt::SinkLost(Some(error))),
            Err(_) => Err(Halt::SinkLost(None)),
        }
    }

    /// Tells the side that does not know yet. Ending a stream that is closed already changes nothing, so those results do not matter.
    fn settle(mut self, halt: Halt, at_boundary: bool) -> Cause {
        let lost = |error: Option<ConnectionError>| match error {
            Some(error) => link_fault(&error),
            None => Fault::new(Code::LinkLost, "stream was closed here"),
        };
        match halt {
            Halt::Finished => {
                let _ = self.send.finish();
                Cause::Finished
            }
            Halt::Reset(number) => {
                let _ = self.send.reset(number);
                Cause::Reset(number.into_inner())
            }
            Halt::Stopped(number) => {
                let _ = self.recv.stop(number);
                Cause::Stopped(number.into_inner())
            }
            Halt::SourceLost(error) if at_boundary => Cause::SourceLost(lost(error), Some(self.send)),
            Halt::SourceLost(error) => {
                let _ = self.send.reset(varint_of(Code::LinkLost));
                Cause::SourceLost(lost(error), None)
            }
            Halt::SinkLost(error) => {
                let _ = self.recv.stop(varint_of(Code::LinkLost));
                Cause::SinkLost(lost(error))
            }
            Halt::Broken(fault) => {
                let _ = self.recv.stop(varint_of(fault.code));
                let _ = self.send.reset(varint_of(fault.code));
                Cause::Broken(fault)
            }
        }
    }
}
