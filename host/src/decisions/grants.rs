//! Which imports a workload may have, and what each of them needs.

use serde::Serialize;

use crate::words::objects::Grants;

/// What an imported interface is for the plugin that imports it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Import {
    /// Linked, but there is nothing in it: no directory, no variable, no socket.
    Empty,
    /// Linked for every plugin; harmless.
    Free,
    /// Linked because the manifest grants it.
    Granted,
    /// Needs a line in the manifest: the grant that is missing.
    Missing(String),
    /// This host does not have it.
    Unknown,
}

/// WASI packages that are linked empty.
const EMPTY: [&str; 6] =
    ["wasi:cli/", "wasi:clocks/", "wasi:filesystem/", "wasi:io/", "wasi:random/", "wasi:sockets/"];

/// Judges one import by the interface's full name, for example `wasi:io/poll@0.2.6`.
pub fn judge(interface: &str, grants: &Grants) -> Import {
    if EMPTY.iter().any(|package| interface.starts_with(package)) {
        return Import::Empty;
    }
    if interface.starts_with("wasi:logging/logging@") {
        return Import::Free;
    }
    if interface.starts_with("midplane:host/node@") {
        return match grants.node {
            Some(_) => Import::Granted,
            None => Import::Missing("grants.node = \"read\"".to_owned()),
        };
    }
    Import::Unknown
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::words::objects::NodeAccess;

    #[test]
    fn every_import_has_one_judgement() {
        let none = Grants::default();
        let read = Grants { node: Some(NodeAccess::Read), ..Grants::default() };
        for (interface, grants, expect) in [
            ("wasi:io/poll@0.2.6", &none, Import::Empty),
            ("wasi:filesystem/types@0.3.0", &none, Import::Empty),
            ("wasi:logging/logging@0.1.0-draft", &none, Import::Free),
            ("midplane:host/node@0.1.0", &none, Import::Missing("grants.node = \"read\"".into())),
            ("midplane:host/node@0.1.0", &read, Import::Granted),
            ("midplane:host/invoke@0.1.0", &read, Import::Unknown),
            ("wasi:http/outgoing-handler@0.2.6", &read, Import::Unknown),
            ("wasi:iota/x@0.1.0", &read, Import::Unknown),
        ] {
            assert_eq!(judge(interface, grants), expect, "{interface}");
        }
    }
}
