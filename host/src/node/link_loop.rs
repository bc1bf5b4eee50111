//! The task that owns the links: who is connected, who is admitted, and what the policies are told of it.
//!
//! It takes one closed enum of events; everybody else reads the snapshot in [`super::links`]. There is at most one
//! connection per peer. A link is up when each side has admitted the other.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::mpsc;
use tokio_util::task::AbortOnDropHandle;

use super::channel::{Channel, ChannelStream, Opening};
use super::links::{Greeted, Link, LinkEvent};
use super::peering::{self, Peering};
use super::{Node, journal, roots, serve, slots};
use crate::clock;
use crate::decisions::hello::{Duplicate, LinkIdentity, duplicate};
use crate::decisions::{trust, update};
use crate::log::{self, Level};
use crate::net::endpoint;
use crate::policy::types::BaseEvent;
use crate::words::event::Happened;
use crate::words::hello::Greeting;
use crate::words::objects::{Kind, Membership};
use crate::words::{Code, Fault, NodeId, Outcome, Trust};

/// Peers that may wait for admission at the same time.
const PENDING_MOST: usize = 64;
/// Streams for channels that this node does not have yet, per peer.
const PARKED_MOST: usize = 32;
/// How often memberships are looked at again, so that one that ends is noticed.
const REVIEW: Duration = Duration::from_secs(30);

