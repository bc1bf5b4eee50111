//! Which component was in force when, and so which one may have answered.

use std::collections::HashMap;
use std::sync::{PoisonError, RwLock};
use std::time::Duration;

use midplane::clock::Instant;
use midplane::words::Digest;

/// Longer than any call: what ended before is not asked about any more.
const KEPT: Duration = Duration::from_secs(60);

/// A place where a component serves: a node, and one of its slots.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Place {
    /// Number of the node.
    pub node: usize,
    /// Its slot.
    pub slot: &'static str,
}

/// A component in a place.
struct Epoch {
    digest: Digest,
    /// Not in force before.
    from: Instant,
    /// Not in force after; none while it may be.
    until: Option<Instant>,
}

/// All that was in force.
#[derive(Default)]
pub struct Ledger(RwLock<HashMap<Place, Vec<Epoch>>>);

impl Ledger {
    /// From now on this component may come into force there.
    pub fn begins(&self, place: Place, digest: Digest, now: Instant) {
        let mut places = self.0.write().unwrap_or_else(PoisonError::into_inner);
        let epochs = places.entry(place).or_default();
        epochs.retain(|epoch| epoch.until.is_none_or(|until| until + KEPT > now));
        epochs.push(Epoch { digest, from: now, until: None });
    }

    /// What began last there is in force, and nothing from before is.
    pub fn settled(&self, place: Place, now: Instant) {
        let mut places = self.0.write().unwrap_or_else(PoisonError::into_inner);
        if let Some((_, before)) = places.get_mut(&place).and_then(|epochs| epochs.split_last_mut()) {
            before.iter_mut().filter(|epoch| epoch.until.is_none()).for_each(|epoch| epoch.until = Some(now));
        }
    }

    /// What began last there was refused.
    pub fn refused(&self, place: Place) {
        let mut places = self.0.write().unwrap_or_else(PoisonError::into_inner);
        places.get_mut(&place).and_then(Vec::pop);
    }

    /// Whether this component was in force there at any time of the call.
    pub fn served(&self, place: Place, digest: &Digest, start: Instant, end: Instant) -> bool {
        let places = self.0.read().unwrap_or_else(PoisonError::into_inner);
        places.get(&place).is_some_and(|epochs| {
            epochs.iter().any(|epoch| {
                epoch.digest == *digest && epoch.from <= end && epoch.until.is_none_or(|until| until >= start)
            })
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_was_in_force_during_the_call_may_have_answered() {
        let (ledger, place) = (Ledger::default(), Place { node: 0, slot: "a" });
        let (old, new) = (Digest::of(b"old"), Digest::of(b"new"));
        let start = midplane::clock::monotonic();
        let at = |ms| start + Duration::from_millis(ms);
        let served = |digest, from, to| ledger.served(place, &digest, at(from), at(to));
        assert!(!served(old, 0, 9));
        ledger.begins(place, old, at(10));
        ledger.settled(place, at(11));
        ledger.begins(place, new, at(20));
        assert!(served(old, 12, 25) && served(new, 12, 25) && served(old, 22, 25));
        assert!(!served(new, 12, 19), "before it was there");
        ledger.refused(place);
        assert!(!served(new, 12, 25) && served(old, 22, 25));
        ledger.begins(place, new, at(30));
        ledger.settled(place, at(35));
        assert!(served(old, 12, 40), "a call that began before");
        assert!(served(old, 34, 40) && served(new, 34, 40));
        assert!(!served(old, 36, 40), "after the new one was in force");
        assert!(!ledger.served(Place { node: 1, slot: "a" }, &new, at(36), at(40)));
    }
}
