//! What happens to a node, for those who watch it.

use serde::{Deserialize, Serialize};

use super::control::Applied;
use super::fault::TrapReport;
use super::id::{Digest, NodeId};
use super::objects::Role;
use super::trust::Trust;

/// One event.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct Event {
    /// Counts from 1 at each start of the node, without gaps: who misses a number has missed an event.
    pub seq: u64,
    /// Unix milliseconds.
    pub at: u64,
    /// How often it happened since the last one of its kind and culprit; those that come faster than one a second are told together.
    pub times: u64,
    /// What happened.
    pub what: Happened,
}

/// What happened.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", rename_all_fields = "kebab-case")]
pub enum Happened {
    /// The node runs.
    Started {
        /// Generation that came back; 0 for none.
        generation: u64,
        /// Why the last one did not.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        why: Option<String>,
    },
    /// A manifest is in force.
    GenerationApplied {
        /// Version that ran before.
        from: u64,
        /// Version that runs.
        to: u64,
        /// Keys that signed it.
        signers: Vec<NodeId>,
        /// The peer that it came from by itself; none when somebody gave it to this node.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        over: Option<NodeId>,
    },
    /// A manifest that a peer announces was not taken. Nothing changed.
    ManifestRefused {
        /// The peer.
        peer: NodeId,
        /// The version that it announces.
        version: u64,
        /// Why, with its code.
        why: String,
    },
    /// A peer has another manifest of the version that this node has taken. Neither moves; the next version heals it.
    Fork {
        /// The peer.
        peer: NodeId,
        /// The version.
        version: u64,
        /// Digest of what this node has.
        ours: Digest,
        /// Digest of what the peer has.
        theirs: Digest,
    },
    /// An earlier generation is in force again.
    GenerationRolledBack {
        /// Version that ran before.
        from: u64,
        /// Version that runs.
        to: u64,
        /// The version that would run without a rollback, until the next one that is signed. None when this is that version: the hold is over.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        instead_of: Option<u64>,
    },
    /// The generation in force has shown that it is good.
    GenerationSettled {
        /// Its version.
        version: u64,
    },
    /// The generation in force was no good, and the node went back by itself.
    GenerationReturned {
        /// Version that was no good. It is not applied again.
        from: u64,
        /// Version that runs.
        to: u64,
        /// What was wrong.
        why: String,
        /// What is known of the guest that was ended last.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        report: Option<TrapReport>,
    },
    /// A change is over: nothing is left of what ran before.
    Receipt(Receipt),
    /// Another component runs in a slot than the manifest names.
    Swapped {
        /// The slot.
        slot: String,
        /// What runs there.
        component: Digest,
        /// Version of the manifest.
        generation: u64,
        /// Keys that signed it.
        signers: Vec<NodeId>,
    },
    /// The component that the manifest names runs in a slot again, without anybody having asked for it.
    SwapEnded {
        /// The slot.
        slot: String,
        /// Why, with its code.
        why: String,
    },
    /// A swap was refused. Nothing changed.
    SwapRefused {
        /// Why, with its code.
        why: String,
    },
    /// A manifest or a rollback was refused. Nothing changed.
    GenerationRefused {
        /// Why, with its code.
        why: String,
    },
    /// A root is in force.
    RootUpdated {
        /// Version that was in force before.
        from: u64,
        /// Version that is in force.
        to: u64,
    },
    /// A peer has been admitted, or is trusted differently.
    PeerAdmitted {
        /// Who.
        peer: NodeId,
        /// How far it is trusted.
        trust: Trust,
    },
    /// Somebody was not admitted.
    PeerRefused {
        /// Who, when it got as far as saying so.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        peer: Option<NodeId>,
        /// Where it is.
        address: String,
        /// Why.
        why: String,
    },
    /// A link is up.
    LinkUp {
        /// To whom.
        peer: NodeId,
        /// What the peer calls itself.
        label: String,
        /// Where it is.
        address: String,
        /// Whether this node dialled.
        dialled: bool,
    },
    /// A link is down.
    LinkDown {
        /// To whom.
        peer: NodeId,
        /// Why.
        why: String,
    },
    /// An instance of a policy was ended, and is started again.
    PolicyRestarted {
        /// Its slot.
        slot: String,
        /// Why, with its code.
        why: String,
    },
    /// A workload was ended within a call.
    PluginTrapped {
        /// Its slot.
        slot: String,
        /// The function that was called.
        function: String,
        /// Why, with its code.
        why: String,
    },
    /// Somebody with the right to it asked for something.
    Control {
        /// The operator; none for whoever may open the control socket.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        by: Option<NodeId>,
        /// The operator's role.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        role: Option<Role>,
        /// What was asked for.
        verb: String,
    },
    /// An order was not obeyed.
    ControlRefused {
        /// The operator; none when it is not one's.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        by: Option<NodeId>,
        /// Why, with its code.
        why: String,
    },
}

