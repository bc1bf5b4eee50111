//! What a workload may ask its node for, as the host interfaces see it. The node implements it, because calls, links and
//! stores are its own.

use std::pin::Pin;

use bytes::Bytes;
use futures::Stream;
use futures::future::BoxFuture;

use crate::clock::Instant;
use crate::decisions::rights::Rights;
use crate::words::schema::Form;
use crate::words::{Digest, Name, NodeId, Outcome, Trust};

/// An answer on its way: CBOR sequences of at least one item each; an error is the last thing that comes. Dropping it cancels
/// the call.
pub type Pieces = Pin<Box<dyn Stream<Item = Outcome<Bytes>> + Send>>;

/// A call that a plugin makes.
#[derive(Clone, Debug)]
pub struct Nested {
    /// What is called.
    pub name: Name,
    /// Its function.
    pub function: String,
    /// How the arguments are meant.
    pub form: Form,
    /// CBOR.
    pub arguments: Vec<u8>,
    /// End of the whole call.
    pub deadline: Instant,
    /// Whether it may be tried again where it may have started.
    pub idempotent: bool,
    /// On whose behalf: what [`Rights::nested`] left.
    pub rights: Rights,
}

/// A linked peer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Peer {
    /// Its identity.
    pub id: NodeId,
    /// What it calls itself.
    pub label: String,
    /// Tags of its membership.
    pub tags: Vec<String>,
    /// Effective trust.
    pub trust: Trust,
    /// Smoothed round-trip time in microseconds.
    pub rtt_us: u64,
}

/// The node around a workload.
pub trait Outward: Send + Sync {
    /// Calls a function by name. The answer has begun when the future ends.
    fn call(&self, call: Nested) -> BoxFuture<'static, Outcome<Pieces>>;

    /// The peers that are linked now, by id.
    fn peers(&self) -> Vec<Peer>;

    /// Fetches a blob that is not here; it stays for a while. Dropping the future leaves what has come for the next time.
    fn fetch(&self, digest: Digest) -> BoxFuture<'static, Outcome<()>>;

    /// Lets go of a blob that a slot keeps, and takes it away when nothing else needs it. False when the slot did not keep it.
    fn let_go(&self, slot: String, digest: Digest) -> BoxFuture<'static, Outcome<bool>>;

    /// Takes away what the slot let go of while it was needed, and what is not any more.
    fn sweep(&self, slot: String) -> BoxFuture<'static, ()>;
}
