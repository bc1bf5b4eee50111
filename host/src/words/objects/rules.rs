//! What the plugins of a manifest may say, whoever signs it. The same rules stop a mistake where the manifest
//! is written, with the line, and a bad manifest where it arrives.

use super::manifest::{Instances, Kind, Limits, Plugin};
use crate::words::id::clip;
use crate::words::{Code, Fault, Outcome};
use crate::words::{Name, Trust};

/// Plugins of one manifest. The rules compare them pairwise, and a node has a pool for each.
pub const PLUGINS_MAX: usize = 256;
/// Bytes of a slot's name: it is part of paths, metrics and channel openings.
pub const SLOT_MAX: usize = 64;
/// Bytes of a channel protocol: it is sent each time a channel opens.
pub const PROTOCOL_MAX: usize = 64;
/// Bytes of one plugin's configuration: larger things are blobs.
pub const CONFIG_MAX: usize = 64 << 10;
/// Bytes of a component. The largest one seen, an interpreter with its library, has 18 MB.
pub const COMPONENT_MAX: u64 = 64 << 20;
/// Least memory of an instance: one WebAssembly page.
pub const MEMORY_MIN: u64 = 64 << 10;
/// Most memory of an instance: what 32-bit addresses reach.
pub const MEMORY_MAX: u64 = 4 << 30;
/// Longest deadline: a day. What takes longer is not a call.
pub const DEADLINE_MAX_MS: u64 = 24 * 60 * 60 * 1000;
/// Most calls at the same time: one link's streams a few hundred times over.
pub const CONCURRENCY_MAX: u32 = 65_536;
/// Bytes of a label or tag.
pub const LABEL_MAX: usize = 64;

/// Something that a plugin's entry may not say.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    /// Index of the plugin; absent when it is of the manifest as a whole.
    pub plugin: Option<usize>,
    /// What is wrong, slot first.
    pub what: String,
}

/// Everything that is wrong with these plugins, in their order.
pub fn problems(plugins: &[Plugin]) -> Vec<Problem> {
    if plugins.len() > PLUGINS_MAX {
        let what = format!("a manifest has at most {PLUGINS_MAX} plugins, this one has {}", plugins.len());
        return vec![Problem { plugin: None, what }];
    }
    let mut found = Vec::new();
    for (index, plugin) in plugins.iter().enumerate() {
        let mut add = |what: String| {
            let slot = clip(&plugin.slot).escape_debug();
            found.push(Problem { plugin: Some(index), what: format!("{slot}: {what}") });
        };
        entry(plugin, &mut add);
        numbers(&plugin.limits, plugin.instances, &mut add);
        for earlier in plugins.iter().take(index).filter(|earlier| earlier.on.may_meet(&plugin.on)) {
            pair(earlier, plugin, &mut add);
        }
    }
    found
}

/// Refuses a label that nodes cannot have.
///
/// # Errors
/// `usage`.
pub fn check_label(text: &str) -> Outcome<()> {
    if is_label(text) {
        return Ok(());
    }
    Err(Fault::new(Code::Usage, format!("not a label: {:?}", clip(text)))
        .fix("a label is 1 to 64 letters, digits, - _ and . only"))
}

/// Whether this is a label or tag: letters, digits, `-`, `_`, `.`, so that it can stand in commands and paths.
pub fn is_label(text: &str) -> bool {
    let byte = |b: u8| b.is_ascii_alphanumeric() || b == b'-' || b == b'_' || b == b'.';
    !text.is_empty() && text.len() <= LABEL_MAX && text.bytes().all(byte)
}

/// Whether this is a pattern that [`Name::matches`] understands.
pub fn is_pattern(text: &str) -> bool {
    text == "*"
        || match text.strip_prefix("*@") {
            Some(domain) => format!("x@{domain}").parse::<Name>().is_ok(),
            None => text.parse::<Name>().is_ok(),
        }
}

fn is_slot(text: &str) -> bool {
    let byte = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-';
    text.len() <= SLOT_MAX && text.split('/').all(|part| !part.is_empty() && part.bytes().all(byte))
}

