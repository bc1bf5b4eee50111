//! Midplane: a peer-to-peer node in which every capability is a WebAssembly plugin.
//!
//! Five strata, in reading order. Each uses only those before it; a test of the `tests` crate holds this list against the code.
//!
//! 1. words: plain data — ids, manifest, envelope, frames.
//! 2. decisions: pure functions; `now` is an argument.
//! 3. worlds: where tokio, quinn, wasmtime and redb live.
//! 4. node: the loop that joins them.
//! 5. cli: one file per command.
#![deny(unsafe_code)]

pub mod words;

pub mod decisions;

pub mod clock;
pub mod log;
pub mod net;
pub mod store;

pub mod wasm;

pub mod interface;
pub mod policy;

pub mod node;

pub mod cli;
