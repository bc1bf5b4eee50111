//! From prepared plugins to what runs: everything starts beside what runs already, and then takes its place by one pointer.
//!
//! What can fail is over before the pointer moves. From the pointer on new calls meet the new plugins; calls in flight keep the old ones
//! alive until they end, or until their time to drain is over (see [`super::drain`]).

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use arc_swap::ArcSwapOption;

use super::canary;
use super::changes;
use super::drain::{self, Retired};
use super::effects::Base;
use super::generation::{Generation, Installed, Runs};
use super::links::LinkEvent;
use super::prepare::Prepared;
use super::probation;
use super::slots::{self, AnySlot, Seated};
use super::{Node, NodeInner};
use crate::clock;
use crate::log::Level;
use crate::policy::slot::Heritage;
use crate::policy::succession::{self, Ready};
use crate::store::current::Current;
use crate::wasm::succession::HandedOver;
use crate::words::Outcome;
use crate::words::control::Applied;
use crate::words::objects::{Handover, Kind, Manifest, Plugin};

/// Which way a change goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Course {
    /// To something new: policies hand over as the manifest says.
    Forward,
    /// To what ran before: policies start from what they saved last themselves; when that is too old, or not there, from the state of
    /// the ones that they follow, if they take it.
    Back,
}

/// A generation whose plugins have all started, and which does not run yet.
pub(super) struct Staged {
    manifest: Manifest,
    old: Arc<Generation>,
    plugins: BTreeMap<String, Arc<Installed>>,
    ready: Vec<(String, Ready)>,
    started: Vec<(String, AnySlot)>,
    held: Vec<HandedOver>,
    applied: Applied,
}

impl Staged {
    /// Starts what is not running yet. On an error everything is as it was.
    pub(super) async fn new(
        node: &Node,
        manifest: Manifest,
        prepared: Vec<(Plugin, Prepared)>,
        course: Course,
    ) -> Outcome<Self> {
        let old = node.generation.load_full();
        let applied = Applied { from: old.version, to: manifest.version, ..Applied::default() };
        let (plugins, ready, started, held) = (BTreeMap::new(), Vec::new(), Vec::new(), Vec::new());
        let mut staged = Self { manifest, old, plugins, ready, started, held, applied };
        // Policies last: their events wait from then on.
        let (workloads, policies): (Vec<_>, Vec<_>) =
            prepared.into_iter().partition(|(entry, _)| !entry.kind.is_policy());
        for (entry, ready) in workloads.into_iter().chain(policies) {
            changes::give_way();
            let added = match node.check_running() {
                Ok(()) => staged.add(node, entry, ready, course).await,
                stopping => stopping,
            };
            if let Err(fault) = added {
                staged.abandon(node).await;
                return Err(fault);
            }
        }
        // The first have waited for the last.
        if !staged.ready.iter().all(|(_, ready)| ready.is_awaited()) {
            staged.abandon(node).await;
            return Err(succession::late());
        }
        let (applied, old) = (&mut staged.applied, &staged.old);
        applied.removed =
            old.plugins.keys().filter(|slot| !staged.plugins.contains_key(*slot)).cloned().collect();
        Ok(staged)
    }

    async fn add(&mut self, node: &Node, entry: Plugin, ready: Prepared, course: Course) -> Outcome<()> {
        let slot = entry.slot.clone();
        let before = self.old.plugins.get(&slot);
        let applied = &mut self.applied;
        match (&ready, before) {
            (Prepared::Unchanged(installed), _) if installed.entry != entry => {
                applied.adjusted.push(slot.clone());
            }
            (Prepared::Unchanged(_), _) => applied.unchanged.push(slot.clone()),
            (_, Some(_)) => applied.changed.push(slot.clone()),
            (_, None) => applied.added.push(slot.clone()),
        }
        let (code, runs, counts) = match ready {
            Prepared::Unchanged(installed) => {
                let count = |number: &AtomicU64| number.load(Ordering::Relaxed);
                let counts = (count(&installed.served), count(&installed.failed));
                (installed.code.clone(), installed.runs.clone(), counts)
            }
            Prepared::Skill(code, workload) => {
                if let Some(Runs::Skill(was)) = before.map(|before| &before.runs) {
                    let until = clock::deadline_in(entry.drain_ms);
                    self.held.extend(workload.take_over(was, entry.handover, until).await?);
                }
                (code, Runs::Skill(workload), (0, 0))
            }
            Prepared::Gateway(code, gateway) => (code, Runs::Gateway(gateway), (0, 0)),
            Prepared::Policy(code, program) => {
                let heritage = match course {
                    Course::Forward => Heritage::Handover(entry.handover),
                    Course::Back => match Base::own(node, &entry) {
                        Some(own) => Heritage::Own(Some(own)),
                        None => Heritage::Handover(Handover::Optional),
                    },
                };
                let before = before.map(|before| &**before);
                let any = match slots::seat(node, &entry, program, before, heritage).await? {
                    Seated::Beside(any, ready) => {
                        self.ready.push((slot.clone(), ready));
                        any
                    }
                    Seated::New(any) => {
                        self.started.push((slot.clone(), any.clone()));
                        any
                    }
                };
                (code, Runs::Policy(any), (0, 0))
            }
        };
        let (served, failed) = (AtomicU64::new(counts.0), AtomicU64::new(counts.1));
        let (last_fault, canary) = (ArcSwapOption::empty(), canary::Seat::default());
        let installed = Installed { entry, code, served, failed, last_fault, canary, runs };
        self.plugins.insert(slot, Arc::new(installed));
        Ok(())
    }

