//! Running components: engines, compiling, instances with their limits, and values on their way in and out.

pub mod cache;
pub mod compile;
pub mod describe;
mod element;
pub mod engine;
pub mod guest;
pub mod inspect;
pub mod preflight;
pub mod stream;
pub mod trap;
pub mod value;
pub mod workload;
