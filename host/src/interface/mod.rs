//! Host interfaces: what a workload may import, one file per WIT file.
//!
//! Each file has one function `add_to_linker`; [`link`] calls them all, for the lean and for the concurrent engine alike.
//! Authority is decided once, by the preflight, when a generation is prepared: an interface that needs a grant is linked
//! only for plugins that have it.

pub mod logging;
pub mod node;
pub mod wasi;

use wasmtime::component::Linker;

use crate::wasm::engine::Kind;
use crate::wasm::guest::Guest;
use crate::words::objects::Grants;

/// Links everything that a plugin with these grants may import.
pub fn link(linker: &mut Linker<Guest>, kind: Kind, grants: &Grants) -> wasmtime::Result<()> {
    wasi::add_to_linker(linker, kind)?;
    logging::add_to_linker(linker)?;
    if grants.node.is_some() {
        node::add_to_linker(linker)?;
    }
    Ok(())
}
