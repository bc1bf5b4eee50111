//! Datasets: the same on every node, and nothing that was acknowledged is lost.

use std::io::{BufRead, BufReader};
use std::process::Stdio;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use midplane_tests::forge::block_on;
use midplane_tests::process::Process;
use midplane_tests::relay::Relay;
use midplane_tests::sim::Random;
use midplane_tests::wait::number;
use midplane_tests::{Manifest, Mesh, Node, PATIENCE, datasets, eventually};
use serde_json::{Value, json};

fn config() -> Manifest {
    Manifest::policies().sync(&["config"], "")
}

#[track_caller]
fn put(node: &Node, key: &str, value: &str) {
    node.cli(["dataset", "put", "config", key, value]).ok();
}

/// What a node has under a key; none when it has nothing.
#[track_caller]
fn get(node: &Node, key: &str) -> Option<String> {
    let outcome = node.cli(["dataset", "get", "config", key]);
    match outcome.code {
        0 => Some(outcome.stdout),
        _ => {
            outcome.fails(4, "not-found");
            None
        }
    }
}

/// Waits until a node has this under a key.
#[track_caller]
fn gets(node: &Node, key: &str, expect: Option<&str>) {
    eventually(PATIENCE, || match get(node, key) {
        found if found.as_deref() == expect => Ok(()),
        found => Err(format!("{} has {found:?} in {key}, not {expect:?}", node.label())),
    });
}

/// A number of `dataset ls` for the dataset `config`.
#[track_caller]
fn count(node: &Node, what: &str) -> u64 {
    let all = node.json(["dataset", "ls"]);
    let of = all.as_array().unwrap().iter().find(|one| one["dataset"] == "config");
    of.unwrap_or_else(|| panic!("no config in {all}"))[what].as_u64().unwrap()
}

#[test]
fn a_change_is_on_all_nodes_of_a_line() {
    let mesh = Mesh::of(["n1", "n2", "n3"]);
    let [n1, n2, n3] = mesh.nodes();
    n2.start(&[]);
    n1.start(&["--peer", &n2.peer()]);
    n3.start(&["--peer", &n2.peer()]);
    mesh.apply(&config(), &[n1, n2, n3]);
    put(n1, "before", "the links");
    for (from, to) in [(n1, n2), (n3, n2)] {
        from.links_to(to);
        to.links_to(from);
    }
    gets(n3, "before", Some("the links"));
    let mut watch = n3.command(["-v", "-o", "json", "dataset", "watch", "config", "m"]);
    let mut watch = Process::spawn(watch.stdout(Stdio::piped()).stderr(Stdio::piped()));
    let (stdout, stderr) = (watch.child().stdout.take().unwrap(), watch.child().stderr.take().unwrap());
    let mut said = String::new();
    BufReader::new(stderr).read_line(&mut said).unwrap();
    assert_eq!(said, "watching config\n");
    let mut changes = BufReader::new(stdout).lines();
    let mut next = || serde_json::from_str::<Value>(&changes.next().unwrap().unwrap()).unwrap();

    put(n1, "a key that nobody watches", "x");
    put(n1, "motd", "hello");
    assert_eq!(next(), json!({ "dataset": "config", "key": "motd", "removed": false, "value": "hello" }));
    gets(n3, "motd", Some("hello"));
    put(n3, "motd", "hello yourself");
    assert_eq!(next()["value"], "hello yourself");
    gets(n1, "motd", Some("hello yourself"));
    n2.cli(["dataset", "rm", "config", "motd"]).ok();
    assert_eq!(next(), json!({ "dataset": "config", "key": "motd", "removed": true }));
    for node in [n1, n2, n3] {
        gets(node, "motd", None);
        let keys = node.json(["dataset", "ls", "config"]);
        let expect =
            json!([{ "key": "a key that nobody watches", "bytes": 1 }, { "key": "before", "bytes": 9 }]);
        assert_eq!(keys, expect);
        assert_eq!(node.json(["dataset", "ls", "config", "b"]).as_array().unwrap().len(), 1);
        assert_eq!((count(node, "entries"), count(node, "removed"), count(node, "conflicts")), (2, 1, 0));
        let status = node.json(["status"]);
        assert_eq!((&status["entries"], &status["conflicts"]), (&json!(2), &json!(0)));
    }
    // Nobody knew less than it wrote over.
    let plugins = n1.json(["plugins"]);
    let sync = plugins.as_array().unwrap().iter().find(|plugin| plugin["kind"] == "sync").unwrap();
    assert_eq!(sync["datasets"][0]["entries"], 2);
}

