//! Which imports a workload may have, and what each of them needs.

use std::path::{Path, PathBuf};

use serde::Serialize;

use super::bindings;
use crate::words::Name;
use crate::words::interface::Interface;
use crate::words::objects::{Bindings, BlobAccess, BlobGrant, DirGrant, Grants};

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
    /// Calls of a name of the mesh satisfy it, because the manifest binds it.
    Bound(Name),
    /// Nobody's but for a binding: no interface of this host.
    Unbound,
    /// This host does not have it.
    Unknown,
}

/// WASI packages that are linked empty.
const EMPTY: [&str; 6] =
    ["wasi:cli/", "wasi:clocks/", "wasi:filesystem/", "wasi:io/", "wasi:random/", "wasi:sockets/"];

/// What every plugin may import: its lines, the `config` of its own entry, and HTTP's words: without a grant to send there is
/// nothing to do with them but to answer.
const FREE: [&str; 3] = ["wasi:logging/logging@", "wasi:config/store@0.2.0-rc.1", "wasi:http/types@0."];

/// Judges one import by the interface's full name, for example `wasi:io/poll@0.2.6`.
pub fn judge(interface: &str, grants: &Grants, bindings: &Bindings) -> Import {
    if interface.starts_with("wasi:filesystem/") && !grants.dirs.is_empty() {
        return Import::Granted;
    }
    if EMPTY.iter().any(|package| interface.starts_with(package)) {
        return Import::Empty;
    }
    if FREE.iter().any(|package| interface.starts_with(package)) {
        return Import::Free;
    }
    let needs = |granted: bool, grant: &str| match granted {
        true => Import::Granted,
        false => Import::Missing(format!("grants.{grant}")),
    };
    match interface.split_once('@').map(|(name, _)| name) {
        Some("wasi:http/outgoing-handler") if interface.contains("@0.2.") => {
            needs(!grants.http.is_empty(), "http = [\"GET https://HOST\"]")
        }
        Some("wasi:http/client") if interface.contains("@0.3.") => {
            needs(!grants.http.is_empty(), "http = [\"GET https://HOST\"]")
        }
        Some("midplane:host/node") => needs(grants.node.is_some(), "node = \"read\""),
        Some("midplane:host/peers") => needs(grants.peers.is_some(), "peers = \"read\""),
        Some("midplane:host/blobs") => {
            needs(grants.blobs.is_some(), "blobs = { read = \"node\", write = \"64MiB\" }")
        }
        Some("wasi:keyvalue/store" | "wasi:keyvalue/atomics" | "wasi:keyvalue/batch") => {
            needs(!grants.keyvalue.is_empty(), "keyvalue = [\"NAME\"]")
        }
        Some("midplane:host/invoke") => needs(!grants.invoke.is_empty(), "invoke = [\"NAME@DOMAIN\"]"),
        _ => match Interface::parse(interface) {
            Some(foreign) if !foreign.is_host() => match bindings::bound(bindings, interface) {
                Some(name) => Import::Bound(name.clone()),
                None => Import::Unbound,
            },
            _ => Import::Unknown,
        },
    }
}

/// The grants as lines of a manifest, for people.
pub fn lines(grants: &Grants) -> Vec<String> {
    let mut lines = Vec::new();
    let reads = [("node", grants.node), ("peers", grants.peers)];
    for (key, _) in reads.iter().filter(|(_, access)| access.is_some()) {
        lines.push(format!("{key} = \"read\""));
    }
    let lists = [
        ("resolve", &grants.resolve),
        ("invoke", &grants.invoke),
        ("http", &grants.http),
        ("keyvalue", &grants.keyvalue),
    ];
    for (key, list) in lists {
        if !list.is_empty() {
            lines.push(format!("{key} = {list:?}"));
        }
    }
    for DirGrant { path, seen, write } in &grants.dirs {
        lines.push(format!("dirs = [{{ path = {path:?}, as = {seen:?}, write = {write} }}]"));
    }
    if let Some(BlobGrant { read, write }) = grants.blobs {
        let read = read.map(|read| match read {
            BlobAccess::Node => "read = \"node\"".to_owned(),
            BlobAccess::Mesh => "read = \"mesh\"".to_owned(),
        });
        let both: Vec<String> =
            read.into_iter().chain(write.map(|bytes| format!("write = {bytes}"))).collect();
        lines.push(format!("blobs = {{ {} }}", both.join(", ")));
    }
    lines
}

/// A directory of the node that its operator lets plugins see, with everything below it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OpenDir {
    /// Where it is, without links.
    pub path: PathBuf,
    /// Whether plugins may change what is in it.
    pub write: bool,
}

