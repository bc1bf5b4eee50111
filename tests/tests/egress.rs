//! Requests out of a component: only those that a grant names, only to addresses that it may reach, and no further than asked.

use std::io::{Read, Write};
use std::net::{Ipv4Addr, Shutdown, SocketAddr, TcpListener};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use midplane_tests::command::component;
use midplane_tests::http::{self, Client};
use midplane_tests::{Manifest, Mesh, Node, eventually};

/// A server that answers by path and remembers what it was asked.
struct Server {
    address: SocketAddr,
    seen: Arc<Mutex<Vec<String>>>,
}

impl Server {
    fn start() -> Self {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let address = listener.local_addr().unwrap();
        let seen = Arc::new(Mutex::new(Vec::new()));
        let book = seen.clone();
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                let (Ok(mut stream), book) = (stream, book.clone()) else { return };
                std::thread::spawn(move || {
                    let mut head = Vec::new();
                    let mut byte = [0];
                    while !head.ends_with(b"\r\n\r\n")
                        && stream.read(&mut byte).is_ok_and(|length| length == 1)
                    {
                        head.push(byte[0]);
                    }
                    let head = String::from_utf8_lossy(&head).into_owned();
                    book.lock().unwrap().push(head.clone());
                    let answer = match head.split(' ').nth(1).unwrap_or_default() {
                        "/moved" => {
                            "HTTP/1.1 302 Found\r\nlocation: /target\r\ncontent-length: 0\r\n\r\n".into()
                        }
                        "/large" => format!(
                            "HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n{}",
                            1 << 20,
                            "x".repeat(1 << 20)
                        ),
                        _ => "HTTP/1.1 200 OK\r\ncontent-length: 5\r\nx-server: yes\r\n\r\nthere".to_owned(),
                    };
                    let _ = stream.write_all(answer.as_bytes());
                    // Closing over a body that nobody read would reset the connection, and the answer with it.
                    let _ = stream.shutdown(Shutdown::Write);
                    let _ = std::io::copy(&mut stream, &mut std::io::sink());
                });
            }
        });
        Self { address, seen }
    }

    fn requests(&self) -> usize {
        self.seen.lock().unwrap().len()
    }
}

fn apply(mesh: &Mesh, node: &Node, grants: &[String]) -> midplane_tests::Outcome {
    let more = format!(
        "mount = \"/f\"\ngrants = {{ http = {grants:?} }}\nlimits = {{ host-bytes = \"64KiB\", deadline = \"20s\" }}"
    );
    let manifest =
        Manifest::empty().plugin("gateway/fetch", "gateway", &component("test/gateway/fetch"), &more);
    mesh.apply_file(&manifest.write(mesh.path("egress.toml")), node)
}

fn start() -> Mesh {
    let mesh = Mesh::of(["n1"]);
    let [node] = mesh.nodes();
    node.start(&["--http", &format!("{}:0", node.address().ip())]);
    mesh
}

fn fetch(node: &Node, query: &str) -> String {
    let answer = Client::to(http::address(node)).get(&format!("/f?{query}"));
    assert_eq!(answer.status, 200, "{query}: {answer:?}");
    answer.text()
}

#[test]
fn without_a_grant_nothing_is_linked_and_the_fix_says_what_is_missing() {
    let mesh = start();
    let [node] = mesh.nodes();
    let refused = apply(&mesh, node, &[]);
    let text = refused.fails(3, "missing-grant");
    assert!(text.contains("wasi:http/outgoing-handler@0.2.12"), "{text}");
    assert!(text.contains("fix: grants.http = [\"GET https://HOST\"]"), "{text}");
    let wrong = apply(&mesh, node, &["GET https://127.1".to_owned(), "get https://a.example".to_owned()]);
    let text = wrong.fails(2, "bad-manifest");
    assert!(text.contains("127.1") && text.contains("a.example"), "both are told: {text}");
}

#[test]
fn only_what_is_granted_leaves_the_node() {
    let mesh = start();
    let [node] = mesh.nodes();
    let server = Server::start();
    let at = server.address;
    let grants = [
        format!("GET http://{at}"),
        format!("POST http://{at}/x/*"),
        format!("GET http://localhost:{}", at.port()),
    ];
    apply(&mesh, node, &grants).ok();
    assert_eq!(node.json(["plugins"])[0]["grants"][0].as_str().unwrap(), format!("http = {grants:?}"));
    let text = fetch(node, &format!("GET,http,{at},/a?b=c"));
    assert!(text.starts_with("200\n") && text.contains("x-server: yes") && text.contains("there"), "{text}");
    let seen = server.seen.lock().unwrap()[0].clone();
    assert!(seen.starts_with("GET /a?b=c HTTP/1.1\r\n"), "{seen}");
    assert!(seen.contains(&format!("host: {at}\r\n")) && seen.contains("x-probe: asks"), "{seen}");
    assert!(fetch(node, &format!("POST,http,{at},/x/1")).starts_with("200\n"));
    assert_eq!(server.requests(), 2);
    let port = at.port();
    for query in [
        format!("POST,http,{at},/y"),
        format!("DELETE,http,{at},/x/1"),
        format!("POST,http,{at},/x/../y"),
        format!("GET,https,{at},/"),
        format!("GET,http,127.0.0.2:{port},/"),
        format!("GET,http,127.1:{port},/"),
        format!("GET,http,0x7f.0.0.1:{port},/"),
        format!("GET,http,2130706433:{port},/"),
        format!("GET,http,127.0.0.1.:{port},/"),
        format!("GET,http,[::1]:{port},/"),
        format!("GET,http,127.0.0.1:{},/", port.wrapping_add(1).max(1)),
    ] {
        let text = fetch(node, &query);
        assert!(
            text.contains("HttpRequestDenied") || text.contains("refuses these parts"),
            "{query}: {text}"
        );
    }
    // A name that leads to this machine is not public, whatever the grant says of the name.
    let text = fetch(node, &format!("GET,http,localhost:{port},/"));
    assert!(text.contains("DestinationIpProhibited"), "{text}");
    assert_eq!(server.requests(), 2, "something got through");
    eventually(Duration::from_secs(20), || {
        let lines = node.cli(["logs", "-n", "100"]).ok();
        let told =
            lines.contains("no line of grants.http allows it") && lines.contains("is no public address");
        if told { Ok(()) } else { Err(lines) }
    });
    apply(&mesh, node, &[format!("GET http://localhost:{port} private")]).ok();
    // `localhost` may lead to ::1 first, where nobody listens; then the next address is asked.
    assert!(fetch(node, &format!("GET,http,LOCALHOST:{port},/")).starts_with("200\n"));
    assert_eq!(server.requests(), 3);
}

#[test]
fn redirects_are_answers_and_large_answers_break_off() {
    let mesh = start();
    let [node] = mesh.nodes();
    let server = Server::start();
    let at = server.address;
    apply(&mesh, node, &[format!("* http://{at}")]).ok();
    let moved = fetch(node, &format!("GET,http,{at},/moved"));
    assert!(moved.starts_with("302\n") && moved.contains("location: /target"), "{moved}");
    assert_eq!(server.requests(), 1, "nobody followed it");
    let large = fetch(node, &format!("GET,http,{at},/large"));
    assert!(large.contains("broke off"), "{}", &large[large.len().saturating_sub(200)..]);
    // Nobody listens there any more.
    let closed = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap().local_addr().unwrap();
    apply(&mesh, node, &[format!("* http://{closed}")]).ok();
    assert!(fetch(node, &format!("GET,http,{closed},/")).contains("ConnectionRefused"));
}
