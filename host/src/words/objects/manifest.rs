//! The manifest: what every node of the mesh should run.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::words::{Digest, MeshId, Name, Trust};

/// The desired state of a mesh. Signed by the owners' threshold or by one operator with the role `deploy`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Manifest {
    /// The mesh.
    pub mesh: MeshId,
    /// Strictly rising; gaps are allowed.
    pub version: u64,
    /// When it was signed.
    pub created: u64,
    /// From when on it is not applied any more; what already runs goes on.
    pub expires: u64,
    /// Trust of a peer without a membership.
    pub strangers: Trust,
    /// How long a generation is watched after it was published; what goes wrong meanwhile takes it back.
    pub probation_ms: u64,
    /// Everything that may run.
    pub plugins: Vec<Plugin>,
}

impl Manifest {
    /// Probation where a manifest says nothing else: long enough for a plugin that fails under use to show it.
    pub const PROBATION_MS: u64 = 60_000;

    /// Everything that its nodes must have: what a collection keeps.
    pub fn blobs(&self) -> impl Iterator<Item = BlobRef> {
        self.plugins.iter().map(|plugin| plugin.component)
    }
}

/// A component and everything that it may do.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Plugin {
    /// Its place in the node, for example `routing` or `skill/math1`.
    pub slot: String,
    /// Which contract it keeps.
    pub kind: Kind,
    /// The compiled bytes.
    pub component: BlobRef,
    /// Text of a JSON object.
    pub config: String,
    /// Policies that talk with their like: the protocol of their channel, for example `path-vector/1`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub protocol: Option<String>,
    /// Gateways: where it answers, see [`crate::words::mount::Mount`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mount: Option<String>,
    /// Sync policies: the datasets that it keeps the same on all nodes, for example `config`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub datasets: Vec<String>,
    /// Skills: the names that it serves.
    pub names: Vec<Name>,
    /// The least trust that may call it.
    pub expose: Trust,
    /// Its rights.
    pub grants: Grants,
    /// Workloads: imported interfaces that calls of a name satisfy.
    #[serde(default, skip_serializing_if = "Bindings::is_empty")]
    pub bindings: Bindings,
    /// What it may use up.
    pub limits: Limits,
    /// How long an instance lives.
    pub instances: Instances,
    /// Policies and singletons: what becomes of the state when another version takes the slot.
    #[serde(default, skip_serializing_if = "Handover::is_default")]
    pub handover: Handover,
    /// Workloads: how long calls in flight may go on once another version has taken the slot.
    #[serde(default = "drain_default", skip_serializing_if = "is_drain_default")]
    pub drain_ms: u64,
    /// Workloads: what is asked to see whether it is well. A function without parameters of a skill, a path of a gateway.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub probe: Option<String>,
    /// The nodes that run it.
    pub on: Selector,
}

impl Plugin {
    /// Drain time where a manifest says nothing else: as long as a call of the deadline class `normal`.
    pub const DRAIN_MS: u64 = 30_000;
}

fn drain_default() -> u64 {
    Plugin::DRAIN_MS
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde gives a reference")]
fn is_drain_default(drain_ms: &u64) -> bool {
    *drain_ms == Plugin::DRAIN_MS
}

/// What becomes of a slot's state when another version takes the slot.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Handover {
    /// The new version starts from it. One that does not take it does not start, and the old one goes on.
    #[default]
    Required,
    /// The new version starts from it, or without it when it does not take it.
    Optional,
    /// The new version starts without it.
    None,
}

impl Handover {
    /// The text used in manifests.
    pub const fn as_str(self) -> &'static str {
        match self {
            Handover::Required => "required",
            Handover::Optional => "optional",
            Handover::None => "none",
        }
    }

    #[expect(clippy::trivially_copy_pass_by_ref, reason = "serde gives a reference")]
    fn is_default(&self) -> bool {
        *self == Self::default()
    }
}

/// Names of the mesh by the imported interface that each of them satisfies, for example `weather@acme` by
/// `acme:weather/forecast@1.2.0`; the version may be left out. A binding is also the right to call its name.
pub type Bindings = BTreeMap<String, Name>;

/// Kinds of plugin.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Kind {
    /// Policy: finds peers.
    Discovery,
    /// Policy: says who may join and call.
    Admission,
    /// Policy: finds the way to a name.
    Routing,
    /// Policy: keeps datasets the same on all nodes.
    Sync,
    /// Workload: called by name.
    Skill,
    /// Workload: called by HTTP.
    Gateway,
}

impl Kind {
    /// Every kind, in the order in which a node starts them.
    pub const ALL: [Kind; 6] =
        [Kind::Discovery, Kind::Admission, Kind::Routing, Kind::Sync, Kind::Skill, Kind::Gateway];

    /// The text used in manifests and output.
    pub const fn as_str(self) -> &'static str {
        match self {
            Kind::Discovery => "discovery",
            Kind::Admission => "admission",
            Kind::Routing => "routing",
            Kind::Sync => "sync",
            Kind::Skill => "skill",
            Kind::Gateway => "gateway",
        }
    }

    /// Whether it is a state machine that the host asks, not a workload that is called.
    pub const fn is_policy(self) -> bool {
        !matches!(self, Kind::Skill | Kind::Gateway)
    }

    /// Whether a node runs at most one of them: two answers to "may this peer join" or "which way" would need
    /// a third policy to choose. Several discoveries only add up, and each
    /// dataset has one sync policy.
    pub const fn is_single(self) -> bool {
        matches!(self, Kind::Admission | Kind::Routing)
    }
}

