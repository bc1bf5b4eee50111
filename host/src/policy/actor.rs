//! The thread that owns a policy's instance.

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, PoisonError};
use std::time::Duration;

use tokio::sync::mpsc;

use super::machine::{Machine, Program};
use super::recorder::Recorder;
use super::slot::{Carry, Health, Input, MESSAGE_MAX, Seat};
use super::types::{BaseEffect, BaseEvent, State};
use super::{Fact, FactKey, Kind};
use crate::clock::{self, Instant};
use crate::decisions::backoff::Backoff;
use crate::log::Level;
use crate::words::recording::Why;
use crate::words::{Code, Fault, Outcome};

/// Timers of one policy.
pub(super) const TIMERS: usize = 64;
/// State is saved this often when anything happened.
const SAVE_EVERY: Duration = Duration::from_secs(60);
/// Pauses before a policy that failed is started again; they never end for good.
const RESTART: Backoff = Backoff::new(Duration::from_millis(100), Duration::from_secs(30));
/// Instances in a row that may fail with the saved state before one starts without it.
const STATE_TRIES: u32 = 3;
/// After running this long without failure the pauses start over.
const HEALTHY: Duration = Duration::from_secs(60);

/// Tells an instance that has no seat yet what comes before everything else, and all facts.
pub(super) fn brief<K: Kind>(
    carry: &mut dyn Carry<K>,
    facts: &BTreeMap<FactKey, K::Event>,
    machine: &mut Machine<K>,
    turns: &mut Vec<Vec<K::Effect>>,
) -> Outcome<()> {
    while let Some(event) = carry.opening()? {
        turns.push(machine.handle(clock::now_ms(), &event)?);
    }
    for event in facts.values() {
        turns.push(machine.handle(clock::now_ms(), event)?);
    }
    Ok(())
}

/// Starts with the kept state; a component that cannot read it starts fresh. Also says whether it took it.
pub(super) fn first_start<K: Kind>(
    program: &Program,
    carry: &mut dyn Carry<K>,
    state: Option<State>,
    recorder: Option<&Recorder>,
) -> Outcome<(Machine<K>, Vec<K::Effect>, bool)> {
    if state.is_some() {
        match Machine::recorded(program, &carry.setup(state), recorder) {
            Ok((machine, effects)) => return Ok((machine, effects, true)),
            Err(fault) => carry.log(Level::Warn, &format!("started without its state: {fault}")),
        }
    }
    let (machine, effects) = Machine::recorded(program, &carry.setup(None), recorder)?;
    Ok((machine, effects, false))
}

/// The thread's own state.
pub(super) struct Actor<K: Kind> {
    pub(super) program: Program,
    pub(super) carry: Box<dyn Carry<K>>,
    seat: Arc<Seat<K>>,
    pub(super) facts: BTreeMap<FactKey, K::Event>,
    pub(super) timers: BTreeMap<u64, Instant>,
    pub(super) answers: VecDeque<K::Event>,
    /// What the instance started from, or saved since.
    pub(super) state: Option<State>,
    /// Whether the component that has the slot has saved that state itself.
    pub(super) is_own: bool,
    pub(super) changed: bool,
    pub(super) backoff: Backoff,
    started: Instant,
    pub(super) restart_at: Option<Instant>,
    pub(super) recorder: Option<Recorder>,
}

impl<K: Kind> Actor<K> {
    /// Seats a first instance; its effects are to be carried out on the actor's own thread.
    pub(super) fn start(
        program: Program,
        mut carry: Box<dyn Carry<K>>,
        state: Option<State>,
        seat: Arc<Seat<K>>,
    ) -> Outcome<(Self, Vec<K::Effect>)> {
        let (machine, effects, _) = first_start(&program, &mut *carry, state.clone(), None)?;
        *seat.machine.lock().unwrap_or_else(PoisonError::into_inner) = Some(machine);
        let actor = Self {
            program,
            carry,
            seat,
            facts: BTreeMap::new(),
            timers: BTreeMap::new(),
            answers: VecDeque::new(),
            state,
            is_own: false,
            changed: false,
            backoff: RESTART,
            started: clock::monotonic(),
            restart_at: None,
            recorder: None,
        };
        actor.health(|health| health.running = true);
        Ok((actor, effects))
    }

