//! Blobs of workloads: what a slot puts is kept for it, within its grant; what others keep is not touched.

use midplane::words::hop::Hop;
use midplane::words::{Code, Digest};
use midplane_tests::command::component;
use midplane_tests::forge::block_on;
use midplane_tests::member::Member;
use midplane_tests::wait::{PATIENCE, eventually};
use midplane_tests::{Manifest, Mesh, Node, Outcome};
use serde_json::{Value, json};

const LIBRARIAN: &str = "test/skill/librarian";
/// What a blob counts beside its bytes.
const COST: u64 = 4 << 10;
/// All of the grant.
const BOTH: &str = "grants = { blobs = { read = \"mesh\", write = \"1MiB\" } }";

fn librarian(manifest: Manifest, slot: &str, label: &str, more: &str) -> Manifest {
    let more = format!("names = [\"{slot}@fabric\"]\non = {{ labels = [\"{label}\"] }}\n{more}");
    manifest.plugin(slot, "skill", &component(LIBRARIAN), &more)
}

/// One node with these slots.
fn alone(slots: &[(&str, &str)]) -> Mesh {
    let mesh = Mesh::of(["n1"]);
    let [n1] = mesh.nodes();
    n1.start(&[]);
    let add = |manifest, (slot, more): &(&str, &str)| librarian(manifest, slot, "n1", more);
    mesh.apply(&slots.iter().fold(Manifest::empty(), add), &[n1]);
    mesh
}

fn called(node: &Node, slot: &str, function: &str, arguments: Value) -> Outcome {
    node.cli(["call", &format!("{slot}@fabric"), function, &arguments.to_string(), "-o", "json"])
}

#[track_caller]
fn ask(node: &Node, slot: &str, function: &str, arguments: Value) -> Value {
    let text = called(node, slot, function, arguments).ok();
    if text.is_empty() { Value::Null } else { serde_json::from_str(&text).unwrap() }
}

/// The error that a function answers with begins with this code.
#[track_caller]
fn refused(node: &Node, slot: &str, function: &str, arguments: Value, code: &str) -> String {
    let name = format!("{slot}@fabric");
    let outcome = node.cli(["call", &name, function, &arguments.to_string()]);
    let message = outcome.fails(1, "application-error").trim_end().to_owned();
    assert!(message.starts_with(&format!("application-error: {code}: ")), "{message}");
    message
}

fn digest_of(bytes: &[u8]) -> String {
    Digest::of(bytes).to_string()
}

#[track_caller]
fn put(mesh: &Mesh, node: &Node, bytes: &[u8], more: &[&str]) -> String {
    let path = mesh.path("source");
    std::fs::write(&path, bytes).unwrap();
    let words = ["blob", "put", path.to_str().unwrap()];
    node.cli(words.iter().chain(more)).ok().trim_end().to_owned()
}

/// Whether the node has the blob.
fn is_here(node: &Node, digest: &str) -> bool {
    node.cli(["blob", "get", digest, "--local"]).code == 0
}

/// `KEPT BY` of `blob ls`.
#[track_caller]
fn slots_of(node: &Node, digest: &str) -> Value {
    let listed = node.json(["blob", "ls"]);
    let row = listed.as_array().unwrap().iter().find(|row| row["digest"] == digest).unwrap();
    row.get("slots").cloned().unwrap_or(Value::Null)
}

