//! The timers of a policy and of its shadow: which go off together.

use std::collections::{BTreeMap, BTreeSet};

/// Two timers of one number whose times are no further apart than this are the same one, as both policies set it. Then they go off
/// together, so that both see it in one order with everything else.
const SAME_MS: u64 = 50;
/// How long the candidate's timer waits for the active policy's if they are the same: its thread may have to wait for a busy machine.
const PATIENCE_MS: u64 = 10_000;
/// Timers that the candidate has changed and that are remembered as such.
const CHANGED_MOST: usize = 4_096;

/// The timers of both, by number, with the time at which each is due.
#[derive(Debug, Default)]
pub struct Timers {
    active: BTreeMap<u64, u64>,
    candidate: BTreeMap<u64, u64>,
    /// Numbers that the candidate has set or taken back, as long as it has timers that it did not set: those that went over with the state,
    /// as in a swap. Nobody here knows when they are due.
    changed: Option<BTreeSet<u64>>,
}

impl Timers {
    /// The active policy sets one.
    pub fn active_sets(&mut self, id: u64, due: u64) {
        self.active.insert(id, due);
    }

    /// The active policy takes one back.
    pub fn active_cancels(&mut self, id: u64) {
        self.active.remove(&id);
    }

    /// The candidate has begun from the state of the active one, and so with its timers.
    pub fn inherit(&mut self) {
        self.changed = Some(BTreeSet::new());
    }

    /// The candidate sets one; how many it has.
    pub fn set(&mut self, id: u64, due: u64) -> usize {
        self.change(id);
        self.candidate.insert(id, due);
        self.candidate.len()
    }

    /// The candidate takes one back.
    pub fn cancel(&mut self, id: u64) {
        self.change(id);
        self.candidate.remove(&id);
    }

    /// The candidate begins anew.
    pub fn clear(&mut self) {
        self.candidate.clear();
        self.changed = None;
    }

    fn change(&mut self, id: u64) {
        if let Some(changed) = &mut self.changed {
            changed.insert(id);
        }
        // Too many to remember: it is held to have changed all.
        self.changed.take_if(|changed| changed.len() > CHANGED_MOST);
    }

    /// The active policy begins anew.
    pub fn clear_active(&mut self) {
        self.active.clear();
    }

    /// The active policy's timer of this number goes off: whether the candidate's does too.
    pub fn goes_off(&mut self, id: u64, now: u64) -> bool {
        let set = self.active.remove(&id).is_some();
        match self.candidate.get(&id) {
            Some(due) => {
                let due = *due <= now.saturating_add(SAME_MS);
                if due {
                    self.candidate.remove(&id);
                }
                due
            }
            None => !set && self.changed.as_ref().is_some_and(|changed| !changed.contains(&id)),
        }
    }

    /// The next one that the candidate has alone, with the time at which it goes off, if that has come.
    pub fn alone(&mut self, now: u64) -> Option<(u64, u64)> {
        let (id, at) = self.first()?;
        (at <= now).then(|| {
            self.candidate.remove(&id);
            (id, at)
        })
    }

    /// When that will be the case, if nothing else happens.
    pub fn next(&self) -> Option<u64> {
        self.first().map(|(_, at)| at)
    }

    fn first(&self) -> Option<(u64, u64)> {
        let at = |(id, due): (&u64, &u64)| {
            let same = self.active.get(id).is_some_and(|active| active.abs_diff(*due) <= SAME_MS);
            (*id, due.saturating_add(if same { PATIENCE_MS } else { 0 }))
        };
        self.candidate.iter().map(at).min_by_key(|(_, at)| *at)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_timer_goes_off_with_that_of_the_active_policy_or_by_itself() {
        let mut timers = Timers::default();
        assert_eq!((timers.set(1, 1_000), timers.set(2, 2_000), timers.set(1, 1_500)), (1, 2, 2));
        // Nobody else has it: at its time.
        assert_eq!((timers.alone(1_499), timers.next()), (None, Some(1_500)));
        assert_eq!((timers.alone(1_700), timers.alone(1_700)), (Some((1, 1_500)), None));
        // The active one has the same: with that one, however late it is.
        timers.active_sets(2, 2_000 + SAME_MS);
        assert_eq!((timers.alone(5_000), timers.next()), (None, Some(2_000 + PATIENCE_MS)));
        assert!(timers.goes_off(2, 5_000));
        assert!(!timers.goes_off(2, 5_001), "once");
        // Another one of this number, a forgotten one, and one that never comes.
        timers.set(3, 1_000);
        timers.active_sets(3, 1_001 + SAME_MS);
        assert_eq!(timers.alone(1_000), Some((3, 1_000)));
        timers.set(4, 1_000);
        timers.active_sets(4, 1_000);
        timers.active_cancels(4);
        assert_eq!(timers.alone(1_000), Some((4, 1_000)));
        timers.set(5, 1_000);
        timers.active_sets(5, 1_000);
        assert_eq!(timers.alone(1_000 + PATIENCE_MS), Some((5, 1_000 + PATIENCE_MS)));
        // Of the active one alone, and of the candidate much later.
        assert!(!timers.goes_off(6, 1_000));
        timers.set(6, 1_001 + SAME_MS);
        assert!(!timers.goes_off(6, 1_000));
        timers.cancel(6);
        assert_eq!(timers.next(), None);
        timers.set(7, 1);
        timers.clear();
        timers.active_sets(8, 1);
        timers.clear_active();
        assert_eq!((timers.next(), timers.set(8, 1), timers.next()), (None, 1, Some(1)));
    }

    #[test]
    fn timers_from_before_go_off_for_both_unless_the_candidate_has_changed_them() {
        let mut timers = Timers::default();
        timers.inherit();
        timers.cancel(2);
        timers.set(3, 9_000);
        timers.active_sets(4, 1_000);
        let off = [1, 2, 3, 4].map(|id| timers.goes_off(id, 1_000));
        assert_eq!(off, [true, false, false, false]);
        // Its own of that number goes on.
        assert_eq!(timers.next(), Some(9_000));
        // An instance that begins anew has none.
        timers.clear();
        assert!(!timers.goes_off(1, 1_000));
        timers.inherit();
        for id in 0..=CHANGED_MOST as u64 {
            timers.cancel(id);
        }
        assert!(!timers.goes_off(u64::MAX, 1_000));
    }
}
