//! Pauses between attempts that double up to a limit, with jitter, and start over after a good stretch.

use std::time::Duration;

/// How long to pause after a failure.
#[derive(Clone, Debug)]
pub struct Backoff {
    least: Duration,
    most: Duration,
    failures: u32,
}

impl Backoff {
    /// The first pause is `least`, each further one twice as long, none longer than `most`.
    pub const fn new(least: Duration, most: Duration) -> Self {
        Self { least, most, failures: 0 }
    }

    /// The pause after one more failure. `random` spreads it over ±25 %, so that many nodes that lost the same peer do not
    /// come back at the same moment.
    pub fn next(&mut self, random: u64) -> Duration {
        let doubled = self.least.saturating_mul(1_u32.checked_shl(self.failures.min(16)).unwrap_or(u32::MAX));
        self.failures = self.failures.saturating_add(1);
        let pause = doubled.min(self.most);
        let quarter = u64::try_from(pause.as_micros() / 4).unwrap_or(u64::MAX);
        let spread = if quarter == 0 { 0 } else { random % (2 * quarter) };
        (pause - Duration::from_micros(quarter) + Duration::from_micros(spread)).min(self.most)
    }

    /// Everything is well again.
    pub fn reset(&mut self) {
        self.failures = 0;
    }

    /// Failures since the last reset.
    pub fn failures(&self) -> u32 {
        self.failures
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn pauses_grow_and_stay_within_the_limits(random in any::<u64>(), failures in 0_u32..100) {
            let (least, most) = (Duration::from_secs(1), Duration::from_secs(30));
            let mut backoff = Backoff::new(least, most);
            let mut pause = Duration::ZERO;
            for _ in 0..=failures {
                pause = backoff.next(random);
                prop_assert!(pause >= least * 3 / 4 && pause <= most, "{pause:?}");
            }
            if failures > 6 {
                prop_assert!(pause >= most * 3 / 4);
            }
            backoff.reset();
            prop_assert!(backoff.next(random) <= least * 5 / 4);
        }
    }
}
