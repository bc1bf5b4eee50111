//! One running instance of a policy, metered in fuel.

use serde::Serialize;
use wasmtime::component::{Component, InstancePre, Linker};
use wasmtime::{Engine, ResourceLimiter, Store};

use super::Kind;
use super::recorder::Recorder;
use super::types::{Setup, State};
use crate::clock::{self, Instant};
use crate::log;
use crate::wasm::guest::{Ended, OWN_HANDLES_MOST};
use crate::wasm::trap::{self, Culprit};
use crate::words::recording::{HANDLE, INIT, SAVE};
use crate::words::{Code, Fault, Outcome};

/// Fuel for `init`: it may read a state of 16 MiB.
pub const FUEL_INIT: u64 = 500_000_000;
/// Fuel for `handle` and `save`.
pub const FUEL_HANDLE: u64 = 50_000_000;
/// Fuel for a question. Someone waits for the answer.
pub const FUEL_QUESTION: u64 = 5_000_000;
/// Largest state that `save` may return.
pub const STATE_MAX: usize = 16 << 20;
/// What the host lifts out of one answer: a state, or many messages.
const LIFT_MAX: usize = 64 << 20;
/// Largest version that a state may have: a name and a number.
pub const VERSION_MAX: usize = 256;
/// Table elements over all tables of an instance.
const TABLE_ELEMENTS: usize = 10_000;
/// Core instances, memories and tables of an instance: as many as a place in the pools of workloads has. A memory takes mappings of the
/// process, which has some 65,000 in all, before it has a single page.
const INSTANCES_MOST: usize = 20;
const MEMORIES_MOST: usize = 8;
const TABLES_MOST: usize = 16;

/// A policy's component, ready to be started any number of times.
#[derive(Clone)]
pub struct Program {
    /// Slot that it is for.
    pub slot: String,
    /// Digest of the component, in hex.
    pub digest: String,
    /// Memory of an instance, in bytes.
    pub memory: u64,
    engine: Engine,
    pre: InstancePre<PolicyGuest>,
}

impl Program {
    /// Links a component. Policies import no function, so the linker is empty.
    pub fn new(
        engine: &Engine,
        component: &Component,
        slot: &str,
        digest: &str,
        memory: u64,
    ) -> Outcome<Self> {
        let pre = Linker::new(engine).instantiate_pre(component).map_err(|error| {
            Fault::new(Code::WrongWorld, format!("{slot} does not fit this host: {error:#}"))
        })?;
        Ok(Self { slot: slot.to_owned(), digest: digest.to_owned(), memory, engine: engine.clone(), pre })
    }
}

/// Data of a policy's store: only its limits.
pub struct PolicyGuest {
    memory: usize,
    elements: usize,
    limit: u64,
}

impl ResourceLimiter for PolicyGuest {
    fn memory_growing(&mut self, current: usize, desired: usize, _: Option<usize>) -> wasmtime::Result<bool> {
        let asked = self.memory.saturating_add(desired.saturating_sub(current));
        if asked as u64 > self.limit {
            return Err(Ended::Memory { asked, limit: self.limit }.into());
        }
        self.memory = asked;
        Ok(true)
    }

    fn table_growing(&mut self, current: usize, desired: usize, _: Option<usize>) -> wasmtime::Result<bool> {
        let asked = self.elements.saturating_add(desired.saturating_sub(current));
        if asked > TABLE_ELEMENTS {
            return Err(Ended::Table(TABLE_ELEMENTS).into());
        }
        self.elements = asked;
        Ok(true)
    }

    fn instances(&self) -> usize {
        INSTANCES_MOST
    }

    fn memories(&self) -> usize {
        MEMORIES_MOST
    }

    fn tables(&self) -> usize {
        TABLES_MOST
    }
}

/// A running instance. After an error it is not to be used again.
pub struct Machine<K: Kind> {
    store: Store<PolicyGuest>,
    bindings: K::Bindings,
    slot: String,
    digest: String,
    now: u64,
    fuel_used: u64,
    recorder: Option<Recorder>,
}

impl<K: Kind> Machine<K> {
    /// Starts an instance: instantiates, calls `init`, and returns the first effects.
    pub fn start(program: &Program, setup: &Setup) -> Outcome<(Self, Vec<K::Effect>)> {
        Self::recorded(program, setup, None)
    }

    /// The same, with all calls from `init` on recorded.
    pub fn recorded(
        program: &Program,
        setup: &Setup,
        recorder: Option<&Recorder>,
    ) -> Outcome<(Self, Vec<K::Effect>)> {
        let (mut fuel, began) = (0, clock::monotonic());
        let started = Self::begin(program, setup, &mut fuel);
        if let Some(recorder) = recorder {
            let used = (fuel, began.elapsed());
            recorder.call(INIT, setup.now, setup, started.as_ref().map(|(_, effects)| effects), used);
        }
        let (mut machine, effects) = started?;
        machine.recorder = recorder.cloned();
        Ok((machine, effects))
    }