#[test]
fn what_is_put_is_read_in_any_part() {
    let mesh = alone(&[("one", BOTH)]);
    let [n1] = mesh.nodes();
    assert_eq!(ask(n1, "one", "put", json!(["aGVsbG8="])), json!(digest_of(b"hello")));
    let bytes = vec![7_u8; 100_000];
    let digest = digest_of(&bytes);
    for piece in [100_000, 1_000, 32 << 10] {
        for declared in [Value::Null, json!(100_000)] {
            assert_eq!(ask(n1, "one", "fill", json!([100_000, piece, 7, declared])), json!(digest));
        }
    }
    assert_eq!(ask(n1, "one", "sum", json!([digest])), json!([100_000, 700_000]));
    assert_eq!(ask(n1, "one", "find", json!([digest])), json!(100_000));
    assert_eq!(ask(n1, "one", "find", json!(["ab".repeat(32)])), Value::Null);
    // Of bytes that differ, across the borders of groups.
    let bytes: Vec<u8> = (0..70_000_u32).map(|at| (at % 251) as u8).collect();
    let digest = put(&mesh, n1, &bytes, &[]);
    for (start, length, piece) in [
        (0, None, 65_536),
        (0, Some(0), 10),
        (1, Some(1), 10),
        (32_767, Some(2), 1),
        (32_768, Some(32_768), 40_000),
        (65_535, None, 3),
        (69_999, Some(u64::MAX), 10),
        (70_000, None, 10),
        (40_000, Some(10_000), 0),
    ] {
        let end = length.map_or(70_000, |length| (start + length.min(70_000)).min(70_000));
        let expect = digest_of(&bytes[start as usize..end as usize]);
        let copied = ask(n1, "one", "copy", json!([digest, start, length, piece]));
        assert_eq!(copied, json!(expect), "{start} {length:?}");
    }
    refused(n1, "one", "copy", json!([digest, 70_001, null, 10]), "usage");
    refused(n1, "one", "copy", json!(["ab".repeat(32), 0, null, 10]), "blob-missing");
    for text in ["", "xyz", &digest[..63], &digest.to_uppercase()] {
        for function in ["find", "sum", "let-go"] {
            refused(n1, "one", function, json!([text]), "usage");
        }
    }
    let insisted = ask(n1, "one", "insist", json!([(1 << 20) + 1]));
    let codes: Vec<&str> = insisted.as_array().unwrap().iter().map(|text| text.as_str().unwrap()).collect();
    assert!(codes.len() == 4 && codes[0].starts_with("too-large: "), "{codes:?}");
    assert!(codes[1..].iter().all(|text| text.starts_with("usage: the writer is finished")), "{codes:?}");
    refused(n1, "one", "fill", json!([10, 10, 1, 11]), "digest-mismatch");
}

#[test]
fn a_slot_keeps_within_its_grant_over_restarts() {
    let small = "grants = { blobs = { write = \"100KiB\" } }";
    let mesh = alone(&[("one", small), ("two", small)]);
    let [n1] = mesh.nodes();
    let first = ask(n1, "one", "fill", json!([60_000, 9_000, 1, null])).as_str().unwrap().to_owned();
    assert_eq!(ask(n1, "one", "room", json!([])), json!([60_000 + COST, 100 << 10]));
    let message = refused(n1, "one", "fill", json!([60_000, 9_000, 2, null]), "storage-full");
    assert!(message.contains("one would keep blobs of"), "{message}");
    refused(n1, "one", "fill", json!([60_000, 60_000, 2, 60_000]), "storage-full");
    refused(n1, "one", "hoard", json!([30, 0]), "storage-full");
    ask(n1, "one", "abandon", json!([30_000]));
    assert_eq!(ask(n1, "one", "room", json!([]))[0], 60_000 + COST, "what is dropped gives its room back");
    assert!(!is_here(n1, &digest_of(&vec![2; 60_000])));
    // Again is the same, and another slot has room of its own.
    assert_eq!(ask(n1, "two", "fill", json!([60_000, 9_000, 1, null])), json!(first));
    n1.kill();
    n1.start(&[]);
    assert_eq!(ask(n1, "one", "room", json!([]))[0], 60_000 + COST);
    refused(n1, "one", "fill", json!([60_000, 9_000, 2, null]), "storage-full");
    assert_eq!(ask(n1, "one", "kept", json!([])), json!([[first, 60_000]]));
    assert_eq!(slots_of(n1, &first), json!(["one", "two"]));

    assert_eq!(ask(n1, "one", "let-go", json!([first])), true);
    assert_eq!(ask(n1, "one", "let-go", json!([first])), false);
    assert_eq!(ask(n1, "one", "kept", json!([])), json!([]));
    refused(n1, "one", "sum", json!([first]), "missing-grant");
    assert_eq!(
        ask(n1, "two", "sum", json!([first])),
        json!([60_000, 60_000]),
        "the other slot still keeps it"
    );
    let second = ask(n1, "one", "fill", json!([60_000, 9_000, 2, null])).as_str().unwrap().to_owned();
    // Nobody else needs it: it is gone at once. What people pinned stays.
    assert_eq!(ask(n1, "one", "let-go", json!([second])), true);
    assert!(!is_here(n1, &second));
    n1.cli(["blob", "pin", &first]).ok();
    assert_eq!(ask(n1, "two", "let-go", json!([first])), true);
    assert!(is_here(n1, &first));
    refused(n1, "two", "hoard", json!([65, 0]), "storage-full");
}

