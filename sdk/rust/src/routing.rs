//! `wit/routing.wit`: where a call to a name goes.

#[allow(missing_docs, reason = "the documentation is that of the WIT file")]
#[doc(hidden)]
pub mod bindings {
    wit_bindgen::generate!({
        path: ["../../wit/policy.wit", "../../wit/routing.wit"],
        world: "midplane:routing/routing@0.1.0",
        runtime_path: "::midplane_sdk::wit_bindgen::rt",
        with: { "midplane:policy/types@0.1.0": crate::types },
        additional_derives: [PartialEq, Eq, serde::Serialize, serde::Deserialize],
        // Byte for byte a proof costs more than all the rest of a message.
        additional_member_attributes: {
            "midplane:routing/machine@0.1.0/claim.proof": [#[serde(with = "serde_bytes")]],
        },
        generate_unused_types: true,
        pub_export_macro: true,
    });
}

pub use bindings::exports::midplane::routing::machine::*;

impl From<BaseEffect> for Effect {
    fn from(effect: BaseEffect) -> Self {
        Effect::Base(effect)
    }
}

/// A routing policy. See `midplane:policy/types` for the rules that all policies follow.
pub trait Policy: Sized + 'static {
    /// Start. An error refuses the generation.
    fn init(setup: Setup) -> Result<(Self, Vec<Effect>), String>;

    /// Take one event.
    fn handle(&mut self, now: Millis, event: Event) -> Vec<Effect>;

    /// Where does this call go? Must depend on nothing but what came before.
    fn decide(&self, now: Millis, query: &Query) -> Plan;

    /// State for a later `init`.
    fn save(&self) -> State {
        State::none()
    }
}

/// Makes a [`Policy`](crate::routing::Policy) what the component exports. Once per crate.
#[macro_export]
macro_rules! export_routing {
    ($policy:ty) => {
        const _: () = {
            use $crate::routing as kind;
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
                fn decide(now: kind::Millis, query: kind::Query) -> kind::Plan {
                    INSTANCE
                        .with(|instance| instance.with(|policy| kind::Policy::decide(policy, now, &query)))
                }
                fn save() -> kind::State {
                    INSTANCE.with(|instance| instance.with(|policy| kind::Policy::save(policy)))
                }
            }

            // Symbols of components are no symbols elsewhere, and a test needs none.
            #[cfg(target_arch = "wasm32")]
    $crate::routing::bindings::export!(Component with_types_in $crate::routing::bindings);
            #[cfg(not(target_arch = "wasm32"))]
            const _: ::core::marker::PhantomData<Component> = ::core::marker::PhantomData;
        };
    };
}
