//! The objects that are signed: root, manifest, membership, claim. Plain data with one canonical CBOR form
//! (`decisions::cose`); who may sign them and when they are taken is decided in `decisions::update`.
//!
//! Times are Unix milliseconds. Unknown fields are errors, because what a node does not understand it must
//! not half obey.

pub mod claim;
pub mod manifest;
pub mod membership;
pub mod root;
pub mod rules;

pub use claim::Claim;
pub use manifest::{BlobRef, Grants, Instances, Kind, Limits, Manifest, NodeAccess, Plugin, Selector};
pub use membership::Membership;
pub use root::{Operator, Role, Root};
