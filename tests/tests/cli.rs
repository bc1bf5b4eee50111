//! The command line as scripts see it: JSON, exit codes, streams.

use std::process::Stdio;
use std::time::Duration;

use midplane_tests::command::{binary, component, midplane, root, run};
use midplane_tests::process::Process;
use midplane_tests::{Manifest, Mesh, PATIENCE, eventually};
use serde::Deserialize as _;
use serde_json::{Value, json};

const EVERY: [&str; 20] = [
    "init",
    "join",
    "run",
    "cluster",
    "call",
    "apply",
    "status",
    "plugins",
    "peers",
    "routes",
    "logs",
    "events",
    "build",
    "inspect",
    "peer",
    "key",
    "mesh",
    "doctor",
    "man",
    "completions",
];

fn math() -> Manifest {
    Manifest::policies().skill("skill/math1", "math1@fabric", "n1").skill("skill/math2", "math2@fabric", "n1")
}

/// The value is an object that has these fields.
#[track_caller]
fn has(value: &Value, fields: &[&str]) {
    let object = value.as_object().unwrap_or_else(|| panic!("no object: {value}"));
    for field in fields {
        assert!(object.contains_key(*field), "no {field} in {value}");
    }
    for key in object.keys() {
        assert!(key.chars().all(|c| c.is_ascii_lowercase() || c == '-' || c.is_ascii_digit()), "{key}");
    }
}

/// The value is a list that is not empty, of objects that have these fields.
#[track_caller]
fn each_has(value: &Value, fields: &[&str]) {
    let list = value.as_array().unwrap_or_else(|| panic!("no list: {value}"));
    assert!(!list.is_empty());
    list.iter().for_each(|one| has(one, fields));
}

#[test]
fn every_report_has_its_json() {
    let mesh = Mesh::of(["n1", "n2"]);
    let [n1, n2] = mesh.nodes();
    n2.start(&[]);
    n1.start(&["--peer", &n2.peer()]);
    let file = math().write(mesh.path("math.toml"));
    let applied = n1.json(["apply".as_ref(), file.as_os_str()]);
    let lists =
        ["from", "to", "added", "changed", "removed", "unchanged", "signers", "fetched", "publish-us"];
    has(&applied, &lists);
    mesh.apply_file(&file, n2).ok();
    n1.links_to(n2);

    has(
        &n1.json(["status"]),
        &[
            "node",
            "label",
            "tags",
            "mesh",
            "version",
            "pid",
            "uptime-ms",
            "address",
            "generation",
            "floor",
            "manifest-expires",
            "plugins",
            "links",
            "pending",
            "protection",
            "instances",
            "limited-by",
            "warnings",
        ],
    );
    let plugin = ["slot", "kind", "component", "names", "engine", "grants", "running", "restarts", "served"];
    each_has(&n1.json(["plugins"]), &plugin);
    let peer =
        ["node", "label", "address", "state", "trust", "tags", "dialled", "rtt-us", "generation", "up-ms"];
    each_has(&n1.json(["peers"]), &peer);
    each_has(&n1.json(["routes"]), &["name", "local", "hops"]);
    n2.reaches("math1@fabric");
    let over = n2.json(["routes", "math1@fabric"]);
    each_has(&over[0]["hops"], &["next", "next-label", "to", "distance", "claimed"]);
    each_has(&n1.json(["key", "show"]), &["role", "id", "file"]);
    let inspection =
        ["digest", "length", "kind", "engine", "functions", "not-callable", "imports", "documented"];
    let wasm = component("skill/math1");
    for target in [wasm.to_str().unwrap(), "skill/math1", "math1@fabric"] {
        let inspected = n1.json(["inspect", target]);
        has(&inspected, &inspection);
        each_has(&inspected["functions"], &["name", "params"]);
    }
    for line in n1.cli(["logs", "-n", "5", "-o", "json"]).ok().lines() {
        has(&serde_json::from_str(line).unwrap(), &["at", "source", "level", "text"]);
    }
}

