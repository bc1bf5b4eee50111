//! What is asked of a node about swaps, and what it says.

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::control::OnProbation;
use super::id::{Digest, NodeId};

/// What is to become of the swap that follows the request.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", rename_all_fields = "kebab-case")]
pub enum SwapRequest {
    /// Puts it in force: [`SwapDone`].
    Plain,
    /// Runs a policy beside the one in force until the time is over or whoever asked has enough: each item a [`ShadowTold`].
    Shadow {
        /// How long.
        time_ms: u64,
        /// Differences that are shown.
        examples: u32,
    },
    /// Gives a workload a share of the calls, and puts it in force when it does as well: each item a [`CanaryTold`].
    Canary(CanaryTerms),
}

/// What a swap did.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct SwapDone {
    /// The slot.
    pub slot: String,
    /// What runs there.
    pub component: Digest,
    /// What ran there before.
    pub before: Digest,
    /// Version of the manifest in force.
    pub generation: u64,
    /// The component that the manifest names; none when it is the one that runs, so that the swap of before is over.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub instead_of: Option<Digest>,
    /// Keys that signed.
    pub signers: Vec<NodeId>,
    /// Blobs that came from linked peers.
    pub fetched: u32,
    /// Microseconds of the publication itself.
    pub publish_us: u64,
    /// As in [`super::control::Applied`].
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub claim: Option<u64>,
    /// What it still has to show.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub probation: Option<OnProbation>,
}

/// A slot in which another component runs than the manifest names.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct SwapReport {
    /// The slot.
    pub slot: String,
    /// What runs there.
    pub component: Digest,
    /// What the manifest names.
    pub instead_of: Digest,
    /// Since when, Unix ms.
    pub since: u64,
    /// Keys that had signed it.
    pub signers: Vec<NodeId>,
}

/// By what a canary is judged. Shares are in thousandths.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct CanaryTerms {
    /// Share of the calls that goes to the candidate.
    pub share: u32,
    /// How long it is tried.
    pub time_ms: u64,
    /// It ends sooner, when the candidate has had so many calls.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub calls: Option<u64>,
    /// Calls of each that are needed for a comparison.
    pub at_least: u64,
    /// Share of faults that the candidate may have beyond that of the active one.
    pub errors_at_most: u32,
    /// By how much it may be slower, in thousandths of what the active one takes.
    pub slower_at_most: u32,
}

/// What a node says while a workload is tried.
#[expect(clippy::large_enum_variant, reason = "one a second, and read at once")]
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum CanaryTold {
    /// From here on the candidate gets its share.
    Began,
    /// How it stands.
    Progress(Sides),
    /// What came of it. Nothing more follows.
    Over(CanaryReport),
}

/// The two that are compared.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct Sides {
    /// What is in force.
    pub active: Side,
    /// What is tried.
    pub candidate: Side,
}

/// How one of the two did.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct Side {
    /// Calls that were answered, or events and questions.
    pub calls: u64,
    /// Calls that the plugin is to blame for: traps, limits, deadlines; of gateways also answers of 5xx.
    pub faults: u64,
    /// Half of the calls took at most this.
    pub p50_ns: u64,
    /// All but one in a hundred took at most this.
    pub p99_ns: u64,
    /// Fuel used (policies).
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub fuel: Option<u64>,
}

/// What came of a canary.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct CanaryReport {
    /// The slot.
    pub slot: String,
    /// What was tried.
    pub component: Digest,
    /// What was in force.
    pub before: Digest,
    /// Whether it is in force now.
    pub promoted: bool,
    /// Why it is, or is not.
    pub why: String,
    /// How long it was tried.
    pub took_ms: u64,
    /// How both did.
    #[serde(flatten)]
    pub sides: Sides,
    /// What putting it in force did.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub done: Option<SwapDone>,
}

/// What a node says while a policy runs in the shadow.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ShadowTold {
    /// From here on the candidate is told what the active one is told.
    Began,
    /// What came of it. Nothing more follows.
    Over(Box<ShadowReport>),
}

/// What came of a shadow.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct ShadowReport {
    /// The slot.
    pub slot: String,
    /// What was tried.
    pub component: Digest,
    /// What is in force.
    pub active_component: Digest,
    /// Why it ended.
    pub ended: ShadowEnd,
    /// How long it was tried.
    pub took_ms: u64,
    /// What was found.
    #[serde(flatten)]
    pub found: ShadowFound,
}

/// What a shadow has found.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct ShadowFound {
    /// Events and questions of which both made the same.
    pub equal: u64,
    /// Those of which they did not.
    pub different: u64,
    /// Of the equal and the different, how many were questions.
    pub questions: u64,
    /// Timers and outcomes that only the active one had.
    pub only_active: u64,
    /// Timers that only the candidate had.
    pub only_candidate: u64,
    /// Outcomes that the candidate waits for in vain: it asked for something else than the active one, or for more.
    pub unanswered: u64,
    /// Calls that it was not told because it did not keep up.
    pub missed: u64,
    /// Whether it could not read the state that it was handed, and started without.
    pub without_state: bool,
    /// How the active one did.
    pub active: Side,
    /// How the candidate did.
    pub candidate: Side,
    /// Why its last instance ended, if one did.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub last_fault: Option<super::Fault>,
    /// The first differences.
    pub examples: Vec<Example>,
}

/// A call of which the two made something different.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct Example {
    /// Its number among those that were compared, from 1.
    pub call: u64,
    /// What was called.
    pub function: String,
    /// The time that it was given, Unix ms.
    pub now: u64,
    /// Its arguments.
    pub arguments: Value,
    /// The first effect that differs, from 1, where both made effects.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub effect: Option<u64>,
    /// What the active one made: that effect, or the whole; null for none.
    pub active: Value,
    /// What the candidate made.
    pub candidate: Value,
}

/// Why a shadow ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ShadowEnd {
    /// Its time was over.
    Time,
    /// Whoever asked had enough.
    Interrupted,
    /// The slot was given another component or configuration.
    Replaced,
    /// The slot or its node stopped.
    Stopped,
    /// It did not keep up with the active one.
    Behind,
    /// It was ended too often.
    Traps,
}

impl ShadowEnd {
    /// A sentence for people.
    pub const fn as_str(self) -> &'static str {
        match self {
            ShadowEnd::Time => "its time was over",
            ShadowEnd::Interrupted => "it was interrupted",
            ShadowEnd::Replaced => "the slot was given another component or configuration",
            ShadowEnd::Stopped => "the slot stopped",
            ShadowEnd::Behind => "the candidate did not keep up",
            ShadowEnd::Traps => "the candidate was ended too often",
        }
    }

    /// Whether it went on as long as it was meant to.
    pub const fn is_whole(self) -> bool {
        matches!(self, ShadowEnd::Time | ShadowEnd::Interrupted)
    }
}
