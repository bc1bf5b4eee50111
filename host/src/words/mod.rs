//! Plain data: ids, objects, schemas, frames. Depends on nothing else of the host and does no I/O.

pub mod blob;
pub mod cbor;
pub mod control;
pub mod count;
pub mod dataset;
pub mod docs;
pub mod egress;
pub mod envelope;
pub mod event;
pub mod fault;
pub mod frame;
pub mod hello;
pub mod hop;
pub mod id;
pub mod interface;
pub mod json;
pub mod mesh;
pub mod mount;
pub mod note;
pub mod number;
pub mod objects;
pub mod packed;
pub mod problems;
pub mod recording;
pub mod schema;
pub mod source;
pub mod swap;
pub mod trust;
pub mod verb;

pub use fault::{Code, Fault, Outcome, TrapReport};
pub use id::{Digest, MeshId, Name, NodeId};
pub use trust::Trust;
pub use verb::Verb;