    /// Whether it changes how the node finds others, lets them in or reaches them, so that somebody else has to say that it still can be
    /// reached.
    pub(super) fn wants_confirmation(&self) -> bool {
        let decides = |kind: Kind| matches!(kind, Kind::Discovery | Kind::Admission | Kind::Routing);
        let new = self.applied.added.iter().chain(&self.applied.changed);
        let new =
            new.filter_map(|slot| self.plugins.get(slot)).any(|installed| decides(installed.entry.kind));
        let mut gone = self.applied.removed.iter().filter_map(|slot| self.old.plugins.get(slot));
        new || gone.any(|installed| decides(installed.entry.kind))
    }

    /// Goes on when what has to be on the disk before is there, and is abandoned otherwise.
    pub(super) async fn once(self, node: &Node, written: Outcome<()>) -> Outcome<Self> {
        match written {
            Ok(()) => Ok(self),
            Err(fault) => {
                self.abandon(node).await;
                Err(fault)
            }
        }
    }

    /// Ends what was started. What ran goes on.
    async fn abandon(self, node: &Node) {
        for (slot, started) in self.started {
            started.stop().await;
            node.dials.forget(&slot);
        }
    }

    /// Puts everything in its place: in a task, at the priority of the calls that wait for it, and to the end whoever waits.
    pub(super) async fn publish(self, node: &Node, current: &Current) -> Applied {
        let (node, current) = (node.clone(), current.clone());
        let (applied, old) =
            changes::among_calls(async move { self.publish_here(&node, &current).await }).await;
        // Here, where nobody waits for it.
        drop(old);
        applied
    }

    /// Also answers the instances of policies that have lost their slots.
    async fn publish_here(self, node: &Node, current: &Current) -> (Applied, Vec<Box<dyn Send>>) {
        let mut replaced = Vec::new();
        let Self { manifest, old, plugins, ready, held, mut applied, .. } = self;
        let retired = retired(&old, &plugins);
        let mut generation = Generation::new(applied.to, Some(Arc::new(manifest)), plugins);
        generation.instead_of = current.instead_of;
        generation.returned = current.returned.clone();
        let ended =
            |slot: &String| generation.plugins.get(slot).is_none_or(|now| generation.named(now).is_none());
        applied.swaps_ended = old.swapped().map(|(was, _)| was.entry.slot.clone()).filter(ended).collect();
        applied.instead_of = current.instead_of;
        applied.signers = current.signers.clone();
        // A skill that hands over has its one place taken for that.
        let in_flight: usize = retired.iter().map(|one| one.places.in_flight()).sum();
        applied.in_flight = in_flight.saturating_sub(held.len()) as u64;
        let since = clock::monotonic();
        generation.since = since;
        let generation = Arc::new(generation);
        node.generation.store(generation.clone());
        applied.publish_us = u64::try_from(since.elapsed().as_micros()).unwrap_or(u64::MAX);
        for (slot, ready) in ready {
            match ready.go().await {
                Ok(handed) => {
                    applied.events += handed.events as u64;
                    replaced.extend(handed.old);
                }
                Err(fault) => {
                    node.log.host(Level::Error, &format!("{slot}: the version before goes on: {fault}"))
                }
            }
        }
        if old.routed_by() != generation.routed_by() || !old.skills.keys().eq(generation.skills.keys()) {
            node.plans.outdate(None);
        }
        for one in &retired {
            one.places.close();
        }
        drop(held);
        applied.claim = settle(node, &old, &generation).await;
        node.spread.tells(applied.to, applied.claim);
        applied.probation = probation::begin(node, current, &applied);
        drain::begin(node, old, retired, applied.clone());
        (applied, replaced)
    }
}

/// The workloads that have no place in the new generation.
fn retired(old: &Generation, new: &BTreeMap<String, Arc<Installed>>) -> Vec<Retired> {
    let mut retired = Vec::new();
    for (slot, installed) in &old.plugins {
        let goes_on = new.get(slot).is_some_and(|now| match (&installed.runs, &now.runs) {
            (Runs::Skill(was), Runs::Skill(is)) => Arc::ptr_eq(was, is),
            (Runs::Gateway(was), Runs::Gateway(is)) => Arc::ptr_eq(was, is),
            _ => false,
        });
        if !goes_on {
            retired.extend(Retired::new(installed));
        }
    }
    retired
}

/// Tells everybody what the new pointer means, and ends what nobody uses any more. Returns the serial of the claim of the node's own
/// name that the routing policy was told.
async fn settle(node: &NodeInner, old: &Generation, new: &Generation) -> Option<u64> {
    for (installed, slot) in old.policies() {
        let kept = new.plugins.get(&installed.entry.slot).is_some_and(|now| match &now.runs {
            Runs::Policy(any) => any.is_like(slot),
            Runs::Skill(_) | Runs::Gateway(_) => false,
        });
        if !kept {
            slot.stop().await;
            node.dials.forget(&installed.entry.slot);
        }
    }
    let claim = slots::tell_serving(node, old, new).await;
    slots::tell_hints(node, old, new).await;
    // The link loop tells new slots of the links, and the peers of the slots.
    let _ = node.events.send(LinkEvent::GenerationChanged).await;
    claim
}
