//! What went wrong on a connection or stream, in the words that users and peers get.

use std::io;

use quinn::{ConnectionError, ReadError, VarInt, WriteError};

use crate::words::fault::{Code, Fault};
use crate::words::id::clip;
use crate::words::number::{fault_of, number_of};

/// QUIC error number of an endpoint that takes no more (RFC 9000, section 20.1).
const CONNECTION_REFUSED: u64 = 2;
/// First QUIC error number of a TLS alert (RFC 9001, section 4.8).
const CRYPTO: u64 = 0x100;
/// TLS alerts (RFC 8446, section 6) that mean that the ALPN did not fit.
const NO_APPLICATION_PROTOCOL: u64 = CRYPTO + 120;
/// One past the last number of a TLS alert.
const CRYPTO_END: u64 = 0x200;

/// The QUIC number of a code, for resets and for closing.
pub fn varint_of(code: Code) -> VarInt {
    VarInt::from_u32(number_of(code))
}

/// Why an established link ended.
pub fn link_fault(error: &ConnectionError) -> Fault {
    match error {
        ConnectionError::ApplicationClosed(close) => {
            let fault = fault_of(close.error_code.into_inner(), "link closed");
            let reason = String::from_utf8_lossy(&close.reason);
            if reason.is_empty() {
                fault
            } else {
                Fault { what: format!("{}: {:?}", fault.what, clip(&reason)), ..fault }
            }
        }
        ConnectionError::TimedOut => Fault::new(Code::LinkLost, "link gave no sign of life"),
        ConnectionError::Reset => {
            Fault::new(Code::LinkLost, "link is not known to the other side any more; it started again")
        }
        ConnectionError::LocallyClosed => Fault::new(Code::LinkLost, "link was closed here"),
        other => handshake_fault("link", other),
    }
}

/// Why a link did not come about. `whom` is an address.
pub fn handshake_fault(whom: &str, error: &ConnectionError) -> Fault {
    let tls = match error {
        ConnectionError::TransportError(error) => Some((u64::from(error.code), error.reason.clone())),
        ConnectionError::ConnectionClosed(close) => {
            Some((u64::from(close.error_code), String::from_utf8_lossy(&close.reason).into_owned()))
        }
        _ => None,
    };
    match (error, tls) {
        (_, Some((NO_APPLICATION_PROTOCOL, _))) => {
            Fault::new(Code::Protocol, format!("{whom} does not speak midplane/0"))
                .fix("look at the address; another program, or another version of this one, listens there")
        }
        (_, Some((CONNECTION_REFUSED, _))) => {
            Fault::new(Code::Busy, format!("{whom} takes no more links now"))
        }
        (_, Some((CRYPTO..CRYPTO_END, reason))) => {
            Fault::new(Code::BadSignature, format!("{whom} failed the proof of its key: {:?}", clip(&reason)))
        }
        (_, Some((number, reason))) => Fault::new(
            Code::Protocol,
            format!("{whom} broke off with QUIC error {number}: {:?}", clip(&reason)),
        ),
        (ConnectionError::VersionMismatch, _) => {
            Fault::new(Code::Protocol, format!("{whom} does not speak QUIC version 1"))
        }
        (ConnectionError::TimedOut, _) => unreachable_fault(whom),
        (ConnectionError::ApplicationClosed(close), _) => {
            fault_of(close.error_code.into_inner(), "link closed")
        }
        (other, _) => Fault::new(Code::Unreachable, format!("{whom}: {other}")),
    }
}

/// Nobody answered at an address.
pub fn unreachable_fault(whom: &str) -> Fault {
    Fault::new(Code::Unreachable, format!("{whom} does not answer"))
        .fix("look at the address, and whether UDP reaches it through its firewall")
}

/// Why nothing more can be read.
pub fn read_fault(error: &ReadError) -> Fault {
    match error {
        ReadError::Reset(number) => fault_of(number.into_inner(), "stream ended"),
        ReadError::ConnectionLost(error) => link_fault(error),
        other => Fault::new(Code::Internal, format!("stream cannot be read: {other}")),
    }
}

/// Why nothing more can be written.
pub fn write_fault(error: &WriteError) -> Fault {
    match error {
        WriteError::Stopped(number) => fault_of(number.into_inner(), "stream stopped"),
        WriteError::ConnectionLost(error) => link_fault(error),
        other => Fault::new(Code::Internal, format!("stream cannot be written: {other}")),
    }
}

/// The same for any reader or writer: quinn's errors are found inside, others are those of a broken pipe.
pub fn stream_fault(error: &io::Error) -> Fault {
    let inner = error.get_ref();
    if let Some(error) = inner.and_then(|inner| inner.downcast_ref::<WriteError>()) {
        return write_fault(error);
    }
    if let Some(error) = inner.and_then(|inner| inner.downcast_ref::<ReadError>()) {
        return read_fault(error);
    }
    match error.kind() {
        io::ErrorKind::BrokenPipe
        | io::ErrorKind::ConnectionReset
        | io::ErrorKind::ConnectionAborted
        | io::ErrorKind::NotConnected
        | io::ErrorKind::UnexpectedEof => {
            Fault::new(Code::LinkLost, format!("the other side went away: {error}"))
        }
        _ => Fault::io("stream", error),
    }
}
