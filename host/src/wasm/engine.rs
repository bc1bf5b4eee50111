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

use wasmtime::{Config, Enabled, Engine, EngineWeak, InstanceAllocationStrategy, PoolingAllocationConfig};

use crate::decisions::sizing::{Machine, PoolPlan, plan};
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
/// A component of a language with a runtime of its own has some 14 core instances; 20 leaves room.
const CORE_INSTANCES_MOST: u32 = 20;
/// Two pools: lean and concurrent.
const POOLS: u64 = 2;

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
    policy: Engine,
    lean: Engine,
    concurrent: Engine,
    plan: Arc<PoolPlan>,
    ticker: Arc<Ticker>,
}

impl Engines {
    /// Makes the engines for this machine.
    pub fn new(machine: Machine) -> Outcome<Self> {
        let plan = plan(machine, POOLS);
        let make = |kind| {
            Engine::new(&config(kind, &plan, true))
                .map_err(|error| Fault::new(Code::Internal, format!("engine {}: {error:#}", kind.as_str())))
        };
        let (policy, lean, concurrent) = (make(Kind::Policy)?, make(Kind::Lean)?, make(Kind::Concurrent)?);
        let ticker = Ticker::start(&[&lean, &concurrent])?;
        Ok(Self { policy, lean, concurrent, plan: Arc::new(plan), ticker })
    }

    /// The engine of a kind.
    pub fn get(&self, kind: Kind) -> &Engine {
        match kind {
            Kind::Policy => &self.policy,
            Kind::Lean => &self.lean,
            Kind::Concurrent => &self.concurrent,
        }
    }

    /// How large the pools are and why.
    pub fn plan(&self) -> &PoolPlan {
        &self.plan
    }

    /// Wraps a future that runs guests, so that time passes for them while they run.
    pub fn metered<F: Future>(&self, inner: F) -> Metered<F> {
        Metered { inner, ticker: self.ticker.clone() }
    }
}

/// An engine that only compiles, for the engines of this plan: without a pool, so that it fits into the worker's small
/// address space. The plan's reservation and guard decide which bounds checks the code has.
pub fn compiler(kind: Kind, plan: &PoolPlan) -> wasmtime::Result<Engine> {
    Engine::new(&config(kind, plan, false))
}

/// A text that is equal only for engines that can run each other's code.
pub fn compatibility(engine: &Engine) -> String {
    let mut hasher = DefaultHasher::new();
    engine.precompile_compatibility_hash().hash(&mut hasher);
    format!("{:016x}", hasher.finish())
}

fn config(kind: Kind, plan: &PoolPlan, pooled: bool) -> Config {
    let mut config = Config::new();
    // Off by configuration, not by cargo features: builds without the features are less tested.
    config
        .wasm_memory64(false)
        .wasm_threads(false)
        .wasm_gc(false)
        .wasm_function_references(false)
        .wasm_exceptions(false)
        .wasm_tail_call(false)
        .wasm_multi_memory(false)
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
                .memory_reservation(POLICY_RESERVATION)
                .memory_guard_size(POLICY_GUARD)
                .memory_reservation_for_growth(POLICY_RESERVATION);
        }
        Kind::Lean | Kind::Concurrent => {
            config.epoch_interruption(true);
            config.memory_reservation(plan.memory_reservation).memory_guard_size(plan.memory_guard);
            config.memory_may_move(false);
            if pooled {
                config.allocation_strategy(InstanceAllocationStrategy::Pooling(pooling(plan)));
            }
        }
    }
    config
}

fn pooling(plan: &PoolPlan) -> PoolingAllocationConfig {
    let scan = PoolingAllocationConfig::is_pagemap_scan_available();
    let keep = if scan { KEEP_RESIDENT_SCAN } else { KEEP_RESIDENT_PLAIN };
    let mut pool = PoolingAllocationConfig::new();
    pool.total_component_instances(plan.instances)
        .total_core_instances(plan.instances.saturating_mul(4))
        .total_memories(plan.instances)
        .total_tables(plan.instances.saturating_mul(2))
        .total_stacks(plan.instances)
        .max_core_instances_per_component(CORE_INSTANCES_MOST)
        .max_memories_per_component(8)
        .max_tables_per_component(16)
        .table_elements(10_000)
        .max_memory_size(usize::try_from(plan.memory_reservation).unwrap_or(usize::MAX))
        .linear_memory_keep_resident(keep)
        .table_keep_resident(64 << 10)
        .pagemap_scan(if scan { Enabled::Yes } else { Enabled::No });
    pool
}

/// What this machine offers, read from the kernel. Values that cannot be read count as plentiful.
pub fn machine() -> Machine {
    let read = |path: &str| std::fs::read_to_string(path).ok();
    let number = |path: &str| read(path).and_then(|text| text.trim().parse::<u64>().ok());
    let total = read("/proc/meminfo")
        .and_then(|text| {
            let line = text.lines().find(|line| line.starts_with("MemTotal:"))?.to_owned();
            line.split_whitespace().nth(1)?.parse::<u64>().ok()
        })
        .map_or(u64::MAX, |kib| kib.saturating_mul(1024));
    let group = ["/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes"]
        .into_iter()
        .find_map(number);
    let limit = rustix::process::getrlimit(rustix::process::Resource::As).current;
    Machine {
        memory: total.min(group.unwrap_or(u64::MAX)),
        address_space: limit.unwrap_or(1 << 47).min(1 << 47),
        mappings: number("/proc/sys/vm/max_map_count").unwrap_or(65_530),
    }
}

/// Advances the epochs while guests run. Outside of any store, so no guest can hold it up.
struct Ticker {
    /// Guests that are on a processor right now.
    running: AtomicUsize,
    asleep: AtomicBool,
    thread: OnceLock<Thread>,
}

impl Ticker {
    fn start(engines: &[&Engine]) -> Outcome<Arc<Self>> {
        let ticker = Arc::new(Self {
            running: AtomicUsize::new(0),
            asleep: AtomicBool::new(false),
            thread: OnceLock::new(),
        });
        let weak = Arc::downgrade(&ticker);
        let engines: Vec<_> = engines.iter().map(|engine| engine.weak()).collect();
        let handle = std::thread::Builder::new()
            .name("epoch".into())
            .spawn(move || Self::run(&weak, &engines))
            .map_err(|error| Fault::io("cannot start the epoch thread", &error))?;
        let _ = ticker.thread.set(handle.thread().clone());
        Ok(ticker)
    }

    fn run(ticker: &Weak<Self>, engines: &[EngineWeak]) {
        let mut idle = 0;
        loop {
            std::thread::park_timeout(TICK);
            for engine in engines.iter().filter_map(EngineWeak::upgrade) {
                engine.increment_epoch();
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
