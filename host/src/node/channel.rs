//! Policy channels: reliable and ordered, or reset; never thinned.
//!
//! A channel joins the slots of one name on two linked nodes. Each direction is one long-lived unidirectional stream, and both
//! belong to a *round*. Whoever has to reset raises the round, drops both streams and opens a new one; whoever sees a
//! higher round does the same with that round. Each reset shows as one more `link-up` in that slot only, so that both policies
//! know that what they sent may be lost, and that the link is not. Two ends that reset at once arrive at the same round.

use std::sync::Arc;
use std::time::Duration;

use quinn::{Connection, RecvStream, SendStream};
use serde::{Deserialize, Serialize};
use tokio::sync::{Notify, OwnedSemaphorePermit, Semaphore, mpsc};
use tokio_util::task::AbortOnDropHandle;

use super::slots::AnySlot;
use crate::clock::{self, Instant};
use crate::log::{Level, Log};
use crate::net::{FrameReader, FrameWriter, Piece};
use crate::policy::slot::MESSAGE_MAX;
use crate::policy::types::{BaseEvent, Link as LinkRecord, Message};
use crate::words::envelope::encode_start;
use crate::words::frame::Exchange;
use crate::words::{Code, Digest, Outcome, note};

/// Bytes that wait to be sent. A neighbour that is further behind than this gets everything anew.
const SEND_BYTES: usize = 1 << 20;
/// Messages that wait to be sent.
const SEND_MESSAGES: usize = 4_096;
/// Streams that a peer may open faster than they are taken.
const ARRIVALS: usize = 4;

/// A peer that ended this side's stream opens a new round by itself within this time; otherwise this side does.
const FOLLOW: Duration = Duration::from_secs(2);

/// First thing on a channel's stream.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct Opening {
    /// Name of the slot on both sides.
    pub slot: String,
    /// Protocol that the sender's plugin speaks.
    pub protocol: String,
    /// Round that the stream belongs to.
    pub round: u64,
    /// Component of the sender.
    pub digest: Digest,
}

impl Opening {
    /// As the details of an open frame.
    pub fn encode(&self) -> Outcome<Vec<u8>> {
        note::write("channel", self, 1 << 10)
    }

    /// The reverse.
    pub fn decode(details: &[u8]) -> Outcome<Self> {
        note::read("channel", details, 1 << 10)
    }
}

/// A stream that a peer opened for a channel.
pub struct ChannelStream {
    /// What it says first.
    pub opening: Opening,
    /// The rest of it.
    pub reader: FrameReader<RecvStream>,
}

/// Handle of one channel. The task ends with the last clone.
#[derive(Clone)]
pub struct Channel {
    queue: mpsc::Sender<(Vec<u8>, OwnedSemaphorePermit)>,
    room: Arc<Semaphore>,
    reset: Arc<Notify>,
    arrivals: mpsc::Sender<ChannelStream>,
    _task: Arc<AbortOnDropHandle<()>>,
}

impl Channel {
    /// Opens a channel over a link.
    pub fn open(connection: Connection, slot: AnySlot, link: LinkRecord, opening: Opening, log: Log) -> Self {
        let (queue, outgoing) = mpsc::channel(SEND_MESSAGES);
        let (arrivals, incoming) = mpsc::channel(ARRIVALS);
        let reset = Arc::new(Notify::new());
        let task = Task { connection, slot, link, opening, log, reset: reset.clone(), outgoing, incoming };
        let task = Arc::new(AbortOnDropHandle::new(tokio::spawn(task.run())));
        Self { queue, room: Arc::new(Semaphore::new(SEND_BYTES)), reset, arrivals, _task: task }
    }

    /// Queues a message. Without room the channel is reset: an incremental protocol does not survive a lost message.
    pub fn push(&self, bytes: Vec<u8>) {
        let size = u32::try_from(bytes.len()).unwrap_or(u32::MAX);
        let queued = self
            .room
            .clone()
            .try_acquire_many_owned(size)
            .ok()
            .and_then(|room| self.queue.try_send((bytes, room)).ok());
        if queued.is_none() {
            self.reset.notify_one();
        }
    }

    /// Starts over.
    pub fn reset(&self) {
        self.reset.notify_one();
    }

    /// Hands over a stream that the peer opened.
    pub async fn attach(&self, stream: ChannelStream) {
        // The task is gone: so is the link.
        let _ = self.arrivals.send(stream).await;
    }
}

struct Task {
    connection: Connection,
    slot: AnySlot,
    link: LinkRecord,
    opening: Opening,
    log: Log,
    reset: Arc<Notify>,
    outgoing: mpsc::Receiver<(Vec<u8>, OwnedSemaphorePermit)>,
    incoming: mpsc::Receiver<ChannelStream>,
}

