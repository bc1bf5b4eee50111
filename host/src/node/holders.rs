//! Who has a blob: the linked peers, and when none of them has it, nodes further away.
//!
//! A node further away is asked by a call of its own name, `ID@node`, so that routing leads there and hops, loops and trust are
//! bounded as those of any call. Its answer has the form of a peer's. Each node between verifies what it passes on, so whoever sends
//! other bytes over a link is the one who changed them, however far the holder is.

use std::collections::HashSet;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use futures::stream::FuturesUnordered;
use futures::{Stream, StreamExt, stream};
use quinn::{RecvStream, SendStream};

use super::give::{ASK_MAX, FUNCTION};
use super::links::Link;
use super::plans::Planned;
use super::{NodeInner, call};
use crate::clock;
use crate::decisions::trust::Operation;
use crate::net::{FrameReader, FrameWriter, Piece};
use crate::store::blobs::BLOB_MAX;
use crate::words::blob::{Ask, Offer};
use crate::words::envelope::{FixedRef, encode_open, encode_start};
use crate::words::frame::{BODY_MAX, Exchange, FrameKind};
use crate::words::hop::Hop;
use crate::words::note::{self, decode_fault};
use crate::words::schema::Form;
use crate::words::{Code, Digest, Fault, Name, NodeId, Outcome};

/// A holder that sends nothing for so long is given up.
const PATIENCE: Duration = Duration::from_secs(10);
/// Holders that are asked side by side. More do not help one link.
const HOLDERS: usize = 4;
/// Nodes further away that one look asks, the nearest first: a mesh of many nodes is asked in part.
const FAR_MOST: usize = 256;
/// Of them at a time: each is a stream on every link of its way.
const FAR_AT_A_TIME: usize = 16;
/// Time for all answers of a look.
const LOOK_MOST: Duration = Duration::from_secs(10);
/// Time for the answers of peers alone; who is slower answers beside the nodes further away. Some round trips of a satellite link.
const NEAR_ALONE: Duration = Duration::from_secs(3);
/// Time for others once somebody has it, so that one who is silent does not hold up those who are not.
const OTHERS: Duration = Duration::from_secs(1);
/// Time that a question or a range may take over several links. What is given in time goes on.
const FAR_MS: u32 = 600_000;
/// Peers and blobs that are remembered as not fitting together; beyond that the list starts anew.
const LIARS_MAX: usize = 1_024;

/// Peers that sent other bytes than those of a blob.
#[derive(Default)]
pub struct Liars(Mutex<HashSet<(NodeId, Digest)>>);

impl Liars {
    /// Whether the peer is not asked for this blob any more.
    pub fn has(&self, peer: &NodeId, digest: &Digest) -> bool {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).contains(&(*peer, *digest))
    }

    /// Remembers it.
    pub fn add(&self, peer: NodeId, digest: Digest) {
        let mut liars = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if liars.len() >= LIARS_MAX {
            liars.clear();
        }
        liars.insert((peer, digest));
    }
}

/// A node that says it has the blob, and how it is reached.
pub struct Holder {
    /// The link over which it is asked.
    pub link: Arc<Link>,
    /// The node: the link's peer, or one further away.
    pub to: NodeId,
    /// Bytes of the blob, as it says.
    pub length: u64,
}

impl Holder {
    /// Whether other nodes are between.
    pub fn is_far(&self) -> bool {
        self.to != self.link.peer
    }

    /// For people.
    pub fn name(&self) -> String {
        let over = peer(&self.link);
        if self.is_far() { format!("{} over {over}", self.to.short()) } else { over }
    }

    /// What tells it from others.
    pub fn key(&self) -> (NodeId, NodeId) {
        (self.link.peer, self.to)
    }
}

/// A linked peer, for people.
pub fn peer(link: &Link) -> String {
    format!("{} ({})", link.welcome.label, link.peer.short())
}

/// Looks for holders of one blob. Who failed is left out until nobody else is left, so that nobody hides others by an offer.
pub struct Search<'a> {
    /// Who looks.
    pub node: &'a NodeInner,
    /// For what.
    pub digest: Digest,
    asked: AtomicUsize,
    /// [`Holder::key`] of those who offered it and did not give it.
    failed: Mutex<HashSet<(NodeId, NodeId)>>,
    exhausted: AtomicBool,
}

