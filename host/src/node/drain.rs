//! What becomes of the calls that were in flight when their plugin was replaced: they go on, and are counted until the last one is over.

use std::sync::Arc;
use std::time::Duration;

use super::Node;
use super::changes::change;
use super::generation::{Generation, Installed, Runs};
use crate::clock::{self, Instant};
use crate::log::Level;
use crate::wasm::places::Places;
use crate::words::control::Applied;
use crate::words::count::count;
use crate::words::event::{Happened, Receipt};
use crate::words::objects::Plugin;

/// How often calls in flight are counted, at first and later on. Nobody waits for it but the receipt.
const LOOK: (Duration, Duration) = (Duration::from_millis(1), Duration::from_millis(100));
/// After calls are told to end, they have this long to do so before they are not waited for any more.
const END: Duration = Duration::from_secs(5);

/// A workload that has lost its slot.
pub(super) struct Retired {
    slot: String,
    drain_ms: u64,
    pub(super) places: Places,
}

impl Retired {
    /// None for a policy.
    pub(super) fn new(installed: &Installed) -> Option<Self> {
        let places = match &installed.runs {
            Runs::Skill(workload) => workload.places(),
            Runs::Gateway(gateway) => gateway.places(),
            Runs::Policy(_) => return None,
        };
        let Plugin { slot, drain_ms, .. } = &installed.entry;
        Some(Self { slot: slot.clone(), drain_ms: *drain_ms, places: places.clone() })
    }

    /// Waits until nothing is in flight; what still is at the end of its time is ended. Returns how many that were.
    async fn drained(&self, began: Instant) -> u64 {
        if self.wait(began + Duration::from_millis(self.drain_ms)).await {
            return 0;
        }
        let forced = self.places.in_flight() as u64;
        self.places.retire();
        self.wait(clock::monotonic() + END).await;
        forced
    }

    /// Whether nothing is in flight any more at this time.
    async fn wait(&self, until: Instant) -> bool {
        let mut pause = LOOK.0;
        while self.places.in_flight() > 0 {
            if clock::monotonic() >= until {
                return false;
            }
            tokio::time::sleep_until(until.min(clock::monotonic() + pause)).await;
            pause = (pause * 2).min(LOOK.1);
        }
        true
    }
}

/// Watches over what was in flight and, when it is over, writes the receipt and lets go of the old generation.
pub(super) fn begin(node: &Node, old: Arc<Generation>, retired: Vec<Retired>, applied: Applied) {
    let watcher = node.clone();
    node.background.spawn(async move {
        let began = clock::monotonic();
        let forced: u64 = futures::future::join_all(retired.iter().map(|one| async {
            let forced = one.drained(began).await;
            if forced > 0 {
                let text = format!(
                    "{}: {} did not end in time and were ended",
                    one.slot,
                    count(forced as usize, "call")
                );
                watcher.log.host(Level::Warn, &text);
            }
            forced
        }))
        .await
        .into_iter()
        .sum();
        let took_ms = u64::try_from(began.elapsed().as_millis()).unwrap_or(u64::MAX);
        watcher.journal.record(Happened::Receipt(Receipt::new(&applied, forced, took_ms)));
        // Not on the way of a call, nor on a thread that answers some: taking memory away from a process stops all of its threads for a
        // moment.
        let dropped = change(&watcher, |_| async move {
            drop((retired, old));
            Ok(())
        });
        let _ = dropped.await;
    });
}
