//! Blobs as their user sees them: kept here, read there.

use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::Stdio;

use midplane_tests::forge::blob;
use midplane_tests::process::Process;
use midplane_tests::{Manifest, Mesh, Node, PATIENCE, eventually};

/// Bytes that nothing else has.
fn bytes(length: usize, seed: u8) -> Vec<u8> {
    (0..length).map(|at| (at as u8).wrapping_mul(31) ^ (at >> 8) as u8 ^ seed).collect()
}

fn file(mesh: &Mesh, name: &str, bytes: &[u8]) -> PathBuf {
    let path = mesh.path(name);
    std::fs::write(&path, bytes).unwrap();
    path
}

#[track_caller]
fn put(node: &Node, file: &Path) -> String {
    let digest = node.cli(["blob".as_ref(), "put".as_ref(), file.as_os_str()]).ok();
    digest.trim_end().to_owned()
}

#[track_caller]
fn get(node: &Node, digest: &str, out: &Path) -> serde_json::Value {
    node.json(["blob".as_ref(), "get".as_ref(), digest.as_ref(), "--out".as_ref(), out.as_os_str()])
}

/// Where the blob lies in the node's directory.
fn place(node: &Node, digest: &str) -> PathBuf {
    let (shard, rest) = digest.split_at(2);
    node.directory().join("blobs").join(shard).join(rest)
}

/// What `blob ls` says of it.
#[track_caller]
fn row(node: &Node, digest: &str) -> serde_json::Value {
    let listed = node.json(["blob", "ls"]);
    listed.as_array().unwrap().iter().find(|row| row["digest"] == digest).unwrap().clone()
}

/// Two nodes with a link.
fn pair() -> Mesh {
    let mesh = Mesh::of(["n1", "n2"]);
    {
        let [n1, n2] = mesh.nodes();
        n1.start(&[]);
        n2.start(&["--peer", &n1.peer()]);
        mesh.apply(&Manifest::policies(), &[n1, n2]);
        n1.links_to(n2);
        n2.links_to(n1);
    }
    mesh
}

#[test]
fn a_blob_is_kept_listed_read_and_let_go() {
    let mesh = Mesh::of(["n1"]);
    let [n1] = mesh.nodes();
    n1.start(&[]);
    assert_eq!(n1.json(["blob", "ls"]), serde_json::json!([]));
    for length in [0, 1, 70_000, 3 << 20] {
        let bytes = bytes(length, 1);
        let source = file(&mesh, "source", &bytes);
        let report = n1.json(["blob".as_ref(), "put".as_ref(), source.as_os_str()]);
        let digest = blob(&bytes).digest.to_string();
        assert_eq!(report["digest"], digest.as_str());
        assert_eq!((&report["length"], &report["pinned"]), (&length.into(), &true.into()));
        assert_eq!(report["new"], true);
        assert_eq!(put(n1, &source), digest, "again is the same");
        let out = mesh.path("out");
        let got = get(n1, &digest[..8], &out);
        assert_eq!((&got["length"], &got["fetched"]), (&length.into(), &false.into()));
        assert_eq!(std::fs::read(&out).unwrap(), bytes);
    }
    let small = bytes(1, 1);
    let digest = blob(&small).digest.to_string();
    assert_eq!(n1.cli(["blob", "get", &digest]).ok().as_bytes(), small);
    let listed = n1.json(["blob", "ls"]);
    assert_eq!(listed.as_array().unwrap().len(), 4);
    n1.cli(["blob", "unpin", &digest]).ok();
    n1.cli(["blob", "unpin", &digest]).fails(4, "not-found");
    assert_eq!(row(n1, &digest)["pinned"], false);
    assert_eq!(n1.json(["blob", "pin", &digest[..6]])["pinned"], true);
    assert_eq!(row(n1, &digest)["pinned"], true);
}

#[test]
fn a_pipe_is_put_without_knowing_its_length() {
    let mesh = Mesh::of(["n1"]);
    let [n1] = mesh.nodes();
    n1.start(&[]);
    let bytes = bytes(2_500_000, 2);
    let mut process =
        Process::spawn(n1.command(["blob", "put", "-"]).stdin(Stdio::piped()).stdout(Stdio::null()));
    process.child().stdin.take().unwrap().write_all(&bytes).unwrap();
    assert!(process.wait(PATIENCE).success());
    let out = mesh.path("out");
    get(n1, &blob(&bytes).digest.to_string(), &out);
    assert_eq!(std::fs::read(&out).unwrap(), bytes);
}