impl<'a> Search<'a> {
    /// Nobody has been asked yet.
    pub fn new(node: &'a NodeInner, digest: Digest) -> Self {
        let (asked, failed) = (AtomicUsize::new(0), Mutex::default());
        Self { node, digest, asked, failed, exhausted: AtomicBool::new(false) }
    }

    /// Nodes that were asked in the last look.
    pub fn asked(&self) -> usize {
        self.asked.load(Ordering::Relaxed)
    }

    /// Whether the last look found nobody, or nobody but those who had failed.
    pub fn is_exhausted(&self) -> bool {
        self.exhausted.load(Ordering::Relaxed)
    }

    /// Remembers that a holder did not give what it offered.
    pub fn fail(&self, holder: &Holder) {
        self.failed.lock().unwrap_or_else(PoisonError::into_inner).insert(holder.key());
    }

    /// Whether it did not give what it offered.
    pub fn has_failed(&self, key: (NodeId, NodeId)) -> bool {
        self.failed.lock().unwrap_or_else(PoisonError::into_inner).contains(&key)
    }

    /// Those who have it, the nearest first: linked peers, or nodes further away when no peer has it. When all who have it failed
    /// before, they may try again.
    pub async fn holders(&self, length: Option<u64>) -> Vec<Holder> {
        let (mut fresh, mut failed) = (Vec::new(), Vec::new());
        let mut near = self.near(length);
        self.gather((&mut near).take_until(tokio::time::sleep(NEAR_ALONE)), &mut fresh, &mut failed).await;
        if fresh.is_empty() {
            let both = stream::select(near, self.far(length));
            self.gather(both, &mut fresh, &mut failed).await;
        }
        self.exhausted.store(fresh.is_empty(), Ordering::Relaxed);
        if fresh.is_empty() && self.forget() {
            fresh = failed;
            if fresh.is_empty() {
                self.gather(self.far(length), &mut fresh, &mut Vec::new()).await;
            }
        }
        fresh.sort_by_key(|holder| (holder.is_far(), holder.link.connection.rtt()));
        fresh.truncate(HOLDERS);
        fresh
    }

    /// Sends a request and reads what is offered.
    pub async fn ask(&self, link: &Link, to: NodeId, ask: &Ask) -> Outcome<(FrameReader<RecvStream>, Offer)> {
        let request = note::write("blob request", ask, ASK_MAX)?;
        let (send, recv) = call::open(link).await?;
        let mut writer = FrameWriter::new(send);
        if to == link.peer {
            writer.push_with(FrameKind::Open, |out| encode_start(out, Exchange::Blob, &request))?;
        } else {
            self.push_call(&mut writer, to, &request)?;
        }
        writer.finish().await?;
        let mut reader = FrameReader::new(recv, BODY_MAX);
        match piece(&mut reader).await? {
            Piece::Item(bytes) => Ok((reader, note::read("offer", &bytes, ASK_MAX)?)),
            Piece::Error(bytes) => Err(decode_fault(&bytes)),
            _ => Err(Fault::new(Code::Protocol, "a blob begins with what is offered")),
        }
    }

    fn push_call(&self, writer: &mut FrameWriter<SendStream>, to: NodeId, request: &[u8]) -> Outcome<()> {
        let name = Name::of_node(&to);
        let fixed = FixedRef {
            id: &self.node.call_id(),
            from: self.node.identity.id,
            name: name.as_str(),
            to: Some(to),
            function: FUNCTION,
            form: Form::Cbor.number(),
            arguments: request,
            more: false,
            idempotent: true,
            created: clock::now_ms(),
        };
        let mut bytes = Vec::new();
        fixed.encode(&mut bytes)?;
        let hop = Hop::start(FAR_MS);
        writer.push_with(FrameKind::Open, |out| encode_open(out, Exchange::Invoke, &bytes, &hop))
    }

    /// Takes answers until the last one, or until the others had their time.
    async fn gather(
        &self,
        answers: impl Stream<Item = Holder>,
        fresh: &mut Vec<Holder>,
        failed: &mut Vec<Holder>,
    ) {
        let mut answers = std::pin::pin!(answers);
        let mut end = std::pin::pin!(tokio::time::sleep(LOOK_MOST));
        loop {
            let answer = tokio::select! {
                answer = answers.next() => answer,
                () = &mut end => None,
            };
            match answer {
                None => return,
                Some(holder) if self.has_failed(holder.key()) => failed.push(holder),
                Some(holder) => {
                    if fresh.is_empty() {
                        end.as_mut().reset(clock::monotonic() + OTHERS);
                    }
                    fresh.push(holder);
                }
            }
        }
    }

