//! Swaps: on this node another component in a slot than the manifest names, until the next manifest or a rollback.
//!
//! The manifest in force stays what it is; a swap stands beside it in `current`, so that one rename begins or ends it. What is prepared and
//! published is the manifest with the other component in its entry, by the same functions as every generation.

use std::sync::atomic::Ordering;

use super::answer::{Reader, Writer};
use super::changes::change;
use super::control::{item, report};
use super::generation::{Generation, Installed};
use super::prepare::{Prepared, prepare};
use super::publish::{Course, Staged};
use super::{Node, NodeInner, canary, history, journal, shadow};
use crate::clock;
use crate::decisions::cose::Opened;
use crate::decisions::swap::{self, Base};
use crate::decisions::update;
use crate::log::Level;
use crate::store::blobs::Lease;
use crate::store::current::{Current, Swapped};
use crate::store::trust::TrustState;
use crate::words::control::Applied;
use crate::words::event::Happened;
use crate::words::objects::swap::Mode;
use crate::words::objects::{Manifest, Plugin, Swap};
use crate::words::swap::{SwapDone, SwapReport, SwapRequest};
use crate::words::{Code, Digest, Fault, Outcome};

/// Slots of one node that may be swapped at a time. Who wants more wants a manifest.
const SWAPS_MOST: usize = 32;

/// Answers a request about swaps.
pub async fn answer(
    node: &Node,
    request: SwapRequest,
    reader: &mut Reader,
    writer: &mut Writer,
) -> Outcome<()> {
    let signed = item(reader, "a signed swap").await?;
    match request {
        SwapRequest::Plain => {
            let done = plain(node, &signed).await.inspect_err(|fault| refused(node, fault))?;
            report(writer, &done).await
        }
        SwapRequest::Shadow { time_ms, examples } => {
            shadow::answer(node, &signed, time_ms, examples, reader, writer).await
        }
        SwapRequest::Canary(terms) => canary::answer(node, &signed, terms, reader, writer).await,
    }
}

/// What is in force, as swaps are based on it.
pub(super) struct InForce {
    pub(super) current: Current,
    pub(super) manifest: Manifest,
}

impl InForce {
    /// Reads and verifies it by the root of today.
    pub(super) fn read(node: &NodeInner) -> Outcome<Self> {
        let (current, signed) = node.trust_files.current()?.ok_or_else(history::nothing)?;
        let manifest = update::restore_manifest(&node.trusted.load(), current.version, &signed)?.object;
        Ok(Self { current, manifest })
    }

    pub(super) fn base<'a>(&'a self, node: &'a NodeInner) -> Base<'a> {
        base(node, &self.manifest, self.current.digest)
    }
}

fn base<'a>(node: &'a NodeInner, manifest: &'a Manifest, digest: Digest) -> Base<'a> {
    let identity = &node.identity;
    Base { node: identity.id, label: &identity.label, tags: &identity.membership.tags, manifest, digest }
}

/// A component that may be tried: prepared, and not to be collected while this is held.
pub(super) struct Taken {
    /// The entry with the other component.
    pub(super) entry: Plugin,
    /// What it became.
    pub(super) prepared: Prepared,
    _lease: Lease,
}

/// Takes a swap that is to be tried first. On an error nothing has changed.
pub(super) async fn take(node: &Node, signed: &[u8], mode: Mode) -> Outcome<Taken> {
    let signed = signed.to_vec();
    change(node, |node| async move { take_here(&node, &signed, mode).await }).await
}

async fn take_here(node: &Node, signed: &[u8], mode: Mode) -> Outcome<Taken> {
    node.check_running()?;
    let mut trust = node.trust.lock().await;
    let now = clock::now_ms().max(trust.time_floor);
    let in_force = InForce::read(node)?;
    let base = in_force.base(node);
    let swap = swap::accept(&node.trusted.load(), &base, trust.swap_floor, signed, now)?.object;
    swap::check_mode(&swap, mode)?;
    let lease = node.blobs.lease(swap.component.digest);
    let entry = Plugin { component: swap.component, ..entry(&base, &swap.slot)?.clone() };
    let alone = Manifest { plugins: vec![entry], ..in_force.manifest.clone() };
    let (prepared, _) = prepare(node, &alone, Course::Forward).await?;
    let (entry, prepared) = prepared.into_iter().next().ok_or_else(nowhere)?;
    if let Prepared::Unchanged(_) = prepared {
        return Err(runs_already(&swap));
    }
    raise(node, &mut trust, &swap)?;
    Ok(Taken { entry, prepared, _lease: lease })
}

