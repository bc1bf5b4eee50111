//! What a node keeps on its disk.

pub mod blobs;
pub mod directory;
pub mod files;
pub mod keys;
pub mod state;
pub mod trust;