    /// Lets those who failed try again. Returns whether there were any.
    fn forget(&self) -> bool {
        let mut failed = self.failed.lock().unwrap_or_else(PoisonError::into_inner);
        let any = !failed.is_empty();
        failed.clear();
        any
    }

    /// The linked peers that have it, as they answer.
    fn near(&self, length: Option<u64>) -> impl Stream<Item = Holder> + Unpin {
        let links = self.node.links.all();
        self.asked.store(links.len(), Ordering::Relaxed);
        let able = links.values().filter(|link| self.is_able(link)).cloned();
        let asked: FuturesUnordered<_> =
            able.map(|link| async move { self.has(&link, link.peer, length).await }).collect();
        asked.filter_map(|holder| std::future::ready(holder.ok().flatten()))
    }

    /// Nodes further away that have it and did not fail, as they answer.
    fn far(&self, length: Option<u64>) -> impl Stream<Item = Holder> {
        let links = self.node.links.all();
        let own = self.node.identity.id;
        let known = self.node.claims.nodes(clock::now_ms()).into_iter().map(|(id, _)| id);
        let far = known.filter(|id| *id != own && !links.contains_key(id));
        let mut far: Vec<(u32, NodeId, Arc<Planned>)> = far.filter_map(|id| self.way_to(id)).collect();
        far.sort_by_key(|(distance, id, _)| (*distance, *id));
        far.truncate(FAR_MOST);
        self.asked.store(links.len() + far.len(), Ordering::Relaxed);
        stream::iter(far)
            .map(move |(_, to, planned)| async move { self.has_far(to, &planned, length).await })
            .buffer_unordered(FAR_AT_A_TIME)
            .filter_map(std::future::ready)
            .take(HOLDERS)
    }

    /// The plan for a node's own name, and the links to it.
    fn way_to(&self, to: NodeId) -> Option<(u32, NodeId, Arc<Planned>)> {
        let planned = self.node.plan(&Name::of_node(&to), Some(to), None).ok()?;
        let Planned::Forward(ways) = &*planned else { return None };
        let distance = ways.hops.iter().filter(|hop| hop.to == to).map(|hop| hop.distance).min()?;
        Some((distance, to, planned))
    }

    /// Asks a node further away, over the first way that is open.
    async fn has_far(&self, to: NodeId, planned: &Planned, length: Option<u64>) -> Option<Holder> {
        let Planned::Forward(ways) = planned else { return None };
        let name = Name::of_node(&to);
        let open = self.node.ways(&name, ways, None, &[]).into_iter();
        let open = open.filter(|(link, end)| *end == to && self.is_able(link));
        for (link, _) in open.filter(|(link, _)| !self.has_failed((link.peer, to))) {
            match self.has(&link, to, length).await {
                Ok(holder) => return holder,
                Err(fault) if fault.not_started() || fault.code == Code::LinkLost => {
                    self.node.report_outcome(&name, link.peer, to, &fault);
                }
                Err(_) => return None,
            }
        }
        None
    }

    /// Asks whether a node has the blob, with this length if one is known.
    async fn has(&self, link: &Arc<Link>, to: NodeId, length: Option<u64>) -> Outcome<Option<Holder>> {
        let (_, offer) = self.ask(link, to, &Ask { digest: self.digest, length, start: 0, end: 0 }).await?;
        let fits = offer.length <= BLOB_MAX && length.is_none_or(|length| length == offer.length);
        Ok(fits.then(|| Holder { link: link.clone(), to, length: offer.length }))
    }

    fn is_able(&self, link: &Link) -> bool {
        link.trust >= Operation::FetchBlob.needs() && !self.node.transfers.liars.has(&link.peer, &self.digest)
    }
}

/// What comes next from a holder, which does not take long.
pub async fn piece(reader: &mut FrameReader<RecvStream>) -> Outcome<Piece> {
    tokio::time::timeout(PATIENCE, reader.piece()).await.unwrap_or_else(|_| {
        Err(Fault::new(Code::Unreachable, format!("nothing came for {} s", PATIENCE.as_secs())))
    })
}
