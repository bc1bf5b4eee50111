//! Generations as the unit of change: which are kept, what a manifest would change, and that nobody grants rights by accident.

use std::path::Path;

use midplane_tests::command::component;
use midplane_tests::{Manifest, Mesh, Node};
use serde_json::{Value, json};

/// A mesh of one node that runs.
fn running() -> Mesh {
    let mesh = Mesh::of(["n1"]);
    mesh.nodes::<1>()[0].start(&[]);
    mesh
}

/// The policies and a skill with these rights.
fn with(grants: &str) -> Manifest {
    let more = format!("names = [\"sum@fabric\"]\n{grants}");
    Manifest::policies().plugin("skill/sum", "skill", &component("skill/math1"), &more)
}

fn write(mesh: &Mesh, name: &str, manifest: &Manifest) -> String {
    manifest.write(mesh.path(name)).to_str().unwrap().to_owned()
}

/// Everything that a refusal must leave as it was.
fn state(node: &Node) -> Value {
    let status = node.json(["status"]);
    json!([status["generation"], status["floor"], node.json(["history"]), node.json(["blob", "ls"])])
}

#[test]
fn the_history_says_what_is_kept_since_when_by_whom_and_what_it_changed() {
    let mesh = running();
    let [n1] = mesh.nodes();
    assert_eq!(n1.json(["history"]), json!([]));
    let operator = n1.json(["key", "show"]);
    let operator = operator.as_array().unwrap().iter().find(|key| key["role"] == "operator").unwrap().clone();
    for manifest in [Manifest::policies(), with(""), with("grants = { keyvalue = [\"a\"] }")] {
        mesh.apply(&manifest, &[n1]);
    }
    let history = n1.json(["history"]);
    let short: Vec<Value> = history
        .as_array()
        .unwrap()
        .iter()
        .map(|kept| json!([kept["version"], kept["in-force"], kept["change"]]))
        .collect();
    // The one before, and the last that was settled.
    let expect = [
        json!([3, true, "changes skill/sum; gains 1 right"]),
        json!([2, false, "adds skill/sum"]),
        json!([1, false, "adds admission, discovery, routing"]),
    ];
    assert_eq!(short, expect);
    assert_eq!(history[0]["signers"], json!([operator["id"]]));
    let since = |at: usize| history[at]["since"].as_u64().unwrap();
    assert!(since(0) > since(1), "{history}");

    // It is the same after a crash, for whoever reads text, and for who asks from elsewhere with the least role.
    n1.kill();
    n1.start(&[]);
    assert_eq!(n1.json(["history"]), history);
    let text = n1.cli(["history"]).ok();
    let lines: Vec<&str> = text.lines().collect();
    assert!(lines[0].starts_with("GENERATION  IN FORCE  SINCE"), "{text}");
    assert!(
        lines[1].starts_with("3           yes       20") && lines[2].starts_with("2           -  "),
        "{text}"
    );
    let viewer = mesh.path("viewer.key");
    let viewer = viewer.to_str().unwrap();
    n1.cli(["key", "new", viewer]).ok();
    n1.cli(["mesh", "operator", "add", viewer, "--role", "view"]).ok();
    assert_eq!(n1.json(["--on", "n1", "--key", viewer, "history"]), history);
    let next = write(&mesh, "next.toml", &with(""));
    let diff = n1.json(["--on", "n1", "--key", viewer, "diff", &next]);
    assert_eq!(diff["loses"], json!([{ "slot": "skill/sum", "rights": ["keyvalue a"] }]));
}

#[test]
fn a_diff_says_what_would_change_and_changes_nothing() {
    let mesh = running();
    let [n1] = mesh.nodes();
    let old = with("grants = { keyvalue = [\"a\"] }\nconfig = { pace = 1 }");
    let file = write(&mesh, "old.toml", &old);
    let first = n1.cli(["diff", &file]).ok();
    assert!(
        first.starts_with("nothing was applied on this node yet\n  skill/sum gains: keyvalue a\n"),
        "{first}"
    );
    assert!(!first.contains("--allow-grants"), "{first}");
    mesh.apply(&old, &[n1]);

    let grants = "grants = { http = [\"GET https://example.org\"] }\nconfig = { pace = 2 }";
    let new = Manifest::empty()
        .plugin("admission", "admission", &component("admission/basic"), "")
        .plugin("discovery", "discovery", &component("discovery/static"), "")
        .plugin(
            "skill/sum",
            "skill",
            &component("skill/math1"),
            &format!("names = [\"total@fabric\"]\n{grants}"),
        )
        .skill("skill/math2", "math2@fabric", "n1")
        .skill("skill/math1", "math1@fabric", "elsewhere");
    let new = write(&mesh, "new.toml", &new);
    let before = state(n1);
    let text = n1.cli(["diff", &new]).ok();
    let lines: Vec<&str> = text.lines().map(str::trim).collect();
    let math2 = lines.iter().position(|line| line.starts_with("added     skill/math2: component ")).unwrap();
    assert!(lines[math2].ends_with("; serves math2@fabric"), "{text}");
    let expect = [
        "compared with generation 1",
        "skill/sum gains: http GET https://example.org",
        "skill/sum loses: keyvalue a",
        lines[math2],
        "changed   skill/sum: config.pace 1 → 2; names sum@fabric → total@fabric",
        "removed   routing",
        "unchanged 2 slots",
        "rights are gained: `midplane apply` asks, or takes --allow-grants",
    ];
    assert_eq!(lines, expect);
    let diff = n1.json(["diff", &new]);
    assert_eq!(diff["from"], 1);
    let gains = json!([{ "slot": "skill/sum", "rights": ["http GET https://example.org"] }]);
    assert_eq!(diff["gains"], gains);
    assert_eq!(diff["unchanged"], json!(["admission", "discovery"]));
    assert_eq!(diff["removed"], json!(["routing"]));
    assert_eq!(state(n1), before);

    // Against another generation, and in the other form of a manifest; neither needs a key that may sign.
    mesh.apply(&Manifest::policies(), &[n1]);
    let back = n1.cli(["diff", &file, "--from", "1"]).ok();
    assert_eq!(back, "compared with generation 1: nothing would change on this node\n");
    let forward = n1.cli(["diff", &file]).ok();
    assert!(forward.starts_with("compared with generation 2\n  skill/sum gains: keyvalue a\n"), "{forward}");
    let signed = mesh.path("signed.manifest");
    let signed = signed.to_str().unwrap();
    n1.cli(["apply", "--allow-grants", &file, "--save", signed]).ok();
    assert_eq!(n1.json(["diff", signed, "--from", "2"])["gains"][0]["slot"], "skill/sum");

    let unknown = n1.cli(["diff", &file, "--from", "9"]);
    assert!(unknown.fails(4, "not-found").contains("generation 9 is not kept on this node"), "{unknown:?}");
    n1.cli(["diff", "missing.toml"]).fails(4, "not-found");
    std::fs::write(signed, b"no manifest").unwrap();
    n1.cli(["diff", signed]).fails(3, "bad-object");
    n1.stop();
    n1.cli(["diff", &file]).fails(5, "not-running");
}