impl OpenDir {
    /// Whether this lets a plugin see a directory, whose path has no links in it, and write to it where it wants to.
    pub fn opens(&self, path: &Path, write: bool) -> bool {
        path.starts_with(&self.path) && (self.write || !write)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::words::objects::NodeAccess;

    #[test]
    fn every_import_has_one_judgement() {
        let none = Grants::default();
        let read = Grants { node: Some(NodeAccess::Read), ..Grants::default() };
        let http = Grants { http: vec!["GET https://a.example".into()], ..Grants::default() };
        let dirs = vec![DirGrant { path: "/srv".into(), seen: "/x".into(), write: false }];
        let keyvalue = vec!["a".into()];
        let name: Name = "weather@acme".parse().unwrap();
        let keys = ["acme:weather/forecast", "wasi:acme/forecast", "now"];
        let bindings = keys.map(|key| (key.to_owned(), name.clone())).into();
        let all = Grants {
            dirs,
            keyvalue,
            invoke: vec!["*".into()],
            peers: Some(NodeAccess::Read),
            blobs: Some(BlobGrant::default()),
            ..read.clone()
        };
        for (interface, grants, expect) in [
            ("wasi:io/poll@0.2.6", &none, Import::Empty),
            ("wasi:config/store@0.2.0-rc.1", &none, Import::Free),
            (
                "wasi:keyvalue/store@0.2.0-draft",
                &none,
                Import::Missing("grants.keyvalue = [\"NAME\"]".into()),
            ),
            ("wasi:keyvalue/batch@0.2.0-draft", &all, Import::Granted),
            ("wasi:keyvalue/watcher@0.2.0-draft", &all, Import::Unknown),
            ("wasi:filesystem/types@0.2.6", &all, Import::Granted),
            ("wasi:filesystem/types@0.3.0", &none, Import::Empty),
            ("wasi:logging/logging@0.1.0-draft", &none, Import::Free),
            ("midplane:host/node@0.1.0", &none, Import::Missing("grants.node = \"read\"".into())),
            ("midplane:host/node@0.1.0", &read, Import::Granted),
            (
                "midplane:host/invoke@0.1.0",
                &read,
                Import::Missing("grants.invoke = [\"NAME@DOMAIN\"]".into()),
            ),
            ("midplane:host/invoke@0.1.0", &all, Import::Granted),
            ("midplane:host/peers@0.1.0", &read, Import::Missing("grants.peers = \"read\"".into())),
            ("midplane:host/peers@0.1.0", &all, Import::Granted),
            (
                "midplane:host/blobs@0.1.0",
                &read,
                Import::Missing("grants.blobs = { read = \"node\", write = \"64MiB\" }".into()),
            ),
            ("midplane:host/blobs@0.1.0", &all, Import::Granted),
            ("midplane:host/future@0.1.0", &all, Import::Unknown),
            (
                "wasi:http/outgoing-handler@0.2.6",
                &read,
                Import::Missing("grants.http = [\"GET https://HOST\"]".into()),
            ),
            ("wasi:http/client@0.3.0", &http, Import::Granted),
            ("wasi:http/handler@0.3.0", &http, Import::Unknown),
            ("wasi:http/types@0.2.6", &none, Import::Free),
            ("wasi:http/types@0.3.0", &none, Import::Free),
            ("wasi:iota/x@0.1.0", &read, Import::Unknown),
            ("acme:weather/forecast@1.2.0", &all, Import::Bound("weather@acme".parse().unwrap())),
            ("acme:weather/alerts@1.2.0", &all, Import::Unbound),
            ("wasi:acme/forecast", &all, Import::Unknown),
            ("now", &all, Import::Unknown),
        ] {
            assert_eq!(judge(interface, grants, &bindings), expect, "{interface}");
        }
    }

    #[test]
    fn a_directory_opens_what_is_below_it() {
        let open = [
            OpenDir { path: "/srv/read".into(), write: false },
            OpenDir { path: "/srv/read/write".into(), write: true },
        ];
        for (path, write, expect) in [
            ("/srv/read", false, true),
            ("/srv/read/a/b", false, true),
            ("/srv/read", true, false),
            ("/srv/read/write/a", true, true),
            ("/srv/reading", false, false),
            ("/srv", false, false),
            ("/", false, false),
        ] {
            let opens = open.iter().any(|open| open.opens(Path::new(path), write));
            assert_eq!(opens, expect, "{path} {write}");
        }
    }
}
