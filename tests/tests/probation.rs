//! What is published has to show that it is good: what goes wrong meanwhile brings back what ran before, by itself.

use std::path::{Path, PathBuf};

use midplane_tests::command::component;
use midplane_tests::guests::hostile;
use midplane_tests::policies::{Acts, acting};
use midplane_tests::{Manifest, Mesh, Node, PATIENCE, eventually};
use serde_json::{Value, json};

/// A skill whose function `run` answers.
const WELL: &str = r#"(component
  (core module $m (func (export "run") (result i32) i32.const 1))
  (core instance $i (instantiate $m))
  (func (export "run") (result u32) (canon lift (core func $i "run"))))"#;
/// One whose function traps, and which has another one that answers.
const RUINED: &str = r#"(component
  (core module $m
    (func (export "run") (result i32) unreachable)
    (func (export "well")))
  (core instance $i (instantiate $m))
  (func (export "run") (result u32) (canon lift (core func $i "run")))
  (func (export "well") (canon lift (core func $i "well"))))"#;

fn wat(mesh: &Mesh, name: &str, text: &str) -> PathBuf {
    file(mesh, name, &wat::parse_str(text).unwrap())
}

fn file(mesh: &Mesh, name: &str, bytes: &[u8]) -> PathBuf {
    let path = mesh.path(name);
    std::fs::write(&path, bytes).unwrap();
    path
}

fn skill(component: &Path, more: &str) -> Manifest {
    let more = format!("names = [\"x@fabric\"]\n{more}");
    Manifest::policies().plugin("skill/x", "skill", component, &more)
}

/// A node that runs a skill which is well.
fn well() -> Mesh {
    let mesh = Mesh::of(["n1"]);
    let [n1] = mesh.nodes();
    n1.start(&[]);
    mesh.apply(&skill(&wat(&mesh, "well.wasm", WELL), ""), &[n1]);
    assert_eq!(n1.call("x@fabric", "run", &[]).ok(), "1\n");
    assert_eq!(n1.json(["status"]).get("probation"), None, "there is nothing to go back to");
    mesh
}

/// Waits until a node has gone back to this version; returns the event that says so.
#[track_caller]
fn returns(node: &Node, version: u64) -> Value {
    eventually(PATIENCE, || {
        let status = node.json(["status"]);
        if status["generation"] == version && status["returned"].is_string() {
            Ok(())
        } else {
            Err(status.to_string())
        }
    });
    node.tells("generation-returned")
}

#[test]
fn a_skill_that_traps_gives_way_to_the_one_before_and_is_not_applied_again() {
    let mesh = well();
    let [n1] = mesh.nodes();
    let signed = mesh.path("ruined.signed");
    let source = skill(&wat(&mesh, "ruined.wasm", RUINED), "").probation("60s").write(mesh.path("2.toml"));
    let key = mesh.operator_key();
    let words = ["apply", "--key", key.to_str().unwrap(), "--save", signed.to_str().unwrap()];
    let applied = n1.json(words.iter().copied().chain([source.to_str().unwrap()]));
    assert_eq!((&applied["to"], &applied["probation"]["version"]), (&json!(2), &json!(2)));
    // Two may be bad luck.
    for _ in 0..2 {
        n1.call("x@fabric", "run", &[]).fails(1, "trap");
    }
    assert_eq!(n1.json(["status"])["probation"]["confirm"], false);
    n1.call("x@fabric", "run", &[]).fails(1, "trap");
    let event = returns(n1, 1);
    assert_eq!((&event["from"], &event["to"]), (&json!(2), &json!(1)));
    assert!(event["why"].as_str().unwrap().starts_with("skill/x failed in 3 of 3 calls: trap"), "{event}");
    assert_eq!(
        (&event["report"]["plugin"], &event["report"]["function"]),
        (&json!("skill/x"), &json!("run"))
    );
    assert_eq!(n1.call("x@fabric", "run", &[]).ok(), "1\n");
    let status = n1.json(["status"]);
    assert_eq!((&status["held-instead-of"], &status["floor"]), (&json!(2), &json!(2)));
    assert!(status["warnings"][0].as_str().unwrap().starts_with("generation 2 was no good"), "{status}");
    // It is not taken again, and a crash does not bring it back.
    n1.cli(["apply", signed.to_str().unwrap()]).fails(3, "stale-version");
    n1.kill();
    n1.start(&[]);
    assert_eq!(n1.call("x@fabric", "run", &[]).ok(), "1\n");
    assert_eq!(n1.json(["status"])["returned"], status["returned"]);
    // The next version ends it.
    mesh.apply(&skill(&wat(&mesh, "well2.wasm", &format!("{WELL} ;; again")), ""), &[n1]);
    assert_eq!(n1.json(["status"]).get("returned"), None);
}