/// What one entry says about itself.
fn entry(plugin: &Plugin, add: &mut impl FnMut(String)) {
    if !is_slot(&plugin.slot) {
        add("a slot is lower-case letters, digits and - in parts separated by /".into());
    }
    match plugin.component.length {
        0 => add("the component is empty".into()),
        length if length > COMPONENT_MAX => {
            add(format!("a component has at most {COMPONENT_MAX} bytes, this one has {length}"));
        }
        _ => {}
    }
    if plugin.config.len() > CONFIG_MAX {
        add(format!("config has at most {CONFIG_MAX} bytes as JSON, this one has {}", plugin.config.len()));
    } else if serde_json::from_str::<serde_json::Map<_, _>>(&plugin.config).is_err() {
        add("config is not a JSON object".into());
    }
    if let Some(protocol) = &plugin.protocol {
        if !plugin.kind.is_policy() {
            add("a skill has no protocol: only policies have channels".into());
        }
        if protocol.is_empty()
            || protocol.len() > PROTOCOL_MAX
            || !protocol.bytes().all(|b| b.is_ascii_graphic())
        {
            add(format!("protocol is 1 to {PROTOCOL_MAX} visible characters without spaces"));
        }
    }
    match (plugin.kind.is_policy(), plugin.names.is_empty()) {
        (true, false) => add(format!("a {} policy serves no names", plugin.kind)),
        (false, true) => add("a skill needs at least one name".into()),
        _ => {}
    }
    for (index, name) in plugin.names.iter().enumerate() {
        if plugin.names.iter().take(index).any(|earlier| earlier == name) {
            add(format!("{name} is named twice"));
        }
    }
    if plugin.expose < Trust::Basic {
        add(format!(
            "expose is basic, trusted or full: a peer below basic calls nothing, not {}",
            plugin.expose
        ));
    }
    if plugin.kind.is_policy() && plugin.grants.node.is_some() {
        add("grants.node is for skills: a policy imports nothing".into());
    }
    if plugin.kind != Kind::Discovery && !plugin.grants.resolve.is_empty() {
        add("grants.resolve is for discovery policies".into());
    }
    for label in plugin.on.labels.iter().chain(&plugin.on.tags).filter(|label| !is_label(label)) {
        add(format!("{:?} is no label or tag: letters, digits, - _ and . only", clip(label)));
    }
}

fn numbers(limits: &Limits, instances: Instances, add: &mut impl FnMut(String)) {
    let mut range = |what: &str, value: u64, least: u64, most: u64| {
        if value < least || value > most {
            add(format!("{what} is between {least} and {most}, not {value}"));
        }
    };
    range("limits.memory", limits.memory, MEMORY_MIN, MEMORY_MAX);
    range("limits.deadline in ms", limits.deadline_ms, 1, DEADLINE_MAX_MS);
    range("limits.host-calls", limits.host_calls, 1, u64::MAX);
    range("limits.host-bytes", limits.host_bytes, 1, u64::MAX);
    range("limits.concurrency", limits.concurrency.into(), 1, CONCURRENCY_MAX.into());
    if let Instances::Reuse(calls) = instances {
        range("the number of calls of an instance", calls.into(), 1, u32::MAX.into());
    }
}

