//! Links: who is connected, who is admitted, and what the policies are told of it.
//!
//! One task owns the table and takes one closed enum of events; everybody else reads a snapshot. There is at most one
//! connection per peer. A link is up when each side has admitted the other.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use quinn::{Connection, RecvStream, SendStream};
use tokio::sync::{mpsc, oneshot, watch};
use tokio_util::task::AbortOnDropHandle;

use super::channel::{Channel, ChannelStream, Opening};
use super::{Node, greet, serve, slots};
use crate::clock::{self, Instant};
use crate::decisions::hello::{Duplicate, LinkIdentity, duplicate};
use crate::decisions::{trust, update};
use crate::log::Level;
use crate::net::endpoint;
use crate::net::{FrameReader, FrameWriter};
use crate::policy::admission;
use crate::policy::types::{BaseEvent, Link as LinkRecord, PeerSlot as PolicyPeerSlot, Trust as PolicyTrust};
use crate::words::hello::{Greeting, Hello, PeerSlot, Welcome};
use crate::words::objects::Membership;
use crate::words::{Code, Fault, NodeId, Outcome, Trust};

/// Peers that may wait for admission at the same time.
const PENDING_MOST: usize = 64;
/// Greetings that wait to be sent to one peer.
const GREETINGS: usize = 16;
/// Streams for channels that this node does not have yet, per peer.
const PARKED_MOST: usize = 32;
/// How often memberships are looked at again, so that one that ends is noticed.
const REVIEW: Duration = Duration::from_secs(30);

/// Everything that happens to the table.
pub enum LinkEvent {
    /// A connection was greeted.
    Greeted(Box<Greeted>),
    /// A peer said something on its hello stream.
    Said(NodeId, usize, Box<Greeting>),
    /// A connection is gone.
    Closed(NodeId, usize, String),
    /// A peer opened a channel's stream.
    Channel(NodeId, usize, Box<ChannelStream>),
    /// Admission wants to be asked again.
    Reconsider(NodeId),
    /// Discovery does not want the link any more.
    HangUp(NodeId),
    /// What runs here has changed.
    GenerationChanged,
}

/// A greeted connection.
pub struct Greeted {
    /// The connection.
    pub connection: Connection,
    /// Whose key it is.
    pub peer: NodeId,
    /// What it said.
    pub hello: Hello,
    /// The membership that it showed, signed.
    pub membership: Option<Vec<u8>>,
    /// Whether this node dialled.
    pub dialled: bool,
    /// The hello stream.
    pub writer: FrameWriter<SendStream>,
    /// The hello stream.
    pub reader: FrameReader<RecvStream>,
    /// Told what became of it.
    pub done: oneshot::Sender<Outcome<()>>,
}

/// A link that is up, for everybody.
pub struct Link {
    /// The peer.
    pub peer: NodeId,
    /// The connection.
    pub connection: Connection,
    /// Effective trust.
    pub trust: Trust,
    /// What the peer says of itself.
    pub welcome: Welcome,
    /// Channels by slot.
    pub channels: BTreeMap<String, Channel>,
}

/// A connection to a peer, linked or not, for reports.
#[derive(Clone)]
pub struct Known {
    /// Where it is.
    pub address: String,
    /// Effective trust.
    pub trust: Trust,
    /// Tags of its membership.
    pub tags: Vec<String>,
    /// Whether this node dialled.
    pub dialled: bool,
    /// Since when.
    pub since: Instant,
    /// Why there is no link.
    pub why: Option<String>,
    /// Its round trip and more.
    pub connection: Connection,
}

/// The published table.
pub struct Links {
    table: ArcSwap<BTreeMap<NodeId, Arc<Link>>>,
    known: watch::Sender<Arc<BTreeMap<NodeId, Known>>>,
}

impl Default for Links {
    fn default() -> Self {
        Self { table: ArcSwap::default(), known: watch::channel(Arc::default()).0 }
    }
}

impl Links {
    /// The links that are up.
    pub fn all(&self) -> Arc<BTreeMap<NodeId, Arc<Link>>> {
        self.table.load_full()
    }

    /// The link to a peer.
    pub fn get(&self, peer: &NodeId) -> Option<Arc<Link>> {
        self.table.load().get(peer).cloned()
    }

    /// The channel of a slot to a peer.
    pub fn channel(&self, peer: &NodeId, slot: &str) -> Option<Channel> {
        self.table.load().get(peer)?.channels.get(slot).cloned()
    }

