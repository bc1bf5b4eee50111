//! What runs: prepared aside, published by one pointer, written down so that a crash leaves the old or the new.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::sync::atomic::AtomicU64;

use super::Node;
use super::effects;
use super::fetch;
use super::links::LinkEvent;
use super::slots::{self, AnySlot};
use crate::clock;
use crate::decisions::update;
use crate::log::Level;
use crate::policy::admission::Admission;
use crate::policy::discovery::Discovery;
use crate::policy::machine::Program;
use crate::policy::routing::Routing;
use crate::policy::slot::Slot;
use crate::store::trust::Current;
use crate::wasm::engine;
use crate::wasm::guest;
use crate::wasm::preflight;
use crate::wasm::workload::Workload;
use crate::words::control::Applied;
use crate::words::objects::{Kind, Manifest, Plugin};
use crate::words::{Code, Digest, Fault, Name, Outcome};

/// One plugin that runs.
pub struct Installed {
    /// Its manifest entry.
    pub entry: Plugin,
    /// Which engine runs it.
    pub engine: engine::Kind,
    /// Calls served.
    pub served: AtomicU64,
    /// The running thing.
    pub runs: Runs,
}

/// What a plugin is while it runs.
#[derive(Clone)]
pub enum Runs {
    /// A skill.
    Skill(Arc<Workload>),
    /// A policy.
    Policy(AnySlot),
}

/// One applied manifest on this node.
pub struct Generation {
    /// Manifest version; 0 before the first.
    pub version: u64,
    /// The manifest; none before the first.
    pub manifest: Option<Arc<Manifest>>,
    /// Every plugin of this node, by slot.
    pub plugins: BTreeMap<String, Arc<Installed>>,
    /// Skills by the names they serve.
    pub skills: HashMap<Name, Arc<Installed>>,
    /// The routing policy.
    pub routing: Option<Slot<Routing>>,
    /// The admission policy.
    pub admission: Option<Slot<Admission>>,
    /// The discovery policies.
    pub discovery: Vec<Slot<Discovery>>,
}

impl Generation {
    /// Nothing runs.
    pub fn empty() -> Self {
        Self::new(0, None, BTreeMap::new())
    }

    fn new(version: u64, manifest: Option<Arc<Manifest>>, plugins: BTreeMap<String, Arc<Installed>>) -> Self {
        let mut generation = Self {
            version,
            manifest,
            skills: HashMap::new(),
            routing: None,
            admission: None,
            discovery: Vec::new(),
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
                Runs::Skill(_) => {}
            }
        }
        generation.plugins = plugins;
        generation
    }

    /// The policies with their slot names.
    pub fn policies(&self) -> impl Iterator<Item = (&Arc<Installed>, &AnySlot)> {
        self.plugins.values().filter_map(|installed| match &installed.runs {
            Runs::Policy(slot) => Some((installed, slot)),
            Runs::Skill(_) => None,
        })
    }

    /// Saves and stops the policies.
    pub async fn stop(&self) {
        for (_, slot) in self.policies() {
            slot.stop().await;
        }
    }
}

/// A plugin that is ready to take its place.
enum Prepared {
    Unchanged(Arc<Installed>),
    Skill(engine::Kind, Arc<Workload>),
    Policy(Program),
}

/// Brings back the generation that ran last. Needs no network; what is expired goes on.
pub async fn restore(node: &Node) -> Outcome<()> {
    let Some((current, signed)) = node.trust_files.current()? else { return Ok(()) };
    let opened = update::restore_manifest(&node.identity.trusted, current.version, &signed)?;
    let manifest = opened.object;
    let (prepared, _) = prepare(node, &manifest).await?;
    publish(node, manifest, prepared).await?;
    node.log.host(Level::Info, &format!("generation {} is back", current.version));
    Ok(())
}

/// Applies a signed manifest. On an error nothing has changed.
pub async fn apply(node: &Node, signed: &[u8]) -> Outcome<Applied> {
    node.check_running()?;
    let mut trust = node.trust.lock().await;
    let now = clock::now_ms().max(trust.time_floor);
    let opened = update::accept_manifest(&node.identity.trusted, trust.manifest_floor, signed, now)?;
    let manifest = opened.object;
    let version = manifest.version;
    let from = node.generation.load().version;
    let (prepared, fetched) = prepare(node, &manifest).await?;
    // Floors before the pointer: a crash in between leaves the old generation and a floor that a higher version passes.
    trust.manifest_floor = version;
    trust.time_floor = now;
    node.trust_files.save(&trust)?;
    node.trust_files.keep_generation(version, signed)?;
    node.trust_files.publish(&Current { version, digest: Digest::of(signed), since: now })?;
    let mut applied = publish(node, manifest, prepared).await?;
    applied.from = from;
    applied.signers = opened.signers;
    applied.fetched = fetched;
    node.log.host(Level::Info, &format!("generation {version} is published; before it ran {from}"));
    Ok(applied)
}

