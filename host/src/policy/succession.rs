//! How another version takes a policy's slot: it starts beside the instance that has it, from that one's state, is told all facts, and
//! only then takes the seat. Questions are answered all the time, by the one or the other; events wait and are for whoever has the
//! seat then. Until it takes the seat nothing that it wants is carried out.
//!
//! It starts on the thread of whoever brings it, which takes its time; the actor only waits.

use std::collections::BTreeMap;
use std::time::Duration;

use tokio::sync::{mpsc, oneshot};

use super::actor::{Actor, brief, first_start};
use super::machine::{Machine, Program};
use super::recorder::Recorder;
use super::slot::{Answer, Carry, Handed, Heritage, Input, Successor};
use super::types::State;
use super::{FactKey, Kind};
use crate::clock::{self, Instant};
use crate::words::objects::Handover;
use crate::words::recording::Why;
use crate::words::{Code, Fault, Outcome};

/// How long a slot waits for its new version to start and to have its turn, with all the others of the change.
const PATIENCE: Duration = Duration::from_secs(30);
/// Of it, what is left for writing to the disk when all have started.
const ROOM: Duration = Duration::from_secs(10);

/// What the instance that has a slot leaves to the one after it, for which it waits.
pub(super) struct Basis<K: Kind> {
    facts: BTreeMap<FactKey, K::Event>,
    state: Option<State>,
    next: oneshot::Sender<Next<K>>,
    go: oneshot::Sender<()>,
    done: oneshot::Receiver<Handed>,
    until: Instant,
}

/// An instance that has started and does not have the slot yet.
pub(super) struct Next<K: Kind> {
    program: Program,
    carry: Box<dyn Carry<K>>,
    machine: Machine<K>,
    /// What it wants so far, call by call.
    turns: Vec<Vec<K::Effect>>,
    /// What it started from.
    state: Option<State>,
    /// Whether the timers of the one before are its own.
    keeps_timers: bool,
}

/// A successor that has started beside the instance that has the slot, and knows everything that is known. Dropping it leaves
/// everything as it was.
pub struct Ready {
    go: oneshot::Sender<()>,
    done: oneshot::Receiver<Handed>,
    until: Instant,
}

impl Ready {
    /// Whether the slot waits for it long enough for all that comes before its turn.
    pub fn is_awaited(&self) -> bool {
        !self.go.is_closed() && clock::monotonic() + ROOM < self.until
    }

    /// Gives it the slot.
    ///
    /// # Errors
    /// `busy` when the slot has waited 30 s and gone on without it.
    pub async fn go(self) -> Outcome<Handed> {
        self.go.send(()).map_err(|()| late())?;
        self.done.await.map_err(|_| late())
    }
}

/// The slot has gone on without its new version.
pub fn late() -> Fault {
    Fault::new(
        Code::Busy,
        format!("the slot did not wait longer than {} s for its new version", PATIENCE.as_secs()),
    )
    .fix("apply again when the node has less to do")
}

impl<K: Kind> Successor<K> {
    /// Starts it on the thread of whoever brought it.
    pub(super) fn start(self, basis: Basis<K>) -> Outcome<Ready> {
        let Self { program, carry, heritage } = self;
        let Basis { facts, state, next, go, done, until } = basis;
        let started = Next::start(program, carry, heritage, state, &facts, None)?;
        next.send(started).map_err(|_| late())?;
        Ok(Ready { go, done, until })
    }
}

