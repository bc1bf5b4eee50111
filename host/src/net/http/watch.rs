//! What a connection is waiting for, and since when. Written by those who read and write, asked by the one who may end it.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::sync::Notify;

use super::Limits;
use crate::clock::{self, Instant};
use crate::decisions::http::Refusal;

/// How long a connection that is to close may take to hear why.
const CLOSING: Duration = Duration::from_secs(1);

/// The state of one connection; clones share it.
#[derive(Clone, Debug)]
pub(super) struct Watch(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    state: Mutex<State>,
    failed: Notify,
}

#[derive(Debug)]
struct State {
    reading: Reading,
    /// Since when `reading` is so, or an answer has ended.
    since: Instant,
    /// Since when a write waits.
    writing: Option<Instant>,
    /// Since when it is to close.
    closing: Option<Instant>,
    /// Requests that are being answered.
    in_flight: u32,
    /// Heads that were passed on.
    heads: u64,
    /// Requests that came out of the parser.
    requests: u64,
    /// The head that stands for one that was refused, and why.
    refused: Option<(u64, Refusal)>,
    /// Why the body that is being read is refused.
    failure: Option<Refusal>,
}

/// What the next byte belongs to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Reading {
    /// A new request.
    Between,
    /// A head that has begun.
    Head,
    /// A body.
    Body,
}

impl Watch {
    pub(super) fn new() -> Self {
        let state = State {
            reading: Reading::Between,
            since: clock::monotonic(),
            writing: None,
            closing: None,
            in_flight: 0,
            heads: 0,
            requests: 0,
            refused: None,
            failure: None,
        };
        Self(Arc::new(Shared { state: Mutex::new(state), failed: Notify::new() }))
    }

    fn with<T>(&self, change: impl FnOnce(&mut State) -> T) -> T {
        change(&mut self.0.state.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Which deadline is over, if one is.
    pub(super) fn overdue(&self, limits: &Limits) -> Option<&'static str> {
        let now = clock::monotonic();
        let over = |since: Instant, most: Duration| now.saturating_duration_since(since) >= most;
        self.with(|state| {
            if state.closing.is_some_and(|since| over(since, CLOSING)) {
                return Some("it took too long to close");
            }
            if state.writing.is_some_and(|since| over(since, limits.write())) {
                return Some("it takes nothing of its answer");
            }
            if state.in_flight > 0 {
                return None;
            }
            match state.reading {
                Reading::Head if over(state.since, limits.patience) => Some("its head does not end"),
                Reading::Between if state.requests == 0 && over(state.since, limits.patience) => {
                    Some("it asks for nothing")
                }
                Reading::Between | Reading::Body if over(state.since, limits.idle()) => Some("it is idle"),
                _ => None,
            }
        })
    }

    pub(super) fn reading(&self, reading: Reading) {
        self.with(|state| {
            if state.reading != reading {
                state.reading = reading;
                state.since = clock::monotonic();
            }
        });
    }

    pub(super) fn head_passed(&self) {
        self.with(|state| state.heads += 1);
    }

    /// The next head that is passed on stands for one that is refused.
    pub(super) fn refuse(&self, refusal: Refusal) {
        self.with(|state| state.refused = Some((state.heads + 1, refusal)));
    }

    /// A request came out of the parser; says whether it stands for one that is refused.
    pub(super) fn request(&self) -> (Option<Refusal>, Flight) {
        let refusal = self.with(|state| {
            state.in_flight += 1;
            state.requests += 1;
            state.failure = None;
            let refused = state.refused.filter(|(head, _)| *head == state.requests);
            refused.map(|(_, refusal)| refusal)
        });
        (refusal, Flight(self.clone()))
    }

    /// The body that is being read is refused, and the connection is to close.
    pub(super) fn fail(&self, refusal: Refusal) {
        self.with(|state| {
            state.failure.get_or_insert(refusal);
            state.closing.get_or_insert_with(clock::monotonic);
        });
        self.0.failed.notify_waiters();
    }

    /// Why the body that is being read is refused, if it is.
    pub(super) fn failure(&self) -> Option<Refusal> {
        self.with(|state| state.failure)
    }

    /// Waits until the body is refused.
    pub(super) async fn failed(&self) -> Refusal {
        loop {
            let notified = self.0.failed.notified();
            tokio::pin!(notified);
            // Before the look, so that nothing is missed between it and the wait.
            notified.as_mut().enable();
            if let Some(refusal) = self.with(|state| state.failure) {
                return refusal;
            }
            notified.await;
        }
    }

    pub(super) fn write_waits(&self) {
        self.with(|state| {
            state.writing.get_or_insert_with(clock::monotonic);
        });
    }

    pub(super) fn wrote(&self) {
        self.with(|state| state.writing = None);
    }

    pub(super) fn closing(&self) {
        self.with(|state| {
            state.closing.get_or_insert_with(clock::monotonic);
        });
    }
}

/// A request that is being answered, until it is dropped.
#[derive(Debug)]
pub(super) struct Flight(Watch);

impl Drop for Flight {
    fn drop(&mut self) {
        self.0.with(|state| {
            state.in_flight = state.in_flight.saturating_sub(1);
            state.since = clock::monotonic();
        });
    }
}