#[test]
fn making_nodes_has_its_json() {
    let mesh = Mesh::of(["n1"]);
    let [n1] = mesh.nodes();
    let path = mesh.path("n2");
    let directory = ["--data-dir".as_ref(), path.as_os_str()];
    let json = |words: &[&str]| {
        let words = words.iter().map(|word| word.as_ref());
        run(&mut midplane(directory.into_iter().chain(words)), PATIENCE).json()
    };
    let made = json(&["init", "--bare", "--label", "n2", "-o", "json"]);
    has(&made, &["node", "label", "directory"]);
    assert_eq!(made.get("mesh"), None);
    let admission = mesh.path("admission");
    let admitted =
        n1.json(["peer", "admit", made["node"].as_str().unwrap(), "--out", admission.to_str().unwrap()]);
    let member = ["mesh", "node", "trust", "tags", "names", "issued", "expires", "serial"];
    has(&admitted, &member);
    assert_eq!(json(&["join", admission.to_str().unwrap(), "-o", "json"]), admitted);
    let owner = midplane(["--data-dir".as_ref(), mesh.path("n3").as_os_str()]);
    has(
        &run({ owner }.args(["init", "-o", "json"]), PATIENCE).json(),
        &["node", "label", "directory", "mesh", "owner"],
    );
}

#[test]
fn answers_are_json_and_failures_stay_on_standard_error() {
    let mesh = Mesh::of(["n1"]);
    let [n1] = mesh.nodes();
    n1.start(&[]);
    mesh.apply(&math(), &[n1]);
    for arguments in [&["x=3", "y=4"][..], &["[3,4]"], &["{\"x\":3,\"y\":4}"], &["y=4", "x=3"]] {
        assert_eq!(n1.call("math1@fabric", "add", arguments).ok(), "7\n", "{arguments:?}");
    }
    assert_eq!(n1.call("math1@fabric", "add", &["x=-3", "y=-4"]).ok(), "-7\n");
    assert_eq!(n1.json(["call", "math1@fabric", "add", "x=3", "y=4"]), 7);
    // Items that come over time are one value per line.
    let items = n1.cli(["-o", "json", "call", "math2@fabric", "fib-stream", "n=4"]);
    assert_eq!((items.stdout.as_str(), items.stderr.as_str()), ("0\n1\n1\n2\n", ""));
    let traced = n1.cli(["-v", "-o", "json", "call", "math1@fabric", "add", "x=3", "y=4"]);
    assert_eq!((traced.code, traced.stdout.as_str()), (0, "7\n"), "{traced:#?}");
    let hop: Value = serde_json::from_str(&traced.stderr).unwrap();
    assert!(hop.is_object(), "{hop}");
    let failed = n1.cli(["-o", "json", "call", "nobody@fabric", "add"]);
    assert_eq!((failed.code, failed.stdout.as_str()), (4, ""), "{failed:#?}");
    let error: Value = serde_json::from_str(&failed.stderr).unwrap();
    assert_eq!(error["error"]["code"], "no-route");
    has(&error["error"], &["code", "what", "fix"]);
}

