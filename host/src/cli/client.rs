//! The command line's end of a conversation with a node: over the control socket with the one on this machine, and through that one
//! with any other.

use std::path::PathBuf;
use std::time::Duration;

use bytes::Bytes;
use ed25519_dalek::SigningKey;
use serde::de::DeserializeOwned;
use tokio::net::UnixStream;
use tokio::net::unix::{OwnedReadHalf, OwnedWriteHalf};

use super::Global;
use crate::clock;
use crate::decisions::cose;
use crate::decisions::orders::LIFE_MAX_MS;
use crate::decisions::seal::{self, SEAL, Said};
use crate::net::frames::Pipe;
use crate::net::{FrameReader, FrameWriter, Piece};
use crate::node::control::{REPORT_MAX, REQUEST_MAX};
use crate::store::directory::Directory;
use crate::store::keys;
use crate::words::control::{Found, Request};
use crate::words::envelope::encode_start;
use crate::words::frame::Exchange;
use crate::words::note::{self, decode_fault};
use crate::words::objects::{BlobRef, Order};
use crate::words::{Code, Digest, Fault, NodeId, Outcome};

/// Time for a request that only asks.
pub(crate) const ASK: Duration = Duration::from_secs(10);

/// Whom a command talks to.
#[derive(Clone)]
pub(crate) struct Target {
    /// The node of this machine.
    directory: Directory,
    /// Another one that it is to reach, by a word for it.
    on: Option<String>,
    /// The operator's key, with which that is asked.
    key: Option<PathBuf>,
}

impl From<&Global> for Target {
    fn from(global: &Global) -> Self {
        let directory = global.directory();
        let own = directory.operator_key();
        let key = global.key.clone().or_else(|| own.exists().then_some(own));
        Self { directory, on: global.on.clone(), key }
    }
}

impl From<&Directory> for Target {
    fn from(directory: &Directory) -> Self {
        Self { directory: directory.clone(), on: None, key: None }
    }
}

impl Target {
    /// A node of the mesh, through the same one as this target.
    pub(crate) fn to(&self, node: &NodeId) -> Self {
        Self { on: Some(node.to_string()), ..self.clone() }
    }

    /// Whether there is a key to ask other nodes with.
    pub(crate) fn can_order(&self) -> bool {
        self.key.is_some()
    }

    /// The node that is meant, as the node of this machine knows it; none when that is the one which is meant.
    pub(crate) async fn found(&self) -> Outcome<Option<Found>> {
        match &self.on {
            Some(node) => self.find(node).await.map(Some),
            None => Ok(None),
        }
    }

    /// Asks the node of this machine which one is meant by a word.
    async fn find(&self, node: &str) -> Outcome<Found> {
        let find = Request::Find { node: node.to_owned() };
        Conversation::connect(&self.directory, &find).await?.report().await
    }
}

/// One request and its answer.
pub(crate) struct Conversation {
    reader: FrameReader<Pipe<OwnedReadHalf>>,
    pub(crate) writer: FrameWriter<OwnedWriteHalf>,
    seal: Option<Sealed>,
}

/// What opens the pieces of an answer from another node.
struct Sealed {
    node: NodeId,
    nonce: [u8; 16],
    number: u64,
}

/// Runs a command's conversation to its end, or to its time.
pub(crate) fn block_on<T>(time: Option<Duration>, work: impl Future<Output = Outcome<T>>) -> Outcome<T> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|error| Fault::io("cannot start", &error))?;
    runtime.block_on(async {
        let Some(time) = time else { return work.await };
        tokio::time::timeout(time, work).await.unwrap_or_else(|_| {
            Err(Fault::new(Code::Deadline, format!("no answer in {}", humantime::format_duration(time)))
                .fix("--timeout gives more time"))
        })
    })
}

impl Conversation {
    /// Sends a request that is whole, or is followed by what it names itself.
    pub(crate) async fn start(target: impl Into<Target>, request: &Request) -> Outcome<Self> {
        Self::begin(target.into(), request, None).await
    }

    /// Sends a request and the one item that belongs to it.
    pub(crate) async fn start_with(
        target: impl Into<Target>,
        request: &Request,
        item: &[u8],
    ) -> Outcome<Self> {
        Self::begin(target.into(), request, Some(item)).await
    }

    async fn begin(target: Target, request: &Request, item: Option<&[u8]>) -> Outcome<Self> {
        let mut conversation = match &target.on {
            None => Self::connect(&target.directory, request).await?,
            Some(node) => {
                let key = operator(node, target.key.as_deref())?;
                let found = target.find(node).await?;
                Self::order(&target.directory, &found, &key, request, item).await?
            }
        };
        if let Some(item) = item {
            conversation.writer.item(item).await?;
        }
        Ok(conversation)
    }

    /// Connects to the node of this directory and sends the request.
    async fn connect(directory: &Directory, request: &Request) -> Outcome<Self> {
        directory.require_initialised()?;
        let path = directory.socket()?;
        let stream = UnixStream::connect(&path).await.map_err(|error| match error.kind() {
            std::io::ErrorKind::NotFound | std::io::ErrorKind::ConnectionRefused => {
                Fault::new(Code::NotRunning, format!("no node runs on {}", directory.path().display()))
                    .fix(format!("midplane --data-dir {} run", directory.path().display()))
            }
            _ => Fault::io(format!("cannot talk to {}", path.display()), &error),
        })?;
        let (read, write) = stream.into_split();
        let mut writer = FrameWriter::new(write);
        let details = note::write("request", request, REQUEST_MAX)?;
        writer.open(|out| encode_start(out, Exchange::Control, &details), None).await?;
        Ok(Self { reader: FrameReader::over(read, REPORT_MAX + SEAL), writer, seal: None })
    }

