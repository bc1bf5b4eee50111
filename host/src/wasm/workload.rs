//! A skill that is ready to be called: instances by the manifest's rule, one call at a time in each.

use std::collections::HashMap;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use wasmtime::component::{Component, ComponentExportIndex, Func, Instance, InstancePre, Val};

use super::cache::Compiled;
use super::describe::Export;
use super::element::carry_in;
use super::engine::{Engines, Kind};
use super::guest::{Guest, Plugin, Terms};
use super::instances::{self, Instances};
use super::places::Places;
use super::stream::{self, Items};
use super::{succession, value};
use crate::clock::{self, Instant};
use crate::decisions::rights::Rights;
use crate::words::interface::Interface;
use crate::words::objects::Instances as Rule;
use crate::words::schema::{Answer as Shape, Form, Function};
use crate::words::{Code, Fault, Outcome};

/// One call.
#[derive(Clone, Copy)]
pub struct Request<'a> {
    /// Function name: `add`, or `interface#add` where several interfaces have one or one is meant.
    pub function: &'a str,
    /// How `arguments` is meant.
    pub form: Form,
    /// CBOR: a map by parameter name or an array by position.
    pub arguments: &'a [u8],
    /// When the call ends at the latest; the plugin's own deadline may be earlier.
    pub deadline: Instant,
    /// On whose behalf.
    pub rights: Rights,
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
    pub(super) instances: Instances<Called>,
    pre: InstancePre<Guest>,
    pub(super) functions: Vec<Callable>,
    by_name: HashMap<String, usize>,
    pub(super) state: Option<succession::Functions>,
}

pub(super) struct Callable {
    /// None for a function of the world itself.
    pub(super) interface: Option<String>,
    pub(super) function: Function,
    index: ComponentExportIndex,
    /// Why it cannot be called, and whether it answers with a stream: known here, so that no call has to look.
    refusal: Option<String>,
    streams: bool,
}

impl Callable {
    /// Whether it is the host's, for another version of the skill.
    fn is_state(&self) -> bool {
        self.interface.as_deref() == Some(succession::STATE)
    }
}

/// An instance, and its functions by their position once they were called.
pub(super) struct Called {
    instance: Instance,
    functions: Vec<Option<Func>>,
}

/// The same with its store.
pub(super) type Live = instances::Live<Called>;

impl Workload {
    /// Links a component and makes one instance of it, so that nothing can be wrong later that could have been seen now.
    pub async fn prepare(
        engines: Engines,
        code: Arc<Compiled>,
        plugin: Arc<Plugin>,
        rule: &Rule,
        exports: Vec<Export>,
    ) -> Outcome<Arc<Self>> {
        let (instances, pre) = Instances::link(engines, code, plugin, rule, "calls")?;
        let (functions, by_name) = index(&instances.code.component, exports);
        let state = succession::Functions::find(&functions);
        let workload = Self { instances, pre, functions, by_name, state };
        let terms = workload.instances.preflight();
        let live = workload.instantiate(terms, "start").await?;
        workload.instances.keep(live);
        Ok(Arc::new(workload))
    }

    /// What can be called, and what is exported but cannot.
    pub fn functions(&self) -> impl Iterator<Item = &Function> {
        self.functions.iter().filter(|callable| !callable.is_state()).map(|callable| &callable.function)
    }

    /// The plugin that this is.
    pub fn plugin(&self) -> &Arc<Plugin> {
        &self.instances.plugin
    }

    /// The places for its calls.
    pub fn places(&self) -> &Places {
        &self.instances.places
    }

    /// Calls a function.
    pub async fn call(self: &Arc<Self>, request: Request<'_>) -> Outcome<Answer> {
        let (position, callable) = self.find(request.function)?;
        let now = clock::monotonic();
        let deadline = request.deadline.min(now + Duration::from_millis(self.plugin().limits.deadline_ms));
        let terms = Terms { now, deadline, rights: request.rights };
        let arguments = value::lower_arguments(&callable.function, request.form, request.arguments)?;
        let place = self.instances.place(deadline).await?;
        let mut live = self.live(terms, request.function).await?;
        if callable.streams {
            let func = self.func(&mut live, position)?;
            let function = callable.function.clone();
            let call = stream::Call { live, function, arguments, deadline, place };
            return Box::pin(self.call_stream(call, func)).await;
        }
        let call = self.call_value(live, position, &callable.function, arguments, deadline);
        let answer = Box::pin(call).await;
        drop(place);
        answer
    }

    /// An instance for a call on these terms.
    pub(super) async fn live(&self, terms: Terms, function: &str) -> Outcome<Live> {
        match self.instances.take_idle(terms) {
            Some(live) => Ok(live),
            None => Box::pin(self.instantiate(terms, function)).await,
        }
    }

