//! What a node must refuse: with a word that says why, and with nothing changed.

use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use midplane::words::Code;
use midplane_tests::command::component;
use midplane_tests::forge::{blob, mesh_id, object, put_blob, sign};
use midplane_tests::{Manifest, Mesh, Node, Outcome, PATIENCE, eventually};
use serde_json::{Value, json};

fn math() -> Manifest {
    Manifest::policies().skill("skill/math1", "math1@fabric", "n1")
}

/// A node that runs generation 1.
fn running() -> Mesh {
    let mesh = Mesh::of(["n1"]);
    let [n1] = mesh.nodes();
    n1.start(&[]);
    mesh.apply(&math(), &[n1]);
    mesh
}

/// Everything about a node that a refusal may not change: what it says of itself, and its files of trust.
fn state(node: &Node) -> Value {
    let mut status = node.json(["status"]);
    status["uptime-ms"].take();
    let mut plugins = node.json(["plugins"]);
    for plugin in plugins.as_array_mut().unwrap() {
        plugin["served"].take();
    }
    let read = |name: &str| std::fs::read(node.directory().join(name)).unwrap();
    let mut generations: Vec<String> = std::fs::read_dir(node.directory().join("generations"))
        .unwrap()
        .map(|entry| entry.unwrap().file_name().to_string_lossy().into_owned())
        .collect();
    generations.sort();
    json!([status, plugins, read("trust.cbor"), read("current"), generations])
}

/// A refused attempt: the message begins with this word, and the node is as before and works.
#[track_caller]
fn refused(node: &Node, code: i32, word: &str, attempt: impl FnOnce() -> Outcome) -> String {
    let before = state(node);
    let outcome = attempt();
    let message = outcome.fails(code, word).to_owned();
    assert_eq!(state(node), before, "changed by what was refused: {message}");
    assert_eq!(node.call("math1@fabric", "add", &["x=3", "y=4"]).ok(), "7\n");
    message
}

/// Hands the node these bytes as a signed manifest.
fn apply_bytes(mesh: &Mesh, node: &Node, bytes: &[u8]) -> Outcome {
    let file = mesh.path("signed.manifest");
    std::fs::write(&file, bytes).unwrap();
    // The node is to judge it, and not the command line before it.
    node.cli(["apply".as_ref(), "--allow-grants".as_ref(), file.as_os_str()])
}

/// Hands the node a manifest that is signed as it should be.
fn apply_toml(mesh: &Mesh, node: &Node, manifest: &Manifest) -> Outcome {
    mesh.apply_file(&manifest.write(mesh.path("refused.toml")), node)
}

#[test]
fn signatures_are_needed_and_must_be_right() {
    let mesh = running();
    let [n1] = mesh.nodes();
    let good = object(&math(), mesh_id(n1), 9);
    let signed = sign(&good, &mesh.operator_key());

    let unsigned = midplane::decisions::canonical::encode(&good).unwrap();
    refused(n1, 3, "bad-object", || apply_bytes(&mesh, n1, &unsigned));
    refused(n1, 3, "bad-object", || apply_bytes(&mesh, n1, b"no manifest at all"));

    let unknown = mesh.path("unknown.key");
    n1.cli(["key".as_ref(), "new".as_ref(), unknown.as_os_str()]).ok();
    let message = refused(n1, 3, "unknown-key", || apply_bytes(&mesh, n1, &sign(&good, &unknown)));
    assert!(message.contains("which may not sign it"), "{message}");

    // A node's own key is no operator's.
    let own = n1.directory().join("node.key");
    refused(n1, 3, "unknown-key", || apply_bytes(&mesh, n1, &sign(&good, &own)));

    let before = state(n1);
    let step = signed.len() / 24;
    for at in (0..signed.len()).step_by(step) {
        let mut tampered = signed.clone();
        tampered[at] ^= 1;
        let outcome = apply_bytes(&mesh, n1, &tampered);
        assert_eq!(outcome.code, 3, "byte {at}: {outcome:#?}");
        let named = ["bad-signature: ", "bad-object: "];
        assert!(named.iter().any(|word| outcome.stderr.starts_with(word)), "byte {at}: {outcome:#?}");
    }
    for short in [0, 1, signed.len() / 2, signed.len() - 1] {
        assert_eq!(apply_bytes(&mesh, n1, &signed[..short]).code, 3, "the first {short} bytes");
    }
    assert_eq!(state(n1), before);

    // The untouched bytes are taken: what was refused above was refused for what was changed.
    apply_bytes(&mesh, n1, &signed).ok();
    assert_eq!(n1.json(["status"])["generation"], 9);
}

