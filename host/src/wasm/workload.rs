//! A skill that is ready to be called: instances by the manifest's rule, one call at a time in each.

use std::collections::HashMap;
use std::panic::AssertUnwindSafe;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use futures::FutureExt;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use wasmtime::Store;
use wasmtime::component::{Component, ComponentExportIndex, Func, Instance, InstancePre, Linker, Val};

use super::describe::Export;
use super::element::carry_in;
use super::engine::{Engines, Kind};
use super::guest::{Guest, Plugin};
use super::preflight;
use super::stream::{self, Items};
use super::trap::{self, Culprit};
use super::value;
use crate::clock::{self, Instant};
use crate::interface;
use crate::words::objects::Instances;
use crate::words::schema::{Answer as Shape, Form, Function};
use crate::words::{Code, Fault, Outcome};

/// How long after the deadline the watchdog outside of the store waits for the guest's own end. Covers a host call that
/// does not return.
const GRACE: Duration = Duration::from_millis(200);
/// Idle instances that are kept for reuse.
const IDLE_MOST: usize = 64;
/// Time for the one instantiation of the preflight.
const PREFLIGHT_MS: u64 = 5_000;

/// One call.
pub struct Request<'a> {
    /// Function name: `add`, or `interface#add` where several interfaces have one.
    pub function: &'a str,
    /// How `arguments` is meant.
    pub form: Form,
    /// CBOR: a map by parameter name or an array by position.
    pub arguments: &'a [u8],
    /// When the call ends at the latest; the plugin's own deadline may be earlier.
    pub deadline: Instant,
}

/// What a call gives.
pub enum Answer {
    /// CBOR of the result; empty when the function has none.
    Value(Vec<u8>),
    /// The result is a stream.
    Stream(Items),
}

/// A skill with everything prepared: compiled, linked, its functions looked up.
pub struct Workload {
    pub(super) plugin: Arc<Plugin>,
    pub(super) engines: Engines,
    kind: Kind,
    pre: InstancePre<Guest>,
    functions: Vec<Callable>,
    by_name: HashMap<String, usize>,
    has_imports: bool,
    uses: u32,
    idle: Mutex<Vec<Live>>,
    places: Arc<Semaphore>,
    waits: bool,
}

struct Callable {
    function: Function,
    index: ComponentExportIndex,
    /// Why it cannot be called, and whether it answers with a stream: known here, so that no call has to look.
    refusal: Option<String>,
    streams: bool,
}

/// An instance with its store.
pub(super) struct Live {
    pub(super) store: Store<Guest>,
    instance: Instance,
    /// By the function's position, once it was called.
    functions: Vec<Option<Func>>,
    used: u32,
}

impl Workload {
    /// Links a component and makes one instance of it, so that nothing can be wrong later that could have been seen now.
    pub async fn prepare(
        engines: Engines,
        kind: Kind,
        component: &Component,
        plugin: Arc<Plugin>,
        instances: &Instances,
        exports: Vec<Export>,
    ) -> Outcome<Arc<Self>> {
        let engine = engines.get(kind);
        let capabilities = preflight::capabilities(engine, component, &plugin.grants);
        preflight::check_imports(&plugin.slot, &capabilities)?;
        let mut linker = Linker::new(engine);
        interface::link(&mut linker, kind, &plugin.grants)
            .map_err(|error| Fault::new(Code::Internal, format!("linker: {error:#}")))?;
        let pre = linker.instantiate_pre(component).map_err(|error| {
            Fault::new(Code::MissingImport, format!("{} does not fit this host: {error:#}", plugin.slot))
        })?;
        let (functions, by_name) = index(component, exports);
        let (uses, concurrency) = match *instances {
            Instances::Fresh => (1, plugin.limits.concurrency),
            Instances::Reuse(uses) => (uses.max(1), plugin.limits.concurrency),
            Instances::Singleton => (u32::MAX, 1),
        };
        let workload = Self {
            engines,
            kind,
            pre,
            functions,
            by_name,
            has_imports: !capabilities.is_empty(),
            uses,
            idle: Mutex::default(),
            places: Arc::new(Semaphore::new(concurrency.max(1) as usize)),
            waits: matches!(instances, Instances::Singleton),
            plugin,
        };
        let live = workload.instantiate(clock::deadline_in(PREFLIGHT_MS), "start").await?;
        workload.keep(live);
        Ok(Arc::new(workload))
    }