#[test]
fn what_is_let_go_of_while_it_is_read_counts_until_it_is_gone() {
    let mesh = alone(&[("one", "grants = { blobs = { write = \"100KiB\" } }")]);
    let [n1] = mesh.nodes();
    let fill =
        |byte: u8| ask(n1, "one", "fill", json!([60_000, 9_000, byte, null])).as_str().unwrap().to_owned();
    let first = fill(1);
    let both = ask(n1, "one", "cling", json!([first, 60_000]));
    assert!(both[0]["err"].as_str().is_some_and(|text| text.starts_with("storage-full: ")), "{both}");
    let second = digest_of(&vec![2; 60_000]);
    assert_eq!(both[1], json!({ "ok": second }), "its room is there again");
    assert!(!is_here(n1, &first));
    assert_eq!(ask(n1, "one", "room", json!([]))[0], 60_000 + COST);
    // Nobody asks for the room: it is taken away by itself.
    assert_eq!(ask(n1, "one", "leave", json!([second])), true);
    eventually(PATIENCE, || {
        let room = ask(n1, "one", "room", json!([]));
        if room[0] == 0 { Ok(()) } else { Err(room) }
    });
    assert!(!is_here(n1, &second));
    fill(3);
}

#[test]
fn many_are_kept_and_few_are_open() {
    let wide = "grants = { blobs = { write = \"1GiB\" } }\nlimits = { deadline = \"long\" }";
    let mesh = alone(&[("one", wide)]);
    let [n1] = mesh.nodes();
    ask(n1, "one", "hoard", json!([64, 0]));
    refused(n1, "one", "hoard", json!([65, 0]), "busy");
    refused(n1, "one", "hoard", json!([1, 17_u64 << 30]), "storage-full");
    ask(n1, "one", "hoard", json!([64, 0]));
    let tmp = n1.directory().join("blobs/tmp");
    assert_eq!(std::fs::read_dir(tmp).unwrap().count(), 0, "what is dropped leaves nothing behind");
    let mut expect: Vec<(String, u64)> =
        (0..20_u64).map(|length| (digest_of(&vec![9; length as usize]), length)).collect();
    for (_, length) in &expect {
        ask(n1, "one", "fill", json!([length, 5, 9, null]));
    }
    expect.sort();
    assert_eq!(ask(n1, "one", "kept", json!([])), json!(expect));
}

#[test]
fn what_a_slot_keeps_stays_until_no_generation_has_the_slot() {
    let mesh = alone(&[("one", BOTH), ("two", BOTH)]);
    let [n1] = mesh.nodes();
    let kept = ask(n1, "one", "fill", json!([5_000, 5_000, 3, null])).as_str().unwrap().to_owned();
    let without = librarian(Manifest::empty(), "two", "n1", BOTH).probation("1s");
    mesh.apply(&without, &[n1]);
    // The generation before could come back.
    n1.cli(["blob", "gc"]).ok();
    assert!(is_here(n1, &kept));
    mesh.apply(&librarian(without.clone(), "one", "n1", BOTH), &[n1]);
    assert_eq!(ask(n1, "one", "sum", json!([kept])), json!([5_000, 15_000]));
    // The last that was settled is kept, and the one before that which runs.
    mesh.apply(&without, &[n1]);
    let settled = n1.json(["status"])["generation"].clone();
    eventually(PATIENCE, || match n1.last_event("generation-settled") {
        Some(event) if event["version"] == settled => Ok(()),
        event => Err(format!("{settled} is not settled: {event:?}")),
    });
    mesh.apply(&without, &[n1]);
    assert!(is_here(n1, &kept));
    let would = n1.json(["blob", "gc", "--dry-run"]);
    assert!(
        would["freed"].as_array().unwrap().iter().any(|freed| freed["digest"] == kept.as_str()),
        "{would}"
    );
    assert_eq!(slots_of(n1, &kept), json!(["one"]));
    n1.cli(["blob", "gc"]).ok();
    assert!(!is_here(n1, &kept));
    mesh.apply(&librarian(without, "one", "n1", BOTH), &[n1]);
    assert_eq!(ask(n1, "one", "kept", json!([])), json!([]));
    assert_eq!(ask(n1, "one", "room", json!([]))[0], 0);
}