#[test]
fn versions_rise_and_time_counts() {
    let mesh = running();
    let [n1] = mesh.nodes();
    let id = mesh_id(n1);
    let key = mesh.operator_key();
    apply_bytes(&mesh, n1, &sign(&object(&math(), id, 5), &key)).ok();
    for version in [0, 4, 5] {
        let signed = sign(&object(&math(), id, version), &key);
        let message = refused(n1, 3, "stale-version", || apply_bytes(&mesh, n1, &signed));
        assert!(message.contains("5 was taken already"), "{message}");
    }
    let mut expired = object(&math(), id, 6);
    expired.created -= 2_000;
    expired.expires = expired.created + 1_000;
    refused(n1, 3, "expired", || apply_bytes(&mesh, n1, &sign(&expired, &key)));

    let mut early = object(&math(), id, 6);
    early.created += 3_600_000;
    refused(n1, 3, "bad-object", || apply_bytes(&mesh, n1, &sign(&early, &key)));

    let mut elsewhere = object(&math(), id, 6);
    elsewhere.mesh = [7; 32].into();
    refused(n1, 3, "wrong-mesh", || apply_bytes(&mesh, n1, &sign(&elsewhere, &key)));
    apply_bytes(&mesh, n1, &sign(&object(&math(), id, 6), &key)).ok();
}

#[test]
fn blobs_are_what_their_digests_say() {
    let mesh = running();
    let [n1] = mesh.nodes();
    let wasm = std::fs::read(component("skill/math2")).unwrap();
    let mut other = wasm.clone();
    other[100] ^= 1;
    let more = Manifest::policies().skill("skill/math1", "math1@fabric", "n1").skill(
        "skill/math2",
        "math2@fabric",
        "n1",
    );

    for (bytes, about) in
        [(&other[..], "digest"), (&wasm[1..], "short"), (&[&wasm[..], b"x"].concat(), "long")]
    {
        let fault = put_blob(n1, blob(&wasm), bytes).unwrap_err();
        assert_eq!(fault.code, Code::DigestMismatch, "{about}: {fault}");
    }
    let signed = sign(&object(&more, mesh_id(n1), 7), &mesh.operator_key());
    let message = refused(n1, 4, "blob-missing", || apply_bytes(&mesh, n1, &signed));
    assert!(message.contains("of 0 nodes that can be asked none gave it"), "{message}");

    put_blob(n1, blob(&wasm), &wasm).unwrap();
    let digest = blob(&wasm).digest.to_string();
    let kept = n1.directory().join("blobs").join(&digest[..2]).join(&digest[2..]);
    assert_eq!(std::fs::read(&kept).unwrap(), wasm);
    std::fs::write(&kept, &other).unwrap();
    refused(n1, 3, "digest-mismatch", || apply_bytes(&mesh, n1, &signed));

    put_blob(n1, blob(&wasm), &wasm).unwrap();
    apply_bytes(&mesh, n1, &signed).ok();
    assert_eq!(n1.call("math2@fabric", "fib-stream", &["n=2"]).ok(), "0\n1\n");
}

