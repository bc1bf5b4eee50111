//! What keeps blobs on this node: generations and the slots of plugins. And letting go of what nothing keeps any more.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::PoisonError;
use std::time::Duration;

use super::blobs::lost;
use super::{Node, NodeInner};
use crate::clock;
use crate::decisions::cose;
use crate::log::Level;
use crate::store::blobs::collect::Collected;
use crate::store::holdings::Left;
use crate::words::objects::{BlobRef, Manifest};
use crate::words::{Code, Digest, Fault, Outcome};

/// What slots let go of is looked at again so often: soon enough for a slot that waits for its room.
const SWEEP_MS: u64 = 5_000;
/// So much of it in one transaction.
const LEFT_AT_ONCE: usize = 1_000;

/// The manifests that are kept: those on the disk, and the one that runs; and what runs in the places of their components.
pub struct Generations {
    manifests: BTreeMap<u64, Manifest>,
    /// By the version of the manifest in force.
    swapped: (u64, BTreeSet<Digest>),
}

impl Generations {
    /// The generations that need a blob.
    pub fn of(&self, digest: &Digest) -> Vec<u64> {
        let needs = |manifest: &Manifest| manifest.blobs().any(|blob| blob.digest == *digest);
        let (current, swapped) = &self.swapped;
        let needs =
            |version: &u64, manifest| needs(manifest) || version == current && swapped.contains(digest);
        let needing = self.manifests.iter().filter(|(version, manifest)| needs(version, manifest));
        needing.map(|(version, _)| *version).collect()
    }

    /// Every blob that one of them needs.
    fn needed(&self) -> BTreeSet<Digest> {
        let named = self.manifests.values().flat_map(Manifest::blobs).map(|blob| blob.digest);
        named.chain(self.swapped.1.iter().copied()).collect()
    }

    /// The slots that one of them has on this node.
    fn slots(&self, node: &Node) -> BTreeSet<String> {
        let (label, tags) = (&node.identity.label, &node.identity.membership.tags);
        let plugins = self.manifests.values().flat_map(|manifest| &manifest.plugins);
        plugins.filter(|plugin| plugin.on.matches(label, tags)).map(|plugin| plugin.slot.clone()).collect()
    }
}

/// Reads them. One that cannot be read is a failure, or a collection would take what it needs.
pub fn generations(node: &NodeInner) -> Outcome<Generations> {
    let mut manifests: BTreeMap<u64, Manifest> = BTreeMap::new();
    for (version, signed) in node.trust_files.kept()? {
        let manifest = cose::verify::<Manifest>(&signed).and_then(|signed| signed.decode());
        let manifest = manifest.map_err(|fault| {
            let what = format!("generation {version} on the disk cannot be read: {}", fault.what);
            Fault { what, ..fault }
                .fix(format!("remove generations/{version}.manifest from the data directory"))
        })?;
        manifests.insert(version, manifest);
    }
    let generation = node.generation.load_full();
    if let Some(running) = &generation.manifest {
        manifests.insert(running.version, (**running).clone());
    }
    let mut swapped = (generation.version, BTreeSet::new());
    swapped.1.extend(generation.swapped().map(|(installed, _)| installed.entry.component.digest));
    // What did not come back at the start is written down and does not run. A pointer that is damaged names nothing.
    match node.trust_files.pointer() {
        Err(fault) if fault.code == Code::BadObject => {}
        read => {
            if let Some(current) = read? {
                swapped.0 = current.version;
                swapped.1.extend(current.swaps.iter().map(|swap| swap.component.digest));
            }
        }
    }
    Ok(Generations { manifests, swapped })
}

