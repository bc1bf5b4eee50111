//! Gateways over HTTP: what a client sees of them, both versions of `wasi:http`, bodies, swaps, and what goes wrong in a guest.

use std::io::{Read, Write};
use std::net::SocketAddr;
use std::time::Duration;

use midplane_tests::command::component;
use midplane_tests::http::{self, Answer, Client};
use midplane_tests::{Manifest, Mesh, Node, eventually};

/// A body that fits into no buffer on its way.
const LARGE: usize = 8 << 20;

fn probe(name: &str, mount: &str, more: &str) -> Manifest {
    gateway(Manifest::empty(), name, mount, more)
}

fn gateway(manifest: Manifest, name: &str, mount: &str, more: &str) -> Manifest {
    let path = component(&format!("test/gateway/{name}"));
    let more = format!("mount = \"{mount}\"\n{more}");
    manifest.plugin(&format!("gateway/{name}"), "gateway", &path, &more)
}

fn start(mesh: &Mesh, manifest: &Manifest) -> SocketAddr {
    let [node] = mesh.nodes();
    node.start(&["--http", &format!("{}:0", node.address().ip())]);
    mesh.apply(manifest, &[node]);
    http::address(node)
}

fn logged(node: &Node, text: &str) {
    eventually(Duration::from_secs(20), || {
        let lines = node.cli(["logs", "-n", "200"]).ok();
        if lines.contains(text) { Ok(()) } else { Err(format!("no {text:?} in {lines}")) }
    });
}

#[test]
fn the_manifest_of_the_readme_greets_in_both_versions() {
    let mesh = Mesh::of(["n1"]);
    let [node] = mesh.nodes();
    node.start(&["--http", &format!("{}:0", node.address().ip())]);
    mesh.apply_file(&midplane_tests::root().join("manifests/gateway.toml"), node).ok();
    let address = http::address(node);
    assert!(node.said().contains(&format!("gateways answer on http://{address}")), "{}", node.said());
    let mut client = Client::to(address);
    for (path, expect) in [
        ("/hello", "hello, world\n"),
        ("/hello?name=ada", "hello, ada\n"),
        ("/hello/below?name=ada", "hello, ada\n"),
        ("/hello-p3", "hello, world\n"),
        ("/hello-p3?name=ada", "hello, ada\n"),
    ] {
        let answer = client.get(path);
        assert_eq!((answer.status, answer.text().as_str()), (200, expect), "{path}");
        assert!(answer.head.contains("content-type: text/plain"), "{answer:?}");
    }
    let nothing = client.get("/nothing");
    assert_eq!((nothing.status, &nothing.json()["code"]), (404, &"not-found".into()));
    client.send(b"GET /nothing HTTP/1.1\r\nHost: a\r\nAccept: text/plain\r\n\r\n");
    assert!(client.answer().text().starts_with("not-found: nothing is mounted here\n  fix: "));
    let plugins = node.json(["plugins"]);
    assert_eq!((&plugins[0]["kind"], &plugins[0]["mount"]), (&"gateway".into(), &"/hello".into()));
    assert_eq!(plugins[0]["served"], 3);
    let inspected = node.json(["inspect", "gateway/hello-p3"]);
    assert_eq!((&inspected["kind"], &inspected["engine"]), (&"gateway".into(), &"concurrent".into()));
}