    /// Signs the request for another node, and waits until that node says that it obeys.
    async fn order(
        directory: &Directory,
        found: &Found,
        key: &SigningKey,
        request: &Request,
        item: Option<&[u8]>,
    ) -> Outcome<Self> {
        let mut nonce = [0; 16];
        getrandom::fill(&mut nonce)
            .map_err(|error| Fault::new(Code::Io, format!("no randomness: {error}")))?;
        let created = clock::now_ms();
        let order = Order {
            mesh: found.mesh,
            target: found.node,
            nonce,
            created,
            expires: created.saturating_add(LIFE_MAX_MS),
            request: note::write("request", request, REQUEST_MAX)?,
            bulk: item.map(|item| BlobRef { digest: Digest::of(item), length: item.len() as u64 }),
        };
        let mut conversation = Self::connect(directory, &Request::Forward { to: found.node }).await?;
        conversation.writer.item(&cose::sign(&order, &[key])?).await?;
        conversation.seal = Some(Sealed { node: found.node, nonce, number: 0 });
        let accepted = tokio::time::timeout(ASK, conversation.sealed()).await.unwrap_or_else(|_| {
            let what = format!("node {} did not answer in {} s", found.node.short(), ASK.as_secs());
            Err(Fault::new(Code::Unreachable, what))
        });
        match accepted? {
            (Said::Accepted, _) => Ok(conversation),
            (Said::Error, body) => Err(decode_fault(&body)),
            _ => Err(Fault::new(Code::Protocol, "the node answered before it obeyed")),
        }
    }

    /// What comes next of the answer.
    pub(crate) async fn piece(&mut self) -> Outcome<Piece> {
        if self.seal.is_none() {
            return self.reader.piece().await;
        }
        let (said, body) = self.sealed().await?;
        match said {
            Said::Item => Ok(Piece::Item(body)),
            Said::Note => Ok(Piece::Note(body)),
            Said::End => Ok(Piece::End),
            Said::Error => Ok(Piece::Error(body)),
            Said::Accepted => Err(Fault::new(Code::Protocol, "the node obeyed twice")),
        }
    }

    /// The next piece that the other node sealed. What the nodes between say is believed only when it is that there is no answer; which
    /// names there are is none of their business.
    async fn sealed(&mut self) -> Outcome<(Said, Bytes)> {
        let Some(seal) = &mut self.seal else {
            return Err(Fault::new(Code::Internal, "an answer without a seal"));
        };
        match self.reader.piece().await? {
            Piece::Item(bytes) => {
                let (said, body) = seal::open(&seal.node, &seal.nonce, seal.number, &bytes)?;
                seal.number += 1;
                Ok((said, bytes.slice_ref(body)))
            }
            Piece::Error(bytes) => match decode_fault(&bytes) {
                Fault { code: Code::NoRoute, what, .. } => {
                    let what = format!("node {} is not reached: {what}", seal.node.short());
                    Err(Fault::new(Code::Unreachable, what))
                }
                fault => Err(fault),
            },
            _ => {
                let what = format!("answer of node {} was cut off on the way", seal.node.short());
                Err(Fault::new(Code::LinkLost, what))
            }
        }
    }

    /// The one report that answers.
    pub(crate) async fn report<T: DeserializeOwned>(&mut self) -> Outcome<T> {
        match self.piece().await? {
            Piece::Item(bytes) => note::read("report", &bytes, REPORT_MAX),
            Piece::Error(bytes) => Err(decode_fault(&bytes)),
            _ => Err(Fault::new(Code::Protocol, "the node answered without a report")),
        }
    }

    /// The reports that answer, one after the other to the end.
    pub(crate) async fn each<T: DeserializeOwned>(&mut self, mut take: impl FnMut(T)) -> Outcome<()> {
        loop {
            match self.piece().await? {
                Piece::Item(bytes) => take(note::read("report", &bytes, REPORT_MAX)?),
                Piece::End => return Ok(()),
                Piece::Error(bytes) => return Err(decode_fault(&bytes)),
                _ => return Err(Fault::new(Code::Protocol, "the node answered with more than reports")),
            }
        }
    }

    /// The end that answers.
    pub(crate) async fn end(&mut self) -> Outcome<()> {
        match self.piece().await? {
            Piece::End => Ok(()),
            Piece::Error(bytes) => Err(decode_fault(&bytes)),
            _ => Err(Fault::new(Code::Protocol, "the node answered with more than an end")),
        }
    }
}

/// Asks for a report.
pub(crate) async fn ask<T: DeserializeOwned>(target: impl Into<Target>, request: &Request) -> Outcome<T> {
    Conversation::start(target, request).await?.report().await
}

/// The key that signs orders.
fn operator(node: &str, key: Option<&std::path::Path>) -> Outcome<SigningKey> {
    let key = key.ok_or_else(|| {
        Fault::new(Code::Usage, format!("--on {node} needs the key of an operator"))
            .fix("--key FILE or MIDPLANE_KEY; `midplane mesh operator add` makes a key an operator's")
    })?;
    keys::load(key)
}
