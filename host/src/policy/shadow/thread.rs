//! The thread of a shadow: makes the calls that were made of the active policy, and compares.

use std::collections::BTreeMap;
use std::time::Duration;

use tokio::sync::oneshot;

use super::Over;
use crate::clock::{self, Instant};
use crate::decisions::shadow::{Asks, TRAPS_MOST, Tally, Timers, Told, Used};
use crate::policy::actor::TIMERS;
use crate::policy::asks::{Ask, Asking};
use crate::policy::machine::{Machine, Program};
use crate::policy::recorder::{self, Made, Recorder, Tape};
use crate::policy::replay::{Difference, difference, same};
use crate::policy::slot::MESSAGE_MAX;
use crate::policy::types::{BaseEffect, BaseEvent, Setup, State};
use crate::policy::{Fact, FactKey};
use crate::words::recording::{Answer, Call, HANDLE, INIT, SAVE, Why};
use crate::words::swap::{Example, ShadowEnd};
use crate::words::{Code, Fault, Outcome, packed};

/// Time for what still waits when a shadow ends.
const LAST: Duration = Duration::from_secs(5);
/// Largest effect that is remembered as an ask: a claim, or a list of keys.
const ASK_MAX: usize = 1 << 20;

/// The thread's own state.
pub(super) struct Shadow<K: Asking> {
    program: Program,
    machine: Option<Machine<K>>,
    /// What the candidate's machine writes of each call.
    recorder: Recorder,
    own: Tape,
    /// What an instance starts from that takes the place of one that was ended.
    setup: Option<Setup>,
    facts: BTreeMap<FactKey, K::Event>,
    timers: Timers,
    asks: Asks,
    tally: Tally,
    /// Why the instance has just been ended.
    ended: Option<Fault>,
}

impl<K: Asking> Shadow<K> {
    pub(super) fn new(program: Program, examples: usize) -> Self {
        let (recorder, own) = recorder::queue();
        Self {
            program,
            machine: None,
            recorder,
            own,
            setup: None,
            facts: BTreeMap::new(),
            timers: Timers::default(),
            asks: Asks::default(),
            tally: Tally::new(examples),
            ended: None,
        }
    }

    pub(super) async fn run(
        mut self,
        mut tape: Tape,
        deadline: Instant,
        mut stopped: oneshot::Receiver<()>,
    ) -> Outcome<Over> {
        let mut last = deadline + LAST;
        let mut open = true;
        loop {
            let timer = self.timers.next().filter(|_| open).map(|at| at.saturating_sub(clock::now_ms()));
            let made = tokio::select! {
                biased;
                () = tokio::time::sleep_until(last) => break,
                () = tokio::time::sleep_until(deadline), if open => {
                    (open, last) = (false, clock::monotonic() + LAST);
                    tape.close(Why::Time);
                    continue;
                }
                // Whoever asked has enough, or is gone.
                _ = &mut stopped, if open => {
                    (open, last) = (false, clock::monotonic() + LAST);
                    tape.close(Why::Interrupted);
                    continue;
                }
                made = tape.next_made() => made,
                () = sleep(timer) => {
                    let now = clock::now_ms();
                    self.fire_alone(now)?;
                    self.again(now)?;
                    continue;
                }
            };
            let Some(made) = made else { break };
            let now = made.call.now;
            self.take(made)?;
            self.again(now)?;
            if self.machine.is_none() || self.tally.found().candidate.faults > TRAPS_MOST {
                return Ok(self.over(ShadowEnd::Traps, &tape));
            }
        }
        let ended = match tape.why() {
            Why::Time => ShadowEnd::Time,
            Why::Interrupted => ShadowEnd::Interrupted,
            Why::Replaced => ShadowEnd::Replaced,
            Why::Behind | Why::Full => ShadowEnd::Behind,
            Why::Stopped | Why::Lost => ShadowEnd::Stopped,
        };
        Ok(self.over(ended, &tape))
    }

    fn over(mut self, ended: ShadowEnd, tape: &Tape) -> Over {
        let found = self.tally.found();
        (found.missed, found.unanswered) = (tape.missed(), self.asks.unanswered());
        Over { ended, found: self.tally.finish() }
    }

    /// What the active one was told or asked, and has answered.
    fn take(&mut self, made: Made) -> Outcome<()> {
        if let Answer::Ended(_) = &made.call.answer {
            self.tally.found().active.faults += 1;
        }
        match made.call.function.as_str() {
            INIT => self.begin(&made),
            SAVE => {
                self.save();
                Ok(())
            }
            HANDLE => self.event(&made),
            _ => self.question(&made),
        }
    }

