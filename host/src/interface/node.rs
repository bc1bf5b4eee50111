//! `midplane:host/node`: facts about the node. Needs the grant `node = "read"`.

use wasmtime::component::{HasSelf, Linker};

use crate::wasm::guest::Guest;

mod bindings {
    wasmtime::component::bindgen!({
        path: "../wit/host.wit",
        world: "midplane:host/imports",
        imports: { default: trappable },
    });
}

use bindings::midplane::host::node;

/// Links the interface.
pub fn add_to_linker(linker: &mut Linker<Guest>) -> wasmtime::Result<()> {
    node::add_to_linker::<Guest, HasSelf<Guest>>(linker, |guest| guest)
}

impl node::Host for Guest {
    fn id(&mut self) -> wasmtime::Result<String> {
        let id = self.plugin.node.id.clone();
        self.spend_bytes(id.len())?;
        Ok(id)
    }

    fn label(&mut self) -> wasmtime::Result<String> {
        let label = self.plugin.node.label.clone();
        self.spend_bytes(label.len())?;
        Ok(label)
    }

    fn tags(&mut self) -> wasmtime::Result<Vec<String>> {
        let tags = self.plugin.node.tags.clone();
        self.spend_bytes(tags.iter().map(String::len).sum())?;
        Ok(tags)
    }
}
