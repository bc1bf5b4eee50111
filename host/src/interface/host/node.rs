//! `midplane:host/node`: facts about the node.

use super::generated::node;
use crate::wasm::guest::Guest;

impl node::Host for Guest {
    fn id(&mut self) -> wasmtime::Result<String> {
        let id = self.plugin.node.id.to_string();
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