/// Why a round ended.
#[expect(clippy::large_enum_variant, reason = "one per reset")]
enum End {
    /// This side starts over.
    Reset,
    /// The peer is in a higher round already.
    Follow(ChannelStream),
    /// The link is gone.
    Closed,
}

impl Task {
    async fn run(mut self) {
        let mut first: Option<ChannelStream> = None;
        loop {
            match self.round(first.take()).await {
                End::Closed => return,
                End::Reset => self.opening.round += 1,
                End::Follow(stream) => {
                    self.opening.round = stream.opening.round;
                    first = Some(stream);
                }
            }
            // What was queued for the old round means nothing in the new one.
            while self.outgoing.try_recv().is_ok() {}
            let text = format!("channel {} with {} was reset", self.opening.slot, self.link.peer);
            self.log.host(Level::Debug, &text);
            if self.slot.tell_base(BaseEvent::LinkUp(self.link.clone())).await.is_err() {
                return;
            }
        }
    }

    /// One round: this side's stream and the peer's.
    async fn round(&mut self, first: Option<ChannelStream>) -> End {
        let mut reader = first.map(|stream| self.read(stream));
        let mut writer = match self.start().await {
            Some(writer) => writer,
            None => return End::Closed,
        };
        let stopped = writer.inner().stopped();
        tokio::pin!(stopped);
        let mut broken: Option<Instant> = None;
        loop {
            tokio::select! {
                biased;
                () = self.reset.notified() => break End::Reset,
                _ = self.connection.closed() => break End::Closed,
                _ = &mut stopped, if broken.is_none() => broken = Some(clock::monotonic() + FOLLOW),
                () = tokio::time::sleep_until(broken.unwrap_or_else(clock::monotonic)), if broken.is_some() => {
                    break End::Reset;
                }
                Some(stream) = self.incoming.recv() => {
                    if stream.opening.round > self.opening.round {
                        break End::Follow(stream);
                    }
                    if stream.opening.round == self.opening.round {
                        reader = Some(self.read(stream));
                    }
                }
                over = ended(&mut reader) => {
                    reader = None;
                    // The queue of this slot stayed full: the peer has to start over. A stream that the peer ended
                    // means that it does so by itself; its new one is on the way.
                    if over == ReadEnd::Full {
                        break End::Reset;
                    }
                }
                Some((bytes, _room)) = self.outgoing.recv(), if broken.is_none() => {
                    // The write may wait for the peer, and the reset must not wait with it.
                    tokio::select! {
                        biased;
                        () = self.reset.notified() => break End::Reset,
                        written = writer.item(&bytes) => {
                            broken = written.is_err().then(|| clock::monotonic() + FOLLOW);
                        }
                    }
                }
            }
        }
    }

    async fn start(&self) -> Option<FrameWriter<SendStream>> {
        let stream = self.connection.open_uni().await.ok()?;
        let mut writer = FrameWriter::new(stream);
        let details = self.opening.encode().ok()?;
        writer.open(|out| encode_start(out, Exchange::Channel, &details), None).await.ok()?;
        Some(writer)
    }

    fn read(&self, stream: ChannelStream) -> Reader {
        let (slot, peer) = (self.slot.clone(), self.link.peer.clone());
        AbortOnDropHandle::new(tokio::spawn(async move {
            let mut reader = stream.reader;
            while let Ok(Piece::Item(bytes)) = reader.piece().await {
                let message = Message { peer: peer.clone(), bytes: bytes.to_vec() };
                if slot.deliver(message).await.is_err() {
                    return ReadEnd::Full;
                }
            }
            ReadEnd::Over
        }))
    }
}

type Reader = AbortOnDropHandle<ReadEnd>;

#[derive(Clone, Copy, PartialEq, Eq)]
enum ReadEnd {
    Over,
    Full,
}

async fn ended(reader: &mut Option<Reader>) -> ReadEnd {
    match reader {
        Some(reader) => reader.await.unwrap_or(ReadEnd::Over),
        None => std::future::pending().await,
    }
}

/// Reads the opening of a stream that a peer opened.
pub async fn accept(stream: RecvStream) -> Outcome<ChannelStream> {
    let mut reader = FrameReader::new(stream, MESSAGE_MAX);
    let open = reader.open().await?;
    let (exchange, details) = crate::words::envelope::decode_start(&open)?;
    if exchange != Exchange::Channel {
        let what = format!("a one-way stream is for channels, not for {}", exchange.as_str());
        return Err(crate::words::Fault::new(Code::Protocol, what));
    }
    Ok(ChannelStream { opening: Opening::decode(details)?, reader })
}