#[test]
fn components_fit_their_kind_and_their_grants() {
    let mesh = running();
    let [n1] = mesh.nodes();
    let write = |name: &str, bytes: &[u8]| {
        let path = mesh.path(name);
        std::fs::write(&path, bytes).unwrap();
        path
    };
    let with = |component: &Path| math().plugin("skill/new", "skill", component, "names = [\"new@fabric\"]");
    let apply = |manifest: &Manifest| apply_toml(&mesh, n1, manifest);

    let message = refused(n1, 3, "wrong-world", || apply(&with(&component("routing/path-vector"))));
    assert!(message.contains("skill/new") && message.contains("midplane:routing/machine@0.1.0"), "{message}");

    let skill = Manifest::empty().skill("skill/math1", "math1@fabric", "n1").plugin(
        "routing",
        "routing",
        &component("skill/math1"),
        "protocol = \"path-vector/1\"",
    );
    let message = refused(n1, 3, "wrong-world", || apply(&skill));
    assert!(
        message.contains("midplane:routing/machine@0.1.0") && message.contains("no machine"),
        "{message}"
    );

    let reads_node = write("reads-node.wasm", &importing("midplane:host/node@0.1.0", "label"));
    let message = refused(n1, 3, "missing-grant", || apply(&with(&reads_node)));
    assert!(message.contains("skill/new imports midplane:host/node@0.1.0"), "{message}");
    assert!(message.contains("fix: grants.node = \"read\""), "{message}");

    let unheard = write("unheard.wasm", &importing("other:thing/of@1.0.0", "label"));
    let message = refused(n1, 3, "missing-import", || apply(&with(&unheard)));
    assert!(message.contains("other:thing/of@1.0.0"), "{message}");

    let mut broken = std::fs::read(component("skill/math1")).unwrap();
    broken.truncate(broken.len() / 2);
    let module = wat::parse_str("(module (func (export \"one\")))").unwrap();
    for (name, bytes) in [("garbage", &b"garbage"[..]), ("broken", &broken), ("module", &module)] {
        let file = write(&format!("{name}.wasm"), bytes);
        refused(n1, 3, "bad-component", || apply(&with(&file)));
    }

    // With the grant it is taken.
    let granted = "names = [\"new@fabric\"]\ngrants = { node = \"read\" }";
    apply(&math().plugin("skill/new", "skill", &reads_node, granted)).ok();
    assert_eq!(n1.call("new@fabric", "one", &[]).ok(), "1\n");
}

/// A component with one function, and with one import from this interface.
fn importing(interface: &str, function: &str) -> Vec<u8> {
    let text = format!(
        r#"(component
            (import "{interface}" (instance (export "{function}" (func (result string)))))
            (core module $m (func (export "one") (result i32) i32.const 1))
            (core instance $i (instantiate $m))
            (func (export "one") (result u32) (canon lift (core func $i "one"))))"#
    );
    wat::parse_str(text).unwrap()
}

#[test]
fn a_manifest_file_is_read_with_line_numbers() {
    let mesh = running();
    let [n1] = mesh.nodes();
    let file = mesh.path("wrong.toml");
    std::fs::write(&file, "[[plugin]]\nslot = \"skill/x\"\nkind = \"skil\"\n").unwrap();
    let message = refused(n1, 2, "bad-manifest", || mesh.apply_file(&file, n1));
    assert!(message.contains("wrong.toml line 3") && message.contains("component"), "{message}");
    let missing =
        Manifest::policies().plugin("skill/x", "skill", Path::new("/nowhere.wasm"), "names = [\"x@y\"]");
    refused(n1, 4, "not-found", || apply_toml(&mesh, n1, &missing));
    refused(n1, 4, "not-found", || mesh.apply_file(Path::new("/nowhere.toml"), n1));
}

#[test]
fn a_name_outside_of_the_membership_is_not_believed() {
    let mut mesh = Mesh::of(["n1"]);
    mesh.admit("n2", &["--name", "other@fabric"]);
    let [n1, n2] = mesh.nodes();
    let skills = Manifest::policies().skill("skill/math1", "other@fabric", "n2").skill(
        "skill/math2",
        "math2@fabric",
        "n2",
    );
    n2.start(&[]);
    n1.start(&["--peer", &n2.peer()]);
    mesh.apply(&skills, &[n1, n2]);
    n1.links_to(n2);
    // The name that it may serve comes over the same channel, so the other one has been heard and judged too.
    n1.reaches("other@fabric");
    assert_eq!(n1.call("other@fabric", "add", &["x=3", "y=4"]).ok(), "7\n");
    eventually(PATIENCE, || {
        let log = n1.cli(["logs", "routing"]).ok() + &n1.cli(["logs", "host"]).ok();
        if log.contains("which may not serve it") { Ok(()) } else { Err(log) }
    });
    n1.call("math2@fabric", "fib-stream", &["n=5"]).fails(4, "no-route");
    // For itself it is its own master.
    assert_eq!(n2.call("math2@fabric", "fib-stream", &["n=2"]).ok(), "0\n1\n");
}

