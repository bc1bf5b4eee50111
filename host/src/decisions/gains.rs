//! What a plugin may do that another version of it may not.
//!
//! A right is gained unless something that the plugin had covers it: a narrower host, one method of many and a smaller quota are no gains.

use std::path::Path;

use crate::words::count::count;
use crate::words::egress::{Egress, HostPattern, PathPattern};
use crate::words::objects::{BlobAccess, DirGrant, Plugin};
use crate::words::{Name, Trust};

/// The rights that `new` has and `old` has not, in words; none stands for a plugin that is not there.
pub fn gained(old: Option<&Plugin>, new: Option<&Plugin>) -> Vec<String> {
    let (had, has) = (rights(old), rights(new));
    let gained = has.iter().filter(|right| !had.iter().any(|own| own.covers(right)));
    let mut words: Vec<String> = gained.map(Right::words).collect();
    words.dedup();
    words
}

/// One thing that a plugin may do, or that others may do with it.
enum Right {
    /// `node`, `peers`: read it.
    Read(&'static str),
    Resolve(String),
    Invoke(String),
    /// Calls of a name for an import.
    Binding(String, Name),
    /// A method, or none for all of them; the line's URL; and the line, if it can be read.
    Http(Option<String>, String, Option<Egress>),
    Keyvalue(String),
    Dir(DirGrant),
    BlobsRead(BlobAccess),
    BlobsWrite(u64),
    /// Callers from this trust on may call it.
    Callers(Trust),
}

fn rights(plugin: Option<&Plugin>) -> Vec<Right> {
    // Whoever is trusted may call a new skill: that is what skills are for, and no gain.
    let Some(plugin) = plugin else { return vec![Right::Callers(Trust::Trusted)] };
    let grants = &plugin.grants;
    let mut rights = Vec::new();
    rights.extend(grants.node.map(|_| Right::Read("node")));
    rights.extend(grants.peers.map(|_| Right::Read("peers")));
    rights.extend(grants.resolve.iter().cloned().map(Right::Resolve));
    rights.extend(grants.invoke.iter().cloned().map(Right::Invoke));
    let bindings = plugin.bindings.iter();
    rights.extend(bindings.map(|(import, name)| Right::Binding(import.clone(), name.clone())));
    rights.extend(grants.http.iter().flat_map(|line| http(line)));
    rights.extend(grants.keyvalue.iter().cloned().map(Right::Keyvalue));
    rights.extend(grants.dirs.iter().cloned().map(Right::Dir));
    rights.extend(grants.blobs.and_then(|blobs| blobs.read).map(Right::BlobsRead));
    rights.extend(grants.blobs.and_then(|blobs| blobs.write).map(Right::BlobsWrite));
    // Policies are not called; their default says nothing.
    let callers = if plugin.kind.is_policy() { Trust::Trusted } else { plugin.expose };
    rights.push(Right::Callers(callers));
    rights
}

/// A line of `grants.http`, method by method.
fn http(line: &str) -> Vec<Right> {
    let url = line.split_once(' ').map_or(line, |(_, url)| url).to_owned();
    let egress: Option<Egress> = line.parse().ok();
    match egress {
        Some(egress) if !egress.methods.is_empty() => {
            let methods = egress.methods.clone().into_iter();
            methods.map(|method| Right::Http(Some(method), url.clone(), Some(egress.clone()))).collect()
        }
        egress => vec![Right::Http(None, url, egress)],
    }
}

impl Right {
    /// Whether who has this right has the other one with it.
    fn covers(&self, other: &Right) -> bool {
        match (self, other) {
            (Right::Read(own), Right::Read(other)) => own == other,
            (Right::Resolve(own), Right::Resolve(other)) => own == "*" || own == other,
            (Right::Invoke(own), Right::Invoke(other)) => covers_names(own, other),
            (Right::Invoke(own), Right::Binding(_, name)) => name.matches(own),
            (Right::Binding(own, to), Right::Binding(other, name)) => own == other && to == name,
            (Right::Http(own, url, line), Right::Http(other, other_url, other_line)) => {
                let methods = own.is_none() || own == other;
                let lines = line.as_ref().zip(other_line.as_ref());
                methods && (url == other_url || lines.is_some_and(|(own, other)| covers_url(own, other)))
            }
            (Right::Keyvalue(own), Right::Keyvalue(other)) => own == other,
            (Right::Dir(own), Right::Dir(other)) => {
                Path::new(&other.path).starts_with(&own.path) && (own.write || !other.write)
            }
            (Right::BlobsRead(own), Right::BlobsRead(other)) => {
                *own == BlobAccess::Mesh || *other == BlobAccess::Node
            }
            (Right::BlobsWrite(own), Right::BlobsWrite(other)) => own >= other,
            (Right::Callers(own), Right::Callers(other)) => own <= other,
            _ => false,
        }
    }

