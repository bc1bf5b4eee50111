//! A manifest that is given to one node reaches the others by itself.

use midplane::clock;
use midplane::words::hello::Announced;
use midplane_tests::announcer::Announcer;
use midplane_tests::command::component;
use midplane_tests::forge::{self, block_on, mesh_id};
use midplane_tests::member::Member;
use midplane_tests::policies::acting;
use midplane_tests::{Manifest, Mesh, Node, PATIENCE, eventually};
use serde_json::{Value, json};

/// A mesh in which each node dials the one before it, with the policies in force.
fn line<const N: usize>(labels: [&str; N]) -> Mesh {
    let mesh = Mesh::of(labels);
    let nodes = mesh.nodes::<N>();
    nodes[0].start(&[]);
    for pair in nodes.windows(2) {
        pair[1].start(&["--peer", &pair[0].peer()]);
    }
    mesh.apply(&Manifest::policies(), &nodes);
    for pair in nodes.windows(2) {
        pair[1].links_to(pair[0]);
    }
    // Each knows of each: their own names have gone along the line.
    for one in nodes {
        for other in nodes {
            one.reaches(&format!("{}@node", other.id()));
        }
    }
    mesh
}

#[track_caller]
fn comes_to(node: &Node, generation: u64) {
    eventually(PATIENCE, || {
        let status = node.json(["status"]);
        if status["generation"] == generation { Ok(()) } else { Err(status) }
    });
}

/// What a report of `apply` says of a node.
fn state<'a>(report: &'a Value, node: &Node) -> &'a Value {
    let nodes = report["nodes"].as_array().unwrap();
    let id = node.id();
    nodes.iter().find(|one| one["node"] == id.as_str()).unwrap_or_else(|| panic!("no {id}: {report}"))
}

fn events(node: &Node, word: &str) -> Vec<Value> {
    let text = node.cli(["events", "-o", "json"]).ok();
    let all = text.lines().map(|line| serde_json::from_str::<Value>(line).unwrap());
    all.filter(|event| event["event"] == word).collect()
}

fn write(mesh: &Mesh, name: &str, manifest: &Manifest) -> String {
    manifest.write(mesh.path(name)).to_str().unwrap().to_owned()
}

/// A manifest that this node refuses, and no other one.
fn refused_by(label: &str) -> Manifest {
    let more = format!("names = [\"bad@fabric\"]\non = {{ labels = [\"{label}\"] }}");
    Manifest::policies().plugin("skill/bad", "skill", &component("routing/path-vector"), &more)
}

#[test]
fn it_goes_along_a_line_with_what_only_the_end_needs_and_a_node_that_was_away_catches_up() {
    let mesh = line(["n1", "n2", "n3"]);
    let [n1, n2, n3] = mesh.nodes();
    let file = write(&mesh, "next.toml", &Manifest::policies().skill("skill/math1", "math1@fabric", "n3"));
    let saved = mesh.path("next.manifest");
    let saved = saved.to_str().unwrap();
    let report = n1.json(["apply", &file, "--save", saved]);
    assert_eq!((&report["to"], &report["already"]), (&json!(2), &json!(false)));
    for node in [n1, n2, n3] {
        let state = state(&report, node);
        assert_eq!((&state["state"], &state["generation"]), (&json!("applied"), &json!(2)), "{report}");
        assert_eq!(state["label"], node.label());
        assert_eq!(node.json(["status"])["passes-on"], 2);
    }
    // The component was given to the first, and only the last one needed it.
    n3.reaches("math1@fabric");
    assert_eq!(n3.call("math1@fabric", "add", &["x=3", "y=4"]).ok(), "7\n");
    let over = |node: &Node| applied(node, 2)["over"].clone();
    assert_eq!((over(n1), over(n2), over(n3)), (Value::Null, json!(n1.id()), json!(n2.id())));

    // The very same once more is no news and no failure, wherever it is given.
    let history = n3.json(["history"]);
    let text = n3.cli(["apply", saved, "--no-wait"]).ok();
    assert_eq!(text, "generation 2 is in force already\n");
    assert_eq!((n3.json(["history"]), events(n3, "generation-applied").len()), (history, 2));

    // One that is held by a rollback goes on with the next version; one that is away, when it is back. It counts until then.
    n2.cli(["rollback"]).ok();
    n3.stop();
    let next = write(&mesh, "third.toml", &Manifest::policies());
    let away = n1.cli(["apply", &next, "-o", "json"]);
    assert_eq!(away.code, 6, "{away:#?}");
    assert!(away.stderr.contains("partly-done") && away.stderr.contains("1 queued"), "{away:#?}");
    let report: Value = serde_json::from_str(&away.stdout).unwrap();
    assert_eq!(state(&report, n2)["state"], "applied", "{report}");
    assert_eq!(state(&report, n3)["state"], "queued", "{report}");
    assert!(n2.json(["status"])["held-instead-of"].is_null());
    // What they have to pass on outlives those who have it.
    n1.stop();
    n2.kill();
    n2.start(&[]);
    n3.start(&["--peer", &n2.peer()]);
    comes_to(n3, 3);
    assert_eq!(applied(n3, 3)["over"], n2.id());
}

