//! HTTP clients that lie about where a message ends, send too much, or send too little. Each is refused and let go; others are served.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use midplane_tests::command::component;
use midplane_tests::http::{self, Client};
use midplane_tests::{Manifest, Mesh};

/// The patience of these nodes: the other deadlines are two and three times this.
const PATIENCE: Duration = Duration::from_millis(600);
/// Within this a client is gone that keeps none of them. A busy machine may look late.
const GONE: Duration = Duration::from_secs(10);

fn start(mesh: &Mesh, patience: &str) -> SocketAddr {
    let [node] = mesh.nodes();
    node.start(&["--http", &format!("{}:0", node.address().ip()), "--http-patience", patience]);
    let hello = component("gateway/hello");
    let probe = component("test/gateway/probe");
    let manifest = Manifest::empty().plugin("gateway/hello", "gateway", &hello, "mount = \"/hello\"").plugin(
        "gateway/probe",
        "gateway",
        &probe,
        "mount = \"/p2\"",
    );
    mesh.apply(&manifest, &[node]);
    http::address(node)
}

/// Everything that two readers of HTTP/1 can understand differently.
fn ambiguous() -> Vec<Vec<u8>> {
    let post = |fields: &str, body: &str| {
        format!("POST /p2/echo HTTP/1.1\r\nHost: a.example\r\n{fields}\r\n{body}").into_bytes()
    };
    let chunked = |body: &str| post("Transfer-Encoding: chunked\r\n", body);
    let raw = |text: &str| text.as_bytes().to_vec();
    vec![
        raw("GET /hello HTTP/1.1\r\n\r\n"),
        raw("GET /hello HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n"),
        raw("GET /hello HTTP/1.1\r\nHost: a\r\nHost: a\r\n\r\n"),
        raw("GET http://b/hello HTTP/1.1\r\nHost: a\r\n\r\n"),
        raw("GET /hello HTTP/1.1\r\nHost: u@a\r\n\r\n"),
        raw("GET /hello HTTP/1.1\nHost: a\n\n"),
        raw("GET /hello HTTP/1.1\r\nHost: a\n\r\n"),
        raw("GET /hello HTTP/1.1\r\nHost: a\rX: y\r\n\r\n"),
        raw("\r\nGET /hello HTTP/1.1\r\nHost: a\r\n\r\n"),
        raw("GET  /hello HTTP/1.1\r\nHost: a\r\n\r\n"),
        raw("GET /hello\r\n\r\n"),
        raw("GET /hello HTTP/1.2\r\nHost: a\r\n\r\n"),
        raw("get /hello HTTP/1.1\r\nHost: a\r\n\r\n"),
        raw("CONNECT a:80 HTTP/1.1\r\nHost: a:80\r\n\r\n"),
        raw("TRACE /hello HTTP/1.1\r\nHost: a\r\n\r\n"),
        raw("GET /hello/../hello HTTP/1.1\r\nHost: a\r\n\r\n"),
        raw("GET /hello/%2e%2e/hello HTTP/1.1\r\nHost: a\r\n\r\n"),
        raw("GET /hello HTTP/1.1\r\nHost: a\r\n X: folded\r\n\r\n"),
        raw("GET /hello HTTP/1.1\r\nHost: a\r\nX : y\r\n\r\n"),
        raw("GET /hello HTTP/1.1\r\nHost: a\r\nX: \0\r\n\r\n"),
        post("Content-Length: 3\r\nContent-Length: 4\r\n", "abcd"),
        post("Content-Length: 3\r\nContent-Length: 3\r\n", "abc"),
        post("Content-Length: +3\r\n", "abc"),
        post("Content-Length: 3,3\r\n", "abc"),
        post("Content-Length: -3\r\n", "abc"),
        post("Content-Length: 99999999999999999999\r\n", "abc"),
        post("Content-Length: 3\r\nTransfer-Encoding: chunked\r\n", "3\r\nabc\r\n0\r\n\r\n"),
        post("Transfer-Encoding: chunked\r\nContent-Length: 3\r\n", "3\r\nabc\r\n0\r\n\r\n"),
        post("Transfer-Encoding: identity, chunked\r\n", "3\r\nabc\r\n0\r\n\r\n"),
        post("Transfer-Encoding: xchunked\r\n", "3\r\nabc\r\n0\r\n\r\n"),
        post("Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n", "3\r\nabc\r\n0\r\n\r\n"),
        post("Transfer-Encoding : chunked\r\n", "3\r\nabc\r\n0\r\n\r\n"),
        raw("POST /p2/echo HTTP/1.0\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n"),
        post("Expect: something\r\nContent-Length: 3\r\n", "abc"),
        chunked("0x3\r\nabc\r\n0\r\n\r\n"),
        chunked("3;a\nb\r\nabc\r\n0\r\n\r\n"),
        chunked("3\nabc\r\n0\r\n\r\n"),
        chunked("3\r\nabcd\r\n0\r\n\r\n"),
        chunked("0\r\nContent-Length: 3\r\n\r\n"),
        raw("\x16\x03\x01\x02\x00\x01\x00\x01"),
    ]
}

