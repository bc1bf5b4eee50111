//! What the plugins of a manifest may say, whoever signs it. The same rules stop a mistake where the manifest
//! is written, with the line, and a bad manifest where it arrives.

mod bindings;
mod grants;

use super::manifest::{Handover, Instances, Kind, Limits, Plugin};
use crate::words::id::{NODE_DOMAIN, clip};
use crate::words::mount::Mount;
use crate::words::{Code, Fault, Outcome};
use crate::words::{Name, Trust};

/// Plugins of one manifest. The rules compare them pairwise, and a node has a pool for each.
pub const PLUGINS_MAX: usize = 256;
/// Bytes of a slot's name: it is part of paths, metrics and channel openings.
pub const SLOT_MAX: usize = 64;
/// Bytes of a channel protocol: it is sent each time a channel opens.
pub const PROTOCOL_MAX: usize = 64;
/// Bytes of one plugin's configuration: larger things are blobs.
pub const CONFIG_MAX: usize = 64 << 10;
/// Datasets of one plugin: each is counted and told to the plugin at each start.
pub const DATASETS_MAX: usize = 64;
/// Bytes of a component. The largest one seen, an interpreter with its library, has 18 MB.
pub const COMPONENT_MAX: u64 = 64 << 20;
/// Least memory of an instance: one WebAssembly page.
pub const MEMORY_MIN: u64 = 64 << 10;
/// Most memory of an instance: what 32-bit addresses reach.
pub const MEMORY_MAX: u64 = 4 << 30;
/// Longest deadline: a day. What takes longer is not a call.
pub const DEADLINE_MAX_MS: u64 = 24 * 60 * 60 * 1000;
/// Most calls at the same time: one link's streams a few hundred times over.
pub const CONCURRENCY_MAX: u32 = 65_536;
/// Least probation: less is no time for anything to show.
pub const PROBATION_MIN_MS: u64 = 1_000;
/// Longest probation. The generation before is kept for it, and what is confirmed is held up.
pub const PROBATION_MAX_MS: u64 = 60 * 60 * 1000;
/// Longest drain time: that of the longest call.
pub const DRAIN_MAX_MS: u64 = DEADLINE_MAX_MS;
/// Bytes of a probe: a function's name, or a path.
pub const PROBE_MAX: usize = 128;
/// Bytes of a label or tag.
pub const LABEL_MAX: usize = 64;

/// Something that a plugin's entry may not say.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    /// Index of the plugin; absent when it is of the manifest as a whole.
    pub plugin: Option<usize>,
    /// What is wrong, slot first.
    pub what: String,
}

/// Everything that is wrong with these plugins, in their order.
pub fn problems(plugins: &[Plugin]) -> Vec<Problem> {
    if plugins.len() > PLUGINS_MAX {
        let what = format!("a manifest has at most {PLUGINS_MAX} plugins, this one has {}", plugins.len());
        return vec![Problem { plugin: None, what }];
    }
    let mut found = Vec::new();
    for (index, plugin) in plugins.iter().enumerate() {
        let mut add = |what: String| {
            let slot = clip(&plugin.slot).escape_debug();
            found.push(Problem { plugin: Some(index), what: format!("{slot}: {what}") });
        };
        entry(plugin, &mut add);
        numbers(&plugin.limits, plugin.instances, &mut add);
        for earlier in plugins.iter().take(index).filter(|earlier| earlier.on.may_meet(&plugin.on)) {
            pair(earlier, plugin, &mut add);
        }
    }
    found
}

/// A probation that a manifest may have.
///
/// # Errors
/// What it has to be, as the rest of a sentence.
pub fn check_probation(ms: u64) -> Result<u64, String> {
    if (PROBATION_MIN_MS..=PROBATION_MAX_MS).contains(&ms) {
        return Ok(ms);
    }
    Err(format!("between {} s and {} min", PROBATION_MIN_MS / 1000, PROBATION_MAX_MS / 60_000))
}

/// Refuses a label that nodes cannot have.
///
/// # Errors
/// `usage`.
pub fn check_label(text: &str) -> Outcome<()> {
    if is_label(text) {
        return Ok(());
    }
    Err(Fault::new(Code::Usage, format!("not a label: {:?}", clip(text)))
        .fix("a label is 1 to 64 letters, digits, - _ and . only"))
}