    fn words(&self) -> String {
        match self {
            Right::Read(what) => format!("{what} read"),
            Right::Resolve(name) => format!("resolve {name}"),
            Right::Invoke(pattern) => format!("invoke {pattern}"),
            Right::Binding(import, name) => format!("invoke {name} for {import}"),
            Right::Http(method, url, _) => format!("http {} {url}", method.as_deref().unwrap_or("*")),
            Right::Keyvalue(bucket) => format!("keyvalue {bucket}"),
            Right::Dir(DirGrant { path, write: false, .. }) => format!("dirs {path}"),
            Right::Dir(DirGrant { path, write: true, .. }) => format!("dirs {path}, to write"),
            Right::BlobsRead(BlobAccess::Node) => "blobs read node".to_owned(),
            Right::BlobsRead(BlobAccess::Mesh) => "blobs read mesh".to_owned(),
            Right::BlobsWrite(bytes) => format!("blobs write {}", count(*bytes, "byte")),
            Right::Callers(trust) => format!("callers from trust {trust} on"),
        }
    }
}

fn covers_names(own: &str, other: &str) -> bool {
    own == "*"
        || own == other
        || own.strip_prefix("*@").is_some_and(|own| other.rsplit_once('@').is_some_and(|(_, it)| it == own))
}

fn covers_url(own: &Egress, other: &Egress) -> bool {
    let hosts = match (&own.host, &other.host) {
        (HostPattern::Below(own), HostPattern::Name(it)) => is_below(it, own),
        (HostPattern::Below(own), HostPattern::Below(it)) => it == own || is_below(it, own),
        (own, it) => own == it,
    };
    // Whether dots and escapes lead out of a path is for whoever serves it to say; a longer path of such is a gain.
    let plain = |path: &str| !path.contains("..") && !path.contains('%');
    let paths = match (&own.path, &other.path) {
        (PathPattern::Any, _) => true,
        (PathPattern::Prefix(own), PathPattern::Prefix(it) | PathPattern::Exact(it)) => {
            own == it || it.starts_with(own.as_str()) && plain(it)
        }
        (own, it) => own == it,
    };
    hosts && paths && own.tls == other.tls && own.port == other.port && (own.private || !other.private)
}

fn is_below(name: &str, domain: &str) -> bool {
    name.strip_suffix(domain).is_some_and(|rest| rest.ends_with('.'))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::decisions::changes::tests::plugin;
    use crate::words::objects::{BlobGrant, Grants, Kind, NodeAccess};

    /// What a plugin with the second rights gains over one with the first.
    fn gains(old: Grants, new: Grants) -> Vec<String> {
        let with = |grants| Plugin { grants, ..plugin("skill/a", Kind::Skill) };
        gained(Some(&with(old)), Some(&with(new)))
    }

    fn texts(list: &[&str]) -> Vec<String> {
        list.iter().map(|text| (*text).to_owned()).collect()
    }

    #[test]
    fn http_is_gained_by_method_host_path_and_network() {
        for (old, new, expect) in [
            (&[][..], &["GET https://a.example"][..], &["http GET https://a.example"][..]),
            (&["GET https://a.example"], &["GET https://a.example"], &[]),
            (&["GET https://a.example"], &[], &[]),
            (&["GET https://a.example"], &["GET,POST https://a.example"], &["http POST https://a.example"]),
            (&["* https://a.example"], &["GET,POST https://a.example/x"], &[]),
            (&["GET https://a.example"], &["* https://a.example"], &["http * https://a.example"]),
            (&["GET https://*.a.example"], &["GET https://b.a.example"], &[]),
            (&["GET https://*.a.example"], &["GET https://*.b.a.example"], &[]),
            (&["GET https://*.a.example"], &["GET https://a.example"], &["http GET https://a.example"]),
            (&["GET https://*.a.example"], &["GET https://ba.example"], &["http GET https://ba.example"]),
            (&["GET https://b.a.example"], &["GET https://*.a.example"], &["http GET https://*.a.example"]),
            (&["GET https://a.example/x/*"], &["GET https://a.example/x/y"], &[]),
            (&["GET https://a.example/x/*"], &["GET https://a.example/x/y/*"], &[]),
            (&["GET https://a.example/x/*"], &["GET https://a.example"], &["http GET https://a.example"]),
            (
                &["GET https://a.example/x/*"],
                &["GET https://a.example/x/../y"],
                &["http GET https://a.example/x/../y"],
            ),
            (
                &["GET https://a.example/x"],
                &["GET https://a.example/x/y"],
                &["http GET https://a.example/x/y"],
            ),
            (&["GET https://a.example"], &["GET http://a.example"], &["http GET http://a.example"]),
            (&["GET https://a.example"], &["GET https://a.example:444"], &["http GET https://a.example:444"]),
            (
                &["GET https://a.example"],
                &["GET https://a.example private"],
                &["http GET https://a.example private"],
            ),
            (&["GET https://a.example private"], &["GET https://a.example"], &[]),
            (&["GET http://10.0.0.7"], &["GET http://10.0.0.8"], &["http GET http://10.0.0.8"]),
        ] {
            let with = |lines: &[&str]| Grants { http: texts(lines), ..Grants::default() };
            assert_eq!(gains(with(old), with(new)), texts(expect), "{old:?} to {new:?}");
        }
    }

    #[test]
    fn every_other_grant_is_gained_unless_it_is_covered() {
        let none = Grants::default();
        let dir = |path: &str, write| DirGrant { path: path.into(), seen: "/x".into(), write };
        let dirs = |path: &str, write| Grants { dirs: vec![dir(path, write)], ..none.clone() };
        let blobs = |read, write| Grants { blobs: Some(BlobGrant { read, write }), ..none.clone() };
        let invoke = |names: &[&str]| Grants { invoke: texts(names), ..none.clone() };
        let resolve = |names: &[&str]| Grants { resolve: texts(names), ..none.clone() };
        let keyvalue = |names: &[&str]| Grants { keyvalue: texts(names), ..none.clone() };
        let (node, mesh) = (Some(BlobAccess::Node), Some(BlobAccess::Mesh));
        let read = Some(NodeAccess::Read);
        for (old, new, expect) in [
            (none.clone(), Grants { node: read, ..none.clone() }, &["node read"][..]),
            (none.clone(), Grants { peers: read, ..none.clone() }, &["peers read"]),
            (resolve(&["a"]), resolve(&["a", "b"]), &["resolve b"]),
            (resolve(&["*"]), resolve(&["a", "b"]), &[]),
            (resolve(&["a"]), resolve(&["*"]), &["resolve *"]),
            (invoke(&["*@d"]), invoke(&["a@d"]), &[]),
            (invoke(&["*@d"]), invoke(&["*@e", "a@de"]), &["invoke *@e", "invoke a@de"]),
            (invoke(&["a@d"]), invoke(&["*@d"]), &["invoke *@d"]),
            (invoke(&["*"]), invoke(&["*@d", "a@d"]), &[]),
            (keyvalue(&["a"]), keyvalue(&["b"]), &["keyvalue b"]),
            (dirs("/srv", false), dirs("/srv/a", false), &[]),
            (dirs("/srv", false), dirs("/srv", true), &["dirs /srv, to write"]),
            (dirs("/srv", true), dirs("/srv", false), &[]),
            (dirs("/srv", true), dirs("/srvs", false), &["dirs /srvs"]),
            (blobs(node, None), blobs(mesh, None), &["blobs read mesh"]),
            (blobs(mesh, Some(9)), blobs(node, Some(8)), &[]),
            (blobs(mesh, Some(9)), blobs(node, Some(10)), &["blobs write 10 bytes"]),
            (none.clone(), blobs(node, Some(1)), &["blobs read node", "blobs write 1 byte"]),
        ] {
            assert_eq!(gains(old.clone(), new.clone()), texts(expect), "{old:?} to {new:?}");
            assert_eq!(gains(new.clone(), new), Vec::<String>::new());
        }
    }

    #[test]
    fn bindings_and_callers_are_rights_too() {
        let own = plugin("skill/a", Kind::Skill);
        let name: Name = "weather@acme".parse().unwrap();
        let bound =
            Plugin { bindings: [("acme:weather/forecast".into(), name.clone())].into(), ..own.clone() };
        let expect = texts(&["invoke weather@acme for acme:weather/forecast"]);
        assert_eq!(gained(Some(&own), Some(&bound)), expect);
        assert_eq!(gained(Some(&bound), Some(&bound)), texts(&[]));
        let invoke = Grants { invoke: texts(&["*@acme"]), ..Grants::default() };
        let invoking = Plugin { grants: invoke, ..own.clone() };
        assert_eq!(gained(Some(&invoking), Some(&bound)), texts(&[]));

        let exposed = |expose| Plugin { expose, ..own.clone() };
        let (basic, full) = (exposed(Trust::Basic), exposed(Trust::Full));
        let expect = texts(&["callers from trust basic on"]);
        assert_eq!(gained(Some(&own), Some(&basic)), expect);
        assert_eq!(gained(None, Some(&basic)), expect);
        assert_eq!(gained(Some(&full), Some(&own)), texts(&["callers from trust trusted on"]));
        for (old, new) in [(None, Some(&own)), (Some(&basic), Some(&full)), (Some(&basic), None)] {
            assert_eq!(gained(old, new), texts(&[]));
        }
        // A policy is not called.
        let policy = Plugin { expose: Trust::Basic, ..plugin("routing", Kind::Routing) };
        assert_eq!(gained(None, Some(&policy)), texts(&[]));
    }
}
