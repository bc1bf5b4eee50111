//! Who is let in: keys, wrong keys, no keys.

use std::sync::Arc;

use quinn::ConnectionError;
use quinn::crypto::rustls::QuicClientConfig;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer};
use rustls::sign::{CertifiedKey, SingleCertAndKey};

use super::*;
use crate::words::{Code, Fault};

#[tokio::test]
async fn both_ends_know_each_other() {
    let (a, b) = (node(1), node(2));
    let (at_a, at_b) = soon(link(&a, &b)).await;
    assert_eq!(peer_id(&at_a).unwrap(), id(2));
    assert_eq!(peer_id(&at_b).unwrap(), id(1));
    assert_eq!(remote_address(&at_a), b.local_addr().unwrap());
    let mut exported = [[0; 32]; 2];
    at_a.export_keying_material(&mut exported[0], b"join", b"").unwrap();
    at_b.export_keying_material(&mut exported[1], b"join", b"").unwrap();
    assert_eq!(exported[0], exported[1]);
    assert!(at_a.max_datagram_size().is_none());
}

#[tokio::test]
async fn any_node_may_be_expected_but_not_another_one() {
    let (a, b) = (node(1), node(2));
    let addr = b.local_addr().unwrap();
    let server = tokio::spawn(async move {
        let mut codes = Vec::new();
        for _ in 0..2 {
            codes.push(b.accept().await.unwrap().finish().await.err().map(|fault| fault.code));
        }
        codes
    });
    let fault = soon(a.connect(addr, Some(id(3)))).await.unwrap_err();
    assert_eq!(fault.code, Code::UnknownKey);
    for named in [id(2), id(3)] {
        assert!(fault.what.contains(&named.to_string()), "{fault}");
    }
    let connection = soon(a.connect(addr, None)).await.unwrap();
    assert_eq!(peer_id(&connection).unwrap(), id(2));
    assert_eq!(soon(server).await.unwrap(), [Some(Code::BadSignature), None]);
}

#[tokio::test]
async fn a_node_can_dial_itself_and_see_it() {
    let a = node(1);
    let (dialled, _arrived) = soon(link(&a, &a)).await;
    assert_eq!(peer_id(&dialled).unwrap(), a.own_id());
}

/// Dials `server` with a TLS set-up of its own; returns what each side says.
async fn dial_with(config: rustls::ClientConfig, server: &Endpoint) -> (ConnectionError, Fault) {
    let crypto = QuicClientConfig::try_from(config).unwrap();
    let config = quinn::ClientConfig::new(Arc::new(crypto));
    let mut client = quinn::Endpoint::client(any_port()).unwrap();
    client.set_default_client_config(config);
    let connecting = client.connect(server.local_addr().unwrap(), tls::SERVER_NAME).unwrap();
    let (dialled, arrived) = tokio::join!(
        async {
            match connecting.await {
                Ok(connection) => connection.closed().await,
                Err(error) => error,
            }
        },
        async { server.accept().await.unwrap().finish().await }
    );
    (dialled, arrived.unwrap_err())
}

