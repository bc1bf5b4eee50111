//! The time after a generation was published, in which it has to show that it is good: what goes wrong meanwhile brings the one before
//! back, by itself and without a network. A generation that changes how the node finds others, lets them in or reaches them is also
//! confirmed from outside: a good signature on a bad policy must not strand a node that nobody can walk to.

use std::collections::BTreeMap;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use super::changes::change;
use super::generation::{Generation, Installed};
use super::{Node, NodeInner, history, probe};
use crate::clock;
use crate::decisions::backoff::Backoff;
use crate::decisions::probation::{self, Seen};
use crate::log::Level;
use crate::store::current::{Current, Probation};
use crate::words::control::{Applied, OnProbation};
use crate::words::event::Happened;
use crate::words::objects::rules::PROBATION_MAX_MS;
use crate::words::{Code, Digest, Fault, Outcome};

/// How often what is watched is looked at.
const LOOK: Duration = Duration::from_millis(200);
/// Pause between two probes: a tenth of the probation, within these.
const PROBE: (Duration, Duration) = (Duration::from_millis(500), Duration::from_secs(10));
/// Starts of the node with a generation on probation. One that ends the whole node is no good either.
const STARTS_MOST: u32 = 3;
/// Pauses between attempts to go back, when going back fails.
const AGAIN: Backoff = Backoff::new(Duration::from_secs(1), Duration::from_secs(60));

/// The generation that is on probation, for whoever asks.
#[derive(Default)]
pub struct Watched(Mutex<Option<OnProbation>>);

impl Watched {
    /// What is on probation.
    pub fn get(&self) -> Option<OnProbation> {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn set(&self, watched: Option<OnProbation>) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = watched;
    }
}

/// Begins the probation of a generation that was just published, if it has one.
pub(super) fn begin(node: &Node, current: &Current, applied: &Applied) -> Option<OnProbation> {
    let watched = current.probation.map(|Probation { until, confirm, .. }| OnProbation {
        version: current.version,
        until,
        confirm,
    });
    node.probation.set(watched);
    let watched = watched?;
    let generation = node.generation.load();
    let slots = applied.added.iter().chain(&applied.changed);
    let before = slots.map(|slot| (slot.clone(), Before::of(&generation, slot))).collect();
    node.background.spawn(watch(node.clone(), watched, before));
    Some(watched)
}

/// Confirms that the node can be reached with this generation, and with a component that was swapped in it.
///
/// # Errors
/// `stale-version` for another one than that which runs, `io` when it cannot be written down.
pub async fn confirm(node: &Node, version: u64, swap: Option<Digest>) -> Outcome<Option<OnProbation>> {
    change(node, |node| async move { confirm_here(&node, version, swap).await }).await
}

async fn confirm_here(node: &NodeInner, version: u64, swap: Option<Digest>) -> Outcome<Option<OnProbation>> {
    let _trust = node.trust.lock().await;
    let Some(current) = node.trust_files.pointer()?.filter(|current| current.version == version) else {
        let runs = node.generation.load().version;
        return Err(Fault::new(Code::StaleVersion, format!("generation {runs} runs here, not {version}")));
    };
    if let Some(component) = swap
        && !current.swaps.iter().any(|swapped| swapped.component.digest == component)
    {
        let what = format!("component {} is not swapped in any more", component.short());
        return Err(Fault::new(Code::StaleVersion, what));
    }
    let Some(probation) = current.probation else { return Ok(None) };
    if probation.confirm {
        let confirmed = Current { probation: Some(Probation { confirm: false, ..probation }), ..current };
        node.reserve.with(|| node.trust_files.publish(&confirmed))?;
    }
    let watched = node.probation.get().filter(|watched| watched.version == version);
    let watched = watched.map(|watched| OnProbation { confirm: false, ..watched });
    node.probation.set(watched);
    node.log.host(Level::Info, &format!("generation {version} is confirmed"));
    Ok(watched)
}

/// Counts a start of the node with a generation on probation, before it is brought back.
///
/// # Errors
/// `init-failed` when there were too many.
pub(super) fn count_start(node: &NodeInner, current: Current) -> Outcome<Current> {
    let Some(probation) = current.probation else { return Ok(current) };
    if probation.starts >= STARTS_MOST {
        let what =
            format!("the node started {STARTS_MOST} times with generation {} on probation", current.version);
        return Err(Fault::new(Code::InitFailed, what));
    }
    let probation = Some(Probation { starts: probation.starts + 1, ..probation });
    let current = Current { probation, ..current };
    node.reserve.with(|| node.trust_files.publish(&current))?;
    Ok(current)
}

/// Goes back when a generation on probation could not be brought back at a start. Whether the one before runs now.
pub(super) async fn instead(node: &Node, fault: &Fault) -> bool {
    let current = node.trust_files.pointer().ok().flatten();
    let Some(current) = current.filter(|current| current.probation.is_some()) else { return false };
    give_up(node, current.version, |_| true, &fault.to_string(), Some(fault)).await.is_ok()
}

/// What was counted for a slot before the plugin that is watched got it; calls are counted anew for each plugin.
#[derive(Clone, Copy, Default)]
struct Before {
    restarts: u64,
    probes_failed: u32,
}

