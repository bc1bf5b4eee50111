//! The instances of one workload by the manifest's rule: how many calls go on at a time, which instance a call gets, and the watch over a
//! guest while it runs. What is called in an instance, a skill's functions or a gateway's handler, is up to who owns this.

use std::panic::AssertUnwindSafe;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use futures::FutureExt;
use tokio::sync::OwnedSemaphorePermit;
use wasmtime::Store;
use wasmtime::component::{InstancePre, Linker};

use super::bound;
use super::cache::Compiled;
use super::engine::Engines;
use super::guest::{Ended, Guest, Plugin, Terms};
use super::places::Places;
use super::preflight;
use super::trap::{self, Culprit};
use crate::clock::Instant;
use crate::interface;
use crate::words::objects::Instances as Rule;
use crate::words::{Code, Fault, Outcome};

/// How long after the deadline the watchdog outside of the store waits for the guest's own end. Covers a host call that
/// does not return.
const GRACE: Duration = Duration::from_millis(200);
/// Idle instances that are kept for reuse.
const IDLE_MOST: usize = 64;
/// Time for the one instantiation of the preflight.
const PREFLIGHT: Duration = Duration::from_secs(5);

/// An instance with its store. `I` is what its owner knows of it.
pub(super) struct Live<I> {
    pub(super) store: Store<Guest>,
    pub(super) instance: I,
    used: u32,
}

impl<I> Live<I> {
    /// One that was not used yet.
    pub(super) fn new(store: Store<Guest>, instance: I) -> Self {
        Self { store, instance, used: 0 }
    }
}

/// The instances of one workload.
pub(super) struct Instances<I> {
    pub(super) plugin: Arc<Plugin>,
    pub(super) code: Arc<Compiled>,
    engines: Engines,
    has_imports: bool,
    uses: u32,
    idle: Mutex<Vec<Live<I>>>,
    pub(super) places: Places,
    /// What a call is to people: `calls`, `requests`.
    calls: &'static str,
}

impl<I> Instances<I> {
    /// Links a component for a plugin. There are no instances yet.
    ///
    /// # Errors
    /// `missing-import` and what [`preflight::check_imports`] and [`bound::find`] find.
    pub(super) fn link(
        engines: Engines,
        code: Arc<Compiled>,
        plugin: Arc<Plugin>,
        rule: &Rule,
        calls: &'static str,
    ) -> Outcome<(Self, InstancePre<Guest>)> {
        let (engine, component) = (code.engine(), &code.component);
        let Plugin { slot, grants, bindings, .. } = &*plugin;
        let capabilities = preflight::capabilities(engine, component, grants, bindings);
        preflight::check_imports(slot, &capabilities)?;
        let bound = bound::find(slot, engine, component, &capabilities, bindings)?;
        let mut linker = Linker::new(engine);
        interface::link(&mut linker, code.kind, grants, bound)
            .map_err(|error| Fault::new(Code::Internal, format!("linker: {error:#}")))?;
        let pre = linker.instantiate_pre(component).map_err(|error| misfit(&plugin, &error))?;
        let (uses, concurrency) = match *rule {
            Rule::Fresh => (1, plugin.limits.concurrency),
            Rule::Reuse(uses) => (uses.max(1), plugin.limits.concurrency),
            Rule::Singleton => (u32::MAX, 1),
        };
        let places = Places::new(concurrency.max(1) as usize, matches!(rule, Rule::Singleton));
        let instances = Self {
            plugin,
            code,
            engines,
            has_imports: !capabilities.is_empty(),
            uses,
            idle: Mutex::default(),
            places,
            calls,
        };
        Ok((instances, pre))
    }

    /// The terms of the one instantiation that shows whether there can be instances at all.
    pub(super) fn preflight(&self) -> Terms {
        Terms::nobody(PREFLIGHT, self.plugin.node.id)
    }

