//! Dialling: discovery says with whom it wants a link, the host keeps trying.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use tokio_util::task::AbortOnDropHandle;

use super::{Node, greet};
use crate::decisions::backoff::Backoff;
use crate::net::endpoint;
use crate::policy::discovery::{DialOutcome, Event, Target};
use crate::words::{Code, Fault, NodeId, Outcome};

/// Targets that are wanted at a time.
const TARGETS_MOST: usize = 256;
/// Pauses between attempts; they never end.
const RETRY: Backoff = Backoff::new(Duration::from_secs(1), Duration::from_secs(30));

/// What this node wants to be linked to.
#[derive(Default)]
pub struct Dials {
    wanted: Mutex<BTreeMap<String, Wanted>>,
}

struct Wanted {
    last: Option<String>,
    peer: Option<NodeId>,
    _task: AbortOnDropHandle<()>,
}

impl Dials {
    /// Starts to want a link, until [`Dials::hang_up`]. Wanting it twice changes nothing.
    pub fn want(&self, node: &Node, slot: &str, target: &Target) -> Outcome<()> {
        let expected: Option<NodeId> = target.peer.as_ref().map(|peer| peer.parse()).transpose()?;
        let mut wanted = self.wanted.lock().unwrap_or_else(PoisonError::into_inner);
        if wanted.contains_key(&target.address) {
            return Ok(());
        }
        if wanted.len() >= TARGETS_MOST {
            return Err(Fault::new(Code::Busy, format!("{TARGETS_MOST} addresses are dialled already")));
        }
        let task = tokio::spawn(keep(node.clone(), slot.to_owned(), target.clone(), expected));
        let entry = Wanted { last: None, peer: None, _task: AbortOnDropHandle::new(task) };
        wanted.insert(target.address.clone(), entry);
        Ok(())
    }

    /// Stops wanting it. The link itself is closed by the peer's being dropped from the table of links.
    pub fn hang_up(&self, address: &str) -> Option<NodeId> {
        self.wanted.lock().unwrap_or_else(PoisonError::into_inner).remove(address)?.peer
    }

    /// Stops wanting anything.
    pub fn clear(&self) {
        self.wanted.lock().unwrap_or_else(PoisonError::into_inner).clear();
    }

    /// Addresses that nobody is linked at, and why the last attempt failed.
    pub fn waiting(&self) -> Vec<(String, Option<String>)> {
        let wanted = self.wanted.lock().unwrap_or_else(PoisonError::into_inner);
        wanted
            .iter()
            .filter(|(_, wanted)| wanted.peer.is_none())
            .map(|(address, wanted)| (address.clone(), wanted.last.clone()))
            .collect()
    }

    fn note(&self, address: &str, outcome: &Outcome<NodeId>) {
        let mut wanted = self.wanted.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(entry) = wanted.get_mut(address) {
            entry.last = outcome.as_ref().err().map(ToString::to_string);
            entry.peer = outcome.as_ref().ok().copied();
        }
    }
}

/// Dials again and again; rests while there is a link.
async fn keep(node: Node, slot: String, target: Target, expected: Option<NodeId>) {
    let mut backoff = RETRY;
    loop {
        let outcome = attempt(&node, &target.address, expected).await;
        node.dials.note(&target.address, &outcome);
        let event = DialOutcome {
            target: target.clone(),
            peer: outcome.as_ref().ok().map(ToString::to_string),
            error: outcome.as_ref().err().map(ToString::to_string),
        };
        node.tell_discovery(&slot, Event::Dialled(event)).await;
        if let Ok(peer) = outcome {
            backoff.reset();
            node.links.gone(&peer).await;
            node.dials.note(&target.address, &Err(Fault::new(Code::LinkLost, "the link was lost")));
        }
        let mut random = [0_u8; 8];
        let _ = getrandom::fill(&mut random);
        tokio::time::sleep(backoff.next(u64::from_le_bytes(random))).await;
    }
}

/// One attempt; returns who is there once the connection was greeted.
async fn attempt(node: &Node, address: &str, expected: Option<NodeId>) -> Outcome<NodeId> {
    if let Some(peer) = expected
        && node.links.knows(&peer)
    {
        return Ok(peer);
    }
    let mut last = Fault::new(Code::Unreachable, format!("{address} has no address"));
    for address in endpoint::lookup(address).await? {
        let connected = match node.endpoint.connect(address, expected).await {
            Ok(connection) => {
                let peer = endpoint::peer_id(&connection)?;
                greet::greet(node, connection, peer, true).await.map(|()| peer)
            }
            Err(fault) => Err(fault),
        };
        match connected {
            Ok(peer) => return Ok(peer),
            Err(fault) => last = fault,
        }
    }
    Err(last)
}
