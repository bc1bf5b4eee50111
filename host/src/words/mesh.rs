//! What nodes say of the manifests that they have: to each other, and to whoever asks how far one has come.

use serde::{Deserialize, Serialize};

use super::control::OnProbation;
use super::fault::Fault;
use super::id::{Digest, NodeId};

/// Slots that a node names as not running; more say nothing that these do not.
pub const TROUBLED_MOST: usize = 8;

/// Which manifest is asked for: the details of an `open` frame of the exchange `manifest`. The answer is one item with the signed bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct AskManifest {
    /// Digest of the signed bytes.
    pub digest: Digest,
}

/// What a node is asked by the function `generation` of its own name. The answer is one item, sealed for this question by the node.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct AskRuns {
    /// Drawn for this question.
    #[serde(with = "serde_bytes")]
    pub nonce: [u8; 16],
    /// Serial of the newest claim of the name that the asking node has, where the question goes the way of calls. It shows a node that its
    /// new routing policy has made it known, and that it was reached.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub claim: Option<u64>,
}

/// What a node runs, as it says itself.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct Runs {
    /// What it calls itself.
    pub label: String,
    /// Version of the manifest in force; 0 for none.
    pub version: u64,
    /// Digest of the signed manifest in force.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub digest: Option<Digest>,
    /// Highest version that it ever accepted.
    pub floor: u64,
    /// The version that would run there without a rollback.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub held_instead_of: Option<u64>,
    /// Why it went back by itself from that version.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub returned: Option<String>,
    /// What the generation in force still has to show.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub probation: Option<OnProbation>,
    /// Policies that do not run.
    #[serde(skip_serializing_if = "Vec::is_empty", default)]
    pub troubled: Vec<String>,
    /// Newer manifests that its peers announce and that it does not take.
    #[serde(skip_serializing_if = "Vec::is_empty", default)]
    pub refused: Vec<Refused>,
}

/// A manifest that a peer announces and a node does not take.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct Refused {
    /// Its version, as the peer says.
    pub version: u64,
    /// Digest of the signed bytes.
    pub digest: Digest,
    /// Why, with its code.
    pub why: String,
    /// Whether the node tries again by itself.
    pub again: bool,
}

/// Another manifest of the version that a node has taken, rightly signed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct Fork {
    /// The version of both.
    pub version: u64,
    /// Digest of what this node has.
    pub ours: Digest,
    /// Keys that signed it.
    pub our_signers: Vec<NodeId>,
    /// Digest of what the peer has.
    pub theirs: Digest,
    /// Keys that signed that.
    pub their_signers: Vec<NodeId>,
    /// The peer that it was seen on first.
    pub peer: NodeId,
}

/// One node of the mesh, as far as the one that was asked knows.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct NodeReport {
    /// The node.
    pub node: NodeId,
    /// What it calls itself, as far as is known.
    pub label: String,
    /// Whether it is the node that was asked.
    pub own: bool,
    /// What it says of itself.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub runs: Option<Runs>,
    /// Why it says nothing.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub why: Option<Fault>,
}