    /// Everybody who is connected.
    pub fn known(&self) -> Arc<BTreeMap<NodeId, Known>> {
        self.known.borrow().clone()
    }

    /// Whether there is a connection to this peer, linked or not.
    pub fn knows(&self, peer: &NodeId) -> bool {
        self.known.borrow().contains_key(peer)
    }

    /// Returns when there is no connection to this peer.
    pub async fn gone(&self, peer: &NodeId) {
        let mut known = self.known.subscribe();
        // The sender lives as long as this does.
        let _ = known.wait_for(|known| !known.contains_key(peer)).await;
    }
}

/// A row of the task's own table.
struct Peering {
    connection: Connection,
    identity: LinkIdentity,
    membership: Option<(Membership, Vec<u8>)>,
    refused: Option<String>,
    trust: Trust,
    welcome: Option<Welcome>,
    known: Known,
    link: Option<Arc<Link>>,
    parked: Vec<ChannelStream>,
    greetings: mpsc::Sender<Greeting>,
    _hello: AbortOnDropHandle<()>,
    serving: Option<AbortOnDropHandle<()>>,
}

/// Runs the table.
pub async fn run(node: Node, mut events: mpsc::Receiver<LinkEvent>) {
    let mut table = Table { node, peers: BTreeMap::new() };
    let mut review = tokio::time::interval(REVIEW);
    loop {
        tokio::select! {
            biased;
            event = events.recv() => match event {
                Some(event) => table.take(event).await,
                None => return,
            },
            _ = review.tick() => table.review().await,
        }
    }
}

struct Table {
    node: Node,
    peers: BTreeMap<NodeId, Peering>,
}

impl Table {
    async fn take(&mut self, event: LinkEvent) {
        match event {
            LinkEvent::Greeted(greeted) => self.greeted(*greeted).await,
            LinkEvent::Said(peer, connection, greeting) => {
                if self.is_current(&peer, connection) {
                    self.said(peer, *greeting).await;
                }
            }
            LinkEvent::Closed(peer, connection, why) => {
                if self.is_current(&peer, connection) {
                    self.drop_peer(&peer, &why).await;
                }
            }
            LinkEvent::Channel(peer, connection, stream) => {
                if self.is_current(&peer, connection) {
                    self.channel(&peer, *stream).await;
                }
            }
            LinkEvent::Reconsider(peer) => self.reconsider(&peer).await,
            LinkEvent::HangUp(peer) => {
                if let Some(peering) = self.peers.get(&peer) {
                    endpoint::close(&peering.connection, Code::LinkLost, "the link is not wanted any more");
                }
            }
            LinkEvent::GenerationChanged => self.generation_changed().await,
        }
        self.publish();
    }

    fn is_current(&self, peer: &NodeId, connection: usize) -> bool {
        self.peers.get(peer).is_some_and(|peering| peering.connection.stable_id() == connection)
    }

    async fn greeted(&mut self, greeted: Greeted) {
        let Greeted { connection, peer, hello, membership, dialled, writer, reader, done } = greeted;
        let own = self.node.identity.id;
        let identity = LinkIdentity {
            boot: hello.boot,
            random: hello.random,
            dialler: if dialled { own } else { peer },
        };
        if let Some(existing) = self.peers.get(&peer) {
            match duplicate(&existing.identity, &identity, own, peer) {
                Duplicate::ReplaceOld => {
                    self.drop_peer(&peer, "the peer came back on a new connection").await
                }
                Duplicate::KeepOld => {
                    endpoint::close(&connection, Code::Busy, "there is a link already");
                    let _ = done.send(Ok(()));
                    return;
                }
                Duplicate::DuplicateIdentity => {
                    let what = format!("two machines use the key of {peer}");
                    self.node.log.host(Level::Error, &format!("duplicate-identity: {what}"));
                    endpoint::close(&connection, Code::DuplicateIdentity, &what);
                    let _ = done.send(Err(Fault::new(Code::DuplicateIdentity, what)));
                    return;
                }
            }
        }
        let pending = self.peers.values().filter(|peering| peering.link.is_none()).count();
        if pending >= PENDING_MOST {
            endpoint::close(&connection, Code::Busy, "too many peers wait for admission");
            let _ = done.send(Err(Fault::new(Code::Busy, "too many peers wait for admission")));
            return;
        }
        let address = endpoint::remote_address(&connection).to_string();
        let known = Known {
            address,
            trust: Trust::Pending,
            tags: Vec::new(),
            dialled,
            since: clock::monotonic(),
            why: None,
            connection: connection.clone(),
        };
        let (greetings, outbox) = mpsc::channel(GREETINGS);
        let hello =
            tokio::spawn(converse(self.node.clone(), connection.clone(), peer, writer, reader, outbox));
        let mut peering = Peering {
            connection,
            identity,
            membership: None,
            refused: None,
            trust: Trust::Pending,
            welcome: None,
            known,
            link: None,
            parked: Vec::new(),
            greetings,
            _hello: AbortOnDropHandle::new(hello),
            serving: None,
        };
        match membership.map(|signed| self.verify(&signed, &peer).map(|membership| (membership, signed))) {
            None => {}
            Some(Ok(membership)) => peering.membership = Some(membership),
            Some(Err(fault)) => peering.refused = Some(fault.to_string()),
        }
        self.peers.insert(peer, peering);
        self.reconsider(&peer).await;
        self.publish();
        let _ = done.send(Ok(()));
    }

