//! Policies: components that decide and never act.
//!
//! One file per kind mirrors its WIT file; [`machine`] is one running instance with its fuel, [`slot`] is the actor that owns
//! it. To add a kind: write `wit/KIND.wit`, `policy/KIND.rs` with an `impl Kind`, a variant in `words::objects::Kind`, and
//! the effects in `node::effects`.

mod actor;
pub mod admission;
mod asks;
pub mod discovery;
pub mod machine;
pub mod recorder;
pub mod replay;
pub mod routing;
pub mod shadow;
pub mod slot;
pub mod succession;
pub mod sync;

/// Types and base events shared by all kinds: `wit/policy.wit`.
#[allow(missing_docs, reason = "the documentation is that of the WIT file")]
mod bindings {
    wasmtime::component::bindgen!({
        path: "../wit/policy.wit",
        inline: "package midplane:linked; world types { import midplane:policy/types@0.1.0; }",
        world: "midplane:linked/types",
        additional_derives: [Clone, PartialEq, serde::Serialize, serde::Deserialize],
    });
}

pub use bindings::midplane::policy::types;

use types::{BaseEffect, BaseEvent, Setup, State};
use wasmtime::Store;
use wasmtime::component::InstancePre;

use machine::{Machine, PolicyGuest};
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::words::Outcome;

/// One kind of policy: how its machine is called, and which of its events are facts.
pub trait Kind: Sized + Send + 'static {
    /// Events of this kind.
    type Event: Clone + std::fmt::Debug + Serialize + DeserializeOwned + Send + 'static;
    /// Effects of this kind, base effects included.
    type Effect: std::fmt::Debug + Serialize + DeserializeOwned + Send + 'static;
    /// The generated bindings of an instance.
    type Bindings: Send + 'static;

    /// Name of the kind, as in the manifest.
    const NAME: &str;

    /// Makes an instance.
    fn instantiate(
        pre: &InstancePre<PolicyGuest>,
        store: &mut Store<PolicyGuest>,
    ) -> wasmtime::Result<Self::Bindings>;

    /// Calls `init`.
    fn init(
        bindings: &Self::Bindings,
        store: &mut Store<PolicyGuest>,
        setup: &Setup,
    ) -> wasmtime::Result<Result<Vec<Self::Effect>, String>>;

    /// Calls `handle`.
    fn handle(
        bindings: &Self::Bindings,
        store: &mut Store<PolicyGuest>,
        now: u64,
        event: &Self::Event,
    ) -> wasmtime::Result<Vec<Self::Effect>>;

    /// Calls `save`.
    fn save(bindings: &Self::Bindings, store: &mut Store<PolicyGuest>) -> wasmtime::Result<State>;

    /// Wraps a base event.
    fn base_event(event: BaseEvent) -> Self::Event;

    /// The base event in an event.
    fn as_base(event: &Self::Event) -> Option<&BaseEvent>;

    /// Unwraps a base effect.
    fn base_effect(effect: Self::Effect) -> Result<BaseEffect, Self::Effect>;

    /// Asks a question of the kind by its name, with arguments that were recorded. Whether there is such a question; what comes of
    /// it is seen by the machine's recorder.
    ///
    /// # Errors
    /// `bad-object` when the arguments are not those of the question.
    fn ask_again(machine: &mut Machine<Self>, question: &str, now: u64, arguments: &[u8]) -> Outcome<bool>;

    /// What the event says about the world, for an instance that starts later.
    fn fact(event: &Self::Event) -> Fact;
}

/// Whether an event states something that goes on being true.
///
/// The slot keeps facts, so that an instance which starts later, after a trap or in a new generation, is told them again.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Fact {
    /// True until it is replaced or ended under the same key.
    Holds(FactKey),
    /// Not true any more.
    Ended(FactKey),
    /// A mere event.
    None,
}

/// What a fact is about.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum FactKey {
    /// A name that this node serves. Comes before the links when facts are told: what a policy says first to a peer, and calls all that
    /// it has to say, has to have all of them.
    Serving(String),
    /// A link, by peer.
    Link(String),
    /// A hint, by address.
    Hint(String),
}

/// The fact in a base event.
pub(crate) fn base_fact(event: &BaseEvent) -> Fact {
    match event {
        BaseEvent::LinkUp(link) | BaseEvent::LinkChanged(link) => {
            Fact::Holds(FactKey::Link(link.peer.clone()))
        }
        BaseEvent::LinkDown(peer) => Fact::Ended(FactKey::Link(peer.clone())),
        BaseEvent::Timer(_) | BaseEvent::Message(_) => Fact::None,
    }
}

/// Implements [`Kind`] for a kind whose generated code is in a module `bindings`; the questions are methods of its machine.
macro_rules! kind {
    ($kind:ident, $name:literal, $world:ident, $accessor:ident, $fact:expr, [$($question:ident),*]) => {
        impl super::Kind for $kind {
            type Event = Event;
            type Effect = Effect;
            type Bindings = bindings::$world;

            const NAME: &str = $name;

            fn instantiate(
                pre: &wasmtime::component::InstancePre<super::machine::PolicyGuest>,
                store: &mut wasmtime::Store<super::machine::PolicyGuest>,
            ) -> wasmtime::Result<Self::Bindings> {
                let instance = pre.instantiate(&mut *store)?;
                bindings::$world::new(&mut *store, &instance)
            }

            fn init(
                bindings: &Self::Bindings,
                store: &mut wasmtime::Store<super::machine::PolicyGuest>,
                setup: &super::types::Setup,
            ) -> wasmtime::Result<Result<Vec<Effect>, String>> {
                bindings.$accessor().call_init(store, setup)
            }

            fn handle(
                bindings: &Self::Bindings,
                store: &mut wasmtime::Store<super::machine::PolicyGuest>,
                now: u64,
                event: &Event,
            ) -> wasmtime::Result<Vec<Effect>> {
                bindings.$accessor().call_handle(store, now, event)
            }

            fn save(
                bindings: &Self::Bindings,
                store: &mut wasmtime::Store<super::machine::PolicyGuest>,
            ) -> wasmtime::Result<super::types::State> {
                bindings.$accessor().call_save(store)
            }

            fn base_event(event: super::types::BaseEvent) -> Event {
                Event::Base(event)
            }

            fn as_base(event: &Event) -> Option<&super::types::BaseEvent> {
                match event {
                    Event::Base(event) => Some(event),
                    #[allow(unreachable_patterns, reason = "a kind may have no events but the base ones")]
                    _ => None,
                }
            }

            fn base_effect(effect: Effect) -> Result<super::types::BaseEffect, Effect> {
                match effect {
                    Effect::Base(effect) => Ok(effect),
                    other => Err(other),
                }
            }

            #[allow(unused_variables, reason = "a kind may have no questions")]
            fn ask_again(
                machine: &mut super::machine::Machine<Self>,
                question: &str,
                now: u64,
                arguments: &[u8],
            ) -> crate::words::Outcome<bool> {
                match question {
                    $(
                        stringify!($question) => {
                            let arguments = crate::words::packed::read(arguments)?;
                            // A trap is an answer too.
                            let _ = machine.$question(now, &arguments);
                            Ok(true)
                        }
                    )*
                    _ => Ok(false),
                }
            }

            fn fact(event: &Event) -> super::Fact {
                match event {
                    Event::Base(event) => super::base_fact(event),
                    #[allow(unreachable_patterns, reason = "a kind may have no events but the base ones")]
                    other => $fact(other),
                }
            }
        }
    };
}
pub(crate) use kind;