    /// What can be called, and what is exported but cannot.
    pub fn functions(&self) -> impl Iterator<Item = &Function> {
        self.functions.iter().map(|callable| &callable.function)
    }

    /// The plugin that this is.
    pub fn plugin(&self) -> &Arc<Plugin> {
        &self.plugin
    }

    /// Calls a function.
    pub async fn call(self: &Arc<Self>, request: Request<'_>) -> Outcome<Answer> {
        let (position, callable) = self.find(request.function)?;
        let own = clock::deadline_in(self.plugin.limits.deadline_ms);
        let deadline = request.deadline.min(own);
        let arguments = value::lower_arguments(&callable.function, request.form, request.arguments)?;
        let place = self.place(deadline).await?;
        let live = match self.take_idle() {
            Some(mut live) => {
                Guest::begin(&mut live.store, deadline);
                live
            }
            None => self.instantiate(deadline, request.function).await?,
        };
        if callable.streams {
            let mut live = live;
            let func = self.func(&mut live, position)?;
            let function = callable.function.clone();
            return self.call_stream(stream::Call { live, function, arguments, deadline, place }, func).await;
        }
        let answer = self.call_value(live, position, &callable.function, arguments, deadline).await;
        drop(place);
        answer
    }

    async fn call_value(
        &self,
        mut live: Live,
        position: usize,
        function: &Function,
        mut arguments: Vec<Val>,
        deadline: Instant,
    ) -> Outcome<Answer> {
        let mut results = [Val::Bool(false)];
        let results = if function.result.is_some() { &mut results[..] } else { &mut results[..0] };
        let func = self.func(&mut live, position)?;
        let run = async {
            match self.kind {
                Kind::Concurrent => {
                    carry_in(&mut live.store, function, &mut arguments)?;
                    let call = live.store.run_concurrent(async |accessor| {
                        func.call_concurrent(accessor, &arguments, results).await
                    });
                    call.await.and_then(|result| result)
                }
                Kind::Lean | Kind::Policy => func.call_async(&mut live.store, &arguments, results).await,
            }
        };
        let guarded = AssertUnwindSafe(self.engines.metered(run)).catch_unwind();
        let ended = match tokio::time::timeout_at(deadline + GRACE, guarded).await {
            Ok(Ok(Ok(()))) => None,
            Ok(Ok(Err(error))) => Some(error),
            Ok(Err(_)) => Some(wasmtime::Error::msg("the host panicked in this call")),
            Err(_) => Some(super::guest::Ended::Deadline(self.plugin.limits.deadline_ms).into()),
        };
        if let Some(error) = ended {
            // The store is dropped, never used again: what a trap leaves behind is not to be trusted.
            return Err(self.fault(&error, &live.store, &function.name));
        }
        let answer = match (&function.result, results.first()) {
            (Some(ty), Some(value)) => value::answer(ty, value).map(Answer::Value),
            _ => Ok(Answer::Value(Vec::new())),
        };
        self.give_back(live);
        answer
    }

    async fn instantiate(&self, deadline: Instant, function: &str) -> Outcome<Live> {
        let engine = self.engines.get(self.kind);
        let mut store = Guest::store(engine, self.plugin.clone(), self.has_imports);
        Guest::begin(&mut store, deadline);
        let instance = self.engines.metered(self.pre.instantiate_async(&mut store));
        match tokio::time::timeout_at(deadline + GRACE, instance).await {
            Ok(Ok(instance)) => {
                Ok(Live { store, instance, functions: vec![None; self.functions.len()], used: 0 })
            }
            Ok(Err(error)) => Err(self.fault(&error, &store, function)),
            Err(_) => {
                let ended = super::guest::Ended::Deadline(self.plugin.limits.deadline_ms);
                Err(self.fault(&ended.into(), &store, function))
            }
        }
    }

    fn func(&self, live: &mut Live, position: usize) -> Outcome<Func> {
        if let Some(Some(func)) = live.functions.get(position) {
            return Ok(*func);
        }
        let index = self.functions.get(position).map(|callable| callable.index);
        let func = index.and_then(|index| live.instance.get_func(&mut live.store, index));
        let func = func.ok_or_else(|| Fault::new(Code::Internal, "an exported function is gone"))?;
        if let Some(known) = live.functions.get_mut(position) {
            *known = Some(func);
        }
        Ok(func)
    }

