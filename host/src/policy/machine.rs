//! One running instance of a policy, metered in fuel.

use wasmtime::component::{Component, InstancePre, Linker};
use wasmtime::{Engine, ResourceLimiter, Store};

use super::Kind;
use super::types::{Setup, State};
use crate::wasm::guest::Ended;
use crate::wasm::trap::{self, Culprit};
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
/// Table elements of an instance.
const TABLE_ELEMENTS: usize = 10_000;

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

    fn table_growing(&mut self, _: usize, desired: usize, _: Option<usize>) -> wasmtime::Result<bool> {
        if desired > TABLE_ELEMENTS {
            return Err(Ended::Table(TABLE_ELEMENTS).into());
        }
        Ok(true)
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
}

impl<K: Kind> Machine<K> {
    /// Starts an instance: instantiates, calls `init`, and returns the first effects.
    pub fn start(program: &Program, setup: &Setup) -> Outcome<(Self, Vec<K::Effect>)> {
        let mut store = Store::new(&program.engine, PolicyGuest { memory: 0, limit: program.memory });
        store.limiter(|guest| guest);
        store.set_hostcall_fuel(LIFT_MAX);
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
        };
        let effects = K::init(&machine.bindings, &mut machine.store, setup)
            .map_err(|error| trap::fault(&error, culprit("init")))?
            .map_err(|why| {
                Fault::new(Code::InitFailed, format!("{} refused to start: {why}", program.slot))
                    .fix("change its config in the manifest")
            })?;
        machine.account(FUEL_INIT);
        Ok((machine, effects))
    }

    /// Hands the policy one event.
    pub fn handle(&mut self, now: u64, event: &K::Event) -> Outcome<Vec<K::Effect>> {
        let now = self.advance(now);
        refuel(&mut self.store, FUEL_HANDLE);
        let result = K::handle(&self.bindings, &mut self.store, now, event);
        self.account(FUEL_HANDLE);
        result.map_err(|error| self.fault(&error, "handle"))
    }

    /// Asks for the state.
    pub fn save(&mut self) -> Outcome<State> {
        refuel(&mut self.store, FUEL_HANDLE);
        let state = K::save(&self.bindings, &mut self.store).map_err(|error| self.fault(&error, "save"))?;
        self.account(FUEL_HANDLE);
        if state.bytes.len() > STATE_MAX {
            let what = format!("{} saves {} bytes; the limit is {STATE_MAX}", self.slot, state.bytes.len());
            return Err(Fault::new(Code::TooLarge, what));
        }
        Ok(state)
    }

    /// Asks a question of the kind.
    pub(super) fn question<R>(
        &mut self,
        function: &str,
        now: u64,
        ask: impl FnOnce(&K::Bindings, &mut Store<PolicyGuest>, u64) -> wasmtime::Result<R>,
    ) -> Outcome<R> {
        let now = self.advance(now);
        refuel(&mut self.store, FUEL_QUESTION);
        let answer = ask(&self.bindings, &mut self.store, now);
        self.account(FUEL_QUESTION);
        answer.map_err(|error| self.fault(&error, function))
    }

    /// The time of the last call; no later call sees a smaller one.
    pub fn now(&self) -> u64 {
        self.now
    }

    /// Fuel that the last call used.
    pub fn fuel_used(&self) -> u64 {
        self.fuel_used
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
