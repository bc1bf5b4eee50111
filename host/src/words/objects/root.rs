//! The root: whose mesh it is.

use serde::{Deserialize, Serialize};
use serde_bytes::ByteBuf;

use crate::words::{MeshId, NodeId};

/// The keys that a mesh obeys. Signed by its owners; version N+1 by the thresholds of N and of N+1.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Root {
    /// Counts from 1 without gaps.
    pub version: u64,
    /// Absent in version 1, whose payload's digest is the mesh id.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mesh: Option<MeshId>,
    /// Random: two meshes of one owner have different ids.
    #[serde(with = "serde_bytes")]
    pub nonce: [u8; 16],
    /// What people call the mesh.
    pub label: String,
    /// When it was signed.
    pub created: u64,
    /// From when on nothing new is taken in its name.
    pub expires: u64,
    /// Keys that may change the root.
    pub owners: Vec<NodeId>,
    /// How many different owners must sign.
    pub threshold: u16,
    /// Keys for daily work.
    pub operators: Vec<Operator>,
    /// Keys that no longer count for anything: owners, operators and nodes.
    pub revoked: Vec<NodeId>,
}

/// A key for daily work.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Operator {
    /// The key.
    pub key: NodeId,
    /// What it may do.
    pub role: Role,
}

/// What an operator may do, least first. Each may do everything that those before it may.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Role {
    /// Look.
    View,
    /// Restart, roll back, disconnect.
    Operate,
    /// Sign manifests.
    Deploy,
}

impl Role {
    /// Every role, least first.
    pub const ALL: [Role; 3] = [Role::View, Role::Operate, Role::Deploy];

    /// The text used in commands and output.
    pub const fn as_str(self) -> &'static str {
        match self {
            Role::View => "view",
            Role::Operate => "operate",
            Role::Deploy => "deploy",
        }
    }
}

impl std::fmt::Display for Role {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.as_str())
    }
}

/// A chain of signed roots, as files and requests carry it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Roots {
    /// Oldest first.
    pub roots: Vec<ByteBuf>,
}

impl Roots {
    /// Longest encoded form: what one item of a request holds.
    pub const BYTES_MAX: usize = 1 << 20;
}

impl Root {
    /// Whether a key is revoked.
    pub fn is_revoked(&self, key: &NodeId) -> bool {
        self.revoked.contains(key)
    }

    /// The role of an operator that is not revoked.
    pub fn role(&self, key: &NodeId) -> Option<Role> {
        let operator = self.operators.iter().find(|operator| operator.key == *key)?;
        (!self.is_revoked(key)).then_some(operator.role)
    }
}
