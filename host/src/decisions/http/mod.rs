//! What HTTP messages may look like, decided on their bytes.
//!
//! [`egress`] says what a plugin may ask of the outside.
//! [`head`] is the one place where a request is refused for its form; [`framing`] finds the boundaries of HTTP/1 messages so that
//! it is asked before anything else has read them.

pub mod egress;
pub mod framing;
pub mod head;

use crate::words::Code;

/// Why a request is not taken. After it the connection is closed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Refusal {
    /// The answer's status.
    pub status: u16,
    /// The answer's code.
    pub code: Code,
    /// What is wrong. Says nothing of the request's own bytes.
    pub what: &'static str,
}

impl Refusal {
    /// 400: the bytes are no request, or one that another reader may understand differently.
    pub const fn bad(what: &'static str) -> Self {
        Self { status: 400, code: Code::Protocol, what }
    }

    /// 405: a method that no gateway takes.
    pub const fn method(what: &'static str) -> Self {
        Self { status: 405, code: Code::NotAllowed, what }
    }

    /// 408: too slow.
    pub const fn slow(what: &'static str) -> Self {
        Self { status: 408, code: Code::Deadline, what }
    }

    /// 413: the body is too large.
    pub const BODY: Self =
        Self { status: 413, code: Code::TooLarge, what: "the body is larger than this gateway takes" };
    /// 414: the target is too long.
    pub const TARGET: Self =
        Self { status: 414, code: Code::TooLarge, what: "the request target is longer than 8192 bytes" };
    /// 417: an expectation other than `100-continue`.
    pub const EXPECTATION: Self =
        Self { status: 417, code: Code::Protocol, what: "the only expectation that is met is 100-continue" };
    /// 431: the head is too large.
    pub const HEAD: Self = Self {
        status: 431,
        code: Code::TooLarge,
        what: "the head is larger than 16384 bytes or has more than 64 fields",
    };
}
