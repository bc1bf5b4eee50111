//! Policies that lie on a node: what they say costs it little, gives nobody a right, pushes out no line, and what is beside them goes on.

use midplane::log::is_text;
use midplane::words::Code;
use midplane::words::hello::Greeting;
use midplane::words::hop::Hop;
use midplane_tests::command::component;
use midplane_tests::forge::{self, block_on};
use midplane_tests::member::Member;
use midplane_tests::{Manifest, Mesh, Node, PATIENCE, eventually};
use serde_json::{Value, json};

/// By how much a node may grow: the memory of a policy, a full log, and what is around them.
const MOST: u64 = 128 << 20;
/// Calls that are made while a policy lies.
const CALLS: u64 = 50;

/// The three policies, of which one lies, and a skill.
fn manifest(liar: &str, config: &str) -> Manifest {
    let mut manifest = Manifest::empty();
    for (kind, honest, more) in [
        ("discovery", "discovery/static", ""),
        ("admission", "admission/basic", ""),
        ("routing", "routing/path-vector", "protocol = \"path-vector/1\""),
    ] {
        manifest = if kind == liar {
            let config = format!("config = {{ lie = \"{config}\" }}");
            manifest.plugin(kind, kind, &component(&format!("test/{kind}/liar")), &config)
        } else {
            manifest.plugin(kind, kind, &component(honest), more)
        };
    }
    manifest.skill("skill/math1", "local@fabric", "n1")
}

fn resident(node: &Node) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{}/status", node.pid())).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
    line.split_whitespace().next().unwrap().parse::<u64>().unwrap() << 10
}

fn lines(node: &Node) -> Vec<Value> {
    let lines = node.cli(["-o", "json", "logs", "-n", "5000"]).ok();
    lines.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

/// Runs a policy that lies, and calls a skill beside it meanwhile. It has begun when the log says so, or the events: a policy may have used
/// up what it may say before it is ended.
fn lies(n1: &Node, mesh: &Mesh, liar: &str, config: &str, says: &str) {
    let before = resident(n1);
    mesh.apply(&manifest(liar, config), &[n1]);
    let said = |line: &Value| line["text"].as_str().unwrap().contains(says);
    eventually(PATIENCE, || {
        let events = n1.cli(["-o", "json", "events", "-n", "1000"]).ok();
        if lines(n1).iter().any(said) || events.contains(says) {
            Ok(())
        } else {
            Err(format!("{liar} {config}: neither log nor events say {says}"))
        }
    });
    for number in 0..CALLS {
        let sum = n1.call("local@fabric", "add", &[&format!("x={number}"), "y=1"]).ok();
        assert_eq!(sum.trim(), (number + 1).to_string());
    }
    assert_eq!(n1.json(["status"])["label"], "n1");
    let lines = lines(n1);
    let text = |line: &Value| line["text"].as_str().unwrap().to_owned();
    for line in &lines {
        assert!(text(line).chars().all(is_text), "{line}");
    }
    let published = |line: &&Value| line["source"] == "host" && text(line).contains("is published");
    assert!(lines.iter().any(|line| published(&line)), "{liar} {config} pushed out what the host said");
    let grew = resident(n1).saturating_sub(before);
    assert!(grew < MOST, "{liar} {config}: the node grew by {} MiB", grew >> 20);
}

fn one() -> Mesh {
    let mesh = Mesh::of(["n1"]);
    let [n1] = mesh.nodes();
    n1.start(&[]);
    mesh
}

#[test]
fn discovery_that_finds_more_than_there_is_harms_nobody() {
    // Each on a node of its own: what it may say in a minute is used up soon.
    for (config, says) in [
        ("candidates", "may be dialled"),
        ("dials", "256 addresses are dialled already"),
        ("names", "grants.resolve"),
        ("lines", "all is lost"),
        ("answers", "asked for more than 8192 things at once"),
    ] {
        let mesh = one();
        let [n1] = mesh.nodes();
        lies(n1, &mesh, "discovery", config, says);
    }
}

#[test]
fn a_million_addresses_at_the_start_are_refused() {
    let mesh = one();
    let [n1] = mesh.nodes();
    mesh.apply(&manifest("", ""), &[n1]);
    // They take all its memory or all its fuel, so it never runs.
    let refused = manifest("discovery", "million").write(mesh.path("million.toml"));
    let outcome = mesh.apply_file(&refused, n1);
    let limit = ["memory-limit: ", "out-of-fuel: "].iter().any(|word| outcome.stderr.starts_with(word));
    assert!(outcome.code == 1 && limit && outcome.stderr.contains("discovery init"), "{outcome:?}");
    n1.call("local@fabric", "add", &["x=3", "y=4"]).ok();
}

#[test]
fn routing_that_knows_ways_to_everything_leads_nowhere() {
    for (config, why) in [("all", "no way is open"), ("none", "all is lost")] {
        let mesh = one();
        let [n1] = mesh.nodes();
        lies(n1, &mesh, "routing", config, "may not serve");
        let outcome = n1.call("nobody@fabric", "add", &["x=3", "y=4"]);
        let message = outcome.fails(4, "no-route");
        assert!(message.contains(why) && message.len() < 8 << 10, "{message}");
        assert!(message.chars().all(|char| char == '\n' || is_text(char)), "{message:?}");
        n1.cli(["routes", "nobody@fabric"]).ok();
    }
}

#[test]
fn admission_that_trusts_everybody_gives_nobody_a_right() {
    let mut mesh = Mesh::of(["n1"]);
    mesh.admit("basic", &["--trust", "basic"]);
    mesh.admit("trusted", &["--trust", "trusted"]);
    let [n1, basic, trusted] = mesh.nodes();
    n1.start(&[]);
    lies(n1, &mesh, "admission", "all", "is published");
    let hop = Hop::start(20_000);
    block_on(async {
        let member = Member::link(trusted, n1).await.unwrap();
        assert_eq!(member.call("local@fabric", "add", &json!([3, 4]), &hop).await.unwrap(), json!(7));
        let member = Member::link(basic, n1).await.unwrap();
        let fault = member.call("local@fabric", "add", &json!([3, 4]), &hop).await.unwrap_err();
        assert_eq!(fault.code, Code::NotAllowed, "{fault}");
    });
    // Who shows no membership stays outside, and hears why in a greeting that fits.
    let id = forge::mesh_id(n1);
    let from = (n1.address().ip(), 0).into();
    block_on(async {
        let stranger = forge::unadmitted(from, n1.address(), id, 7).await.unwrap();
        let Greeting::Pending { reason } = &stranger.told else { panic!("told {:?}", stranger.told) };
        assert!(reason.contains("welcome") && reason.chars().all(is_text), "{reason:?}");
    });
    let why = n1.cli(["peers", "--why"]).ok();
    assert!(why.contains("not admitted here") && !why.contains('\x1b'), "{why:?}");
}
