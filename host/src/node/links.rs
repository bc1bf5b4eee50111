//! Links as everybody sees them: a snapshot that `link_loop` publishes.

use std::collections::BTreeMap;
use std::sync::Arc;

use arc_swap::ArcSwap;
use quinn::{Connection, RecvStream, SendStream};
use tokio::sync::{oneshot, watch};

use super::channel::{Channel, ChannelStream};
use crate::clock::Instant;
use crate::net::{FrameReader, FrameWriter};
use crate::words::hello::{Greeting, Hello, Welcome};
use crate::words::{NodeId, Outcome, Trust};

/// Everything that happens to the table. Connections are named by their number.
pub enum LinkEvent {
    /// A connection was greeted.
    Greeted(Box<Greeted>),
    /// A peer said something on its hello stream.
    Said(NodeId, u64, Box<Greeting>),
    /// A connection is gone.
    Closed(NodeId, u64, String),
    /// A peer opened a channel's stream.
    Channel(NodeId, u64, Box<ChannelStream>),
    /// Admission wants to be asked again.
    Reconsider(NodeId),
    /// Discovery does not want the link any more.
    HangUp(NodeId),
    /// What runs here has changed.
    GenerationChanged,
    /// Another root is in force.
    RootChanged,
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
    /// Its number: no other connection of this node has it, not even a later one (quinn's `stable_id` is an address, and comes again).
    pub number: u64,
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
    /// Publishes a new state of the table.
    pub(super) fn publish(&self, links: BTreeMap<NodeId, Arc<Link>>, known: BTreeMap<NodeId, Known>) {
        self.table.store(Arc::new(links));
        self.known.send_replace(Arc::new(known));
    }

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

    /// Sees each change of the table.
    pub fn changes(&self) -> watch::Receiver<Arc<BTreeMap<NodeId, Known>>> {
        self.known.subscribe()
    }

    /// Whether there is a connection to this peer, linked or not.
    pub fn knows(&self, peer: &NodeId) -> bool {
        self.known.borrow().contains_key(peer)
    }

    /// Returns when there is no connection to this peer, and whether there was a link meanwhile.
    pub async fn gone(&self, peer: &NodeId) -> bool {
        let mut known = self.known.subscribe();
        let mut linked = false;
        // The sender lives as long as this does.
        let gone = known.wait_for(|known| {
            linked |= self.get(peer).is_some();
            !known.contains_key(peer)
        });
        let _ = gone.await;
        linked
    }
}
