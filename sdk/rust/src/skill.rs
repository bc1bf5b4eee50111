//! Skills: any component is one, and this is the short way to write it in Rust.
//!
//! A skill crate has its world in `wit/`, and one file:
//!
//! ```ignore
//! midplane_sdk::skill!(Math1);
//!
//! struct Math1;
//!
//! impl Guest for Math1 {
//!     fn add(x: i64, y: i64) -> i64 {
//!         x + y
//!     }
//! }
//! ```
//!
//! What the world imports is generated beside `Guest`: with a package in `wit/deps` and `import acme:weather/forecast@1.2.0;` in the
//! world, `acme::weather::forecast::get(…)` calls whatever name the manifest binds to it: `bindings = {
//! "acme:weather/forecast@1.2.0" = "weather@acme" }`.
//!
//! Async functions and streams need the feature `async` of this crate; `wit_stream` and `wit_future` are then
//! generated beside `Guest`, and `wit_bindgen::spawn_local` runs what goes on after the function returned.

use std::panic;
use std::sync::Once;

/// Generates the bindings of the one world in the crate's `wit/` directory and makes the type what the component
/// exports. Options of [`wit_bindgen::generate!`] may follow the type.
#[macro_export]
macro_rules! skill {
    ($skill:ident $(, $($options:tt)*)?) => {
        $crate::wit_bindgen::generate!({
            runtime_path: "::midplane_sdk::wit_bindgen::rt",
            generate_all,
            $($($options)*)?
        });
        // Symbols of components are no symbols elsewhere, and a test needs none.
        #[cfg(target_arch = "wasm32")]
        export!($skill);
        #[cfg(not(target_arch = "wasm32"))]
        const _: ::core::marker::PhantomData<$skill> = ::core::marker::PhantomData;
    };
}

/// Hands the text of a panic to `write` before the component traps, for a skill that imports `wasi:logging/logging`:
///
/// ```ignore
/// midplane_sdk::skill::on_panic(|text| logging::log(Level::Critical, "panic", text));
/// ```
///
/// Only the first call counts, so every exported function may begin with it.
pub fn on_panic(write: fn(&str)) {
    static INSTALL: Once = Once::new();
    INSTALL.call_once(|| panic::set_hook(Box::new(move |panic| write(&panic.to_string()))));
}