#[test]
fn what_is_not_granted_is_refused() {
    let read = "grants = { blobs = { read = \"node\" } }";
    let write = "grants = { blobs = { write = 100_000 } }";
    let mesh = alone(&[("reads", read), ("writes", write)]);
    let [n1] = mesh.nodes();
    let digest = put(&mesh, n1, b"for people", &[]);
    refused(n1, "reads", "put", json!(["aGk="]), "missing-grant");
    assert_eq!(ask(n1, "reads", "sum", json!([digest]))[0], 10);
    let message = refused(n1, "reads", "sum", json!(["ab".repeat(32)]), "blob-missing");
    assert!(!message.contains("none gave it"), "{message}");
    refused(n1, "writes", "sum", json!([digest]), "missing-grant");
    assert_eq!(ask(n1, "writes", "find", json!([digest])), Value::Null, "it could not read it");
    assert_eq!(ask(n1, "writes", "let-go", json!([digest])), false);
    assert!(is_here(n1, &digest), "what people keep is not a slot's to let go");
    for (grants, code, word, expect) in [
        ("", 3, "missing-grant", "grants.blobs = { read = \"node\", write = \"64MiB\" }"),
        ("grants = { blobs = {} }", 2, "bad-manifest", "grants.blobs grants nothing"),
        (
            "grants = { blobs = { read = \"all\" } }",
            2,
            "bad-manifest",
            "grants.blobs.read is one of node, mesh",
        ),
        ("grants = { blobs = { keep = 1 } }", 2, "bad-manifest", "unknown key grants.blobs.keep"),
        ("grants = { blobs = { write = \"much\" } }", 2, "bad-manifest", "is a size"),
    ] {
        let manifest = librarian(Manifest::empty(), "one", "n1", grants);
        let outcome = mesh.apply_file(&manifest.write(mesh.path("refused.toml")), n1);
        assert!(outcome.fails(code, word).contains(expect), "{outcome:?}");
    }
    let plugins = n1.json(["plugins"]);
    assert!(plugins.to_string().contains("blobs = { read = \\\"node\\\" }"), "{plugins}");
}

#[test]
fn what_another_node_has_is_fetched_for_those_who_may() {
    let mut mesh = Mesh::of(["n1", "n2"]);
    mesh.admit("basic", &["--trust", "basic"]);
    mesh.admit("trusted", &["--trust", "trusted"]);
    let [n1, n2, basic, trusted] = mesh.nodes();
    n1.start(&[]);
    n2.start(&["--peer", &n1.peer()]);
    let open = format!("{BOTH}\nexpose = \"basic\"");
    let manifest = librarian(Manifest::policies(), "mesh", "n1", &open);
    let manifest = librarian(manifest, "node", "n1", "grants = { blobs = { read = \"node\" } }");
    mesh.apply(&manifest, &[n1, n2]);
    n1.links_to(n2);
    let bytes = vec![5_u8; 3 << 20];
    let there = put(&mesh, n2, &bytes, &[]);
    let sum = json!([bytes.len(), 5 * bytes.len()]);
    refused(n1, "node", "sum", json!([there]), "blob-missing");
    let member = |node, arguments: Value, function: &'static str| {
        let hop = Hop::start(20_000);
        block_on(async move {
            let member = Member::link(node, n1).await.unwrap();
            member.call("mesh@fabric", function, &arguments, &hop).await
        })
    };
    // Who could not fetch it does not get it through the skill either, but what the skill keeps.
    let fault = member(basic, json!([there]), "sum").unwrap_err();
    assert!(fault.code == Code::Application && fault.what.contains("not-allowed: "), "{fault}");
    assert!(!is_here(n1, &there), "nothing was fetched for it");
    let own = member(basic, json!(["aGVsbG8="]), "put").unwrap();
    assert_eq!(member(basic, json!([own]), "sum").unwrap(), json!([5, 532]));
    assert_eq!(member(trusted, json!([there]), "sum").unwrap(), sum);
    assert_eq!(ask(n1, "node", "sum", json!([there])), sum);
    let nowhere = refused(n1, "mesh", "sum", json!(["ab".repeat(32)]), "blob-missing");
    assert!(nowhere.contains("none gave it"), "{nowhere}");
    assert_eq!(
        ask(n1, "mesh", "kept", json!([])),
        json!([[own, 5]]),
        "what is read is not kept for the slot"
    );
}

#[test]
fn blobs_go_through_streams() {
    let mesh = Mesh::of(["n1"]);
    let [n1] = mesh.nodes();
    n1.start(&[]);
    let more = format!("names = [\"copyist@fabric\"]\n{BOTH}");
    mesh.apply(&Manifest::empty().plugin("copyist", "skill", &component("test/skill/copyist"), &more), &[n1]);
    assert_eq!(n1.json(["plugins"])[0]["engine"], "concurrent");
    let digest = ask(n1, "copyist", "take", json!([["aGVs", "bG8="]]));
    assert_eq!(digest, json!(digest_of(b"hello")));
    let bytes: Vec<u8> = (0..70_000_u32).map(|at| (at % 253) as u8).collect();
    let large = put(&mesh, n1, &bytes, &[]);
    for (digest, length) in [(digest.as_str().unwrap(), 5), (&large, bytes.len())] {
        let given = called(n1, "copyist", "give", json!([digest])).ok();
        let items: Vec<String> = given.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
        let took = ask(n1, "copyist", "take", json!([items]));
        assert_eq!(took, json!(digest), "{length}");
    }
    refused(n1, "copyist", "give", json!(["ab".repeat(32)]), "blob-missing");
}
