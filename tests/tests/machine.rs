//! What the machine gives, and what a node makes of it.

use std::os::unix::fs::PermissionsExt;
use std::process::{Command, Stdio};

use midplane_tests::command::{binary, component, midplane};
use midplane_tests::process::Process;
use midplane_tests::{Manifest, Mesh, Node, PATIENCE, eventually};
use serde_json::Value;

/// 256 GiB, in the KiB of `ulimit -v`.
const LITTLE_SPACE: &str = "268435456";

/// The command, in a shell that has limited itself before.
fn limited(limit: &str, command: &Command) -> Command {
    let mut shell = Command::new("sh");
    shell.arg("-c").arg(format!("ulimit {limit} && exec \"$0\" \"$@\""));
    shell.arg(command.get_program()).args(command.get_args());
    shell
}

fn run_command(node: &Node, more: &[&str]) -> Command {
    let (ip, port) = (node.address().ip().to_string(), node.address().port().to_string());
    node.command(["run", "--bind", &ip, "--port", &port].iter().chain(more))
}

fn check<'a>(report: &'a Value, name: &str) -> &'a Value {
    let checks = report["checks"].as_array().unwrap();
    checks.iter().find(|check| check["name"] == name).unwrap_or_else(|| panic!("no check {name}: {report}"))
}

#[test]
fn a_node_with_little_address_space_starts_smaller_says_so_and_answers() {
    let mesh = Mesh::of(["n1"]);
    let [node] = mesh.nodes();
    node.start_with(limited(&format!("-v {LITTLE_SPACE}"), &run_command(node, &[])));
    let manifest = Manifest::policies()
        .skill("skill/math1", "math1@fabric", "n1")
        .skill("skill/math2", "math2@fabric", "n1")
        .write(mesh.path("math.toml"));
    mesh.apply_file(&manifest, node).ok();
    assert_eq!(node.call("math1@fabric", "add", &["x=3", "y=4"]).ok(), "7\n");
    assert_eq!(node.call("math2@fabric", "fib-stream", &["n=3"]).ok(), "0\n1\n1\n");
    let status = node.json(["status"]);
    assert!(status["instances"].as_u64().unwrap() < 1_000, "{status}");
    assert!(status["limited-by"].to_string().contains("address-space"), "{status}");
    assert!(node.said().contains("limited by this machine: address-space"), "{}", node.said());
}

#[test]
fn doctor_names_what_is_short_and_what_to_change() {
    let mesh = Mesh::of(["n1"]);
    let [node] = mesh.nodes();
    let asked = node.command(["doctor", "-o", "json"]);
    let mut shell = limited(&format!("-v {LITTLE_SPACE}"), &asked);
    let report: Value = serde_json::from_slice(&shell.output().unwrap().stdout).unwrap();
    assert_eq!(check(&report, "address-space")["verdict"], "limited");
    assert_eq!(check(&report, "address-space")["fix"], "ulimit -v unlimited");
    assert_eq!(check(&report, "key")["found"], node.id().as_str());
    assert!(report["plan"]["instances"].as_u64().unwrap() < 1_000);

    let wide = node.json(["doctor", "--instances", "1000000"]);
    assert_eq!(check(&wide, "vm.max_map_count")["verdict"], "limited");

    let key = node.directory().join("node.key");
    std::fs::set_permissions(&key, PermissionsExt::from_mode(0o644)).unwrap();
    let sick = node.cli(["doctor", "-o", "json"]);
    assert_eq!(sick.code, 1, "{sick:#?}");
    let report: Value = serde_json::from_str(&sick.stdout).unwrap();
    assert_eq!(check(&report, "key")["verdict"], "broken");
    assert!(check(&report, "key")["fix"].as_str().unwrap().starts_with("chmod 600 "), "{report}");
}

#[test]
fn doctor_dials_a_peer_and_says_who_is_there() {
    let mesh = Mesh::of(["n1", "n2"]);
    let [n1, n2] = mesh.nodes();
    n2.start(&[]);
    let address = n2.address().to_string();
    let found = n1.json(["doctor", "--dial", &address]);
    assert!(check(&found, "dial")["found"].as_str().unwrap().starts_with(&n2.id()), "{found}");

    let other = n1.cli(["doctor", "-o", "json", "--dial", &format!("{}@{address}", n1.id())]);
    assert_eq!(other.code, 1);
    assert!(other.stdout.contains("unknown-key"), "{other:#?}");
    n2.stop();
    let nobody = n1.cli(["doctor", "-o", "json", "--dial", &address]);
    assert_eq!(nobody.code, 1);
    let report: Value = serde_json::from_str(&nobody.stdout).unwrap();
    assert!(check(&report, "dial")["fix"].as_str().unwrap().contains("firewall"), "{report}");
}

#[test]
fn a_full_pool_refuses_by_name_and_has_room_again() {
    let mesh = Mesh::of(["n1"]);
    let [node] = mesh.nodes();
    node.start_with(run_command(node, &["--instances", "2"]));
    let manifest = Manifest::policies()
        .plugin("skill/endless", "skill", &component("test/skill/endless"), "names = [\"endless@fabric\"]")
        .skill("skill/math1", "math1@fabric", "n1")
        .write(mesh.path("endless.toml"));
    mesh.apply_file(&manifest, node).ok();
    let held = || {
        let mut process = Process::spawn(
            node.command(["call", "endless@fabric", "count"]).stdout(Stdio::piped()).stderr(Stdio::null()),
        );
        let mut first = [0_u8; 1];
        std::io::Read::read_exact(process.child().stdout.as_mut().unwrap(), &mut first).unwrap();
        process
    };
    let streams = (held(), held());
    let refused = node.call("endless@fabric", "count", &[]);
    assert!(refused.fails(5, "busy").contains("midplane doctor"), "{refused:#?}");
    assert_eq!(node.call("math1@fabric", "add", &["x=3", "y=4"]).ok(), "7\n", "another pool");
    drop(streams);
    eventually(PATIENCE, || {
        let again = midplane_tests::command::run(
            &mut node.command(["call", "endless@fabric", "count", "--timeout", "1s"]),
            PATIENCE,
        );
        // It never ends, so the deadline ends it: what counts is that it began.
        if again.stdout.starts_with('0') { Ok(()) } else { Err(again.stderr) }
    });
}

#[test]
fn the_manual_and_the_completions_know_every_command() {
    let mesh = Mesh::of(["n1"]);
    let out = mesh.path("man");
    let made = midplane_tests::command::run(
        &mut midplane(["man".as_ref(), "--out".as_ref(), out.as_os_str()]),
        PATIENCE,
    );
    made.ok();
    let help = Command::new(binary()).arg("--help").output().unwrap();
    let help = String::from_utf8(help.stdout).unwrap();
    for command in ["run", "apply", "doctor", "peer-admit"] {
        let page = std::fs::read_to_string(out.join(format!("midplane-{command}.1"))).unwrap();
        assert!(page.starts_with(".ie") && page.contains(".SH"), "{page}");
    }
    assert!(help.contains("doctor") && help.contains("completions"));
    for shell in ["bash", "zsh", "fish"] {
        let script = midplane_tests::command::run(&mut midplane(["completions", shell]), PATIENCE).ok();
        assert!(script.contains("doctor") && script.contains("cluster"), "{shell}");
    }
    assert_eq!(midplane_tests::command::run(&mut midplane(["completions", "cmd"]), PATIENCE).code, 2);
}
