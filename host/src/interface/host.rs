//! `wit/host.wit`: the node's own interfaces, one module for each. Every one needs a grant to be linked.

pub mod blobs;
pub mod invoke;
mod node;
mod peers;

use wasmtime::component::{HasSelf, Linker};

use crate::wasm::guest::Guest;
use crate::words::objects::Grants;
use crate::words::{Fault, Trust};

/// Generated from the WIT file.
mod bindings {
    wasmtime::component::bindgen!({
        path: "../wit/host.wit",
        world: "midplane:host/imports",
        with: {
            "midplane:host/invoke.reply": super::invoke::Reply,
            "midplane:host/blobs.writer": super::blobs::Writer,
            "midplane:host/blobs.reader": super::blobs::Reader,
        },
        imports: {
            "midplane:host/invoke.start": async | trappable,
            "midplane:host/invoke.[method]reply.next": async | trappable,
            "midplane:host/blobs.put": async | trappable,
            "midplane:host/blobs.get": async | trappable,
            "midplane:host/blobs.let-go": async | trappable,
            "midplane:host/blobs.[method]writer.write": async | trappable,
            "midplane:host/blobs.[method]writer.finish": async | trappable,
            "midplane:host/blobs.[method]reader.next": async | trappable,
            default: trappable,
        },
    });
}

use bindings::midplane::host as generated;

/// Links what the grants allow.
pub fn add_to_linker(linker: &mut Linker<Guest>, grants: &Grants) -> wasmtime::Result<()> {
    if grants.node.is_some() {
        generated::node::add_to_linker::<Guest, HasSelf<Guest>>(linker, |guest| guest)?;
    }
    if grants.peers.is_some() {
        generated::peers::add_to_linker::<Guest, HasSelf<Guest>>(linker, |guest| guest)?;
    }
    if !grants.invoke.is_empty() {
        generated::invoke::add_to_linker::<Guest, HasSelf<Guest>>(linker, |guest| guest)?;
    }
    if grants.blobs.is_some() {
        generated::blobs::add_to_linker::<Guest, HasSelf<Guest>>(linker, |guest| guest)?;
    }
    Ok(())
}

impl generated::types::Host for Guest {}

/// What a guest is told of a failure.
fn error(fault: Fault) -> generated::types::Error {
    generated::types::Error {
        code: fault.code.as_str().to_owned(),
        what: fault.what,
        fix: fault.fix,
        value: fault.value.map(|value| value.to_string()),
    }
}

fn trust(trust: Trust) -> generated::types::Trust {
    match trust {
        Trust::Unknown => generated::types::Trust::Unknown,
        Trust::Pending => generated::types::Trust::Pending,
        Trust::Basic => generated::types::Trust::Basic,
        Trust::Trusted => generated::types::Trust::Trusted,
        Trust::Full => generated::types::Trust::Full,
    }
}
