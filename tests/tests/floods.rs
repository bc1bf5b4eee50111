//! HTTP/2 clients that flood: each is let go within its bound, in bounded memory, and others are served meanwhile.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use midplane_tests::command::component;
use midplane_tests::http::{self, Client as Plain};
use midplane_tests::http2::{Client, flag, frame, kind, request};
use midplane_tests::{Manifest, Mesh, Node};

/// Within this a client is gone that floods; the deadlines of these nodes are 0.6 s, and two and three times that. A busy machine may look late.
const GONE: Duration = Duration::from_secs(10);
/// Bytes by which a node may grow while one client floods it.
const GROWTH: u64 = 32 << 20;

/// The patience of a node that is to let somebody go.
const SHORT: &str = "600ms";

fn start(mesh: &Mesh, patience: &str) -> SocketAddr {
    let [node] = mesh.nodes();
    node.start(&["--http", &format!("{}:0", node.address().ip()), "--http-patience", patience]);
    let (hello, probe) = (component("gateway/hello"), component("test/gateway/probe"));
    let manifest = Manifest::empty().plugin("gateway/hello", "gateway", &hello, "mount = \"/hello\"").plugin(
        "gateway/probe",
        "gateway",
        &probe,
        "mount = \"/p2\"",
    );
    mesh.apply(&manifest, &[node]);
    http::address(node)
}

fn resident(node: &Node) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{}/status", node.pid())).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
    line.trim().trim_end_matches(" kB").trim().parse::<u64>().unwrap() << 10
}

/// Runs a flood while somebody else asks again and again.
#[track_caller]
fn flooded(what: &str, mesh: &Mesh, address: SocketAddr, flood: impl FnOnce(&mut Client) -> bool) {
    let [node] = mesh.nodes();
    let before = resident(node);
    let (over, began) = (AtomicBool::new(false), Instant::now());
    let (ended, (answers, slowest, most)) = std::thread::scope(|scope| {
        let neighbour = scope.spawn(|| {
            let (mut answers, mut slowest, mut most) = (0, Duration::ZERO, 0);
            while !over.load(Ordering::Relaxed) || answers == 0 {
                let asked = Instant::now();
                let mut client = Plain::to(address);
                client.send(b"GET /hello HTTP/1.1\r\nHost: test.example\r\n\r\n");
                // Who says nothing for so long is let go as well: then it was this thread that stood still.
                let late = asked.elapsed() > Duration::from_millis(300);
                let Some(answer) = client.try_answer() else {
                    assert!(late, "{what}: somebody else was let go");
                    continue;
                };
                assert_eq!((answer.status, answer.text().as_str()), (200, "hello, world\n"));
                slowest = slowest.max(asked.elapsed());
                most = most.max(resident(node));
                answers += 1;
            }
            (answers, slowest, most)
        });
        let ended = flood(&mut Client::to(address));
        over.store(true, Ordering::Relaxed);
        (ended, neighbour.join().unwrap())
    });
    let grown = most.saturating_sub(before);
    println!(
        "{what}: {:.1?}; {answers} others were answered, in {slowest:.1?} at most; {} KiB more",
        began.elapsed(),
        grown >> 10
    );
    assert!(ended, "{what}: the connection stays");
    assert!(slowest < GONE, "{what}: somebody else waited for {slowest:?}");
    assert!(grown < GROWTH, "{what}: the node grew by {grown} bytes");
}

/// The stream of the nth request.
fn nth(number: u32) -> u32 {
    2 * number + 1
}

#[test]
fn a_client_that_keeps_to_the_rules_is_answered() {
    let mesh = Mesh::of(["n1"]);
    let address = start(&mesh, "10s");
    let mut client = Client::to(address);
    for number in 0..100 {
        assert!(client.ask(nth(number), "/hello"));
        assert!(client.is_answered(nth(number)), "request {number}");
        // Some of what a browser does besides.
        client.send(&frame(kind::PING, 0, 0, &[7; 8]));
        client.send(&frame(kind::WINDOW_UPDATE, 0, 0, &[0, 0, 1, 0]));
    }
}