    /// The active one starts: at the beginning, and after it was ended. So does the candidate, at the beginning from the same state and later
    /// from its own, because channels and facts begin anew.
    fn begin(&mut self, made: &Made) -> Outcome<()> {
        let mut setup: Setup = packed::read(&made.call.arguments)?;
        if let Some(state) = self.save() {
            setup.handover = Some(state);
        }
        // It is started anew anyway.
        self.ended = None;
        self.asks.clear();
        self.timers.clear_active();
        self.active_effects(&made.call)?;
        let started = self.start(&setup);
        let first = self.setup.is_none();
        if first && setup.handover.is_some() && !self.tally.found().without_state {
            self.timers.inherit();
        }
        self.setup = Some(setup);
        let Some((effects, own)) = started else { return Ok(()) };
        self.compare(made, &own);
        self.effects(made.call.now, effects)
    }

    /// A new instance, and what its start was.
    fn start(&mut self, setup: &Setup) -> Option<(Vec<K::Effect>, Made)> {
        self.timers.clear();
        self.machine = None;
        let started = self.start_from(setup);
        if setup.handover.is_none() || started.is_ok() {
            return started.map_err(|fault| self.fault(fault)).ok();
        }
        // As the active one does: a component that cannot read a state starts without.
        self.tally.found().without_state = true;
        let without = Setup { handover: None, ..setup.clone() };
        self.start_from(&without).map_err(|fault| self.fault(fault)).ok()
    }

    fn start_from(&mut self, setup: &Setup) -> Outcome<(Vec<K::Effect>, Made)> {
        let started = Machine::recorded(&self.program, setup, Some(&self.recorder));
        let own = self.own.try_next_made();
        let (machine, effects) = started?;
        self.machine = Some(machine);
        let own = own.ok_or_else(|| Fault::new(Code::TooLarge, "what comes of a start cannot be written"))?;
        Ok((effects, own))
    }

    fn event(&mut self, made: &Made) -> Outcome<()> {
        let (now, event): (u64, K::Event) = (made.call.now, packed::read(&made.call.arguments)?);
        self.fire_alone(now)?;
        match K::fact(&event) {
            Fact::Holds(key) => drop(self.facts.insert(key, event.clone())),
            Fact::Ended(key) => drop(self.facts.remove(&key)),
            Fact::None => {}
        }
        let told = match (K::as_base(&event), K::answers(&event)) {
            (Some(BaseEvent::Timer(id)), _) => self.timers.goes_off(*id, now),
            (_, Some(topic)) => self.asks.outcome(&topic) == Told::Both,
            (_, None) => true,
        };
        self.active_effects(&made.call)?;
        if !told {
            self.tally.found().only_active += 1;
            return Ok(());
        }
        match self.handle(now, &event) {
            Some((effects, own)) => {
                self.compare(made, &own);
                self.effects(now, effects)
            }
            None => Ok(()),
        }
    }

    /// Hands the candidate an event; what it wants, and what was written of it. None while there is no instance.
    fn handle(&mut self, now: u64, event: &K::Event) -> Option<(Vec<K::Effect>, Made)> {
        let handled = self.machine.as_mut()?.handle(now, event);
        let Some(own) = self.own.try_next_made() else {
            // Beyond what a recording takes. Nothing more comes from this queue.
            (self.recorder, self.own) = recorder::queue();
            let what = format!("what {} wants at once cannot be written", self.program.slot);
            self.ended = Some(Fault::new(Code::TooLarge, what));
            return None;
        };
        let effects = handled.unwrap_or_else(|fault| {
            self.ended = Some(fault);
            Vec::new()
        });
        Some((effects, own))
    }

    fn question(&mut self, made: &Made) -> Outcome<()> {
        let Call { function, now, arguments, .. } = &made.call;
        let Some(machine) = &mut self.machine else { return Ok(()) };
        if !K::ask_again(machine, function, *now, arguments)? {
            return Err(Fault::new(Code::Internal, format!("{} is not asked {function}", K::NAME)));
        }
        let Some(own) = self.own.try_next_made() else { return Ok(()) };
        self.compare(made, &own);
        if let Answer::Ended(fault) = own.call.answer {
            self.ended = Some(fault);
        }
        Ok(())
    }

    /// Its state, which it is asked for whenever the active one is, so that both have been asked the same.
    fn save(&mut self) -> Option<State> {
        let saved = self.machine.as_mut()?.save();
        let _ = self.own.try_next_made();
        saved.map_err(|fault| self.ended = Some(fault)).ok()
    }

    /// Timers that the active one does not have; one that sets itself at once again waits for what else there is.
    fn fire_alone(&mut self, now: u64) -> Outcome<()> {
        for _ in 0..TIMERS {
            let Some((id, at)) = self.timers.alone(now) else { break };
            self.tally.found().only_candidate += 1;
            if let Some((effects, _)) = self.handle(at, &K::base_event(BaseEvent::Timer(id))) {
                self.effects(at, effects)?;
            }
        }
        Ok(())
    }

