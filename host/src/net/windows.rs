//! What one connection may take: streams, bytes, time. Everything is named here and set, for quinn's own defaults leave the
//! receive window of a connection without a bound.

use std::sync::Arc;
use std::time::Duration;

use quinn::{IdleTimeout, ServerConfig, TransportConfig, VarInt};

/// Streams and bytes that a peer may use.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Windows {
    /// Bidirectional streams that the peer may have open.
    pub bidi_streams: u32,
    /// Unidirectional streams that the peer may have open.
    pub uni_streams: u32,
    /// Bytes over all streams that the peer may send ahead of what was read.
    pub receive: u32,
    /// Bytes over all streams that are kept here until the peer has acknowledged them.
    pub send: u64,
}

/// Before admission: the hello stream, and no more memory than a few greetings take. 256 such peers hold 16 MiB.
pub const STRANGER: Windows =
    Windows { bidi_streams: 1, uni_streams: 0, receive: 64 * 1024, send: 64 * 1024 };
/// After admission. 256 calls in flight are what one peer may ask of the pool; one unidirectional stream per slot. 8 MiB
/// fill a path of 100 ms at 80 MB/s.
pub const MEMBER: Windows =
    Windows { bidi_streams: 256, uni_streams: 32, receive: 8 * 1024 * 1024, send: 8 * 1024 * 1024 };
/// Bytes of one stream that may be ahead of its reader: an eighth of the connection, so that one slow reader leaves room for
/// others. Fixed by QUIC in the handshake, it cannot be raised later; before admission the connection's
/// 64 KiB bound it, because a byte needs room in both.
pub const STREAM_RECEIVE: u32 = 1024 * 1024;

/// A link without a sign of life for this long is gone. Four keep-alives; and when it has so much on the way that not even they are
/// sent, retransmissions pause at most half as long, since each pause is twice the one before.
pub const IDLE: Duration = Duration::from_secs(10);
/// How often a link without an answer shows that it lives. The answer ends the long pauses of retransmission, so this is how soon a link
/// that survived a cut goes on after it. An hour of it is 200 KiB.
pub const KEEP_ALIVE: Duration = Duration::from_millis(2_500);
/// Longest handshake: five round trips on the slowest satellite link, with losses.
pub const HANDSHAKE: Duration = Duration::from_secs(10);

/// Most handshakes at a time, in quinn's queue and in ours.
pub const HANDSHAKES_MAX: usize = 256;
/// From this many on a dialler must show that it gets what is sent to its address (retry).
pub const HANDSHAKES_UNPROVED: usize = HANDSHAKES_MAX / 2;
/// Most bytes kept of one connection that was not looked at yet; a first flight is below 4 KiB.
const INCOMING_BYTES: u64 = 64 * 1024;
/// Most bytes kept of all of them.
const INCOMING_BYTES_TOTAL: u64 = 4 * 1024 * 1024;
/// TLS messages kept out of order: a whole flight of a handshake with raw keys is below 1 KiB.
const CRYPTO_BYTES: usize = 8 * 1024;

/// How each connection is set up, dialled or taken.
pub fn transport() -> Arc<TransportConfig> {
    let mut transport = TransportConfig::default();
    transport
        .max_concurrent_bidi_streams(STRANGER.bidi_streams.into())
        .max_concurrent_uni_streams(STRANGER.uni_streams.into())
        .stream_receive_window(STREAM_RECEIVE.into())
        .receive_window(STRANGER.receive.into())
        .send_window(STRANGER.send)
        .datagram_receive_buffer_size(None)
        .crypto_buffer_size(CRYPTO_BYTES)
        .keep_alive_interval(Some(KEEP_ALIVE))
        .max_idle_timeout(Some(IdleTimeout::from(VarInt::from_u32(IDLE.as_millis() as u32))));
    Arc::new(transport)
}

/// Sets the bounds of what comes in.
pub fn bound(server: &mut ServerConfig) {
    server
        .transport_config(transport())
        .max_incoming(HANDSHAKES_MAX)
        .incoming_buffer_size(INCOMING_BYTES)
        .incoming_buffer_size_total(INCOMING_BYTES_TOTAL);
    // Tokens that spare a returning dialler the proof of its address: not worth what has to be remembered for them.
    let mut tokens = quinn::ValidationTokenConfig::default();
    tokens.sent(0);
    server.validation_token_config(tokens);
}

/// Gives a connection these windows. Narrowing takes effect as the peer uses up what it was promised.
pub fn grant(connection: &quinn::Connection, windows: Windows) {
    connection.set_max_concurrent_bi_streams(windows.bidi_streams.into());
    connection.set_max_concurrent_uni_streams(windows.uni_streams.into());
    connection.set_receive_window(windows.receive.into());
    connection.set_send_window(windows.send);
}
