//! Imports that names of the mesh satisfy: here and elsewhere, with every kind of value, and what is wrong said by name.

use std::time::{Duration, Instant};

use midplane::words::hop::Hop;
use midplane::words::{Code, Trust};
use midplane_tests::command::component;
use midplane_tests::forge::block_on;
use midplane_tests::http::{self, Client};
use midplane_tests::member::Member;
use midplane_tests::{Manifest, Mesh, Node, PATIENCE, eventually};
use serde_json::{Value, json};

const FORECAST: &str = "tests:weather/forecast@1.2.0";
const BOUND: &str = "bindings = { \"tests:weather/forecast@1.2.0\" = \"weather@fabric\" }";

/// A guest of the tests under its own slot and name.
fn guest(manifest: Manifest, guest: &str, name: &str, label: &str, more: &str) -> Manifest {
    let slot = format!("skill/{}", name.split('@').next().unwrap());
    let more = format!("names = [\"{name}\"]\non = {{ labels = [\"{label}\"] }}\n{more}");
    manifest.plugin(&slot, "skill", &component(&format!("test/skill/{guest}")), &more)
}

/// `picnic` on `n1`, what it imports on a node of this label.
fn composed(weather: &str, label: &str, station: &str) -> Manifest {
    let config = if weather == "forecaster" {
        format!("config = {{ station = \"{station}\" }}")
    } else {
        String::new()
    };
    let manifest = guest(Manifest::policies(), "picnic", "picnic@fabric", "n1", BOUND);
    guest(manifest, weather, "weather@fabric", label, &config)
}

/// Two linked nodes with a manifest in force.
fn two(manifest: &Manifest, name: &str) -> Mesh {
    let mesh = Mesh::of(["n1", "n2"]);
    let [n1, n2] = mesh.nodes();
    n1.start(&[]);
    n2.start(&["--peer", &n1.peer()]);
    mesh.apply(manifest, &[n1, n2]);
    n1.links_to(n2);
    n1.reaches(name);
    mesh
}

#[track_caller]
fn plan(node: &Node, arguments: Value) -> String {
    let plan = node.cli(["call", "picnic@fabric", "plan", &arguments.to_string(), "-o", "json"]).json();
    plan.as_str().expect("a text").to_owned()
}

/// Calls over the binding, with every kind of value.
fn picnic_works(n1: &Node) {
    assert_eq!(
        plan(n1, json!(["Oslo", 12.7, null])),
        "Ok([Day { sky: Sky::Clear, high: -12, wind: None, warnings: Warnings(WIND | FROST), \
         notes: [(\"hour\", [0, 255])] }])"
    );
    let three = plan(n1, json!(["Oslo", 12.7, 3]));
    assert!(three.contains("Sky::Rain, high: -12, wind: Some(0.5), warnings: Warnings("), "{three}");
    assert_eq!(three.matches("Day {").count(), 3, "{three}");
    for (name, hours, expect) in [
        ("Atlantis", json!(null), "Err(Problem::UnknownPlace(\"Atlantis\"))"),
        ("Oslo", json!(49), "Err(Problem::TooFar(18446744073709551614))"),
        ("closed", json!(1), "Err(Problem::Closed)"),
    ] {
        assert_eq!(plan(n1, json!([name, 0.5, hours])), expect);
    }
    n1.call("picnic@fabric", "note", &["text=bring a coat"]).ok();
}

#[test]
fn an_import_is_satisfied_by_a_skill_of_another_node() {
    let mesh = two(&composed("forecaster", "n2", "north"), "weather@fabric");
    let [n1, _] = mesh.nodes();
    picnic_works(n1);
    assert_eq!(n1.cli(["call", "picnic@fabric", "station", "-o", "json"]).json(), "north");
}