#[tokio::test]
async fn a_dialler_without_a_proper_key_is_refused() {
    let server = node(2);
    let own = tls::configs(&tls::pkcs8(&key(1)), id(1)).unwrap();
    let good = || own.client(None, Arc::default());
    let provider = good().crypto_provider().clone();
    let load = |seed| {
        let der = PrivateKeyDer::from(PrivatePkcs8KeyDer::from(tls::pkcs8(&key(seed)).to_vec()));
        provider.key_provider.load_private_key(der).unwrap()
    };
    let spki = |seed| load(seed).public_key().unwrap().to_vec();

    let mut no_key = good();
    no_key.client_auth_cert_resolver = Arc::new(NoKey);
    let mut x509 = good();
    let certified = CertifiedKey::new(vec![CertificateDer::from(spki(1))], load(1));
    x509.client_auth_cert_resolver = Arc::new(SingleCertAndKey::from(certified));
    let raw =
        |certified| Arc::new(rustls::client::AlwaysResolvesClientRawPublicKeys::new(Arc::new(certified)));
    let mut stolen = good();
    stolen.client_auth_cert_resolver = raw(CertifiedKey::new(vec![CertificateDer::from(spki(3))], load(1)));
    let mut two = good();
    let both = vec![CertificateDer::from(spki(1)), CertificateDer::from(spki(3))];
    two.client_auth_cert_resolver = raw(CertifiedKey::new(both, load(1)));
    let mut other_protocol = good();
    other_protocol.alpn_protocols = vec![b"midplane/9".to_vec()];
    let mut no_protocol = good();
    no_protocol.alpn_protocols = Vec::new();

    let cases = [
        ("no key", no_key, Code::BadSignature),
        ("x509", x509, Code::BadSignature),
        ("stolen key", stolen, Code::BadSignature),
        ("two keys", two, Code::BadSignature),
        ("other protocol", other_protocol, Code::Protocol),
        ("no protocol", no_protocol, Code::Protocol),
    ];
    for (what, config, expect) in cases {
        let (dialler, fault) = soon(dial_with(config, &server)).await;
        assert_eq!(fault.code, expect, "{what}: {fault}, dialler says {dialler}");
    }
    let (_, fine) = soon(link(&node(1), &server)).await;
    assert_eq!(peer_id(&fine).unwrap(), id(1));
}

/// Offers raw keys but has none.
#[derive(Debug)]
struct NoKey;

impl rustls::client::ResolvesClientCert for NoKey {
    fn resolve(&self, _: &[&[u8]], _: &[rustls::SignatureScheme]) -> Option<Arc<CertifiedKey>> {
        None
    }

    fn only_raw_public_keys(&self) -> bool {
        true
    }

    fn has_certs(&self) -> bool {
        true
    }
}

#[tokio::test]
async fn something_else_at_the_address_is_named() {
    let own = tls::configs(&tls::pkcs8(&key(2)), id(2)).unwrap();
    let mut other = (*own.server).clone();
    other.alpn_protocols = vec![b"h3".to_vec()];
    let crypto = quinn::crypto::rustls::QuicServerConfig::try_from(other).unwrap();
    let server =
        quinn::Endpoint::server(quinn::ServerConfig::with_crypto(Arc::new(crypto)), any_port()).unwrap();
    let addr = server.local_addr().unwrap();
    let task = tokio::spawn(async move { server.accept().await.unwrap().await.is_err() });
    let fault = soon(node(1).connect(addr, Some(id(2)))).await.unwrap_err();
    assert_eq!(fault.code, Code::Protocol, "{fault}");
    assert!(soon(task).await.unwrap());
}

#[tokio::test]
async fn a_port_in_use_is_named_with_a_way_out() {
    let a = node(1);
    let fault = Endpoint::bind(&key(2), a.local_addr().unwrap()).unwrap_err();
    assert_eq!(fault.code, Code::PortInUse);
    assert_eq!(fault.fix.as_deref(), Some("--port 0 takes any free one"));
}

#[tokio::test]
async fn a_closed_link_says_why() {
    let (a, b) = (node(1), node(2));
    let (at_a, at_b) = soon(link(&a, &b)).await;
    close(&at_b, Code::DuplicateIdentity, "two machines, one key");
    let fault = errors::link_fault(&soon(at_a.closed()).await);
    assert_eq!(fault.code, Code::DuplicateIdentity);
    assert!(fault.what.contains("two machines, one key"), "{fault}");
    soon(b.close(Code::Cancelled, "stops")).await;
    assert!(b.accept().await.is_none());
}