#[test]
fn what_can_be_read_in_two_ways_is_answered_once_and_closed() {
    let mesh = Mesh::of(["n1"]);
    let address = start(&mesh, "5s");
    let cases = ambiguous();
    assert!(cases.len() >= 28);
    for case in cases {
        let shown = String::from_utf8_lossy(&case).into_owned();
        // What is smuggled behind it must never be answered.
        let smuggled = b"GET /hello?name=smuggled HTTP/1.1\r\nHost: a\r\n\r\n";
        let mut client = Client::to(address);
        client.send(&[&case[..], smuggled].concat());
        match client.try_answer() {
            // A body may turn out bad after the guest has begun to answer; then the answer breaks off.
            Some(answer) if answer.status == 200 => assert!(!answer.whole, "{shown:?}: {answer:?}"),
            Some(answer) => {
                assert!((400..500).contains(&answer.status), "{shown:?}: {answer:?}");
                assert!(answer.json()["what"].is_string(), "{shown:?}: {answer:?}");
            }
            None => assert!(shown.contains("chunked\r\n\r\n"), "{shown:?}: closed without an answer"),
        }
        assert_eq!(client.try_answer(), None, "{shown:?}");
        assert!(client.closes(), "{shown:?}");
    }
    // A good request before a bad one is answered in its turn.
    let mut client = Client::to(address);
    client.send(b"GET /hello HTTP/1.1\r\nHost: a\r\n\r\nGET /hello HTTP/1.1\r\n\r\nGET /hello HTTP/1.1\r\nHost: a\r\n\r\n");
    assert_eq!(client.answer().text(), "hello, world\n");
    assert_eq!(client.answer().status, 400);
    assert_eq!(client.try_answer(), None);
    assert_eq!(Client::to(address).get("/hello").status, 200);
}

#[test]
fn what_is_too_large_is_told_apart() {
    let mesh = Mesh::of(["n1"]);
    let address = start(&mesh, "5s");
    let long = |count: usize| "x".repeat(count);
    for (request, status) in [
        (format!("GET /hello HTTP/1.1\r\nHost: a\r\nX: {}\r\n\r\n", long(20_000)), 431),
        (format!("GET /hello HTTP/1.1\r\nHost: a\r\n{}\r\n", "X: y\r\n".repeat(200)), 431),
        (format!("GET /hello?{} HTTP/1.1\r\nHost: a\r\n\r\n", long(70_000)), 414),
        (format!("GET /hello?{} HTTP/1.1\r\nHost: a\r\n\r\n", long(8_500)), 414),
        (format!("POST /p2/echo HTTP/1.1\r\nHost: a\r\nContent-Length: {}\r\n\r\n", 17 << 20), 413),
    ] {
        let mut client = Client::to(address);
        client.send(request.as_bytes());
        let answer = client.answer();
        assert_eq!((answer.status, &answer.json()["code"]), (status, &"too-large".into()), "{answer:?}");
        assert!(client.closes());
    }
    let mut client = Client::to(address);
    client.send(
        format!("GET /hello?{} HTTP/1.1\r\nHost: a\r\nX: {}\r\n\r\n", long(8_000), long(4_000)).as_bytes(),
    );
    assert_eq!(client.answer().status, 200);
}

