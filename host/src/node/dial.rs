//! Dialling: discovery says with whom it wants a link, the host keeps trying.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use futures::StreamExt;
use futures::stream::FuturesUnordered;
use tokio::time::timeout;
use tokio_util::task::AbortOnDropHandle;

use super::{Node, greet};
use crate::clock;
use crate::decisions::redial::Redial;
use crate::net::endpoint;
use crate::net::errors::unreachable_fault;
use crate::net::windows::HANDSHAKE;
use crate::policy::discovery::{DialOutcome, Event, Target};
use crate::words::{Code, Fault, NodeId, Outcome};

/// Targets that are wanted at a time.
const TARGETS_MOST: usize = 256;

/// Between the beginnings of attempts at the addresses of one target: the first mostly answers before, and a dead one holds up no other.
const NEXT_ADDRESS: Duration = Duration::from_millis(250);

/// What this node wants to be linked to.
#[derive(Default)]
pub struct Dials {
    wanted: Mutex<BTreeMap<Wish, Wanted>>,
}

/// Which slot wants a link, and with what address: what one slot takes back, another may go on wanting.
type Wish = (String, String);

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
        let wish = (slot.to_owned(), target.address.clone());
        if wanted.contains_key(&wish) {
            return Ok(());
        }
        if wanted.len() >= TARGETS_MOST {
            return Err(Fault::new(Code::Busy, format!("{TARGETS_MOST} addresses are dialled already")));
        }
        let task = tokio::spawn(keep(node.clone(), slot.to_owned(), target.clone(), expected));
        let entry = Wanted { last: None, peer: None, _task: AbortOnDropHandle::new(task) };
        wanted.insert(wish, entry);
        Ok(())
    }

    /// Stops wanting it. Returns the peer whose link nobody wants any more; closing it is up to the table of links.
    pub fn hang_up(&self, slot: &str, address: &str) -> Option<NodeId> {
        let mut wanted = self.wanted.lock().unwrap_or_else(PoisonError::into_inner);
        let peer = wanted.remove(&(slot.to_owned(), address.to_owned()))?.peer?;
        wanted.values().all(|other| other.peer != Some(peer)).then_some(peer)
    }

    /// Stops wanting what a slot wanted that is gone. The links stay: who is linked is no worse for it.
    pub fn forget(&self, slot: &str) {
        let mut wanted = self.wanted.lock().unwrap_or_else(PoisonError::into_inner);
        wanted.retain(|(owner, _), _| owner != slot);
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
            .map(|((_, address), wanted)| (address.clone(), wanted.last.clone()))
            .collect()
    }

    fn note(&self, wish: &Wish, outcome: &Outcome<NodeId>) {
        let mut wanted = self.wanted.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(entry) = wanted.get_mut(wish) {
            entry.last = outcome.as_ref().err().map(ToString::to_string);
            entry.peer = outcome.as_ref().ok().copied();
        }
    }
}

/// Dials again and again; rests while there is a link.
async fn keep(node: Node, slot: String, target: Target, expected: Option<NodeId>) {
    let mut redial = Redial::default();
    let (mut lost, mut patience) = (None, HANDSHAKE);
    let wish = (slot, target.address.clone());
    loop {
        let outcome = attempt(&node, &target.address, expected, patience).await;
        node.dials.note(&wish, &outcome);
        let event = DialOutcome {
            target: target.clone(),
            peer: outcome.as_ref().ok().map(ToString::to_string),
            error: outcome.as_ref().err().map(ToString::to_string),
        };
        node.tell_discovery(&wish.0, Event::Dialled(event)).await;
        if let Ok(peer) = outcome {
            if node.links.gone(&peer).await {
                redial.lost();
                lost = Some(clock::monotonic());
            }
            node.dials.note(&wish, &Err(Fault::new(Code::LinkLost, "the link was lost")));
        }
        let mut random = [0_u8; 8];
        let _ = getrandom::fill(&mut random);
        let since = lost.map(|lost| clock::monotonic().saturating_duration_since(lost));
        let next = redial.next(since, u64::from_le_bytes(random));
        patience = next.patience.unwrap_or(HANDSHAKE);
        tokio::time::sleep(next.pause).await;
    }
}

/// One attempt; returns who is there once the connection was greeted.
async fn attempt(
    node: &Node,
    address: &str,
    expected: Option<NodeId>,
    patience: Duration,
) -> Outcome<NodeId> {
    if let Some(peer) = expected
        && node.links.knows(&peer)
    {
        return Ok(peer);
    }
    let addresses = endpoint::lookup(address).await?;
    let mut attempts =
        race(&addresses, patience, |address| async move { node.endpoint.connect(address, expected).await });
    let mut last = Fault::new(Code::Unreachable, format!("{address} has no address"));
    while let Some(connected) = attempts.next().await {
        let greeted = match connected {
            Ok(connection) => {
                let peer = endpoint::peer_id(&connection)?;
                greet::greet(node, connection, peer, true).await.map(|()| peer)
            }
            Err(fault) => Err(fault),
        };
        match greeted {
            Ok(peer) => return Ok(peer),
            Err(fault) => last = fault,
        }
    }
    Err(last)
}

/// Tries all addresses, each a little after the one before, and all within this patience. What ends first comes first.
fn race<T, F: Future<Output = Outcome<T>>>(
    addresses: &[SocketAddr],
    patience: Duration,
    connect: impl Fn(SocketAddr) -> F,
) -> FuturesUnordered<impl Future<Output = Outcome<T>>> {
    let many = u32::try_from(addresses.len()).unwrap_or(u32::MAX).max(1);
    // Of many addresses the last one, too, has half of the time.
    let (mut pause, next) = (Duration::ZERO, NEXT_ADDRESS.min(patience / 2 / many));
    let attempts = addresses.iter().map(|address| {
        let (connecting, before, address) = (connect(*address), pause, *address);
        pause += next;
        async move {
            let attempt = async {
                tokio::time::sleep(before).await;
                connecting.await
            };
            let late = |_| Err(unreachable_fault(&address.to_string()));
            timeout(patience, attempt).await.unwrap_or_else(late)
        }
    });
    attempts.collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_dead_address_holds_up_no_other_one() {
        let addresses: Vec<SocketAddr> = ["[::1]:1", "127.0.0.1:2"].map(|text| text.parse().unwrap()).into();
        let begun = clock::monotonic();
        let connect = |address: SocketAddr| async move {
            if address.is_ipv6() { std::future::pending().await } else { Ok(address) }
        };
        let mut attempts = race(&addresses, Duration::from_secs(4), connect);
        assert_eq!(attempts.next().await.unwrap().unwrap(), addresses[1]);
        assert!(begun.elapsed() < Duration::from_secs(2), "{:?}", begun.elapsed());
        let dead = race(&addresses[..1], Duration::from_millis(10), connect).next().await.unwrap();
        assert_eq!(dead.unwrap_err().code, Code::Unreachable);
    }
}
