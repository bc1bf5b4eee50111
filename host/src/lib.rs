//! Midplane: a peer-to-peer node in which every capability is a WebAssembly plugin.
#![deny(unsafe_code)]

pub mod cli;
pub mod words;

pub mod decisions;

pub mod store;
pub mod net;
pub mod wasm;