#[test]
fn a_membership_is_for_one_node_of_one_mesh() {
    let mesh = Mesh::of(["n1"]);
    let [n1] = mesh.nodes();
    let (two, three) = (mesh.bare("n2"), mesh.bare("n3"));
    let file = mesh.path("n2.admission");
    let out = file.to_str().unwrap();
    n1.cli(["peer", "admit", &two.id(), "--out", out]).ok();
    three.cli(["join", out]).fails(3, "bad-object");
    let bytes = std::fs::read(&file).unwrap();
    for at in (0..bytes.len()).step_by(bytes.len() / 16) {
        let mut tampered = bytes.clone();
        tampered[at] ^= 1;
        std::fs::write(mesh.path("tampered"), &tampered).unwrap();
        let outcome = two.cli(["join".as_ref(), mesh.path("tampered").as_os_str()]);
        assert_eq!(outcome.code, 3, "byte {at}: {outcome:#?}");
    }
    assert!(!two.directory().join("trust.cbor").exists(), "something was kept of what was refused");
    two.cli(["run"]).fails(4, "not-found");
    two.cli(["join", out]).ok();
    let other = mesh.stranger("other");
    other.cli(["peer", "admit", &two.id(), "--out", out]).ok();
    two.cli(["join", out]).fails(3, "wrong-mesh");
    // What is handed out takes the place of no key.
    let key = n1.directory().join("owner.key");
    let before = std::fs::read(&key).unwrap();
    n1.cli(["peer", "admit", &two.id(), "--out", key.to_str().unwrap()]).fails(2, "usage");
    assert_eq!(std::fs::read(&key).unwrap(), before);
}

#[test]
fn directory_and_keys_are_the_owners_alone() {
    let mesh = Mesh::of(["n1"]);
    let [n1] = mesh.nodes();
    let set = |path: &Path, mode| std::fs::set_permissions(path, PermissionsExt::from_mode(mode)).unwrap();
    let key = n1.directory().join("node.key");
    for (path, open, private) in [(key.as_path(), 0o644, 0o600), (n1.directory(), 0o755, 0o700)] {
        set(path, open);
        let message = n1.cli(["run", "--port", "0", "--bind", "127.0.0.1"]);
        let message = message.fails(3, "wrong-mode");
        assert!(message.contains(&format!("{open:04o}")), "{message}");
        assert!(message.contains(&format!("fix: chmod {private:o} {}", path.display())), "{message}");
        set(path, private);
    }
    n1.start(&[]);
}

#[test]
fn a_directory_and_a_port_have_one_process() {
    let mesh = Mesh::of(["n1", "n2"]);
    let [n1, n2] = mesh.nodes();
    n1.start(&[]);
    let second = n1.cli(["run", "--port", "0", "--bind", "127.0.0.1"]);
    let message = second.fails(1, "locked");
    assert!(message.contains(&format!("pid {} (midplane run)", n1.pid())), "{message}");
    let (bind, port) = (n1.address().ip().to_string(), n1.address().port().to_string());
    let taken = n2.cli(["run", "--port", &port, "--bind", &bind]);
    assert!(taken.fails(1, "port-in-use").contains(&port), "{taken:#?}");
    // Neither disturbed the first, and the second is free to start elsewhere.
    n1.cli(["status"]).ok();
    n2.start(&[]);
}

#[test]
fn arguments_fit_the_function() {
    let mesh = Mesh::of(["n1", "n2"]);
    let [n1, n2] = mesh.nodes();
    n2.start(&[]);
    n1.start(&["--peer", &n2.peer()]);
    mesh.apply(&math(), &[n1, n2]);
    n2.reaches("math1@fabric");
    let signature = "fix: add(x: s64, y: s64) -> s64";
    // The same words whether the skill is here or behind a link.
    for node in [n1, n2] {
        for (arguments, says) in [
            (&["x=3", "y=four"][..], "y wants s64, got \"four\""),
            (&["x=3"], "y"),
            (&["x=3", "y=4", "z=5"], "z"),
            (&["[3]"], "y"),
            (&["[3,4,5]"], "2"),
            (&["x=3", "y=9223372036854775808"], "y wants s64"),
        ] {
            let outcome = node.call("math1@fabric", "add", arguments);
            let message = outcome.fails(2, "bad-argument");
            assert!(message.contains(says) && message.contains(signature), "{arguments:?}: {message}");
        }
        let outcome = node.call("math1@fabric", "ad", &["x=3", "y=4"]);
        assert!(outcome.fails(4, "unknown-function").contains("fix: did you mean add?"), "{outcome:#?}");
        let outcome = node.call("math1@fabric", "multiply", &["x=9223372036854775807", "y=2"]);
        let message = outcome.fails(1, "trap");
        assert!(message.contains("skill/math1 multiply"), "{message}");
        assert_eq!(node.call("math1@fabric", "add", &["x=-3", "y=4"]).ok(), "1\n");
    }
}