/// Puts a swap in force that was taken and tried, if it is still based on what is.
pub(super) async fn promote(node: &Node, signed: &[u8]) -> Outcome<SwapDone> {
    let signed = signed.to_vec();
    change(node, |node| async move { promote_here(&node, &signed).await }).await
}

async fn promote_here(node: &Node, signed: &[u8]) -> Outcome<SwapDone> {
    node.check_running()?;
    let mut trust = node.trust.lock().await;
    let in_force = InForce::read(node)?;
    let opened = swap::restore(&node.trusted.load(), &in_force.base(node), signed)?;
    put_in_force(node, &mut trust, &in_force, &opened, signed).await
}

fn runs_already(swap: &Swap) -> Fault {
    let what = format!("{} runs component {} already", swap.slot, swap.component.digest.short());
    Fault::new(Code::Usage, what).fix("`midplane plugins` shows what runs")
}

fn nowhere() -> Fault {
    Fault::new(Code::Internal, "a swap was accepted for no slot")
}

/// Puts a swap in force. On an error nothing has changed.
async fn plain(node: &Node, signed: &[u8]) -> Outcome<SwapDone> {
    let signed = signed.to_vec();
    change(node, |node| async move { plain_here(&node, &signed).await }).await
}

async fn plain_here(node: &Node, signed: &[u8]) -> Outcome<SwapDone> {
    node.check_running()?;
    // Held to the end: no manifest is being applied meanwhile, and no root changes who may sign.
    let mut trust = node.trust.lock().await;
    let now = clock::now_ms().max(trust.time_floor);
    let in_force = InForce::read(node)?;
    let base = in_force.base(node);
    let opened = swap::accept(&node.trusted.load(), &base, trust.swap_floor, signed, now)?;
    swap::check_mode(&opened.object, Mode::Plain)?;
    put_in_force(node, &mut trust, &in_force, &opened, signed).await
}

/// Prepares, writes down and publishes a swap that was accepted. Whoever calls holds the lock of what is trusted.
pub(super) async fn put_in_force(
    node: &Node,
    trust: &mut TrustState,
    in_force: &InForce,
    opened: &Opened<Swap>,
    signed: &[u8],
) -> Outcome<SwapDone> {
    let (swap, base) = (&opened.object, in_force.base(node));
    let now = clock::now_ms().max(trust.time_floor);
    let named = entry(&base, &swap.slot)?.component;
    let current = &in_force.current;
    let before = current.swaps.iter().find(|other| other.slot == swap.slot);
    let before = before.map_or(named, |other| other.component);
    if before == swap.component {
        return Err(runs_already(swap));
    }
    let swapped = Swapped {
        slot: swap.slot.clone(),
        component: swap.component,
        since: now,
        signers: opened.signers.clone(),
        signed: signed.to_vec(),
    };
    // What the manifest names anyway needs no swap: it ends the one that was there.
    let next = current.swap(&swap.slot, (named != swap.component).then_some(swapped));
    if next.swaps.len() > SWAPS_MOST {
        let what = format!("{SWAPS_MOST} slots of {} are swapped already", node.identity.label);
        return Err(Fault::new(Code::Busy, what).fix("apply a manifest with the new components"));
    }
    let (staged, fetched) = stage(node, &in_force.manifest, &effective(&base, &next.swaps)).await?;
    let until = clock::now_ms().max(now).saturating_add(in_force.manifest.probation_ms);
    let next = next.watch_swaps(until, staged.wants_confirmation());
    let written =
        raise(node, trust, swap).and_then(|()| node.reserve.with(|| node.trust_files.publish(&next)));
    let staged = staged.once(node, written).await?;
    let applied = staged.publish(node, &next).await;
    let (component, generation) = (swap.component.digest, current.version);
    let (slot, signers) = (swap.slot.clone(), opened.signers.clone());
    let instead_of = (named != swap.component).then_some(named.digest);
    let why = match instead_of {
        Some(named) => format!("instead of {}, until the next manifest or a rollback", named.short()),
        None => "as the manifest says".to_owned(),
    };
    node.log.host(Level::Warn, &format!("{slot} runs component {} {why}", component.short()));
    node.journal.record(Happened::Swapped {
        slot: slot.clone(),
        component,
        generation,
        signers: signers.clone(),
    });
    let before = before.digest;
    let Applied { publish_us, claim, probation, .. } = applied;
    Ok(SwapDone {
        slot,
        component,
        before,
        generation,
        instead_of,
        signers,
        fetched,
        publish_us,
        claim,
        probation,
    })
}

