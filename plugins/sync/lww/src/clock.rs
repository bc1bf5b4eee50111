//! Hybrid logical clocks: times that follow the wall clock, never go back, and come after everything that was seen.

use midplane_sdk::serde::{Deserialize, Serialize};
use midplane_sdk::{Millis, NodeId};

/// How far ahead of this node's clock a time may be that another node gives: what nodes without a clock chip are off. Without a
/// bound one wrong clock would win against everybody for years.
pub(crate) const DRIFT_MAX_MS: Millis = 10 * 60 * 1000;

/// A time: milliseconds since 1970, and a count of what happened in the same millisecond.
pub(crate) type Time = (Millis, u32);

/// When something was written, and by whom. The greater one wins, the same everywhere: first the time, then the id of the node.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(crate = "midplane_sdk::serde")]
pub(crate) struct Stamp {
    pub(crate) time: Time,
    pub(crate) node: NodeId,
    /// A removal that nobody remembers, made up again for who missed it: directly after what it removes.
    pub(crate) gone: bool,
}

impl Stamp {
    /// Whether no honest node with a right clock can have given this time yet.
    pub(crate) fn is_ahead_of(&self, now: Millis) -> bool {
        self.time.0 > now.saturating_add(DRIFT_MAX_MS)
    }
}

/// The clock of one node.
#[derive(Clone, Debug, Default)]
pub(crate) struct Clock {
    last: Time,
}

impl Clock {
    /// A clock that goes on after this time.
    pub(crate) fn after(last: Time) -> Self {
        Self { last }
    }

    /// The time of something that happens now: later than every time that it gave or saw, even when `now` goes back.
    pub(crate) fn tick(&mut self, now: Millis) -> Time {
        let (time, count) = self.last;
        self.last = match (now > time, count.checked_add(1)) {
            (true, _) => (now, 0),
            (false, Some(count)) => (time, count),
            (false, None) => (time.saturating_add(1), 0),
        };
        self.last
    }

    /// Takes note of a time that another node gave.
    pub(crate) fn observe(&mut self, time: Time) {
        self.last = self.last.max(time);
    }

    /// The last time that it gave or saw.
    pub(crate) fn last(&self) -> Time {
        self.last
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::simulation::Random;

    #[test]
    fn times_rise_whatever_the_wall_clock_does() {
        let mut random = Random(7);
        for _ in 0..100 {
            let mut clock = Clock::default();
            let (mut before, mut furthest) = ((0, 0), 0);
            for _ in 0..200 {
                // Steps ahead and back of up to an hour, and stamps of others within the drift.
                let now = 1_700_000_000_000 + random.below(3_600_000) as Millis;
                furthest = furthest.max(now);
                if random.below(3) == 0 {
                    let time = now - DRIFT_MAX_MS + random.below(2 * DRIFT_MAX_MS as usize + 1) as Millis;
                    let stamp = Stamp { time: (time, random.below(9) as u32), node: "n".into(), gone: false };
                    assert!(!stamp.is_ahead_of(now));
                    clock.observe(stamp.time);
                }
                let time = clock.tick(now);
                assert!(time > before, "{time:?} after {before:?}");
                assert!(time.0 <= furthest + DRIFT_MAX_MS + 1, "runs away");
                before = time;
            }
        }
    }

    #[test]
    fn a_time_beyond_the_drift_is_recognised_and_a_full_count_goes_on() {
        let stamp = |time| Stamp { time: (time, 0), node: "n".into(), gone: false };
        assert!(!stamp(1_000 + DRIFT_MAX_MS).is_ahead_of(1_000));
        assert!(stamp(1_001 + DRIFT_MAX_MS).is_ahead_of(1_000));
        assert!(!stamp(Millis::MAX).is_ahead_of(Millis::MAX));
        let mut clock = Clock::after((5, u32::MAX - 1));
        assert_eq!([clock.tick(1), clock.tick(1), clock.tick(9)], [(5, u32::MAX), (6, 0), (9, 0)]);
    }

    #[test]
    fn stamps_are_ordered_by_time_then_node_then_inferred_removal() {
        let stamp = |time, count, node: &str, gone| Stamp { time: (time, count), node: node.into(), gone };
        let sorted = [
            stamp(1, 0, "b", false),
            stamp(1, 1, "a", false),
            stamp(1, 1, "a", true),
            stamp(1, 1, "b", false),
        ];
        assert!(sorted.is_sorted() && sorted.windows(2).all(|pair| pair[0] != pair[1]));
    }
}
