//! What runs: prepared aside, published by one pointer, written down so that a crash leaves the old or the new.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::sync::atomic::AtomicU64;

use arc_swap::ArcSwapOption;

use super::Node;
use super::canary;
use super::changes::change;
use super::gateway;
use super::prepare::prepare;
use super::publish::{Course, Staged};
use super::slots::AnySlot;
use super::swap;
use super::{probation, spread};
use crate::clock;
use crate::decisions::changes;
use crate::decisions::update;
use crate::log::Level;
use crate::policy::admission::Admission;
use crate::policy::discovery::Discovery;
use crate::policy::routing::Routing;
use crate::policy::slot::{Health, Slot};
use crate::policy::sync::Sync;
use crate::store::current::{Current, Past, Probation};
use crate::store::trust::TrustState;
use crate::wasm::cache::Compiled;
use crate::wasm::gateway::Gateway;
use crate::wasm::workload::Workload;
use crate::words::control::Applied;
use crate::words::mount::Mount;
use crate::words::objects::{Kind, Manifest, Plugin};
use crate::words::{Code, Digest, Fault, Name, Outcome};

/// One plugin that runs.
pub struct Installed {
    /// Its manifest entry.
    pub entry: Plugin,
    /// Its code, with the engine that runs it.
    pub code: Arc<Compiled>,
    /// Calls served.
    pub served: AtomicU64,
    /// Calls that ended by a fault of the plugin.
    pub failed: AtomicU64,
    /// The last such fault.
    pub last_fault: ArcSwapOption<Fault>,
    /// Where another component is tried beside it.
    pub canary: canary::Seat,
    /// The running thing.
    pub runs: Runs,
}

impl Installed {
    /// How it is doing, if it is a policy.
    pub fn health(&self) -> Option<Health> {
        match &self.runs {
            Runs::Policy(slot) => Some(slot.health()),
            Runs::Skill(_) | Runs::Gateway(_) => None,
        }
    }

    /// Why an instance of it was ended last.
    pub fn last_fault(&self) -> Option<Fault> {
        match self.health() {
            Some(health) => health.last_fault,
            None => self.last_fault.load_full().map(|fault| (*fault).clone()),
        }
    }
}

/// What a plugin is while it runs.
#[derive(Clone)]
pub enum Runs {
    /// A skill.
    Skill(Arc<Workload>),
    /// A gateway.
    Gateway(Arc<Gateway>),
    /// A policy.
    Policy(AnySlot),
}

/// One applied manifest on this node.
pub struct Generation {
    /// Manifest version; 0 before the first.
    pub version: u64,
    /// The manifest; none before the first.
    pub manifest: Option<Arc<Manifest>>,
    /// The version that would run without the rollback that holds this one.
    pub instead_of: Option<u64>,
    /// Why the node went back by itself from that version.
    pub returned: Option<String>,
    /// When it was published.
    pub since: clock::Instant,
    /// Every plugin of this node, by slot.
    pub plugins: BTreeMap<String, Arc<Installed>>,
    /// Skills by the names they serve.
    pub skills: HashMap<Name, Arc<Installed>>,
    /// Gateways with their mounts, those that go first in front.
    pub mounts: Vec<(Mount, Arc<Installed>)>,
    /// The routing policy.
    pub routing: Option<Slot<Routing>>,
    /// The admission policy.
    pub admission: Option<Slot<Admission>>,
    /// The discovery policies.
    pub discovery: Vec<Slot<Discovery>>,
    /// Datasets, with the slot that syncs each.
    pub datasets: BTreeMap<String, (String, Slot<Sync>)>,
}

impl Generation {
    /// Nothing runs.
    pub fn empty() -> Self {
        Self::new(0, None, BTreeMap::new())
    }

    pub(super) fn new(
        version: u64,
        manifest: Option<Arc<Manifest>>,
        plugins: BTreeMap<String, Arc<Installed>>,
    ) -> Self {
        let mut generation = Self {
            version,
            manifest,
            instead_of: None,
            returned: None,
            since: clock::monotonic(),
            skills: HashMap::new(),
            mounts: gateway::mounts(plugins.values()),
            routing: None,
            admission: None,
            discovery: Vec::new(),
            datasets: BTreeMap::new(),
            plugins: BTreeMap::new(),
        };
        for installed in plugins.values() {
            for name in &installed.entry.names {
                generation.skills.insert(name.clone(), installed.clone());
            }
            match &installed.runs {
                Runs::Policy(AnySlot::Routing(slot)) => generation.routing = Some(slot.clone()),
                Runs::Policy(AnySlot::Admission(slot)) => generation.admission = Some(slot.clone()),
                Runs::Policy(AnySlot::Discovery(slot)) => generation.discovery.push(slot.clone()),
                Runs::Policy(AnySlot::Sync(slot)) => {
                    for dataset in &installed.entry.datasets {
                        let found = (installed.entry.slot.clone(), slot.clone());
                        generation.datasets.insert(dataset.clone(), found);
                    }
                }
                Runs::Skill(_) | Runs::Gateway(_) => {}
            }
        }
        generation.plugins = plugins;
        generation
    }