#[test]
fn what_one_node_refuses_the_others_take_and_everybody_can_see_why() {
    let mesh = line(["n1", "n2", "n3"]);
    let [n1, n2, n3] = mesh.nodes();
    let file = write(&mesh, "bad.toml", &refused_by("n3"));
    let outcome = n1.cli(["apply", &file]);
    assert_eq!(outcome.code, 6, "{outcome:#?}");
    assert!(outcome.stdout.starts_with("generation 2 is in force; before it ran 1\n"), "{outcome:#?}");
    let lines: Vec<&str> = outcome.stdout.lines().collect();
    let of = |label: &str| *lines.iter().find(|line| line.contains(&format!("  {label}  "))).unwrap();
    assert!(of("n1").contains("applied") && of("n2").contains("applied"), "{outcome:#?}");
    assert!(of("n3").contains("refused  wrong-world: "), "{outcome:#?}");
    assert!(outcome.stderr.contains("in force on 2 of 3 nodes: 1 refused"), "{outcome:#?}");

    let status = n3.json(["status"]);
    assert_eq!((&status["generation"], &status["floor"]), (&json!(1), &json!(1)));
    let warning = format!("manifest 2 that {} announces is not taken: wrong-world", &n2.id()[..8]);
    assert!(status["warnings"].to_string().contains(&warning), "{status}");
    let peers = n3.json(["peers"]);
    assert_eq!(peers[0]["announces"], 2);
    assert!(peers[0]["refused"].as_str().unwrap().starts_with("wrong-world: "), "{peers}");
    let refused = || events(n3, "manifest-refused");
    let before = refused();
    assert_eq!(before[0]["peer"], n2.id(), "{before:?}");

    // It is looked at again when the peer comes back, and not before; refusals within a second are one event.
    let told = before[0]["at"].as_u64().unwrap();
    eventually(PATIENCE, || if clock::now_ms() > told + 1_000 { Ok(()) } else { Err("it is too soon") });
    n2.kill();
    n2.start(&["--peer", &n1.peer()]);
    eventually(PATIENCE, || {
        let now = refused();
        if now.len() > before.len() { Ok(()) } else { Err(format!("{now:?}")) }
    });

    // The next good one is taken, and nothing is left of it.
    n1.links_to(n2);
    mesh.apply(&Manifest::policies(), &[n1]);
    comes_to(n3, 3);
    let status = n3.json(["status"]);
    assert_eq!(status["warnings"], json!([]), "{status}");
    assert!(n3.json(["peers"])[0]["refused"].is_null());
}

/// The event of a generation, which is told a moment after it is in force.
#[track_caller]
fn applied(node: &Node, version: u64) -> Value {
    eventually(PATIENCE, || match node.last_event("generation-applied") {
        Some(event) if event["to"] == version => Ok(event),
        event => Err(format!("{} tells of no generation {version}: {event:?}", node.label())),
    })
}

/// The policies, with other words for routing.
fn other_routing(mesh: &Mesh, name: &str) -> String {
    let protocol = "protocol = \"path-vector/1\"";
    let text = Manifest::policies().text().replacen(
        protocol,
        &format!("{protocol}\nconfig = {{ pick = \"spread\" }}"),
        1,
    );
    let path = mesh.path(name);
    std::fs::write(&path, text).unwrap();
    path.to_str().unwrap().to_owned()
}