#[test]
fn what_one_node_keeps_another_gets() {
    let mesh = pair();
    let [n1, n2] = mesh.nodes();
    let bytes = bytes(5_000_000, 3);
    let digest = put(n1, &file(&mesh, "source", &bytes));
    let out = mesh.path("out");
    n2.cli(["blob", "get", &digest, "--local"]).fails(4, "blob-missing");
    assert_eq!(get(n2, &digest, &out)["fetched"], true);
    assert_eq!(std::fs::read(&out).unwrap(), bytes);
    // It stays.
    n1.stop();
    assert_eq!(get(n2, &digest, &out)["fetched"], false);
    let nowhere = "0".repeat(64);
    n2.cli(["blob", "get", &nowhere]).fails(4, "blob-missing");
}

#[test]
fn a_rotten_blob_is_never_served_and_comes_back_from_a_peer() {
    let mesh = pair();
    let [n1, n2] = mesh.nodes();
    let good = bytes(1_000_000, 4);
    let digest = put(n1, &file(&mesh, "source", &good));
    let mut bad = good.clone();
    bad[700_000] ^= 1;
    std::fs::write(place(n1, &digest), &bad).unwrap();
    let out = mesh.path("out");
    let words = ["blob", "get", &digest, "--out", out.to_str().unwrap()];
    let outcome = n2.cli(words);
    assert_ne!(outcome.code, 0);
    assert!(!out.exists(), "part of a rotten blob was written");
    n1.cli(words).fails(4, "blob-missing");
    assert_eq!(row(n1, &digest)["length"], serde_json::Value::Null, "pinned, and missing");
    // A good copy elsewhere heals it.
    put(n2, &mesh.path("source"));
    assert_eq!(get(n1, &digest, &out)["fetched"], true);
    assert_eq!(std::fs::read(&out).unwrap(), good);

    std::fs::write(place(n1, &digest), &bad).unwrap();
    let outcome = n1.cli(words);
    assert!(outcome.fails(3, "digest-mismatch").contains("rotted"), "{outcome:#?}");
    assert_eq!(std::fs::read(&out).unwrap(), good, "what was there is untouched");
}

#[test]
fn a_collection_takes_what_nothing_needs() {
    let mesh = Mesh::of(["n1"]);
    let [n1] = mesh.nodes();
    n1.start(&[]);
    mesh.apply(&Manifest::policies().skill("skill/math1", "math1@fabric", "n1"), &[n1]);
    mesh.apply(&Manifest::policies().skill("skill/math2", "math2@fabric", "n1"), &[n1]);
    let pinned = put(n1, &file(&mesh, "pinned", &bytes(100_000, 6)));
    let freed = put(n1, &file(&mesh, "freed", &bytes(200_000, 7)));
    let young = file(&mesh, "young", &bytes(10, 8));
    n1.cli(["blob", "put", "--no-pin", young.to_str().unwrap()]).ok();
    n1.cli(["blob", "unpin", &freed]).ok();
    let expect = serde_json::json!([{ "digest": freed, "length": 200_000, "unfinished": false }]);
    let dry = n1.json(["blob", "gc", "--dry-run"]);
    assert_eq!((&dry["dry-run"], &dry["freed"]), (&true.into(), &expect));
    assert_eq!(row(n1, &freed)["length"], 200_000);
    let done = n1.json(["blob", "gc"]);
    assert_eq!((&done["freed"], &done["bytes"]), (&expect, &200_000.into()));
    // Both generations' components and the pin; the young one, and components that were uploaded within the hour.
    assert_eq!(done["kept"].as_u64().unwrap() + done["leased"].as_u64().unwrap(), 7, "{done}");
    n1.cli(["blob", "get", &freed, "--local"]).fails(4, "blob-missing");
    assert_eq!(n1.json(["blob", "gc"])["freed"], serde_json::json!([]));
    // After a restart no lease is left: what stays is pinned or needed.
    n1.stop();
    n1.start(&[]);
    let done = n1.json(["blob", "gc"]);
    assert_eq!(done["freed"][0]["length"], 10, "{done}");
    assert_eq!((&done["kept"], &done["leased"]), (&6.into(), &0.into()), "{done}");
    let components = n1.json(["blob", "ls"]);
    let of =
        |digest: &str| components.as_array().unwrap().iter().find(|row| row["digest"] == digest).cloned();
    assert_eq!(of(&pinned).unwrap()["generations"], serde_json::json!([]));
    let math1 = std::fs::read(midplane_tests::command::component("skill/math1")).unwrap();
    let row = of(&blob(&math1).digest.to_string()).unwrap();
    assert_eq!((&row["generations"], &row["pinned"]), (&serde_json::json!([1]), &false.into()));
    assert_eq!(n1.call("math2@fabric", "fib-stream", &["n=3"]).ok(), "0\n1\n1\n");
}

