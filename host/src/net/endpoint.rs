//! The node's UDP port: dialling, taking calls, and knowing who is at the other end.

use std::net::{IpAddr, SocketAddr};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use ed25519_dalek::SigningKey;
use quinn::crypto::rustls::{HandshakeData, QuicClientConfig, QuicServerConfig};
use quinn::{ClientConfig, Connection, EndpointConfig, Incoming, TransportConfig};
use quinn_proto::HashedConnectionIdGenerator;
use ring::hmac;
use rustls::pki_types::CertificateDer;

use super::errors::{handshake_fault, unreachable_fault, varint_of};
use super::tls::{self, Tls};
use super::windows::{self, HANDSHAKE, HANDSHAKES_MAX, HANDSHAKES_UNPROVED, MEMBER};
use crate::words::fault::{Code, Fault, Outcome};
use crate::words::id::NodeId;

/// Wished size of the socket's buffers: 8 MiB, one member's send window. The kernel gives what it allows.
pub const SOCKET_BYTES: usize = 8 * 1024 * 1024;
/// Longest look-up of a host name: a resolver's own timeout and one retry.
const LOOKUP: Duration = Duration::from_secs(10);
/// Most addresses of one host that are worth dialling.
const ADDRESSES_MAX: usize = 16;
/// Longest wait for the peers to hear that this endpoint closes.
const CLOSING: Duration = Duration::from_secs(1);
/// Longest reason in a close: must fit in one packet with room to spare.
const REASON_MAX: usize = 256;
/// Contexts of the keys that are derived from the node key. A restarted node has the same ones, so it can tell the peers of
/// its former self at once that their links are gone.
const RESET_CONTEXT: &str = "midplane/0 2026-11 quic stateless reset key";
const CONNECTION_ID_CONTEXT: &str = "midplane/0 2026-11 quic connection id key";

/// A bound UDP port that speaks for one node. Clones speak for the same port.
#[derive(Clone, Debug)]
pub struct Endpoint {
    inner: quinn::Endpoint,
    tls: Tls,
    transport: Arc<TransportConfig>,
    own_id: NodeId,
    /// Handshakes under way.
    pub(super) handshakes: Arc<AtomicUsize>,
}

/// Someone dials; nothing is known of them yet. Dropping it refuses them.
#[derive(Debug)]
pub struct Arrival {
    incoming: Incoming,
    _counted: Counted,
}

impl Endpoint {
    /// Binds `addr` for the node with this key. Must be called within a tokio runtime.
    ///
    /// # Errors
    /// `port-in-use`, or `io` when the system refuses the address.
    pub fn bind(key: &SigningKey, addr: SocketAddr) -> Outcome<Self> {
        let own_id = tls::node_id(key);
        let tls = tls::configs(&tls::pkcs8(key), own_id)?;
        let internal = |error: &dyn std::fmt::Display| Fault::new(Code::Internal, format!("QUIC: {error}"));
        let crypto = QuicServerConfig::try_from(tls.server.clone()).map_err(|error| internal(&error))?;
        let mut server = quinn::ServerConfig::with_crypto(Arc::new(crypto));
        windows::bound(&mut server);
        let socket = socket(addr)?;
        let inner =
            quinn::Endpoint::new(endpoint_config(key), Some(server), socket, Arc::new(quinn::TokioRuntime))
                .map_err(|error| Fault::io(addr, &error))?;
        Ok(Self { inner, tls, transport: windows::transport(), own_id, handshakes: Arc::default() })
    }

    /// The id that this endpoint speaks for.
    pub fn own_id(&self) -> NodeId {
        self.own_id
    }

    /// The address that is bound, with the port that was given for port 0.
    ///
    /// # Errors
    /// `io` when the system does not say.
    pub fn local_addr(&self) -> Outcome<SocketAddr> {
        self.inner.local_addr().map_err(|error| Fault::io("local address", &error))
    }

