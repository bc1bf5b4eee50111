//! The actor that owns a policy: one thread, one queue, one instance.
//!
//! Events are handled one at a time in the order of the queue. A question ([`Slot::ask`]) takes the instance between two
//! events, on the thread of whoever asks, so that an uncontended call needs no hop. An instance that traps is gone; the
//! next one starts after a pause from the last saved state, is told all facts again, and its channels are reset.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use serde::Serialize;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc, oneshot};

use super::Kind;
use super::actor::Actor;
use super::machine::{Machine, Program};
use super::recorder::Recorder;
use super::succession::{Basis, Ready};
use super::types::{Message, Setup, State};
use crate::log::Level;
use crate::words::objects::Handover;
use crate::words::{Code, Fault, Outcome};

/// Events that wait for a policy.
const QUEUE_EVENTS: usize = 1_024;
/// Bytes of messages that wait for a policy.
const QUEUE_BYTES: usize = 4 << 20;
/// How long a full queue may hold up a channel before the channel is reset.
pub const QUEUE_PATIENCE: Duration = Duration::from_secs(5);
/// Largest message. Leaves room for framing within 64 KiB.
pub const MESSAGE_MAX: usize = 60 << 10;
/// Answers to effects that wait to be handed to a policy, where its kind says nothing else.
const ANSWERS: usize = 8_192;

/// What the node does for a slot. One implementation per kind.
pub trait Carry<K: Kind>: Send + 'static {
    /// Setup of an instance that starts now.
    fn setup(&mut self, handover: Option<State>) -> Setup;
    /// Carries out an effect of the kind's own; returns events that answer it at once.
    fn effect(&mut self, effect: K::Effect) -> Vec<K::Event>;
    /// Makes durable, all or nothing, what these effects of one call say, before any of them is carried out. An error ends the
    /// instance, and none of them is.
    fn persist(&mut self, _effects: &[K::Effect]) -> Outcome<()> {
        Ok(())
    }
    /// What a new instance is told before everything else: an event at each call, until there is none.
    /// An error ends the instance.
    fn opening(&mut self) -> Outcome<Option<K::Event>> {
        Ok(None)
    }
    /// An event came while there was no instance, and nobody heard it.
    fn unheard(&mut self, _event: &K::Event) {}
    /// The instance has ended by a fault; what it had not answered it will not answer.
    fn ended(&mut self, _fault: &Fault) {}
    /// Answers that may wait for the policy; more end the instance.
    fn answers_most(&self) -> usize {
        ANSWERS
    }
    /// Sends to the same slot of a peer.
    fn send(&mut self, message: Message);
    /// The instance is new and knows nothing of what its channels carried.
    fn reset_channels(&mut self);
    /// Makes a state durable.
    fn keep(&mut self, state: &State);
    /// An instance was ended, and another one is to take its place.
    fn failed(&mut self, fault: &Fault);
    /// Writes to the log.
    fn log(&mut self, level: Level, text: &str);
}

/// How a slot is doing.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct Health {
    /// Whether an instance is running.
    pub running: bool,
    /// Instances that were ended since the slot started.
    pub restarts: u64,
    /// Events handled.
    pub events: u64,
    /// Fuel of the last event.
    pub last_fuel: u64,
    /// Why the last instance ended.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub last_fault: Option<Fault>,
}

/// What waits for the actor.
pub(super) enum Input<K: Kind> {
    Event(K::Event),
    Message(Message, OwnedSemaphorePermit),
    /// Somebody who asked a question saw the instance trap, and left the fault at the seat.
    Failed,
    /// Somebody wants to know that all before it was handled.
    Reached(oneshot::Sender<()>),
    Succeed(Answer<K>),
    Record(Box<(Recorder, Box<dyn Carry<K>>)>, oneshot::Sender<Outcome<()>>),
    Stop(oneshot::Sender<()>),
}

/// A version that is to take a slot from the one that has it.
pub struct Successor<K: Kind> {
    /// Its program.
    pub program: Program,
    /// What the node does for it.
    pub carry: Box<dyn Carry<K>>,
    /// What it starts from.
    pub heritage: Heritage,
}

/// What a version that takes a slot starts from.
#[derive(Clone, Debug)]
pub enum Heritage {
    /// What the instance before it knows, by the manifest's rule.
    Handover(Handover),
    /// What it saved last when it had the slot itself: it comes back because the one before it is no good.
    Own(Option<State>),
}

/// Who brings a successor: hears what it starts from, while the actor waits for it.
pub(super) type Answer<K> = oneshot::Sender<Basis<K>>;

/// What became of a slot that was taken.
pub struct Handed {
    /// Whether the new instance started from a state.
    pub state: bool,
    /// Events that waited meanwhile and are for the new instance.
    pub events: usize,
    /// The instance that had the slot. Whoever drops it takes its memory away from the process, which stops all threads for a moment.
    pub old: Option<Box<dyn Send>>,
}

/// The seat of the instance: taken for one call at a time.
pub(super) struct Seat<K: Kind> {
    pub(super) machine: Mutex<Option<Machine<K>>>,
    pub(super) health: Mutex<Health>,
    /// Why a question ended the instance, until the actor looks.
    pub(super) fault: Mutex<Option<Fault>>,
}

/// Handle of the actor.
pub struct Slot<K: Kind> {
    inputs: mpsc::Sender<Input<K>>,
    bytes: Arc<Semaphore>,
    seat: Arc<Seat<K>>,
}

