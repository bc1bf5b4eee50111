//! Frames: how the bytes of one stream are cut into messages. Pure; the streams themselves are elsewhere.
//!
//! A frame is `u32` big-endian length (of kind and body) ‖ `u8` kind ‖ body. The same frames travel over QUIC
//! streams and over the control socket.

use bytes::{Bytes, BytesMut};

use super::fault::{Code, Fault, Outcome};

/// Longest body of one frame, in bytes: what a reader must be ready to hold for a stream it knows nothing
/// about. Larger items are cut into parts, so that a forwarding node never waits for more than this.
pub const BODY_MAX: usize = 64 * 1024;
/// Bytes before the body: the length and the kind.
pub const HEADER: usize = 5;
/// Bytes of the length alone.
const LENGTH: usize = 4;

/// Declares an enum of one byte with its names, and the conversion that refuses other bytes by name.
macro_rules! byte_enum {
    ($(#[$meta:meta])* $type:ident, $what:literal, { $( $(#[doc = $doc:literal])+ $variant:ident = $byte:literal, $name:literal; )+ }) => {
        $(#[$meta])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        #[repr(u8)]
        pub enum $type { $( $(#[doc = $doc])+ $variant = $byte, )+ }

        impl $type {
            /// Every value, in the order of its byte.
            pub const ALL: &[$type] = &[ $( $type::$variant, )+ ];

            /// The name, for people.
            pub const fn as_str(self) -> &'static str {
                match self { $( $type::$variant => $name, )+ }
            }

            /// The byte on the wire.
            pub const fn byte(self) -> u8 {
                self as u8
            }

            /// The value of a byte from outside.
            ///
            /// # Errors
            /// `protocol`, with the byte, when this version does not know it.
            pub fn from_byte(byte: u8) -> Outcome<Self> {
                match byte {
                    $( $byte => Ok($type::$variant), )+
                    other => Err(Fault::new(Code::Protocol, format!(concat!($what, " {} is not known to this version"), other))
                        .fix("update this node, or the one at the other end")),
                }
            }
        }
    };
}

byte_enum! {
    /// What a frame carries.
    FrameKind, "frame kind", {
        /// The first frame of every exchange: what it is for.
        Open = 1, "open";
        /// A whole item, or the end of one that was begun in parts.
        Item = 2, "item";
        /// Nothing more comes, and all went well. No body.
        End = 3, "end";
        /// The exchange failed: a fault as CBOR. Nothing more comes.
        Error = 4, "error";
        /// Something about the exchange that is not part of it: a trace. May be ignored.
        Note = 5, "note";
        /// The beginning of an item that goes on in the next part or item.
        Part = 6, "part";
    }
}

byte_enum! {
    /// What a stream is for: the first field of its open body.
    Exchange, "exchange", {
        /// Who is there, and who may stay.
        Hello = 0, "hello";
        /// A call of a function.
        Invoke = 1, "invoke";
        /// A blob, or a piece of one.
        Blob = 2, "blob";
        /// The long-lived stream from one slot to the slot of the same name.
        Channel = 3, "channel";
        /// A request of an operator.
        Control = 4, "control";
        /// A signed manifest that the node has announced.
        Manifest = 5, "manifest";
    }
}

/// One frame.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Frame {
    /// What it carries.
    pub kind: FrameKind,
    /// At most [`BODY_MAX`] bytes.
    pub body: Bytes,
}

/// The header of a frame with a body of this many bytes.
///
/// # Errors
/// `too-large` above [`BODY_MAX`].
pub fn header(kind: FrameKind, body_bytes: usize) -> Outcome<[u8; HEADER]> {
    if body_bytes > BODY_MAX {
        return Err(Fault::new(
            Code::TooLarge,
            format!("{} frame of {body_bytes} bytes: a frame holds {BODY_MAX}", kind.as_str()),
        ));
    }
    // Fits: BODY_MAX + 1 is far below 2^32.
    let [a, b, c, d] = (body_bytes as u32 + 1).to_be_bytes();
    Ok([a, b, c, d, kind.byte()])
}

/// Appends one frame.
///
/// # Errors
/// `too-large` above [`BODY_MAX`]; then `out` is as it was.
pub fn put_frame(out: &mut Vec<u8>, kind: FrameKind, body: &[u8]) -> Outcome<()> {
    let header = header(kind, body.len())?;
    out.reserve(HEADER + body.len());
    out.extend_from_slice(&header);
    out.extend_from_slice(body);
    Ok(())
}

/// Appends one frame whose body `write` appends in place, so that it is not copied.
///
/// # Errors
/// What `write` says, and `too-large` above [`BODY_MAX`]; then `out` is as it was.
pub fn put_frame_with(
    out: &mut Vec<u8>,
    kind: FrameKind,
    write: impl FnOnce(&mut Vec<u8>) -> Outcome<()>,
) -> Outcome<()> {
    let start = out.len();
    out.extend_from_slice(&[0; HEADER]);
    let header = write(out).and_then(|()| header(kind, out.len().saturating_sub(start + HEADER)));
    match header {
        Ok(header) => {
            if let Some(place) = out.get_mut(start..start + HEADER) {
                place.copy_from_slice(&header);
            }
            Ok(())
        }
        Err(fault) => {
            out.truncate(start);
            Err(fault)
        }
    }
}

/// Appends one item of any length: parts, then the item frame with the rest.
pub fn put_item(out: &mut Vec<u8>, item: &[u8]) {
    for (kind, body) in frames_of(item) {
        // Cannot fail: the pieces are within the limit.
        let _ = put_frame(out, kind, body);
    }
}

/// The frames of one item: as many parts as it takes, then the item frame (empty for an empty item).
pub fn frames_of(item: &[u8]) -> impl Iterator<Item = (FrameKind, &[u8])> {
    let mut rest = Some(item);
    std::iter::from_fn(move || {
        let now = rest.take()?;
        match now.split_at_checked(BODY_MAX) {
            Some((part, more)) if !more.is_empty() => {
                rest = Some(more);
                Some((FrameKind::Part, part))
            }
            _ => Some((FrameKind::Item, now)),
        }
    })
}

/// Reads frames out of bytes that come in pieces of any size. Holds at most one unfinished frame; a length over the
/// limit is refused when its four bytes are there, before anything is set aside for it.
#[derive(Debug)]
pub struct FrameParser {
    partial: BytesMut,
    body_max: usize,
}

impl Default for FrameParser {
    fn default() -> Self {
        Self::new(BODY_MAX)
    }
}

impl FrameParser {
    /// A parser that takes bodies of up to `body_max` bytes, and never more than [`BODY_MAX`].
    pub fn new(body_max: usize) -> Self {
        Self { partial: BytesMut::new(), body_max: body_max.min(BODY_MAX) }
    }

    /// Takes from the front of `input` what the next frame needs. `None`: all of `input` was taken and the frame is
    /// not complete. A frame that lies whole in `input` is not copied.
    ///
    /// # Errors
    /// `protocol` for a kind that is not known or a length of 0, `too-large` for a length over the limit. The stream cannot
    /// be read on after that.
    pub fn take(&mut self, input: &mut Bytes) -> Outcome<Option<Frame>> {
        if self.partial.is_empty() {
            let Some((kind, length)) = self.header(input)? else {
                self.keep(input, HEADER);
                return Ok(None);
            };
            if input.len() >= HEADER + length {
                let mut body = input.split_to(HEADER + length);
                return Ok(Some(Frame { kind, body: body.split_off(HEADER) }));
            }
        }
        self.keep(input, HEADER);
        let Some((kind, length)) = self.header(&self.partial)? else { return Ok(None) };
        self.keep(input, HEADER + length);
        if self.partial.len() < HEADER + length {
            return Ok(None);
        }
        let mut body = self.partial.split().freeze();
        Ok(Some(Frame { kind, body: body.split_off(HEADER) }))
    }

    /// Whether no frame is half read.
    pub fn at_boundary(&self) -> bool {
        self.partial.is_empty()
    }

    /// Bytes held of a frame that is half read.
    pub fn held(&self) -> usize {
        self.partial.len()
    }

    /// Moves bytes from `input` until `goal` are held. Grows with what came, not with what was announced.
    fn keep(&mut self, input: &mut Bytes, goal: usize) {
        let count = goal.saturating_sub(self.partial.len()).min(input.len());
        self.partial.extend_from_slice(&input.split_to(count));
    }

    /// Kind and body length of the frame that begins here, or `None` if its header is not complete.
    fn header(&self, bytes: &[u8]) -> Outcome<Option<(FrameKind, usize)>> {
        let Some((length, rest)) = bytes.split_first_chunk::<LENGTH>() else { return Ok(None) };
        let body = body_length(u32::from_be_bytes(*length), self.body_max)?;
        let Some(kind) = rest.first() else { return Ok(None) };
        Ok(Some((FrameKind::from_byte(*kind)?, body)))
    }
}

/// Checks an announced length (of kind and body); returns that of the body.
fn body_length(announced: u32, body_max: usize) -> Outcome<usize> {
    match (announced as usize).checked_sub(1) {
        None => Err(Fault::new(Code::Protocol, "frame of length 0 has no kind")),
        Some(body) if body > body_max => Err(Fault::new(
            Code::TooLarge,
            format!("frame of {body} bytes is announced: {body_max} are allowed here"),
        )),
        Some(body) => Ok(body),
    }
}

/// Follows bytes that are passed on unread, and knows whether they stop between two frames: only there may a forwarding
/// node append a frame of its own. Looks at lengths alone, so that kinds of a later version pass.
#[derive(Clone, Debug, Default)]
pub struct BoundaryTracker {
    header: [u8; HEADER],
    filled: usize,
    body_left: usize,
    last_kind: Option<u8>,
}

impl BoundaryTracker {
    /// A tracker at the beginning of a stream, which is a boundary.
    pub fn new() -> Self {
        Self::default()
    }

    /// Follows one chunk.
    ///
    /// # Errors
    /// A length of 0 or over [`BODY_MAX`]; the bytes are then not frames and must not be passed on.
    pub fn track(&mut self, mut chunk: &[u8]) -> Outcome<()> {
        while !chunk.is_empty() {
            let skipped = self.body_left.min(chunk.len());
            self.body_left -= skipped;
            chunk = chunk.get(skipped..).unwrap_or_default();
            if self.body_left > 0 || chunk.is_empty() {
                break;
            }
            while let (Some(place), Some((byte, rest))) =
                (self.header.get_mut(self.filled), chunk.split_first())
            {
                *place = *byte;
                self.filled += 1;
                chunk = rest;
            }
            if self.filled == HEADER {
                let [a, b, c, d, kind] = self.header;
                self.body_left = body_length(u32::from_be_bytes([a, b, c, d]), BODY_MAX)?;
                self.last_kind = Some(kind);
                self.filled = 0;
            }
        }
        Ok(())
    }

    /// Whether the bytes so far end with a whole frame (or there were none).
    pub fn at_boundary(&self) -> bool {
        self.filled == 0 && self.body_left == 0
    }

    /// Whether the last whole frame was an end or an error, so that nothing may follow.
    pub fn ended(&self) -> bool {
        self.at_boundary()
            && (self.last_kind == Some(FrameKind::End.byte())
                || self.last_kind == Some(FrameKind::Error.byte()))
    }
}

#[cfg(test)]
mod tests;
