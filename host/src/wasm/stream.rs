//! Streams out of a guest: item by item, with backpressure, until the reader lets go.
//!
//! A stream lives as long as its store, so the store moves into a task of its own. Between the task and the reader is a short
//! channel; when it is full, the guest's write does not complete. When the reader is dropped, so is the task, and with it the
//! store: wasmtime cannot cancel one guest task, but it can drop all of them.

use std::marker::PhantomData;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use tokio::sync::{OwnedSemaphorePermit, mpsc, oneshot};
use tokio_util::sync::PollSender;
use tokio_util::task::AbortOnDropHandle;
use wasmtime::StoreContextMut;
use wasmtime::component::{
    Accessor, ComponentType, Func, FutureAny, FutureConsumer, Lift, Source, StreamAny, StreamConsumer,
    StreamResult, Val,
};

use super::element::{Element, carry_in, with_element};
use super::guest::Guest;
use super::value;
use super::workload::{Answer, Live, Workload};
use crate::clock::Instant;
use crate::words::schema::{Answer as Shape, Function, Type};
use crate::words::{Code, Fault, Outcome};

/// Batches that wait between a guest and its reader.
const BATCHES: usize = 4;
/// Items that are taken out of one write of the guest at a time.
const BATCH_ITEMS: usize = 32;

/// What is told when a stream ends in a failure.
pub type OnFault = Box<dyn FnOnce(&Fault) + Send>;

/// The reading end of a stream.
pub struct Items {
    batches: mpsc::Receiver<Vec<u8>>,
    end: Option<oneshot::Receiver<Outcome<()>>>,
    on_fault: Option<OnFault>,
    _task: AbortOnDropHandle<()>,
}

impl Items {
    /// The same, and a failure is told as well where it is read.
    #[must_use]
    pub fn on_fault(self, on_fault: OnFault) -> Self {
        Self { on_fault: Some(on_fault), ..self }
    }

    /// The next items: a CBOR sequence (RFC 8742) of at least one. None at the end; an error is the last thing that comes.
    pub async fn next(&mut self) -> Option<Outcome<Vec<u8>>> {
        if let Some(batch) = self.batches.recv().await {
            return Some(Ok(batch));
        }
        match self.end.take()?.await {
            Ok(Ok(())) => None,
            Ok(Err(fault)) => {
                if let Some(on_fault) = self.on_fault.take() {
                    on_fault(&fault);
                }
                Some(Err(fault))
            }
            Err(_) => Some(Err(Fault::new(Code::Internal, "the stream's task is gone"))),
        }
    }
}

/// A call whose answer is a stream, ready to run.
pub(super) struct Call {
    pub(super) live: Live,
    pub(super) function: Function,
    pub(super) arguments: Vec<Val>,
    pub(super) deadline: Instant,
    pub(super) place: OwnedSemaphorePermit,
}

impl Workload {
    /// Starts the call and returns when the guest has answered: with the stream, or with its error.
    pub(super) async fn call_stream(self: &Arc<Self>, call: Call, func: Func) -> Outcome<Answer> {
        let (batch_sender, batches) = mpsc::channel(BATCHES);
        let (head_sender, head) = oneshot::channel();
        let (end_sender, end) = oneshot::channel();
        let workload = self.clone();
        let task = AbortOnDropHandle::new(tokio::spawn(async move {
            let outcome = run(&workload, call, func, batch_sender, head_sender).await;
            let _ = end_sender.send(outcome);
        }));
        match head.await {
            Ok(Ok(())) => Ok(Answer::Stream(Items { batches, end: Some(end), on_fault: None, _task: task })),
            Ok(Err(fault)) => Err(fault),
            // The guest ended before it answered; the end says why.
            Err(_) => match end.await {
                Ok(Err(fault)) => Err(fault),
                _ => Err(Fault::new(Code::Internal, "the call ended without an answer")),
            },
        }
    }
}

async fn run(
    workload: &Workload,
    call: Call,
    func: Func,
    batches: mpsc::Sender<Vec<u8>>,
    head: oneshot::Sender<Outcome<()>>,
) -> Outcome<()> {
    let Call { mut live, function, mut arguments, deadline, place } = call;
    let shape = function.answer();
    let driven = Box::pin(live.store.run_concurrent(async |accessor| {
        accessor.with(|store| carry_in(store, &function, &mut arguments))?;
        let mut results = [Val::Bool(false)];
        func.call_concurrent(accessor, &arguments, &mut results).await?;
        let [result] = results;
        let parts = match split(&shape, result) {
            Ok(parts) => parts,
            Err(fault) => {
                let _ = head.send(Err(fault));
                return Ok(Ok(()));
            }
        };
        let _ = head.send(Ok(()));
        deliver(accessor, parts, batches).await
    }));
    let error = match workload.instances.watch(driven, deadline).await.and_then(|ended| ended) {
        Ok(outcome) => return outcome,
        Err(error) => error,
    };
    let fault = workload.instances.fault(&error, &live.store, &function.name);
    drop((live, place));
    Err(fault)
}

/// The stream of an answer and what tells how it ended.
struct Parts {
    element: Type,
    stream: StreamAny,
    end: Option<(FutureAny, Option<Type>)>,
}

