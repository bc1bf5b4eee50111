//! Pure rules: data and the time go in, a decision comes out. No clock, no I/O, no randomness.

pub mod backoff;
pub mod canonical;
pub mod cose;
pub mod grants;
pub mod hello;
pub mod hops;
pub mod sizing;
pub mod trust;
pub mod update;

#[cfg(test)]
mod cose_tests;
#[cfg(test)]
mod update_tests;