#[test]
fn exit_codes_are_the_documented_ones() {
    let mesh = Mesh::of(["n1", "n2"]);
    let [n1, n2] = mesh.nodes();
    n1.start(&[]);
    let endless = "names = [\"endless@fabric\"]";
    let manifest = math().plugin("skill/endless", "skill", &component("test/skill/endless"), endless);
    mesh.apply(&manifest, &[n1]);
    n1.cli(["status"]).ok();
    n1.call("math1@fabric", "multiply", &["x=9223372036854775807", "y=9"]).fails(1, "trap");
    n1.call("math1@fabric", "add", &["x=3"]).fails(2, "bad-argument");
    n1.call("math1@fabric", "add", &["3", "4"]).fails(2, "usage");
    n1.cli(["apply", "--version", "1", manifest.write(mesh.path("m.toml")).to_str().unwrap()])
        .fails(3, "stale-version");
    n1.call("nobody@fabric", "add", &[]).fails(4, "no-route");
    n1.call("math1@fabric", "nothing", &[]).fails(4, "unknown-function");
    n1.cli(["inspect", "nothing"]).fails(4, "not-found");
    n1.cli(["logs", "nothing"]).fails(4, "not-found");
    n2.cli(["status"]).fails(5, "not-running");
    let late = n1.cli(["--timeout", "200ms", "call", "endless@fabric", "count"]);
    assert_eq!(late.code, 5, "{}", late.stderr);
    assert!(late.stderr.starts_with("deadline: "), "{}", late.stderr);
    let nowhere = run(midplane(["--data-dir", "/nowhere/at/all"]).arg("status"), PATIENCE);
    nowhere.fails(4, "not-found");
    for wrong in [
        &["nonsense"][..],
        &["status", "--nonsense"],
        &["call", "no-name", "f"],
        &["call"],
        &["-o", "xml", "status"],
    ] {
        let outcome = n1.cli(wrong);
        assert_eq!((outcome.code, outcome.stdout.as_str()), (2, ""), "{wrong:?}: {outcome:#?}");
        assert!(!outcome.stderr.is_empty());
        // Also where what is wrong comes before what says how to tell it.
        let outcome = n1.cli([wrong, &["--output=json"]].concat());
        if wrong[0] != "-o" {
            let error: Value = serde_json::from_str(&outcome.stderr).expect(&outcome.stderr);
            assert_eq!((outcome.code, &error["error"]["code"]), (2, &json!("usage")), "{wrong:?}: {error}");
            assert!(error["error"]["fix"].as_str().unwrap().contains("midplane"), "{error}");
        }
    }
    let outcome = n1.cli(["call", "no-name", "f"]);
    assert!(outcome.stderr.contains("for example math1@fabric"), "{}", outcome.stderr);
    let readme = root().join("README.md");
    let said = n1.cli(["apply", readme.to_str().unwrap()]);
    assert!(said.fails(3, "bad-object").contains("README.md is no signed manifest"), "{said:#?}");
}

#[test]
fn every_command_explains_itself() {
    let all = run(&mut midplane(["--help"]), PATIENCE).ok();
    let nested = [&["peer", "admit"][..], &["key", "new"], &["key", "show"], &["key", "export"]];
    for words in EVERY.iter().map(std::slice::from_ref).chain(nested) {
        assert!(all.contains(words[0]), "{words:?} is not in the list");
        let outcome = run(midplane(words).arg("--help"), PATIENCE);
        assert_eq!((outcome.code, outcome.stderr.as_str()), (0, ""), "{words:?}: {outcome:#?}");
        assert!(outcome.stdout.contains(&format!("Usage: midplane {}", words.join(" "))), "{outcome:#?}");
    }
    let version = run(&mut midplane(["--version"]), PATIENCE).ok();
    assert_eq!(version, format!("midplane {}\n", env!("CARGO_PKG_VERSION")));
}

#[test]
fn a_directory_is_made_a_node_once() {
    let mesh = Mesh::of(["n1"]);
    let [n1] = mesh.nodes();
    let id = n1.id();
    for again in [&["init"][..], &["init", "--bare"], &["init", "--label", "other"]] {
        let outcome = n1.cli(again);
        assert!(outcome.fails(2, "usage").contains("has a node already"), "{outcome:#?}");
    }
    assert_eq!(n1.id(), id);
    n1.start(&[]);
    assert_eq!(n1.json(["status"])["label"], "n1");
}

#[test]
fn a_cluster_says_when_it_is_ready_and_ends_with_its_nodes() {
    let mesh = Mesh::of([]);
    let manifest = root().join("manifests/two-peers.toml");
    component("skill/math1");
    let mut command = midplane(["-o", "json", "cluster", "2"]);
    command.arg(&manifest).arg("--dir").arg(mesh.path("cluster"));
    let mut cluster = Process::spawn(command.stdout(Stdio::piped()).stderr(Stdio::null()));
    let stdout = cluster.child().stdout.take().unwrap();
    let ready = Value::deserialize(&mut serde_json::Deserializer::from_reader(stdout)).unwrap();
    has(&ready, &["directory", "operator-key", "nodes"]);
    each_has(&ready["nodes"], &["label", "node", "data-dir", "address", "pid"]);
    let first = ready["nodes"][0]["data-dir"].as_str().unwrap();
    let call = ["--data-dir", first, "call", "math2@fabric", "fib-stream", "n=3"];
    assert_eq!(run(&mut midplane(call), PATIENCE).ok(), "0\n1\n1\n");
    // Another one in its place would give its nodes another manifest.
    let mut second = midplane(["cluster", "3"]);
    second.arg(&manifest).arg("--dir").arg(mesh.path("cluster"));
    run(&mut second, PATIENCE).fails(1, "locked");
    assert!(!mesh.path("cluster").join("n3").exists());
    cluster.terminate();
    assert!(cluster.wait(Duration::from_secs(20)).success());
    for node in ready["nodes"].as_array().unwrap() {
        assert!(!runs(node["pid"].as_u64().unwrap()), "{node} outlives its cluster");
    }
}

