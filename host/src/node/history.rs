//! The generations that are kept on this node's disk, their manifests, and the way back to one of them.

use serde_bytes::ByteBuf;

use super::changes::change;
use super::prepare::prepare;
use super::publish::{Course, Staged};
use super::{Node, NodeInner};
use crate::clock;
use crate::decisions::update;
use crate::log::Level;
use crate::store::current::{Current, Past, Probation};
use crate::store::trust::TrustState;
use crate::words::control::{Applied, GenerationReport, SignedManifest};
use crate::words::{Code, Fault, Outcome};

/// Those that are kept, the highest version first.
pub fn reports(node: &NodeInner) -> Outcome<Vec<GenerationReport>> {
    let Some(current) = node.trust_files.pointer()? else { return Ok(Vec::new()) };
    // One that did not come back after a restart is on the disk and not in force.
    let runs = node.generation.load().version;
    let report = |past: Past| GenerationReport {
        version: past.version,
        in_force: past.version == current.version && past.version == runs,
        instead_of: current.instead_of.filter(|_| past.version == current.version),
        settled: past.settled,
        since: past.since,
        signers: past.signers,
        change: past.change,
    };
    Ok(current.all().into_iter().map(report).collect())
}

/// The signed manifest of this version, or of the one in force; an empty one where nothing was ever applied.
///
/// # Errors
/// `not-found` for a version that is not kept; as [`crate::store::trust::TrustFiles::past`].
pub fn manifest(node: &NodeInner, version: Option<u64>) -> Outcome<SignedManifest> {
    let kept = node.trust_files.pointer()?;
    let wanted = version.or(kept.as_ref().map(|current| current.version));
    let Some(wanted) = wanted else { return Ok(SignedManifest::default()) };
    let all = kept.map(|current| current.all()).unwrap_or_default();
    let past = all.iter().find(|past| past.version == wanted).ok_or_else(|| not_kept(wanted))?;
    Ok(SignedManifest { version: wanted, signed: ByteBuf::from(node.trust_files.past(past)?) })
}

/// Puts a generation that is kept in force again, at once, for this node alone. It is held until the next manifest is applied, also over
/// restarts. The floor stays where it is, so an older manifest from outside is refused as before. Whether the manifest has expired does not
/// matter, as with what runs; whether its keys may still sign does. On an error nothing has changed.
///
/// # Errors
/// As [`crate::store::current::Current::target`], [`update::restore_manifest`] and what preparing finds.
pub async fn rollback(node: &Node, wanted: Option<u64>) -> Outcome<Applied> {
    change(node, |node| async move { rollback_here(&node, wanted).await }).await
}

async fn rollback_here(node: &Node, wanted: Option<u64>) -> Outcome<Applied> {
    node.check_running()?;
    // Held to the end: no manifest is being applied meanwhile, and no root changes who may sign.
    let trust = node.trust.lock().await;
    let current = node.trust_files.pointer()?.ok_or_else(nothing)?;
    let version = current.target(wanted)?;
    let applied = back(node, &trust, &current, version, None).await?;
    drop(trust);
    Ok(applied)
}

/// Goes back from a generation that is on probation and no good: to the last that was settled.
///
/// # Errors
/// `stale-version` when it is not what runs, or not on a probation that still says so; `not-found` when nothing else is kept; as [`rollback`].
pub(super) async fn give_up(
    node: &Node,
    version: u64,
    still: impl Fn(&Probation) -> bool + Send + 'static,
    why: &str,
) -> Outcome<Applied> {
    let why = why.to_owned();
    change(node, |node| async move { give_up_here(&node, version, still, &why).await }).await
}

async fn give_up_here(
    node: &Node,
    version: u64,
    still: impl Fn(&Probation) -> bool,
    why: &str,
) -> Outcome<Applied> {
    node.check_running()?;
    let trust = node.trust.lock().await;
    let current = node.trust_files.pointer()?;
    let current = current.filter(|current| current.version == version);
    let current = current.filter(|current| current.probation.as_ref().is_some_and(still));
    let current = current.ok_or_else(|| {
        Fault::new(Code::StaleVersion, format!("generation {version} is not on probation any more"))
    })?;
    let good = current.last_good().ok_or_else(|| {
        Fault::new(Code::NotFound, format!("nothing from before generation {version} is kept on this node"))
    })?;
    let applied = back(node, &trust, &current, good, Some(why)).await?;
    drop(trust);
    Ok(applied)
}

/// Puts a generation that is kept in force, while nobody else changes anything.
async fn back(
    node: &Node,
    trust: &TrustState,
    current: &Current,
    version: u64,
    returned: Option<&str>,
) -> Outcome<Applied> {
    let now = clock::now_ms().max(trust.time_floor);
    let held = current.back_to(version, now).ok_or_else(|| not_kept(version))?;
    // Where only swaps end, why it runs stays what it was.
    let same = current.returned.clone().filter(|_| version == current.version);
    let held = match returned {
        // Peers are not given what was no good here. A swap they do not know of.
        Some(why) if version != current.version => held.went_back(current.version, why),
        _ => Current { returned: same, ..held },
    };
    let signed = node.trust_files.past(&held.past())?;
    let manifest = update::restore_manifest(&node.trusted.load(), version, &signed)?.object;
    let (prepared, fetched) = prepare(node, &manifest, Course::Back).await?;
    let staged = Staged::new(node, manifest, prepared, Course::Back).await?;
    let written = node.reserve.with(|| node.trust_files.publish(&held));
    let staged = staged.once(node, written).await?;
    node.spread.took(trust.manifest_floor, Some(&held));
    let mut applied = staged.publish(node, &held).await;
    applied.fetched = fetched;
    let why = match (held.instead_of, returned) {
        (_, Some(why)) if version == current.version => {
            format!("as it was signed: a swap was no good: {why}")
        }
        _ if version == current.version => "as it was signed, and no swap is in force".to_owned(),
        (Some(newest), Some(why)) => format!("{newest} was no good: {why}"),
        (Some(newest), None) => format!("held instead of {newest} until the next one is applied"),
        (None, _) => "the hold is over".to_owned(),
    };
    let from = applied.from;
    node.log.host(Level::Warn, &format!("generation {version} is back, {why}; before it ran {from}"));
    Ok(applied)
}

/// The refusal of what needs a generation on a node that never had one.
pub(super) fn nothing() -> Fault {
    Fault::new(Code::NotFound, "nothing was ever applied on this node")
        .fix("`midplane apply MANIFEST` is the beginning")
}

fn not_kept(version: u64) -> Fault {
    Fault::new(Code::NotFound, format!("generation {version} is not kept on this node"))
        .fix("`midplane history` lists those that are")
}
