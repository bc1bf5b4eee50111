//! How another version takes a policy's slot: it starts beside the instance that has it, from that one's state, is told all facts, and
//! only then takes the seat. Questions are answered all the time, by the one or the other; events wait and are for whoever has the
//! seat then. Until it takes the seat nothing that it wants is carried out.

use tokio::sync::{mpsc, oneshot};

use super::Kind;
use super::actor::{Actor, brief, first_start};
use super::machine::{Machine, Program};
use super::recorder::Recorder;
use super::slot::{Answer, Carry, GO_PATIENCE, Handed, Heritage, Input, Successor};
use super::types::State;
use crate::words::objects::Handover;
use crate::words::recording::Why;
use crate::words::{Code, Fault, Outcome};

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

impl<K: Kind> Actor<K> {
    /// Starts another version beside this one, and gives it the slot when whoever brought it says so.
    pub(super) async fn succeed(
        &mut self,
        successor: Successor<K>,
        answer: Answer,
        inputs: &mpsc::Receiver<Input<K>>,
    ) {
        self.save();
        let Successor { program, carry, heritage } = successor;
        let next = match self.prepare(program, carry, heritage, None) {
            Ok(next) => next,
            Err(fault) => return drop(answer.send(Err(fault))),
        };
        let (go, begin) = oneshot::channel();
        let (done, handed) = oneshot::channel();
        if answer.send(Ok((go, handed))).is_err() {
            return;
        }
        if let Ok(Ok(())) = tokio::time::timeout(GO_PATIENCE, begin).await {
            let outcome = Handed { state: next.state.is_some(), events: inputs.len() };
            let old = self.seat_next(next);
            let _ = done.send(outcome);
            // Last, and here: taking memory away from a process stops all of its threads for a moment.
            drop(old);
        }
    }

    /// Starts an instance and tells it everything that is known, while another one has the slot.
    fn prepare(
        &mut self,
        program: Program,
        mut carry: Box<dyn Carry<K>>,
        heritage: Heritage,
        recorder: Option<&Recorder>,
    ) -> Outcome<Next<K>> {
        let keeps_timers = matches!(heritage, Heritage::Handover(_));
        let (state, required) = match heritage {
            Heritage::Handover(Handover::None) => (None, false),
            Heritage::Handover(handover) => (self.state.clone(), handover == Handover::Required),
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
        brief(&mut *carry, &self.facts, &mut machine, &mut turns)?;
        Ok(Next { program, carry, machine, turns, state, keeps_timers })
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
        let next = self.prepare(self.program.clone(), carry, heritage, Some(&recorder))?;
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
