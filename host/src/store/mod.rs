//! What a node keeps on its disk.

pub mod blobs;
pub mod current;
pub mod directory;
pub mod disk;
pub mod entries;
pub mod files;
pub mod holdings;
pub mod keys;
pub mod keyvalue;
pub mod reserve;
pub mod state;
pub mod trust;

#[cfg(test)]
mod crash_tests;