/// Takes a result apart; an error that came instead of a stream is the answer.
fn split(shape: &Shape, result: Val) -> Outcome<Parts> {
    let odd = || Fault::new(Code::Internal, "the result does not have the shape of its type");
    match (shape, result) {
        (Shape::Stream(element), Val::Stream(stream)) => {
            Ok(Parts { element: element.clone(), stream, end: None })
        }
        (Shape::ResultStream { element, .. }, Val::Result(Ok(Some(value)))) => match *value {
            Val::Stream(stream) => Ok(Parts { element: element.clone(), stream, end: None }),
            _ => Err(odd()),
        },
        (Shape::ResultStream { err, .. }, Val::Result(Err(value))) => {
            Err(value::application_error(err.as_ref(), value.as_deref()))
        }
        (Shape::StreamThenResult { element, err }, Val::Tuple(parts)) => {
            let mut parts = parts.into_iter();
            match (parts.next(), parts.next()) {
                (Some(Val::Stream(stream)), Some(Val::Future(future))) => {
                    Ok(Parts { element: element.clone(), stream, end: Some((future, err.clone())) })
                }
                _ => Err(odd()),
            }
        }
        _ => Err(odd()),
    }
}

/// Connects the stream to the channel and waits until the guest closes it or the reader is gone.
async fn deliver(
    accessor: &Accessor<Guest>,
    parts: Parts,
    batches: mpsc::Sender<Vec<u8>>,
) -> wasmtime::Result<Outcome<()>> {
    let Parts { element, stream, end } = parts;
    let (done, closed) = oneshot::channel();
    accessor.with(|store| with_element!(&element, pipe(store, stream, &element, batches, done)))?;
    let outcome = match end {
        None => Ok(()),
        Some((future, err)) => {
            let (sender, receiver) = oneshot::channel();
            accessor.with(|mut access| match err {
                None => future.try_into_future_reader::<Result<(), ()>>()?.pipe(
                    &mut access,
                    Last { sender: Some(sender), convert: |()| Val::Bool(false), error: PhantomData },
                ),
                Some(_) => future.try_into_future_reader::<Result<(), String>>()?.pipe(
                    &mut access,
                    Last { sender: Some(sender), convert: Val::String, error: PhantomData },
                ),
            })?;
            match receiver.await {
                Ok(Err(value)) => {
                    Err(value::application_error(err.as_ref(), err.is_some().then_some(&value)))
                }
                _ => Ok(()),
            }
        }
    };
    // The closure must outlive the consumer, or the stream is cut; the consumer tells when it is dropped.
    let _ = closed.await;
    Ok(outcome)
}

fn pipe<T: Element>(
    store: impl wasmtime::AsContextMut<Data = Guest>,
    stream: StreamAny,
    element: &Type,
    batches: mpsc::Sender<Vec<u8>>,
    done: oneshot::Sender<()>,
) -> wasmtime::Result<()> {
    let tap = Tap::<T> {
        batches: PollSender::new(batches),
        element: element.clone(),
        _done: done,
        items: PhantomData,
    };
    stream.try_into_stream_reader::<T>()?.pipe(store, tap)
}

/// Takes items out of the guest only when there is room for them.
struct Tap<T> {
    batches: PollSender<Vec<u8>>,
    element: Type,
    /// Dropped with the consumer, which is how [`deliver`] learns of it.
    _done: oneshot::Sender<()>,
    items: PhantomData<fn() -> T>,
}

impl<T: Element> StreamConsumer<Guest> for Tap<T> {
    type Item = T;

    fn poll_consume(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        store: StoreContextMut<Guest>,
        mut source: Source<'_, T>,
        finish: bool,
    ) -> Poll<wasmtime::Result<StreamResult>> {
        let this = self.get_mut();
        match this.batches.poll_reserve(cx) {
            Poll::Pending if finish => return Poll::Ready(Ok(StreamResult::Cancelled)),
            Poll::Pending => return Poll::Pending,
            Poll::Ready(Err(_)) => return Poll::Ready(Ok(StreamResult::Dropped)),
            Poll::Ready(Ok(())) => {}
        }
        let mut items: Vec<T> = Vec::with_capacity(BATCH_ITEMS);
        source.read(store, &mut items)?;
        if !items.is_empty() {
            let mut batch = Vec::with_capacity(items.len() * 8);
            for item in items {
                value::encode(&this.element, &item.into_val(), &mut batch)?;
            }
            if this.batches.send_item(batch).is_err() {
                return Poll::Ready(Ok(StreamResult::Dropped));
            }
        }
        Poll::Ready(Ok(StreamResult::Completed))
    }
}

/// Takes the one value of the future that says how a stream ended.
struct Last<E, F> {
    sender: Option<oneshot::Sender<Result<(), Val>>>,
    convert: F,
    error: PhantomData<fn() -> E>,
}

impl<E, F> FutureConsumer<Guest> for Last<E, F>
where
    E: ComponentType + Lift + Send + Sync + 'static,
    F: Fn(E) -> Val + Send + Unpin + 'static,
{
    type Item = Result<(), E>;

    fn poll_consume(
        self: Pin<&mut Self>,
        _: &mut Context<'_>,
        store: StoreContextMut<Guest>,
        mut source: Source<'_, Self::Item>,
        _: bool,
    ) -> Poll<wasmtime::Result<()>> {
        let this = self.get_mut();
        let mut value = None;
        source.read(store, &mut value)?;
        if let (Some(value), Some(sender)) = (value, this.sender.take()) {
            let _ = sender.send(value.map_err(&this.convert));
        }
        Poll::Ready(Ok(()))
    }
}