    /// Takes what comes until it is told to stop; begins with what the first instance wants and has to know.
    pub(super) async fn run(mut self, effects: Vec<K::Effect>, mut inputs: mpsc::Receiver<Input<K>>) {
        self.carry_out(effects);
        self.open();
        let mut save = tokio::time::interval(SAVE_EVERY);
        loop {
            let fault = self.seat.fault.lock().unwrap_or_else(PoisonError::into_inner).take();
            if let Some(fault) = fault {
                self.failed(fault);
            }
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
                    Some(Input::Failed) => {}
                    Some(Input::Reached(sender)) => {
                        let _ = sender.send(());
                    }
                    Some(Input::Succeed(answer)) => self.succeed(answer, &inputs).await,
                    Some(Input::Record(with, done)) => {
                        let (recorder, carry) = *with;
                        let _ = done.send(self.record(recorder, carry));
                    }
                    Some(Input::Stop(done)) => {
                        self.save();
                        self.stop_recording(Why::Stopped);
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
            let Some(machine) = seat.as_mut() else { return self.carry.unheard(event) };
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

    /// Checks effects and has them carried out, in order.
    pub(super) fn carry_out(&mut self, effects: Vec<K::Effect>) {
        if let Err(fault) = self.carry.persist(&effects) {
            return self.ended(fault);
        }
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
                    let most = self.carry.answers_most();
                    if self.answers.len() > most {
                        return self.lied(format!("asked for more than {most} things at once"));
                    }
                }
            }
        }
    }

    /// Ends an instance that returned something it may not.
    fn lied(&mut self, what: String) {
        self.ended(Fault::new(Code::Protocol, format!("{} {what}", self.program.slot)));
    }

    fn ended(&mut self, fault: Fault) {
        self.seat.machine.lock().unwrap_or_else(PoisonError::into_inner).take();
        self.failed(fault);
    }

    fn failed(&mut self, fault: Fault) {
        if self.started.elapsed() >= HEALTHY {
            self.backoff.reset();
        }
        let mut random = [0_u8; 8];
        let _ = getrandom::fill(&mut random);
        let pause = self.backoff.next(u64::from_le_bytes(random));
        self.carry.log(Level::Error, &format!("{fault}; starts again in {} ms", pause.as_millis()));
        self.carry.failed(&fault);
        self.carry.ended(&fault);
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
        // A state that brings every instance down is given up.
        let state = if self.backoff.failures() <= STATE_TRIES { self.state.clone() } else { None };
        match first_start(&self.program, &mut *self.carry, state, self.recorder.as_ref()) {
            Ok((machine, effects, _)) => self.seat_new(machine, effects),
            Err(fault) => self.failed(fault),
        }
    }

    /// Puts an instance into the seat; returns the one that was there.
    pub(super) fn take_seat(&mut self, machine: Machine<K>) -> Option<Machine<K>> {
        let old = {
            // What a question said of the instance before does not concern this one.
            let mut seat = self.seat.machine.lock().unwrap_or_else(PoisonError::into_inner);
            self.seat.fault.lock().unwrap_or_else(PoisonError::into_inner).take();
            seat.replace(machine)
        };
        self.started = clock::monotonic();
        self.health(|health| health.running = true);
        old
    }

    pub(super) fn stop_recording(&mut self, why: Why) {
        if let Some(recorder) = self.recorder.take() {
            recorder.end(why);
        }
    }

    /// Gives the seat, which is empty, to an instance that has started, once it knows everything that is known. What it wants is done
    /// then, in order.
    fn seat_new(&mut self, mut machine: Machine<K>, effects: Vec<K::Effect>) {
        let mut turns = vec![effects];
        if let Err(fault) = brief(&mut *self.carry, &self.facts, &mut machine, &mut turns) {
            return self.failed(fault);
        }
        drop(self.take_seat(machine));
        self.carry.reset_channels();
        self.carry_out_all(turns);
    }

    /// Carries out what several calls want; nothing more once one of them has lied.
    pub(super) fn carry_out_all(&mut self, turns: Vec<Vec<K::Effect>>) {
        self.changed = true;
        for effects in turns {
            if self.restart_at.is_none() {
                self.carry_out(effects);
            }
        }
    }

    /// Tells a new instance what comes before everything else.
    fn open(&mut self) {
        while self.restart_at.is_none() {
            match self.carry.opening() {
                Ok(Some(event)) => self.handle(&event),
                Ok(None) => return,
                Err(fault) => self.ended(fault),
            }
        }
    }

    pub(super) fn save(&mut self) {
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
                // One that was handed over is kept for the component that handed it; this one comes back to what it saved itself.
                if !self.is_own || self.state.as_ref() != Some(&state) {
                    self.carry.keep(&state);
                    self.state = Some(state);
                    self.is_own = true;
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