impl<K: Kind> Next<K> {
    /// Starts an instance and tells it everything that is known, while another one has the slot.
    fn start(
        program: Program,
        mut carry: Box<dyn Carry<K>>,
        heritage: Heritage,
        state: Option<State>,
        facts: &BTreeMap<FactKey, K::Event>,
        recorder: Option<&Recorder>,
    ) -> Outcome<Self> {
        let keeps_timers = matches!(heritage, Heritage::Handover(_));
        let (state, required) = match heritage {
            Heritage::Handover(Handover::None) => (None, false),
            Heritage::Handover(handover) => (state, handover == Handover::Required),
            Heritage::Own(state) => (state, false),
        };
        let given = state.clone();
        let (mut machine, effects, taken) = if required {
            let started = Machine::recorded(&program, &carry.setup(state), recorder);
            let (machine, effects) = started.map_err(|fault| not_taken(fault, given.is_some()))?;
            (machine, effects, true)
        } else {
            first_start(&program, &mut *carry, state, recorder)?
        };
        let state = given.filter(|_| taken);
        let keeps_timers = keeps_timers && state.is_some();
        let mut turns = vec![effects];
        brief(&mut *carry, facts, &mut machine, &mut turns)?;
        Ok(Self { program, carry, machine, turns, state, keeps_timers })
    }
}

impl<K: Kind> Actor<K> {
    /// Waits while another version starts beside this one, and gives it the slot when whoever brought it says so.
    pub(super) async fn succeed(&mut self, answer: Answer<K>, inputs: &mpsc::Receiver<Input<K>>) {
        self.save();
        let (next, started) = oneshot::channel();
        let (go, begin) = oneshot::channel();
        let (done, handed) = oneshot::channel();
        let (facts, state) = (self.facts.clone(), self.state.clone());
        let until = clock::monotonic() + PATIENCE;
        if answer.send(Basis { facts, state, next, go, done: handed, until }).is_err() {
            return;
        }
        let begun = async {
            let next = started.await.ok()?;
            begin.await.ok().map(|()| next)
        };
        if let Ok(Some(next)) = tokio::time::timeout_at(until, begun).await {
            let (state, events) = (next.state.is_some(), inputs.len());
            let old = self.seat_next(next).map(|old| Box::new(old) as Box<dyn Send>);
            let _ = done.send(Handed { state, events, old });
        }
    }

    /// Gives the seat to an instance that has started; returns the one that had it.
    fn seat_next(&mut self, next: Next<K>) -> Option<Machine<K>> {
        let Next { program, carry, machine, turns, state, keeps_timers } = next;
        self.stop_recording(Why::Replaced);
        self.program = program;
        self.carry = carry;
        // What a timer means goes over with the state, and with nothing else.
        if !keeps_timers {
            self.timers.clear();
        }
        self.state = state;
        self.is_own = false;
        self.answers.clear();
        self.restart_at = None;
        self.backoff.reset();
        let old = self.take_seat(machine);
        self.carry.reset_channels();
        self.carry_out_all(turns);
        old
    }

    /// The same component takes its own place, so that a recording begins with a start and what it starts from.
    pub(super) fn record(&mut self, recorder: Recorder, carry: Box<dyn Carry<K>>) -> Outcome<()> {
        let slot = &self.program.slot;
        if self.recorder.as_ref().is_some_and(Recorder::is_on) {
            return Err(Fault::new(Code::Busy, format!("{slot} is being recorded already, or has a shadow")));
        }
        let down = Fault::new(Code::Busy, format!("{slot} is down; it starts again by itself"));
        if self.restart_at.is_some() {
            return Err(down);
        }
        self.save();
        if self.restart_at.is_some() {
            return Err(down);
        }
        // Not without its state: what ran until now could start with it.
        let heritage = Heritage::Handover(Handover::Required);
        let (program, state) = (self.program.clone(), self.state.clone());
        let next = Next::start(program, carry, heritage, state, &self.facts, Some(&recorder))?;
        drop(self.seat_next(next));
        self.recorder = Some(recorder);
        Ok(())
    }
}

/// The refusal of a version that does not take the state of the one before.
fn not_taken(fault: Fault, had_state: bool) -> Fault {
    if !had_state {
        return fault;
    }
    let what = format!("the state of the version before is not taken: {}", fault.what);
    Fault { what, ..fault }
        .fix("handover = \"optional\" in the manifest lets it start without, when it cannot take it")
}
