//! `wasi:logging/logging`: lines for the node's log. Always linked.

use wasmtime::component::{HasSelf, Linker};

use crate::log::Level;
use crate::wasm::guest::{Ended, Guest};

mod bindings {
    wasmtime::component::bindgen!({
        path: "../wit/logging.wit",
        inline: "package midplane:linked; world logging { import wasi:logging/logging@0.1.0-draft; }",
        world: "midplane:linked/logging",
        imports: { default: trappable },
    });
}

use bindings::wasi::logging::logging;

/// Links the interface.
pub fn add_to_linker(linker: &mut Linker<Guest>) -> wasmtime::Result<()> {
    logging::add_to_linker::<Guest, HasSelf<Guest>>(linker, |guest| guest)
}

impl logging::Host for Guest {
    fn log(&mut self, level: logging::Level, context: String, message: String) -> wasmtime::Result<()> {
        self.spend_bytes(context.len() + message.len())
            .map_err(|ended: Ended| wasmtime::Error::from(ended))?;
        let level = match level {
            logging::Level::Trace => Level::Trace,
            logging::Level::Debug => Level::Debug,
            logging::Level::Info => Level::Info,
            logging::Level::Warn => Level::Warn,
            logging::Level::Error | logging::Level::Critical => Level::Error,
        };
        if context.is_empty() {
            self.say(level, &message);
        } else {
            self.say(level, &format!("{context}: {message}"));
        }
        Ok(())
    }
}
