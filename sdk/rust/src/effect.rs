//! Effects that every kind of policy may return, as functions.
//!
//! They fit wherever an effect of a kind is expected:
//!
//! ```
//! use midplane_sdk::{log, routing::Effect, send, set_timer};
//!
//! let effects: Vec<Effect> = vec![
//!     send("peer", b"hello".to_vec()),
//!     set_timer(1, 60_000),
//!     log::info("started"),
//! ];
//! assert_eq!(effects.len(), 3);
//! ```

use crate::{BaseEffect, Message, Millis, Timer};

/// Call `handle` with `timer(id)` once, after that many milliseconds; replaces a timer of the same id.
pub fn set_timer<E: From<BaseEffect>>(id: u64, after: Millis) -> E {
    BaseEffect::SetTimer(Timer { id, after }).into()
}

/// Forget a timer.
pub fn cancel_timer<E: From<BaseEffect>>(id: u64) -> E {
    BaseEffect::CancelTimer(id).into()
}

/// Send to the same slot of a linked peer; at most 60 KiB.
pub fn send<E: From<BaseEffect>>(peer: impl Into<String>, bytes: Vec<u8>) -> E {
    BaseEffect::Send(Message { peer: peer.into(), bytes }).into()
}

/// Lines for the node's log.
pub mod log {
    use crate::{BaseEffect, Entry, Level};

    /// For whoever debugs the policy itself.
    pub fn debug<E: From<BaseEffect>>(text: impl Into<String>) -> E {
        line(Level::Debug, text)
    }

    /// Something that an operator may like to know.
    pub fn info<E: From<BaseEffect>>(text: impl Into<String>) -> E {
        line(Level::Info, text)
    }

    /// Something is wrong, and the policy goes on.
    pub fn warn<E: From<BaseEffect>>(text: impl Into<String>) -> E {
        line(Level::Warn, text)
    }

    /// Something is wrong, and the policy cannot do its work.
    pub fn error<E: From<BaseEffect>>(text: impl Into<String>) -> E {
        line(Level::Error, text)
    }

    fn line<E: From<BaseEffect>>(level: Level, text: impl Into<String>) -> E {
        BaseEffect::Log(Entry { level, text: text.into() }).into()
    }
}
