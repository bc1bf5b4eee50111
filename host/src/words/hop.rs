//! How a call travels: the part of its envelope that each node writes anew.

use std::convert::Infallible;

use minicbor::{Decoder, Encoder};

use super::fault::{Code, Fault, Outcome};
use super::id::NodeId;
use super::trust::Trust;

/// Most links that a call may cross: twice what a mesh of a thousand nodes with six links each needs.
pub const HOPS_MAX: u8 = 8;
/// Most entries of the hop map: the seven that are known and nine for later versions.
const HOP_ENTRIES_MAX: u64 = 16;
/// Priority of a call that says nothing.
pub const PRIORITY_NORMAL: u8 = 128;
/// Keys of the hop map.
mod key {
    pub(super) const HOPS_LEFT: u8 = 0;
    pub(super) const TIME_LEFT: u8 = 1;
    pub(super) const TRUST: u8 = 2;
    pub(super) const CHAIN: u8 = 3;
    pub(super) const TRACE: u8 = 4;
    pub(super) const PRIORITY: u8 = 5;
    pub(super) const DEPTH: u8 = 6;
}

/// How a call travels; written anew by each node that forwards.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Hop {
    /// Links that the call may still cross after this one; at most [`HOPS_MAX`].
    pub hops_left: u8,
    /// Milliseconds until the caller gives up.
    pub time_left_ms: u32,
    /// The least trust that any node of the path so far had in the one before it.
    pub trust: Trust,
    /// The nodes that the call was taken from, first the one that the first forwarding node took it from.
    pub chain: Vec<NodeId>,
    /// Whether each node is to add a note on what it did.
    pub trace: bool,
    /// Higher goes first.
    pub priority: u8,
    /// How many plugins have called on before this call: 0 when nobody's plugin made it.
    pub depth: u8,
}

impl Hop {
    /// The hop of a call where it starts.
    pub fn start(time_left_ms: u32) -> Self {
        Self {
            hops_left: HOPS_MAX,
            time_left_ms,
            trust: Trust::Full,
            chain: Vec::new(),
            trace: false,
            priority: PRIORITY_NORMAL,
            depth: 0,
        }
    }

    /// The hop with which a node passes the call on: it took the call from `from`, whom it trusts this far, and had it for `spent_ms`.
    ///
    /// # Errors
    /// `too-many-hops` when none is left, `deadline` when the time is over.
    pub fn forward(&self, from: NodeId, trust: Trust, spent_ms: u32) -> Outcome<Self> {
        let hops_left = self.hops_left.checked_sub(1).filter(|_| self.chain.len() < usize::from(HOPS_MAX));
        let Some(hops_left) = hops_left else {
            return Err(Fault::new(
                Code::TooManyHops,
                format!("call crossed {HOPS_MAX} links and is not there yet"),
            )
            .fix("`midplane routes NAME` on each node of the path; a loop or a detour is likely"));
        };
        let time_left_ms = self.time_left_ms.saturating_sub(spent_ms);
        if time_left_ms == 0 {
            return Err(Fault::new(Code::Deadline, "call ran out of time on the way"));
        }
        let mut chain = Vec::with_capacity(self.chain.len() + 1);
        chain.extend_from_slice(&self.chain);
        chain.push(from);
        Ok(Self { hops_left, time_left_ms, trust: self.trust.min(trust), chain, ..*self })
    }

    /// Writes the map. Defaults are left out.
    pub(super) fn write(
        &self,
        encoder: &mut Encoder<&mut Vec<u8>>,
    ) -> Result<(), minicbor::encode::Error<Infallible>> {
        let entries = 3
            + u64::from(!self.chain.is_empty())
            + u64::from(self.trace)
            + u64::from(self.priority != PRIORITY_NORMAL)
            + u64::from(self.depth != 0);
        encoder.map(entries)?;
        encoder.u8(key::HOPS_LEFT)?.u8(self.hops_left)?;
        encoder.u8(key::TIME_LEFT)?.u32(self.time_left_ms)?;
        encoder.u8(key::TRUST)?.u8(level_of(self.trust))?;
        if !self.chain.is_empty() {
            encoder.u8(key::CHAIN)?.array(self.chain.len() as u64)?;
            for node in &self.chain {
                encoder.bytes(node.as_bytes())?;
            }
        }
        if self.trace {
            encoder.u8(key::TRACE)?.bool(true)?;
        }
        if self.priority != PRIORITY_NORMAL {
            encoder.u8(key::PRIORITY)?.u8(self.priority)?;
        }
        if self.depth != 0 {
            encoder.u8(key::DEPTH)?.u8(self.depth)?;
        }
        Ok(())
    }

