//! The claim: a node says that it serves a name.

use serde::{Deserialize, Serialize};

use crate::words::{MeshId, Name, NodeId};

/// Says that a node serves a name now. Signed by the node itself, for minutes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Claim {
    /// The mesh.
    pub mesh: MeshId,
    /// The node that serves.
    pub node: NodeId,
    /// The name that it serves.
    pub name: Name,
    /// With the node's own name: what the node calls itself, so that people far away can, too. It proves nothing.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub label: Option<String>,
    /// Rises with each claim of this node for this name.
    pub serial: u64,
    /// When it was signed.
    pub issued: u64,
    /// From when on it says nothing.
    pub expires: u64,
}