    async fn place(&self, deadline: Instant) -> Outcome<OwnedSemaphorePermit> {
        if let Ok(place) = self.places.clone().try_acquire_owned() {
            return Ok(place);
        }
        let busy = || {
            let limit = if self.waits { 1 } else { self.plugin.limits.concurrency };
            Fault::new(Code::Busy, format!("{}: {limit} calls are in flight", self.plugin.slot))
                .fix("try again, or raise limits.concurrency in the manifest")
        };
        if !self.waits {
            return Err(busy());
        }
        match tokio::time::timeout_at(deadline, self.places.clone().acquire_owned()).await {
            Ok(Ok(place)) => Ok(place),
            _ => Err(busy()),
        }
    }

    fn take_idle(&self) -> Option<Live> {
        if self.uses == 1 {
            return None;
        }
        self.idle.lock().unwrap_or_else(PoisonError::into_inner).pop()
    }

    fn give_back(&self, mut live: Live) {
        live.used = live.used.saturating_add(1);
        self.keep(live);
    }

    /// Keeps an instance for the next call, if it may have one more.
    fn keep(&self, live: Live) {
        if self.uses == 1 || live.used >= self.uses {
            return;
        }
        let mut idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner);
        if idle.len() < IDLE_MOST {
            idle.push(live);
        }
    }

    fn find(&self, name: &str) -> Outcome<(usize, &Callable)> {
        let position = self.by_name.get(name).copied();
        let found = position.and_then(|position| Some((position, self.functions.get(position)?)));
        let (position, callable) = found.ok_or_else(|| self.unknown_function(name))?;
        match &callable.refusal {
            None => Ok((position, callable)),
            Some(why) => Err(Fault::new(
                Code::NotCallable,
                format!("{} {name} cannot be called: {why}", self.plugin.slot),
            )),
        }
    }

    fn unknown_function(&self, name: &str) -> Fault {
        let known: Vec<&str> = self.functions().map(|function| function.name.as_str()).collect();
        let near = known.iter().max_by(|a, b| strsim::jaro(a, name).total_cmp(&strsim::jaro(b, name)));
        let fault = Fault::new(
            Code::UnknownFunction,
            format!("{} has no function {:?}", self.plugin.slot, crate::words::id::clip(name)),
        );
        match near {
            Some(near) if strsim::jaro(near, name) > 0.7 => fault.fix(format!("did you mean {near}?")),
            _ => fault.fix(format!("it has: {}", known.join(", "))),
        }
    }

    pub(super) fn fault(&self, error: &wasmtime::Error, store: &Store<Guest>, function: &str) -> Fault {
        let last_lines = store.data().last_lines.take();
        let (plugin, digest) = (&self.plugin.slot, &self.plugin.digest);
        trap::fault(error, Culprit { plugin, digest, function, last_lines })
    }
}

/// Functions by every name that is unambiguous: the bare one, and `interface#function`.
fn index(component: &Component, exports: Vec<Export>) -> (Vec<Callable>, HashMap<String, usize>) {
    let mut functions = Vec::new();
    let mut by_name: HashMap<String, Option<usize>> = HashMap::new();
    for export in exports {
        let parent =
            export.interface.as_ref().and_then(|interface| component.get_export_index(None, interface));
        if export.interface.is_some() && parent.is_none() {
            continue;
        }
        let Some(index) = component.get_export_index(parent.as_ref(), &export.function.name) else {
            continue;
        };
        let position = functions.len();
        let bare = export.function.name.clone();
        by_name.entry(bare).and_modify(|known| *known = None).or_insert(Some(position));
        if let Some(interface) = &export.interface {
            by_name.insert(format!("{interface}#{}", export.function.name), Some(position));
        }
        let refusal = export.function.callable().err();
        let streams = !matches!(export.function.answer(), Shape::Nothing | Shape::Value);
        functions.push(Callable { function: export.function, index, refusal, streams });
    }
    let by_name = by_name.into_iter().filter_map(|(name, position)| Some((name, position?))).collect();
    (functions, by_name)
}