#[test]
fn an_import_is_satisfied_by_a_skill_of_the_same_node() {
    let mesh = Mesh::of(["n1"]);
    let [n1] = mesh.nodes();
    n1.start(&[]);
    // No routing, and the version is left out.
    let manifest = guest(
        Manifest::empty(),
        "picnic",
        "picnic@fabric",
        "n1",
        "bindings = { \"tests:weather/forecast\" = \"weather@fabric\" }",
    );
    mesh.apply(&guest(manifest, "forecaster", "weather@fabric", "n1", ""), &[n1]);
    picnic_works(n1);
    let plugins = n1.json(["plugins"]);
    assert_eq!(plugins[0]["bindings"], json!({"tests:weather/forecast": "weather@fabric"}), "{plugins}");
    assert_eq!(plugins[0]["grants"], json!([]));
    assert!(n1.cli(["plugins"]).ok().contains("tests:weather/forecast = weather@fabric"));
    let inspected = n1.json(["inspect", "skill/picnic"]);
    assert_eq!(inspected["imports"], json!([[FORECAST, "bound to weather@fabric"]]));
    let file = component("test/skill/picnic");
    let line = format!("missing: bindings = {{ \"{FORECAST}\" = \"NAME@DOMAIN\" }}");
    let inspected = n1.cli(["inspect".as_ref(), file.as_os_str(), "-o".as_ref(), "json".as_ref()]).json();
    assert_eq!(inspected["imports"], json!([[FORECAST, line]]));
}

#[test]
fn async_imports_wait_together_and_gateways_have_imports_too() {
    let mesh = Mesh::of(["n1", "n2"]);
    let [n1, n2] = mesh.nodes();
    n1.start(&["--http", &format!("{}:0", n1.address().ip())]);
    n2.start(&["--peer", &n1.peer()]);
    let sums = "bindings = { \"tests:sums/ops@0.1.0\" = \"math1@fabric\" }";
    let manifest = guest(Manifest::policies(), "sums", "sums@fabric", "n1", sums)
        .skill("skill/math1", "math1@fabric", "n2")
        .plugin(
            "gateway/adder",
            "gateway",
            &component("test/gateway/adder"),
            "mount = \"/add\"\non = { labels = [\"n1\"] }\nbindings = { \"tests:adder/sums\" = \"math1@fabric\" }",
        );
    mesh.apply(&manifest, &[n1, n2]);
    n1.links_to(n2);
    n1.reaches("math1@fabric");
    let sums = n1.cli(["call", "sums@fabric", "sums-of", "[[1,2,3,4]]", "-o", "json"]).json();
    assert_eq!(sums, json!([[3, 5, 7], 105]));
    let mut client = Client::to(http::address(n1));
    assert_eq!(client.get("/add?20,22").text(), "42");
    n2.stop();
    let failed = client.get("/add?20,22");
    assert_eq!(failed.status, 502, "{failed:?}");
    assert!(!failed.text().contains("math1"), "a client learns nothing of the inside: {failed:?}");
    let lines = n1.cli(["logs", "-n", "50"]).ok();
    assert!(
        lines.contains("gateway/adder imports tests:adder/sums@0.1.0, bound to math1@fabric: add: "),
        "{lines}"
    );
}

#[test]
fn what_is_wrong_with_the_mesh_is_not_the_callers_fault() {
    let short = format!("{BOUND}\nlimits = {{ deadline = \"500ms\" }}");
    let manifest = composed("forecaster", "n2", "north");
    let mesh = two(&guest(manifest, "picnic", "hasty@fabric", "n1", &short), "weather@fabric");
    let [n1, n2] = mesh.nodes();
    let fails = |function: &str, arguments: &[&str], exit: i32, code: &str, cause: &str| {
        let outcome = n1.call("picnic@fabric", function, arguments);
        let message = outcome.fails(exit, code).to_owned();
        let begins =
            format!("{code}: skill/picnic imports {FORECAST}, bound to weather@fabric: {function}: {cause}");
        assert!(message.starts_with(&begins), "{message} does not begin with {begins}");
        message
    };
    let trap = fails("fail", &["forever=false"], 1, "binding-failed", "trap: skill/weather fail trapped");
    assert!(!trap.contains("skill/picnic fail"), "{trap}");
    fails("note", &["text="], 1, "binding-failed", "trap: skill/weather note trapped");
    let started = Instant::now();
    let outcome = n1.call("hasty@fabric", "fail", &["forever=true"]);
    let message = outcome.fails(5, "deadline");
    assert!(message.contains("bound to weather@fabric: fail: deadline: "), "{message}");
    assert!(started.elapsed() < Duration::from_secs(10));
    // It goes on working after all of this, and says who is gone when somebody is.
    picnic_works(n1);
    n2.stop();
    let outcome = n1.call("picnic@fabric", "station", &[]);
    let message = outcome.fails(1, "binding-failed");
    assert!(message.contains("bound to weather@fabric: station: "), "{message}");
}