    fn verify(&self, signed: &[u8], peer: &NodeId) -> Outcome<Membership> {
        update::accept_membership(&self.node.identity.trusted, signed, peer, clock::now_ms())
            .map(|opened| opened.object)
    }

    /// Asks admission, and acts on a change of trust.
    async fn reconsider(&mut self, peer: &NodeId) {
        let Some(peering) = self.peers.get_mut(peer) else { return };
        let generation = self.node.generation.load_full();
        let membership = peering.membership.as_ref().map(|(membership, _)| membership);
        let request = admission::Request {
            peer: peer.to_string(),
            address: peering.known.address.clone(),
            dialled: peering.known.dialled,
            membership: membership.map(policy_membership),
        };
        let (verdict, mut why) = match &generation.admission {
            None => (Trust::Pending, "no admission policy runs on this node".to_owned()),
            Some(slot) => match slot.ask(|machine| machine.admit(clock::now_ms(), &request)) {
                Ok(verdict) => (from_policy(verdict.trust), verdict.reason),
                // While admission is down those who are in stay in, and nobody else comes in.
                Err(_) if peering.link.is_some() => return,
                Err(fault) => (Trust::Pending, fault.to_string()),
            },
        };
        if let Some(refused) = &peering.refused {
            why = format!("{why}; its membership does not hold: {refused}");
        }
        let strangers = generation.manifest.as_ref().map_or(Trust::Pending, |manifest| manifest.strangers);
        let trust =
            trust::effective(membership.map(|membership| membership.trust), strangers, verdict, Trust::Full);
        let before = peering.trust;
        peering.trust = trust;
        peering.known.trust = trust;
        peering.known.tags = membership.map(|membership| membership.tags.clone()).unwrap_or_default();
        if trust < Trust::Basic {
            peering.known.why = Some(format!("not admitted here: {why}"));
            peering.serving = None;
            send(peering, Greeting::Pending { reason: why });
            self.link_down(peer, "the peer is not admitted any more").await;
            return;
        }
        if peering.serving.is_none() {
            endpoint::admit(&peering.connection);
            let serving = serve::connection(self.node.clone(), peering.connection.clone(), *peer);
            peering.serving = Some(AbortOnDropHandle::new(tokio::spawn(serving)));
            let welcome = welcome(&self.node, &peering.known.address);
            send(peering, Greeting::Welcome(welcome));
            peering.known.why = Some("waits to be admitted by the peer".to_owned());
        }
        self.link_up(peer, before != trust).await;
    }

    async fn said(&mut self, peer: NodeId, greeting: Greeting) {
        let Some(peering) = self.peers.get_mut(&peer) else { return };
        match greeting {
            Greeting::Welcome(welcome) | Greeting::Changed(welcome) => {
                peering.welcome = Some(welcome);
                self.link_up(&peer, true).await;
            }
            Greeting::Pending { reason } => {
                peering.welcome = None;
                if peering.trust >= Trust::Basic {
                    peering.known.why = Some(format!("not admitted there: {reason}"));
                }
                self.link_down(&peer, &format!("the peer does not admit this node: {reason}")).await;
            }
            Greeting::Refuse(fault) => {
                peering.known.why = Some(fault.to_string());
                endpoint::close(&peering.connection, fault.code, &fault.what);
            }
            Greeting::Hello(_) | Greeting::Show { .. } => {
                endpoint::close(&peering.connection, Code::Protocol, "hello was said twice");
            }
        }
    }

