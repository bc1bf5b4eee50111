//! The three engines and the thread that makes their time pass.
//!
//! Allocation strategy, fuel and concurrency support belong to an engine, so there is one for each combination that
//! is used:
//!
//! | engine | runs | allocates | async | metered by |
//! |---|---|---|---|---|
//! | [`Kind::Policy`] | policies | on demand | no | fuel, which is deterministic |
//! | [`Kind::Lean`] | workloads without async functions | pool | no | epochs |
//! | [`Kind::Concurrent`] | workloads with async functions or streams | pool | yes | epochs |
//!
//! The lean engine exists because component-model async costs each call 3.7 times as much even where it is unused.

use std::hash::{DefaultHasher, Hash, Hasher};
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock, Weak};
use std::task::{Context, Poll};
use std::thread::Thread;
use std::time::Duration;

use wasmtime::{Config, Enabled, Engine, InstanceAllocationStrategy, OperatorCost, PoolingAllocationConfig};

use crate::decisions::sizing::{Machine, Memories, Plan, plan};
use crate::words::{Code, Fault, Outcome};

/// How often a running guest gives way to others and its deadline is looked at.
pub const TICK: Duration = Duration::from_millis(2);
/// The ticker sleeps when no guest ran for this many ticks; waking it costs a call some microseconds.
const IDLE_TICKS: u32 = 50;
/// Native stack of a guest. Larger ones only help runaway recursion.
const WASM_STACK: usize = 512 << 10;
/// Stack of a fiber: the guest's and room for host functions above it.
const FIBER_STACK: usize = 1 << 20;
/// A policy's memory may move when it grows beyond this, so it need not reserve more.
const POLICY_RESERVATION: u64 = 16 << 20;
const POLICY_GUARD: u64 = 64 << 10;
/// Kept in a pool slot between two instances and cleared in place, which is cheaper than giving it back.
/// Only with PAGEMAP_SCAN, which finds the touched pages; without it large values are a loss.
const KEEP_RESIDENT_SCAN: usize = 4 << 20;
const KEEP_RESIDENT_PLAIN: usize = 64 << 10;
/// Unused slots that stay as their last component left them, while there are slots that nobody has used. With more of them a component
/// that takes the place of another takes over its slots, which costs some time once, instead of memory for good.
const WARM_SLOTS: u32 = 32;
/// A component of a language with a runtime of its own has some 14 core instances; 20 leaves room.
const CORE_INSTANCES_MOST: u32 = 20;
/// Tables of one instance on the average: those of languages with a runtime have more, those of first-party plugins one.
const TABLES_EACH: u32 = 4;
/// Two pools: lean and concurrent.
pub const POOLS: u64 = 2;

/// Which engine runs a component.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Kind {
    /// Policies.
    Policy,
    /// Workloads without async.
    Lean,
    /// Workloads with async functions or streams.
    Concurrent,
}

impl Kind {
    /// Every engine.
    pub const ALL: [Kind; 3] = [Kind::Policy, Kind::Lean, Kind::Concurrent];

    /// The text by which the compile worker is told.
    pub const fn as_str(self) -> &'static str {
        match self {
            Kind::Policy => "policy",
            Kind::Lean => "lean",
            Kind::Concurrent => "concurrent",
        }
    }

    /// The reverse of [`Kind::as_str`].
    pub fn parse(text: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.as_str() == text)
    }
}

/// The engines of one process and their ticker, which ends with the last clone.
#[derive(Clone)]
pub struct Engines {
    made: Arc<Made>,
    plan: Arc<Plan>,
    ticker: Arc<Ticker>,
}

/// Each engine from its first use on: a pool takes milliseconds, thousands of mappings and a mebibyte, also when nothing runs in it.
#[derive(Default)]
struct Made([Place; Kind::ALL.len()]);

#[derive(Default)]
struct Place {
    engine: OnceLock<Engine>,
    compatibility: OnceLock<String>,
}

impl Made {
    fn place(&self, kind: Kind) -> &Place {
        let [policy, lean, concurrent] = &self.0;
        match kind {
            Kind::Policy => policy,
            Kind::Lean => lean,
            Kind::Concurrent => concurrent,
        }
    }
}