/// What two entries that may meet on one node say of each other.
fn pair(earlier: &Plugin, plugin: &Plugin, add: &mut impl FnMut(String)) {
    if earlier.slot == plugin.slot {
        add("this slot is taken twice, and both may be on one node; give them `on` labels that differ".into());
        return;
    }
    if earlier.kind == plugin.kind && plugin.kind.is_single() {
        add(format!("a node has one {} policy, and {} is one already", plugin.kind, clip(&earlier.slot)));
    }
    for name in plugin.names.iter().filter(|name| earlier.names.contains(name)) {
        add(format!("{name} is served by {} already", clip(&earlier.slot)));
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use crate::words::Digest;
    use crate::words::objects::{BlobRef, Grants, NodeAccess, Selector};

    pub(crate) fn plugin(slot: &str, kind: Kind, names: &[&str]) -> Plugin {
        Plugin {
            slot: slot.into(),
            kind,
            component: BlobRef { digest: Digest::of(slot.as_bytes()), length: 100 },
            config: "{}".into(),
            protocol: None,
            names: names.iter().map(|name| name.parse().unwrap()).collect(),
            expose: Trust::Trusted,
            grants: Grants::default(),
            limits: Limits::default(),
            instances: Instances::Fresh,
            on: Selector::default(),
        }
    }

    fn check(change: impl FnOnce(&mut Vec<Plugin>), expect: &[(usize, &str)]) {
        let mut plugins = vec![
            plugin("discovery/static", Kind::Discovery, &[]),
            plugin("discovery/dns", Kind::Discovery, &[]),
            plugin("routing", Kind::Routing, &[]),
            plugin("skill/a", Kind::Skill, &["a@d"]),
            plugin("skill/b", Kind::Skill, &["b@d", "c@d"]),
        ];
        change(&mut plugins);
        let found = problems(&plugins);
        assert_eq!(found.len(), expect.len(), "{found:?}");
        for (problem, (index, text)) in found.iter().zip(expect) {
            assert_eq!(problem.plugin, Some(*index), "{problem:?}");
            assert!(problem.what.contains(text), "{problem:?} lacks {text:?}");
        }
    }

    #[test]
    fn plugins_are_checked_each_by_itself() {
        check(|_| {}, &[]);
        for slot in ["", "A", "a//b", "/a", "a b", "a\u{1b}[0m", &"a".repeat(65)] {
            check(|all| all[3].slot = slot.into(), &[(3, "a slot is")]);
        }
        check(|all| all[0].component.length = 0, &[(0, "empty")]);
        check(|all| all[0].component.length = COMPONENT_MAX + 1, &[(0, "at most 67108864 bytes")]);
        for config in ["", "[]", "{", "1", "{} x"] {
            check(|all| all[0].config = config.into(), &[(0, "not a JSON object")]);
        }
        check(
            |all| all[0].config = format!("{{\"a\":\"{}\"}}", "x".repeat(CONFIG_MAX)),
            &[(0, "config has at most")],
        );
        check(|all| all[3].protocol = Some("p/1".into()), &[(3, "a skill has no protocol")]);
        check(|all| all[2].protocol = Some("p 1".into()), &[(2, "protocol is")]);
        check(|all| all[2].names = vec!["r@d".parse().unwrap()], &[(2, "a routing policy serves no names")]);
        check(|all| all[3].names.clear(), &[(3, "at least one name")]);
        check(|all| all[3].names.push("a@d".parse().unwrap()), &[(3, "a@d is named twice")]);
        check(|all| all[3].expose = Trust::Pending, &[(3, "expose is")]);
        check(|all| all[0].grants.node = Some(NodeAccess::Read), &[(0, "a policy imports nothing")]);
        check(|all| all[0].grants.resolve = vec!["*".into()], &[]);
        check(|all| all[2].grants.resolve = vec!["*".into()], &[(2, "for discovery")]);
        check(|all| all[3].on.tags = vec!["a b".into()], &[(3, "no label or tag")]);
        check(|all| all[3].limits.memory = 1, &[(3, "limits.memory")]);
        check(|all| all[3].limits.concurrency = 0, &[(3, "limits.concurrency")]);
        check(|all| all[3].instances = Instances::Reuse(0), &[(3, "calls of an instance")]);
    }

    #[test]
    fn plugins_are_checked_against_each_other() {
        let on = |label: &str| Selector { labels: vec![label.into()], tags: vec![] };
        check(|all| all[4].slot = "skill/a".into(), &[(4, "taken twice")]);
        check(|all| all.push(plugin("routing/b", Kind::Routing, &[])), &[(5, "one routing policy")]);
        check(|all| all[4].names.push("a@d".parse().unwrap()), &[(4, "a@d is served by skill/a")]);
        check(
            |all| {
                let mut other = plugin("routing", Kind::Routing, &[]);
                other.on = on("n1");
                all[2].on = on("n2");
                all.push(other);
            },
            &[],
        );
        // Everything wrong is told, not the first thing.
        check(
            |all| {
                all[0].component.length = 0;
                all[3].names.clear();
                all[4].limits.deadline_ms = 0;
            },
            &[(0, "empty"), (3, "name"), (4, "deadline")],
        );
        let many = vec![plugin("routing", Kind::Routing, &[]); PLUGINS_MAX + 1];
        assert_eq!(problems(&many).len(), 1);
    }

    #[test]
    fn patterns_are_recognised() {
        for (text, expect) in [
            ("*", true),
            ("*@d", true),
            ("a@d", true),
            ("a*@d", false),
            ("*@*", false),
            ("", false),
            ("*@", false),
        ] {
            assert_eq!(is_pattern(text), expect, "{text}");
        }
    }
}