    /// Dials `addr`, where the node `expected` is to be, or any node. The connection has the windows of a stranger.
    ///
    /// # Errors
    /// `unknown-key` when another node is there, `unreachable` when none answers within the handshake's time, `protocol`
    /// when something else listens there, and whatever number the other side refused with.
    pub async fn connect(&self, addr: SocketAddr, expected: Option<NodeId>) -> Outcome<Connection> {
        let found = Arc::new(OnceLock::new());
        let crypto = QuicClientConfig::try_from(self.tls.client(expected, found.clone()))
            .map_err(|error| Fault::new(Code::Internal, format!("QUIC: {error}")))?;
        let mut config = ClientConfig::new(Arc::new(crypto));
        config.transport_config(self.transport.clone());
        let whom = addr.to_string();
        let connecting = self
            .inner
            .connect_with(config, addr, tls::SERVER_NAME)
            .map_err(|error| Fault::new(Code::Unreachable, format!("{whom}: {error}")))?;
        let connected = tokio::time::timeout(HANDSHAKE, connecting).await;
        if let (Some(expected), Some(found)) = (expected, found.get())
            && expected != *found
        {
            return Err(Fault::new(Code::UnknownKey, format!("{whom} is node {found}, not {expected}"))
                .fix("correct the address or the id in the list of peers"));
        }
        let connection = connected
            .map_err(|_| unreachable_fault(&whom))?
            .map_err(|error| handshake_fault(&whom, &error))?;
        identify(&connection)?;
        Ok(connection)
    }

    /// Waits for the next one who dials. `None` when the endpoint is closed. The handshake is left to [`Arrival::finish`], in a task
    /// of the caller. When many handshakes are under way, diallers must prove their address first; beyond the limit they are refused.
    pub async fn accept(&self) -> Option<Arrival> {
        loop {
            let incoming = self.inner.accept().await?;
            let counted = Counted::new(&self.handshakes);
            if counted.number > HANDSHAKES_MAX {
                incoming.refuse();
            } else if counted.number > HANDSHAKES_UNPROVED && incoming.may_retry() {
                // Cannot fail: it may retry.
                let _ = incoming.retry();
            } else {
                return Some(Arrival { incoming, _counted: counted });
            }
        }
    }

    /// Ends all connections with this code and gives the peers a moment to hear of it.
    pub async fn close(&self, code: Code, reason: &str) {
        self.inner.close(varint_of(code), reason_bytes(reason));
        // The peers that did not answer in time will notice by themselves.
        let _ = tokio::time::timeout(CLOSING, self.inner.wait_idle()).await;
    }
}

impl Arrival {
    /// Where the dialler is.
    pub fn remote_address(&self) -> SocketAddr {
        canonical(self.incoming.remote_address())
    }

    /// Whether the dialler has shown that it gets what is sent to its address.
    pub fn address_proved(&self) -> bool {
        self.incoming.remote_address_validated()
    }

    /// Turns the dialler away.
    pub fn refuse(self) {
        self.incoming.refuse();
    }

    /// Finishes the handshake; returns the connection, with the windows of a stranger, and who it is.
    ///
    /// # Errors
    /// `unreachable` when it takes too long, `protocol` or `bad-signature` when it goes wrong.
    pub async fn finish(self) -> Outcome<(Connection, NodeId)> {
        let whom = self.remote_address().to_string();
        let connecting = self.incoming.accept().map_err(|error| handshake_fault(&whom, &error))?;
        let connected = tokio::time::timeout(HANDSHAKE, connecting).await;
        let connection = connected
            .map_err(|_| unreachable_fault(&whom))?
            .map_err(|error| handshake_fault(&whom, &error))?;
        let id = identify(&connection)?;
        Ok((connection, id))
    }
}

