//! The one instance of a policy that a component holds. Used by the export macros.

use std::cell::RefCell;

/// Holds the policy from `init` on.
pub struct Instance<P>(RefCell<Option<P>>);

impl<P> Instance<P> {
    /// Without a policy.
    pub const fn empty() -> Self {
        Self(RefCell::new(None))
    }

    /// Keeps the policy that `init` returned, and returns its effects.
    pub fn start<E>(&self, started: Result<(P, E), String>) -> Result<E, String> {
        started.map(|(policy, effects)| {
            self.0.replace(Some(policy));
            effects
        })
    }

    /// Calls the policy.
    ///
    /// # Panics
    ///
    /// When there is none: the host calls `init` first, so this is the host's mistake and ends the instance.
    pub fn with<R>(&self, call: impl FnOnce(&mut P) -> R) -> R {
        match self.0.borrow_mut().as_mut() {
            Some(policy) => call(policy),
            None => panic!("called before init"),
        }
    }
}
