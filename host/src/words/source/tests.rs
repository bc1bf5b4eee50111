use std::path::{Path, PathBuf};

use super::*;
use crate::words::Code;
use crate::words::objects::NodeAccess;

const GOOD: &str = r#"
expires = "30d"
strangers = "unknown"

[[plugin]]
slot = "routing"
kind = "routing"
component = "../target/routing.wasm"
protocol = "path-vector/1"
config = { z = 1, a = [true, "x"], m = { q = 0x10, b = 1.5 } }

[[plugin]]
slot = "skill/math1"
kind = "skill"
component = "math1.wasm"
names = ["math1@fabric", "add@fabric"]
on = { labels = ["n1"], tags = ["edge"] }
instances = "reuse 1000"
expose = "basic"
limits = { memory = "16MiB", deadline = "quick", host-calls = 7, host-bytes = 1024, concurrency = 3 }
grants = { node = "read" }

[[plugin]]
slot = "skill/other"
kind = "skill"
component = "math1.wasm"
names = ["other@fabric"]
"#;

fn check(text: &str, expect: &[&str]) {
    let fault = parse(text, "m.toml").expect_err(text);
    assert_eq!(fault.code, Code::BadManifest);
    let lines: Vec<&str> = match fault.what.lines().collect::<Vec<_>>().as_slice() {
        [one] => vec![*one],
        [_, many @ ..] => many.iter().map(|line| line.trim_start()).collect(),
        [] => vec![],
    };
    assert_eq!(lines.len(), expect.len(), "{}", fault.what);
    for (line, expect) in lines.iter().zip(expect) {
        assert!(line.contains(expect), "{line:?} lacks {expect:?}");
    }
}

fn check_plugin(line: &str, expect: &[&str]) {
    let text =
        format!("[[plugin]]\nslot = \"s\"\nkind = \"skill\"\ncomponent = \"c\"\nnames = [\"s@d\"]\n{line}\n");
    check(&text, expect);
}