/// Whether it is in force, on probation, and somebody has said that the node can still be reached.
#[track_caller]
fn is_confirmed(node: &Node, generation: u64) {
    eventually(PATIENCE, || {
        let status = node.json(["status"]);
        let waits = status["probation"]["confirm"] == true;
        if status["generation"] == generation && !waits { Ok(()) } else { Err(status.to_string()) }
    });
}

#[test]
fn nodes_confirm_to_each_other_that_a_change_of_routing_leaves_them_within_reach() {
    let mesh = line(["n1", "n2", "n3"]);
    let [n1, n2, n3] = mesh.nodes();
    n3.stop();
    let file = other_routing(&mesh, "routing.toml");
    // Nobody but the first is confirmed by the command line, and that one does not even wait.
    n1.cli(["apply", &file, "--no-wait"]).ok();
    for node in [n1, n2] {
        is_confirmed(node, 2);
    }
    n3.start(&["--peer", &n2.peer()]);
    is_confirmed(n3, 2);

    // One with which a node tells nobody of itself reaches it and does not stay; and is not passed on by it.
    let bad = mesh.path("routing.wasm");
    std::fs::write(&bad, acting(&[])).unwrap();
    let protocol = "protocol = \"path-vector/1\"";
    let on = |labels: &str| format!("{protocol}\non = {{ labels = [{labels}] }}");
    let manifest = Manifest::empty()
        .plugin("discovery", "discovery", &component("discovery/static"), "")
        .plugin("admission", "admission", &component("admission/basic"), "")
        .plugin("routing", "routing", &component("routing/path-vector"), &on("\"n1\", \"n2\""))
        .plugin("routing", "routing", &bad, &on("\"n3\""))
        .probation("15s");
    mesh.apply(&manifest, &[n1]);
    let event = n3.tells("generation-returned");
    assert_eq!((&event["from"], &event["to"]), (&json!(3), &json!(1)), "{event}");
    assert!(event["why"].as_str().unwrap().starts_with("not-confirmed"), "{event}");
    let status = n3.json(["status"]);
    assert_eq!((&status["held-instead-of"], &status["passes-on"]), (&json!(3), &json!(2)), "{status}");
    // Whoever asks how far it has come is told so, as soon as it can be reached again.
    let report = eventually(PATIENCE, || {
        let outcome = n1.cli(["apply", mesh.path("manifest.signed").to_str().unwrap(), "-o", "json"]);
        let report: Value = serde_json::from_str(&outcome.stdout).unwrap_or_default();
        let returned = outcome.code == 6 && state(&report, n3)["state"] == "returned";
        if returned { Ok(report) } else { Err(format!("{outcome:#?}")) }
    });
    assert_eq!(report["already"], true, "{report}");
    assert!(state(&report, n3)["why"].as_str().unwrap().contains("not-confirmed"), "{report}");
}

#[test]
fn two_manifests_of_one_version_are_seen_and_the_next_version_heals_it() {
    let mesh = line(["n1", "n2"]);
    let [n1, n2] = mesh.nodes();
    // Each is given another one while the other is away.
    let apply = |node: &Node, name: &str, manifest: &Manifest| {
        let file = write(&mesh, name, manifest);
        let key = mesh.operator_key();
        node.cli(["apply", &file, "--no-wait", "--key", key.to_str().unwrap()]).ok();
    };
    n1.stop();
    apply(n2, "two.toml", &Manifest::policies().skill("skill/math2", "math2@fabric", "n2"));
    n2.stop();
    n1.start(&[]);
    apply(n1, "one.toml", &Manifest::policies().skill("skill/math1", "math1@fabric", "n1"));
    n2.start(&["--peer", &n1.peer()]);
    let fork = |node: &Node| {
        eventually(PATIENCE, || {
            let status = node.json(["status"]);
            if status["forks"].is_array() { Ok(status) } else { Err(status) }
        })
    };
    let (one, two) = (fork(n1), fork(n2));
    let (ours, theirs) = (&one["forks"][0], &two["forks"][0]);
    assert_eq!((&ours["version"], &ours["peer"]), (&json!(2), &json!(n2.id())));
    assert_eq!((&theirs["version"], &theirs["peer"]), (&json!(2), &json!(n1.id())));
    assert_eq!((&ours["ours"], &ours["theirs"]), (&theirs["theirs"], &theirs["ours"]));
    let keys = n1.json(["key", "show"]);
    let operator = keys.as_array().unwrap().iter().find(|key| key["role"] == "operator").unwrap();
    assert_eq!(ours["their-signers"], json!([operator["id"]]));
    assert!(n1.cli(["status"]).ok().contains("warning     manifest 2 is a fork: here is "));
    assert_eq!(events(n1, "fork").len(), 1);
    // Neither moved.
    for (status, plugin, node) in [(one, "skill/math1", n1), (two, "skill/math2", n2)] {
        assert_eq!(status["generation"], 2);
        assert!(node.json(["plugins"]).to_string().contains(plugin));
    }
    // A restart finds it again.
    n2.kill();
    n2.start(&["--peer", &n1.peer()]);
    fork(n2);
    let file = write(&mesh, "third.toml", &Manifest::policies());
    n1.links_to(n2);
    n1.cli(["apply", &file]).ok();
    for node in [n1, n2] {
        let status = node.json(["status"]);
        assert_eq!((&status["generation"], &status["forks"]), (&json!(3), &Value::Null), "{status}");
        assert_eq!(status["warnings"], json!([]));
    }
}

