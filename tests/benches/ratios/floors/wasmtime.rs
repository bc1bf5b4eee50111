//! Wasmtime by itself: no metering, no limits, no names, no CBOR.

use midplane::policy::routing::{Effect, Event, Plan, Query};
use midplane::policy::types::Setup;
use wasmtime::component::{Component, InstancePre, Linker, TypedFunc};
use wasmtime::{Config, Engine, Store};

use crate::Failure;

/// Never met: a tick is 2 ms. Only engines that count epochs look at it.
const NEVER: u64 = 1 << 40;
/// What the routing policy exports.
const MACHINE: &str = "midplane:routing/machine@0.1.0";

/// The leanest engine for these components.
pub fn engine() -> Result<Engine, Failure> {
    let mut config = Config::new();
    config.wasm_component_model_async(false).concurrency_support(false).gc_support(false);
    Ok(Engine::new(&config)?)
}

/// A component, ready to be instantiated.
pub struct Raw {
    pre: InstancePre<()>,
}

/// An instance of `math1` with its store.
pub struct Adder {
    store: Store<()>,
    add: TypedFunc<(i64, i64), (i64,)>,
}

/// An instance of a routing policy with its store.
pub struct Router<'a> {
    store: Store<()>,
    decide: TypedFunc<(u64, &'a Query), (Plan,)>,
    query: &'a Query,
}

impl Raw {
    /// Compiles and links.
    pub fn new(engine: &Engine, component: &[u8]) -> Result<Self, Failure> {
        let component = Component::new(engine, component)?;
        Ok(Self { pre: Linker::new(engine).instantiate_pre(&component)? })
    }

    /// A store and an instance in it.
    pub fn instance(&self) -> wasmtime::Result<Adder> {
        let mut store = self.store();
        let instance = self.pre.instantiate(&mut store)?;
        let add = instance.get_typed_func(&mut store, "add")?;
        Ok(Adder { store, add })
    }

    /// A routing policy that has seen these events and is to be asked this.
    pub fn router<'a>(
        &self,
        setup: &Setup,
        events: &[(u64, Event)],
        query: &'a Query,
    ) -> Result<Router<'a>, Failure> {
        let mut store = self.store();
        let instance = self.pre.instantiate(&mut store)?;
        let machine = instance.get_export_index(&mut store, None, MACHINE).ok_or("no routing machine")?;
        let mut at = |name| {
            let index = instance.get_export_index(&mut store, Some(&machine), name);
            index.ok_or_else(|| format!("no function {name}"))
        };
        let (init, handle, decide) = (at("init")?, at("handle")?, at("decide")?);
        let init: TypedFunc<(&Setup,), (Result<Vec<Effect>, String>,)> =
            instance.get_typed_func(&mut store, init)?;
        init.call(&mut store, (setup,))?.0?;
        let handle: TypedFunc<(u64, &Event), (Vec<Effect>,)> = instance.get_typed_func(&mut store, handle)?;
        for (now, event) in events {
            handle.call(&mut store, (*now, event))?;
        }
        let decide = instance.get_typed_func(&mut store, decide)?;
        Ok(Router { store, decide, query })
    }

    fn store(&self) -> Store<()> {
        let mut store = Store::new(self.pre.engine(), ());
        store.set_epoch_deadline(NEVER);
        store
    }
}

impl Adder {
    /// 3 + 4.
    pub fn add(&mut self) {
        let (sum,) = self.add.call(&mut self.store, (3, 4)).expect("a sum");
        assert_eq!(sum, 7);
    }
}

impl Router<'_> {
    /// Where the call goes.
    pub fn decide(&mut self, now: u64) -> Plan {
        self.decide.call(&mut self.store, (now, self.query)).expect("a plan").0
    }
}
