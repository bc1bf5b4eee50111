//! The actor that owns a policy: one thread, one queue, one instance.
//!
//! Events are handled one at a time in the order of the queue. A question ([`Slot::ask`]) takes the instance between two
//! events, on the thread of whoever asks, so that an uncontended call needs no hop. An instance that traps is gone; the
//! next one starts after a pause from the last saved state, is told all facts again, and its channels are reset.

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use serde::Serialize;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc, oneshot};

use super::machine::{Machine, Program};
use super::types::{BaseEffect, BaseEvent, Message, Setup, State};
use super::{Fact, FactKey, Kind};
use crate::clock::{self, Instant};
use crate::decisions::backoff::Backoff;
use crate::log::Level;
use crate::words::{Code, Fault, Outcome};

/// Events that wait for a policy.
const QUEUE_EVENTS: usize = 1_024;
/// Bytes of messages that wait for a policy.
const QUEUE_BYTES: usize = 4 << 20;
/// How long a full queue may hold up a channel before the channel is reset.
pub const QUEUE_PATIENCE: Duration = Duration::from_secs(5);
/// Answers to effects that wait to be handed to the policy.
const ANSWERS: usize = 8_192;
/// Timers of one policy.
const TIMERS: usize = 64;
/// Largest message. Leaves room for framing within 64 KiB.
pub const MESSAGE_MAX: usize = 60 << 10;
/// State is saved this often when anything happened.
const SAVE_EVERY: Duration = Duration::from_secs(60);
/// Pauses before a policy that failed is started again; they never end for good.
const RESTART: Backoff = Backoff::new(Duration::from_millis(100), Duration::from_secs(30));
/// After running this long without failure the pauses start over.
const HEALTHY: Duration = Duration::from_secs(60);

/// What the node does for a slot. One implementation per kind.
pub trait Carry<K: Kind>: Send + 'static {
    /// Setup of an instance that starts now.
    fn setup(&mut self, handover: Option<State>) -> Setup;
    /// Carries out an effect of the kind's own; returns events that answer it at once.
    fn effect(&mut self, effect: K::Effect) -> Vec<K::Event>;
    /// Sends to the same slot of a peer.
    fn send(&mut self, message: Message);
    /// The instance is new and knows nothing of what its channels carried.
    fn reset_channels(&mut self);
    /// Makes a state durable.
    fn keep(&mut self, state: &State);
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

enum Input<K: Kind> {
    Event(K::Event),
    Message(Message, OwnedSemaphorePermit),
    /// Somebody who asked a question saw the instance trap.
    Failed(Fault),
    Swap(Box<(Program, Box<dyn Carry<K>>)>, oneshot::Sender<Outcome<()>>),
    Stop(oneshot::Sender<()>),
}

/// The seat of the instance: taken for one call at a time.
struct Seat<K: Kind> {
    machine: Mutex<Option<Machine<K>>>,
    health: Mutex<Health>,
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
    pub fn start(program: Program, mut carry: Box<dyn Carry<K>>, state: Option<State>) -> Outcome<Self> {
        let (machine, effects) = first_start(&program, &mut *carry, state.clone())?;
        let (inputs, receiver) = mpsc::channel(QUEUE_EVENTS);
        let health = Health { running: true, ..Health::default() };
        let seat = Arc::new(Seat { machine: Mutex::new(Some(machine)), health: Mutex::new(health) });
        let mut actor = Actor {
            program,
            carry,
            seat: seat.clone(),
            facts: BTreeMap::new(),
            timers: BTreeMap::new(),
            answers: VecDeque::new(),
            state,
            changed: false,
            backoff: RESTART,
            started: clock::monotonic(),
            restart_at: None,
        };
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_time()
            .build()
            .map_err(|error| Fault::io("cannot start a policy thread", &error))?;
        std::thread::Builder::new()
            .name(format!("policy {}", K::NAME))
            .spawn(move || {
                actor.carry_out(effects);
                runtime.block_on(actor.run(receiver));
            })
            .map_err(|error| Fault::io("cannot start a policy thread", &error))?;
        Ok(Self { inputs, bytes: Arc::new(Semaphore::new(QUEUE_BYTES)), seat })
    }

