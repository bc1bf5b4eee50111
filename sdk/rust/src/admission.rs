//! `wit/admission.wit`: whom the node takes in.

#[allow(missing_docs, reason = "the documentation is that of the WIT file")]
#[doc(hidden)]
pub mod bindings {
    wit_bindgen::generate!({
        path: ["../../wit/policy.wit", "../../wit/admission.wit"],
        world: "midplane:admission/admission@0.1.0",
        runtime_path: "::midplane_sdk::wit_bindgen::rt",
        with: { "midplane:policy/types@0.1.0": crate::types },
        additional_derives: [PartialEq, Eq, serde::Serialize, serde::Deserialize],
        generate_unused_types: true,
        pub_export_macro: true,
    });
}

pub use bindings::exports::midplane::admission::machine::*;

impl From<BaseEffect> for Effect {
    fn from(effect: BaseEffect) -> Self {
        Effect::Base(effect)
    }
}

/// An admission policy. See `midplane:policy/types` for the rules that all policies follow.
pub trait Policy: Sized + 'static {
    /// Start. An error refuses the generation.
    fn init(setup: Setup) -> Result<(Self, Vec<Effect>), String>;

    /// Take one event. A policy that decides by the request alone needs none.
    fn handle(&mut self, _now: Millis, _event: Event) -> Vec<Effect> {
        Vec::new()
    }

    /// May this peer come in? Must depend on nothing but what came before.
    fn admit(&self, now: Millis, request: &Request) -> Verdict;

    /// State for a later `init`.
    fn save(&self) -> State {
        State::none()
    }
}

/// Makes a [`Policy`](crate::admission::Policy) what the component exports. Once per crate.
#[macro_export]
macro_rules! export_admission {
    ($policy:ty) => {
        const _: () = {
            use $crate::admission as kind;
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
                fn admit(now: kind::Millis, request: kind::Request) -> kind::Verdict {
                    INSTANCE
                        .with(|instance| instance.with(|policy| kind::Policy::admit(policy, now, &request)))
                }
                fn save() -> kind::State {
                    INSTANCE.with(|instance| instance.with(|policy| kind::Policy::save(policy)))
                }
            }

            // Symbols of components are no symbols elsewhere, and a test needs none.
            #[cfg(target_arch = "wasm32")]
    $crate::admission::bindings::export!(Component with_types_in $crate::admission::bindings);
            #[cfg(not(target_arch = "wasm32"))]
            const _: ::core::marker::PhantomData<Component> = ::core::marker::PhantomData;
        };
    };
}