/// What a change did to those who were there.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct Receipt {
    /// Version that ran before.
    pub from: u64,
    /// Version that runs.
    pub to: u64,
    /// Slots that were replaced or removed.
    pub slots: Vec<String>,
    /// Calls that were in flight in them when the pointer moved.
    pub in_flight: u64,
    /// Of those, the ones that ended by themselves.
    pub drained: u64,
    /// Of those, the ones that were ended because their time was over.
    pub forced: u64,
    /// Events that waited during the change and were handed to the new policies.
    pub events: u64,
    /// Microseconds of the publication itself.
    pub publish_us: u64,
    /// Milliseconds until nothing was in flight any more.
    pub drain_ms: u64,
    /// Keys that signed what runs now.
    pub signers: Vec<NodeId>,
}

impl Receipt {
    /// For a change, once it is known how the calls that were in flight ended.
    pub fn new(applied: &Applied, forced: u64, drain_ms: u64) -> Self {
        let Applied { from, to, in_flight, events, publish_us, .. } = *applied;
        // One that came between counting and the pointer may be among those that were ended.
        let (in_flight, drained) = (in_flight.max(forced), in_flight.saturating_sub(forced));
        let slots = applied.changed.iter().chain(&applied.removed).cloned().collect();
        let signers = applied.signers.clone();
        Self { from, to, slots, in_flight, drained, forced, events, publish_us, drain_ms, signers }
    }
}

impl Happened {
    /// By what events are told together when they come fast. None for what cannot be caused at will by somebody without rights.
    pub fn merges(&self) -> Option<String> {
        match self {
            Happened::PluginTrapped { slot, function, .. } => Some(format!("trap {slot} {function}")),
            Happened::PolicyRestarted { slot, .. } => Some(format!("restart {slot}")),
            // Who is not admitted can come under as many keys as it likes.
            Happened::PeerRefused { .. } => Some("peer".to_owned()),
            Happened::ControlRefused { by: None, .. } => Some("order".to_owned()),
            // A member can announce whatever it likes as often as it likes.
            Happened::ManifestRefused { peer, .. } => Some(format!("manifest {peer}")),
            Happened::Started { .. }
            | Happened::GenerationApplied { .. }
            | Happened::GenerationRolledBack { .. }
            | Happened::GenerationSettled { .. }
            | Happened::GenerationReturned { .. }
            | Happened::Receipt(_)
            | Happened::GenerationRefused { .. }
            | Happened::Swapped { .. }
            | Happened::SwapEnded { .. }
            | Happened::SwapRefused { .. }
            | Happened::Fork { .. }
            | Happened::RootUpdated { .. }
            | Happened::PeerAdmitted { .. }
            | Happened::LinkUp { .. }
            | Happened::LinkDown { .. }
            | Happened::Control { .. }
            | Happened::ControlRefused { .. } => None,
        }
    }
}
