//! HTTP listeners: from a socket to requests whose form was judged, with a deadline and a bound on everything before that.
//!
//! [`listener`] accepts and counts, `connection` serves one connection, `io` stands between the socket and the parser, `watch` says
//! which deadline holds, [`body`] and [`answer`] are what goes in and out. Nothing here knows a gateway.

pub mod answer;
pub mod body;
mod connection;
mod io;
pub mod listener;
mod watch;

use std::time::Duration;

pub use body::{Inbound, Outbound};
pub use listener::Listeners;

/// How long a client may take for the head of a request, unless the operator says otherwise. The other deadlines are multiples of it.
pub const PATIENCE: Duration = Duration::from_secs(5);
/// Connections at a time. Each costs some 50 KiB of buffers at most.
pub const CONNECTIONS: usize = 1_024;
/// Connections of one IPv4 address or IPv6 /64 at a time: a quarter, so that four misbehave before the others notice.
pub const CONNECTIONS_PER_ADDRESS: usize = 256;

/// What a listener allows.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// For the first byte of a connection, and from the first to the last byte of a head.
    pub patience: Duration,
    /// Connections at a time, of all listeners.
    pub connections: usize,
    /// Connections of one address at a time.
    pub per_address: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self { patience: PATIENCE, connections: CONNECTIONS, per_address: CONNECTIONS_PER_ADDRESS }
    }
}

impl Limits {
    /// Between two requests of one connection.
    pub fn idle(&self) -> Duration {
        self.patience * 3
    }

    /// In which a body that is waited for brings 1 KiB at least, or its end.
    pub fn body(&self) -> Duration {
        self.patience * 2
    }

    /// In which a client takes something of an answer.
    pub fn write(&self) -> Duration {
        self.patience * 2
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_client_that_does_nothing_is_gone_within_fifteen_seconds() {
        let limits = Limits::default();
        assert_eq!(limits.patience, Duration::from_secs(5));
        assert_eq!((limits.body(), limits.write()), (Duration::from_secs(10), Duration::from_secs(10)));
        assert_eq!(limits.idle(), Duration::from_secs(15));
        assert!(limits.per_address < limits.connections);
    }
}
