//! What the grants of a workload may say.

use super::{is_label, is_pattern};
use crate::words::egress::Egress;
use crate::words::id::{NODE_DOMAIN, clip};
use crate::words::objects::{Grants, Plugin};

/// Patterns of names that one plugin may call. More is `*@domain`.
const PATTERNS_MAX: usize = 64;
/// Buckets or directories of one plugin: each directory costs an open file for every instance.
const HOLDINGS_MAX: usize = 16;
/// Bytes of a path: what the system takes.
const PATH_MAX: usize = 4_095;

/// Grants that only a component with imports can use, and what is wrong with them.
pub(super) fn workload(plugin: &Plugin, add: &mut impl FnMut(String)) {
    let Grants { invoke, peers, http, keyvalue, dirs, blobs, .. } = &plugin.grants;
    let granted = [
        ("invoke", !invoke.is_empty()),
        ("peers", peers.is_some()),
        ("http", !http.is_empty()),
        ("keyvalue", !keyvalue.is_empty()),
        ("dirs", !dirs.is_empty()),
        ("blobs", blobs.is_some()),
    ];
    for (key, granted) in granted {
        if granted && plugin.kind.is_policy() {
            add(format!("grants.{key} is for workloads: a policy imports nothing"));
        }
    }
    let counts = [
        ("invoke", invoke.len(), PATTERNS_MAX),
        ("http", http.len(), PATTERNS_MAX),
        ("keyvalue", keyvalue.len(), HOLDINGS_MAX),
        ("dirs", dirs.len(), HOLDINGS_MAX),
    ];
    for (key, count, most) in counts {
        if count > most {
            add(format!("grants.{key} has at most {most} entries, this one has {count}"));
        }
    }
    for why in http.iter().filter_map(|line| line.parse::<Egress>().err()) {
        add(format!("grants.http: {why}"));
    }
    for pattern in invoke.iter().filter(|pattern| !is_pattern(pattern)) {
        add(format!("grants.invoke: {:?} is no name, *@domain or *", clip(pattern)));
    }
    for pattern in invoke.iter().filter(|pattern| pattern.ends_with(&format!("@{NODE_DOMAIN}"))) {
        add(format!("grants.invoke: {pattern}: names @{NODE_DOMAIN} are those of the nodes themselves"));
    }
    if blobs.is_some_and(|blobs| blobs.read.is_none() && blobs.write.unwrap_or(0) == 0) {
        add("grants.blobs grants nothing: it needs read = \"node\" or \"mesh\", or write = a size".to_owned());
    }
    for (index, bucket) in keyvalue.iter().enumerate() {
        if !is_label(bucket) {
            add(format!("grants.keyvalue: {:?} is no name: letters, digits, - _ and . only", clip(bucket)));
        } else if keyvalue.iter().take(index).any(|earlier| earlier == bucket) {
            add(format!("grants.keyvalue names {bucket} twice"));
        }
    }
    for (index, dir) in dirs.iter().enumerate() {
        for (key, path) in [("path", &dir.path), ("as", &dir.seen)] {
            if !is_plain_path(path) {
                add(format!("grants.dirs: {key} = {:?} is no path from / on without . and ..", clip(path)));
            }
        }
        if dirs.iter().take(index).any(|earlier| earlier.seen == dir.seen) {
            add(format!("grants.dirs shows two directories as {}", clip(&dir.seen)));
        }
    }
}

/// Whether a path says where it leads: from the root on, without detours.
fn is_plain_path(path: &str) -> bool {
    let Some(rest) = path.strip_prefix('/') else { return false };
    let plain = |part: &str| !part.is_empty() && part != "." && part != ".." && !part.contains('\0');
    path.len() <= PATH_MAX && rest.split('/').all(plain)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::words::objects::rules::tests::plugin;
    use crate::words::objects::{BlobAccess, BlobGrant, DirGrant, Kind, NodeAccess};

    fn dir(path: &str, seen: &str) -> DirGrant {
        DirGrant { path: path.into(), seen: seen.into(), write: false }
    }

    fn check(kind: Kind, change: impl FnOnce(&mut Grants), expect: &[&str]) {
        let mut plugin = plugin("x", kind, &[]);
        change(&mut plugin.grants);
        let mut found = Vec::new();
        workload(&plugin, &mut |what| found.push(what));
        assert_eq!(found.len(), expect.len(), "{found:?}");
        for (what, text) in found.iter().zip(expect) {
            assert!(what.contains(text), "{what:?} lacks {text:?}");
        }
    }

    #[test]
    fn grants_of_workloads_are_checked() {
        use Kind::{Routing, Skill};
        check(Skill, |_| {}, &[]);
        check(Skill, |grants| grants.invoke = vec!["a@d".into(), "*@d".into(), "*".into()], &[]);
        let nodes = ["*@node".into(), "a@node".into()];
        check(Skill, |grants| grants.invoke = nodes.into(), &["@node are those", "@node are those"]);
        check(Skill, |grants| grants.invoke = vec!["a*@d".into(), "".into()], &["no name", "no name"]);
        check(Skill, |grants| grants.invoke = vec!["*".into(); PATTERNS_MAX + 1], &["at most 64"]);
        check(
            Skill,
            |grants| grants.keyvalue = vec!["a".into(), "a".into(), "b c".into()],
            &["twice", "name"],
        );
        check(Skill, |grants| grants.dirs = vec![dir("/srv/x", "/x"), dir("/srv", "/y")], &[]);
        check(
            Skill,
            |grants| grants.dirs = vec![dir("/srv/x", "/x"), dir("/srv", "/x")],
            &["two directories"],
        );
        for path in ["", "/", "srv", "/srv/", "/srv/../etc", "/srv/./x", "//srv", "/a\0b"] {
            check(Skill, |grants| grants.dirs = vec![dir(path, "/x")], &["is no path"]);
            check(Skill, |grants| grants.dirs = vec![dir("/x", path)], &["is no path"]);
        }
        let blobs = |read, write| move |grants: &mut Grants| grants.blobs = Some(BlobGrant { read, write });
        check(Skill, blobs(Some(BlobAccess::Node), None), &[]);
        check(Skill, blobs(None, Some(1)), &[]);
        check(Skill, blobs(None, None), &["grants nothing"]);
        check(Skill, blobs(None, Some(0)), &["grants nothing"]);
        check(Routing, blobs(Some(BlobAccess::Mesh), Some(1)), &["grants.blobs is for workloads"]);
        check(Routing, |grants| grants.peers = Some(NodeAccess::Read), &["grants.peers is for workloads"]);
        check(Routing, |grants| grants.dirs = vec![dir("/x", "/x")], &["grants.dirs is for workloads"]);
    }
}
