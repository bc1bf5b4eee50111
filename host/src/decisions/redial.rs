//! When a peer is dialled again: soon for some minutes after a link to it was lost, because what was cut is then most often mended
//! soon; with longer and longer pauses otherwise.

use std::time::Duration;

use super::backoff::Backoff;

/// Pauses between attempts; they never end.
const USUAL: Backoff = Backoff::new(Duration::from_secs(1), Duration::from_secs(30));
/// Pauses while a link was lost lately.
const LATELY: Backoff = Backoff::new(Duration::from_millis(500), Duration::from_secs(2));
/// How long a link counts as lost lately: longer than a router or a machine takes to start again.
pub const LATELY_MOST: Duration = Duration::from_secs(10 * 60);
/// How long such an attempt may wait for an answer. QUIC asks at 0, 1, 3 and 7 s; given up after the third question, with the longest
/// pause, there are at most 3 s between two questions, and 200 bytes a second for each peer.
const PATIENCE: Duration = Duration::from_secs(4);

/// The attempts to reach one target.
#[derive(Clone, Debug)]
pub struct Redial {
    usual: Backoff,
    lately: Backoff,
}

/// When to try next, and for how long.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Attempt {
    /// Pause before it.
    pub pause: Duration,
    /// How long it may wait for an answer; none is as long as a handshake may take.
    pub patience: Option<Duration>,
}

impl Default for Redial {
    fn default() -> Self {
        Self { usual: USUAL, lately: LATELY }
    }
}

impl Redial {
    /// There was a link, and it was lost.
    pub fn lost(&mut self) {
        *self = Self::default();
    }

    /// The attempt after this one. `since_lost` is how long ago a link was lost, if there was one; `random` spreads the pauses.
    pub fn next(&mut self, since_lost: Option<Duration>, random: u64) -> Attempt {
        match since_lost {
            Some(since) if since < LATELY_MOST => {
                Attempt { pause: self.lately.next(random), patience: Some(PATIENCE) }
            }
            _ => Attempt { pause: self.usual.next(random), patience: None },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn who_was_linked_lately_is_asked_every_three_seconds(random in any::<u64>(), attempts in 0_usize..200) {
            let mut redial = Redial::default();
            let mut since = Duration::ZERO;
            for _ in 0..attempts {
                let attempt = redial.next(Some(since), random);
                let (Some(patience), true) = (attempt.patience, since < LATELY_MOST) else {
                    prop_assert!(attempt.patience.is_none() && since >= LATELY_MOST);
                    return Ok(());
                };
                // The last question of an attempt is asked at 3 s.
                prop_assert!(patience - Duration::from_secs(3) + attempt.pause <= Duration::from_secs(3));
                prop_assert!(attempt.pause >= Duration::from_millis(375));
                since += attempt.pause + patience;
            }
        }

        #[test]
        fn who_was_never_linked_is_asked_less_and_less(random in any::<u64>()) {
            let mut redial = Redial::default();
            let first = redial.next(None, random);
            prop_assert!(first.pause <= Duration::from_millis(1_250) && first.patience.is_none());
            let last = (0..10).map(|_| redial.next(None, random).pause).last();
            prop_assert!(last >= Some(Duration::from_millis(22_500)) && last <= Some(Duration::from_secs(30)));
            redial.lost();
            prop_assert!(redial.next(None, random).pause <= Duration::from_millis(1_250));
        }
    }
}