    fn begin(program: &Program, setup: &Setup, fuel: &mut u64) -> Outcome<(Self, Vec<K::Effect>)> {
        let mut store =
            Store::new(&program.engine, PolicyGuest { memory: 0, elements: 0, limit: program.memory });
        store.limiter(|guest| guest);
        store.set_hostcall_fuel(LIFT_MAX);
        store.set_max_component_handles(OWN_HANDLES_MOST);
        let culprit = |function| Culprit {
            plugin: &program.slot,
            digest: &program.digest,
            function,
            last_lines: Vec::new(),
        };
        refuel(&mut store, FUEL_INIT);
        let bindings = K::instantiate(&program.pre, &mut store)
            .map_err(|error| trap::fault(&error, culprit("start")))?;
        let mut machine = Self {
            store,
            bindings,
            slot: program.slot.clone(),
            digest: program.digest.clone(),
            now: setup.now,
            fuel_used: 0,
            recorder: None,
        };
        let effects = K::init(&machine.bindings, &mut machine.store, setup);
        machine.account(FUEL_INIT);
        *fuel = machine.fuel_used;
        let effects = effects.map_err(|error| trap::fault(&error, culprit("init")))?.map_err(|why| {
            Fault::new(Code::InitFailed, format!("{} refused to start: {}", program.slot, log::clean(&why)))
                .fix("change its config in the manifest")
        })?;
        Ok((machine, effects))
    }

    /// Hands the policy one event.
    pub fn handle(&mut self, now: u64, event: &K::Event) -> Outcome<Vec<K::Effect>> {
        let (now, began) = (self.advance(now), self.began());
        refuel(&mut self.store, FUEL_HANDLE);
        let result = K::handle(&self.bindings, &mut self.store, now, event);
        self.account(FUEL_HANDLE);
        let effects = result.map_err(|error| self.fault(&error, HANDLE));
        self.record(HANDLE, event, &effects, began);
        effects
    }

    /// Asks for the state.
    pub fn save(&mut self) -> Outcome<State> {
        let began = self.began();
        refuel(&mut self.store, FUEL_HANDLE);
        let result = K::save(&self.bindings, &mut self.store);
        self.account(FUEL_HANDLE);
        let state = result.map_err(|error| self.fault(&error, SAVE));
        self.record(SAVE, &(), &state, began);
        let state = state?;
        if state.bytes.len() > STATE_MAX {
            let what = format!("{} saves {} bytes; the limit is {STATE_MAX}", self.slot, state.bytes.len());
            return Err(Fault::new(Code::TooLarge, what));
        }
        if state.version.len() > VERSION_MAX {
            let length = state.version.len();
            let what = format!("{} saves a version of {length} bytes; the limit is {VERSION_MAX}", self.slot);
            return Err(Fault::new(Code::TooLarge, what));
        }
        Ok(state)
    }

    /// Asks a question of the kind.
    pub(super) fn question<A: Serialize, R: Serialize>(
        &mut self,
        function: &str,
        now: u64,
        arguments: &A,
        ask: impl FnOnce(&K::Bindings, &mut Store<PolicyGuest>, u64) -> wasmtime::Result<R>,
    ) -> Outcome<R> {
        let (now, began) = (self.advance(now), self.began());
        refuel(&mut self.store, FUEL_QUESTION);
        let answer = ask(&self.bindings, &mut self.store, now);
        self.account(FUEL_QUESTION);
        let answer = answer.map_err(|error| self.fault(&error, function));
        self.record(function, arguments, &answer, began);
        answer
    }

    /// The time of the last call; no later call sees a smaller one.
    pub fn now(&self) -> u64 {
        self.now
    }

    /// Fuel that the last call used.
    pub fn fuel_used(&self) -> u64 {
        self.fuel_used
    }

    /// When a call begins that somebody records.
    fn began(&self) -> Option<Instant> {
        self.recorder.as_ref().map(|_| clock::monotonic())
    }

    fn record<A: Serialize, R: Serialize>(
        &self,
        function: &str,
        arguments: &A,
        answer: &Outcome<R>,
        began: Option<Instant>,
    ) {
        if let (Some(recorder), Some(began)) = (&self.recorder, began) {
            let used = (self.fuel_used, began.elapsed());
            recorder.call(function, self.now, arguments, answer.as_ref(), used);
        }
    }

    fn advance(&mut self, now: u64) -> u64 {
        self.now = self.now.max(now);
        self.now
    }

    fn account(&mut self, given: u64) {
        self.fuel_used = given.saturating_sub(self.store.get_fuel().unwrap_or(0));
    }

    fn fault(&self, error: &wasmtime::Error, function: &str) -> Fault {
        let (plugin, digest) = (&self.slot, &self.digest);
        trap::fault(error, Culprit { plugin, digest, function, last_lines: Vec::new() })
    }
}

fn refuel(store: &mut Store<PolicyGuest>, fuel: u64) {
    // Fails only where fuel is switched off, and this engine is made with it.
    let _ = store.set_fuel(fuel);
}
