//! Pure rules: data and the time go in, a decision comes out. No clock, no I/O, no randomness.

pub mod canonical;
pub mod cose;
pub mod hello;
pub mod update;

#[cfg(test)]
mod cose_tests;
#[cfg(test)]
mod update_tests;