impl std::fmt::Display for Kind {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.as_str())
    }
}

/// Names bytes by content.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct BlobRef {
    /// BLAKE3.
    pub digest: Digest,
    /// In bytes; known before anything is fetched.
    pub length: u64,
}

/// The rights of a plugin. Nothing is granted unless it is written.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Grants {
    /// What it may do with the node itself.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub node: Option<NodeAccess>,
    /// DNS names that a discovery policy may look up; `*` for any.
    pub resolve: Vec<String>,
    /// Names that a workload may call: a name, `*@domain`, or `*` for any.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub invoke: Vec<String>,
    /// What it may do with the node's peers.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub peers: Option<NodeAccess>,
    /// What a workload may ask of the outside, see [`crate::words::egress::Egress`].
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub http: Vec<String>,
    /// Buckets of keys and values that a workload may open. They are its slot's own on each node.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub keyvalue: Vec<String>,
    /// Directories of the node that a workload sees, where the node allows it too.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub dirs: Vec<DirGrant>,
    /// What a workload may do with blobs.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub blobs: Option<BlobGrant>,
}

/// What a workload may do with blobs, beside reading what its slot keeps.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct BlobGrant {
    /// Which others it may read.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub read: Option<BlobAccess>,
    /// Bytes that its slot may keep on one node.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub write: Option<u64>,
}

/// Which blobs a workload may read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum BlobAccess {
    /// Those of the node.
    Node,
    /// Also those that have to be fetched.
    Mesh,
}

/// A directory that a workload sees.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct DirGrant {
    /// Where it is on the node, from the root on.
    pub path: String,
    /// Where the workload sees it.
    #[serde(rename = "as")]
    pub seen: String,
    /// Whether it may also change what is in it.
    pub write: bool,
}

/// What a plugin may do with a part of the node.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum NodeAccess {
    /// Read it.
    Read,
}

/// What a plugin may use up.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Limits {
    /// Bytes of all memories and tables of one instance together.
    pub memory: u64,
    /// Longest time of one call.
    pub deadline_ms: u64,
    /// Host calls within one call.
    pub host_calls: u64,
    /// Bytes that go through host calls within one call.
    pub host_bytes: u64,
    /// Calls at the same time on one node.
    pub concurrency: u32,
}

impl Limits {
    /// Deadline class for a call that someone waits for.
    pub const QUICK_MS: u64 = 1_000;
    /// Deadline class for everything else.
    pub const NORMAL_MS: u64 = 30_000;
    /// Deadline class for a call that is known to take its time.
    pub const LONG_MS: u64 = 600_000;
}

impl Default for Limits {
    /// Enough for a component in any language, too little to harm a small board.
    fn default() -> Self {
        Self {
            memory: 64 << 20,
            deadline_ms: Self::NORMAL_MS,
            host_calls: 100_000,
            host_bytes: 16 << 20,
            concurrency: 256,
        }
    }
}

/// How long an instance of a workload lives.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Instances {
    /// One call.
    #[default]
    Fresh,
    /// So many calls, one after the other.
    Reuse(u32),
    /// As long as its generation; calls wait for each other.
    Singleton,
}

/// Which nodes run a plugin. An empty one matches every node.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Selector {
    /// The node's label must be one of these, if there are any.
    pub labels: Vec<String>,
    /// The node must have all of these.
    pub tags: Vec<String>,
}

impl Selector {
    /// Whether a node with this label and these tags runs the plugin.
    pub fn matches(&self, label: &str, tags: &[String]) -> bool {
        (self.labels.is_empty() || self.labels.iter().any(|own| own == label))
            && self.tags.iter().all(|tag| tags.contains(tag))
    }

    /// Whether there can be a node that both match. A node may have any tags, so only labels tell them apart.
    pub fn may_meet(&self, other: &Selector) -> bool {
        self.labels.is_empty()
            || other.labels.is_empty()
            || self.labels.iter().any(|label| other.labels.contains(label))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn selector(labels: &[&str], tags: &[&str]) -> Selector {
        let texts = |list: &[&str]| list.iter().map(|text| (*text).to_owned()).collect();
        Selector { labels: texts(labels), tags: texts(tags) }
    }

    #[test]
    fn selectors_match_by_label_and_by_all_tags() {
        let tags: Vec<String> = vec!["edge".into(), "arm".into()];
        for (on, expect) in [
            (selector(&[], &[]), true),
            (selector(&["n1"], &[]), true),
            (selector(&["n2", "n1"], &[]), true),
            (selector(&["n2"], &[]), false),
            (selector(&[], &["arm", "edge"]), true),
            (selector(&[], &["arm", "gpu"]), false),
            (selector(&["n1"], &["gpu"]), false),
            (selector(&["n2"], &["arm"]), false),
        ] {
            assert_eq!(on.matches("n1", &tags), expect, "{on:?}");
        }
    }

    #[test]
    fn selectors_meet_unless_their_labels_are_disjoint() {
        for (a, b, expect) in [
            (selector(&[], &[]), selector(&["n1"], &[]), true),
            (selector(&["n1"], &["a"]), selector(&["n1", "n2"], &["b"]), true),
            (selector(&["n1"], &[]), selector(&["n2"], &[]), false),
        ] {
            assert_eq!(a.may_meet(&b), expect, "{a:?} {b:?}");
            assert_eq!(b.may_meet(&a), expect, "{a:?} {b:?}");
        }
    }
}