    pub(super) async fn call_value(
        &self,
        mut live: Live,
        position: usize,
        function: &Function,
        mut arguments: Vec<Val>,
        deadline: Instant,
    ) -> Outcome<Answer> {
        let func = self.func(&mut live, position)?;
        let mut results = [Val::Bool(false)];
        let results = if function.result.is_some() { &mut results[..] } else { &mut results[..0] };
        let ended = match self.instances.code.kind {
            Kind::Concurrent => {
                let run = async {
                    carry_in(&mut live.store, function, &mut arguments)?;
                    let call = live.store.run_concurrent(async |accessor| {
                        func.call_concurrent(accessor, &arguments, results).await
                    });
                    call.await.and_then(|result| result)
                };
                self.instances.watch(Box::pin(run), deadline).await
            }
            Kind::Lean | Kind::Policy => {
                let run = pin!(func.call_async(&mut live.store, &arguments, results));
                self.instances.watch(run, deadline).await
            }
        };
        if let Err(error) = ended {
            // The store is dropped, never used again: what a trap leaves behind is not to be trusted.
            return Err(self.instances.fault(&error, &live.store, &function.name));
        }
        let answer = match (&function.result, results.first()) {
            (Some(ty), Some(value)) => value::answer(ty, value).map(Answer::Value),
            _ => Ok(Answer::Value(Vec::new())),
        };
        self.instances.give_back(live);
        answer
    }

    async fn instantiate(&self, terms: Terms, function: &str) -> Outcome<Live> {
        let mut store = self.instances.store(terms);
        let instance = {
            let run = pin!(self.pre.instantiate_async(&mut store));
            self.instances.watch(run, terms.deadline).await
        };
        match instance {
            Ok(instance) => {
                let functions = vec![None; self.functions.len()];
                Ok(Live::new(store, Called { instance, functions }))
            }
            Err(error) => Err(self.instances.fault(&error, &store, function)),
        }
    }

    fn func(&self, live: &mut Live, position: usize) -> Outcome<Func> {
        if let Some(Some(func)) = live.instance.functions.get(position) {
            return Ok(*func);
        }
        let index = self.functions.get(position).map(|callable| callable.index);
        let func = index.and_then(|index| live.instance.instance.get_func(&mut live.store, index));
        let func = func.ok_or_else(|| Fault::new(Code::Internal, "an exported function is gone"))?;
        if let Some(known) = live.instance.functions.get_mut(position) {
            *known = Some(func);
        }
        Ok(func)
    }

    fn find(&self, name: &str) -> Outcome<(usize, &Callable)> {
        let position = self.by_name.get(name).copied().or_else(|| self.stand_in(name));
        let found = position.and_then(|position| Some((position, self.functions.get(position)?)));
        let (position, callable) = found.ok_or_else(|| self.unknown_function(name))?;
        match &callable.refusal {
            None => Ok((position, callable)),
            Some(why) => Err(Fault::new(
                Code::NotCallable,
                format!("{} {name} cannot be called: {why}", self.plugin().slot),
            )),
        }
    }

    /// What is called for `interface#function` where there is no such export: the function in a compatible version of the interface,
    /// or of the world itself; never one of another interface.
    fn stand_in(&self, name: &str) -> Option<usize> {
        let (interface, function) = name.split_once('#')?;
        let wanted = Interface::parse(interface)?;
        let fits = |callable: &Callable| match callable.interface.as_deref() {
            Some(own) => Interface::parse(own).is_some_and(|own| wanted.takes(&own)),
            None => false,
        };
        let find = |fits: &dyn Fn(&Callable) -> bool| {
            let named = |callable: &Callable| callable.function.name == function && !callable.is_state();
            self.functions.iter().position(|callable| named(callable) && fits(callable))
        };
        find(&fits).or_else(|| find(&|callable| callable.interface.is_none()))
    }

    fn unknown_function(&self, name: &str) -> Fault {
        let known: Vec<&str> = self.functions().map(|function| function.name.as_str()).collect();
        let near = known.iter().max_by(|a, b| strsim::jaro(a, name).total_cmp(&strsim::jaro(b, name)));
        let fault = Fault::new(
            Code::UnknownFunction,
            format!("{} has no function {:?}", self.plugin().slot, crate::words::id::clip(name)),
        );
        match near {
            Some(near) if strsim::jaro(near, name) > 0.7 => fault.fix(format!("did you mean {near}?")),
            _ => fault.fix(format!("it has: {}", known.join(", "))),
        }
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
        // The host's own, and nobody else's.
        if export.interface.as_deref() != Some(succession::STATE) {
            by_name.entry(bare).and_modify(|known| *known = None).or_insert(Some(position));
            if let Some(interface) = &export.interface {
                by_name.insert(format!("{interface}#{}", export.function.name), Some(position));
            }
        }
        let refusal = export.function.callable().err();
        let streams = !matches!(export.function.answer(), Shape::Nothing | Shape::Value);
        functions.push(Callable {
            interface: export.interface,
            function: export.function,
            index,
            refusal,
            streams,
        });
    }
    let by_name = by_name.into_iter().filter_map(|(name, position)| Some((name, position?))).collect();
    (functions, by_name)
}
