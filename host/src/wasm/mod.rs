//! Running components: engines, compiling, instances with their limits, and values on their way in and out.

pub mod bound;
pub mod cache;
pub mod compile;
pub mod describe;
mod element;
pub mod engine;
pub mod gateway;
pub mod guest;
pub mod inspect;
mod instances;
pub mod machine;
pub mod outward;
pub mod places;
pub mod preflight;
pub mod stream;
pub mod succession;
pub mod trap;
pub mod value;
pub mod workload;