impl Engines {
    /// Engines for this machine, each pool with as many of the wanted instances as it can hold.
    pub fn new(machine: &Machine, wanted: u32) -> Outcome<Self> {
        let plan = Arc::new(plan(machine, POOLS, wanted));
        let made = Arc::<Made>::default();
        let ticker = Ticker::start(made.clone())?;
        Ok(Self { made, plan, ticker })
    }

    /// The engine of a kind, made when it is wanted first.
    ///
    /// # Errors
    /// `internal` when the machine does not give the memory that was planned for it; it may the next time.
    pub fn get(&self, kind: Kind) -> Outcome<&Engine> {
        let place = &self.made.place(kind).engine;
        if let Some(engine) = place.get() {
            return Ok(engine);
        }
        let made = Engine::new(&config(kind, self.plan.memories, Some(&self.plan)));
        let made = made.map_err(|error| unmade(kind, &error))?;
        Ok(place.get_or_init(|| made))
    }

    /// A text that is equal only for engines that can run each other's code. Needs no pool.
    pub fn compatibility(&self, kind: Kind) -> Outcome<&str> {
        let place = &self.made.place(kind).compatibility;
        if let Some(text) = place.get() {
            return Ok(text);
        }
        let engine = compiler(kind, self.plan.memories).map_err(|error| unmade(kind, &error))?;
        let mut hasher = DefaultHasher::new();
        engine.precompile_compatibility_hash().hash(&mut hasher);
        Ok(place.get_or_init(|| format!("{:016x}", hasher.finish())))
    }

    /// How large the pools are and why.
    pub fn plan(&self) -> &Plan {
        &self.plan
    }

    /// Wraps a future that runs guests, so that time passes for them while they run.
    pub fn metered<F: Future>(&self, inner: F) -> Metered<F> {
        Metered { inner, ticker: self.ticker.clone() }
    }
}

/// An engine that only compiles, for the engines of this plan: without a pool, so that it fits into the worker's small
/// address space.
pub fn compiler(kind: Kind, memories: Memories) -> wasmtime::Result<Engine> {
    Engine::new(&config(kind, memories, None))
}

/// Whether this kernel can tell which pages a guest has touched, which makes fresh instances cheaper.
pub fn tells_touched_pages() -> bool {
    PoolingAllocationConfig::is_pagemap_scan_available()
}

fn unmade(kind: Kind, error: &wasmtime::Error) -> Fault {
    Fault::new(Code::Internal, format!("engine {}: {error:#}", kind.as_str()))
        .fix("`midplane doctor` says what this machine has room for")
}

fn config(kind: Kind, memories: Memories, pool: Option<&Plan>) -> Config {
    let mut config = Config::new();
    // Off by configuration, not by cargo features: builds without the features are less tested.
    config
        .wasm_memory64(false)
        .wasm_threads(false)
        .wasm_gc(false)
        .wasm_function_references(false)
        .wasm_exceptions(false)
        .wasm_tail_call(false)
        // The code by which one component hands a text to another has both memories. Of a module's own the preflight takes one.
        .wasm_multi_memory(kind != Kind::Policy)
        .wasm_relaxed_simd(false)
        .gc_support(false)
        .wasm_component_model(true)
        .max_wasm_stack(WASM_STACK)
        .async_stack_size(FIBER_STACK)
        .memory_init_cow(true)
        .wasm_backtrace_max_frames(std::num::NonZeroUsize::new(16));
    let concurrent = kind == Kind::Concurrent;
    config.wasm_component_model_async(concurrent).concurrency_support(concurrent);
    config.cranelift_nan_canonicalization(!concurrent);
    match kind {
        Kind::Policy => {
            config
                .consume_fuel(true)
                .operator_cost(fuel())
                .memory_reservation(POLICY_RESERVATION)
                .memory_guard_size(POLICY_GUARD)
                .memory_reservation_for_growth(POLICY_RESERVATION);
        }
        Kind::Lean | Kind::Concurrent => {
            config.epoch_interruption(true);
            config.memory_reservation(memories.reservation).memory_guard_size(memories.guard);
            config.memory_may_move(false);
            if let Some(plan) = pool {
                config.allocation_strategy(InstanceAllocationStrategy::Pooling(pooling(plan)));
            }
        }
    }
    config
}

/// What a policy's instructions cost. Those that call into the host take a hundred times as long as others, whatever they answer;
/// those that move many bytes cost a unit for each by themselves.
fn fuel() -> OperatorCost {
    OperatorCost { MemoryGrow: u8::MAX, TableGrow: u8::MAX, ..OperatorCost::new() }
}

