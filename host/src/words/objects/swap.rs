//! The swap: one component of the manifest in force replaced on one node.

use serde::{Deserialize, Serialize};

use super::BlobRef;
use crate::words::{Digest, MeshId, NodeId};

/// Says that one node may run another component in a slot than the manifest names. Signed by who may sign manifests. It holds for one node
/// and one manifest, and says nothing but which component: config, grants and limits are those of the entry that it replaces.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Swap {
    /// The mesh.
    pub mesh: MeshId,
    /// The only node that may take it.
    pub node: NodeId,
    /// Version of the manifest that it is based on.
    pub version: u64,
    /// Digest of that manifest as it was signed.
    pub manifest: Digest,
    /// The slot.
    pub slot: String,
    /// What is to run there.
    pub component: BlobRef,
    /// What may be done with it.
    pub mode: Mode,
    /// When it was signed. A node takes only what is newer than all that it took before.
    pub created: u64,
    /// From when on it is not taken any more; what already runs goes on.
    pub expires: u64,
}

/// How far a swap may go. One that was signed to be tried is never put in force without being tried.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Mode {
    /// Put in force.
    Plain,
    /// A policy runs beside the one in force, and what it wants is not done.
    Shadow,
    /// A workload gets a share of the calls, and is put in force when it does as well.
    Canary,
}

impl Mode {
    /// Every mode.
    pub const ALL: [Mode; 3] = [Mode::Plain, Mode::Shadow, Mode::Canary];

    /// The word for people.
    pub const fn as_str(self) -> &'static str {
        match self {
            Mode::Plain => "plain",
            Mode::Shadow => "shadow",
            Mode::Canary => "canary",
        }
    }
}

impl std::fmt::Display for Mode {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.as_str())
    }
}
