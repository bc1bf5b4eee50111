//! Carrying bytes between nodes: QUIC with raw public keys, frames on streams, and passing streams on; and HTTP for gateways.
//!
//! Nothing here chooses: whom to dial, whom to admit and where to forward is decided elsewhere.

pub mod endpoint;
pub mod errors;
pub mod frames;
pub mod http;
pub mod splice;
pub mod tls;
pub mod windows;

pub use endpoint::{Arrival, Endpoint, admit, close, lookup, peer_id, remote_address};
pub use frames::{Chunks, FrameReader, FrameWriter, Piece, Pipe};
pub use splice::{Cause, SpliceEnd, splice, splice_after};

#[cfg(test)]
mod tests;