/// From here on no swap is taken that was signed before this one.
pub(super) fn raise(node: &NodeInner, trust: &mut TrustState, swap: &Swap) -> Outcome<()> {
    let swap_floor = trust.swap_floor.max(swap.created);
    let time_floor = trust.time_floor.max(clock::now_ms());
    let raised = TrustState { swap_floor, time_floor, ..trust.clone() };
    node.reserve.with(|| node.trust_files.save(&raised))?;
    node.swap_floor.store(raised.swap_floor, Ordering::Relaxed);
    *trust = raised;
    Ok(())
}

/// The manifest's entry of a slot that a swap was accepted for.
pub(super) fn entry<'a>(base: &Base<'a>, slot: &str) -> Outcome<&'a Plugin> {
    swap::entry(base, slot).ok_or_else(nowhere)
}

fn effective<'a>(base: &Base<'_>, swaps: impl IntoIterator<Item = &'a Swapped>) -> Manifest {
    swap::with(base, swaps.into_iter().map(|swap| (swap.slot.as_str(), swap.component)))
}

/// Starts what ran before a restart, with the swaps that still hold by the root of today. Those that do not, or cannot be brought back,
/// are over: what was signed for the whole mesh runs, and not nothing.
pub(super) async fn stage_again(
    node: &Node,
    current: Current,
    manifest: &Manifest,
) -> Outcome<(Staged, Current)> {
    let base = base(node, manifest, current.digest);
    let mut over: Vec<(&Swapped, Fault)> = Vec::new();
    let mut hold: Vec<&Swapped> = Vec::new();
    for swapped in &current.swaps {
        match swap::restore(&node.trusted.load(), &base, &swapped.signed) {
            Ok(_) => hold.push(swapped),
            Err(fault) => over.push((swapped, fault)),
        }
    }
    let mut staged = stage(node, manifest, &effective(&base, hold.iter().copied())).await;
    if let Err(fault) = &staged
        && !hold.is_empty()
    {
        over.extend(hold.drain(..).map(|swapped| (swapped, fault.clone())));
        staged = stage(node, manifest, manifest).await;
    }
    let (mut staged, _) = staged?;
    let next = Current { swaps: hold.into_iter().cloned().collect(), ..current.clone() };
    if !over.is_empty() {
        let written = node.reserve.with(|| node.trust_files.publish(&next));
        staged = staged.once(node, written).await?;
    }
    for (Swapped { slot, .. }, fault) in over {
        node.log
            .host(Level::Error, &format!("{slot} runs what the manifest names, its swap is over: {fault}"));
        node.journal.record(Happened::SwapEnded { slot: slot.clone(), why: journal::why(&fault) });
    }
    Ok((staged, next))
}

/// Prepares and starts what runs by a manifest and its swaps. How many components came from peers.
async fn stage(node: &Node, manifest: &Manifest, runs: &Manifest) -> Outcome<(Staged, u32)> {
    let (prepared, fetched) = prepare(node, runs, Course::Forward).await?;
    let staged = Staged::new(node, manifest.clone(), prepared, Course::Forward).await?;
    Ok((staged, fetched))
}

impl Generation {
    /// The component that the manifest names for a slot, where a swap runs another one.
    pub fn named(&self, installed: &Installed) -> Option<Digest> {
        let entry = &installed.entry;
        let mine = |plugin: &&Plugin| plugin.slot == entry.slot && plugin.on == entry.on;
        let named = self.manifest.as_ref()?.plugins.iter().find(mine)?.component;
        (named != entry.component).then_some(named.digest)
    }

    /// The slots that are swapped.
    pub fn swapped(&self) -> impl Iterator<Item = (&Installed, Digest)> {
        self.plugins.values().filter_map(|installed| Some((&**installed, self.named(installed)?)))
    }
}

impl NodeInner {
    /// Where this node runs something else than its manifest says.
    pub fn swap_reports(&self) -> Vec<SwapReport> {
        let generation = self.generation.load_full();
        let kept = self.trust_files.pointer().ok().flatten().map(|current| current.swaps).unwrap_or_default();
        let report = |(installed, instead_of): (&Installed, Digest)| {
            let Plugin { slot, component, .. } = &installed.entry;
            let kept = kept.iter().find(|swap| swap.slot == *slot && swap.component == *component);
            let since = kept.map_or(0, |swap| swap.since);
            let signers = kept.map(|swap| swap.signers.clone()).unwrap_or_default();
            SwapReport { slot: slot.clone(), component: component.digest, instead_of, since, signers }
        };
        generation.swapped().map(report).collect()
    }
}

/// Says so in the events.
pub(super) fn refused(node: &NodeInner, fault: &Fault) {
    node.journal.record(Happened::SwapRefused { why: journal::why(fault) });
}