#[test]
fn a_component_that_rotted_is_fetched_again_or_named() {
    let mesh = pair();
    let [n1, n2] = mesh.nodes();
    mesh.apply(&Manifest::policies(), &[n1, n2]);
    let component = midplane_tests::command::component("skill/math1");
    let wasm = std::fs::read(&component).unwrap();
    let digest = blob(&wasm).digest.to_string();
    let mut bad = wasm.clone();
    bad[1_000] ^= 1;
    let rot = || std::fs::write(place(n1, &digest), &bad).unwrap();
    // It is here, but rotten: a generation that needs it takes it from the peer.
    n1.cli(["blob", "put", component.to_str().unwrap()]).ok();
    rot();
    let manifest = Manifest::policies().skill("skill/math1", "sum@fabric", "n1").probation("1s");
    let (path, signed) = (manifest.write(mesh.path("sum.toml")), mesh.path("sum.manifest"));
    let [path, signed, key] =
        [&path, &signed, &mesh.operator_key()].map(|path| path.to_str().unwrap().to_owned());
    n2.cli(["apply", &path, "--save", &signed, "--key", &key]).ok();
    n1.cli(["apply", &signed]).ok();
    assert_eq!(n1.call("sum@fabric", "add", &["x=3", "y=4"]).ok(), "7\n");
    assert!(std::fs::read(place(n1, &digest)).unwrap() == wasm);
    // One that is on probation would give way to the one before.
    n1.tells("generation-settled");
    // Code that was compiled of it when it was whole is under its own seal, and goes on without it.
    n1.stop();
    rot();
    n1.start(&[]);
    assert_eq!(n1.call("sum@fabric", "add", &["x=3", "y=4"]).ok(), "7\n");
    // Without it, and with nobody linked yet: it is named, and never run.
    n1.stop();
    std::fs::remove_dir_all(n1.directory().join("cache")).unwrap();
    n1.start(&[]);
    let status = n1.json(["status"]);
    let warnings = status["warnings"].to_string();
    assert!(warnings.contains(&digest[..12]) && warnings.contains("digest"), "{status}");
    assert_eq!(status["generation"], 0);
}

#[test]
fn an_operator_handles_the_blobs_of_another_node() {
    let mesh = pair();
    let [n1, n2] = mesh.nodes();
    let bytes = bytes(700_000, 5);
    let source = file(&mesh, "source", &bytes);
    let on = |words: &[&str]| n1.cli(words.iter().chain(&["--on", "n2"]));
    eventually(PATIENCE, || match on(&["status"]) {
        status if status.code == 0 => Ok(()),
        status => Err(status.stderr),
    });
    let digest = on(&["blob", "put", source.to_str().unwrap()]).ok().trim_end().to_owned();
    assert_eq!(row(n2, &digest)["pinned"], true);
    assert_eq!(on(&["blob", "put", source.to_str().unwrap()]).ok().trim_end(), digest);
    assert_eq!(n1.json(["blob", "ls"]).as_array().unwrap().len(), 3, "the components alone");
    let out = mesh.path("out");
    on(&["blob", "get", &digest, "--out", out.to_str().unwrap()]).ok();
    assert_eq!(std::fs::read(&out).unwrap(), bytes);
    on(&["blob", "unpin", &digest[..8]]).ok();
    assert_eq!(row(n2, &digest)["pinned"], false);
    on(&["blob", "put", "-"]).fails(2, "usage");
}

#[test]
fn wrong_words_are_refused_by_name() {
    let mesh = Mesh::of(["n1"]);
    let [n1] = mesh.nodes();
    n1.cli(["blob", "ls"]).fails(5, "not-running");
    n1.start(&[]);
    let digest = put(n1, &file(&mesh, "source", b"hello"));
    n1.cli(["blob", "put", "/nowhere/at/all"]).fails(4, "not-found");
    n1.cli(["blob", "put", "/"]).fails(2, "usage");
    n1.cli(["blob", "get", "xyz"]).fails(2, "usage");
    assert_eq!(n1.cli(["blob", "get", &digest, "-o", "json"]).code, 2);
    n1.cli(["blob", "get", &digest, "--out", "/nowhere/at/all"]).fails(4, "not-found");
    n1.cli(["blob", "pin", &"0".repeat(64)]).fails(4, "blob-missing");
    let typo = format!("{}{}", &digest[..9], if &digest[9..10] == "0" { "1" } else { "0" });
    let outcome = n1.cli(["blob", "get", &typo]);
    assert!(outcome.fails(4, "not-found").contains(&digest[..10]), "{outcome:#?}");
}
