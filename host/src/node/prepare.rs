//! From manifest entries to plugins that are ready to take their places: everything that can fail, beside what runs.

use std::sync::Arc;

use super::Node;
use super::changes::{among_calls, give_way};
use super::effects;
use super::fetch;
use super::generation::{Installed, Runs};
use super::given;
use super::outward::Around;
use super::probe;
use super::publish::Course;
use crate::policy::machine::Program;
use crate::wasm::cache::Compiled;
use crate::wasm::gateway::Gateway;
use crate::wasm::guest;
use crate::wasm::preflight;
use crate::wasm::workload::Workload;
use crate::words::objects::{BlobRef, Kind, Manifest, Plugin};
use crate::words::{Code, Fault, Outcome};

/// A plugin that is ready to take its place.
pub(super) enum Prepared {
    Unchanged(Arc<Installed>),
    Skill(Arc<Compiled>, Arc<Workload>),
    Gateway(Arc<Compiled>, Arc<Gateway>),
    Policy(Arc<Compiled>, Program),
}

/// Everything that can fail: blobs, compiling, preflight, one instance each. Changes nothing that runs. On the way back nothing that goes on
/// is asked whether it is well: it may depend on what is to go.
pub(super) async fn prepare(
    node: &Node,
    manifest: &Manifest,
    course: Course,
) -> Outcome<(Vec<(Plugin, Prepared)>, u32)> {
    let old = node.generation.load_full();
    let (label, tags) = (&node.identity.label, &node.identity.membership.tags);
    let mine: Vec<&Plugin> =
        manifest.plugins.iter().filter(|plugin| plugin.on.matches(label, tags)).collect();
    let mut prepared = Vec::new();
    let mut fetched = 0;
    for entry in mine {
        give_way();
        let same = old.plugins.get(&entry.slot).filter(|installed| same_code(&installed.entry, entry));
        let ready = match same {
            Some(installed) => {
                if course == Course::Forward && installed.entry.probe != entry.probe {
                    probed(node, entry, &installed.runs).await?;
                }
                Prepared::Unchanged(installed.clone())
            }
            None => {
                if !node.blobs.has(&entry.component) {
                    fetch_component(node, entry).await?;
                    fetched += 1;
                }
                prepare_plugin(node, entry).await?
            }
        };
        prepared.push((entry.clone(), ready));
    }
    Ok((prepared, fetched))
}

async fn fetch_component(node: &Node, entry: &Plugin) -> Outcome<()> {
    let BlobRef { digest, length } = entry.component;
    let node = node.clone();
    among_calls(async move { fetch::blob(&node, &digest, Some(length), None).await.map(drop) }).await
}

/// Whether the running thing can go on as it is.
fn same_code(old: &Plugin, new: &Plugin) -> bool {
    let key = |plugin: &Plugin| {
        (
            plugin.kind,
            plugin.component,
            plugin.config.clone(),
            plugin.protocol.clone(),
            plugin.datasets.clone(),
            plugin.grants.clone(),
            plugin.bindings.clone(),
            plugin.limits,
            plugin.instances,
        )
    };
    key(old) == key(new)
}

async fn prepare_plugin(node: &Node, entry: &Plugin) -> Outcome<Prepared> {
    let code = code(node, entry).await;
    let code = code.map_err(|fault| Fault { what: format!("{}: {}", entry.slot, fault.what), ..fault })?;
    give_way();
    let (engine, component) = (code.engine(), &code.component);
    let exports = preflight::check_world(entry.kind, &entry.slot, engine, component)?;
    let digest = entry.component.digest.to_string();
    let (engines, instances) = (node.engines.clone(), &entry.instances);
    match entry.kind {
        Kind::Skill => {
            let plugin = workload_plugin(node, entry)?;
            let workload = Workload::prepare(engines, code.clone(), plugin, instances, exports).await?;
            probed(node, entry, &Runs::Skill(workload.clone())).await?;
            Ok(Prepared::Skill(code, workload))
        }
        Kind::Gateway => {
            let plugin = workload_plugin(node, entry)?;
            let handler = preflight::handler(&entry.slot, engine, component)?;
            let gateway = Gateway::prepare(engines, code.clone(), plugin, instances, handler).await?;
            probed(node, entry, &Runs::Gateway(gateway.clone())).await?;
            Ok(Prepared::Gateway(code, gateway))
        }
        Kind::Discovery | Kind::Admission | Kind::Routing | Kind::Sync => {
            let program = Program::new(engine, component, &entry.slot, &digest, entry.limits.memory)?;
            effects::try_start(node, entry, &program)?;
            Ok(Prepared::Policy(code, program))
        }
    }
}

/// Asks the probe of an entry of what is to run by it.
async fn probed(node: &Node, entry: &Plugin, runs: &Runs) -> Outcome<()> {
    let (node, entry, runs) = (node.clone(), entry.clone(), runs.clone());
    among_calls(async move { probe::ask(&node, &entry, &runs).await }).await
}

/// The code of a plugin, compiled if it is not yet.
async fn code(node: &Node, entry: &Plugin) -> Outcome<Arc<Compiled>> {
    let digest = entry.component.digest;
    if let Some(code) = node.cache.find(entry.kind, digest)? {
        return Ok(code);
    }
    let wasm = match node.blobs.read(&entry.component) {
        // It rotted here and was taken away; a peer may have it whole.
        Err(rotten) if rotten.code == Code::DigestMismatch => {
            fetch_component(node, entry).await.map_err(|_| rotten)?;
            node.blobs.read(&entry.component)
        }
        read => read,
    };
    node.cache.compile(entry.kind, digest, &wasm?).await
}

/// What all instances of a workload share.
fn workload_plugin(node: &Node, entry: &Plugin) -> Outcome<Arc<guest::Plugin>> {
    Ok(Arc::new(guest::Plugin {
        slot: entry.slot.clone(),
        digest: entry.component.digest.to_string(),
        limits: entry.limits,
        drain_ms: entry.drain_ms,
        grants: entry.grants.clone(),
        bindings: entry.bindings.clone(),
        log: node.log.clone(),
        node: node.facts.clone(),
        outward: Arc::new(Around(Arc::downgrade(node))),
        given: given::given(node, entry)?,
    }))
}
