//! In which order the hops of a plan are tried.

use crate::words::NodeId;

/// How to pick; mirrors `pick` in `wit/routing.wit`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pick {
    /// In the order given.
    Failover,
    /// By weight among the smallest distance.
    Spread,
    /// As spread, but the same for the same caller.
    Sticky,
}

/// What the order depends on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Candidate {
    /// Neighbour.
    pub next: NodeId,
    /// Final node.
    pub to: NodeId,
    /// Smaller is better.
    pub distance: u32,
    /// Share among equals.
    pub weight: u32,
}

/// The order in which the candidates are tried, as positions. `random` decides for spread, `caller` for sticky.
pub fn order(candidates: &[Candidate], pick: Pick, random: u64, caller: u64) -> Vec<usize> {
    let mut order: Vec<usize> = (0..candidates.len()).collect();
    let seed = match pick {
        Pick::Failover => return order,
        Pick::Spread => random,
        Pick::Sticky => caller,
    };
    let Some(best) = candidates.iter().map(|candidate| candidate.distance).min() else { return order };
    let weight = |position: &usize| {
        candidates
            .get(*position)
            .filter(|candidate| candidate.distance == best)
            .map_or(0, |candidate| candidate.weight)
    };
    let total: u64 = order.iter().map(|position| u64::from(weight(position))).sum();
    if total == 0 {
        return order;
    }
    let mut drawn = seed % total;
    let first = order.iter().position(|position| {
        let share = u64::from(weight(position));
        let hit = drawn < share;
        drawn = drawn.saturating_sub(share);
        hit
    });
    if let Some(first) = first {
        let chosen = order.remove(first);
        order.insert(0, chosen);
    }
    order
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn candidates(list: &[(u32, u32)]) -> Vec<Candidate> {
        let id = |byte: usize| NodeId::from([u8::try_from(byte).unwrap(); 32]);
        list.iter()
            .enumerate()
            .map(|(byte, (distance, weight))| Candidate {
                next: id(byte),
                to: id(byte),
                distance: *distance,
                weight: *weight,
            })
            .collect()
    }

    #[test]
    fn failover_keeps_the_order_and_spread_follows_the_weights() {
        let three = candidates(&[(1, 3), (1, 1), (2, 9)]);
        assert_eq!(order(&three, Pick::Failover, 7, 7), [0, 1, 2]);
        let firsts: Vec<usize> = (0..8).map(|random| order(&three, Pick::Spread, random, 0)[0]).collect();
        assert_eq!(firsts, [0, 0, 0, 1, 0, 0, 0, 1]);
        let sticky: Vec<usize> = (0..8).map(|random| order(&three, Pick::Sticky, random, 3)[0]).collect();
        assert_eq!(sticky, [1; 8]);
        assert_eq!(order(&candidates(&[(1, 0), (1, 0)]), Pick::Spread, 5, 5), [0, 1]);
        assert!(order(&[], Pick::Spread, 5, 5).is_empty());
    }

    proptest! {
        #[test]
        fn every_hop_is_tried_once(list in prop::collection::vec((0_u32..3, 0_u32..5), 0..16), random: u64, caller: u64) {
            for pick in [Pick::Failover, Pick::Spread, Pick::Sticky] {
                let mut order = order(&candidates(&list), pick, random, caller);
                order.sort_unstable();
                prop_assert_eq!(order, (0..list.len()).collect::<Vec<_>>());
            }
        }
    }
}