#[test]
fn rights_are_gained_only_when_somebody_says_so() {
    let mesh = running();
    let [n1] = mesh.nodes();
    // The first manifest of a node is all of it news: there is nothing to compare with.
    let first = write(&mesh, "first.toml", &with("grants = { keyvalue = [\"a\"] }"));
    n1.cli(["apply", &first]).ok();
    // The same rights again are no gain, and fewer are none either.
    n1.cli(["apply", &first]).ok();
    n1.cli(["apply", &write(&mesh, "fewer.toml", &with(""))]).ok();

    let more = write(&mesh, "more.toml", &with("grants = { keyvalue = [\"a\", \"b\"], node = \"read\" }"));
    let before = state(n1);
    let saved = mesh.path("more.manifest");
    let refused = n1.cli(["apply", &more, "--save", saved.to_str().unwrap()]);
    let message = refused.fails(3, "needs-consent");
    for right in ["node read", "keyvalue a", "keyvalue b"] {
        assert!(message.contains(&format!("skill/sum gains: {right}")), "{message}");
    }
    assert!(
        message.contains("manifest gains 3 rights")
            && message.contains("fix: `midplane apply --allow-grants`")
    );
    assert_eq!(state(n1), before);
    assert!(!Path::new(&saved).exists(), "it was signed");

    // With the flag they are granted, and told.
    let granted = n1.cli(["apply", &more, "--allow-grants", "--save", saved.to_str().unwrap()]).ok();
    assert!(
        granted.ends_with(
            "\n  skill/sum gains: node read\n  skill/sum gains: keyvalue a\n  skill/sum gains: keyvalue b\n"
        ),
        "{granted}"
    );
    assert_eq!(n1.json(["apply", &more])["gains"], json!([]));

    // A manifest that is signed already is asked about as well, over the mesh too, and by its exit code a script knows why.
    mesh.apply(&with(""), &[n1]);
    let key = mesh.operator_key();
    let version = ["--version", "9", "--key", key.to_str().unwrap()];
    let save = ["apply", &more, "--allow-grants", "--save", saved.to_str().unwrap()];
    n1.cli(save.iter().chain(&version)).ok();
    n1.cli(["apply", &write(&mesh, "none.toml", &with("")), "--version", "10"]).ok();
    let saved = saved.to_str().unwrap();
    n1.cli(["apply", saved]).fails(3, "needs-consent");
    n1.cli(["--on", "n1", "--key", key.to_str().unwrap(), "apply", &more]).fails(3, "needs-consent");
    n1.cli(["apply", saved, "--allow-grants"]).fails(3, "stale-version");
    assert_eq!(n1.json(["status"])["generation"], 10);
}

#[test]
fn a_node_whose_last_manifest_is_lost_takes_a_new_one() {
    let mesh = running();
    let [n1] = mesh.nodes();
    mesh.apply(&with(""), &[n1]);
    n1.stop();
    std::fs::write(n1.directory().join("generations/1.manifest"), b"rotten").unwrap();
    n1.start(&[]);
    assert_eq!(n1.json(["history"])[0]["in-force"], false);
    // Whatever it grants is more than is known to have been granted.
    let more = write(&mesh, "more.toml", &with("grants = { node = \"read\" }"));
    n1.cli(["apply", &more]).fails(3, "needs-consent");
    n1.cli(["apply", &write(&mesh, "plain.toml", &with(""))]).ok();
    assert_eq!(n1.call("sum@fabric", "add", &["x=3", "y=4"]).ok(), "7\n");
    // And so it does when nothing says any more what ran.
    n1.stop();
    std::fs::write(n1.directory().join("current"), b"rotten").unwrap();
    n1.start(&[]);
    n1.cli(["history"]).fails(3, "bad-object");
    n1.cli(["apply", &more]).fails(3, "needs-consent");
    n1.cli(["apply", &more, "--allow-grants"]).ok();
    assert_eq!(n1.json(["history"])[0]["version"], 3);
}
