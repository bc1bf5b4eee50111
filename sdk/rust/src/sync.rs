//! `wit/sync.wit`: how entries of datasets come to be the same on every node.

#[allow(missing_docs, reason = "the documentation is that of the WIT file")]
#[doc(hidden)]
pub mod bindings {
    wit_bindgen::generate!({
        path: ["../../wit/policy.wit", "../../wit/sync.wit"],
        world: "midplane:sync/sync@0.1.0",
        runtime_path: "::midplane_sdk::wit_bindgen::rt",
        with: { "midplane:policy/types@0.1.0": crate::types },
        additional_derives: [PartialEq, Eq, serde::Serialize, serde::Deserialize],
        generate_unused_types: true,
        pub_export_macro: true,
    });
}

pub use bindings::exports::midplane::sync::machine::*;

impl From<BaseEffect> for Effect {
    fn from(effect: BaseEffect) -> Self {
        Effect::Base(effect)
    }
}

/// A sync policy. See `midplane:policy/types` for the rules that all policies follow, and `midplane:sync/machine` for the order of
/// what it is told.
pub trait Policy: Sized + 'static {
    /// Start. An error refuses the generation.
    fn init(setup: Setup) -> Result<(Self, Vec<Effect>), String>;

    /// Take one event. The rows that the effects put and remove are kept in one transaction, before anything else happens.
    fn handle(&mut self, now: Millis, event: Event) -> Vec<Effect>;

    /// State for a later `init`. Rows come back by themselves, so a policy whose rows say everything needs none.
    fn save(&self) -> State {
        State::none()
    }
}

/// Makes a [`Policy`](crate::sync::Policy) what the component exports. Once per crate.
#[macro_export]
macro_rules! export_sync {
    ($policy:ty) => {
        const _: () = {
            use $crate::sync as kind;
            ::std::thread_local! {
                static INSTANCE: $crate::machine::Instance<$policy> =
                    const { $crate::machine::Instance::empty() };
            }

            struct Component;

            impl kind::Guest for Component {
                fn init(setup: kind::Setup) -> Result<Vec<kind::Effect>, String> {
                    INSTANCE.with(|instance| instance.start(<$policy as kind::Policy>::init(setup)))
                }
                fn handle(now: kind::Millis, event: kind::Event) -> Vec<kind::Effect> {
                    INSTANCE.with(|instance| instance.with(|policy| kind::Policy::handle(policy, now, event)))
                }
                fn save() -> kind::State {
                    INSTANCE.with(|instance| instance.with(|policy| kind::Policy::save(policy)))
                }
            }

            // Symbols of components are no symbols elsewhere, and a test needs none.
            #[cfg(target_arch = "wasm32")]
    $crate::sync::bindings::export!(Component with_types_in $crate::sync::bindings);
            #[cfg(not(target_arch = "wasm32"))]
            const _: ::core::marker::PhantomData<Component> = ::core::marker::PhantomData;
        };
    };
}
