//! The order: a request of an operator to one node, wherever that is.

use serde::{Deserialize, Serialize};

use super::BlobRef;
use crate::words::{MeshId, NodeId};

/// What an operator wants of a node. Signed by the operator, and good for one node, once, for minutes: who carries it can
/// drop it and nothing else.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Order {
    /// The mesh.
    pub mesh: MeshId,
    /// The only node that may obey it.
    pub target: NodeId,
    /// Random: a node obeys it once.
    #[serde(with = "serde_bytes")]
    pub nonce: [u8; 16],
    /// When it was signed.
    pub created: u64,
    /// From when on nobody obeys it.
    pub expires: u64,
    /// The encoded [`Request`](crate::words::control::Request).
    #[serde(with = "serde_bytes")]
    pub request: Vec<u8>,
    /// What follows as one item, if the request has such: a manifest, arguments. A blob is named by its request.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bulk: Option<BlobRef>,
}