    /// Queues an event; waits at most [`QUEUE_PATIENCE`] for room.
    pub async fn tell(&self, event: K::Event) -> Outcome<()> {
        self.queue(Input::Event(event)).await
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
            let _ = self.inputs.try_send(Input::Failed(fault.clone()));
        }
        answer
    }

    /// Puts another component in the place of this one, with the state of the old. On an error the old one goes on.
    pub async fn swap(&self, program: Program, carry: Box<dyn Carry<K>>) -> Outcome<()> {
        let (sender, receiver) = oneshot::channel();
        self.queue(Input::Swap(Box::new((program, carry)), sender)).await?;
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

/// Starts with the kept state; a component that cannot read it starts fresh.
fn first_start<K: Kind>(
    program: &Program,
    carry: &mut dyn Carry<K>,
    state: Option<State>,
) -> Outcome<(Machine<K>, Vec<K::Effect>)> {
    if state.is_some() {
        match Machine::start(program, &carry.setup(state)) {
            Ok(started) => return Ok(started),
            Err(fault) => carry.log(Level::Warn, &format!("started without its state: {fault}")),
        }
    }
    Machine::start(program, &carry.setup(None))
}

/// The thread's own state.
struct Actor<K: Kind> {
    program: Program,
    carry: Box<dyn Carry<K>>,
    seat: Arc<Seat<K>>,
    facts: BTreeMap<FactKey, K::Event>,
    timers: BTreeMap<u64, Instant>,
    answers: VecDeque<K::Event>,
    state: Option<State>,
    changed: bool,
    backoff: Backoff,
    started: Instant,
    restart_at: Option<Instant>,
}

impl<K: Kind> Actor<K> {
    async fn run(mut self, mut inputs: mpsc::Receiver<Input<K>>) {
        let mut save = tokio::time::interval(SAVE_EVERY);
        loop {
            let timer = self.timers.iter().min_by_key(|(_, at)| **at).map(|(id, at)| (*id, *at));
            let restart_at = self.restart_at;
            tokio::select! {
                biased;
                () = sleep_until(restart_at) => self.restart(),
                () = sleep_until(timer.map(|(_, at)| at)) => {
                    if let Some((id, _)) = timer {
                        self.timers.remove(&id);
                        self.handle(&K::base_event(BaseEvent::Timer(id)));
                    }
                }
                input = inputs.recv() => match input {
                    Some(Input::Event(event)) => self.handle(&event),
                    Some(Input::Message(message, _room)) => {
                        self.handle(&K::base_event(BaseEvent::Message(message)));
                    }
                    Some(Input::Failed(fault)) => self.failed(fault),
                    Some(Input::Swap(with, done)) => {
                        let (program, carry) = *with;
                        let _ = done.send(self.swap(program, carry));
                    }
                    Some(Input::Stop(done)) => {
                        self.save();
                        let _ = done.send(());
                        return;
                    }
                    None => return self.save(),
                },
                // After the queue, so that a policy which answers each answer with a question can still be stopped.
                () = std::future::ready(()), if !self.answers.is_empty() => {
                    if let Some(answer) = self.answers.pop_front() {
                        self.handle(&answer);
                    }
                }
                _ = save.tick() => self.save(),
            }
        }
    }

    fn handle(&mut self, event: &K::Event) {
        match K::fact(event) {
            Fact::Holds(key) => drop(self.facts.insert(key, event.clone())),
            Fact::Ended(key) => drop(self.facts.remove(&key)),
            Fact::None => {}
        }
        let outcome = {
            let mut seat = self.seat.machine.lock().unwrap_or_else(PoisonError::into_inner);
            // While there is no instance only facts matter: its channels are reset when the next one starts.
            let Some(machine) = seat.as_mut() else { return };
            let outcome = machine.handle(clock::now_ms(), event);
            let fuel = machine.fuel_used();
            if outcome.is_err() {
                seat.take();
            }
            outcome.map(|effects| (effects, fuel))
        };
        match outcome {
            Ok((effects, fuel)) => {
                self.changed = true;
                self.health(|health| {
                    health.events += 1;
                    health.last_fuel = fuel;
                });
                self.carry_out(effects);
            }
            Err(fault) => self.failed(fault),
        }
    }

    fn carry_out(&mut self, effects: Vec<K::Effect>) {
        for effect in effects {
            match K::base_effect(effect) {
                Ok(BaseEffect::SetTimer(timer)) => {
                    self.timers.insert(timer.id, clock::deadline_in(timer.after));
                    if self.timers.len() > TIMERS {
                        return self.lied(format!("set more than {TIMERS} timers"));
                    }
                }
                Ok(BaseEffect::CancelTimer(id)) => drop(self.timers.remove(&id)),
                Ok(BaseEffect::Send(message)) if message.bytes.len() > MESSAGE_MAX => {
                    return self.lied(format!(
                        "sent a message of {} bytes; the limit is {MESSAGE_MAX}",
                        message.bytes.len()
                    ));
                }
                Ok(BaseEffect::Send(message)) => self.carry.send(message),
                Ok(BaseEffect::Log(entry)) => self.carry.log(level(entry.level), &entry.text),
                Err(effect) => {
                    self.answers.extend(self.carry.effect(effect));
                    if self.answers.len() > ANSWERS {
                        return self.lied(format!("asked for more than {ANSWERS} things at once"));
                    }
                }
            }
        }
    }

    /// Ends an instance that returned something it may not.
    fn lied(&mut self, what: String) {
        self.seat.machine.lock().unwrap_or_else(PoisonError::into_inner).take();
        self.failed(Fault::new(Code::Protocol, format!("{} {what}", self.program.slot)));
    }

    fn failed(&mut self, fault: Fault) {
        if self.started.elapsed() >= HEALTHY {
            self.backoff.reset();
        }
        let mut random = [0_u8; 8];
        let _ = getrandom::fill(&mut random);
        let pause = self.backoff.next(u64::from_le_bytes(random));
        self.carry.log(Level::Error, &format!("{fault}; starts again in {} ms", pause.as_millis()));
        self.timers.clear();
        self.answers.clear();
        self.restart_at = Some(clock::monotonic() + pause);
        self.health(|health| {
            health.running = false;
            health.restarts += 1;
            health.last_fault = Some(fault);
        });
    }

    fn restart(&mut self) {
        self.restart_at = None;
        match first_start(&self.program, &mut *self.carry, self.state.clone()) {
            Ok((machine, effects)) => self.seat_new(machine, effects),
            Err(fault) => self.failed(fault),
        }
    }

    fn swap(&mut self, program: Program, mut carry: Box<dyn Carry<K>>) -> Outcome<()> {
        self.save();
        let (machine, effects) = first_start(&program, &mut *carry, self.state.clone())?;
        self.program = program;
        self.carry = carry;
        self.timers.clear();
        self.restart_at = None;
        self.backoff.reset();
        self.seat_new(machine, effects);
        Ok(())
    }

    /// Gives the seat to a new instance and tells it all facts.
    fn seat_new(&mut self, machine: Machine<K>, effects: Vec<K::Effect>) {
        *self.seat.machine.lock().unwrap_or_else(PoisonError::into_inner) = Some(machine);
        self.started = clock::monotonic();
        self.health(|health| health.running = true);
        self.carry.reset_channels();
        self.carry_out(effects);
        for event in self.facts.values().cloned().collect::<Vec<_>>() {
            self.handle(&event);
        }
    }

    fn save(&mut self) {
        if !self.changed {
            return;
        }
        let saved = {
            let mut seat = self.seat.machine.lock().unwrap_or_else(PoisonError::into_inner);
            let Some(machine) = seat.as_mut() else { return };
            let saved = machine.save();
            if saved.is_err() {
                seat.take();
            }
            saved
        };
        match saved {
            Ok(state) => {
                self.changed = false;
                if self.state.as_ref() != Some(&state) {
                    self.carry.keep(&state);
                    self.state = Some(state);
                }
            }
            Err(fault) => self.failed(fault),
        }
    }

    fn health(&self, change: impl FnOnce(&mut Health)) {
        change(&mut self.seat.health.lock().unwrap_or_else(PoisonError::into_inner));
    }
}

fn level(level: super::types::Level) -> Level {
    match level {
        super::types::Level::Trace => Level::Trace,
        super::types::Level::Debug => Level::Debug,
        super::types::Level::Info => Level::Info,
        super::types::Level::Warn => Level::Warn,
        super::types::Level::Error => Level::Error,
    }
}

async fn sleep_until(at: Option<Instant>) {
    match at {
        Some(at) => tokio::time::sleep_until(at).await,
        None => std::future::pending().await,
    }
}