fn pooling(plan: &Plan) -> PoolingAllocationConfig {
    let scan = tells_touched_pages();
    let keep = if scan { KEEP_RESIDENT_SCAN } else { KEEP_RESIDENT_PLAIN };
    let mut pool = PoolingAllocationConfig::new();
    pool.total_component_instances(plan.instances)
        .total_core_instances(plan.instances.saturating_mul(CORE_INSTANCES_MOST))
        .total_memories(plan.instances)
        .total_tables(plan.instances.saturating_mul(TABLES_EACH))
        .total_stacks(plan.instances)
        .max_core_instances_per_component(CORE_INSTANCES_MOST)
        .max_memories_per_component(8)
        .max_tables_per_component(16)
        .table_elements(10_000)
        .max_memory_size(usize::try_from(plan.memories.reservation).unwrap_or(usize::MAX))
        .linear_memory_keep_resident(keep)
        .table_keep_resident(64 << 10)
        .max_unused_warm_slots(WARM_SLOTS)
        .pagemap_scan(if scan { Enabled::Yes } else { Enabled::No });
    pool
}

/// Advances the epochs while guests run. Outside of any store, so no guest can hold it up.
struct Ticker {
    /// Guests that are on a processor right now.
    running: AtomicUsize,
    asleep: AtomicBool,
    thread: OnceLock<Thread>,
}

impl Ticker {
    fn start(made: Arc<Made>) -> Outcome<Arc<Self>> {
        let ticker = Arc::new(Self {
            running: AtomicUsize::new(0),
            asleep: AtomicBool::new(false),
            thread: OnceLock::new(),
        });
        let weak = Arc::downgrade(&ticker);
        let handle = std::thread::Builder::new()
            .name("epoch".into())
            .spawn(move || Self::run(&weak, &made))
            .map_err(|error| Fault::io("cannot start the epoch thread", &error))?;
        let _ = ticker.thread.set(handle.thread().clone());
        Ok(ticker)
    }

    fn run(ticker: &Weak<Self>, made: &Made) {
        let mut idle = 0;
        loop {
            std::thread::park_timeout(TICK);
            for kind in [Kind::Lean, Kind::Concurrent] {
                if let Some(engine) = made.place(kind).engine.get() {
                    engine.increment_epoch();
                }
            }
            let Some(ticker) = ticker.upgrade() else { return };
            idle = if ticker.running.load(Ordering::SeqCst) == 0 { idle + 1 } else { 0 };
            if idle < IDLE_TICKS {
                continue;
            }
            idle = 0;
            // A guest that starts after the look below sees `asleep` and wakes this thread; one that started
            // before it is seen. The order of the two is what both sides rely on.
            ticker.asleep.store(true, Ordering::SeqCst);
            let sleep = ticker.running.load(Ordering::SeqCst) == 0;
            let awake = Arc::downgrade(&ticker);
            drop(ticker);
            if sleep {
                std::thread::park();
            }
            let Some(ticker) = awake.upgrade() else { return };
            ticker.asleep.store(false, Ordering::SeqCst);
        }
    }

    fn enter(&self) {
        self.running.fetch_add(1, Ordering::SeqCst);
        if self.asleep.load(Ordering::SeqCst) {
            self.unpark();
        }
    }

    fn leave(&self) {
        self.running.fetch_sub(1, Ordering::SeqCst);
    }

    fn unpark(&self) {
        if let Some(thread) = self.thread.get() {
            thread.unpark();
        }
    }
}

impl Drop for Ticker {
    fn drop(&mut self) {
        self.unpark();
    }
}

pin_project_lite::pin_project! {
    /// A future that runs a guest whenever it is polled; epochs advance only meanwhile.
    pub struct Metered<F> {
        #[pin]
        inner: F,
        ticker: Arc<Ticker>,
    }
}

impl<F: Future> Future for Metered<F> {
    type Output = F::Output;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<F::Output> {
        let this = self.project();
        this.ticker.enter();
        let _leave = Leave(this.ticker);
        this.inner.poll(cx)
    }
}

/// Counts the guest out, also when a poll panics.
struct Leave<'a>(&'a Ticker);

impl Drop for Leave<'_> {
    fn drop(&mut self) {
        self.0.leave();
    }
}