#[test]
fn values_are_any_bytes_from_anywhere() {
    let mesh = Mesh::of(["n1"]);
    let [n1] = mesh.nodes();
    n1.start(&[]);
    mesh.apply(&config(), &[n1]);
    let (file, bytes) = (mesh.path("value"), [&b"\0\xff\n"[..], &[7; 32_765]].concat());
    std::fs::write(&file, &bytes).unwrap();
    n1.cli(["dataset", "put", "config", "file", "-f", file.to_str().unwrap()]).ok();
    let read = |key: &str| {
        let output = n1.command(["dataset", "get", "config", key]).output().unwrap();
        assert!(output.status.success(), "{output:?}");
        output.stdout
    };
    assert_eq!(read("file"), bytes);
    let json = n1.json(["dataset", "get", "config", "file"]);
    assert!(json["base64"].as_str().unwrap().starts_with("AP8KBwcH"), "{json}");
    assert_eq!((&json["bytes"], &json["value"]), (&json!(32_768), &Value::Null));
    let mut piped = n1.command(["dataset", "put", "config", "a/b c", "-"]);
    piped.stdin(std::fs::File::open(&file).unwrap());
    midplane_tests::command::run(&mut piped, PATIENCE).ok();
    assert_eq!(read("a/b c"), bytes);
    n1.cli(["dataset", "put", "config", "empty", ""]).ok();
    n1.cli(["dataset", "put", "config", "-x", "-y"]).fails(2, "error");
    n1.cli(["dataset", "put", "config", "negative", "-1"]).ok();
    assert_eq!((read("empty"), read("negative")), (vec![], b"-1".to_vec()));
}

#[test]
fn both_sides_of_a_cut_go_on_and_agree_afterwards() {
    let mesh = Mesh::of(["n1", "n2"]);
    let [n1, n2] = mesh.nodes();
    let wire = Relay::to(n2.address());
    n2.start(&[]);
    n1.start(&["--peer", &format!("{}@{}", n2.id(), wire.address)]);
    mesh.apply(&config(), &[n1, n2]);
    for key in ["shared", "removed", "calm"] {
        put(n1, key, "before");
        gets(n2, key, Some("before"));
    }
    wire.cut();
    put(n1, "shared", "of n1");
    n1.cli(["dataset", "rm", "config", "removed"]).ok();
    put(n2, "of n2", "alone");
    put(n2, "shared", "of n2");
    for node in [n1, n2] {
        eventually(PATIENCE, || {
            let links = &node.json(["status"])["links"];
            if links == 0 { Ok(()) } else { Err(format!("{} has {links} links", node.label())) }
        });
    }
    put(n1, "of n1", "alone");
    assert_eq!((get(n1, "shared"), get(n2, "shared")), (Some("of n1".into()), Some("of n2".into())));
    assert_eq!(get(n2, "removed").as_deref(), Some("before"));
    wire.heal();
    for node in [n1, n2] {
        // The later one, written by the same machine's clock.
        gets(node, "shared", Some("of n2"));
        gets(node, "removed", None);
        gets(node, "of n1", Some("alone"));
        gets(node, "of n2", Some("alone"));
        gets(node, "calm", Some("before"));
    }
    assert_eq!(count(n1, "conflicts") + count(n2, "conflicts"), 1);
    let said = n1.cli(["logs", "sync"]).ok() + &n2.cli(["logs", "sync"]).ok();
    assert!(said.contains("config/shared: what"), "{said}");
}

#[test]
fn what_was_acknowledged_is_there_after_a_stop_and_a_power_failure() {
    let mesh = Mesh::of(["n1", "n2"]);
    let [n1, n2] = mesh.nodes();
    n1.start(&[]);
    n2.start(&["--peer", &n1.peer()]);
    mesh.apply(&config(), &[n1, n2]);
    put(n1, "kept", "value");
    put(n1, "removed", "value");
    gets(n2, "removed", Some("value"));
    n2.stop();
    // While one is away an entry is removed, and the one that remembers the removal loses its power.
    n1.cli(["dataset", "rm", "config", "removed"]).ok();
    n1.kill();
    n1.start(&[]);
    assert_eq!((get(n1, "kept").as_deref(), get(n1, "removed")), (Some("value"), None));
    n2.start(&["--peer", &n1.peer()]);
    gets(n2, "removed", None);
    put(n1, "after", "value");
    gets(n2, "after", Some("value"));
    assert_eq!(get(n1, "removed"), None);
    n1.stop();
    n1.start(&[]);
    assert_eq!(count(n1, "entries"), 2);
}

