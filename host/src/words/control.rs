//! What the command line asks a node, and what comes back.
//!
//! A request is the details of an `open` frame of the exchange `control`; bulk that belongs to it (a blob, a manifest, arguments)
//! follows as items. Reports come back as one item each, CBOR.

mod generations;

use serde::{Deserialize, Serialize};

use super::blob::BlobRequest;
use super::dataset::{DatasetReport, DatasetRequest};
use super::fault::Fault;
use super::id::{Digest, MeshId, Name, NodeId};
use super::mesh::Fork;
use super::objects::{Bindings, BlobRef, Kind};
use super::schema::Function;
use super::swap::{SwapReport, SwapRequest};
use super::trust::Trust;

pub use self::generations::{Applied, GenerationReport, OnProbation, SignedManifest};

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
    /// What happened, each an [`Event`](super::event::Event) as an item.
    Events {
        /// Only those with a higher number.
        after: u64,
        /// Events of the past.
        tail: u32,
        /// Whether to go on with what comes.
        follow: bool,
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
    /// Something about blobs, as [`BlobRequest`] says.
    Blob(BlobRequest),
    /// What every node that is known here runs: each item a [`NodeReport`](super::mesh::NodeReport), as they answer.
    Mesh,
    /// Applies a signed manifest, which follows as one item: [`Applied`].
    Apply {
        /// Whether the node passes it on to its peers. Of one that it has already this alone is changed.
        spread: bool,
    },
    /// The generations that are kept: a list of [`GenerationReport`], the highest version first.
    History,
    /// The manifest of a generation that is kept: [`SignedManifest`].
    Manifest {
        /// Its version; without one that of the generation in force, and an empty answer where none is.
        version: Option<u64>,
    },
    /// Puts an earlier generation that is kept in force again: [`Applied`].
    Rollback {
        /// Its version; without one that of the generation before the one in force.
        version: Option<u64>,
    },
    /// Confirms that the node can still be reached with this generation, which is on probation: [`OnProbation`], or nothing when it is
    /// settled already.
    Confirm {
        /// The version that was applied, or in which a slot was swapped.
        version: u64,
        /// The component that was swapped.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        swap: Option<Digest>,
    },
    /// Runs another component in a slot of this node, as [`SwapRequest`] says. The signed swap follows as one item.
    Swap(SwapRequest),
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
    /// Records a policy from a fresh instance on: each item a [`Told`](super::recording::Told).
    Record {
        /// Its slot.
        slot: String,
        /// How long.
        time_ms: u64,
    },
    /// Something about datasets.
    Dataset(DatasetRequest),
    /// Takes newer roots: a [`Roots`](super::objects::root::Roots) follows as one item. Answered by [`RootUpdated`].
    UpdateRoot,
    /// Which node is meant: [`Found`].
    Find {
        /// An id, the beginning of one, or a label.
        node: String,
    },
    /// Carries an order to a node. The signed order follows as one item, then what belongs to its request; back comes what that
    /// node says, sealed.
    Forward {
        /// The node.
        to: NodeId,
    },
}

/// A node that was asked for by a word.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct Found {
    /// Its identity.
    pub node: NodeId,
    /// What it calls itself, as far as is known here.
    pub label: String,
    /// The mesh, as orders name it.
    pub mesh: MeshId,
    /// Serial of the claim of its own name that is known here; none for this node itself, and where no claim is known.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub claim: Option<u64>,
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
    /// Version of the root in force.
    #[serde(default)]
    pub root: u64,
    /// Version of this host.
    pub version: String,
    /// Process id.
    pub pid: u32,
    /// Milliseconds since it started.
    pub uptime_ms: u64,
    /// Where it listens for links.
    pub address: String,
    /// Where it listens for HTTP.
    #[serde(skip_serializing_if = "Vec::is_empty", default)]
    pub http: Vec<String>,
    /// Manifest version of the running generation; 0 when nothing was applied yet.
    pub generation: u64,
    /// Highest manifest version that was ever accepted.
    pub floor: u64,
    /// The version that would run without a rollback; none where nothing was rolled back.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub held_instead_of: Option<u64>,
    /// Why the node went back by itself from that version; none where somebody rolled back.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub returned: Option<String>,
    /// What the running generation still has to show; none once it is settled.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub probation: Option<OnProbation>,
    /// Slots in which another component runs than the manifest names.
    #[serde(skip_serializing_if = "Vec::is_empty", default)]
    pub swaps: Vec<SwapReport>,
    /// When the last swap that was taken was signed, Unix ms; 0 for none.
    #[serde(default)]
    pub swap_floor: u64,
    /// Version of the manifest that the node passes on to its peers; 0 for none.
    #[serde(default)]
    pub passes_on: u64,
    /// Other manifests of the version that this node has taken.
    #[serde(skip_serializing_if = "Vec::is_empty", default)]
    pub forks: Vec<Fork>,
    /// When the running manifest ends, Unix ms. What runs goes on after it.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub manifest_expires: Option<u64>,
    /// Plugins that run.
    pub plugins: u32,
    /// Links to admitted peers.
    pub links: u32,
    /// Peers that wait for admission.
    pub pending: u32,
    /// Entries of all datasets.
    #[serde(default)]
    pub entries: u64,
    /// Values that gave way to others which did not know of them, since the node started.
    #[serde(default)]
    pub conflicts: u64,
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
    /// The component that the manifest names, where a swap runs another one.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub instead_of: Option<Digest>,
    /// Names it serves.
    pub names: Vec<Name>,
    /// Where it answers HTTP requests.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub mount: Option<String>,
    /// Which engine runs it.
    pub engine: String,
    /// Its grants, as in the manifest.
    pub grants: Vec<String>,
    /// Names that satisfy its imports, by interface, as in the manifest.
    #[serde(skip_serializing_if = "Bindings::is_empty", default)]
    pub bindings: Bindings,
    /// Whether it runs.
    pub running: bool,
    /// Instances that were ended by a trap or limit (policies).
    pub restarts: u64,
    /// Events handled (policies), calls served (skills) or requests (gateways).
    pub served: u64,
    /// What its datasets hold (sync policies).
    #[serde(skip_serializing_if = "Vec::is_empty", default)]
    pub datasets: Vec<DatasetReport>,
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
    /// Version of the manifest that it passes on; 0 for none.
    #[serde(default)]
    pub announces: u64,
    /// Why this node does not take what it announces.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub refused: Option<String>,
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

/// What newer roots changed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct RootUpdated {
    /// Version that was in force before.
    pub from: u64,
    /// Version that is in force now.
    pub to: u64,
    /// Operators that it names.
    pub operators: u32,
    /// Keys that it revokes.
    pub revoked: u32,
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
