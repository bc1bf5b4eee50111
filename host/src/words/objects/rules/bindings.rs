//! What the bindings of a workload may say. Whether its component imports them at all is seen where the component is.

use crate::words::id::{NODE_DOMAIN, clip};
use crate::words::interface::Interface;
use crate::words::objects::Plugin;

/// Bindings of one plugin: each of them is an interface that somebody wrote down.
const BINDINGS_MAX: usize = 64;

/// What is wrong with the bindings of an entry.
pub(super) fn workload(plugin: &Plugin, add: &mut impl FnMut(String)) {
    let bindings = &plugin.bindings;
    if bindings.is_empty() {
        return;
    }
    if plugin.kind.is_policy() {
        add("bindings are for workloads: a policy imports nothing".into());
    }
    if bindings.len() > BINDINGS_MAX {
        add(format!("bindings has at most {BINDINGS_MAX} entries, this one has {}", bindings.len()));
    }
    for (key, name) in bindings {
        let shown = clip(key).escape_debug();
        let Some(interface) = Interface::parse(key) else {
            add(format!("bindings: {shown} is no interface such as acme:weather/forecast@1.2.0"));
            continue;
        };
        if interface.is_host() {
            add(format!("bindings: {shown} is the host's own; a grant fills it, no name of the mesh"));
        }
        if interface.version.is_some() && bindings.contains_key(interface.path) {
            add(format!("bindings: {shown} is there with its version and without it"));
        }
        if name.is_reserved() {
            add(format!("bindings: {name}: names @{NODE_DOMAIN} are those of the nodes themselves"));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::words::objects::Kind;
    use crate::words::objects::rules::tests::plugin;

    fn check(kind: Kind, bindings: &[(&str, &str)], expect: &[&str]) {
        let mut plugin = plugin("x", kind, &[]);
        let parsed = |(key, name): &(&str, &str)| ((*key).to_owned(), name.parse().unwrap());
        plugin.bindings = bindings.iter().map(parsed).collect();
        let mut found = Vec::new();
        workload(&plugin, &mut |what| found.push(what));
        assert_eq!(found.len(), expect.len(), "{found:?}");
        for (what, text) in found.iter().zip(expect) {
            assert!(what.contains(text), "{what:?} lacks {text:?}");
        }
    }

    #[test]
    fn bindings_of_workloads_are_checked() {
        use Kind::{Gateway, Routing, Skill};
        check(Skill, &[], &[]);
        check(Skill, &[("a:b/c@1.0.0", "x@y"), ("a:b/c@2.0.0", "z@y"), ("a:b/d", "x@y")], &[]);
        check(Gateway, &[("a:b/c", "x@y")], &[]);
        check(Routing, &[("a:b/c", "x@y")], &["a policy imports nothing"]);
        check(Skill, &[("a:b", "x@y"), ("c", "x@y")], &["a:b is no interface", "c is no interface"]);
        check(Skill, &[("wasi:http/types", "x@y")], &["the host's own"]);
        check(Skill, &[("midplane:host/invoke@0.1.0", "x@y")], &["the host's own"]);
        check(Skill, &[("a:b/c", "x@y"), ("a:b/c@1.0.0", "x@y")], &["and without it"]);
        check(Skill, &[("a:b/c", "x@node")], &["names @node"]);
        let keys: Vec<String> = (0..=BINDINGS_MAX).map(|number| format!("a:b/c{number}")).collect();
        let many: Vec<(&str, &str)> = keys.iter().map(|key| (key.as_str(), "x@y")).collect();
        check(Skill, &many, &["at most 64"]);
    }
}
