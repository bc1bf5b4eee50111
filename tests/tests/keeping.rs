//! What a skill can keep on its node: its configuration, its keys and values, directories. And what it cannot reach.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;

use midplane_tests::command::component;
use midplane_tests::{Manifest, Mesh, Node, Outcome};
use serde_json::{Value, json};

const KEEPER: &str = "test/skill/keeper";

fn keeper(manifest: Manifest, slot: &str, more: &str) -> Manifest {
    let more = format!("names = [\"{}@fabric\"]\n{more}", slot.replace('/', "-"));
    manifest.plugin(slot, "skill", &component(KEEPER), &more)
}

/// One node that runs, with these arguments.
fn running(arguments: &[&str]) -> Mesh {
    let mesh = Mesh::of(["n1"]);
    let [n1] = mesh.nodes();
    n1.start(arguments);
    mesh
}

fn try_apply(mesh: &Mesh, manifest: &Manifest) -> Outcome {
    let [n1] = mesh.nodes();
    mesh.apply_file(&manifest.write(mesh.path("refused.toml")), n1)
}

#[track_caller]
fn ask(node: &Node, slot: &str, function: &str, arguments: Value) -> Value {
    let name = format!("{}@fabric", slot.replace('/', "-"));
    let text = node.cli(["call", &name, function, &arguments.to_string(), "-o", "json"]).ok();
    if text.is_empty() { Value::Null } else { serde_json::from_str(&text).unwrap() }
}

/// What a function answers as its error.
#[track_caller]
fn fails(node: &Node, slot: &str, function: &str, arguments: Value) -> String {
    let name = format!("{}@fabric", slot.replace('/', "-"));
    let outcome = node.cli(["call", &name, function, &arguments.to_string()]);
    outcome.fails(1, "application-error").trim_end().to_owned()
}

#[test]
fn the_configuration_is_the_entry_s_own() {
    let mesh = running(&[]);
    let [n1] = mesh.nodes();
    let grants = "grants = { keyvalue = [\"a\"] }";
    let config = "config = { city = \"Bern\", port = 80, all = [1, \"x\"], on = true }";
    let manifest = keeper(Manifest::empty(), "one", &format!("{grants}\n{config}"));
    mesh.apply(&keeper(manifest, "two", grants), &[n1]);
    let expect = json!([["all", "[1,\"x\"]"], ["city", "Bern"], ["on", "true"], ["port", "80"]]);
    assert_eq!(ask(n1, "one", "configured", json!([])), expect);
    assert_eq!(ask(n1, "two", "configured", json!([])), json!([]));
    // What runs goes by the new text as soon as it is applied.
    let config = "config = { city = \"Thun\" }";
    mesh.apply(&keeper(Manifest::empty(), "one", &format!("{grants}\n{config}")), &[n1]);
    assert_eq!(ask(n1, "one", "configured", json!([])), json!([["city", "Thun"]]));
}

#[test]
fn keys_belong_to_a_slot_and_last() {
    let mesh = running(&[]);
    let [n1] = mesh.nodes();
    let grants = "grants = { keyvalue = [\"a\", \"b\"] }";
    let both = keeper(keeper(Manifest::empty(), "one", grants), "one/more", grants);
    mesh.apply(&both, &[n1]);
    ask(n1, "one", "put", json!(["a", "k", "aGk="]));
    assert_eq!(ask(n1, "one", "get", json!(["a", "k"])), "aGk=");
    // Neither another bucket nor another slot sees it, whatever it calls its keys.
    assert_eq!(ask(n1, "one", "get", json!(["b", "k"])), Value::Null);
    for key in ["k", "/k", "../one/a/k", "one\u{0}a\u{0}k"] {
        assert_eq!(ask(n1, "one/more", "get", json!(["a", key])), Value::Null, "{key}");
    }
    assert_eq!(ask(n1, "one/more", "keys", json!(["a"])), json!([]));
    ask(n1, "one/more", "delete", json!(["a", "k"]));
    let denied = fails(n1, "one", "get", json!(["c", "k"]));
    assert!(denied.contains("AccessDenied"), "{denied}");

    assert_eq!(ask(n1, "one", "count", json!(["a", "n", 2])), 2);
    assert_eq!(ask(n1, "one", "count", json!(["a", "n", 40])), 42);
    n1.kill();
    n1.start(&[]);
    assert_eq!(ask(n1, "one", "count", json!(["a", "n", 0])), 42);
    assert_eq!(ask(n1, "one", "keys", json!(["a"])), json!(["k", "n"]));
    let many = ask(n1, "one", "many", json!(["a", ["k", "none", "n"]]));
    assert_eq!(many, json!([["k", "aGk="], null, ["n", "NDI="]]));
    assert_eq!(ask(n1, "one", "keys", json!(["a"])), json!([]));
}

