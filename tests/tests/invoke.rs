//! Skills that call skills: here and elsewhere, with no more rights than whoever called them.

use midplane::words::hop::Hop;
use midplane::words::{Code, Trust};
use midplane_tests::command::component;
use midplane_tests::forge::block_on;
use midplane_tests::member::Member;
use midplane_tests::{Manifest, Mesh, Node};
use serde_json::{Value, json};

const CALLER: &str = "test/skill/caller";

/// `caller` on a node, under its own slot and name.
fn caller(manifest: Manifest, name: &str, label: &str, more: &str) -> Manifest {
    let slot = format!("skill/{}", name.split('@').next().unwrap());
    let more = format!("names = [\"{name}\"]\non = {{ labels = [\"{label}\"] }}\n{more}");
    manifest.plugin(&slot, "skill", &component(CALLER), &more)
}

const ALL: &str = "grants = { invoke = [\"*\"], peers = \"read\" }";

/// `n1` with callers, `n2` with what they call.
fn two(more: &str) -> Mesh {
    let mesh = Mesh::of(["n1", "n2"]);
    let [n1, n2] = mesh.nodes();
    n1.start(&[]);
    n2.start(&["--peer", &n1.peer()]);
    let manifest = caller(Manifest::policies(), "caller@fabric", "n1", more);
    let manifest = caller(manifest, "back@fabric", "n2", ALL)
        .skill("skill/math1", "math1@fabric", "n1")
        .skill("skill/math2", "math2@fabric", "n2")
        .skill("test/skill/streams", "streams@fabric", "n2")
        .skill("test/skill/echo", "echo@fabric", "n2");
    mesh.apply(&manifest, &[n1, n2]);
    n1.links_to(n2);
    for name in ["math2@fabric", "streams@fabric", "back@fabric", "echo@fabric"] {
        n1.reaches(name);
    }
    n2.reaches("caller@fabric");
    mesh
}

#[track_caller]
fn ask(node: &Node, function: &str, arguments: &[&str]) -> Value {
    node.cli(["call", "caller@fabric", function, "-o", "json"].iter().chain(arguments)).json()
}

#[test]
fn a_skill_calls_others_here_and_elsewhere() {
    let mesh = two(ALL);
    let [n1, _] = mesh.nodes();
    let call = |name: &str, function: &str, arguments: &str| {
        ask(
            n1,
            "call",
            &[&format!("name={name}"), &format!("function={function}"), &format!("arguments={arguments}")],
        )
    };
    assert_eq!(call("math1@fabric", "add", "[3,4]"), json!(["7"]));
    assert_eq!(call("streams@fabric", "double", "{\"n\":21}"), json!(["42"]));
    assert_eq!(call("echo@fabric", "echo-bytes", "[\"aGk=\"]"), json!(["\"aGk=\""]));
    assert_eq!(call("echo@fabric", "nothing", "[]"), json!([]));
    let many: Vec<String> = (0..1000).map(|number: u32| number.to_string()).collect();
    assert_eq!(call("streams@fabric", "count", "[1000]"), json!(many));
    let first = ["name=streams@fabric", "function=count", "arguments=[100000000]", "count=3"];
    assert_eq!(ask(n1, "first", &first), json!(["0", "1", "2"]));
    // Arguments [3, 4] and an answer of 7, both in CBOR.
    let raw = ["name=math1@fabric", "function=add", "arguments=ggME"];
    assert_eq!(ask(n1, "raw", &raw), json!("Bw=="));
    let peers = ask(n1, "peers", &[]);
    assert_eq!(peers, json!([["n2", "Trust::Trusted", []]]));
}

