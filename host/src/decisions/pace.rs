//! Whether who sends bytes is too slow to wait for: silence is seen at once, dripping only over a while.

use std::time::Duration;

/// How long bytes are counted before they are judged: a link that pauses now and then is not slow.
pub const SPAN: Duration = Duration::from_secs(30);
/// Bytes in a span below which a sender counts as failed: 70 kbit/s, so that a link of an older mobile network is none of these.
pub const LEAST: u64 = 256 << 10;
/// The same while others have nothing left to do and could give the rest: the last 16 MiB then take four minutes at most.
pub const LEAST_AWAITED: u64 = 2 << 20;

/// What one sender gave in the span that runs.
#[derive(Clone, Copy, Debug, Default)]
pub struct Pace {
    since: Duration,
    bytes: u64,
}

impl Pace {
    /// Counts bytes that came, so long after the sender began. Answers whether it was too slow over a whole span; each span is judged by
    /// itself.
    pub fn is_slow(&mut self, after: Duration, bytes: u64, awaited: bool) -> bool {
        self.bytes = self.bytes.saturating_add(bytes);
        if after.saturating_sub(self.since) < SPAN {
            return false;
        }
        let slow = self.bytes < if awaited { LEAST_AWAITED } else { LEAST };
        *self = Self { since: after, bytes: 0 };
        slow
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The second at which somebody who sends `bytes` every so many `seconds` is given up, within ten minutes.
    fn given_up(bytes: u64, seconds: u64, awaited: bool) -> Option<u64> {
        let mut pace = Pace::default();
        (1..=600 / seconds)
            .map(|step| step * seconds)
            .find(|at| pace.is_slow(Duration::from_secs(*at), bytes, awaited))
    }

    #[test]
    fn who_drips_is_given_up_and_who_is_slow_is_not() {
        const GROUP: u64 = 32 << 10;
        for (bytes, seconds, awaited, expect) in [
            (GROUP, 9, false, Some(36)),
            (1, 1, false, Some(30)),
            (GROUP, 5, false, Some(30)),
            (GROUP, 3, false, None),
            (GROUP, 3, true, Some(30)),
            (64 << 10, 1, true, Some(30)),
            (100 << 10, 1, true, None),
            (u64::MAX, 9, true, None),
        ] {
            assert_eq!(
                given_up(bytes, seconds, awaited),
                expect,
                "{bytes} bytes each {seconds} s, {awaited}"
            );
        }
    }

    #[test]
    fn a_fast_beginning_is_no_excuse() {
        let mut pace = Pace::default();
        let after = Duration::from_secs;
        assert!(!pace.is_slow(after(1), 1 << 30, false));
        assert!(!pace.is_slow(after(30), 1, false));
        assert!(!pace.is_slow(after(59), 1, false));
        assert!(pace.is_slow(after(60), 1, false));
    }
}