#[test]
fn nodes_end_with_a_cluster_that_is_killed() {
    let mesh = Mesh::of([]);
    component("skill/math1");
    let mut command = midplane(["-o", "json", "cluster", "2"]);
    command.arg(root().join("manifests/two-peers.toml")).arg("--dir").arg(mesh.path("cluster"));
    let mut cluster = Process::spawn(command.stdout(Stdio::piped()).stderr(Stdio::null()));
    let stdout = cluster.child().stdout.take().unwrap();
    let ready = Value::deserialize(&mut serde_json::Deserializer::from_reader(stdout)).unwrap();
    cluster.kill();
    eventually(PATIENCE, || {
        let left =
            ready["nodes"].as_array().unwrap().iter().filter(|node| runs(node["pid"].as_u64().unwrap()));
        match left.count() {
            0 => Ok(()),
            left => Err(format!("{left} of {ready} run on")),
        }
    });
}

#[test]
fn a_cluster_that_nobody_reads_ends_its_nodes_too() {
    let mesh = Mesh::of([]);
    let base = mesh.path("cluster");
    let mut command = midplane(["cluster", "2"]);
    command.arg(root().join("manifests/two-peers.toml")).arg("--dir").arg(&base);
    component("skill/math1");
    let mut cluster = Process::spawn(command.stdout(Stdio::piped()).stderr(Stdio::null()));
    drop(cluster.child().stdout.take());
    let data = base.join("n1").to_string_lossy().into_owned();
    eventually(PATIENCE, || {
        let reached = run(&mut midplane(["--data-dir", &data, "routes", "math2@fabric"]), PATIENCE).stdout;
        if reached.contains(" n2 ") { Ok(()) } else { Err(reached) }
    });
    let status = run(&mut midplane(["--data-dir", &data, "status", "-o", "json"]), PATIENCE).json();
    assert!(cluster.ended().is_none(), "the cluster ended by itself");
    cluster.terminate();
    assert!(cluster.wait(Duration::from_secs(20)).success());
    assert!(!runs(status["pid"].as_u64().unwrap()), "a node outlives its cluster");
}

/// Whether a process of this number runs this program.
fn runs(pid: u64) -> bool {
    std::fs::read_link(format!("/proc/{pid}/exe")).is_ok_and(|program| program == binary())
}

#[test]
fn fields_are_not_lost_between_text_and_json() {
    let mesh = Mesh::of(["n1"]);
    let [n1] = mesh.nodes();
    n1.start(&[]);
    let (text, status) = (n1.cli(["status"]).ok(), n1.json(["status"]));
    for field in ["node", "label", "mesh", "address"] {
        assert!(text.contains(status[field].as_str().unwrap()), "no {field} in {text}");
    }
    assert_eq!(status["warnings"], json!(["nothing runs yet: midplane apply MANIFEST"]));
    assert!(text.contains("warning     nothing runs yet"), "{text}");
}

#[test]
fn the_readme_has_the_matrix_of_the_program() {
    let roles = run(&mut midplane(["mesh", "roles"]), PATIENCE).ok();
    let readme = std::fs::read_to_string(root().join("README.md")).unwrap();
    assert!(readme.contains(&format!("```\n{roles}```")), "README.md lacks\n{roles}");
    let json = run(&mut midplane(["mesh", "roles", "-o", "json"]), PATIENCE).json();
    each_has(&json, &["verb", "view", "operate", "deploy"]);
}