#[tokio::test]
async fn many_handshakes_ask_for_proof_and_too_many_are_refused() {
    use std::sync::atomic::Ordering::Relaxed;
    let (a, b) = (node(1), node(2));
    let addr = b.local_addr().unwrap();
    for (under_way, proved) in [(0, false), (windows::HANDSHAKES_UNPROVED, true)] {
        b.handshakes.store(under_way, Relaxed);
        let (dialled, arrived) = soon(async {
            tokio::join!(a.connect(addr, None), async {
                let arrival = b.accept().await.unwrap();
                let arrived = arrival.address_proved();
                arrival.finish().await.unwrap();
                arrived
            })
        })
        .await;
        assert_eq!((dialled.is_ok(), arrived), (true, proved));
        assert_eq!(b.handshakes.load(Relaxed), under_way, "a handshake was not counted off");
    }
    b.handshakes.store(windows::HANDSHAKES_MAX, Relaxed);
    let refused = tokio::select! {
        refused = a.connect(addr, None) => refused.unwrap_err(),
        _ = b.accept() => panic!("one too many was let in"),
    };
    assert_eq!(refused.code, Code::Busy, "{refused}");
}

/// Runs a node on a thread of its own until `stop` is heard; then everything of it is dropped without a goodbye.
fn doomed(
    addr: SocketAddr,
) -> (std::thread::JoinHandle<()>, std::sync::mpsc::Receiver<SocketAddr>, tokio::sync::oneshot::Sender<()>) {
    let (bound, addresses) = std::sync::mpsc::sync_channel(1);
    let (stop, stopped) = tokio::sync::oneshot::channel::<()>();
    let thread = std::thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let node = Endpoint::bind(&key(2), addr).unwrap();
            bound.send(node.local_addr().unwrap()).unwrap();
            let accept = async {
                let _link = node.accept().await.unwrap().finish().await.unwrap();
                std::future::pending::<()>().await
            };
            tokio::select! { () = accept => {}, _ = stopped => {} }
            // Dropping the handles would say goodbye; a crash does not.
            std::mem::forget(node);
        });
        runtime.shutdown_background();
    });
    (thread, addresses, stop)
}

#[tokio::test]
async fn a_restarted_node_ends_the_links_of_its_former_self() {
    let a = node(1);
    let proxy = tokio::net::UdpSocket::bind(any_port()).await.unwrap();
    let front = proxy.local_addr().unwrap();
    let (thread, addresses, stop) = doomed(any_port());
    let first = addresses.recv().unwrap();
    // The peer talks through a relay, so that the port of the crashed node need not be free again at once.
    let (moved, back) = tokio::sync::watch::channel(first);
    let relay = tokio::spawn(async move {
        let (mut buffer, mut dialler) = (vec![0; 65_536], front);
        while let Ok((length, from)) = proxy.recv_from(&mut buffer).await {
            let node = *back.borrow();
            let to = if from == node { dialler } else { node };
            if from != node && from != first {
                dialler = from;
            }
            let _ = proxy.send_to(&buffer[..length], to).await;
        }
    });
    let at_a = soon(a.connect(front, Some(id(2)))).await.unwrap();
    stop.send(()).unwrap();
    thread.join().unwrap();
    let again = node(2);
    moved.send(again.local_addr().unwrap()).unwrap();
    // Anything that is sent tells the new node that somebody still talks to the old one.
    let mut stream = soon(at_a.open_bi()).await.unwrap().0;
    stream.write_all(&[0; 64]).await.unwrap();
    let ended = tokio::time::timeout(PATIENCE, at_a.closed()).await.expect("the stale link lives on");
    assert_eq!(ended, ConnectionError::Reset);
    assert_eq!(errors::link_fault(&ended).code, Code::LinkLost);
    relay.abort();
}

#[tokio::test]
async fn addresses_are_looked_up_or_refused() {
    assert_eq!(lookup("127.0.0.1:9").await.unwrap(), ["127.0.0.1:9".parse().unwrap()]);
    assert_eq!(lookup("[::1]:9").await.unwrap(), ["[::1]:9".parse().unwrap()]);
    assert!(lookup("localhost:9").await.unwrap().iter().all(|addr| addr.ip().is_loopback()));
    for bad in ["", "edge-1", ":9", "edge-1:", "edge-1:99999", "::1:9", "edge-1:port"] {
        assert_eq!(lookup(bad).await.unwrap_err().code, Code::Usage, "{bad:?}");
    }
}
