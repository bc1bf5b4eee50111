//! What authors of Midplane plugins use.
//!
//! A *policy* implements the trait of its kind — [`discovery::Policy`], [`admission::Policy`],
//! [`routing::Policy`] or [`sync::Policy`] — and names the type in the export macro of the kind:
//!
//! ```
//! use midplane_sdk::{Setup, State, admission::*};
//!
//! struct Everyone;
//!
//! impl Policy for Everyone {
//!     fn init(_: Setup) -> Result<(Self, Vec<Effect>), String> {
//!         Ok((Everyone, Vec::new()))
//!     }
//!
//!     fn admit(&self, _: Millis, _: &Request) -> Verdict {
//!         Verdict { trust: Trust::Basic, reason: String::new() }
//!     }
//! }
//!
//! midplane_sdk::export_admission!(Everyone);
//! ```
//!
//! A *skill* has a world of its own in `wit/` and names the type that implements it in [`skill!`]; a *gateway* does the same with
//! a handler of `wasi:http` in [`gateway!`]. What they may ask their node for is in [`host`].
//!
//! Policies are replayed and compared byte for byte, so nothing here depends on the order of a hash table:
//! use [`Map`] and [`Set`].

// The code that wit-bindgen generates, here and in plugins, finds the runtime under this name.
extern crate self as midplane_sdk;

pub mod admission;
pub mod codec;
pub mod discovery;
pub mod effect;
pub mod gateway;
pub mod host;
#[doc(hidden)]
pub mod machine;
pub mod routing;
pub mod skill;
pub mod sync;

mod setup;
mod types;

pub use effect::{cancel_timer, log, send, set_timer};
pub use types::{
    BaseEffect, BaseEvent, Entry, Level, Link, Message, Millis, Name, NodeId, PeerSlot, Setup, State, Timer,
    Trust,
};

/// An ordered map, the only kind that a policy should iterate.
pub use std::collections::BTreeMap as Map;
/// An ordered set, the only kind that a policy should iterate.
pub use std::collections::BTreeSet as Set;

pub use serde;
pub use serde_json;
pub use wit_bindgen;
