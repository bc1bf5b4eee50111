//! The least that each piece of work can cost: the libraries underneath, used as directly as they allow.

pub mod http;
pub mod quinn;
pub mod wasmtime;

use std::path::Path;

use super::Failure;

/// A component as `make plugins` built it.
pub fn component(name: &str) -> Result<Vec<u8>, Failure> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("../target/plugins/{name}.wasm"));
    std::fs::read(&path).map_err(|error| format!("{}: {error}; run `make plugins`", path.display()).into())
}