#[test]
fn nothing_that_was_acknowledged_is_lost_when_the_node_is_killed_while_it_writes() {
    const KILLS: u64 = 15;
    const WRITERS: usize = 4;
    let mesh = Mesh::of(["n1"]);
    let [n1] = mesh.nodes();
    n1.start(&[]);
    mesh.apply(&config(), &[n1]);
    let mut random = Random(u64::from(std::process::id()));
    let mut kept: Vec<String> = Vec::new();
    let kills = number("MIDPLANE_KILLS").unwrap_or(KILLS) as usize;
    for kill in 0..kills {
        let (over, begun) = (AtomicBool::new(false), AtomicUsize::new(0));
        // Each writes until the node is gone.
        let write = |writer: usize| {
            let mut acknowledged = Vec::new();
            for number in 0.. {
                let key = format!("{kill}/{writer}/{number}");
                begun.fetch_add(1, Ordering::Relaxed);
                match block_on(datasets::put(n1, "config", &key, key.as_bytes())) {
                    Ok(()) => acknowledged.push(key),
                    Err(_) if over.load(Ordering::Relaxed) => break,
                    Err(fault) => panic!("{fault}"),
                }
            }
            acknowledged
        };
        let enough = 5 + random.below(40);
        let acknowledged = std::thread::scope(|scope| {
            let write = &write;
            let writers: Vec<_> = (0..WRITERS).map(|writer| scope.spawn(move || write(writer))).collect();
            eventually(PATIENCE, || match begun.load(Ordering::Relaxed) {
                begun if begun >= enough => Ok(()),
                begun => Err(format!("only {begun} writes begun")),
            });
            std::thread::sleep(Duration::from_micros(random.below(5_000) as u64));
            over.store(true, Ordering::Relaxed);
            n1.kill();
            writers.into_iter().flat_map(|writer| writer.join().unwrap()).collect::<Vec<_>>()
        });
        kept.extend(acknowledged);
        n1.start(&[]);
        for key in &kept {
            let value = block_on(datasets::get(n1, "config", key));
            assert_eq!(value.as_deref(), Ok(key.as_bytes()), "{key} after kill {kill}");
        }
    }
    assert!(kept.len() >= kills * 5 - kills * WRITERS, "only {} writes were acknowledged", kept.len());
    // What is listed is what can be read: nothing is half there.
    let listed = n1.json(["dataset", "ls", "config"]);
    assert!(listed.as_array().unwrap().len() >= kept.len());
}

#[test]
fn a_peer_that_is_trusted_less_gets_nothing_and_brings_nothing() {
    let mut mesh = Mesh::of(["n1", "n2"]);
    mesh.admit("n3", &["--trust", "basic"]);
    let [n1, n2, n3] = mesh.nodes();
    n1.start(&[]);
    n2.start(&["--peer", &n1.peer()]);
    n3.start(&["--peer", &n1.peer()]);
    mesh.apply(&config(), &[n1, n2, n3]);
    for node in [n2, n3] {
        node.links_to(n1);
        n1.links_to(node);
    }
    put(n3, "from basic", "value");
    for round in 0..5 {
        // What n2 gets, n3 would have been sent at the same time.
        let key = format!("secret {round}");
        put(n1, &key, "value");
        gets(n2, &key, Some("value"));
        assert_eq!(get(n3, &key), None);
        assert_eq!((get(n1, "from basic"), get(n2, "from basic")), (None, None));
    }
    assert_eq!((count(n3, "entries"), count(n1, "entries")), (1, 5));
}

