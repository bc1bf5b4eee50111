//! `wasi:config/store`: the `config` table of the plugin's own entry. Always linked.

use wasmtime::component::Linker;
use wasmtime_wasi_config::{WasiConfig, WasiConfigVariables};

use crate::wasm::guest::Guest;

/// Links the interface.
pub fn add_to_linker(linker: &mut Linker<Guest>) -> wasmtime::Result<()> {
    wasmtime_wasi_config::add_to_linker(linker, |guest| WasiConfig::from(&guest.plugin.given.config))
}

/// The keys of a JSON object. Texts are given as they are, everything else as JSON.
pub fn variables(config: &str) -> WasiConfigVariables {
    let table: serde_json::Map<String, serde_json::Value> = serde_json::from_str(config).unwrap_or_default();
    let text = |value| match value {
        serde_json::Value::String(text) => text,
        other => other.to_string(),
    };
    table.into_iter().map(|(key, value)| (key, text(value))).collect()
}