#[test]
fn types_that_differ_are_named() {
    let mesh = two(&composed("misfit", "n2", ""), "weather@fabric");
    let [n1, _] = mesh.nodes();
    let differs = |function: &str, arguments: &[&str], words: &[&str]| {
        let outcome = n1.call("picnic@fabric", function, arguments);
        let message = outcome.fails(1, "binding-failed");
        for word in words {
            assert!(message.contains(word), "no {word}: {message}");
        }
    };
    let about = "bound to weather@fabric: ";
    differs(
        "plan",
        &["name=Oslo", "latitude=1.5"],
        &[
            about,
            "at.latitude wants s32, got 1.5",
            "the import is get(at: record{",
            "weather@fabric has get(at: record{",
        ],
    );
    differs(
        "station",
        &[],
        &[about, "station: ", "answer wants string, got 4", "the import is station() -> string"],
    );
    differs("note", &["text=x"], &[about, "unknown argument text", "weather@fabric has note(words: string)"]);
    differs("fail", &["forever=false"], &[about, "unknown-function: "]);
    // An error that is none of the import's.
    differs("plan", &["name=Oslo", "latitude=1", "hours=1"], &[about, "when wants string, got a map"]);
}

#[test]
fn bindings_are_checked_before_anything_runs() {
    let mesh = Mesh::of(["n1"]);
    let [n1] = mesh.nodes();
    n1.start(&[]);
    let refused = |name: &str, more: &str, exit: i32, code: &str, words: &[&str]| {
        let manifest = guest(Manifest::empty(), name, &format!("{name}@fabric"), "n1", more);
        let outcome = mesh.apply_file(&manifest.write(mesh.path("refused.toml")), n1);
        let message = outcome.fails(exit, code);
        for word in words {
            assert!(message.contains(word), "no {word}: {message}");
        }
    };
    let fix = format!("fix: bindings = {{ \"{FORECAST}\" = \"NAME@DOMAIN\" }}");
    refused("picnic", "", 3, "missing-import", &["skill/picnic imports tests:weather/forecast@1.2.0", &fix]);
    refused(
        "picnic",
        "bindings = { \"tests:weather/forecast@1.3.0\" = \"weather@fabric\" }",
        3,
        "missing-import",
        &[&fix],
    );
    let both = "bindings = { \"tests:weather/forecast\" = \"weather@fabric\", \"a:b/c\" = \"x@y\" }";
    refused(
        "picnic",
        both,
        2,
        "bad-manifest",
        &["skill/picnic binds a:b/c, which its component does not import", FORECAST],
    );
    let things = "bindings = { \"tests:unbindable/things\" = \"things@fabric\" }";
    let cannot = "skill/unbindable imports tests:unbindable/things@0.1.0, which cannot be bound: ";
    refused(
        "unbindable",
        things,
        3,
        "missing-import",
        &[&format!("{cannot}thing is a resource"), &format!("{cannot}watch: result: stream<u8> ")],
    );
    for (more, what) in [
        ("bindings = { \"wasi:config/store@0.2.0-rc.1\" = \"x@y\" }", "is the host's own"),
        ("bindings = { \"midplane:host/invoke\" = \"x@y\" }", "is the host's own"),
        ("bindings = { \"forecast\" = \"x@y\" }", "forecast is no interface such as"),
        ("bindings = { \"tests:weather/forecast\" = \"*@fabric\" }", "tests:weather/forecast is not a name"),
        ("bindings = { \"tests:weather/forecast\" = 1 }", "tests:weather/forecast is a text, not 1"),
        ("bindings = [\"tests:weather/forecast\"]", "bindings is a table, not a list"),
    ] {
        refused("forecaster", more, 2, "bad-manifest", &[what, "refused.toml line "]);
    }
    assert_eq!(n1.json(["plugins"]), json!([]));
}

