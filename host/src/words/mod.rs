//! Plain data: ids, objects, schemas, frames. Depends on nothing else of the host and does no I/O.

pub mod cbor;
pub mod control;
pub mod docs;
pub mod envelope;
pub mod fault;
pub mod frame;
pub mod hello;
pub mod hop;
pub mod id;
pub mod json;
pub mod note;
pub mod number;
pub mod objects;
pub mod problems;
pub mod schema;
pub mod source;
pub mod trust;

pub use fault::{Code, Fault, Outcome, TrapReport};
pub use id::{Digest, MeshId, Name, NodeId};
pub use trust::Trust;