#[test]
fn a_member_that_announces_what_it_does_not_have_is_heard_rarely_and_changes_nothing() {
    let mut mesh = Mesh::of(["n1", "n2"]);
    mesh.admit("basic", &["--trust", "basic"]);
    let [n1, n2, basic] = mesh.nodes();
    n1.start(&[]);
    mesh.apply(&Manifest::policies(), &[n1]);
    let before = n1.json(["history"]);

    // Bytes that nobody signed, under a name that is theirs: the signature decides. The same bytes under other names: the digest.
    let made_up = b"a manifest of nobody".to_vec();
    let mut announcer = Announcer::start(n2, n1, made_up.clone());
    let digest = forge::blob(&made_up).digest;
    announcer.announce(Announced { version: 9, digest });
    let first = n1.tells("manifest-refused");
    assert!(first["why"].as_str().unwrap().starts_with("bad-object: "), "{first}");
    let mut announce = |version: u64| {
        let digest = forge::blob(&version.to_be_bytes()).digest;
        announcer.announce(Announced { version, digest });
    };
    (10..200).for_each(&mut announce);
    let mut version = 200;
    let later = eventually(PATIENCE, || {
        // Refusals of one peer within a second are one event: the next look tells.
        announce(version);
        version += 1;
        let events = events(n1, "manifest-refused");
        if events.len() >= 2 { Ok(events) } else { Err(format!("{events:?}")) }
    });
    assert!(later[1]["why"].as_str().unwrap().starts_with("digest-mismatch: "), "{later:?}");
    assert!(announcer.asked() < 20, "asked {} times", announcer.asked());
    // A manifest that was rightly signed once is no fork and no news under another number.
    assert_eq!(n1.json(["history"]), before);
    assert!(n1.json(["status"])["forks"].is_null());
    // And its peers can still be given a good one.
    mesh.apply(&Manifest::policies(), &[n1]);
    assert_eq!(n1.json(["status"])["generation"], 2);
    drop(announcer);

    // What is announced is given to whoever is trusted, and nothing else is; below that nobody is asked either.
    let kept = std::fs::read(n1.directory().join("generations/2.manifest")).unwrap();
    let earlier = std::fs::read(n1.directory().join("generations/1.manifest")).unwrap();
    let ask = |node: &Node, bytes: &[u8]| {
        block_on(async { Member::link(node, n1).await?.manifest(forge::blob(bytes).digest).await })
    };
    assert_eq!(ask(n2, &kept).unwrap(), kept);
    assert_eq!(ask(n2, &earlier).unwrap_err().code.as_str(), "not-found");
    assert_eq!(ask(basic, &kept).unwrap_err().code.as_str(), "not-allowed");
    let good = forge::sign(&forge::object(&Manifest::policies(), mesh_id(n1), 7), &mesh.operator_key());
    let mut low = Announcer::start(basic, n1, good.clone());
    low.announce(Announced { version: 7, digest: forge::blob(&good).digest });
    // The same from somebody who is trusted is taken, so it is not the manifest.
    let mut high = Announcer::start(n2, n1, good.clone());
    n1.links_to(basic);
    high.announce(Announced { version: 7, digest: forge::blob(&good).digest });
    comes_to(n1, 7);
    assert_eq!((low.asked(), high.asked()), (0, 1));
    assert_eq!(applied(n1, 7)["over"], n2.id());
}