#[test]
fn those_who_open_and_reset_are_let_go() {
    let mesh = Mesh::of(["n1"]);
    let address = start(&mesh, SHORT);
    let head =
        |number, path: &str| frame(kind::HEADERS, flag::END_HEADERS, nth(number), &request("POST", path));
    flooded("streams that are reset at once", &mesh, address, |client| {
        let reset = |number| {
            [head(number, "/p2/echo"), frame(kind::RST_STREAM, 0, nth(number), &[0, 0, 0, 8])].concat()
        };
        client.flood(GONE, reset).1
    });
    flooded("streams that the node has to reset", &mesh, address, |client| {
        // A window that grows by nothing is an error of its stream.
        let wrong =
            |number| [head(number, "/p2/echo"), frame(kind::WINDOW_UPDATE, 0, nth(number), &[0; 4])].concat();
        client.flood(GONE, wrong).1
    });
    flooded("more streams than there may be", &mesh, address, |client| {
        client.flood(GONE, |number| head(number, "/p2/echo")).1
    });
}

#[test]
fn those_who_say_nothing_at_length_are_let_go() {
    let mesh = Mesh::of(["n1"]);
    let address = start(&mesh, SHORT);
    let (ping, settings) =
        (frame(kind::PING, 0, 0, &[7; 8]).repeat(64), frame(kind::SETTINGS, 0, 0, &[]).repeat(64));
    let priority = frame(kind::PRIORITY, 0, 1, &[0, 0, 0, 3, 16]).repeat(64);
    let unknown = frame(77, 0, 0, &[0; 64]).repeat(64);
    for (what, frames) in
        [("pings", &ping), ("settings", &settings), ("priorities", &priority), ("unknown", &unknown)]
    {
        flooded(what, &mesh, address, |client| client.flood(GONE, |_| frames.clone()).1);
        // The same of somebody who was answered before, and has a request under way.
        flooded(&format!("{what}, beside a request"), &mesh, address, |client| {
            client.ask(1, "/hello");
            assert!(client.is_answered(1));
            client.send(&frame(kind::HEADERS, flag::END_HEADERS, 3, &request("POST", "/p2/echo")));
            client.flood(GONE, |_| frames.clone()).1
        });
        flooded(&format!("{what}, without listening"), &mesh, address, |client| client.shout(GONE, frames));
    }
    flooded("data without bytes", &mesh, address, |client| {
        client.send(&frame(kind::HEADERS, flag::END_HEADERS, 1, &request("POST", "/p2/echo")));
        client.flood(GONE, |_| frame(kind::DATA, 0, 1, &[]).repeat(16)).1
    });
}

#[test]
fn those_whose_heads_grow_are_let_go() {
    let mesh = Mesh::of(["n1"]);
    let address = start(&mesh, SHORT);
    flooded("a head that does not end", &mesh, address, |client| {
        client.send(&frame(kind::HEADERS, 0, 1, &request("GET", "/hello")));
        client.flood(GONE, |_| frame(kind::CONTINUATION, 0, 1, &[0, 1, b'x', 1, b'y'].repeat(100))).1
    });
    flooded("a head that continues with nothing", &mesh, address, |client| {
        client.send(&frame(kind::HEADERS, 0, 1, &request("GET", "/hello")));
        client.flood(GONE, |_| frame(kind::CONTINUATION, 0, 1, &[])).1
    });
    flooded("small heads that become large ones", &mesh, address, |client| {
        // One entry that fills the dynamic table (RFC 7541 §6.2.1; 4,000 is 127 + 3,873), which one byte names again.
        let mut bomb = vec![0x40, 1, b'x', 0x7f, 0xa1, 0x1e];
        bomb.extend_from_slice(&[b'y'; 4_000]);
        client.send(&frame(
            kind::HEADERS,
            flag::END_STREAM | flag::END_HEADERS,
            1,
            &[request("GET", "/hello"), bomb].concat(),
        ));
        // That one is small enough, so what follows is refused for what it becomes.
        assert!(client.is_answered(1));
        let again = |number| {
            let fields = [request("GET", "/hello"), vec![0xbe; 12_000]].concat();
            frame(kind::HEADERS, flag::END_STREAM | flag::END_HEADERS, nth(number + 1), &fields)
        };
        client.flood(GONE, again).1
    });
}