/// Everything that can fail: blobs, compiling, preflight, one instance each. Changes nothing that runs.
async fn prepare(node: &Node, manifest: &Manifest) -> Outcome<(Vec<(Plugin, Prepared)>, u32)> {
    let old = node.generation.load_full();
    let (label, tags) = (&node.identity.label, &node.identity.membership.tags);
    let mine: Vec<&Plugin> =
        manifest.plugins.iter().filter(|plugin| plugin.on.matches(label, tags)).collect();
    let mut prepared = Vec::new();
    let mut fetched = 0;
    for entry in mine {
        let same = old.plugins.get(&entry.slot).filter(|installed| same_code(&installed.entry, entry));
        let ready = match same {
            Some(installed) => Prepared::Unchanged(installed.clone()),
            None => {
                if !node.blobs.has(&entry.component) {
                    fetch::blob(node, &entry.component).await?;
                    fetched += 1;
                }
                prepare_plugin(node, entry).await?
            }
        };
        prepared.push((entry.clone(), ready));
    }
    Ok((prepared, fetched))
}

/// Whether the running thing can go on as it is.
fn same_code(old: &Plugin, new: &Plugin) -> bool {
    let key = |plugin: &Plugin| {
        (
            plugin.kind,
            plugin.component,
            plugin.config.clone(),
            plugin.protocol.clone(),
            plugin.grants.clone(),
            plugin.limits,
            plugin.instances,
        )
    };
    key(old) == key(new)
}

async fn prepare_plugin(node: &Node, entry: &Plugin) -> Outcome<Prepared> {
    let at = |fault: Fault| Fault { what: format!("{}: {}", entry.slot, fault.what), ..fault };
    let wasm = node.blobs.read(&entry.component).map_err(at)?;
    let kind = preflight::engine_for(entry.kind, &wasm).map_err(at)?;
    let component = node.cache.load(&node.engines, kind, entry.component.digest, &wasm).await.map_err(at)?;
    let engine = node.engines.get(kind);
    let exports = preflight::check_world(entry.kind, &entry.slot, engine, &component)?;
    let digest = entry.component.digest.to_string();
    match entry.kind {
        Kind::Skill => {
            let plugin = Arc::new(guest::Plugin {
                slot: entry.slot.clone(),
                digest,
                limits: entry.limits,
                grants: entry.grants.clone(),
                log: node.log.clone(),
                node: node.facts.clone(),
            });
            let workload =
                Workload::prepare(node.engines.clone(), kind, &component, plugin, &entry.instances, exports)
                    .await?;
            Ok(Prepared::Skill(kind, workload))
        }
        Kind::Discovery | Kind::Admission | Kind::Routing => {
            let program = Program::new(engine, &component, &entry.slot, &digest, entry.limits.memory)?;
            effects::try_start(node, entry, &program)?;
            Ok(Prepared::Policy(program))
        }
    }
}

/// Puts everything in its place. From the pointer on, new calls meet the new plugins; calls in flight keep the old ones alive.
async fn publish(node: &Node, manifest: Manifest, prepared: Vec<(Plugin, Prepared)>) -> Outcome<Applied> {
    let old = node.generation.load_full();
    let mut applied = Applied { to: manifest.version, ..Applied::default() };
    let mut plugins = BTreeMap::new();
    for (entry, ready) in prepared {
        let slot = entry.slot.clone();
        let before = old.plugins.get(&slot);
        match (&ready, before) {
            (Prepared::Unchanged(_), _) => applied.unchanged.push(slot.clone()),
            (_, Some(_)) => applied.changed.push(slot.clone()),
            (_, None) => applied.added.push(slot.clone()),
        }
        let (engine, runs, served) = match ready {
            Prepared::Unchanged(installed) => {
                let served = installed.served.load(std::sync::atomic::Ordering::Relaxed);
                (installed.engine, installed.runs.clone(), served)
            }
            Prepared::Skill(engine, workload) => (engine, Runs::Skill(workload), 0),
            Prepared::Policy(program) => {
                let before = before.map(|installed| &installed.runs);
                (engine::Kind::Policy, Runs::Policy(slots::seat(node, &entry, program, before).await?), 0)
            }
        };
        let installed = Installed { entry, engine, served: AtomicU64::new(served), runs };
        plugins.insert(slot, Arc::new(installed));
    }
    applied.removed = old.plugins.keys().filter(|slot| !plugins.contains_key(*slot)).cloned().collect();
    let generation = Arc::new(Generation::new(manifest.version, Some(Arc::new(manifest)), plugins));
    let before = clock::monotonic();
    node.generation.store(generation.clone());
    applied.publish_us = u64::try_from(before.elapsed().as_micros()).unwrap_or(u64::MAX);
    node.plans.forget(None);
    settle(node, &old, &generation).await;
    Ok(applied)
}

/// Tells everybody what the new pointer means, and ends what nobody uses any more.
async fn settle(node: &Node, old: &Generation, new: &Generation) {
    for (installed, slot) in old.policies() {
        let kept =
            new.plugins.get(&installed.entry.slot).is_some_and(|now| matches!(now.runs, Runs::Policy(_)));
        if !kept {
            slot.stop().await;
        }
    }
    slots::tell_serving(node, old, new).await;
    slots::tell_hints(node, old, new).await;
    // The link loop tells new slots of the links, and the peers of the slots.
    let _ = node.events.send(LinkEvent::GenerationChanged).await;
}

/// Finds a skill by name.
pub fn skill(generation: &Generation, name: &Name) -> Outcome<Arc<Installed>> {
    generation
        .skills
        .get(name)
        .cloned()
        .ok_or_else(|| Fault::new(Code::NoRoute, format!("{name} is not served by this node any more")))
}