    /// Brings a link up when both sides have admitted each other, or brings its record up to date.
    async fn link_up(&mut self, peer: &NodeId, changed: bool) {
        let Some(peering) = self.peers.get_mut(peer) else { return };
        let Some(welcome) = peering.welcome.clone().filter(|_| peering.trust >= Trust::Basic) else { return };
        let generation = self.node.generation.load_full();
        let record = record(peer, peering, &welcome);
        let mut channels = BTreeMap::new();
        let mut told = Vec::new();
        for (installed, slot) in generation.policies() {
            let name = &installed.entry.slot;
            let known = peering.link.as_ref().and_then(|link| link.channels.get(name));
            let protocol = installed.entry.protocol.clone().unwrap_or_default();
            let shared = !protocol.is_empty()
                && peering.trust >= trust::Operation::Channel.needs()
                && welcome.slots.iter().any(|theirs| theirs.slot == *name && theirs.protocol == protocol);
            if shared {
                let channel = known.cloned().unwrap_or_else(|| {
                    let digest = installed.entry.component.digest;
                    let opening = Opening { slot: name.clone(), protocol, round: 1, digest };
                    let (connection, log) = (peering.connection.clone(), self.node.log.clone());
                    Channel::open(connection, slot.clone(), record.clone(), opening, log)
                });
                channels.insert(name.clone(), channel);
            }
            // A slot that has just got its channel starts with this peer from nothing.
            let up = peering.link.is_none() || (shared != known.is_some());
            match (up, changed) {
                (true, _) => told.push((slot.clone(), BaseEvent::LinkUp(record.clone()))),
                (false, true) => told.push((slot.clone(), BaseEvent::LinkChanged(record.clone()))),
                (false, false) => {}
            }
        }
        let is_new = peering.link.is_none();
        let link = Link {
            peer: *peer,
            connection: peering.connection.clone(),
            trust: peering.trust,
            welcome,
            channels,
        };
        peering.link = Some(Arc::new(link));
        peering.known.why = None;
        if is_new {
            peering.known.since = clock::monotonic();
            let text = format!("link to {} ({}) is up", record.label, peer.short());
            self.node.log.host(Level::Info, &text);
        }
        for stream in std::mem::take(&mut peering.parked) {
            self.channel(peer, stream).await;
        }
        // Published before the policies hear of it: what they send at once must find the channel.
        self.publish();
        for (slot, event) in told {
            slots::report(&self.node, slot.tell_base(event).await);
        }
    }

    async fn link_down(&mut self, peer: &NodeId, why: &str) {
        let Some(peering) = self.peers.get_mut(peer) else { return };
        if peering.link.take().is_none() {
            return;
        }
        let text = format!("link to {} is down: {why}", peer.short());
        self.node.log.host(Level::Warn, &text);
        self.publish();
        let generation = self.node.generation.load_full();
        for (_, slot) in generation.policies() {
            slots::report(&self.node, slot.tell_base(BaseEvent::LinkDown(peer.to_string())).await);
        }
    }

    async fn drop_peer(&mut self, peer: &NodeId, why: &str) {
        self.link_down(peer, why).await;
        if let Some(peering) = self.peers.remove(peer) {
            endpoint::close(&peering.connection, Code::LinkLost, why);
        }
        self.publish();
    }

    async fn channel(&mut self, peer: &NodeId, stream: ChannelStream) {
        let Some(peering) = self.peers.get_mut(peer) else { return };
        let channel = peering.link.as_ref().and_then(|link| link.channels.get(&stream.opening.slot));
        match channel {
            Some(channel) => channel.attach(stream).await,
            // The peer heard of the link, or of a slot of ours, before this node heard of it from the peer.
            None if peering.parked.len() < PARKED_MOST => peering.parked.push(stream),
            None => {}
        }
    }

    /// New slots hear of the links, gone ones lose their channels, peers hear what runs here, and admission is asked again.
    async fn generation_changed(&mut self) {
        for peer in self.peers.keys().copied().collect::<Vec<_>>() {
            if let Some(peering) = self.peers.get_mut(&peer)
                && peering.serving.is_some()
            {
                let changed = welcome(&self.node, &peering.known.address);
                send(peering, Greeting::Changed(changed));
            }
            self.reconsider(&peer).await;
        }
        let linked: Vec<NodeId> =
            self.peers.iter().filter(|(_, peering)| peering.link.is_some()).map(|(peer, _)| *peer).collect();
        for peer in linked {
            self.link_up(&peer, false).await;
        }
    }