/// Runs the table.
pub(super) async fn run(node: Node, mut events: mpsc::Receiver<LinkEvent>) {
    let mut table = Table { node, peers: BTreeMap::new(), greeted: 0 };
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
    /// Connections that were greeted, and so the number of the last one.
    greeted: u64,
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
            LinkEvent::RootChanged => self.root_changed().await,
        }
        self.publish();
    }

    fn is_current(&self, peer: &NodeId, connection: u64) -> bool {
        self.peers.get(peer).is_some_and(|peering| peering.number == connection)
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
        self.greeted += 1;
        let numbered = (connection, self.greeted);
        let mut peering = Peering::new(&self.node, peer, numbered, identity, (writer, reader));
        match membership.map(|signed| self.verify(&signed, &peer)) {
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
        update::accept_membership(&self.node.trusted.load(), signed, peer, clock::now_ms())
            .map(|opened| opened.object)
    }

    /// Asks admission, and acts on a change of trust.
    async fn reconsider(&mut self, peer: &NodeId) {
        let Some(peering) = self.peers.get_mut(peer) else { return };
        let generation = self.node.generation.load_full();
        let request = peering.request(peer);
        let (verdict, mut why) = match &generation.admission {
            None => (Trust::Pending, "no admission policy runs on this node".to_owned()),
            Some(slot) => match slot.ask(|machine| machine.admit(clock::now_ms(), &request)) {
                Ok(verdict) => (peering::from_policy(verdict.trust), log::clean(&verdict.reason)),
                // While admission is down those who are in stay in, and nobody else comes in.
                Err(_) if peering.link.is_some() => return,
                Err(fault) => (Trust::Pending, fault.to_string()),
            },
        };
        if let Some(refused) = &peering.refused {
            why = format!("{why}; its membership does not hold: {refused}");
        }
        let strangers = generation.manifest.as_ref().map_or(Trust::Pending, |manifest| manifest.strangers);
        let membership = peering.membership.as_ref();
        let trust =
            trust::effective(membership.map(|membership| membership.trust), strangers, verdict, Trust::Full);
        let before = peering.trust;
        peering.trust = trust;
        peering.known.trust = trust;
        peering.known.tags = membership.map(|membership| membership.tags.clone()).unwrap_or_default();
        // Before anything is served or said: what the peer sends at once is judged by what is published.
        self.publish();
        let Some(peering) = self.peers.get_mut(peer) else { return };
        if trust < Trust::Basic {
            let address = peering.known.address.clone();
            let refused = Happened::PeerRefused { peer: Some(*peer), address, why: journal::shorten(&why) };
            self.node.journal.record(refused);
            peering.known.why = Some(format!("not admitted here: {why}"));
            peering.serving = None;
            peering.send(Greeting::Pending { reason: why });
            self.link_down(peer, "the peer is not admitted any more").await;
            return;
        }
        if peering.serving.is_none() {
            endpoint::admit(&peering.connection);
            let serving =
                serve::connection(self.node.clone(), peering.connection.clone(), peering.number, *peer);
            peering.serving = Some(AbortOnDropHandle::new(tokio::spawn(serving)));
            peering.send(Greeting::Welcome(peering::welcome(&self.node, &peering.known.address)));
            peering.known.why = Some("waits to be admitted by the peer".to_owned());
        }
        if before != trust {
            self.node.journal.record(Happened::PeerAdmitted { peer: *peer, trust });
        }
        self.link_up(peer, before != trust).await;
    }

    async fn said(&mut self, peer: NodeId, greeting: Greeting) {
        let Some(peering) = self.peers.get_mut(&peer) else { return };
        match greeting {
            Greeting::Welcome(welcome) | Greeting::Changed(welcome) => {
                peering.welcome = Some(welcome);
                self.link_up(&peer, true).await;
                self.offer_roots(&peer).await;
            }
            Greeting::Pending { reason } => {
                let reason = log::clean(&reason);
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
            // Roots are taken before they come here.
            Greeting::Roots { .. } => {}
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
        let record = peering.record(peer, &welcome);
        let mut channels = BTreeMap::new();
        let mut told = Vec::new();
        for (installed, slot) in generation.policies() {
            let name = &installed.entry.slot;
            let known = peering.link.as_ref().and_then(|link| link.channels.get(name));
            let protocol = installed.entry.protocol.clone().unwrap_or_default();
            let shared = !protocol.is_empty()
                && peering.trust >= channel_of(installed.entry.kind).needs()
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
            number: peering.number,
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
            self.node.journal.record(Happened::LinkUp {
                peer: *peer,
                label: journal::shorten(&record.label),
                address: peering.known.address.clone(),
                dialled: peering.known.dialled,
            });
        }
        let parked = std::mem::take(&mut peering.parked);
        // Published before the policies hear of it: what they send at once must find the channel.
        self.publish();
        for (slot, event) in told {
            slots::report(&self.node, slot.tell_base(event).await);
        }
        // After the policies have heard of it: what the peer has sent already must not come before the link.
        for stream in parked {
            self.channel(peer, stream).await;
        }
    }

    async fn link_down(&mut self, peer: &NodeId, why: &str) {
        let Some(peering) = self.peers.get_mut(peer) else { return };
        if peering.link.take().is_none() {
            return;
        }
        let text = format!("link to {} is down: {why}", peer.short());
        self.node.log.host(Level::Warn, &text);
        self.node.journal.record(Happened::LinkDown { peer: *peer, why: journal::shorten(why) });
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
            self.say_changed(&peer);
            self.reconsider(&peer).await;
        }
        let linked: Vec<NodeId> =
            self.peers.iter().filter(|(_, peering)| peering.link.is_some()).map(|(peer, _)| *peer).collect();
        for peer in linked {
            self.link_up(&peer, false).await;
        }
    }

    fn say_changed(&self, peer: &NodeId) {
        if let Some(peering) = self.peers.get(peer).filter(|peering| peering.serving.is_some()) {
            peering.send(Greeting::Changed(peering::welcome(&self.node, &peering.known.address)));
        }
    }

    /// Who is revoked is out; who has an older root is offered this one.
    async fn root_changed(&mut self) {
        let trusted = self.node.trusted.load_full();
        for peer in self.peers.keys().copied().collect::<Vec<_>>() {
            self.say_changed(&peer);
            self.offer_roots(&peer).await;
            if trusted.root.is_revoked(&peer)
                && let Some(peering) = self.peers.get_mut(&peer)
            {
                peering.membership = None;
                peering.refused = Some(format!("revoked by root version {}", trusted.root.version));
                self.reconsider(&peer).await;
            }
        }
    }

    async fn offer_roots(&self, peer: &NodeId) {
        let Some(peering) = self.peers.get(peer).filter(|peering| peering.serving.is_some()) else { return };
        let Some(welcome) = &peering.welcome else { return };
        if welcome.root < self.node.trusted.load().root.version {
            for greeting in roots::offers(&self.node, welcome.root).await {
                peering.send(greeting);
            }
        }
    }

    /// Memberships end with time; who lapsed is not admitted any more.
    async fn review(&mut self) {
        let now = clock::now_ms();
        for peer in self.peers.keys().copied().collect::<Vec<_>>() {
            let Some(peering) = self.peers.get_mut(&peer) else { continue };
            let lapsed = peering.membership.as_ref().is_some_and(|membership| membership.expires <= now);
            if lapsed {
                peering.membership = None;
                peering.refused = Some("expired".to_owned());
                self.reconsider(&peer).await;
            }
            self.offer_roots(&peer).await;
        }
        self.publish();
    }

    fn publish(&self) {
        let links =
            self.peers.iter().filter_map(|(peer, peering)| Some((*peer, peering.link.clone()?))).collect();
        let known = self.peers.iter().map(|(peer, peering)| (*peer, peering.known.clone())).collect();
        self.node.links.publish(links, known);
    }
}

/// What a peer does that has a channel to a slot of this kind.
fn channel_of(kind: Kind) -> trust::Operation {
    if kind == Kind::Sync { trust::Operation::Sync } else { trust::Operation::Channel }
}
