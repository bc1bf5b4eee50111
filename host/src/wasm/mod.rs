//! Running components: what they export, and values on their way in and out.

pub mod describe;
pub mod value;
