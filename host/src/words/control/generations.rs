//! What is said of changes of what runs.

use serde::{Deserialize, Serialize};
use serde_bytes::ByteBuf;

use crate::words::NodeId;

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
    /// Slots that go on by another entry: other names, other times, others who may call.
    #[serde(skip_serializing_if = "Vec::is_empty", default)]
    pub adjusted: Vec<String>,
    /// Slots that go on untouched.
    pub unchanged: Vec<String>,
    /// Slots whose swap ended.
    #[serde(skip_serializing_if = "Vec::is_empty", default)]
    pub swaps_ended: Vec<String>,
    /// Keys that signed.
    pub signers: Vec<NodeId>,
    /// Blobs that came from linked peers.
    pub fetched: u32,
    /// Microseconds of the publication itself.
    pub publish_us: u64,
    /// Calls that were in flight in what was replaced or removed; they go on.
    #[serde(default)]
    pub in_flight: u64,
    /// Events that waited during the change and were handed to the new policies.
    #[serde(default)]
    pub events: u64,
    /// Serial of the claim of the node's own name that its routing policy was told after the change: a node that has it was reached by what
    /// runs now.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub claim: Option<u64>,
    /// What it still has to show; none when there is nothing to go back to.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub probation: Option<OnProbation>,
    /// Whether it ran already; then nothing changed.
    #[serde(default)]
    pub already: bool,
    /// After a rollback: the version that would run without it.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub instead_of: Option<u64>,
}

/// A generation that has to show yet that it is good.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct OnProbation {
    /// Its version.
    pub version: u64,
    /// When it is settled unless something goes wrong, Unix ms.
    pub until: u64,
    /// Whether somebody has to confirm before then that the node can still be reached; otherwise the one before comes back.
    pub confirm: bool,
}

impl OnProbation {
    /// Seconds until it is settled, from Unix ms.
    pub fn left(&self, now: u64) -> u64 {
        self.until.saturating_sub(now).div_ceil(1_000)
    }
}

/// One generation that is kept.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct GenerationReport {
    /// Manifest version.
    pub version: u64,
    /// Whether it runs.
    pub in_force: bool,
    /// The version that would run without the rollback that holds this one.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub instead_of: Option<u64>,
    /// Whether it has shown that it is good.
    #[serde(default)]
    pub settled: bool,
    /// When it came into force last, Unix ms.
    pub since: u64,
    /// Keys that had signed it.
    pub signers: Vec<NodeId>,
    /// What it changed when it was first applied, in a line.
    pub change: String,
}

/// A manifest as it was signed.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct SignedManifest {
    /// Its version; 0 where nothing was ever applied.
    pub version: u64,
    /// The envelope; empty where nothing was ever applied.
    pub signed: ByteBuf,
}
