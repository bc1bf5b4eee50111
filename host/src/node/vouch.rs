//! Confirming to a peer that it can still be reached with what it took from this node.
//!
//! Who applies a manifest confirms it where it was given. Where it came by itself nobody looks on, so the nodes do it for each other: one that
//! runs the very same asks each of its peers once, as every call goes, and says by which claim it found the way. A peer that is asked by a
//! trusted node, with what its own new policies made known, has been reached.

use std::collections::BTreeMap;
use std::time::Duration;

use futures::StreamExt;
use futures::stream;

use super::links::Link;
use super::mesh::{Way, ask};
use super::{Node, NodeInner, probation};
use crate::decisions::trust::Operation;
use crate::log::Level;
use crate::words::NodeId;
use crate::words::control::OnProbation;

/// Pause between two questions to one peer: its claim may be on the way.
const AGAIN: Duration = Duration::from_millis(500);
/// Questions to one peer about one generation: the longest probation, and a pause in which nothing comes.
const ASKED_MOST: u32 = 7_200;

/// Peers that are asked at a time.
const AT_A_TIME: usize = 16;

/// What was asked of one peer.
#[derive(Clone, Copy, PartialEq, Eq)]
struct Asked {
    link: u64,
    version: u64,
    times: u32,
    over: bool,
}

/// Asks peers, for as long as the node runs.
pub(super) async fn run(node: Node) {
    let mut changes = node.links.changes();
    let mut asked: BTreeMap<NodeId, Asked> = BTreeMap::new();
    loop {
        changes.mark_unchanged();
        let links = node.links.all();
        asked.retain(|peer, _| links.contains_key(peer));
        let mut due = Vec::new();
        for link in links.values() {
            let Some(version) = same(&node, link) else { continue };
            let fresh = Asked { link: link.number, version, times: 0, over: false };
            let known = asked.entry(link.peer).or_insert(fresh);
            if (known.link, known.version) != (fresh.link, fresh.version) {
                *known = fresh;
            }
            if !known.over {
                due.push((link.peer, version));
            }
        }
        let questions = due.into_iter().map(|(peer, version)| {
            let node = &node;
            async move { (peer, confirms(node, peer, version).await) }
        });
        let answers: Vec<(NodeId, bool)> =
            stream::iter(questions).buffer_unordered(AT_A_TIME).collect().await;
        let mut waiting = false;
        for (peer, again) in answers {
            if let Some(known) = asked.get_mut(&peer) {
                known.times += 1;
                known.over = !again || known.times >= ASKED_MOST;
                waiting |= !known.over;
            }
        }
        if waiting {
            tokio::time::sleep(AGAIN).await;
        } else if changes.changed().await.is_err() {
            return;
        }
    }
}

/// The version that the peer and this node run, if it is one and the same manifest, and both pass it on.
fn same(node: &NodeInner, link: &Link) -> Option<u64> {
    let announces = node.spread.taken().announces?;
    let version = node.generation.load().version;
    let both = link.welcome.newest == Some(announces) && link.welcome.generation == version;
    (both && announces.version == version && link.trust >= Operation::Manifest.needs()).then_some(version)
}

/// Asks a peer; whether it waits to be asked once more.
async fn confirms(node: &NodeInner, peer: NodeId, version: u64) -> bool {
    // Without a routing policy there is no way but the link.
    let way = if node.generation.load().routing.is_some() { Way::Routed } else { Way::Linked };
    match ask(node, peer, way).await {
        Ok(runs) => runs.probation.is_some_and(|probation| probation.version == version && probation.confirm),
        // It does not answer whom it does not trust.
        Err(fault) => crate::decisions::spread::is_passing(&fault),
    }
}

/// Takes note of a question that came by this claim of the node's own name. A generation that came from peers is confirmed by it; one that
/// is not passed on is confirmed by whoever tries it.
pub(super) async fn reached(node: &Node, claim: u64) {
    let Some(OnProbation { version, confirm: true, .. }) = node.probation.get() else { return };
    let passed_on = node.spread.taken().announces.is_some_and(|announces| announces.version == version);
    if !passed_on || node.spread.told(version).is_some_and(|told| claim < told) {
        return;
    }
    if let Err(fault) = probation::confirm(node, version, None).await {
        node.log.host(Level::Warn, &format!("generation {version} could not be confirmed: {fault}"));
    }
}