    /// Entries may come in any order; those with other keys are skipped, so that a later version can add some.
    pub(super) fn read(decoder: &mut Decoder<'_>) -> Result<Self, minicbor::decode::Error> {
        use minicbor::decode::Error;
        let entries = decoder.map()?.filter(|entries| *entries <= HOP_ENTRIES_MAX);
        let entries = entries.ok_or(Error::message("hop is a map of at most 16"))?;
        let (mut hops_left, mut time_left_ms, mut trust) = (None, None, None);
        let (mut chain, mut trace, mut priority, mut depth) = (None, None, None, None);
        for _ in 0..entries {
            let fresh = match decoder.u64().map(|key| u8::try_from(key).unwrap_or(u8::MAX))? {
                key::HOPS_LEFT => hops_left.replace(decoder.u8()?).is_none(),
                key::TIME_LEFT => time_left_ms.replace(decoder.u32()?).is_none(),
                key::TRUST => trust.replace(trust_of(decoder.u8()?)).is_none(),
                key::CHAIN => chain.replace(read_chain(decoder)?).is_none(),
                key::TRACE => trace.replace(decoder.bool()?).is_none(),
                key::PRIORITY => priority.replace(decoder.u8()?).is_none(),
                key::DEPTH => depth.replace(decoder.u8()?).is_none(),
                _ => decoder.skip().map(|()| true)?,
            };
            if !fresh {
                return Err(Error::message("hop says something twice"));
            }
        }
        let hops_left = hops_left.filter(|hops| *hops <= HOPS_MAX);
        Ok(Self {
            hops_left: hops_left.ok_or(Error::message("hop needs hops left, at most 8"))?,
            time_left_ms: time_left_ms.ok_or(Error::message("hop needs the time left"))?,
            trust: trust.ok_or(Error::message("hop needs a trust"))?,
            chain: chain.unwrap_or_default(),
            trace: trace.unwrap_or(false),
            priority: priority.unwrap_or(PRIORITY_NORMAL),
            depth: depth.unwrap_or(0),
        })
    }
}

/// The trust of a level; one between two known levels is read as the lower.
fn trust_of(level: u8) -> Trust {
    Trust::ALL.into_iter().rev().find(|trust| level_of(*trust) <= level).unwrap_or(Trust::Unknown)
}

/// The level of a trust, as it is written.
fn level_of(trust: Trust) -> u8 {
    match trust {
        Trust::Unknown => 0,
        Trust::Pending => 10,
        Trust::Basic => 50,
        Trust::Trusted => 75,
        Trust::Full => 100,
    }
}

pub(super) fn node_id(decoder: &mut Decoder<'_>) -> Result<NodeId, minicbor::decode::Error> {
    let bytes: Result<[u8; 32], _> = decoder.bytes()?.try_into();
    bytes.map(NodeId::from).map_err(|_| minicbor::decode::Error::message("a node id has 32 bytes"))
}

fn read_chain(decoder: &mut Decoder<'_>) -> Result<Vec<NodeId>, minicbor::decode::Error> {
    let length = decoder.array()?.filter(|length| *length <= u64::from(HOPS_MAX));
    let length = length.ok_or(minicbor::decode::Error::message("chain has at most 8 nodes"))?;
    (0..length).map(|_| node_id(decoder)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_node_adds_itself_and_takes_away() {
        let start = Hop::start(1_000);
        let once = start.forward([1; 32].into(), Trust::Trusted, 300).unwrap();
        let twice = once.forward([2; 32].into(), Trust::Full, 0).unwrap();
        assert_eq!((twice.hops_left, twice.time_left_ms, twice.trust), (6, 700, Trust::Trusted));
        assert_eq!(twice.chain, [NodeId::from([1; 32]), NodeId::from([2; 32])]);
        assert_eq!(once.forward([3; 32].into(), Trust::Full, 700).unwrap_err().code, Code::Deadline);
        let mut hop = start;
        for byte in 0..HOPS_MAX {
            hop = hop.forward([byte; 32].into(), Trust::Full, 1).unwrap();
        }
        assert_eq!(hop.forward([9; 32].into(), Trust::Full, 1).unwrap_err().code, Code::TooManyHops);
    }
}
