//! What one set of plugins changes against another, in words: rights first, then everything else. Both are those of one node.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;

use serde::Serialize;
use serde_json::Value;

use super::gains;
use crate::words::count::count;
use crate::words::id::clip;
use crate::words::objects::{Instances, Manifest, Plugin};
use crate::words::{Digest, Trust};

/// Slots that a summary names of each sort.
const NAMED_MOST: usize = 4;

/// What differs.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct Changes {
    /// Rights that are gained, by slot.
    pub gains: Vec<Rights>,
    /// Rights that are lost, by slot.
    pub loses: Vec<Rights>,
    /// Slots that are new.
    pub added: Vec<Added>,
    /// Slots that differ.
    pub changed: Vec<Changed>,
    /// Slots that are gone.
    pub removed: Vec<String>,
    /// Slots in which nothing differs.
    pub unchanged: Vec<String>,
    /// What differs and belongs to no slot.
    pub manifest: Vec<Difference>,
}

/// Rights of one slot, in words.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct Rights {
    /// The slot.
    pub slot: String,
    /// One by one, for example `http GET https://example.org`.
    pub rights: Vec<String>,
}

/// A slot that is new.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct Added {
    /// The slot.
    pub slot: String,
    /// Digest of its component.
    pub component: Digest,
    /// Its names, its mount and its datasets.
    pub serves: Vec<String>,
}

/// A slot that differs.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct Changed {
    /// The slot.
    pub slot: String,
    /// In what, apart from its rights.
    pub differences: Vec<Difference>,
}

/// One thing that differs.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct Difference {
    /// What: a key of the manifest, for example `limits.memory`.
    pub what: String,
    /// Its value before; none where there was none.
    pub from: Option<String>,
    /// Its value after; none where there is none.
    pub to: Option<String>,
}

/// What a node runs: the plugins of a manifest that are for it, and what the manifest says of no plugin.
#[derive(Clone, Copy, Debug)]
pub struct Side<'a> {
    /// All plugins of the manifest.
    pub plugins: &'a [Plugin],
    /// Trust of a peer without a membership.
    pub strangers: Trust,
    /// See [`Manifest::probation_ms`].
    pub probation_ms: u64,
}

impl<'a> From<&'a Manifest> for Side<'a> {
    fn from(manifest: &'a Manifest) -> Self {
        Self {
            plugins: &manifest.plugins,
            strangers: manifest.strangers,
            probation_ms: manifest.probation_ms,
        }
    }
}

/// What differs on the node of this label and these tags. Without an old side everything is new.
pub fn between(old: Option<Side>, new: Side, label: &str, tags: &[String]) -> Changes {
    let here = |side: Side<'_>| -> BTreeMap<String, Plugin> {
        let mine = side.plugins.iter().filter(|plugin| plugin.on.matches(label, tags));
        mine.map(|plugin| (plugin.slot.clone(), plugin.clone())).collect()
    };
    let (before, after) = (old.map(here).unwrap_or_default(), here(new));
    let slots: BTreeSet<&String> = before.keys().chain(after.keys()).collect();
    let mut changes = Changes::default();
    for slot in slots {
        let (was, is) = (before.get(slot), after.get(slot));
        let rights =
            |rights: Vec<String>| (!rights.is_empty()).then(|| Rights { slot: slot.clone(), rights });
        changes.gains.extend(rights(gains::gained(was, is)));
        changes.loses.extend(rights(gains::gained(is, was)));
        match (was, is) {
            (Some(was), Some(is)) if was == is => changes.unchanged.push(slot.clone()),
            (Some(was), Some(is)) => {
                changes.changed.push(Changed { slot: slot.clone(), differences: differences(was, is) });
            }
            (None, Some(is)) => changes.added.push(added(is)),
            (Some(_), None) => changes.removed.push(slot.clone()),
            (None, None) => {}
        }
    }
    if let Some(old) = old {
        differ(&mut changes.manifest, "strangers", old.strangers.as_str(), new.strangers.as_str());
        let probation = |side: Side<'_>| side.probation_ms.to_string();
        differ(&mut changes.manifest, "probation-ms", &probation(old), &probation(new));
    }
    changes
}

impl Changes {
    /// Whether nothing differs.
    pub fn is_empty(&self) -> bool {
        self.added.is_empty()
            && self.changed.is_empty()
            && self.removed.is_empty()
            && self.manifest.is_empty()
    }

    /// Everything, in lines for people; rights come first.
    pub fn lines(&self) -> Vec<String> {
        let mut out = lines(&self.gains, "gains");
        out.extend(lines(&self.loses, "loses"));
        for added in &self.added {
            let mut line = format!("added     {}: component {}", added.slot, added.component.short());
            if !added.serves.is_empty() {
                let _ = write!(line, "; serves {}", added.serves.join(", "));
            }
            out.push(line);
        }
        for changed in &self.changed {
            let what: Vec<String> = changed.differences.iter().map(Difference::words).collect();
            // Its rights stand above.
            let what = if what.is_empty() { "its rights".to_owned() } else { what.join("; ") };
            out.push(format!("changed   {}: {what}", changed.slot));
        }
        out.extend(self.removed.iter().map(|slot| format!("removed   {slot}")));
        out.extend(self.manifest.iter().map(|difference| format!("changed   {}", difference.words())));
        out
    }

