//! Newer roots: brought by an operator, or by a linked peer that has one. The owners' signatures decide, not who brings it.

use std::sync::Arc;

use serde_bytes::ByteBuf;

use super::changes::change;
use super::links::LinkEvent;
use super::{Node, NodeInner};
use crate::clock;
use crate::decisions::roots;
use crate::log::Level;
use crate::words::control::RootUpdated;
use crate::words::event::Happened;
use crate::words::hello::{Greeting, ROOTS_BYTES};
use crate::words::{Code, NodeId, Outcome};

/// Greetings with roots that a peer is sent at a time; it says how far it came, and is sent the rest.
const OFFERS_MOST: usize = 4;

/// Takes the newer roots of a chain. On an error nothing has changed.
pub async fn update(node: &Node, chain: &[&[u8]]) -> Outcome<RootUpdated> {
    let chain: Vec<Vec<u8>> = chain.iter().map(|root| root.to_vec()).collect();
    change(node, |node| async move { update_here(&node, &chain).await }).await
}

async fn update_here(node: &Node, chain: &[Vec<u8>]) -> Outcome<RootUpdated> {
    let chain: Vec<&[u8]> = chain.iter().map(Vec::as_slice).collect();
    node.check_running()?;
    let mut trust = node.trust.lock().await;
    let current = node.trusted.load_full();
    let now = clock::now_ms().max(trust.time_floor);
    let newer = roots::newer(&current, &chain, now)?;
    // On the disk before it counts: what was revoked stays so after a crash.
    let mut next = trust.clone();
    next.roots.extend(newer.roots.into_iter().map(ByteBuf::from));
    next.time_floor = now;
    node.trust_files.save(&next)?;
    *trust = next;
    drop(trust);
    let trusted = Arc::new(newer.trusted);
    node.trusted.store(trusted.clone());
    let root = &trusted.root;
    node.claims.forget(|node| root.is_revoked(node));
    node.plans.forget();
    let (from, to) = (current.root.version, root.version);
    node.log.host(Level::Info, &format!("root {to} is in force; before it was {from}"));
    node.journal.record(Happened::RootUpdated { from, to });
    let _ = node.events.send(LinkEvent::RootChanged).await;
    let count = |length: usize| u32::try_from(length).unwrap_or(u32::MAX);
    Ok(RootUpdated { from, to, operators: count(root.operators.len()), revoked: count(root.revoked.len()) })
}

/// Takes what a peer offers, if it is newer.
pub async fn offered(node: &Node, peer: &NodeId, chain: &[ByteBuf]) -> Outcome<()> {
    let chain: Vec<&[u8]> = chain.iter().map(|root| root.as_slice()).collect();
    match update(node, &chain).await {
        // Somebody else was faster.
        Err(fault) if fault.code == Code::StaleVersion => Ok(()),
        Err(fault) => {
            node.log
                .host(Level::Warn, &format!("{} offers a root that does not hold: {fault}", peer.short()));
            Err(fault)
        }
        Ok(_) => Ok(()),
    }
}

/// What a peer that has this version lacks, in greetings; as many as it is sent at a time.
pub async fn offers(node: &NodeInner, has: u64) -> Vec<Greeting> {
    // Somebody applies a manifest, which may take long; the peer is offered them with the next change.
    let Ok(trust) = node.trust.try_lock() else { return Vec::new() };
    let mut greetings = Vec::new();
    let (mut roots, mut bytes) = (Vec::new(), 0);
    // The first root has version 1, and there are no gaps.
    let known = usize::try_from(has).unwrap_or(usize::MAX);
    for root in trust.roots.iter().skip(known) {
        if bytes + root.len() > ROOTS_BYTES && !roots.is_empty() {
            greetings.push(Greeting::Roots { roots: std::mem::take(&mut roots) });
            bytes = 0;
        }
        bytes += root.len();
        roots.push(root.clone());
    }
    greetings.push(Greeting::Roots { roots });
    greetings.truncate(OFFERS_MOST);
    greetings
}
