//! What a request asks for, without its details: what the roles of operators are about.

use super::control::Request;

/// Declares the verbs with their words, and which request has which.
macro_rules! verbs {
    ($( $(#[doc = $doc:literal])+ $verb:ident = $name:literal; )+) => {
        /// What a request asks for.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub enum Verb { $( $(#[doc = $doc])+ $verb, )+ }

        impl Verb {
            /// Every verb.
            pub const ALL: &[Verb] = &[ $( Verb::$verb, )+ ];

            /// The word for people.
            pub const fn as_str(self) -> &'static str {
                match self { $( Verb::$verb => $name, )+ }
            }
        }

        impl Request {
            /// What it asks for.
            pub const fn verb(&self) -> Verb {
                match self { $( Request::$verb { .. } => Verb::$verb, )+ }
            }
        }
    };
}

verbs! {
    /// How the node is.
    Status = "status";
    /// What runs.
    Plugins = "plugins";
    /// Who is linked.
    Peers = "peers";
    /// Where names lead.
    Routes = "routes";
    /// What was said.
    Logs = "logs";
    /// What happened.
    Events = "events";
    /// What a component is.
    Inspect = "inspect";
    /// Calls from there.
    Call = "call";
    /// Which blobs it lacks.
    Lacks = "lacks";
    /// Keeps a blob.
    PutBlob = "put-blob";
    /// Reads, keeps and lets go of blobs.
    Blob = "blob";
    /// Records a policy.
    Record = "record";
    /// Reads and writes entries of datasets.
    Dataset = "dataset";
    /// What the nodes of the mesh run.
    Mesh = "mesh";
    /// Applies a manifest.
    Apply = "apply";
    /// Confirms that a node can be reached.
    Confirm = "confirm";
    /// Which generations are kept.
    History = "history";
    /// The manifest of one of them.
    Manifest = "manifest";
    /// Puts an earlier generation in force again.
    Rollback = "rollback";
    /// Runs another component in a slot of this node.
    Swap = "swap";
    /// Takes newer roots.
    UpdateRoot = "update-root";
    /// Which node a word means.
    Find = "find";
    /// Carries an order on.
    Forward = "forward";
}

impl std::fmt::Display for Verb {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.as_str())
    }
}

impl Request {
    /// Whether what follows it is a blob that the request itself names: its digest is in what an operator signs, so the bytes
    /// need no other proof and may come in pieces.
    pub const fn names_what_follows(&self) -> bool {
        matches!(self, Request::PutBlob { .. })
    }
}
