//! The objects that are signed: root, manifest, swap, membership, claim, order. Plain data with one canonical CBOR form
//! (`decisions::cose`); who may sign them and when they are taken is decided in `decisions::update`.
//!
//! Times are Unix milliseconds. Unknown fields are errors, because what a node does not understand it must
//! not half obey.

pub mod claim;
pub mod manifest;
pub mod membership;
pub mod order;
pub mod root;
pub mod rules;
pub mod swap;

pub use claim::Claim;
pub use manifest::{
    Bindings, BlobAccess, BlobGrant, BlobRef, DirGrant, Grants, Handover, Instances, Kind, Limits, Manifest,
    NodeAccess, Plugin, Selector,
};
pub use membership::Membership;
pub use order::Order;
pub use root::{Operator, Role, Root};
pub use swap::Swap;
