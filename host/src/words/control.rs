//! What the command line asks a node, and what comes back.
//!
//! A request is the details of an `open` frame of the exchange `control`; bulk that belongs to it (a blob, a manifest, arguments)
//! follows as items. Reports come back as one item each, CBOR.

use serde::{Deserialize, Serialize};

use super::fault::Fault;
use super::id::{Digest, MeshId, Name, NodeId};
use super::objects::{BlobRef, Kind};
use super::schema::Function;
use super::trust::Trust;

/// What a node is asked for.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Request {
    /// How the node is: [`Status`].
    Status,
    /// What runs: a list of [`PluginReport`].
    Plugins,
    /// Links and those who wait: a list of [`PeerReport`].
    Peers,
    /// Where names go: a list of [`RouteReport`]. Only of one name, if it is given.
    Routes {
        /// The name to explain.
        name: Option<Name>,
    },
    /// Log lines, each an item.
    Logs {
        /// Lines of the past.
        tail: u32,
        /// Whether to go on with what comes.
        follow: bool,
        /// Only of this slot, or of `host`.
        source: Option<String>,
    },
    /// Which of these blobs the node lacks: a list of digests.
    Lacks {
        /// At most 128.
        blobs: Vec<BlobRef>,
    },
    /// Keeps a blob whose bytes follow as items.
    PutBlob {
        /// What is to arrive.
        blob: BlobRef,
    },
    /// Applies a signed manifest, which follows as one item: [`Applied`].
    Apply,
    /// Calls a function; the arguments follow as one item. The answer is as over a link.
    Call {
        /// What is called.
        name: Name,
        /// Its function.
        function: String,
        /// Number of the [`super::schema::Form`].
        form: u8,
        /// Time for the whole call.
        timeout_ms: u64,
        /// Whether it may be tried again elsewhere.
        idempotent: bool,
        /// Whether each hop reports itself.
        trace: bool,
    },
    /// What a component of the running generation is, by slot or name: [`Inspection`].
    Inspect {
        /// Slot or name.
        target: String,
    },
}

/// How a node is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct Status {
    /// Identity.
    pub node: NodeId,
    /// Label.
    pub label: String,
    /// Tags of its membership.
    pub tags: Vec<String>,
    /// Mesh.
    pub mesh: MeshId,
    /// Version of this host.
    pub version: String,
    /// Process id.
    pub pid: u32,
    /// Milliseconds since it started.
    pub uptime_ms: u64,
    /// Where it listens for links.
    pub address: String,
    /// Manifest version of the running generation; 0 when nothing was applied yet.
    pub generation: u64,
    /// Highest manifest version that was ever accepted.
    pub floor: u64,
    /// When the running manifest ends, Unix ms. What runs goes on after it.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub manifest_expires: Option<u64>,
    /// Plugins that run.
    pub plugins: u32,
    /// Links to admitted peers.
    pub links: u32,
    /// Peers that wait for admission.
    pub pending: u32,
    /// How calls travel: `link` means that TLS protects each link, and forwarding nodes could read them.
    pub protection: String,
    /// Places for instances of workloads on each engine.
    pub instances: u32,
    /// Why there are not more.
    pub limited_by: Vec<String>,
    /// What somebody should look at.
    pub warnings: Vec<String>,
}

/// One plugin.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct PluginReport {
    /// Slot.
    pub slot: String,
    /// Kind.
    pub kind: Kind,
    /// Digest of the component.
    pub component: Digest,
    /// Names it serves.
    pub names: Vec<Name>,
    /// Which engine runs it.
    pub engine: String,
    /// Its grants, as in the manifest.
    pub grants: Vec<String>,
    /// Whether it runs.
    pub running: bool,
    /// Instances that were ended by a trap or limit (policies).
    pub restarts: u64,
    /// Events handled (policies) or calls served (skills).
    pub served: u64,
    /// Why the last instance ended.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub last_fault: Option<Fault>,
}

/// One peer.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct PeerReport {
    /// Identity; none for an address that nobody has answered at.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub node: Option<NodeId>,
    /// Its label, once it has welcomed this node.
    pub label: String,
    /// Where it is.
    pub address: String,
    /// `linked`, `pending` (one of the two has not admitted the other), or `dialling`.
    pub state: String,
    /// Effective trust.
    pub trust: Trust,
    /// Tags of its membership.
    pub tags: Vec<String>,
    /// Whether this node dialled.
    pub dialled: bool,
    /// Round trip in microseconds.
    pub rtt_us: u64,
    /// Manifest version that it runs.
    pub generation: u64,
    /// Milliseconds since the link is up.
    pub up_ms: u64,
    /// Why it is not linked.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub why: Option<String>,
}

/// Where calls to a name go from this node.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct RouteReport {
    /// The name.
    pub name: Name,
    /// Whether this node serves it.
    pub local: bool,
    /// Ways, best first.
    pub hops: Vec<HopReport>,
    /// Why there is no way.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub unroutable: Option<String>,
}

/// One way.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct HopReport {
    /// Neighbour.
    pub next: NodeId,
    /// Its label.
    pub next_label: String,
    /// Who serves the call in the end.
    pub to: NodeId,
    /// Distance by the policy's measure.
    pub distance: u32,
    /// Whether there is a verified claim for it; without one it is not used.
    pub claimed: bool,
}

/// What applying did.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct Applied {
    /// Version that ran before; 0 for none.
    pub from: u64,
    /// Version that runs now.
    pub to: u64,
    /// Slots that are new.
    pub added: Vec<String>,
    /// Slots that were replaced.
    pub changed: Vec<String>,
    /// Slots that are gone.
    pub removed: Vec<String>,
    /// Slots that go on untouched.
    pub unchanged: Vec<String>,
    /// Keys that signed.
    pub signers: Vec<NodeId>,
    /// Blobs that came from linked peers.
    pub fetched: u32,
    /// Microseconds of the publication itself.
    pub publish_us: u64,
}

/// What a component is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct Inspection {
    /// Digest.
    pub digest: Digest,
    /// Bytes.
    pub length: u64,
    /// Kind by its world: `skill` when it is not a policy.
    pub kind: Kind,
    /// Which engine runs it.
    pub engine: String,
    /// Functions that can be called.
    pub functions: Vec<Function>,
    /// Functions that cannot, with the reason.
    pub not_callable: Vec<(String, String)>,
    /// Imported interfaces with functions, and what they are: `empty`, `free`, `granted`, `missing: …`, `unknown`.
    pub imports: Vec<(String, String)>,
    /// Whether the component carries documentation.
    pub documented: bool,
}