#[test]
fn bodies_stream_both_ways_and_heads_arrive_as_they_were_sent() {
    let mesh = Mesh::of(["n1"]);
    let manifest = probe("probe", "/p2", "");
    let address = start(&mesh, &gateway(manifest, "probe-p3", "/p3", ""));
    for mount in ["p2", "p3"] {
        echoes_before_it_has_everything(address, mount);
        let mut client = Client::to(address);
        client.send(
            format!(
                "PUT /{mount}/head?q=%20x&y=[1] HTTP/1.1\r\nHost: some.example:81\r\nX-One: 1\r\nx-two: a, b\r\n\
                 X-Two: \u{e4}\r\nCookie: a=b\r\nConnection: keep-alive\r\nContent-Length: 0\r\n\r\n"
            )
            .as_bytes(),
        );
        let text = client.answer().text();
        let first = text.lines().next().unwrap().to_ascii_lowercase();
        assert!(first.contains("put") && first.contains("some.example:81"), "{text}");
        assert!(first.ends_with(&format!("/{mount}/head?q=%20x&y=[1]")), "{text}");
        for line in ["x-one: 1", "x-two: a, b", "cookie: a=b", "x-two: "] {
            assert!(text.lines().any(|found| found.starts_with(line)), "{line} in {text}");
        }
        // What belongs to the connection is not the guest's.
        assert!(!text.contains("\nconnection:") && !text.contains("\nhost:"), "{text}");
    }
}

/// Sends a large body in pieces of changing size and reads it back meanwhile.
fn echoes_before_it_has_everything(address: SocketAddr, mount: &str) {
    let mut client = Client::to(address);
    client.send(
        format!("POST /{mount}/echo HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nfirst\r\n")
            .as_bytes(),
    );
    // The head and the first piece come back while the rest is not even written.
    let mut begin = Vec::new();
    while !begin.ends_with(b"5\r\nfirst\r\n") {
        let mut byte = [0];
        assert_eq!(client.stream().read(&mut byte).unwrap(), 1, "{begin:?}");
        begin.push(byte[0]);
    }
    let expect: Vec<u8> = (0..LARGE).map(|at| ((at * 31) >> 7) as u8).collect();
    let mut writer = client.stream().try_clone().unwrap();
    let sent = expect.clone();
    let writing = std::thread::spawn(move || {
        let mut rest = &sent[..];
        for size in (1..).map(|turn| turn * 977 % 40_000 + 1) {
            let (piece, after) = rest.split_at(size.min(rest.len()));
            writer.write_all(format!("{:x}\r\n", piece.len()).as_bytes()).unwrap();
            writer.write_all(piece).unwrap();
            writer.write_all(b"\r\n").unwrap();
            rest = after;
            if rest.is_empty() {
                writer.write_all(b"0\r\n\r\n").unwrap();
                return;
            }
        }
    });
    // The rest of the answer is chunks only; a head of one's own makes it one that can be read.
    let mut echoed = Vec::new();
    let mut raw = client.stream().try_clone().unwrap();
    let mut pending = Vec::new();
    loop {
        let Some(at) = pending.windows(2).position(|window| window == b"\r\n") else {
            read_more(&mut raw, &mut pending);
            continue;
        };
        let size = usize::from_str_radix(std::str::from_utf8(&pending[..at]).unwrap(), 16).unwrap();
        while pending.len() < at + 2 + size + 2 {
            read_more(&mut raw, &mut pending);
        }
        echoed.extend_from_slice(&pending[at + 2..at + 2 + size]);
        pending.drain(..at + 2 + size + 2);
        if size == 0 {
            break;
        }
    }
    writing.join().unwrap();
    assert!(echoed == expect, "{} bytes of {} came back", echoed.len(), expect.len());
}

fn read_more(raw: &mut std::net::TcpStream, pending: &mut Vec<u8>) {
    let mut bytes = [0; 64 << 10];
    let length = raw.read(&mut bytes).unwrap();
    assert!(length > 0, "the answer breaks off");
    pending.extend_from_slice(&bytes[..length]);
}

