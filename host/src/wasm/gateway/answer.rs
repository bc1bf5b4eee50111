//! The body of an answer on its way out of a guest.

use std::collections::VecDeque;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll, Waker};

use bytes::{Buf, Bytes};
use hyper::body::{Body, Frame, SizeHint};
use tokio_util::task::AbortOnDropHandle;
use wasmtime_wasi_http::{Error, WasiBody};

use super::Gateway;
use crate::log::Level;

/// What a guest gives for a body, shared by who sends it and who runs the guest.
pub(super) struct Outflow(Mutex<State>);

struct State {
    body: WasiBody,
    /// What was in it when the guest was over.
    rest: VecDeque<Frame<Bytes>>,
    guest: Over,
    /// Who waits for more of it.
    sender: Option<Waker>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Over {
    /// The guest goes on.
    No,
    /// It ended, and the body with it or before.
    Whole,
    /// It ended in the middle of the body.
    Broken,
}

impl Outflow {
    pub(super) fn new(body: WasiBody) -> Arc<Self> {
        let state = State { body, rest: VecDeque::new(), guest: Over::No, sender: None };
        Arc::new(Self(Mutex::new(state)))
    }

    fn with<T>(&self, change: impl FnOnce(&mut State) -> T) -> T {
        change(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// The guest has ended well, so nothing more comes than there is. Answers whether that is a whole body: if not, whoever runs in
    /// the same instance next could go on with it.
    pub(super) fn guest_is_over(&self) -> bool {
        self.with(|state| {
            let mut cx = Context::from_waker(Waker::noop());
            state.guest = loop {
                match Pin::new(&mut state.body).poll_frame(&mut cx) {
                    Poll::Ready(Some(Ok(frame))) => state.rest.push_back(frame),
                    Poll::Ready(None) => break Over::Whole,
                    Poll::Ready(Some(Err(_))) | Poll::Pending => break Over::Broken,
                }
            };
            if let Some(sender) = state.sender.take() {
                sender.wake();
            }
            state.guest == Over::Whole
        })
    }

    /// The guest was ended. Said before its store goes, which ends the body as if it were whole.
    pub(super) fn guest_broke_down(&self) {
        self.with(|state| {
            state.guest = Over::Broken;
            if let Some(sender) = state.sender.take() {
                sender.wake();
            }
        });
    }

    fn poll_frame(&self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Error>>> {
        self.with(|state| match (state.rest.pop_front(), state.guest) {
            (Some(frame), _) => Poll::Ready(Some(Ok(frame))),
            (None, Over::Whole) => Poll::Ready(None),
            (None, Over::Broken) => Poll::Ready(Some(Err(Error::HttpResponseIncomplete))),
            (None, Over::No) => {
                let frame = Pin::new(&mut state.body).poll_frame(cx);
                if frame.is_pending() {
                    state.sender = Some(cx.waker().clone());
                }
                frame
            }
        })
    }

    fn is_end(&self) -> bool {
        self.with(|state| match state.guest {
            Over::No => state.body.is_end_stream(),
            Over::Whole => state.rest.is_empty(),
            Over::Broken => false,
        })
    }

    /// Exact once the guest is over, so that a short answer needs no chunks.
    fn size_hint(&self) -> SizeHint {
        self.with(|state| match state.guest {
            Over::Whole if state.rest.iter().all(Frame::is_data) => {
                let length =
                    |frame: &Frame<Bytes>| frame.data_ref().map_or(0, |data| data.remaining() as u64);
                SizeHint::with_exact(state.rest.iter().map(length).sum())
            }
            _ => state.body.size_hint(),
        })
    }
}

/// The body of an answer, which holds the guest that makes it.
pub(super) struct Answer {
    pub(super) outflow: Arc<Outflow>,
    /// Bytes that it may still have.
    pub(super) left: u64,
    /// Bytes that are still to come, where the head says how many.
    pub(super) length: Option<u64>,
    pub(super) ended: bool,
    /// The guest, while it goes on.
    pub(super) task: Option<AbortOnDropHandle<()>>,
    pub(super) gateway: Arc<Gateway>,
}

impl Body for Answer {
    type Data = Bytes;
    type Error = Error;

    fn poll_frame(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Error>>> {
        let this = self.get_mut();
        let frame = std::task::ready!(this.outflow.poll_frame(cx));
        match &frame {
            None => this.ended = true,
            Some(Ok(frame)) => {
                let bytes = frame.data_ref().map_or(0, |data| data.remaining() as u64);
                let Some(left) = this.left.checked_sub(bytes) else {
                    let plugin = this.gateway.plugin();
                    let what =
                        format!("an answer was cut off at limits.host-bytes = {}", plugin.limits.host_bytes);
                    plugin.log.plugin(&plugin.slot, Level::Error, &what);
                    this.task = None;
                    return Poll::Ready(Some(Err(Error::HttpResponseBodySize(None))));
                };
                this.left = left;
                this.length = this.length.map(|length| length.saturating_sub(bytes));
                this.ended = this.length == Some(0) || this.outflow.is_end();
            }
            Some(Err(_)) => {}
        }
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        self.outflow.is_end()
    }

    fn size_hint(&self) -> SizeHint {
        self.outflow.size_hint()
    }
}

impl Drop for Answer {
    fn drop(&mut self) {
        if self.ended {
            // The client has everything; what the guest does after it goes on, until its deadline at the latest.
            let _ = self.task.take().map(AbortOnDropHandle::detach);
        }
    }
}