    /// The policies with their slot names.
    pub fn policies(&self) -> impl Iterator<Item = (&Arc<Installed>, &AnySlot)> {
        self.plugins.values().filter_map(|installed| match &installed.runs {
            Runs::Policy(slot) => Some((installed, slot)),
            Runs::Skill(_) | Runs::Gateway(_) => None,
        })
    }

    /// What its plans are made by.
    pub(super) fn routed_by(&self) -> Option<(&str, &Digest, &str)> {
        let routing = self.plugins.values().find(|installed| installed.entry.kind == Kind::Routing)?;
        let Plugin { slot, component, config, .. } = &routing.entry;
        Some((slot, &component.digest, config))
    }

    /// Saves and stops the policies.
    pub async fn stop(&self) {
        for (_, slot) in self.policies() {
            slot.stop().await;
        }
    }
}

/// Brings back the generation that ran last. Needs no network; what is expired goes on.
pub async fn restore(node: &Node) -> Outcome<()> {
    let Some((current, signed)) = node.trust_files.current()? else { return Ok(()) };
    let current = probation::count_start(node, current)?;
    let opened = update::restore_manifest(&node.trusted.load(), current.version, &signed)?;
    let (staged, current) = swap::stage_again(node, current, &opened.object).await?;
    staged.publish(node, &current).await;
    node.log.host(Level::Info, &format!("generation {} is back", current.version));
    Ok(())
}

/// Applies a signed manifest, which is passed on to peers or not. On an error nothing has changed.
pub async fn apply(node: &Node, signed: &[u8], spread: bool) -> Outcome<Applied> {
    let signed = signed.to_vec();
    change(node, |node| async move { apply_here(&node, &signed, spread).await }).await
}

async fn apply_here(node: &Node, signed: &[u8], spread: bool) -> Outcome<Applied> {
    node.check_running()?;
    let mut trust = node.trust.lock().await;
    if let Some(applied) = spread::again(node, signed, trust.manifest_floor, spread).await? {
        return Ok(applied);
    }
    let now = clock::now_ms().max(trust.time_floor);
    let opened = update::accept_manifest(&node.trusted.load(), trust.manifest_floor, signed, now)?;
    let manifest = opened.object;
    let version = manifest.version;
    let from = node.generation.load().version;
    let (prepared, fetched) = prepare(node, &manifest, Course::Forward).await?;
    // A pointer that is damaged names nothing that could be kept; the new one takes its place.
    let before = match node.trust_files.pointer() {
        Err(fault) if fault.code == Code::BadObject => None,
        read => read?,
    };
    let change = summary(node, &manifest);
    let probation_ms = manifest.probation_ms;
    let staged = Staged::new(node, manifest, prepared, Course::Forward).await?;
    // What was fetched and compiled took time that nobody had to watch anything.
    let published = clock::now_ms().max(now);
    let new = Past {
        version,
        digest: Digest::of(signed),
        since: published,
        signers: opened.signers,
        change,
        settled: false,
    };
    let current = Current::after(before.as_ref(), new);
    // Where there is nothing to go back to, there is nothing to watch for.
    let watched = !current.others.is_empty();
    let probation = watched.then(|| Probation {
        until: published.saturating_add(probation_ms),
        confirm: staged.wants_confirmation(),
        starts: 0,
    });
    let current = Current { settled: !watched, probation, ..current };
    let current = if spread { current } else { current.keep_back() };
    let raised = TrustState { manifest_floor: version, time_floor: now, ..trust.clone() };
    // Floors before the pointer: a crash in between leaves the old generation and a floor that a higher version passes.
    let written = node.reserve.with(|| {
        node.trust_files.keep_generation(version, signed)?;
        node.trust_files.save(&raised)
    });
    let staged = staged.once(node, written).await?;
    *trust = raised;
    let written = node.reserve.with(|| node.trust_files.publish(&current));
    let staged = staged.once(node, written).await?;
    node.spread.took(version, Some(&current));
    let mut applied = staged.publish(node, &current).await;
    applied.fetched = fetched;
    node.log.host(Level::Info, &format!("generation {version} is published; before it ran {from}"));
    Ok(applied)
}

/// What a manifest changes against what runs, in a line.
fn summary(node: &Node, manifest: &Manifest) -> String {
    let old = node.generation.load_full();
    let (label, tags) = (&node.identity.label, &node.identity.membership.tags);
    changes::between(old.manifest.as_deref().map(Into::into), manifest.into(), label, tags).summary()
}

/// Finds a skill by name.
pub fn skill(generation: &Generation, name: &Name) -> Outcome<Arc<Installed>> {
    generation
        .skills
        .get(name)
        .cloned()
        .ok_or_else(|| Fault::new(Code::NoRoute, format!("{name} is not served by this node any more")))
}