impl<K: Kind> Clone for Slot<K> {
    fn clone(&self) -> Self {
        Self { inputs: self.inputs.clone(), bytes: self.bytes.clone(), seat: self.seat.clone() }
    }
}

impl<K: Kind> Slot<K> {
    /// Starts the actor. A first instance that refuses to start is an error; later ones are tried again.
    pub fn start(program: Program, carry: Box<dyn Carry<K>>, state: Option<State>) -> Outcome<Self> {
        let seat =
            Arc::new(Seat { machine: Mutex::new(None), health: Mutex::default(), fault: Mutex::default() });
        let (actor, effects) = Actor::start(program, carry, state, seat.clone())?;
        let (inputs, receiver) = mpsc::channel(QUEUE_EVENTS);
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_time()
            .build()
            .map_err(|error| Fault::io("cannot start a policy thread", &error))?;
        std::thread::Builder::new()
            .name(format!("policy {}", K::NAME))
            .spawn(move || runtime.block_on(actor.run(effects, receiver)))
            .map_err(|error| Fault::io("cannot start a policy thread", &error))?;
        Ok(Self { inputs, bytes: Arc::new(Semaphore::new(QUEUE_BYTES)), seat })
    }

    /// Whether both are one: it has been told what the other was told.
    pub fn is(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.seat, &other.seat)
    }

    /// Queues an event; waits at most [`QUEUE_PATIENCE`] for room.
    pub async fn tell(&self, event: K::Event) -> Outcome<()> {
        self.queue(Input::Event(event)).await
    }

    /// Returns when all that was queued before has been handled, or after [`QUEUE_PATIENCE`].
    pub async fn reached(&self) {
        let (sender, receiver) = oneshot::channel();
        if self.queue(Input::Reached(sender)).await.is_ok() {
            let _ = tokio::time::timeout(QUEUE_PATIENCE, receiver).await;
        }
    }

    /// Queues an event that may be lost when the queue is full.
    pub fn try_tell(&self, event: K::Event) {
        let _ = self.inputs.try_send(Input::Event(event));
    }

    /// Queues a message from a peer. While there is no room the caller does not read on, and QUIC pushes back.
    pub async fn deliver(&self, message: Message) -> Outcome<()> {
        let size = u32::try_from(message.bytes.len()).unwrap_or(u32::MAX);
        let permit = tokio::time::timeout(QUEUE_PATIENCE, self.bytes.clone().acquire_many_owned(size));
        match permit.await {
            Ok(Ok(permit)) => self.queue(Input::Message(message, permit)).await,
            _ => Err(full()),
        }
    }

    /// Takes the instance for a question. While there is none, the fault says so.
    pub fn ask<R>(&self, question: impl FnOnce(&mut Machine<K>) -> Outcome<R>) -> Outcome<R> {
        let mut seat = self.seat.machine.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(machine) = seat.as_mut() else {
            return Err(Fault::new(Code::Busy, format!("the {} policy is being restarted", K::NAME)));
        };
        let answer = question(machine);
        if let Err(fault) = &answer {
            // What a trap leaves behind is not to be used again.
            seat.take();
            *self.seat.fault.lock().unwrap_or_else(PoisonError::into_inner) = Some(fault.clone());
            // Only wakes the actor: when the queue is full it is about to look anyway.
            let _ = self.inputs.try_send(Input::Failed);
        }
        answer
    }

    /// Starts another version here, beside the instance that has the slot, which goes on answering questions until [`Ready::go`];
    /// events wait from now on. On an error everything is as it was.
    ///
    /// # Errors
    /// What the new version's start says: `init-failed`, `trap` and the limits; `busy` when the slot does not get to it.
    pub async fn succeed(&self, successor: Successor<K>) -> Outcome<Ready> {
        let (sender, receiver) = oneshot::channel();
        self.queue(Input::Succeed(sender)).await?;
        let basis = receiver.await.map_err(|_| gone::<K>())?;
        successor.start(basis)
    }

    /// Puts a fresh instance of the same component in the place of this one, with its state, and records all its calls. On an error
    /// the old one goes on.
    pub async fn record(&self, recorder: Recorder, carry: Box<dyn Carry<K>>) -> Outcome<()> {
        let (sender, receiver) = oneshot::channel();
        self.queue(Input::Record(Box::new((recorder, carry)), sender)).await?;
        receiver.await.unwrap_or_else(|_| Err(gone::<K>()))
    }

    /// Saves the state and ends the actor.
    pub async fn stop(&self) {
        let (sender, receiver) = oneshot::channel();
        if self.queue(Input::Stop(sender)).await.is_ok() {
            let _ = receiver.await;
        }
    }

    /// How it is doing.
    pub fn health(&self) -> Health {
        self.seat.health.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    async fn queue(&self, input: Input<K>) -> Outcome<()> {
        match tokio::time::timeout(QUEUE_PATIENCE, self.inputs.send(input)).await {
            Ok(Ok(())) => Ok(()),
            Ok(Err(_)) => Err(gone::<K>()),
            Err(_) => Err(full()),
        }
    }
}

fn full() -> Fault {
    Fault::new(
        Code::Busy,
        format!("the queue of the policy has been full for {} s", QUEUE_PATIENCE.as_secs()),
    )
}

fn gone<K: Kind>() -> Fault {
    Fault::new(Code::Busy, format!("the {} slot has stopped", K::NAME))
}