#[test]
fn a_slot_has_a_quota() {
    let mesh = running(&[]);
    let [n1] = mesh.nodes();
    let more = "grants = { keyvalue = [\"a\"] }\nlimits = { host-bytes = \"64MiB\" }";
    mesh.apply(&keeper(keeper(Manifest::empty(), "one", more), "two", more), &[n1]);
    let full = fails(n1, "one", "fill", json!(["a", 20, 1_000_000]));
    assert!(full.contains("storage-full"), "{full}");
    // A batch is kept whole or not at all.
    assert_eq!(ask(n1, "one", "keys", json!(["a"])), json!([]));
    ask(n1, "one", "fill", json!(["a", 15, 1_000_000]));
    ask(n1, "one", "fill", json!(["a", 15, 1_000_000]));
    ask(n1, "two", "fill", json!(["a", 15, 1_000_000]));
    for (arguments, what) in
        [(json!(["a", "k".repeat(1025), ""]), "key of 1025 bytes"), (json!(["a", "", ""]), "key of 0 bytes")]
    {
        let fault = fails(n1, "one", "put", arguments);
        assert!(fault.contains(what), "{fault}");
    }
    let large = fails(n1, "one", "fill", json!(["a", 1, (1 << 20) + 1]));
    assert!(large.contains("too-large"), "{large}");
}

#[test]
fn one_value_under_many_keys_fills_no_memory() {
    let mesh = running(&[]);
    let [n1] = mesh.nodes();
    mesh.apply(&keeper(Manifest::empty(), "one", "grants = { keyvalue = [\"a\"] }"), &[n1]);
    ask(n1, "one", "fill", json!(["a", 1, 1_000_000]));
    let status = || std::fs::read_to_string(format!("/proc/{}/status", n1.pid())).unwrap();
    let most = |status: &str| -> u64 {
        let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap();
        line.split_whitespace().next().unwrap().parse().unwrap()
    };
    let before = most(&status());
    let arguments = json!(["a", vec!["fill-0"; 3_000]]).to_string();
    let outcome = n1.cli(["call", "one@fabric", "many", &arguments]);
    outcome.fails(1, "host-call-limit");
    let grew = most(&status()) - before;
    assert!(grew < 128 << 10, "three gigabytes were asked for, and {grew} KiB were taken");
    assert_eq!(ask(n1, "one", "keys", json!(["a"])), json!(["fill-0"]));
}

#[test]
fn what_is_not_granted_is_not_linked() {
    let mesh = running(&[]);
    let outcome = try_apply(&mesh, &keeper(Manifest::empty(), "one", ""));
    let message = outcome.fails(3, "missing-grant");
    for word in ["wasi:keyvalue/store@0.2.0-draft", "wasi:keyvalue/batch", "grants.keyvalue = [\"NAME\"]"] {
        assert!(message.contains(word), "{message}");
    }
    assert!(!message.contains("wasi:filesystem") && !message.contains("wasi:config"), "{message}");
}

