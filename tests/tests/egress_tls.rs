//! Requests out of a component over TLS, from guests of both versions of `wasi:http`: to whom this node trusts, and to nobody else.

use std::io::{Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use midplane_tests::command::component;
use midplane_tests::http::{self, Client};
use midplane_tests::{Manifest, Mesh, Node, eventually};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::{ServerConfig, ServerConnection, StreamOwned};

/// A file that `tests/fixtures/tls/make.sh` made.
fn fixture(name: &str) -> PathBuf {
    midplane_tests::root().join("tests/fixtures/tls").join(name)
}

/// A server with one of the certificates, and how many requests it has read.
fn server(certificate: &str) -> (SocketAddr, Arc<AtomicUsize>) {
    let chain = CertificateDer::pem_file_iter(fixture(certificate)).unwrap().map(Result::unwrap).collect();
    let key = PrivateKeyDer::from_pem_file(fixture("server.key")).unwrap();
    let config = ServerConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(chain, key)
        .unwrap();
    let (config, requests) = (Arc::new(config), Arc::new(AtomicUsize::new(0)));
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let (address, count) = (listener.local_addr().unwrap(), requests.clone());
    std::thread::spawn(move || {
        for socket in listener.incoming() {
            let (Ok(socket), config, count) = (socket, config.clone(), count.clone()) else { return };
            std::thread::spawn(move || {
                let mut stream = StreamOwned::new(ServerConnection::new(config).unwrap(), socket);
                let (mut request, mut byte) = (Vec::new(), [0]);
                // A body of these tests is chunked and ends like this as well.
                let over = |request: &[u8]| match request.starts_with(b"POST") {
                    true => request.ends_with(b"0\r\n\r\n"),
                    false => request.ends_with(b"\r\n\r\n"),
                };
                while !over(&request) {
                    if stream.read(&mut byte).is_err() || byte == [0] {
                        return;
                    }
                    request.push(byte[0]);
                }
                count.fetch_add(1, Ordering::Relaxed);
                let length = request.len();
                let answer = format!("HTTP/1.1 200 OK\r\ncontent-length: {length}\r\nx-server: yes\r\n\r\n");
                let _ = stream.write_all(&[answer.into_bytes(), request].concat());
                stream.conn.send_close_notify();
                let _ = stream.flush();
            });
        }
    });
    (address, requests)
}

/// A node where both guests may ask these servers.
fn start(mesh: &Mesh, servers: &[SocketAddr], arguments: &[&str]) {
    let [node] = mesh.nodes();
    let listen = format!("{}:0", node.address().ip());
    node.start(&[&["--http", &listen], arguments].concat());
    let ports: Vec<u16> = servers.iter().map(SocketAddr::port).collect();
    let lines: Vec<String> = (ports.iter())
        .flat_map(|port| {
            [format!("* https://127.0.0.1:{port}"), format!("* https://localhost:{port} private")]
        })
        .collect();
    let manifest = ["fetch", "fetch-p3"].into_iter().fold(Manifest::empty(), |manifest, guest| {
        let more = format!("mount = \"/{guest}\"\ngrants.http = {lines:?}");
        let path = component(&format!("test/gateway/{guest}"));
        manifest.plugin(&format!("gateway/{guest}"), "gateway", &path, &more)
    });
    mesh.apply(&manifest, &[node]);
}

#[track_caller]
fn fetch(node: &Node, guest: &str, method: &str, authority: &str) -> String {
    let answer = Client::to(http::address(node)).get(&format!("/{guest}?{method},https,{authority},/x"));
    assert_eq!(answer.status, 200, "{answer:?}");
    answer.text()
}

#[test]
fn a_node_trusts_the_authorities_that_it_is_told() {
    let mesh = Mesh::of(["n1"]);
    let [node] = mesh.nodes();
    let (good, answered) = server("good.pem");
    let bad = ["elsewhere.pem", "expired.pem", "alone.pem"].map(server);
    let mut servers = vec![good];
    servers.extend(bad.iter().map(|(address, _)| *address));
    start(&mesh, &servers, &["--http-ca", fixture("ca.pem").to_str().unwrap()]);
    for (number, guest) in ["fetch", "fetch-p3"].into_iter().enumerate() {
        let text = fetch(node, guest, "GET", &good.to_string());
        assert!(text.starts_with("200\n") && text.contains("x-server: yes"), "{guest}: {text}");
        assert!(text.contains("GET /x HTTP/1.1\r\n") && text.contains("x-probe: asks"), "{guest}: {text}");
        let text = fetch(node, guest, "GET", &format!("localhost:{}", good.port()));
        assert!(text.starts_with("200\n"), "{guest}: {text}");
        assert_eq!(answered.load(Ordering::Relaxed), 2 * number + 2);
        let says = ["is for another host", "has expired", "nobody whom this node trusts"];
        for ((address, requests), says) in bad.iter().zip(says) {
            let text = fetch(node, guest, "GET", &address.to_string());
            assert!(text.contains("TlsCertificateError"), "{guest}, {says}: {text}");
            assert_eq!(requests.load(Ordering::Relaxed), 0, "{guest}, {says}: it was asked");
            let line = format!("{address} was not asked: ");
            eventually(Duration::from_secs(20), || {
                let lines = node.cli(["logs", &format!("gateway/{guest}"), "-n", "100"]).ok();
                let told = lines.lines().any(|told| told.contains(&line) && told.contains(says));
                if told { Ok(()) } else { Err(format!("no {says:?} in {lines}")) }
            });
        }
    }
    // A body that a guest of 0.3 streams arrives over TLS as well.
    let text = fetch(node, "fetch-p3", "POST", &good.to_string());
    assert!(text.starts_with("200\n") && text.contains("\r\nbody\r\n"), "{text}");
}

#[test]
fn a_node_that_is_told_none_trusts_the_public_ones_only() {
    let mesh = Mesh::of(["n1"]);
    let [node] = mesh.nodes();
    let (good, requests) = server("good.pem");
    start(&mesh, &[good], &[]);
    for guest in ["fetch", "fetch-p3"] {
        let text = fetch(node, guest, "GET", &good.to_string());
        assert!(text.contains("TlsCertificateError"), "{guest}: {text}");
    }
    assert_eq!(requests.load(Ordering::Relaxed), 0);
}

#[test]
fn a_file_without_authorities_is_refused_at_the_start() {
    let mesh = Mesh::of(["n1"]);
    let [node] = mesh.nodes();
    let empty = mesh.path("empty.pem");
    std::fs::write(&empty, "nothing\n").unwrap();
    let said = node.cli(["run", "--http-ca", empty.to_str().unwrap()]);
    assert!(said.fails(2, "usage").contains("there is no certificate in it"), "{said:?}");
    let said = node.cli(["run", "--http-ca", "/nowhere.pem"]);
    said.fails(4, "not-found");
    let said = node.cli(["run", "--http-ca", fixture("server.key").to_str().unwrap()]);
    assert!(said.fails(2, "usage").contains("BEGIN CERTIFICATE"), "{said:?}");
}
