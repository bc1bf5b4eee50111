//! The manifest: what every node of the mesh should run.

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
    /// Everything that may run.
    pub plugins: Vec<Plugin>,
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
    /// Skills: the names that it serves.
    pub names: Vec<Name>,
    /// The least trust that may call it.
    pub expose: Trust,
    /// Its rights.
    pub grants: Grants,
    /// What it may use up.
    pub limits: Limits,
    /// How long an instance lives.
    pub instances: Instances,
    /// The nodes that run it.
    pub on: Selector,
}

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
    /// Workload: called by name.
    Skill,
}

impl Kind {
    /// Every kind, in the order in which a node starts them.
    pub const ALL: [Kind; 4] = [Kind::Discovery, Kind::Admission, Kind::Routing, Kind::Skill];

    /// The text used in manifests and output.
    pub const fn as_str(self) -> &'static str {
        match self {
            Kind::Discovery => "discovery",
            Kind::Admission => "admission",
            Kind::Routing => "routing",
            Kind::Skill => "skill",
        }
    }

    /// Whether it is a state machine that the host asks, not a workload that is called.
    pub const fn is_policy(self) -> bool {
        !matches!(self, Kind::Skill)
    }

    /// Whether a node runs at most one of them: two answers to "may this peer join" or "which way" would need
    /// a third policy to choose. Several discoveries only add up.
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
}

/// What a plugin may do with the node.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum NodeAccess {
    /// Read its id, label and tags.
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
