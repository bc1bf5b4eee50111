//! Listening, and how many connections there may be.

use std::collections::HashMap;
use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use http::{Request, Response};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinSet;
use wasmtime_wasi_http::WasiBody;

use super::body::Inbound;
use super::{Limits, answer, connection};
use crate::words::{Code, Fault, Outcome};

/// How long accepting pauses when the system has no more files.
const PAUSE: Duration = Duration::from_millis(100);

/// Sockets that listen, not served yet.
pub struct Listeners {
    sockets: Vec<TcpListener>,
    addresses: Vec<SocketAddr>,
    limits: Limits,
}

impl Listeners {
    /// Binds these addresses; port 0 is any free one.
    ///
    /// # Errors
    /// `port-in-use`, `io`.
    pub async fn bind(addresses: &[SocketAddr], limits: Limits) -> Outcome<Self> {
        let mut listeners = Self { sockets: Vec::new(), addresses: Vec::new(), limits };
        for address in addresses {
            let socket = TcpListener::bind(address).await.map_err(|error| match error.kind() {
                std::io::ErrorKind::AddrInUse => {
                    Fault::new(Code::PortInUse, format!("{address}/tcp is in use"))
                        .fix("--http ADDRESS:0 takes any free port")
                }
                _ => Fault::io(format!("cannot listen for HTTP on {address}"), &error),
            })?;
            let bound =
                socket.local_addr().map_err(|error| Fault::io("cannot read a listener's address", &error))?;
            listeners.addresses.push(bound);
            listeners.sockets.push(socket);
        }
        Ok(listeners)
    }

    /// Where they listen.
    pub fn addresses(&self) -> &[SocketAddr] {
        &self.addresses
    }

    /// Serves until the node stops; then waits for what is in flight, some seconds at most.
    pub async fn serve<H, F>(self, handler: H, stopping: watch::Receiver<bool>)
    where
        H: Fn(Request<Inbound>) -> F + Clone + Send + Sync + 'static,
        F: Future<Output = Response<WasiBody>> + Send + 'static,
    {
        let places = Arc::new(Places::new(self.limits));
        let mut loops = JoinSet::new();
        for socket in self.sockets {
            loops.spawn(accept(socket, self.limits, places.clone(), handler.clone(), stopping.clone()));
        }
        while loops.join_next().await.is_some() {}
    }
}

async fn accept<H, F>(
    socket: TcpListener,
    limits: Limits,
    places: Arc<Places>,
    handler: H,
    mut stopping: watch::Receiver<bool>,
) where
    H: Fn(Request<Inbound>) -> F + Clone + Send + Sync + 'static,
    F: Future<Output = Response<WasiBody>> + Send + 'static,
{
    let mut connections = JoinSet::new();
    loop {
        let accepted = tokio::select! {
            biased;
            _ = stopping.wait_for(|stop| *stop) => break,
            _ = connections.join_next(), if !connections.is_empty() => continue,
            accepted = socket.accept() => accepted,
        };
        let (stream, peer) = match accepted {
            Ok(accepted) => accepted,
            Err(error) => {
                tracing::debug!("cannot accept an http connection: {error}");
                tokio::time::sleep(PAUSE).await;
                continue;
            }
        };
        match Places::take(&places, peer.ip()) {
            Some(place) => {
                let served = connection::serve(stream, limits, handler.clone(), stopping.clone());
                connections.spawn(async move {
                    served.await;
                    drop(place);
                });
            }
            None => turn_away(&stream),
        }
    }
    drop(socket);
    while connections.join_next().await.is_some() {}
}

/// Says that there is no room, as far as the socket takes it at once.
fn turn_away(stream: &TcpStream) {
    let _ = stream.try_write(answer::NO_PLACE);
}

/// The connections there are.
struct Places {
    limits: Limits,
    taken: Mutex<Taken>,
}

#[derive(Default)]
struct Taken {
    all: usize,
    by_address: HashMap<IpAddr, usize>,
}

impl Places {
    fn new(limits: Limits) -> Self {
        Self { limits, taken: Mutex::default() }
    }

    fn take(places: &Arc<Self>, peer: IpAddr) -> Option<Place> {
        let address = network(peer);
        let mut taken = places.taken.lock().unwrap_or_else(PoisonError::into_inner);
        let of_address = taken.by_address.get(&address).copied().unwrap_or(0);
        if taken.all >= places.limits.connections || of_address >= places.limits.per_address {
            return None;
        }
        taken.all += 1;
        taken.by_address.insert(address, of_address + 1);
        Some(Place { places: places.clone(), address })
    }
}

/// A connection's place, until it is dropped.
struct Place {
    places: Arc<Places>,
    address: IpAddr,
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut taken = self.places.taken.lock().unwrap_or_else(PoisonError::into_inner);
        taken.all = taken.all.saturating_sub(1);
        if let Some(count) = taken.by_address.get_mut(&self.address) {
            *count = count.saturating_sub(1);
            if *count == 0 {
                taken.by_address.remove(&self.address);
            }
        }
    }
}

/// What counts as one address: for IPv6 the /64, which is what one customer has.
fn network(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V4(address) => IpAddr::V4(address),
        IpAddr::V6(address) => IpAddr::V6((u128::from(address) >> 64 << 64).into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_are_counted_by_network_and_given_back() {
        let limits = Limits { connections: 3, per_address: 2, ..Limits::default() };
        let places = Arc::new(Places::new(limits));
        let take = |address: &str| Places::take(&places, address.parse().unwrap());
        let first = take("192.0.2.1").unwrap();
        let second = take("::ffff:192.0.2.1").unwrap();
        assert!(take("192.0.2.1").is_none(), "the address has its two");
        let third = take("2001:db8::1").unwrap();
        assert!(take("198.51.100.1").is_none(), "all three are taken");
        drop((first, third));
        let fourth = take("2001:db8::2").unwrap();
        assert!(take("192.0.2.2").is_some());
        drop((second, fourth));
        let taken = places.taken.lock().unwrap();
        assert!(taken.all == 0 && taken.by_address.is_empty());
    }

    #[test]
    fn a_v6_network_counts_as_one() {
        let network = |text: &str| network(text.parse().unwrap()).to_string();
        assert_eq!(network("2001:db8:1:2:3:4:5:6"), "2001:db8:1:2::");
        assert_eq!(network("::ffff:192.0.2.1"), "192.0.2.1");
    }
}