#[test]
fn what_goes_wrong_is_told_as_data() {
    let mesh = two(ALL);
    let [n1, _] = mesh.nodes();
    let refused = |name: &str, function: &str, arguments: &str, word: &str| {
        let words =
            [format!("name={name}"), format!("function={function}"), format!("arguments={arguments}")];
        let words: Vec<&str> = words.iter().map(String::as_str).collect();
        let outcome = n1.call("caller@fabric", "call", &words);
        let message = outcome.fails(1, "application-error").to_owned();
        assert!(message.starts_with(&format!("application-error: {word}: ")), "{message}");
    };
    refused("nobody@fabric", "add", "[3,4]", "no-route");
    refused("no name", "add", "[3,4]", "usage");
    refused("math1@fabric", "subtract", "[3,4]", "unknown-function");
    refused("math1@fabric", "add", "[3]", "bad-argument");
    refused("math1@fabric", "add", "[9223372036854775807,1]", "trap");
    refused("streams@fabric", "count-then-trap", "[5]", "trap");
    refused("streams@fabric", "count-or", "[5,\"sorry\"]", "application-error");
    let value = ["name=echo@fabric", "function=echo-outcome", "arguments=[{\"err\":{\"circle\":1.5}}]"];
    assert_eq!(ask(n1, "error-value", &value), json!("{\"circle\":1.5}"));
}

#[test]
fn a_call_ends_with_the_one_that_made_it() {
    let mesh = two(&format!("{ALL}\nlimits = {{ deadline = \"3s\" }}"));
    let [n1, _] = mesh.nodes();
    let quick = ["name=echo@fabric", "function=nothing", "arguments=[]", "timeout=18446744073709551615"];
    n1.call("caller@fabric", "hurried", &quick).ok();
    let never = ["name=streams@fabric", "function=count-then-yield", "arguments=[3]"];
    let short = [&never[..], &["timeout=50"]].concat();
    let outcome = n1.call("caller@fabric", "hurried", &short);
    assert!(outcome.fails(1, "application-error").contains("deadline: "), "{outcome:?}");
    let started = std::time::Instant::now();
    n1.call("caller@fabric", "call", &never).fails(5, "deadline");
    assert!(started.elapsed() < std::time::Duration::from_secs(10));
}

#[test]
fn circles_end_by_name() {
    let mesh = two(ALL);
    let [n1, _] = mesh.nodes();
    for (to, back) in [("caller@fabric", "caller@fabric"), ("back@fabric", "caller@fabric")] {
        let answer = ask(n1, "bounce", &[&format!("to={to}"), &format!("back={back}")]);
        assert_eq!(answer[0], 8, "{answer}");
        assert!(answer[1].as_str().unwrap().starts_with("too-deep: "), "{answer}");
    }
}

#[test]
fn what_is_not_granted_is_refused() {
    let mesh = two("grants = { invoke = [\"math1@fabric\"], peers = \"read\" }");
    let [n1, _] = mesh.nodes();
    let call = |name: &str| {
        n1.call("caller@fabric", "call", &[&format!("name={name}"), "function=add", "arguments=[3,4]"])
    };
    call("math1@fabric").ok();
    let outcome = call("math2@fabric");
    let message = outcome.fails(1, "application-error");
    assert!(message.contains("missing-grant: skill/caller may not call math2@fabric"), "{message}");

    for (grants, imports, fixes) in [
        (
            "",
            &["midplane:host/peers@0.1.0", "midplane:host/invoke@0.1.0"][..],
            &["grants.peers", "grants.invoke"][..],
        ),
        ("grants = { peers = \"read\" }", &["midplane:host/invoke@0.1.0"], &["grants.invoke = ["]),
        ("grants = { invoke = [\"*\"] }", &["midplane:host/peers@0.1.0"], &["grants.peers = \"read\""]),
    ] {
        let manifest = caller(Manifest::policies(), "caller@fabric", "n1", grants);
        let outcome = mesh.apply_file(&manifest.write(mesh.path("refused.toml")), n1);
        let message = outcome.fails(3, "missing-grant");
        for word in imports.iter().chain(fixes) {
            assert!(message.contains(word), "{word}: {message}");
        }
    }
    for (grants, what) in [
        ("grants = { invoke = [\"a*@fabric\"] }", "is no name, *@domain or *"),
        ("grants = { peers = \"write\" }", "grants.peers is one of read"),
    ] {
        let manifest = caller(Manifest::policies(), "caller@fabric", "n1", grants);
        let outcome = mesh.apply_file(&manifest.write(mesh.path("refused.toml")), n1);
        assert!(outcome.fails(2, "bad-manifest").contains(what), "{outcome:?}");
    }
}

