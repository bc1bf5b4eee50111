//! Gateways: handlers of HTTP requests, and this is the short way to write one in Rust.
//!
//! A gateway crate has in `wit/` a world that exports `wasi:http/incoming-handler@0.2` or `wasi:http/handler@0.3`, with the WIT of
//! `wasi:http` in `wit/deps/`, and one file:
//!
//! ```ignore
//! midplane_sdk::gateway!(Hello);
//!
//! use exports::wasi::http::incoming_handler::Guest;
//!
//! struct Hello;
//!
//! impl Guest for Hello { … }
//! ```
//!
//! 0.3 is async and needs the feature `async` of this crate.

/// Generates the bindings of the one world in the crate's `wit/` directory and makes the type what the component exports, as
/// [`skill!`](crate::skill!) does.
#[macro_export]
macro_rules! gateway {
    ($($all:tt)*) => {
        $crate::skill!($($all)*);
    };
}