#[test]
fn what_cannot_be_is_said_clearly() {
    let mesh = Mesh::of(["n1"]);
    let [n1] = mesh.nodes();
    n1.cli(["dataset", "ls"]).fails(5, "not-running");
    n1.start(&[]);
    mesh.apply(&Manifest::policies(), &[n1]);
    for command in [&["get", "config", "k"][..], &["put", "config", "k", "v"], &["watch", "config"]] {
        let outcome = n1.cli(["dataset"].iter().chain(command));
        let said = outcome.fails(4, "not-found");
        assert!(said.contains("no sync plugin runs") && said.contains("kind \"sync\""), "{said}");
    }
    assert_eq!(n1.json(["dataset", "ls"]), json!([]));
    mesh.apply(&config(), &[n1]);
    let large = mesh.path("large");
    std::fs::write(&large, vec![b'x'; 32_769]).unwrap();
    let (large, long) = (large.to_str().unwrap(), "k".repeat(257));
    for (command, code, word, says) in [
        (&["put", "confg", "k", "v"][..], 4, "not-found", "one of config"),
        (&["rm", "confg", "k"], 4, "not-found", "one of config"),
        (&["ls", "confg"], 4, "not-found", "one of config"),
        (&["put", "config", "k", "-f", large], 2, "too-large", "32768 bytes"),
        (&["put", "config", "k", "-f", "/nowhere"], 4, "not-found", "/nowhere"),
        (&["put", "config", "", "v"], 2, "usage", "1 to 256 bytes"),
        (&["put", "config", &long, "v"], 2, "usage", "1 to 256 bytes"),
        (&["put", "config", "a\nb", "v"], 2, "usage", "not a key"),
        (&["get", "config", "k"], 4, "not-found", "dataset ls config"),
        (&["rm", "config", "k"], 4, "not-found", "k is not in dataset config"),
    ] {
        let outcome = n1.cli(["dataset"].iter().chain(command));
        let said = outcome.fails(code, word);
        assert!(said.contains(says), "{said}");
    }
    assert_eq!(
        block_on(datasets::put(n1, "config", "k", &[0; 32_769])).unwrap_err().code.as_str(),
        "too-large"
    );
    put(n1, "one", "1");
    let outcome = n1.cli(["dataset", "rm", "config", "one", "two"]);
    assert!(outcome.fails(6, "partly-done").contains("1 of 2 keys"), "{outcome:?}");
    assert_eq!(count(n1, "entries"), 0);
    for (manifest, says) in [
        (Manifest::empty().sync(&[], ""), "needs at least one dataset"),
        (Manifest::empty().sync(&["a b"], ""), "no dataset"),
        (Manifest::empty().sync(&["a"], "names = [\"a@b\"]"), "serves no names"),
        (Manifest::empty().sync(&["a"], "config = { keep-removed = \"1s\" }"), "keep-removed is a time"),
    ] {
        let outcome = mesh.apply_file(&manifest.write(mesh.path("bad.toml")), n1);
        assert!(outcome.code != 0 && outcome.stderr.contains(says), "{outcome:?}");
    }
    put(n1, "still", "here");
}

#[test]
fn a_new_manifest_keeps_entries_and_brings_datasets() {
    let mesh = Mesh::of(["n1", "n2"]);
    let [n1, n2] = mesh.nodes();
    n1.start(&[]);
    n2.start(&["--peer", &n1.peer()]);
    mesh.apply(&config(), &[n1, n2]);
    put(n1, "k", "value");
    gets(n2, "k", Some("value"));
    let notes = |on: &str| {
        Manifest::policies()
            .sync(&["config", "notes"], &format!("config = {{ keep-removed = \"1h\" }}\n{on}"))
    };
    mesh.apply(&notes("on = { labels = [\"n1\"] }").sync(&["config"], "on = { labels = [\"n2\"] }"), &[n1]);
    let more = notes("");
    n1.cli(["dataset", "put", "notes", "n", "written"]).ok();
    put(n1, "k", "newer");
    gets(n2, "k", Some("newer"));
    // n2 does not have that dataset yet, and gets it whole when it does.
    n2.cli(["dataset", "get", "notes", "n"]).fails(4, "not-found");
    mesh.apply(&more, &[n2]);
    eventually(PATIENCE, || match n2.cli(["dataset", "get", "notes", "n"]) {
        outcome if outcome.code == 0 && outcome.stdout == "written" => Ok(()),
        outcome => Err(outcome.stderr),
    });
    // Without the plugin nothing can be read; with it everything is there again.
    mesh.apply(&Manifest::policies(), &[n1]);
    n1.cli(["dataset", "get", "config", "k"]).fails(4, "not-found");
    mesh.apply(&more, &[n1]);
    assert_eq!(get(n1, "k").as_deref(), Some("newer"));
}