/// Whether this is a label or tag: letters, digits, `-`, `_`, `.`, so that it can stand in commands and paths.
pub fn is_label(text: &str) -> bool {
    let byte = |b: u8| b.is_ascii_alphanumeric() || b == b'-' || b == b'_' || b == b'.';
    !text.is_empty() && text.len() <= LABEL_MAX && text.bytes().all(byte)
}

/// Whether this is a pattern that [`Name::matches`] understands.
pub fn is_pattern(text: &str) -> bool {
    text == "*"
        || match text.strip_prefix("*@") {
            Some(domain) => format!("x@{domain}").parse::<Name>().is_ok(),
            None => text.parse::<Name>().is_ok(),
        }
}

fn is_slot(text: &str) -> bool {
    let byte = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-';
    text.len() <= SLOT_MAX && text.split('/').all(|part| !part.is_empty() && part.bytes().all(byte))
}

/// What one entry says about itself.
fn entry(plugin: &Plugin, add: &mut impl FnMut(String)) {
    if !is_slot(&plugin.slot) {
        add("a slot is lower-case letters, digits and - in parts separated by /".into());
    }
    match plugin.component.length {
        0 => add("the component is empty".into()),
        length if length > COMPONENT_MAX => {
            add(format!("a component has at most {COMPONENT_MAX} bytes, this one has {length}"));
        }
        _ => {}
    }
    if plugin.config.len() > CONFIG_MAX {
        add(format!("config has at most {CONFIG_MAX} bytes as JSON, this one has {}", plugin.config.len()));
    } else if serde_json::from_str::<serde_json::Map<_, _>>(&plugin.config).is_err() {
        add("config is not a JSON object".into());
    }
    if let Some(protocol) = &plugin.protocol {
        if !plugin.kind.is_policy() {
            add(format!("a {} has no protocol: only policies have channels", plugin.kind));
        }
        if protocol.is_empty()
            || protocol.len() > PROTOCOL_MAX
            || !protocol.bytes().all(|b| b.is_ascii_graphic())
        {
            add(format!("protocol is 1 to {PROTOCOL_MAX} visible characters without spaces"));
        }
    }
    match (plugin.kind == Kind::Skill, plugin.names.is_empty()) {
        (false, false) if plugin.kind.is_policy() => add(format!("a {} policy serves no names", plugin.kind)),
        (false, false) => add(format!("a {} serves no names", plugin.kind)),
        (true, true) => add("a skill needs at least one name".into()),
        _ => {}
    }
    match (plugin.kind, plugin.mount.as_deref().map(str::parse::<Mount>)) {
        (Kind::Gateway, None) => add("a gateway needs a mount, for example \"/hello\"".into()),
        (Kind::Gateway, Some(Err(why))) => add(format!("mount {why}")),
        (Kind::Gateway, Some(Ok(_))) | (_, None) => {}
        (kind, Some(_)) => add(format!("mount is for gateways, this is of the kind {kind}")),
    }
    for (index, name) in plugin.names.iter().enumerate() {
        if name.is_reserved() {
            add(format!("{name}: names @{NODE_DOMAIN} are those of the nodes themselves"));
        }
        if plugin.names.iter().take(index).any(|earlier| earlier == name) {
            add(format!("{name} is named twice"));
        }
    }
    datasets(plugin, add);
    if plugin.expose < Trust::Basic {
        add(format!(
            "expose is basic, trusted or full: a peer below basic calls nothing, not {}",
            plugin.expose
        ));
    }
    if plugin.kind.is_policy() && plugin.grants.node.is_some() {
        add("grants.node is for workloads: a policy imports nothing".into());
    }
    if plugin.kind != Kind::Discovery && !plugin.grants.resolve.is_empty() {
        add("grants.resolve is for discovery policies".into());
    }
    replacing(plugin, add);
    grants::workload(plugin, add);
    bindings::workload(plugin, add);
    for label in plugin.on.labels.iter().chain(&plugin.on.tags).filter(|label| !is_label(label)) {
        add(format!("{:?} is no label or tag: letters, digits, - _ and . only", clip(label)));
    }
}

