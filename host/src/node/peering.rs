//! One peer in the table of links, and what is said on its hello stream.

use std::sync::Arc;
use std::time::Duration;

use quinn::{Connection, RecvStream, SendStream};
use tokio::sync::mpsc;
use tokio_util::task::AbortOnDropHandle;

use super::channel::ChannelStream;
use super::links::{Known, Link, LinkEvent};
use super::{Node, greet, roots};
use crate::clock;
use crate::decisions::hello::LinkIdentity;
use crate::net::{FrameReader, FrameWriter, endpoint};
use crate::policy::admission;
use crate::policy::types::{Link as LinkRecord, PeerSlot as PolicyPeerSlot, Trust as PolicyTrust};
use crate::words::hello::{Greeting, PeerSlot, Welcome};
use crate::words::objects::Membership;
use crate::words::{Code, NodeId, Trust};

/// Greetings that wait to be sent to one peer.
const GREETINGS: usize = 16;
/// Pause after roots that do not hold.
const AFTER_BAD_ROOTS: Duration = Duration::from_secs(1);

/// A connection to one peer, linked or not.
pub(super) struct Peering {
    pub(super) connection: Connection,
    pub(super) number: u64,
    pub(super) identity: LinkIdentity,
    pub(super) membership: Option<Membership>,
    pub(super) refused: Option<String>,
    pub(super) trust: Trust,
    pub(super) welcome: Option<Welcome>,
    pub(super) known: Known,
    pub(super) link: Option<Arc<Link>>,
    pub(super) parked: Vec<ChannelStream>,
    greetings: mpsc::Sender<Greeting>,
    _hello: AbortOnDropHandle<()>,
    pub(super) serving: Option<AbortOnDropHandle<()>>,
}

impl Peering {
    /// A connection that has just been greeted; nothing is known of the peer but its key.
    pub(super) fn new(
        node: &Node,
        peer: NodeId,
        (connection, number): (Connection, u64),
        identity: LinkIdentity,
        (writer, reader): (FrameWriter<SendStream>, FrameReader<RecvStream>),
    ) -> Self {
        let known = Known {
            address: endpoint::remote_address(&connection).to_string(),
            trust: Trust::Pending,
            tags: Vec::new(),
            dialled: identity.dialler == node.identity.id,
            since: clock::monotonic(),
            why: None,
            connection: connection.clone(),
        };
        let (greetings, outbox) = mpsc::channel(GREETINGS);
        let conversation = converse(node.clone(), (connection.clone(), number), peer, writer, reader, outbox);
        let hello = tokio::spawn(conversation);
        Self {
            connection,
            number,
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
        }
    }

    /// Queues a greeting. A peer that does not take them is cut off.
    pub(super) fn send(&self, greeting: Greeting) {
        if self.greetings.try_send(greeting).is_err() {
            endpoint::close(&self.connection, Code::Busy, "the peer does not read its hello stream");
        }
    }

    /// What admission is asked about this peer.
    pub(super) fn request(&self, peer: &NodeId) -> admission::Request {
        admission::Request {
            peer: peer.to_string(),
            address: self.known.address.clone(),
            dialled: self.known.dialled,
            membership: self.membership.as_ref().map(|membership| admission::Membership {
                trust: to_policy(membership.trust),
                tags: membership.tags.clone(),
                names: membership.names.clone(),
                expires: membership.expires,
            }),
        }
    }

    /// The link as policies see it.
    pub(super) fn record(&self, peer: &NodeId, welcome: &Welcome) -> LinkRecord {
        let slot =
            |slot: &PeerSlot| PolicyPeerSlot { slot: slot.slot.clone(), protocol: slot.protocol.clone() };
        LinkRecord {
            peer: peer.to_string(),
            label: welcome.label.clone(),
            tags: self.known.tags.clone(),
            trust: to_policy(self.trust),
            rtt_us: u32::try_from(self.connection.rtt().as_micros()).unwrap_or(u32::MAX),
            dialled: self.known.dialled,
            slots: welcome.slots.iter().map(slot).collect(),
        }
    }
}

/// Carries the hello stream: greetings out, greetings in, and the news that the connection is gone.
async fn converse(
    node: Node,
    (connection, number): (Connection, u64),
    peer: NodeId,
    mut writer: FrameWriter<SendStream>,
    mut reader: FrameReader<RecvStream>,
    mut outbox: mpsc::Receiver<Greeting>,
) {
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
                Ok(Greeting::Roots { roots }) => {
                    if is_admitted(&node, &peer) && roots::offered(&node, &peer, &roots).await.is_err() {
                        // Each costs many signatures to look at.
                        tokio::time::sleep(AFTER_BAD_ROOTS).await;
                    }
                }
                Ok(greeting) => {
                    if node.events.send(LinkEvent::Said(peer, number, Box::new(greeting))).await.is_err() {
                        return;
                    }
                }
                Err(fault) => break fault.what,
            },
        }
    };
    let _ = node.events.send(LinkEvent::Closed(peer, number, why)).await;
}

/// Whether what the peer brings is worth looking at.
fn is_admitted(node: &Node, peer: &NodeId) -> bool {
    node.links.known().get(peer).is_some_and(|known| known.trust >= Trust::Basic)
}

/// What this node says of itself to those it has admitted.
pub(super) fn welcome(node: &Node, observed: &str) -> Welcome {
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
        root: node.trusted.load().root.version,
        newest: node.spread.taken().announces,
        version: env!("CARGO_PKG_VERSION").to_owned(),
        observed: observed.to_owned(),
    }
}

pub(super) fn to_policy(trust: Trust) -> PolicyTrust {
    match trust {
        Trust::Unknown => PolicyTrust::Unknown,
        Trust::Pending => PolicyTrust::Pending,
        Trust::Basic => PolicyTrust::Basic,
        Trust::Trusted => PolicyTrust::Trusted,
        Trust::Full => PolicyTrust::Full,
    }
}

pub(super) fn from_policy(trust: PolicyTrust) -> Trust {
    match trust {
        PolicyTrust::Unknown => Trust::Unknown,
        PolicyTrust::Pending => Trust::Pending,
        PolicyTrust::Basic => Trust::Basic,
        PolicyTrust::Trusted => Trust::Trusted,
        PolicyTrust::Full => Trust::Full,
    }
}