/// `n1` runs a caller that basic peers may call, and secrets that they may not, here and on `n2`, which trusts `n1` fully.
#[test]
fn a_chain_never_gains_rights() {
    let mut mesh = Mesh::of(["n1", "n2"]);
    mesh.admit("basic", &["--trust", "basic"]);
    mesh.admit("trusted", &["--trust", "trusted"]);
    let [n1, n2, basic, trusted] = mesh.nodes();
    n1.start(&[]);
    n2.start(&["--peer", &n1.peer()]);
    let manifest = caller(Manifest::policies(), "caller@fabric", "n1", &format!("{ALL}\nexpose = \"basic\""))
        .skill("skill/math1", "here@fabric", "n1")
        .skill("skill/math1", "there@fabric", "n2");
    let manifest = caller(manifest, "open@fabric", "n2", &format!("{ALL}\nexpose = \"basic\""));
    mesh.apply(&manifest, &[n1, n2]);
    n1.links_to(n2);
    for name in ["there@fabric", "open@fabric"] {
        n1.reaches(name);
    }
    n2.reaches("here@fabric");

    let add = |name: &str| json!({"name": name, "function": "add", "arguments": "[3,4]"});
    // n1's caller calls n2's, which calls what n1 would give n2 but not the basic peer.
    let round = json!({
        "name": "open@fabric", "function": "call",
        "arguments": add("here@fabric").to_string(),
    });
    let (own, hop) = (json!(["7"]), Hop::start(20_000));
    let local = |arguments: &Value| {
        n1.cli(["call", "caller@fabric", "call", &arguments.to_string(), "-o", "json"]).json()
    };
    assert_eq!(local(&add("here@fabric")), own);
    assert_eq!(local(&round), json!(["[\"7\"]"]));

    block_on(async {
        let member = Member::link(trusted, n1).await.unwrap();
        for (arguments, expect) in [(add("here@fabric"), &own), (round.clone(), &json!(["[\"7\"]"]))] {
            assert_eq!(&member.call("caller@fabric", "call", &arguments, &hop).await.unwrap(), expect);
        }
        let member = Member::link(basic, n1).await.unwrap();
        let direct = member.call("here@fabric", "add", &json!([3, 4]), &hop).await.unwrap_err();
        assert_eq!(direct.code, Code::NotAllowed);
        for arguments in [add("here@fabric"), add("there@fabric"), round.clone()] {
            let fault = member.call("caller@fabric", "call", &arguments, &hop).await.unwrap_err();
            assert_eq!(fault.code, Code::Application, "{arguments}: {fault}");
            assert!(fault.what.contains("not-allowed: "), "{arguments}: {fault}");
            assert!(fault.what.contains("is trusted as basic; this needs trusted"), "{fault}");
        }
        // A trusted peer that passes a basic peer's call on, and one that claims depths of its own.
        let member = Member::link(trusted, n1).await.unwrap();
        let lowered = Hop { trust: Trust::Basic, ..hop.clone() };
        let fault = member.call("caller@fabric", "call", &add("here@fabric"), &lowered).await.unwrap_err();
        assert!(fault.what.contains("not-allowed: "), "{fault}");
        for depth in [8, u8::MAX] {
            let deep = Hop { depth, ..hop.clone() };
            let fault = member.call("caller@fabric", "call", &add("here@fabric"), &deep).await.unwrap_err();
            assert!(fault.what.contains("too-deep: "), "{fault}");
        }
    });
}
