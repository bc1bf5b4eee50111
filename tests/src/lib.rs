//! What the test files share: nodes as processes, seen from outside; components and meshes, seen from inside.

pub mod announcer;
pub mod cage;
pub mod command;
pub mod datasets;
pub mod forge;
pub mod guests;
pub mod http;
pub mod http2;
pub mod liar;
pub mod load;
pub mod manifest;
pub mod member;
pub mod mesh;
pub mod node;
pub mod policies;
pub mod process;
pub mod recorder;
pub mod relay;
pub mod sim;
pub mod strace;
pub mod trial;
pub mod wait;

pub use command::{Outcome, root};
pub use manifest::Manifest;
pub use mesh::Mesh;
pub use node::Node;
pub use wait::{PATIENCE, eventually};
