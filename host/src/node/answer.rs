//! Both ends of a conversation with an operator, whether it came over the control socket or as an order over links.

use bytes::Bytes;
use ed25519_dalek::SigningKey;
use tokio::io::{AsyncRead, AsyncWrite};

use crate::decisions::seal::{Said, seal};
use crate::net::frames::Pipe;
use crate::net::{FrameReader, FrameWriter, Piece};
use crate::words::frame::{Frame, FrameKind};
use crate::words::note::encode_fault;
use crate::words::{Code, Fault, Outcome};

/// Largest item of a request: a chunk of a blob, a manifest, arguments.
pub const ITEM_MAX: usize = 1 << 20;

/// What may follow a request.
enum Follows {
    /// Whatever comes: on the socket, or where the request itself names it.
    Anything,
    /// One item that was verified, and nothing else.
    Verified(Option<Bytes>),
}

/// What an operator says.
pub struct Reader {
    frames: FrameReader<Pipe<Box<dyn AsyncRead + Send + Unpin>>>,
    follows: Follows,
}

impl Reader {
    /// Reads what comes.
    pub fn new(reader: impl AsyncRead + Send + Unpin + 'static) -> Self {
        Self { frames: FrameReader::over(Box::new(reader), ITEM_MAX), follows: Follows::Anything }
    }

    /// The body of the open frame.
    pub async fn open(&mut self) -> Outcome<Bytes> {
        self.frames.open().await
    }

    /// From now on only this follows. What else comes was not signed by anybody.
    pub fn only(&mut self, verified: Option<Bytes>) {
        self.follows = Follows::Verified(verified);
    }

    /// What comes next.
    pub async fn piece(&mut self) -> Outcome<Piece> {
        match &mut self.follows {
            Follows::Anything => self.frames.piece().await,
            Follows::Verified(verified) => match verified.take() {
                Some(item) => Ok(Piece::Item(item)),
                None => Err(Fault::new(Code::BadObject, "order does not say what is to follow its request")),
            },
        }
    }

    /// The next frame as it is, for passing it on.
    pub async fn frame(&mut self) -> Outcome<Option<Frame>> {
        self.frames.next().await
    }

    /// Returns when the other side has closed its half of the conversation.
    pub async fn hung_up(&mut self) {
        while let Ok(Some(_)) = self.frames.next().await {}
    }
}

/// What an operator is told; sealed when it goes over links.
pub struct Writer {
    frames: FrameWriter<Box<dyn AsyncWrite + Send + Unpin>>,
    seal: Option<Seal>,
}

struct Seal {
    key: SigningKey,
    nonce: [u8; 16],
    number: u64,
}

impl Seal {
    fn seal(&mut self, said: Said, body: &[u8]) -> Vec<u8> {
        let sealed = seal(&self.key, &self.nonce, self.number, said, body);
        self.number += 1;
        sealed
    }
}

impl Writer {
    /// Writes as it is.
    pub fn new(writer: impl AsyncWrite + Send + Unpin + 'static) -> Self {
        Self { frames: FrameWriter::new(Box::new(writer)), seal: None }
    }

    /// Seals all that follows as the answer to one order.
    pub fn sealed(&mut self, key: &SigningKey, nonce: [u8; 16]) {
        self.seal = Some(Seal { key: key.clone(), nonce, number: 0 });
    }

    /// Says that the order is obeyed.
    pub async fn accepted(&mut self) -> Outcome<()> {
        match &mut self.seal {
            Some(seal) => self.frames.item(&seal.seal(Said::Accepted, &[])).await,
            None => Ok(()),
        }
    }

    /// Writes an item.
    pub async fn item(&mut self, item: &[u8]) -> Outcome<()> {
        match &mut self.seal {
            Some(seal) => self.frames.item(&seal.seal(Said::Item, item)).await,
            None => self.frames.item(item).await,
        }
    }

    /// Writes a note.
    pub async fn note(&mut self, note: &[u8]) -> Outcome<()> {
        match &mut self.seal {
            Some(seal) => self.frames.item(&seal.seal(Said::Note, note)).await,
            None => self.frames.frame(FrameKind::Note, note).await,
        }
    }

    /// Writes the last item and the end.
    pub async fn last(&mut self, item: &[u8]) -> Outcome<()> {
        if self.seal.is_some() {
            self.item(item).await?;
            return self.end().await;
        }
        self.frames.last(item).await
    }

    /// Writes the end.
    pub async fn end(&mut self) -> Outcome<()> {
        match &mut self.seal {
            Some(seal) => self.frames.last(&seal.seal(Said::End, &[])).await,
            None => self.frames.end().await,
        }
    }

    /// Writes the failure and the end.
    pub async fn fail(&mut self, fault: &Fault) -> Outcome<()> {
        match &mut self.seal {
            Some(seal) => self.frames.last(&seal.seal(Said::Error, &encode_fault(fault))).await,
            None => self.frames.fail(fault).await,
        }
    }

    /// Passes a frame on as it is.
    pub async fn frame(&mut self, frame: &Frame) -> Outcome<()> {
        self.frames.frame(frame.kind, &frame.body).await
    }

    /// Ends the conversation after frames that were passed on.
    pub async fn finish(&mut self) -> Outcome<()> {
        self.frames.finish().await
    }
}