#[test]
fn a_guest_that_fails_is_an_answer_without_its_secrets_and_the_node_goes_on() {
    let mesh = Mesh::of(["n1"]);
    let manifest = probe("probe", "/p2", "limits = { concurrency = 4, host-bytes = \"96KiB\" }");
    let hurried = "mount = \"/hurried\"\nlimits = { deadline = \"700ms\" }";
    let manifest = manifest.plugin("gateway/hurried", "gateway", &component("test/gateway/probe"), hurried);
    let address = start(&mesh, &gateway(manifest, "probe-p3", "/p3", ""));
    let [node] = mesh.nodes();
    for (path, status, code) in [
        ("/p2/trap", 500, "trap"),
        ("/p3/trap", 500, "trap"),
        ("/p2/silent", 500, "trap"),
        ("/hurried/spin", 504, "deadline"),
        ("/p2/error", 502, "application-error"),
        ("/p3/error", 502, "application-error"),
    ] {
        let answer = Client::to(address).get(path);
        assert_eq!((answer.status, &answer.json()["code"]), (status, &code.into()), "{path}: {answer:?}");
        assert!(!answer.text().contains("secret") && !answer.text().contains("gateway/"), "{answer:?}");
        assert_eq!(Client::to(address).get("/p2/status").status, 418, "after {path}");
    }
    logged(node, "gateway/probe handle trapped: unreachable code reached");
    logged(node, "gateway/hurried handle was ended by its limit: the deadline of 700 ms");
    logged(node, "gateway/probe-p3 answered with the error");
    for mount in ["p2", "p3"] {
        let request = format!("GET /{mount}/half HTTP/1.1\r\nHost: a\r\n\r\n");
        let half = Client::to(address).send(request.as_bytes()).try_answer();
        // It may not have been on its way when the guest trapped, or not have left; whole it is not.
        assert!(half.as_ref().is_none_or(|half| half.status == 500 || !half.whole), "{half:?}");
    }
    // An answer that never ends is cut off at the bytes that it may have.
    let endless = Client::to(address).get("/p2/endless");
    assert!(!endless.whole && endless.body.len() <= 96 << 10, "{} bytes", endless.body.len());
    logged(node, "an answer was cut off at limits.host-bytes = 98304");
    // So are requests.
    let large = format!("POST /p2/echo HTTP/1.1\r\nHost: a\r\nContent-Length: {}\r\n\r\n", 97 << 10);
    let refused = Client::to(address).send(large.as_bytes()).answer();
    assert_eq!((refused.status, &refused.json()["code"]), (413, &"too-large".into()));
}

#[test]
fn an_answer_that_a_guest_leaves_open_breaks_off_and_its_instance_is_not_used_again() {
    for instances in ["fresh", "reuse 100", "singleton"] {
        let mesh = Mesh::of(["n1"]);
        let address = start(&mesh, &probe("probe", "/p2", &format!("instances = \"{instances}\"")));
        let [node] = mesh.nodes();
        for path in ["open", "open-long"] {
            let request = format!("GET /p2/{path} HTTP/1.1\r\nHost: a\r\n\r\n");
            let open = Client::to(address).send(request.as_bytes()).try_answer();
            // As long as nothing has left it can be an error; afterwards it breaks off.
            let ended = |open: &Answer| match open.status {
                500 => open.json()["code"] == "trap",
                _ => !open.whole,
            };
            assert!(open.as_ref().is_none_or(ended), "{instances}: {open:?}");
        }
        logged(node, "gateway/probe returned before its answer was whole");
        assert_eq!(Client::to(address).get("/p2/status").text(), "short and stout");
    }
}