/// Takes away what nothing needs. What a slot keeps goes when no kept generation has the slot any more: until then it could come back.
pub async fn collect(node: &Node, dry_run: bool) -> Outcome<Collected> {
    // No manifest is being applied while this is held, so no generation begins to need anything.
    let trust = node.trust.lock().await;
    let generations = generations(node)?;
    let (needed, slots) = (generations.needed(), generations.slots(node));
    let (blobs, holdings) = (node.blobs.clone(), node.holdings.clone());
    let kept = node.clone();
    let collecting = tokio::task::spawn_blocking(move || {
        for gone in holdings.slots()?.into_iter().filter(|slot| !dry_run && !slots.contains(slot)) {
            kept.reserve.with(|| holdings.forget(&gone))?;
        }
        let held = |digest: &Digest| Ok(holdings.holders(digest)?.iter().any(|slot| slots.contains(slot)));
        let needed = |digest: &Digest| Ok(needed.contains(digest) || held(digest)?);
        blobs.collect(&needed, clock::now_ms(), dry_run)
    });
    let collected = collecting.await.map_err(|error| lost(&error))?;
    drop(trust);
    collected
}

/// Lets go of a blob that a slot keeps. It is taken away at once when nothing else needs it; what cannot be, because it is being read or a
/// manifest is being applied, counts for the slot until it can. So what a plugin may keep is also what it can fill the disk with.
pub async fn let_go(node: &Node, slot: String, digest: Digest) -> Outcome<bool> {
    let node = node.clone();
    let letting_go = tokio::task::spawn_blocking(move || {
        let left = node.reserve.with(|| node.holdings.let_go(&slot, &digest))?;
        if let Some(left) = &left {
            told(&node, take_away(&node, std::slice::from_ref(left)));
        }
        Ok(left.is_some())
    });
    letting_go.await.map_err(|error| lost(&error))?
}

/// Takes away what one slot let go of and what is not needed any more.
pub async fn sweep(node: &Node, slot: String) {
    let sweeping = node.clone();
    let swept = tokio::task::spawn_blocking(move || {
        let left = sweeping.holdings.left_by(&slot, LEFT_AT_ONCE)?;
        take_away(&sweeping, &left)
    });
    told(node, swept.await.unwrap_or_else(|error| Err(lost(&error))));
}

/// Takes away what slots let go of as soon as it is not needed any more, for as long as the node runs.
pub async fn sweep_all(node: Node) {
    let mut next = tokio::time::interval(Duration::from_millis(SWEEP_MS));
    loop {
        next.tick().await;
        let mut after: Option<Left> = None;
        loop {
            let left = match node.holdings.left(after.as_ref(), LEFT_AT_ONCE) {
                Ok(left) if !left.is_empty() => left,
                left => break told(&node, left.map(drop)),
            };
            after = left.last().cloned();
            let sweeping = node.clone();
            let swept = tokio::task::spawn_blocking(move || take_away(&sweeping, &left)).await;
            told(&node, swept.unwrap_or_else(|error| Err(lost(&error))));
        }
    }
}

/// Takes away those of them that nothing needs. Waits for the disk.
fn take_away(node: &NodeInner, left: &[Left]) -> Outcome<()> {
    if left.is_empty() {
        return Ok(());
    }
    // Whoever takes away already is waited for: what it does may be what this one needs.
    let _turn = node.sweeping.lock().unwrap_or_else(PoisonError::into_inner);
    // While a manifest is being applied nobody knows what it needs. Not waited for: a plugin that lets go may be part of it.
    let Ok(trust) = node.trust.try_lock() else { return Ok(()) };
    let generations = generations(node)?.needed();
    let needed =
        |digest: &Digest| Ok(generations.contains(digest) || !node.holdings.holders(digest)?.is_empty());
    let gone = |blob: &BlobRef| match node.blobs.collect_only(&blob.digest, &needed, clock::now_ms()) {
        Ok(collected) => collected.leased == 0,
        Err(fault) => {
            told(node, Err(fault));
            false
        }
    };
    let settled = node.reserve.with(|| node.holdings.settle(left, &gone));
    drop(trust);
    settled
}

fn told(node: &NodeInner, outcome: Outcome<()>) {
    if let Err(fault) = outcome {
        node.log.host(Level::Warn, &format!("blobs that were let go of stay for now: {fault}"));
    }
}
