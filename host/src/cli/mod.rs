//! The command line: one file per command. The only place that speaks with people.

pub mod build;
pub mod componentize;
mod toolchain;