    /// Memberships end with time; who lapsed is not admitted any more.
    async fn review(&mut self) {
        let now = clock::now_ms();
        for peer in self.peers.keys().copied().collect::<Vec<_>>() {
            let Some(peering) = self.peers.get_mut(&peer) else { continue };
            let lapsed = peering.membership.as_ref().is_some_and(|(membership, _)| membership.expires <= now);
            if lapsed {
                peering.membership = None;
                peering.refused = Some("expired".to_owned());
                self.reconsider(&peer).await;
            }
        }
        self.publish();
    }

    fn publish(&self) {
        let links =
            self.peers.iter().filter_map(|(peer, peering)| Some((*peer, peering.link.clone()?))).collect();
        self.node.links.table.store(Arc::new(links));
        let known = self.peers.iter().map(|(peer, peering)| (*peer, peering.known.clone())).collect();
        self.node.links.known.send_replace(Arc::new(known));
    }
}

/// Carries the hello stream: greetings out, greetings in, and the news that the connection is gone.
async fn converse(
    node: Node,
    connection: Connection,
    peer: NodeId,
    mut writer: FrameWriter<SendStream>,
    mut reader: FrameReader<RecvStream>,
    mut outbox: mpsc::Receiver<Greeting>,
) {
    let id = connection.stable_id();
    let why = loop {
        tokio::select! {
            biased;
            error = connection.closed() => break crate::net::errors::link_fault(&error).what,
            greeting = outbox.recv() => match greeting {
                Some(greeting) => {
                    if let Err(fault) = greet::say(&mut writer, &greeting).await {
                        break fault.what;
                    }
                }
                None => return,
            },
            greeting = greet::next(&mut reader) => match greeting {
                Ok(greeting) => {
                    if node.events.send(LinkEvent::Said(peer, id, Box::new(greeting))).await.is_err() {
                        return;
                    }
                }
                Err(fault) => break fault.what,
            },
        }
    };
    let _ = node.events.send(LinkEvent::Closed(peer, id, why)).await;
}

/// Queues a greeting. A peer that does not take them is cut off.
fn send(peering: &Peering, greeting: Greeting) {
    if peering.greetings.try_send(greeting).is_err() {
        endpoint::close(&peering.connection, Code::Busy, "the peer does not read its hello stream");
    }
}

/// What this node says of itself to those it has admitted.
fn welcome(node: &Node, observed: &str) -> Welcome {
    let generation = node.generation.load();
    let slots = generation
        .policies()
        .filter_map(|(installed, _)| {
            let protocol = installed.entry.protocol.clone()?;
            Some(PeerSlot { slot: installed.entry.slot.clone(), protocol })
        })
        .collect();
    Welcome {
        label: node.identity.label.clone(),
        tags: node.identity.membership.tags.clone(),
        slots,
        generation: generation.version,
        manifest: generation.version,
        version: env!("CARGO_PKG_VERSION").to_owned(),
        observed: observed.to_owned(),
    }
}

fn record(peer: &NodeId, peering: &Peering, welcome: &Welcome) -> LinkRecord {
    LinkRecord {
        peer: peer.to_string(),
        label: welcome.label.clone(),
        tags: peering.known.tags.clone(),
        trust: to_policy(peering.trust),
        rtt_us: u32::try_from(peering.connection.rtt().as_micros()).unwrap_or(u32::MAX),
        dialled: peering.known.dialled,
        slots: welcome
            .slots
            .iter()
            .map(|slot| PolicyPeerSlot { slot: slot.slot.clone(), protocol: slot.protocol.clone() })
            .collect(),
    }
}

fn policy_membership(membership: &Membership) -> admission::Membership {
    admission::Membership {
        trust: to_policy(membership.trust),
        tags: membership.tags.clone(),
        names: membership.names.clone(),
        expires: membership.expires,
    }
}

fn to_policy(trust: Trust) -> PolicyTrust {
    match trust {
        Trust::Unknown => PolicyTrust::Unknown,
        Trust::Pending => PolicyTrust::Pending,
        Trust::Basic => PolicyTrust::Basic,
        Trust::Trusted => PolicyTrust::Trusted,
        Trust::Full => PolicyTrust::Full,
    }
}

fn from_policy(trust: PolicyTrust) -> Trust {
    match trust {
        PolicyTrust::Unknown => Trust::Unknown,
        PolicyTrust::Pending => Trust::Pending,
        PolicyTrust::Basic => Trust::Basic,
        PolicyTrust::Trusted => Trust::Trusted,
        PolicyTrust::Full => Trust::Full,
    }
}
