//! Bodies on their way in and out, each with a bound on its bytes and a sign of how it ended.

use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::{Buf, Bytes};
use hyper::body::{Body, Frame, Incoming, SizeHint};
use tokio::time::Sleep;
use wasmtime_wasi_http::{Error, WasiBody};

use super::watch::{Flight, Watch};
use crate::clock;
use crate::decisions::http::Refusal;

/// Bytes that a body brings at least in the time that [`super::Limits::body`] gives it.
const PROGRESS: u64 = 1 << 10;

/// The body of a request. Refuses itself when it grows too large or comes too slowly.
pub struct Inbound {
    inner: Incoming,
    watch: Watch,
    /// Bytes that it may still bring.
    left: u64,
    /// How long it may be waited for without progress.
    window: Duration,
    /// Runs while it is waited for.
    timer: Option<Pin<Box<Sleep>>>,
    /// Bytes since the last progress.
    fresh: u64,
    ended: bool,
}

impl Inbound {
    pub(super) fn new(inner: Incoming, watch: Watch, window: Duration) -> Self {
        Self { inner, watch, left: u64::MAX, window, timer: None, fresh: 0, ended: false }
    }

    /// Sets how many bytes it may bring.
    ///
    /// # Errors
    /// 413 when it has announced more.
    pub fn limit(&mut self, bytes: u64) -> Result<(), Refusal> {
        self.left = bytes;
        if self.inner.size_hint().lower() > bytes { Err(Refusal::BODY) } else { Ok(()) }
    }

    fn refuse(&mut self, refusal: Refusal, error: Error) -> Poll<Option<Result<Frame<Bytes>, Error>>> {
        self.ended = true;
        self.watch.fail(refusal);
        Poll::Ready(Some(Err(error)))
    }

    /// What is left of the window, kept while nothing is waited for.
    fn progress(&mut self, bytes: u64) {
        self.fresh = self.fresh.saturating_add(bytes);
        if self.fresh >= PROGRESS {
            self.fresh = 0;
            self.timer = None;
        }
    }
}

impl Body for Inbound {
    type Data = Bytes;
    type Error = Error;

    fn poll_frame(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Error>>> {
        let this = self.get_mut();
        if this.ended {
            return Poll::Ready(None);
        }
        match Pin::new(&mut this.inner).poll_frame(cx) {
            Poll::Ready(Some(Ok(frame))) => {
                let bytes = frame.data_ref().map_or(0, |data| data.remaining() as u64);
                if bytes > this.left {
                    return this.refuse(Refusal::BODY, Error::HttpRequestBodySize(None));
                }
                this.left -= bytes;
                this.progress(bytes);
                Poll::Ready(Some(Ok(frame)))
            }
            Poll::Ready(Some(Err(error))) => {
                this.refuse(Refusal::bad("the body broke off"), Error::Hyper(error))
            }
            Poll::Ready(None) => {
                this.ended = true;
                Poll::Ready(None)
            }
            Poll::Pending => {
                let window = this.window;
                let timer = this
                    .timer
                    .get_or_insert_with(|| Box::pin(tokio::time::sleep_until(clock::monotonic() + window)));
                match timer.as_mut().poll(cx) {
                    Poll::Pending => Poll::Pending,
                    Poll::Ready(()) => {
                        this.refuse(Refusal::slow("the body comes too slowly"), Error::ConnectionReadTimeout)
                    }
                }
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        self.ended || self.inner.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.inner.size_hint()
    }
}

/// The body of an answer. The request counts as in flight until it is dropped.
pub struct Outbound {
    inner: WasiBody,
    _flight: Flight,
}

impl Outbound {
    pub(super) fn new(inner: WasiBody, flight: Flight) -> Self {
        Self { inner, _flight: flight }
    }
}

impl Body for Outbound {
    type Data = Bytes;
    type Error = Error;

    fn poll_frame(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Error>>> {
        Pin::new(&mut self.get_mut().inner).poll_frame(cx)
    }

    fn is_end_stream(&self) -> bool {
        self.inner.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.inner.size_hint()
    }
}
