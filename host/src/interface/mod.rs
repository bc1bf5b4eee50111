//! Host interfaces: what a workload may import, one file per WIT file.
//!
//! Each file has one function `add_to_linker`; [`link`] calls them all, for the lean and for the concurrent engine alike.
//! Authority is decided once, by the preflight, when a generation is prepared: an interface that needs a grant is linked
//! only for plugins that have it.

pub mod bound;
pub mod config;
pub mod host;
pub mod http;
pub mod keyvalue;
pub mod logging;
pub mod wasi;

use wasmtime::component::Linker;

use crate::wasm::bound::Bound;
use crate::wasm::engine::Kind;
use crate::wasm::guest::Guest;
use crate::words::objects::Grants;

/// Links everything that a plugin with these grants and bindings may import.
pub fn link(
    linker: &mut Linker<Guest>,
    kind: Kind,
    grants: &Grants,
    bound: Vec<Bound>,
) -> wasmtime::Result<()> {
    wasi::add_to_linker(linker, kind)?;
    http::add_to_linker(linker, kind, grants)?;
    logging::add_to_linker(linker)?;
    config::add_to_linker(linker)?;
    if !grants.keyvalue.is_empty() {
        keyvalue::add_to_linker(linker)?;
    }
    host::add_to_linker(linker, grants)?;
    bound::add_to_linker(linker, bound)
}