    /// One line that says what it is about.
    pub fn summary(&self) -> String {
        let mut parts = Vec::new();
        let added: Vec<&str> = self.added.iter().map(|added| added.slot.as_str()).collect();
        let changed: Vec<&str> = self.changed.iter().map(|changed| changed.slot.as_str()).collect();
        let removed: Vec<&str> = self.removed.iter().map(String::as_str).collect();
        for (word, slots) in [("adds", added), ("changes", changed), ("removes", removed)] {
            let Some(more) = slots.len().checked_sub(NAMED_MOST).filter(|more| *more > 0) else {
                parts.extend((!slots.is_empty()).then(|| format!("{word} {}", slots.join(", "))));
                continue;
            };
            let named: Vec<&str> = slots.into_iter().take(NAMED_MOST).collect();
            parts.push(format!("{word} {} and {more} more", named.join(", ")));
        }
        parts.extend(self.manifest.iter().map(|difference| format!("changes {}", difference.what)));
        for (word, rights) in [("gains", &self.gains), ("loses", &self.loses)] {
            let number: usize = rights.iter().map(|rights| rights.rights.len()).sum();
            parts.extend((number > 0).then(|| format!("{word} {}", count(number, "right"))));
        }
        if parts.is_empty() { "changes nothing here".to_owned() } else { parts.join("; ") }
    }
}

impl Difference {
    /// `config.pick "failover" → "spread"`.
    pub fn words(&self) -> String {
        let shown = |value: &Option<String>| value.as_deref().map_or("none", clip).to_owned();
        format!("{} {} → {}", self.what, shown(&self.from), shown(&self.to))
    }
}

/// Rights, one in a line, with a word for what becomes of them: `routing gains: http GET https://example.org`.
pub fn lines(rights: &[Rights], word: &str) -> Vec<String> {
    let of_slot = |rights: &Rights| {
        let line = |right: &String| format!("{} {word}: {right}", rights.slot);
        rights.rights.iter().map(line).collect::<Vec<_>>()
    };
    rights.iter().flat_map(of_slot).collect()
}

fn added(plugin: &Plugin) -> Added {
    let names = plugin.names.iter().map(ToString::to_string);
    let serves = names.chain(plugin.mount.clone()).chain(plugin.datasets.clone()).collect();
    Added { slot: plugin.slot.clone(), component: plugin.component.digest, serves }
}

/// Everything but the rights.
fn differences(old: &Plugin, new: &Plugin) -> Vec<Difference> {
    let mut out = Vec::new();
    let out = &mut out;
    differ(out, "kind", old.kind.as_str(), new.kind.as_str());
    differ(out, "component", &old.component.digest.short(), &new.component.digest.short());
    config(out, &old.config, &new.config);
    let (was, is) = (old.limits, new.limits);
    for (what, was, is) in [
        ("limits.memory", was.memory, is.memory),
        ("limits.deadline-ms", was.deadline_ms, is.deadline_ms),
        ("limits.host-calls", was.host_calls, is.host_calls),
        ("limits.host-bytes", was.host_bytes, is.host_bytes),
        ("limits.concurrency", was.concurrency.into(), is.concurrency.into()),
    ] {
        differ(out, what, &was.to_string(), &is.to_string());
    }
    differ(out, "instances", &instances(old.instances), &instances(new.instances));
    let names = |plugin: &Plugin| plugin.names.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ");
    differ(out, "handover", old.handover.as_str(), new.handover.as_str());
    differ(out, "drain-ms", &old.drain_ms.to_string(), &new.drain_ms.to_string());
    differ(out, "probe", old.probe.as_deref().unwrap_or(""), new.probe.as_deref().unwrap_or(""));
    differ(out, "names", &names(old), &names(new));
    differ(out, "mount", old.mount.as_deref().unwrap_or(""), new.mount.as_deref().unwrap_or(""));
    let bindings = |plugin: &Plugin| {
        let lines = plugin.bindings.iter().map(|(import, name)| format!("{import} = {name}"));
        lines.collect::<Vec<_>>().join(", ")
    };
    differ(out, "bindings", &bindings(old), &bindings(new));
    differ(out, "datasets", &old.datasets.join(", "), &new.datasets.join(", "));
    differ(out, "protocol", old.protocol.as_deref().unwrap_or(""), new.protocol.as_deref().unwrap_or(""));
    differ(out, "expose", old.expose.as_str(), new.expose.as_str());
    differ(out, "on.labels", &old.on.labels.join(", "), &new.on.labels.join(", "));
    differ(out, "on.tags", &old.on.tags.join(", "), &new.on.tags.join(", "));
    std::mem::take(out)
}

fn instances(instances: Instances) -> String {
    match instances {
        Instances::Fresh => "fresh".to_owned(),
        Instances::Reuse(calls) => format!("reuse {calls}"),
        Instances::Singleton => "singleton".to_owned(),
    }
}

/// Key by key, so that one that changed is not lost among those that did not.
fn config(out: &mut Vec<Difference>, old: &str, new: &str) {
    let keys = |text: &str| match serde_json::from_str(text) {
        Ok(Value::Object(keys)) => Some(keys),
        _ => None,
    };
    let (Some(old_keys), Some(new_keys)) = (keys(old), keys(new)) else {
        return differ(out, "config", old, new);
    };
    let all: BTreeSet<&String> = old_keys.keys().chain(new_keys.keys()).collect();
    for key in all {
        let text = |value: Option<&Value>| value.map(ToString::to_string).unwrap_or_default();
        differ(out, &format!("config.{key}"), &text(old_keys.get(key)), &text(new_keys.get(key)));
    }
}

/// Empty texts stand for nothing.
fn differ(out: &mut Vec<Difference>, what: &str, old: &str, new: &str) {
    if old != new {
        let value = |text: &str| (!text.is_empty()).then(|| text.to_owned());
        out.push(Difference { what: what.to_owned(), from: value(old), to: value(new) });
    }
}

#[cfg(test)]
#[path = "changes_tests.rs"]
pub(super) mod tests;