#[test]
fn a_changed_binding_makes_the_plugin_anew_and_a_changed_callee_is_met_at_once() {
    let manifest = |station: &str, bound: &str| {
        let manifest = guest(
            Manifest::policies(),
            "picnic",
            "picnic@fabric",
            "n1",
            &format!("bindings = {{ \"{FORECAST}\" = \"{bound}\" }}"),
        );
        let config = format!("config = {{ station = \"{station}\" }}");
        let manifest = guest(manifest, "forecaster", "weather@fabric", "n2", &config);
        guest(manifest, "forecaster", "other@fabric", "n2", "config = { station = \"other\" }")
    };
    let mesh = two(&manifest("1", "weather@fabric"), "weather@fabric");
    let [n1, n2] = mesh.nodes();
    n1.reaches("other@fabric");
    let station = || n1.cli(["call", "picnic@fabric", "station", "-o", "json"]).json();
    assert_eq!(station(), "1");
    // Swapped while somebody calls all the time: no call is lost, none meets anything but the old or the new one.
    std::thread::scope(|scope| {
        let calls = scope.spawn(|| {
            let mut seen = vec![station()];
            while seen.last().unwrap() != "4" {
                seen.push(station());
            }
            seen
        });
        for number in 2..=4 {
            mesh.apply(&manifest(&number.to_string(), "weather@fabric"), &[n2]);
        }
        // What was said before the calls began counts: they may begin late.
        let mut seen = [vec![json!("1")], calls.join().unwrap()].concat();
        assert!(seen.is_sorted_by_key(|station| station.as_str().unwrap().to_owned()), "{seen:?}");
        seen.dedup();
        assert!(seen.len() > 1, "{seen:?}");
    });
    // It comes to the other node by itself.
    eventually(PATIENCE, || {
        let status = n1.json(["status"]);
        if status["generation"] == 4 { Ok(()) } else { Err(status) }
    });
    let file = manifest("4", "other@fabric").write(mesh.path("rebound.toml"));
    let applied = mesh.apply_file(&file, n1).ok();
    assert!(applied.contains("changed   skill/picnic"), "{applied}");
    assert_eq!(station(), "other");
}

/// `n1` lets basic peers call `picnic`, whose import only trusted ones may call themselves.
#[test]
fn a_binding_gives_no_more_rights_than_the_caller_has() {
    let mut mesh = Mesh::of(["n1", "n2"]);
    mesh.admit("basic", &["--trust", "basic"]);
    mesh.admit("trusted", &["--trust", "trusted"]);
    let [n1, n2, basic, trusted] = mesh.nodes();
    n1.start(&[]);
    n2.start(&["--peer", &n1.peer()]);
    let more = format!("{BOUND}\nexpose = \"basic\"");
    let manifest = guest(Manifest::policies(), "picnic", "picnic@fabric", "n1", &more);
    let loops = "bindings = { \"tests:weather/forecast\" = \"circle@fabric\" }\nexpose = \"basic\"";
    let manifest = guest(manifest, "picnic", "circle@fabric", "n1", loops);
    let here = "config = { station = \"secret\" }";
    mesh.apply(&guest(manifest, "forecaster", "weather@fabric", "n2", here), &[n1, n2]);
    n1.links_to(n2);
    n1.reaches("weather@fabric");
    block_on(async {
        let hop = Hop::start(20_000);
        let member = Member::link(trusted, n1).await.unwrap();
        let answer = member.call("picnic@fabric", "station", &json!([]), &hop).await.unwrap();
        assert_eq!(answer, "secret");
        let lowered = Hop { trust: Trust::Basic, ..hop.clone() };
        let deep = Hop { depth: 8, ..hop.clone() };
        let lower = Member::link(basic, n1).await.unwrap();
        for (member, hop, cause) in [
            (&lower, &hop, "not-allowed: "),
            (&member, &lowered, "not-allowed: "),
            (&member, &deep, "too-deep: "),
        ] {
            let fault = member.call("picnic@fabric", "station", &json!([]), hop).await.unwrap_err();
            assert_eq!(fault.code, Code::BindingFailed, "{fault}");
            assert!(fault.what.contains(cause) && !fault.what.contains("secret"), "{fault}");
        }
        // It is bound to itself: each call is one deeper.
        let fault = member.call("circle@fabric", "station", &json!([]), &hop).await.unwrap_err();
        assert_eq!(fault.code, Code::BindingFailed, "{fault}");
        assert!(fault.what.contains("too-deep: "), "{fault}");
    });
}
