//! Saying what happens often: the first few of an interval one by one, the rest as a number.

use std::time::Duration;

/// Lines of one interval that are said one by one: a handful of diallers with a wrong address are all named.
const LINES: u32 = 8;
/// How long an interval lasts.
const INTERVAL: Duration = Duration::from_secs(10);

/// What has been said lately. Times are counted from any fixed moment.
#[derive(Clone, Debug, Default)]
pub struct Sparing {
    begun: Option<Duration>,
    said: u32,
    left_out: u64,
}

impl Sparing {
    /// Something happened: whether to say it. The interval before has to be [`Sparing::over`] first.
    pub fn say(&mut self, now: Duration) -> bool {
        self.begun.get_or_insert(now);
        if self.said < LINES {
            self.said += 1;
            return true;
        }
        self.left_out = self.left_out.saturating_add(1);
        false
    }

    /// When the interval is over, begins anew; returns how much was not said, if anything was.
    pub fn over(&mut self, now: Duration) -> Option<u64> {
        let begun = self.begun?;
        if now.saturating_sub(begun) < INTERVAL {
            return None;
        }
        let left_out = std::mem::take(self).left_out;
        (left_out > 0).then_some(left_out)
    }

    /// How long to wait until there is a number to say; none when there is none.
    pub fn wait(&self, now: Duration) -> Option<Duration> {
        let begun = self.begun.filter(|_| self.left_out > 0)?;
        Some((begun + INTERVAL).saturating_sub(now))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_few_are_said_and_the_rest_is_counted() {
        let mut sparing = Sparing::default();
        let at = Duration::from_millis;
        let say = |sparing: &mut Sparing, now| (sparing.over(now), sparing.say(now));
        for number in 0..8 {
            assert_eq!(say(&mut sparing, at(number)), (None, true));
            assert_eq!(sparing.wait(at(number)), None);
        }
        for number in 8..1_000 {
            assert_eq!(say(&mut sparing, at(number)), (None, false));
        }
        assert_eq!(sparing.wait(at(1_000)), Some(at(9_000)));
        assert_eq!(sparing.over(at(9_999)), None);
        assert_eq!(say(&mut sparing, at(10_000)), (Some(992), true));
        assert_eq!((sparing.over(at(30_000)), sparing.wait(at(30_000))), (None, None));
        assert_eq!(say(&mut sparing, at(30_000)), (None, true));
    }
}