/// A directory with a file, beside a secret that links of every kind point to.
fn tree(base: &Path) -> (String, String) {
    let (shown, hidden) = (base.join("shown"), base.join("hidden"));
    fs::create_dir_all(shown.join("deep")).unwrap();
    fs::create_dir_all(&hidden).unwrap();
    fs::write(shown.join("hello"), "hello").unwrap();
    fs::write(hidden.join("secret"), "secret").unwrap();
    symlink(hidden.join("secret"), shown.join("absolute")).unwrap();
    symlink("../hidden/secret", shown.join("relative")).unwrap();
    symlink("../hidden", shown.join("directory")).unwrap();
    symlink("hello", shown.join("inside")).unwrap();
    (shown.to_str().unwrap().to_owned(), hidden.to_str().unwrap().to_owned())
}

fn seeing(slot: &str, dirs: &str) -> Manifest {
    keeper(Manifest::empty(), slot, &format!("grants = {{ keyvalue = [\"a\"], dirs = [{dirs}] }}"))
}

#[test]
fn a_directory_is_all_that_is_seen() {
    let base = tempfile::tempdir().unwrap();
    let (shown, _) = tree(base.path());
    let mesh = running(&["--allow-write-dir", &shown]);
    let [n1] = mesh.nodes();
    mesh.apply(&seeing("one", &format!("{{ path = \"{shown}\", as = \"/x\", write = true }}")), &[n1]);
    assert_eq!(ask(n1, "one", "directories", json!([])), json!(["/x"]));
    assert_eq!(ask(n1, "one", "read", json!(["/x", "hello"])), "hello");
    assert_eq!(ask(n1, "one", "read", json!(["/x", "inside"])), "hello");
    assert_eq!(ask(n1, "one", "read", json!(["/x", "deep/../hello"])), "hello");
    ask(n1, "one", "write", json!(["/x", "deep/new", "words"]));
    assert_eq!(fs::read_to_string(Path::new(&shown).join("deep/new")).unwrap(), "words");

    let absolute = format!("{shown}/hello");
    for path in [
        "../hidden/secret",
        "deep/../../hidden/secret",
        "..",
        "../",
        "/etc/passwd",
        &absolute,
        "absolute",
        "relative",
        "directory/secret",
        "directory/../hidden/secret",
        "relative/",
        "",
    ] {
        for (function, arguments) in [
            ("read", json!(["/x", path])),
            ("write", json!(["/x", path, "gone"])),
            ("link", json!(["/x", path, "linked"])),
            ("rename", json!(["/x", "hello", path])),
        ] {
            // A link itself may be moved, replaced or linked to: that stays inside.
            let inside = ["absolute", "relative"].contains(&path) && !["read", "write"].contains(&function);
            if !inside {
                let fault = fails(n1, "one", function, arguments);
                assert!(!fault.contains("secret\""), "{function} {path}: {fault}");
            }
        }
    }
    for target in ["/etc/passwd", &absolute] {
        fails(n1, "one", "symlink", json!(["/x", target, "made"]));
    }
    // A link that leads out can be made, but not followed.
    let name = n1.cli(["call", "one@fabric", "symlink", "[\"/x\",\"../hidden/secret\",\"made\"]"]);
    if name.code == 0 {
        fails(n1, "one", "read", json!(["/x", "made"]));
    }
    assert_eq!(fs::read_to_string(base.path().join("hidden/secret")).unwrap(), "secret");
    assert_eq!(fs::read_dir(base.path().join("hidden")).unwrap().count(), 1);
}

