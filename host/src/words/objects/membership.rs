//! The membership: a peer's admission.

use serde::{Deserialize, Serialize};

use crate::words::{MeshId, Name, NodeId, Trust};

/// Says that a node belongs to the mesh. Signed by an owner; every node checks it by itself.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Membership {
    /// The mesh.
    pub mesh: MeshId,
    /// The node that is admitted.
    pub node: NodeId,
    /// The most that it is trusted; other rules may trust it less.
    pub trust: Trust,
    /// What selectors and policies may ask for.
    pub tags: Vec<String>,
    /// Patterns of the names that it may serve; see [`Name::matches`].
    pub names: Vec<String>,
    /// When it was signed.
    pub issued: u64,
    /// From when on the node can only renew.
    pub expires: u64,
    /// Rises with each membership of this node; the higher one counts.
    pub serial: u64,
}

impl Membership {
    /// Whether the node may serve this name.
    pub fn allows(&self, name: &Name) -> bool {
        self.names.iter().any(|pattern| name.matches(pattern))
    }
}