#[test]
fn one_request_more_than_there_are_places_is_told_to_come_back() {
    let mesh = Mesh::of(["n1"]);
    let address = start(&mesh, &probe("probe", "/p2", "limits = { concurrency = 2, deadline = \"long\" }"));
    let mut holders: Vec<Client> = (0..2).map(|_| Client::to(address)).collect();
    for holder in &mut holders {
        holder.send(b"POST /p2/echo HTTP/1.1\r\nHost: a\r\nContent-Length: 9\r\n\r\nhold").sees(b"hold");
    }
    let busy = Client::to(address).get("/p2/status");
    assert_eq!(busy.status, 503, "{busy:?}");
    assert!(busy.head.contains("retry-after: 1") && busy.json()["code"] == "busy", "{busy:?}");
    for holder in &mut holders {
        let answer = holder.send(b" this").answer();
        assert_eq!((answer.status, answer.text().as_str()), (200, "hold this"));
    }
    eventually(Duration::from_secs(20), || {
        let answer = Client::to(address).get("/p2/status");
        if answer.status == 418 { Ok(()) } else { Err(format!("{answer:?}")) }
    });
    // A client that goes away takes its guest with it.
    for _ in 0..2 {
        Client::to(address)
            .send(b"POST /p2/echo HTTP/1.1\r\nHost: a\r\nContent-Length: 9\r\n\r\nhold")
            .sees(b"hold");
    }
    eventually(Duration::from_secs(20), || {
        let answer = Client::to(address).get("/p2/status");
        if answer.status == 418 { Ok(()) } else { Err(format!("{answer:?}")) }
    });
}

#[test]
fn a_second_manifest_moves_the_mount_and_connections_stay() {
    let mesh = Mesh::of(["n1"]);
    let hello = |name: &str, mount: &str| {
        let more = format!("mount = \"{mount}\"");
        Manifest::empty().plugin("gateway/x", "gateway", &component(name), &more)
    };
    let address = start(&mesh, &hello("gateway/hello", "/here"));
    let [node] = mesh.nodes();
    let mut client = Client::to(address);
    assert_eq!(client.get("/here").status, 200);
    mesh.apply(&hello("gateway/hello", "/there"), &[node]);
    assert_eq!(client.get("/here").status, 404);
    assert_eq!(client.get("/there?name=ada").text(), "hello, ada\n");
    mesh.apply(&hello("gateway/hello-p3", "test.example/there"), &[node]);
    assert_eq!(client.get("/there?name=eve").text(), "hello, eve\n");
    client.send(b"GET /there HTTP/1.1\r\nHost: other.example\r\n\r\n");
    assert_eq!(client.answer().status, 404);
    // The longest mount wins, and a host before any path.
    let several = hello("gateway/hello", "/").plugin(
        "gateway/y",
        "gateway",
        &component("test/gateway/probe"),
        "mount = \"/deep/er\"",
    );
    mesh.apply(&several, &[node]);
    assert_eq!(client.get("/deep/er/status").status, 418);
    assert_eq!(client.get("/deep/status").status, 200);
}

#[test]
fn what_cannot_be_mounted_is_refused_with_both_slots() {
    let mesh = Mesh::of(["n1"]);
    let [node] = mesh.nodes();
    node.start(&[]);
    let apply = |manifest: &Manifest| mesh.apply_file(&manifest.write(mesh.path("bad.toml")), node);
    let twice = probe("probe", "/a", "").plugin(
        "gateway/other",
        "gateway",
        &component("gateway/hello"),
        "mount = \"/a/\"",
    );
    let refused = apply(&twice);
    let text = refused.fails(2, "bad-manifest");
    assert!(text.contains("gateway/other: /a is the mount of gateway/probe already"), "{text}");
    let text = apply(&probe("probe", "a b", "")).fails(2, "bad-manifest").to_owned();
    assert!(text.contains("mount is \"/path\""), "{text}");
    let skill = Manifest::empty().plugin("gateway/m", "gateway", &component("skill/math1"), "mount = \"/m\"");
    let text = apply(&skill).fails(3, "wrong-world").to_owned();
    assert!(text.contains("wasi:http/incoming-handler@0.2"), "{text}");
    let none = Manifest::empty().plugin("gateway/m", "gateway", &component("gateway/hello"), "");
    let text = apply(&none).fails(2, "bad-manifest").to_owned();
    assert!(text.contains("a gateway needs a mount"), "{text}");
    // Without --http nobody listens.
    assert_eq!(node.json(["status"])["http"], serde_json::Value::Null);
}
