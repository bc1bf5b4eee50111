//! Pure rules: data and the time go in, a decision comes out. No clock, no I/O, no randomness.

pub mod backoff;
pub mod bindings;
pub mod canary;
pub mod canonical;
pub mod changes;
pub mod cose;
pub mod doctor;
pub mod gains;
pub mod grants;
pub mod hello;
pub mod hops;
pub mod http;
pub mod latency;
pub mod orders;
pub mod pace;
pub mod probation;
pub mod redial;
pub mod rights;
pub mod roles;
pub mod rollout;
pub mod roots;
pub mod seal;
pub mod shadow;
pub mod sizing;
pub mod sparing;
pub mod spread;
pub mod swap;
pub mod trust;
pub mod update;
pub mod waves;

#[cfg(test)]
mod cose_tests;
#[cfg(test)]
mod update_tests;