#[test]
fn a_good_file_is_read() {
    let source = parse(GOOD, "m.toml").unwrap();
    assert_eq!((source.lifetime_ms, source.strangers), (30 * 86_400_000, Trust::Unknown));
    let [routing, math1, other] = source.plugins.as_slice() else { panic!("{source:?}") };
    assert_eq!((routing.line, math1.line, other.line), (5, 12, 23));
    assert_eq!(source.place(1), "m.toml line 12");
    assert_eq!(routing.config, r#"{"a":[true,"x"],"m":{"b":1.5,"q":16},"z":1}"#);
    assert_eq!(routing.protocol.as_deref(), Some("path-vector/1"));
    assert_eq!((routing.instances, routing.limits), (Instances::Fresh, Limits::default()));
    assert_eq!((math1.instances, math1.expose), (Instances::Reuse(1000), Trust::Basic));
    let limits = math1.limits;
    assert_eq!((limits.memory, limits.deadline_ms, limits.host_calls), (16 << 20, 1000, 7));
    assert_eq!((limits.host_bytes, limits.concurrency), (1024, 3));
    assert_eq!(math1.grants.node, Some(NodeAccess::Read));
    assert_eq!(math1.on, Selector { labels: vec!["n1".into()], tags: vec!["edge".into()] });
    assert_eq!((other.config.as_str(), other.expose), ("{}", Trust::Trusted));

    let empty = parse("", "m.toml").unwrap();
    assert_eq!((empty.lifetime_ms, empty.strangers), (LIFETIME_MS, Trust::Pending));
}

#[test]
fn all_problems_are_told_at_once_with_their_lines() {
    let text = r#"expire = "30d"
strangers = "pendign"

[[plugin]]
slot = "routing"
kind = "rooting"
componet = "a.wasm"

[[plugin]]
slot = "skill/a"
kind = "skill"
component = "a.wasm"
instances = "reuse many"
limits = { memory = "64 potatoes", cpu = 1 }
"#;
    check(
        text,
        &[
            "m.toml line 1: unknown key expire; did you mean expires",
            "m.toml line 2: strangers is one of unknown, pending, basic, trusted, full, not \"pendign\"; did you mean pending",
            "m.toml line 4: component is missing",
            "m.toml line 6: kind is one of discovery, admission, routing, sync, skill, gateway, not \"rooting\"; did you mean routing",
            "m.toml line 7: unknown key componet; did you mean component",
            "m.toml line 9: skill/a: a skill needs at least one name",
            "m.toml line 13: instances is \"reuse N\"",
            "m.toml line 14: unknown key limits.cpu",
            "m.toml line 14: limits.memory is a size in B, KiB, MiB or GiB, not \"64 potatoes\"",
        ],
    );
}

#[test]
fn values_of_the_wrong_form_are_refused() {
    for (line, expect) in [
        ("protocol = 1", "line 6: protocol is a text, not 1"),
        ("config = []", "config is a table, not a list"),
        ("config = { a = nan }", "a number that JSON has not: nan"),
        ("config = { a = { b = [1979-05-27] } }", "has a date"),
        ("config = { a = 9223372036854775808 }", "too large"),
        ("on = \"n1\"", "on is a table, not \"n1\""),
        ("on = { label = [\"n1\"] }", "unknown key on.label; did you mean labels"),
        ("on = { labels = [\"n 1\"] }", "line 1: s: \"n 1\" is no label"),
        ("instances = \"frehs\"", "did you mean fresh, or \"reuse N\""),
        ("instances = \"reuse 0\"", "calls of an instance is between"),
        ("limits = { deadline = \"qick\" }", "did you mean quick, or a time"),
        ("limits = { deadline = \"2 bananas\" }", "limits.deadline is a time"),
        ("limits = { deadline = 2 }", "limits.deadline is a text"),
        ("limits = { host-calls = -1 }", "limits.host-calls is a whole number from 0"),
        ("limits = { concurrency = 4294967296 }", "too large"),
        ("limits = { memory = \"99999999999GiB\" }", "limits.memory is a size"),
        ("limits = { memory = 1 }", "limits.memory is between"),
        ("grants = { node = \"write\" }", "grants.node is one of read, not \"write\""),
        ("grants = { resolve = [\"x\"] }", "grants.resolve is for discovery"),
        ("expose = \"pending\"", "expose is basic, trusted or full"),
    ] {
        check_plugin(line, &[expect]);
    }
    check(
        "[[plugin]]\nslot='s'\nkind='skill'\ncomponent='c'\nnames=['x@d', 'X', 3]",
        &[
            "line 1: s: a skill needs",
            "line 5: names has mistakes: \"X\" is not a name such as math1@fabric; 3 is a text, not 3",
        ],
    );
    check("[plugin]\nslot = \"s\"", &["write [[plugin]]"]);
    check("plugin = [1]", &["plugin is a table, not 1"]);
    for expires in ["0s", "4000d", "1", "-1d", "99999999999999999999d"] {
        check(&format!("expires = \"{expires}\""), &["expires is a time"]);
    }
    check("expires = 5", &["expires is a text, not 5"]);
    check(&"#".repeat(SOURCE_MAX + 1), &["at most 1048576 bytes"]);
}

#[test]
fn syntax_is_told_first_and_by_line() {
    let fault = parse("expires = \"1d\"\nstrangers = \n\n[[plugin]\nfoo = 1", "m.toml").unwrap_err();
    assert!(fault.what.contains("m.toml line 2: "), "{}", fault.what);
    assert!(fault.what.contains("m.toml line 4: "), "{}", fault.what);
    check("expires = \"1d\"\nexpires = \"2d\"", &["m.toml line 2: duplicate key"]);
    let deep = format!("a = {}", "[".repeat(100_000));
    assert!(parse(&deep, "m.toml").is_err());
}

#[test]
fn entries_are_checked_against_each_other() {
    let twice = GOOD.replace("skill/other", "skill/math1");
    check(&twice, &["m.toml line 23: skill/math1: this slot is taken twice"]);
}

fn resolve_with(text: &str, files: &[(&str, &[u8])]) -> (Outcome<Resolved>, Vec<PathBuf>) {
    let source = parse(text, "m.toml").unwrap();
    let mut asked = Vec::new();
    let resolved = resolve(&source, Path::new("/base/manifests"), &mut |path| {
        asked.push(path.to_owned());
        let found = files.iter().find(|(file, _)| Path::new(file) == path);
        found.map(|(_, bytes)| bytes.to_vec()).ok_or_else(|| std::io::ErrorKind::NotFound.into())
    });
    (resolved, asked)
}

#[test]
fn components_become_digests() {
    let files: [(&str, &[u8]); 2] =
        [("/base/manifests/../target/routing.wasm", b"routing"), ("/base/manifests/math1.wasm", b"math")];
    let (resolved, asked) = resolve_with(GOOD, &files);
    let resolved = resolved.unwrap();
    assert_eq!(asked.len(), 2, "one file is read once: {asked:?}");
    assert_eq!(
        resolved.blobs,
        [(Digest::of(b"routing"), b"routing".to_vec()), (Digest::of(b"math"), b"math".to_vec())]
    );
    assert_eq!(resolved.plugins[2].component, BlobRef { digest: Digest::of(b"math"), length: 4 });
    let manifest = resolved.manifest([1; 32].into(), 9, 1000);
    assert_eq!((manifest.version, manifest.created, manifest.expires), (9, 1000, 1000 + 30 * 86_400_000));
    assert_eq!(manifest.plugins, resolved.plugins);
}

#[test]
fn missing_components_are_told_together() {
    let fault = resolve_with(GOOD, &[]).0.unwrap_err();
    assert_eq!((fault.code, fault.fix.as_deref()), (Code::NotFound, Some("midplane build")));
    for line in [5, 12, 23] {
        assert!(fault.what.contains(&format!("\n  m.toml line {line}: component /base")), "{}", fault.what);
    }
    let (resolved, _) = resolve_with(
        GOOD,
        &[("/base/manifests/../target/routing.wasm", b""), ("/base/manifests/math1.wasm", b"m")],
    );
    let fault = resolved.unwrap_err();
    assert_eq!(fault.what, "m.toml line 5: routing: the component is empty");
    assert_eq!((fault.code, fault.fix), (Code::BadManifest, None));
}