/// Who is at the other end: the key that was proved in the handshake.
///
/// # Errors
/// `protocol` when there is none, which the handshake does not let happen.
pub fn peer_id(connection: &Connection) -> Outcome<NodeId> {
    let keys =
        connection.peer_identity().and_then(|keys| keys.downcast::<Vec<CertificateDer<'static>>>().ok());
    let id = match keys.as_deref().map(Vec::as_slice) {
        Some([key]) => tls::id_of_spki(key).ok(),
        _ => None,
    };
    id.ok_or_else(|| {
        Fault::new(Code::Protocol, format!("{} has not shown one key", connection.remote_address()))
    })
}

/// Gives an admitted peer the windows of a member.
pub fn admit(connection: &Connection) {
    windows::grant(connection, MEMBER);
}

/// Ends a link with this code. The reason is for people; the first 256 bytes are sent. What ended a link before stays the reason.
pub fn close(connection: &Connection, code: Code, reason: &str) {
    if connection.close_reason().is_none() {
        connection.close(varint_of(code), reason_bytes(reason));
    }
}

/// Where the other end is now; an IPv4 address is shown as such also on a socket for both.
pub fn remote_address(connection: &Connection) -> SocketAddr {
    canonical(connection.remote_address())
}

/// The addresses of `host:port`, in the resolver's order, each once.
///
/// # Errors
/// `usage` when it is not `host:port`, `unreachable` when the host is not known or the resolver does not answer in time.
pub async fn lookup(host_port: &str) -> Outcome<Vec<SocketAddr>> {
    let shown = crate::words::id::clip(host_port);
    if let Ok(addr) = host_port.parse() {
        return Ok(vec![addr]);
    }
    let port = host_port.rsplit_once(':').filter(|(host, _)| !host.is_empty() && !host.contains(':'));
    if port.is_none_or(|(_, port)| port.parse::<u16>().is_err()) {
        return Err(Fault::new(Code::Usage, format!("not an address: {shown:?}"))
            .fix("an address is host:port, for example edge-1.example:6437 or [2001:db8::1]:6437"));
    }
    let found = tokio::time::timeout(LOOKUP, tokio::net::lookup_host(host_port)).await;
    let found =
        found.map_err(|_| Fault::new(Code::Unreachable, format!("{shown}: the resolver does not answer")))?;
    let found = found.map_err(|error| Fault::new(Code::Unreachable, format!("{shown}: {error}")))?;
    let mut addresses: Vec<SocketAddr> = Vec::new();
    for addr in found {
        if addresses.len() < ADDRESSES_MAX && !addresses.contains(&addr) {
            addresses.push(addr);
        }
    }
    if addresses.is_empty() {
        return Err(Fault::new(Code::Unreachable, format!("{shown} has no address")));
    }
    Ok(addresses)
}

/// Counts a handshake as long as it lasts.
#[derive(Debug)]
struct Counted {
    counter: Arc<AtomicUsize>,
    number: usize,
}

impl Counted {
    fn new(counter: &Arc<AtomicUsize>) -> Self {
        let number = counter.fetch_add(1, Ordering::Relaxed) + 1;
        Self { counter: counter.clone(), number }
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        self.counter.fetch_sub(1, Ordering::Relaxed);
    }
}

/// Checks what the handshake must have agreed on. TLS has done so already; this does not rely on it.
fn identify(connection: &Connection) -> Outcome<NodeId> {
    let agreed = connection.handshake_data().and_then(|data| data.downcast::<HandshakeData>().ok());
    if agreed.and_then(|data| data.protocol).as_deref() != Some(tls::ALPN) {
        let fault =
            Fault::new(Code::Protocol, format!("{} does not speak midplane/0", connection.remote_address()));
        close(connection, fault.code, "");
        return Err(fault);
    }
    peer_id(connection).inspect_err(|fault| close(connection, fault.code, ""))
}

/// Reset and connection-id keys, derived from the node key so that they outlive the process.
fn endpoint_config(key: &SigningKey) -> EndpointConfig {
    let seed = zeroize::Zeroizing::new(key.to_bytes());
    let reset = hmac::Key::new(hmac::HMAC_SHA256, &blake3::derive_key(RESET_CONTEXT, seed.as_ref()));
    let mut config = EndpointConfig::new(Arc::new(reset));
    let derived = blake3::derive_key(CONNECTION_ID_CONTEXT, seed.as_ref());
    let id_key = derived.first_chunk::<8>().map_or(0, |bytes| u64::from_le_bytes(*bytes));
    config.cid_generator(move || Box::new(HashedConnectionIdGenerator::from_key(id_key)));
    config
}

fn socket(addr: SocketAddr) -> Outcome<std::net::UdpSocket> {
    let socket = std::net::UdpSocket::bind(addr).map_err(|error| match error.kind() {
        std::io::ErrorKind::AddrInUse => {
            Fault::new(Code::PortInUse, format!("UDP port {} of {} is in use", addr.port(), addr.ip()))
                .fix("--port 0 takes any free one")
        }
        _ => Fault::io(addr, &error),
    })?;
    // A kernel that gives less is no reason not to start: throughput is lower then, nothing else.
    let _ = rustix::net::sockopt::set_socket_recv_buffer_size(&socket, SOCKET_BYTES);
    let _ = rustix::net::sockopt::set_socket_send_buffer_size(&socket, SOCKET_BYTES);
    Ok(socket)
}

fn canonical(addr: SocketAddr) -> SocketAddr {
    match addr.ip().to_canonical() {
        IpAddr::V4(ip) => SocketAddr::from((ip, addr.port())),
        IpAddr::V6(_) => addr,
    }
}

fn reason_bytes(reason: &str) -> &[u8] {
    reason.get(..reason.floor_char_boundary(REASON_MAX)).unwrap_or_default().as_bytes()
}