/// What it says of being replaced, and of being well.
fn replacing(plugin: &Plugin, add: &mut impl FnMut(String)) {
    let is_policy = plugin.kind.is_policy();
    if !is_policy && plugin.instances != Instances::Singleton && plugin.handover != Handover::default() {
        add(format!("handover is for policies and singletons, not for a {} of many instances", plugin.kind));
    }
    if is_policy && plugin.drain_ms != Plugin::DRAIN_MS {
        add(format!("drain is for workloads: a {} policy has no calls in flight", plugin.kind));
    }
    if plugin.drain_ms > DRAIN_MAX_MS {
        add(format!("drain in ms is at most {DRAIN_MAX_MS}, not {}", plugin.drain_ms));
    }
    let Some(probe) = &plugin.probe else { return };
    if is_policy {
        add(format!("probe is for workloads: a {} policy shows by itself whether it is well", plugin.kind));
    }
    if probe.is_empty() || probe.len() > PROBE_MAX || !probe.bytes().all(|byte| byte.is_ascii_graphic()) {
        add(format!("probe is 1 to {PROBE_MAX} visible characters without spaces"));
    } else if plugin.kind == Kind::Gateway && !probe.starts_with('/') {
        add("probe of a gateway is a path, for example \"/health\"".into());
    }
}

/// A dataset's name stands in commands, and nobody but a sync policy can keep one.
fn datasets(plugin: &Plugin, add: &mut impl FnMut(String)) {
    match (plugin.kind == Kind::Sync, plugin.datasets.len()) {
        (true, 0) => add("a sync policy needs at least one dataset: datasets = [\"config\"]".into()),
        (true, count) if count > DATASETS_MAX => {
            add(format!("a sync policy has at most {DATASETS_MAX} datasets, this one has {count}"));
        }
        (false, 1..) => add(format!("datasets are for sync policies, not for a {} plugin", plugin.kind)),
        _ => {}
    }
    for (index, dataset) in plugin.datasets.iter().enumerate() {
        if !is_label(dataset) {
            add(format!("{:?} is no dataset: letters, digits, - _ and . only", clip(dataset)));
        }
        if plugin.datasets.iter().take(index).any(|earlier| earlier == dataset) {
            add(format!("dataset {dataset} is named twice"));
        }
    }
}

fn numbers(limits: &Limits, instances: Instances, add: &mut impl FnMut(String)) {
    let mut range = |what: &str, value: u64, least: u64, most: u64| {
        if value < least || value > most {
            add(format!("{what} is between {least} and {most}, not {value}"));
        }
    };
    range("limits.memory", limits.memory, MEMORY_MIN, MEMORY_MAX);
    range("limits.deadline in ms", limits.deadline_ms, 1, DEADLINE_MAX_MS);
    range("limits.host-calls", limits.host_calls, 1, u64::MAX);
    range("limits.host-bytes", limits.host_bytes, 1, u64::MAX);
    range("limits.concurrency", limits.concurrency.into(), 1, CONCURRENCY_MAX.into());
    if let Instances::Reuse(calls) = instances {
        range("the number of calls of an instance", calls.into(), 1, u32::MAX.into());
    }
}

/// What two entries that may meet on one node say of each other.
fn pair(earlier: &Plugin, plugin: &Plugin, add: &mut impl FnMut(String)) {
    if earlier.slot == plugin.slot {
        add("this slot is taken twice, and both may be on one node; give them `on` labels that differ".into());
        return;
    }
    if earlier.kind == plugin.kind && plugin.kind.is_single() {
        add(format!("a node has one {} policy, and {} is one already", plugin.kind, clip(&earlier.slot)));
    }
    let mount = |plugin: &Plugin| plugin.mount.as_deref().and_then(|mount| mount.parse::<Mount>().ok());
    if let Some(mount) = mount(plugin).filter(|own| mount(earlier).as_ref() == Some(own)) {
        add(format!("{mount} is the mount of {} already", clip(&earlier.slot)));
    }
    for dataset in plugin.datasets.iter().filter(|dataset| earlier.datasets.contains(dataset)) {
        add(format!("dataset {} is synced by {} already", clip(dataset), clip(&earlier.slot)));
    }
    for name in plugin.names.iter().filter(|name| earlier.names.contains(name)) {
        add(format!("{name} is served by {} already", clip(&earlier.slot)));
    }
}

#[cfg(test)]
pub(crate) mod tests;
