//! Real endpoints on the loopback interface.

mod handshake;
mod stream;

use std::net::{Ipv4Addr, SocketAddr};
use std::time::Duration;

use ed25519_dalek::SigningKey;
use quinn::Connection;

use super::*;
use crate::words::NodeId;

/// Far above what anything here takes, far below the idle time of a link.
const PATIENCE: Duration = Duration::from_secs(5);

fn key(seed: u8) -> SigningKey {
    SigningKey::from_bytes(&[seed; 32])
}

fn id(seed: u8) -> NodeId {
    tls::node_id(&key(seed))
}

fn any_port() -> SocketAddr {
    (Ipv4Addr::LOCALHOST, 0).into()
}

fn node(seed: u8) -> Endpoint {
    Endpoint::bind(&key(seed), any_port()).unwrap()
}

/// Dials `to` from `from`; returns both ends.
async fn link(from: &Endpoint, to: &Endpoint) -> (Connection, Connection) {
    let addr = to.local_addr().unwrap();
    let (dialled, arrived) = tokio::join!(from.connect(addr, Some(to.own_id())), async {
        to.accept().await.unwrap().finish().await
    });
    (dialled.unwrap(), arrived.unwrap().0)
}

async fn soon<T>(future: impl Future<Output = T>) -> T {
    tokio::time::timeout(PATIENCE, future).await.expect("took longer than anything here may take")
}