#[test]
fn what_goes_well_is_settled() {
    let mesh = well();
    let [n1] = mesh.nodes();
    mesh.apply(&skill(&wat(&mesh, "ruined.wasm", RUINED), "probe = \"well\"").probation("1s"), &[n1]);
    let event = n1.tells("generation-settled");
    assert_eq!(event["version"], 2);
    // Nobody goes back any more, whatever happens.
    for _ in 0..10 {
        n1.call("x@fabric", "run", &[]).fails(1, "trap");
    }
    let status = n1.json(["status"]);
    assert_eq!(
        (&status["generation"], status.get("probation"), status.get("returned")),
        (&json!(2), None, None)
    );
    assert_eq!(n1.json(["history"])[0]["settled"], true);
}

#[test]
fn a_probe_that_fails_keeps_a_version_from_serving_one_call() {
    let mesh = well();
    let [n1] = mesh.nodes();
    let ruined = wat(&mesh, "ruined.wasm", RUINED);
    for (more, code, word, says) in [
        ("probe = \"run\"", 1, "trap", "skill/x: its probe run failed"),
        ("probe = \"nothing\"", 4, "unknown-function", "skill/x: its probe nothing failed"),
    ] {
        let source = skill(&ruined, more).write(mesh.path("2.toml"));
        let refused = mesh.apply_file(&source, n1);
        let said = refused.fails(code, word);
        assert!(said.contains(says), "{said}");
        let status = n1.json(["status"]);
        assert_eq!((&status["generation"], &status["floor"]), (&json!(1), &json!(1)));
        assert_eq!(n1.call("x@fabric", "run", &[]).ok(), "1\n");
    }
    assert!(n1.tells("generation-refused")["why"].as_str().unwrap().contains("its probe nothing failed"));
    // Nor is another probe taken that what runs does not answer.
    let well = mesh.path("well.wasm");
    let entry = |probe: &str| skill(&well, probe).write(mesh.path("2.toml"));
    mesh.apply_file(&entry("probe = \"nothing\""), n1).fails(4, "unknown-function");
    assert_eq!(n1.json(["status"])["generation"], 1);
    let applied = mesh.apply_file(&entry("probe = \"run\""), n1).ok();
    assert!(applied.contains("  adjusted  skill/x\n"), "{applied}");
}

#[test]
fn a_gateway_is_asked_for_a_path() {
    let mesh = well();
    let [n1] = mesh.nodes();
    let gateway = |component: &Path, probe: &str| {
        let more = format!("mount = \"/hello\"\nprobe = \"{probe}\"");
        skill(&mesh.path("well.wasm"), "").plugin("gateway/hello", "gateway", component, &more)
    };
    mesh.apply(&gateway(&component("gateway/hello"), "/hello"), &[n1]);
    assert_eq!(n1.json(["status"])["generation"], 2);
    // One that is not well with its own path does not get the slot.
    let source = gateway(&component("test/gateway/probe"), "/trap").write(mesh.path("3.toml"));
    let said = mesh.apply_file(&source, n1);
    assert!(said.stderr.contains("gateway/hello: its probe /trap failed"), "{}", said.stderr);
    let source = gateway(&component("gateway/hello"), "hello").write(mesh.path("3.toml"));
    mesh.apply_file(&source, n1).fails(2, "bad-manifest");
    assert_eq!(n1.json(["status"])["generation"], 2);
}

fn routing(mesh: &Mesh, acts: Acts<'_>, label: Option<&str>) -> Manifest {
    let bad = file(mesh, "routing.wasm", &acting(acts));
    let manifest = Manifest::empty()
        .plugin("discovery", "discovery", &component("discovery/static"), "")
        .plugin("admission", "admission", &component("admission/basic"), "");
    let protocol = "protocol = \"path-vector/1\"";
    let Some(label) = label else { return manifest.plugin("routing", "routing", &bad, protocol) };
    let on = |label: &str| format!("{protocol}\non = {{ labels = [\"{label}\"] }}");
    let good = component("routing/path-vector");
    manifest.plugin("routing", "routing", &good, &on("n1")).plugin("routing", "routing", &bad, &on(label))
}

#[test]
fn a_policy_that_is_ended_again_and_again_gives_way_to_the_one_before() {
    let mesh = well();
    let [n1] = mesh.nodes();
    let bad = routing(&mesh, &[("DECIDE", "unreachable")], None)
        .plugin("skill/x", "skill", &mesh.path("well.wasm"), "names = [\"x@fabric\"]")
        .probation("60s");
    mesh.apply(&bad, &[n1]);
    eventually(PATIENCE, || {
        // Each of these asks it for a plan, while it runs.
        n1.cli(["routes", "y@fabric"]).ok();
        match n1.last_event("generation-returned") {
            Some(_) => Ok(()),
            None => Err(n1.json(["plugins"]).to_string()),
        }
    });
    let event = returns(n1, 1);
    let why = event["why"].as_str().unwrap();
    assert!(why.starts_with("routing was ended ") && why.contains(" times: trap"), "{event}");
    assert_eq!(n1.call("x@fabric", "run", &[]).ok(), "1\n");
}

