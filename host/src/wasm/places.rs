//! The places for calls of one workload: how many there are, who waits for one, and what becomes of those who have one when another version
//! has the slot. Skills and gateways differ in what is called, not in this.

use std::sync::Arc;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio_util::sync::{CancellationToken, WaitForCancellationFuture};

use crate::clock::Instant;

/// The places. Clones are the same ones.
#[derive(Clone)]
pub struct Places {
    free: Arc<Semaphore>,
    all: usize,
    /// Whether calls wait for each other.
    waits: bool,
    /// Cancelled when calls that are still in flight are to end: another version has the slot, and their time to drain is over.
    retired: CancellationToken,
}

impl Places {
    pub(super) fn new(all: usize, waits: bool) -> Self {
        Self { free: Arc::new(Semaphore::new(all)), all, waits, retired: CancellationToken::new() }
    }

    /// A place, if one is free.
    pub(super) fn try_take(&self) -> Option<OwnedSemaphorePermit> {
        self.free.clone().try_acquire_owned().ok()
    }

    /// The next place, where calls wait for each other; none elsewhere, when it does not come in time, and when another version has the slot.
    pub(super) async fn wait(&self, deadline: Instant) -> Option<OwnedSemaphorePermit> {
        if !self.waits {
            return None;
        }
        tokio::time::timeout_at(deadline, self.free.clone().acquire_owned()).await.ok()?.ok()
    }

    /// Whether calls wait for each other: there is one instance.
    pub(super) fn is_single(&self) -> bool {
        self.waits
    }

    /// Calls that are in flight.
    pub fn in_flight(&self) -> usize {
        self.all.saturating_sub(self.free.available_permits())
    }

    /// Sends those who wait for a place to the version that has the slot now; those who have one go on. Only where calls wait for
    /// each other: elsewhere nobody waits.
    pub fn close(&self) {
        if self.waits {
            self.free.close();
        }
    }

    /// Whether a call that was `busy` here is to go to the version that has the slot now.
    pub fn is_closed(&self) -> bool {
        self.free.is_closed()
    }

    /// Ends the calls that are in flight: their time to drain is over.
    pub fn retire(&self) {
        self.retired.cancel();
    }

    /// Comes when the calls in flight are to end.
    pub(super) fn retired(&self) -> WaitForCancellationFuture<'_> {
        self.retired.cancelled()
    }
}