    /// Takes note of what the candidate wants. Nothing of it is done.
    fn effects(&mut self, now: u64, effects: Vec<K::Effect>) -> Outcome<()> {
        for effect in effects {
            match K::asks(&effect) {
                Some(Ask::For(topic)) => self.asks.candidate(topic, packed::write(&effect, ASK_MAX)?),
                Some(Ask::Ends(topic)) => self.asks.candidate_ends(&topic),
                None => {}
            }
            let lie = match K::base_effect(effect) {
                Ok(BaseEffect::SetTimer(timer)) => {
                    let set = self.timers.set(timer.id, now.saturating_add(timer.after));
                    (set > TIMERS).then(|| format!("set more than {TIMERS} timers"))
                }
                Ok(BaseEffect::CancelTimer(id)) => {
                    self.timers.cancel(id);
                    None
                }
                Ok(BaseEffect::Send(message)) => {
                    let length = message.bytes.len();
                    (length > MESSAGE_MAX)
                        .then(|| format!("sent a message of {length} bytes; the limit is {MESSAGE_MAX}"))
                }
                Ok(BaseEffect::Log(_)) | Err(_) => None,
            };
            if let Some(lie) = lie {
                self.ended = Some(Fault::new(Code::Protocol, format!("{} {lie}", self.program.slot)));
                return Ok(());
            }
        }
        Ok(())
    }

    /// What the active one waits for from now on.
    fn active_effects(&mut self, call: &Call) -> Outcome<()> {
        let Answer::Value(bytes) = &call.answer else { return Ok(()) };
        for effect in packed::read::<Vec<K::Effect>>(bytes)? {
            if let Some(Ask::For(topic)) = K::asks(&effect) {
                self.asks.active(topic, packed::write(&effect, ASK_MAX)?);
            }
            match K::base_effect(effect) {
                Ok(BaseEffect::SetTimer(timer)) => {
                    self.timers.active_sets(timer.id, call.now.saturating_add(timer.after));
                }
                Ok(BaseEffect::CancelTimer(id)) => self.timers.active_cancels(id),
                _ => {}
            }
        }
        Ok(())
    }

    fn fault(&mut self, fault: Fault) {
        let found = self.tally.found();
        found.candidate.faults += 1;
        found.last_fault = Some(fault);
    }

    /// Where an instance was ended, another one starts from where the shadow began and is told all that holds.
    fn again(&mut self, now: u64) -> Outcome<()> {
        while let Some(fault) = self.ended.take() {
            self.machine = None;
            self.fault(fault);
            let Some(setup) = self.setup.clone() else { return Ok(()) };
            if self.tally.found().candidate.faults > TRAPS_MOST {
                return Ok(());
            }
            let Some((effects, _)) = self.start(&Setup { now, ..setup }) else { return Ok(()) };
            self.effects(now, effects)?;
            let facts: Vec<K::Event> = self.facts.values().cloned().collect();
            for event in facts {
                if self.ended.is_none()
                    && let Some((effects, _)) = self.handle(now, &event)
                {
                    self.effects(now, effects)?;
                }
            }
        }
        Ok(())
    }

    fn compare(&mut self, active: &Made, own: &Made) {
        let question = ![INIT, HANDLE].contains(&active.call.function.as_str());
        let equal = same(&active.call.answer, &own.call.answer);
        let used = |made: &Made| Used {
            ns: u64::try_from(made.took.as_nanos()).unwrap_or(u64::MAX),
            fuel: made.call.fuel,
        };
        self.tally.compared(question, equal, used(active), used(own), |number| {
            example(number, &active.call, &own.call.answer)
        });
    }
}

fn example(number: u64, call: &Call, found: &Answer) -> Example {
    let Difference { function, now, arguments, effect, expected, found, .. } = difference(0, call, found);
    Example {
        call: number,
        function,
        now,
        arguments: clipped(arguments),
        effect: effect.map(|effect| effect as u64),
        active: clipped(expected),
        candidate: clipped(found),
    }
}

/// What is too long to be looked at is told by its beginning: all examples have to fit into one report.
fn clipped(value: serde_json::Value) -> serde_json::Value {
    /// Bytes of a value that is shown as it is: a message of a policy with what is around it.
    const SHOWN: usize = 2 << 10;
    let text = value.to_string();
    if text.len() <= SHOWN {
        return value;
    }
    let end = (0..=SHOWN).rev().find(|at| text.is_char_boundary(*at)).unwrap_or_default();
    format!("{}… ({} bytes)", text.get(..end).unwrap_or_default(), text.len()).into()
}

async fn sleep(ms: Option<u64>) {
    match ms {
        Some(ms) => tokio::time::sleep(Duration::from_millis(ms)).await,
        None => std::future::pending().await,
    }
}
