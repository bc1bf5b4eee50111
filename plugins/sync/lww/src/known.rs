//! What a node is known to have: of each dataset and writer everything up to a time.
//!
//! It only ever says less than the truth. So an entry within it that is not there was there, or was replaced, and was removed.

use midplane_sdk::serde::{Deserialize, Serialize};
use midplane_sdk::{Map, NodeId};

use crate::clock::{Stamp, Time};
use crate::wire::{Known, PIECE};

/// Bytes of a time on the wire besides its texts, at most.
const TIME_BYTES: usize = 16;

/// By dataset and writer.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(crate = "midplane_sdk::serde")]
pub(crate) struct Knowledge {
    times: Map<String, Map<NodeId, Time>>,
    #[serde(skip)]
    changed: bool,
}

impl Knowledge {
    /// Forgets datasets that are not this node's any more: what is written there from now on it does not hear.
    pub(crate) fn retain(&mut self, datasets: &[String]) {
        self.times.retain(|dataset, _| datasets.contains(dataset));
    }

    /// A node has everything that it wrote itself.
    pub(crate) fn wrote(&mut self, dataset: &str, node: &NodeId, time: Time) {
        self.raise(dataset, node, time);
    }

    /// Takes what a peer has, after everything that it has was taken. Answers whether that was news.
    pub(crate) fn learn(&mut self, known: &Known, datasets: &[String]) -> bool {
        for (dataset, node, time) in known.times.iter().filter(|(dataset, ..)| datasets.contains(dataset)) {
            self.raise(dataset, node, *time);
        }
        self.changed
    }

    /// Whether a write with this stamp was here once.
    pub(crate) fn covers(&self, dataset: &str, stamp: &Stamp) -> bool {
        self.times
            .get(dataset)
            .and_then(|nodes| nodes.get(&stamp.node))
            .is_some_and(|time| *time >= stamp.time)
    }

    /// Everything, in pieces of which each is a message. There is always one.
    pub(crate) fn pieces(&self) -> Vec<Vec<(String, NodeId, Time)>> {
        let (mut pieces, mut bytes) = (vec![Vec::new()], 0);
        for (dataset, nodes) in &self.times {
            for (node, time) in nodes {
                bytes += dataset.len() + node.len() + TIME_BYTES;
                if bytes > PIECE {
                    bytes = 0;
                    pieces.push(Vec::new());
                }
                pieces
                    .last_mut()
                    .into_iter()
                    .for_each(|piece| piece.push((dataset.clone(), node.clone(), *time)));
            }
        }
        pieces
    }

    /// Whether there was news since the last time.
    pub(crate) fn take_changed(&mut self) -> bool {
        std::mem::take(&mut self.changed)
    }

    fn raise(&mut self, dataset: &str, node: &NodeId, time: Time) {
        let nodes = match self.times.get_mut(dataset) {
            Some(nodes) => nodes,
            None => self.times.entry(dataset.to_owned()).or_default(),
        };
        let known = nodes.entry(node.clone()).or_default();
        if *known < time {
            *known = time;
            self.changed = true;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn stamp(time: u64, node: &str) -> Stamp {
        Stamp { time: (time, 0), node: node.into(), gone: false }
    }

    #[test]
    fn knowledge_only_rises_and_only_in_datasets_that_are_here() {
        let mut known = Knowledge::default();
        let datasets = ["a".to_owned()];
        known.wrote("a", &"n".into(), (5, 0));
        let news = |time| Known {
            round: 1,
            times: vec![("a".into(), "n".into(), (time, 0)), ("b".into(), "n".into(), (time, 0))],
        };
        assert!(known.take_changed() && !known.take_changed());
        assert!(!known.learn(&news(4), &datasets));
        assert!(known.covers("a", &stamp(5, "n")) && !known.covers("a", &stamp(6, "n")));
        assert!(known.learn(&news(7), &datasets));
        assert!(known.covers("a", &stamp(7, "n")));
        assert!(!known.covers("b", &stamp(1, "n")) && !known.covers("a", &stamp(1, "m")));
        known.retain(&["b".into()]);
        assert!(!known.covers("a", &stamp(5, "n")));
    }

    #[test]
    fn much_knowledge_is_told_in_pieces() {
        let mut known = Knowledge::default();
        assert_eq!(known.pieces(), [vec![]]);
        for n in 0..3_000_u32 {
            known.wrote("a", &format!("{n:a<52}"), (1_700_000_000_000, n));
        }
        let pieces = known.pieces();
        assert_eq!(pieces.iter().map(Vec::len).sum::<usize>(), 3_000);
        for times in pieces {
            assert!(crate::wire::known(&Known { round: 1, times }).len() < 60 << 10);
        }
    }
}