#[test]
fn those_who_are_slow_are_let_go_while_others_are_served() {
    let mesh = Mesh::of(["n1"]);
    let address = start(&mesh, "600ms");
    let silent = Client::to(address);
    let mut sniffed = Client::to(address);
    sniffed.send(b"PRI * HTTP/2.0\r\n\r\nSM");
    let mut half = Client::to(address);
    half.send(b"GET /hello HTTP/1.1\r\nHost: a\r\nX: ");
    let mut preface = Client::to(address);
    preface.send(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n");
    let idle = served(address);
    let dripping = drip(address, b"GET /hello HTTP/1.1\r\nHost: a\r\nX: ".to_vec());
    let body = drip(address, b"POST /p2/echo HTTP/1.1\r\nHost: a\r\nContent-Length: 100000\r\n\r\n".to_vec());
    let reader = std::thread::spawn(move || {
        let mut client = Client::to(address);
        client.send(b"GET /p2/endless HTTP/1.1\r\nHost: a\r\n\r\n");
        // Reads nothing: what the system buffers is full soon.
        std::thread::sleep(PATIENCE);
        client
    });
    let begun = Instant::now();
    for _ in 0..20 {
        drop(served(address));
    }
    for mut client in [silent, half, idle, sniffed] {
        assert!(client.closed_within(GONE), "after {:?}", begun.elapsed());
    }
    // It says its settings first, and then goes.
    assert!(preface.closes());
    dripping.join().unwrap();
    body.join().unwrap();
    let mut stalled = reader.join().unwrap();
    assert!(stalled.closes());
    assert!(begun.elapsed() < GONE * 3, "{:?}", begun.elapsed());
    drop(served(address));
}

/// A client that was answered. One that this machine held up before it asked is let go like any other; then another one asks.
fn served(address: SocketAddr) -> Client {
    loop {
        let begun = Instant::now();
        let mut client = Client::to(address);
        client.send(b"GET /hello HTTP/1.1\r\nHost: a\r\n\r\n");
        let late = begun.elapsed() >= PATIENCE / 2;
        match client.try_answer() {
            Some(answer) => {
                assert_eq!(answer.status, 200, "{answer:?}");
                return client;
            }
            None => assert!(late, "closed without an answer"),
        }
    }
}

/// Sends a byte now and then until the connection is gone.
fn drip(address: SocketAddr, begin: Vec<u8>) -> std::thread::JoinHandle<()> {
    std::thread::spawn(move || {
        let mut client = Client::to(address);
        client.send(&begin);
        let begun = Instant::now();
        loop {
            use std::io::Write;
            if client.stream().write_all(b"x").is_err() {
                return;
            }
            assert!(begun.elapsed() < GONE, "it still takes bytes after {:?}", begun.elapsed());
            std::thread::sleep(PATIENCE / 6);
        }
    })
}

#[test]
fn one_address_cannot_take_every_connection() {
    let mesh = Mesh::of(["n1"]);
    let address = start(&mesh, "10s");
    let held: Vec<Client> = (0..256).map(|_| Client::to(address)).collect();
    let mut turned = Client::to(address);
    turned.send(b"GET /hello HTTP/1.1\r\nHost: a\r\n\r\n");
    let answer = turned.try_answer().expect("an answer");
    assert_eq!((answer.status, &answer.json()["code"]), (503, &"busy".into()));
    assert!(answer.head.contains("retry-after"));
    drop(held);
    midplane_tests::eventually(GONE, || {
        let mut client = Client::to(address);
        client.send(b"GET /hello HTTP/1.1\r\nHost: a\r\n\r\n");
        match client.try_answer() {
            Some(answer) if answer.status == 200 => Ok(()),
            other => Err(format!("{other:?}")),
        }
    });
}

#[test]
fn the_control_of_a_node_is_not_reachable_over_http() {
    let mesh = Mesh::of(["n1"]);
    let address = start(&mesh, "5s");
    for path in ["/", "/status", "/control", "/metrics", "/apply", "/.well-known/x"] {
        assert_eq!(Client::to(address).get(path).status, 404, "{path}");
    }
}