impl Before {
    fn of(generation: &Generation, slot: &str) -> Self {
        let restarts = generation.plugins.get(slot).map_or(0, |installed| restarts(installed).0);
        Self { restarts, probes_failed: 0 }
    }
}

async fn watch(node: Node, watched: OnProbation, mut before: BTreeMap<String, Before>) {
    let OnProbation { version, until: ends, .. } = watched;
    let time = Duration::from_millis(ends.saturating_sub(clock::now_ms()).min(PROBATION_MAX_MS));
    let until = clock::monotonic() + time;
    let pause = (time / 10).clamp(PROBE.0, PROBE.1);
    let mut probed = clock::monotonic();
    // A swap begins a probation of its own in the same version.
    let other = |now: OnProbation| now.version != version || now.until != ends;
    let same = move |kept: &Probation| kept.until == ends;
    loop {
        let now = clock::monotonic();
        tokio::time::sleep_until(until.min(now + LOOK)).await;
        let generation = node.generation.load_full();
        // Another one runs: it has a watch of its own.
        if generation.version != version || node.probation.get().is_none_or(other) {
            return;
        }
        let over = clock::monotonic() >= until;
        let probes = over || probed.elapsed() >= pause;
        if probes {
            probed = clock::monotonic();
        }
        for (slot, before) in &mut before {
            let Some(installed) = generation.plugins.get(slot) else { continue };
            if probes && !over {
                before.probes_failed = match probe::ask(&node, &installed.entry, &installed.runs).await {
                    Ok(()) => 0,
                    Err(fault) => {
                        node.log.host(Level::Warn, &fault.to_string());
                        installed.last_fault.store(Some(Arc::new(fault)));
                        before.probes_failed + 1
                    }
                };
            }
            if let Some(why) = probation::fails(&seen(installed, before, over)) {
                let fault = installed.last_fault();
                let said = fault.as_ref().map(|fault| format!(": {fault}")).unwrap_or_default();
                let why = format!("{slot} {why}{said}");
                return go_back(&node, version, same, &why, fault.as_ref()).await;
            }
        }
        if !over {
            continue;
        }
        match node.probation.get() {
            // Looks again afterwards, at its pace: the confirmation may come just now.
            Some(OnProbation { confirm: true, .. }) => {
                let why = "not-confirmed: nobody confirmed that this node can still be reached";
                go_back(&node, version, move |kept| same(kept) && kept.confirm, why, None).await;
                tokio::time::sleep(LOOK).await;
            }
            _ => {
                if let Err(fault) = change(&node, |node| async move { settle(&node, watched).await }).await {
                    let text = format!("generation {version} is not settled: {fault}");
                    node.log.host(Level::Error, &text);
                }
                return;
            }
        }
    }
}

/// Instances of a policy that were ended, and whether there is none.
fn restarts(installed: &Installed) -> (u64, bool) {
    installed.health().map_or((0, false), |health| (health.restarts, !health.running))
}

fn seen(installed: &Installed, before: &Before, over: bool) -> Seen {
    let (restarts, down) = restarts(installed);
    Seen {
        ended: restarts.saturating_sub(before.restarts),
        calls: installed.served.load(Ordering::Relaxed),
        failed: installed.failed.load(Ordering::Relaxed),
        probes_failed: before.probes_failed,
        down,
        over,
    }
}

/// Goes back, again and again until it is done, or until something else runs or is kept.
async fn go_back(
    node: &Node,
    version: u64,
    still: impl Fn(&Probation) -> bool + Copy + Send + 'static,
    why: &str,
    fault: Option<&Fault>,
) {
    let mut again = AGAIN;
    loop {
        match give_up(node, version, still, why, fault).await {
            Ok(()) => return,
            // Another manifest or a rollback was faster.
            Err(fault) if fault.code == Code::StaleVersion => return,
            Err(fault) => {
                let text = format!("generation {version} is no good ({why}), and going back failed: {fault}");
                node.log.host(Level::Error, &text);
                tokio::time::sleep(again.next(0)).await;
            }
        }
    }
}

async fn give_up(
    node: &Node,
    version: u64,
    still: impl Fn(&Probation) -> bool + Send + 'static,
    why: &str,
    fault: Option<&Fault>,
) -> Outcome<()> {
    let why = super::journal::shorten(why);
    let applied = Box::pin(history::give_up(node, version, still, &why)).await?;
    let (from, to) = (version, applied.to);
    let report = fault.and_then(|fault| fault.report.as_deref().cloned());
    node.journal.record(Happened::GenerationReturned { from, to, why, report });
    Ok(())
}

/// Nothing went wrong.
async fn settle(node: &NodeInner, watched: OnProbation) -> Outcome<()> {
    let _trust = node.trust.lock().await;
    let OnProbation { version, until, .. } = watched;
    let same = |kept: Probation| kept.until == until;
    let current = node.trust_files.pointer()?;
    let ours = |current: &Current| current.version == version && current.probation.is_some_and(same);
    // Otherwise something else runs by now.
    let Some(current) = current.filter(ours) else { return Ok(()) };
    let settled = Current { settled: true, probation: None, ..current };
    node.reserve.with(|| node.trust_files.publish(&settled))?;
    node.probation.set(None);
    node.log.host(Level::Info, &format!("generation {version} is settled"));
    node.journal.record(Happened::GenerationSettled { version });
    Ok(())
}
