//! The answer of a call, piece by piece, from a plugin of this node or from another node.

use bytes::Bytes;
use quinn::RecvStream;

use super::call::ITEM_MAX;
use crate::clock::Instant;
use crate::net::{FrameReader, Piece};
use crate::wasm::workload::Answer;
use crate::words::note::{self, Note, decode_fault};
use crate::words::{Code, Digest, Fault, NodeId, Outcome};

/// How much later than its deadline an answer may still come over a link.
const LATE: std::time::Duration = std::time::Duration::from_millis(500);

/// An answer that is on its way.
#[expect(
    clippy::large_enum_variant,
    reason = "one per call, and a box would be one more allocation for each"
)]
pub enum Reply {
    /// From a plugin of this node, of this component.
    Local(Answer, Vec<Note>, Digest),
    /// From another node.
    Remote(Remote),
}

/// What comes next of an answer.
pub enum Next {
    /// A CBOR sequence of at least one item.
    Items(Bytes),
    /// What a hop says of itself.
    Note(Note),
    /// There is no more.
    End,
}

/// The answer of another node. Dropping it cancels the call to the end of the path.
pub struct Remote {
    reader: FrameReader<RecvStream>,
    deadline: Instant,
    first: Option<Piece>,
    notes: Vec<Note>,
    served: Option<Digest>,
    peer: NodeId,
}

impl Reply {
    /// The component that serves the call, as the node says where it runs.
    pub fn served_by(&self) -> Option<Digest> {
        match self {
            Reply::Local(_, _, digest) => Some(*digest),
            Reply::Remote(remote) => remote.served,
        }
    }

    /// What comes next.
    pub async fn next(&mut self) -> Outcome<Next> {
        match self {
            Reply::Local(answer, notes, _) => {
                if let Some(note) = notes.pop() {
                    return Ok(Next::Note(note));
                }
                let next = match answer {
                    Answer::Value(value) if value.is_empty() => None,
                    Answer::Value(value) => Some(Ok(std::mem::take(value))),
                    Answer::Stream(items) => items.next().await,
                };
                next.transpose().map(|items| items.map_or(Next::End, |items| Next::Items(items.into())))
            }
            Reply::Remote(remote) => remote.next().await,
        }
    }
}

impl Remote {
    /// Waits for the first word of an answer: until it has come, the call may go another way.
    pub(super) async fn begun(recv: RecvStream, deadline: Instant, peer: NodeId) -> Outcome<Self> {
        let reader = FrameReader::new(recv, ITEM_MAX);
        let mut remote = Self { reader, deadline, first: None, notes: Vec::new(), served: None, peer };
        loop {
            match remote.piece().await? {
                Piece::Note(bytes) => match note::served_by(&bytes) {
                    Some(plugin) => remote.served = Some(plugin),
                    None => {
                        let note = remote.note(&bytes)?;
                        remote.notes.insert(0, note);
                    }
                },
                Piece::Error(bytes) => return Err(decode_fault(&bytes)),
                piece => {
                    remote.first = Some(piece);
                    return Ok(remote);
                }
            }
        }
    }

    /// Adds what this node says of itself.
    pub(super) fn add(&mut self, note: Note) {
        self.notes.push(note);
    }

    async fn next(&mut self) -> Outcome<Next> {
        if let Some(note) = self.notes.pop() {
            return Ok(Next::Note(note));
        }
        let piece = match self.first.take() {
            Some(piece) => piece,
            None => self.piece().await?,
        };
        match piece {
            Piece::Item(bytes) => Ok(Next::Items(bytes)),
            Piece::Note(bytes) => self.note(&bytes).map(Next::Note),
            Piece::End => Ok(Next::End),
            Piece::Error(bytes) => Err(decode_fault(&bytes)),
            Piece::Open(_) => Err(Fault::new(Code::Protocol, "an answer has no open frame")),
        }
    }

    fn note(&mut self, body: &[u8]) -> Outcome<Note> {
        let note = Note::decode(body)?;
        if let Note::Hop { plugin: Some(plugin), .. } | Note::Served { plugin } = &note {
            self.served = Some(*plugin);
        }
        Ok(note)
    }

    async fn piece(&mut self) -> Outcome<Piece> {
        // The serving node ends the call at its deadline; this one is for a node that does not.
        let deadline = self.deadline + LATE;
        match tokio::time::timeout_at(deadline, self.reader.piece()).await {
            Ok(Ok(piece)) => Ok(piece),
            Ok(Err(fault)) if fault.code == Code::LinkLost => Err(Fault::new(
                Code::LinkLost,
                format!("the link to {} was lost during the call: {}", self.peer.short(), fault.what),
            )),
            Ok(Err(fault)) => Err(fault),
            Err(_) => {
                Err(Fault::new(Code::Deadline, "no answer came in time").fix("--timeout for this call"))
            }
        }
    }
}
