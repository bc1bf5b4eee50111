//! What the test files share: nodes as processes, seen from outside; components and meshes, seen from inside.

pub mod command;
pub mod forge;
pub mod guests;
pub mod manifest;
pub mod mesh;
pub mod node;
pub mod policies;
pub mod process;
pub mod relay;
pub mod sim;
pub mod wait;

pub use command::{Outcome, root};
pub use manifest::Manifest;
pub use mesh::Mesh;
pub use node::Node;
pub use wait::{PATIENCE, eventually};