    /// A place for one call. While there is none: `busy`, unless calls of this plugin wait for each other.
    pub(super) async fn place(&self, deadline: Instant) -> Outcome<OwnedSemaphorePermit> {
        // What is large is boxed: a future is moved as a whole at each level of a call, which took half a microsecond.
        match self.places.try_take() {
            Some(place) => Ok(place),
            None => Box::pin(self.wait_for_place(deadline)).await,
        }
    }

    async fn wait_for_place(&self, deadline: Instant) -> Outcome<OwnedSemaphorePermit> {
        self.places.wait(deadline).await.ok_or_else(|| {
            let limit = if self.places.is_single() { 1 } else { self.plugin.limits.concurrency };
            Fault::new(Code::Busy, format!("{}: {limit} {} are in flight", self.plugin.slot, self.calls))
                .fix("try again, or raise limits.concurrency in the manifest")
        })
    }

    /// An idle instance, ready for a call on these terms.
    pub(super) fn take_idle(&self, terms: Terms) -> Option<Live<I>> {
        if self.uses == 1 {
            return None;
        }
        let mut live = self.idle.lock().unwrap_or_else(PoisonError::into_inner).pop()?;
        Guest::begin(&mut live.store, terms);
        Some(live)
    }

    /// A store for a new instance, ready for a call on these terms.
    pub(super) fn store(&self, terms: Terms) -> Store<Guest> {
        let mut store = Guest::store(self.code.engine(), self.plugin.clone(), self.has_imports);
        Guest::begin(&mut store, terms);
        store
    }

    /// Takes an instance back after a call that ended well.
    pub(super) fn give_back(&self, mut live: Live<I>) {
        live.used = live.used.saturating_add(1);
        self.keep(live);
    }

    /// Keeps an instance for the next call, if it may have one more.
    pub(super) fn keep(&self, live: Live<I>) {
        if self.uses == 1 || live.used >= self.uses {
            return;
        }
        let mut idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner);
        if idle.len() < IDLE_MOST {
            idle.push(live);
        }
    }

    /// Forgets the idle instances.
    pub(super) fn forget(&self) {
        let idle = std::mem::take(&mut *self.idle.lock().unwrap_or_else(PoisonError::into_inner));
        drop(idle);
    }

    /// Runs a guest until it ends or its deadline is over. Pinned before, so that what is around it moves a pointer.
    pub(super) async fn watch<T>(
        &self,
        run: impl Future<Output = wasmtime::Result<T>> + Unpin,
        deadline: Instant,
    ) -> wasmtime::Result<T> {
        let guarded = AssertUnwindSafe(self.engines.metered(run)).catch_unwind();
        // Most calls are done when they are polled for the first time, and then nothing else is even looked at.
        let ended = tokio::select! {
            biased;
            ended = tokio::time::timeout_at(deadline + GRACE, guarded) => ended,
            () = self.places.retired() => return Err(Ended::Replaced(self.plugin.drain_ms).into()),
        };
        match ended {
            Ok(Ok(ended)) => ended,
            Ok(Err(_)) => Err(wasmtime::Error::msg("the host panicked in this call")),
            Err(_) => Err(Ended::Deadline(self.plugin.limits.deadline_ms).into()),
        }
    }

    /// Why a guest ended, with its report.
    pub(super) fn fault(&self, error: &wasmtime::Error, store: &Store<Guest>, function: &str) -> Fault {
        let guest = store.data();
        let last_lines = guest.last_lines.take();
        let (plugin, digest) = (&self.plugin.slot, &self.plugin.digest);
        let culprit = Culprit { plugin, digest, function, last_lines };
        // Whoever noticed it first, the guest or the watchdog, says how much time this call had.
        match error.downcast_ref::<Ended>() {
            Some(Ended::Deadline(_)) => trap::fault(&guest.deadline().into(), culprit),
            _ => trap::fault(error, culprit),
        }
    }
}

/// A component whose imports are not what this host has.
pub(super) fn misfit(plugin: &Plugin, error: &wasmtime::Error) -> Fault {
    Fault::new(Code::MissingImport, format!("{} does not fit this host: {error:#}", plugin.slot))
}