#[test]
fn a_signed_routing_policy_that_strands_a_leaf_is_taken_back_by_the_leaf_itself() {
    let mesh = Mesh::of(["n1", "n2"]);
    let [n1, n2] = mesh.nodes();
    n1.start(&[]);
    // Nobody can dial it: it is reached over its own link, by whatever its routing policy makes known of it.
    n2.start(&["--peer", &n1.peer()]);
    mesh.apply(&Manifest::policies(), &[n1, n2]);
    let remote = |words: &[&str]| {
        let key = mesh.operator_key();
        let on = ["--on", "n2", "--key", key.to_str().unwrap()];
        n1.cli(words.iter().copied().chain(on))
    };
    eventually(PATIENCE, || {
        let status = remote(&["status"]);
        if status.code == 0 { Ok(()) } else { Err(status.stderr) }
    });

    // A good one is confirmed by the way that it keeps open.
    let good = Manifest::policies().text().replacen(
        "protocol = \"path-vector/1\"",
        "protocol = \"path-vector/1\"\nconfig = { pick = \"spread\" }",
        1,
    );
    std::fs::write(mesh.path("good.toml"), format!("probation = \"10min\"\n{good}")).unwrap();
    let applied = remote(&["apply", mesh.path("good.toml").to_str().unwrap(), "-o", "json"]).json();
    assert_eq!((&applied["to"], &applied["probation"]["confirm"]), (&json!(2), &json!(false)));

    // A bad one is well signed, and answers; but it tells nobody of its node.
    let bad = routing(&mesh, &[], Some("n2")).probation("3s").write(mesh.path("bad.toml"));
    let outcome = remote(&["apply", bad.to_str().unwrap()]);
    outcome.fails(5, "not-confirmed");
    let event = returns(n2, 1);
    assert_eq!((&event["from"], &event["to"]), (&json!(3), &json!(1)));
    assert!(event["why"].as_str().unwrap().starts_with("not-confirmed"), "{event}");
    // And from anywhere, as before.
    eventually(PATIENCE, || {
        let status = remote(&["status", "-o", "json"]);
        if status.code == 0 { Ok(()) } else { Err(status.stderr) }
    });
    assert_eq!(remote(&["status", "-o", "json"]).json()["held-instead-of"], 3);
}

#[test]
fn a_swapped_routing_policy_that_strands_a_leaf_is_taken_back_as_well() {
    let mesh = Mesh::of(["n1", "n2"]);
    let [n1, n2] = mesh.nodes();
    n1.start(&[]);
    n2.start(&["--peer", &n1.peer()]);
    mesh.apply(&Manifest::policies().probation("3s"), &[n1, n2]);
    let key = mesh.operator_key();
    let remote = |words: &[&str]| {
        let on = ["--on", "n2", "--key", key.to_str().unwrap()];
        n1.cli(words.iter().copied().chain(on))
    };
    let reachable = || {
        eventually(PATIENCE, || {
            let status = remote(&["status"]);
            if status.code == 0 { Ok(()) } else { Err(status.stderr) }
        });
        remote(&["status", "-o", "json"]).json()
    };
    reachable();
    let bad = file(&mesh, "routing.wasm", &acting(&[]));
    remote(&["swap", "routing", bad.to_str().unwrap()]).fails(5, "not-confirmed");
    let event = n2.tells("generation-returned");
    assert_eq!((&event["from"], &event["to"]), (&json!(1), &json!(1)));
    let status = reachable();
    assert_eq!(
        (status.get("swaps"), status.get("probation"), &status["generation"]),
        (None, None, &json!(1))
    );
    assert!(n2.said().contains("a swap was no good: not-confirmed"), "{}", n2.said());
}

#[test]
fn a_generation_with_which_the_node_does_not_stay_up_gives_way_at_a_start() {
    let mesh = well();
    let [n1] = mesh.nodes();
    mesh.apply(&skill(&wat(&mesh, "other.wasm", RUINED), "").probation("10min"), &[n1]);
    for generation in [2, 2, 2, 1] {
        n1.kill();
        n1.start(&[]);
        assert_eq!(n1.json(["status"])["generation"], generation);
    }
    assert_eq!(n1.call("x@fabric", "run", &[]).ok(), "1\n");
    assert!(n1.json(["status"])["returned"].as_str().unwrap().contains("started 3 times"));
}

#[test]
fn what_was_never_good_is_not_what_one_goes_back_to() {
    let mesh = well();
    let [n1] = mesh.nodes();
    let unwell = file(&mesh, "unwell.wasm", &hostile("unreachable"));
    mesh.apply(&skill(&unwell, "").probation("60s"), &[n1]);
    mesh.apply(&skill(&wat(&mesh, "third.wasm", RUINED), "").probation("60s"), &[n1]);
    for _ in 0..3 {
        n1.call("x@fabric", "run", &[]).fails(1, "trap");
    }
    assert_eq!(returns(n1, 1)["from"], 3);
}