#[test]
fn a_link_that_takes_the_place_of_a_directory_leads_nowhere() {
    let base = tempfile::tempdir().unwrap();
    let (shown, _) = tree(base.path());
    fs::write(Path::new(&shown).join("deep/words"), "deep").unwrap();
    let mesh = running(&["--allow-write-dir", &shown]);
    let [n1] = mesh.nodes();
    let grants = |dirs: String| format!("grants = {{ keyvalue = [\"a\"], dirs = [{dirs}] }}");
    let above = grants(format!("{{ path = \"{shown}\", as = \"/x\", write = true }}"));
    let below = grants(format!("{{ path = \"{shown}/deep\", as = \"/x\" }}"));
    let manifest = keeper(keeper(Manifest::empty(), "one", &above), "two", &below);
    mesh.apply(&manifest, &[n1]);
    assert_eq!(ask(n1, "two", "read", json!(["/x", "words"])), "deep");
    // Who may write above it moves it away, and puts there a link to what nobody was given.
    ask(n1, "one", "rename", json!(["/x", "deep", "away"]));
    ask(n1, "one", "symlink", json!(["/x", "../hidden", "deep"]));
    let told = fails(n1, "two", "read", json!(["/x", "secret"]));
    assert!(!told.contains("secret\""), "{told}");
    assert_eq!(ask(n1, "two", "read", json!(["/x", "words"])), "deep", "the directory that it was given");
    // Looked up again, the path leads out of what the node opens.
    n1.stop();
    n1.start(&["--allow-write-dir", &shown]);
    let warnings = n1.json(["status"])["warnings"].to_string();
    assert!(warnings.contains("this node lets no plugin read") && warnings.contains("hidden"), "{warnings}");
}

#[test]
fn reading_is_not_writing() {
    let base = tempfile::tempdir().unwrap();
    let (shown, _) = tree(base.path());
    let mesh = running(&["--allow-write-dir", &shown]);
    let [n1] = mesh.nodes();
    mesh.apply(&seeing("one", &format!("{{ path = \"{shown}\", as = \"/x\" }}")), &[n1]);
    assert_eq!(ask(n1, "one", "read", json!(["/x", "hello"])), "hello");
    for (function, arguments) in [
        ("write", json!(["/x", "hello", "gone"])),
        ("write", json!(["/x", "new", "gone"])),
        ("rename", json!(["/x", "hello", "gone"])),
        ("link", json!(["/x", "hello", "gone"])),
        ("symlink", json!(["/x", "hello", "gone"])),
        ("unlink", json!(["/x", "hello"])),
    ] {
        fails(n1, "one", function, arguments);
    }
    assert_eq!(fs::read_to_string(Path::new(&shown).join("hello")).unwrap(), "hello");
    assert_eq!(fs::read_dir(&shown).unwrap().count(), 6);
}

#[test]
fn the_node_says_which_directories() {
    let base = tempfile::tempdir().unwrap();
    let (shown, hidden) = tree(base.path());
    let mesh = running(&["--allow-dir", &shown]);
    let [n1] = mesh.nodes();
    let linked = format!("{shown}/directory");
    for (path, write) in [(&hidden, false), (&shown, true), (&"/etc".to_owned(), false), (&linked, false)] {
        let manifest = seeing("one", &format!("{{ path = \"{path}\", as = \"/x\", write = {write} }}"));
        let outcome = try_apply(&mesh, &manifest);
        let message = outcome.fails(3, "not-allowed");
        assert!(message.contains("one: this node lets no plugin"), "{message}");
        assert!(message.contains("fix: midplane run --allow-"), "{message}");
    }
    let missing = seeing("one", &format!("{{ path = \"{shown}/missing\", as = \"/x\" }}"));
    try_apply(&mesh, &missing).fails(4, "not-found");
    let wrong = seeing("one", "{ path = \"/srv/../etc\", as = \"/x\" }");
    try_apply(&mesh, &wrong).fails(2, "bad-manifest");
    mesh.apply(&seeing("one", &format!("{{ path = \"{shown}/deep\", as = \"/x\" }}")), &[n1]);
    assert_eq!(ask(n1, "one", "directories", json!([])), json!(["/x"]));
}
