//! What a node keeps on its disk.

pub mod keys;
