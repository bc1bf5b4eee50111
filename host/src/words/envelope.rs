//! The envelope of an invocation: what was asked (`fixed`, never changed on the way) and how it travels (`hop`, written
//! anew by each node).
//!
//! The body of an open frame is a CBOR array that begins with the exchange. For a call (`invoke`) it is
//! `[exchange, fixed as bytes, hop as a map]`, for everything else `[exchange, details as bytes]`. Encoded by hand with minicbor:
//! this is the data path.

use minicbor::data::Type;
use minicbor::{Decoder, Encoder};

use super::fault::{Code, Fault, Outcome};
use super::frame::Exchange;
use super::hop::{HOPS_MAX, Hop, node_id};
use super::id::{NAME_MAX, Name, NodeId};

/// Longest function name: interface and function of a component's export, with room to spare.
pub const FUNCTION_MAX: usize = 128;
/// Most argument bytes in the open frame: with 64 KiB per frame this leaves 16 KiB for everything else. More arguments
/// follow in part and item frames.
pub const ARGUMENTS_MAX: usize = 48 * 1024;
/// Most bytes of `fixed`: its arguments, and 2 KiB for ids, name and function.
pub const FIXED_MAX: usize = ARGUMENTS_MAX + 2 * 1024;
/// Most bytes of the details of another exchange: a digest with ranges, or the names of a slot and its protocol.
pub const DETAILS_MAX: usize = 16 * 1024;
/// Fields of `fixed`. Strict: what a signature covers must not be read in two ways.
const FIXED_FIELDS: u64 = 10;

/// What is asked, forwarded byte for byte.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fixed {
    /// Random, chosen by the caller; one call is known by `from` and this.
    pub id: [u8; 16],
    /// The node where the call starts.
    pub from: NodeId,
    /// What is called.
    pub name: Name,
    /// The node that is to serve it, chosen where the call starts.
    pub to: Option<NodeId>,
    /// The function, at most [`FUNCTION_MAX`] bytes.
    pub function: String,
    /// How `arguments` are written; the parties to the call give it its meaning.
    pub form: u8,
    /// The first part of the arguments, at most [`ARGUMENTS_MAX`] bytes.
    pub arguments: Vec<u8>,
    /// Whether more arguments follow in part and item frames.
    pub more: bool,
    /// Whether running it twice is as good as once.
    pub idempotent: bool,
    /// When the call was made, in Unix milliseconds by the caller's clock.
    pub created: u64,
}

/// [`Fixed`] as it lies in a received frame. The name is not checked but for its length.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FixedRef<'a> {
    /// See [`Fixed::id`].
    pub id: &'a [u8; 16],
    /// See [`Fixed::from`].
    pub from: NodeId,
    /// See [`Fixed::name`]; use [`FixedRef::name`] for a checked one.
    pub name: &'a str,
    /// See [`Fixed::to`].
    pub to: Option<NodeId>,
    /// See [`Fixed::function`].
    pub function: &'a str,
    /// See [`Fixed::form`].
    pub form: u8,
    /// See [`Fixed::arguments`].
    pub arguments: &'a [u8],
    /// See [`Fixed::more`].
    pub more: bool,
    /// See [`Fixed::idempotent`].
    pub idempotent: bool,
    /// See [`Fixed::created`].
    pub created: u64,
}

/// The open body of a call as it lies in a received frame.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OpenRef<'a> {
    /// Always `invoke`.
    pub exchange: Exchange,
    /// The encoded [`Fixed`]; pass it on as it is.
    pub fixed: &'a [u8],
    /// How it travelled until here.
    pub hop: Hop,
}

impl Fixed {
    /// A borrowed view.
    pub fn as_ref(&self) -> FixedRef<'_> {
        FixedRef {
            id: &self.id,
            from: self.from,
            name: self.name.as_str(),
            to: self.to,
            function: &self.function,
            form: self.form,
            arguments: &self.arguments,
            more: self.more,
            idempotent: self.idempotent,
            created: self.created,
        }
    }
}

impl<'a> FixedRef<'a> {
    /// Appends the encoded form.
    ///
    /// # Errors
    /// `too-large` for a function or arguments beyond their limits.
    pub fn encode(&self, out: &mut Vec<u8>) -> Outcome<()> {
        self.limits()?;
        out.reserve(160 + self.name.len() + self.function.len() + self.arguments.len());
        let mut encoder = Encoder::new(out);
        let written = encoder.array(FIXED_FIELDS).and_then(|encoder| {
            encoder.bytes(self.id)?.bytes(self.from.as_bytes())?.str(self.name)?;
            match &self.to {
                Some(to) => encoder.bytes(to.as_bytes())?,
                None => encoder.null()?,
            };
            encoder.str(self.function)?.u8(self.form)?.bytes(self.arguments)?;
            encoder.bool(self.more)?.bool(self.idempotent)?.u64(self.created).map(|_| ())
        });
        written.map_err(|error| unwritten("call", error))
    }

    /// Reads the encoded form.
    ///
    /// # Errors
    /// `protocol` for anything but exactly the ten fields, `too-large` beyond a limit.
    pub fn decode(bytes: &'a [u8]) -> Outcome<Self> {
        at_most("call", bytes.len(), FIXED_MAX)?;
        let mut decoder = Decoder::new(bytes);
        let fixed = Self::read(&mut decoder).map_err(|error| unread("call", error))?;
        if decoder.position() != bytes.len() {
            return Err(Fault::new(Code::Protocol, "call has bytes after its end"));
        }
        fixed.limits()?;
        Ok(fixed)
    }

    /// The name, checked.
    ///
    /// # Errors
    /// `protocol` when it is not a name.
    pub fn name(&self) -> Outcome<Name> {
        self.name.parse().map_err(|fault: Fault| Fault { code: Code::Protocol, ..fault })
    }

    /// The same, not borrowed.
    ///
    /// # Errors
    /// `protocol` when the name is not a name.
    pub fn to_fixed(&self) -> Outcome<Fixed> {
        Ok(Fixed {
            id: *self.id,
            from: self.from,
            name: self.name()?,
            to: self.to,
            function: self.function.to_owned(),
            form: self.form,
            arguments: self.arguments.to_vec(),
            more: self.more,
            idempotent: self.idempotent,
            created: self.created,
        })
    }

    fn read(decoder: &mut Decoder<'a>) -> Result<Self, minicbor::decode::Error> {
        use minicbor::decode::Error;
        if decoder.array()? != Some(FIXED_FIELDS) {
            return Err(Error::message("expected an array of 10"));
        }
        Ok(Self {
            id: decoder.bytes()?.try_into().map_err(|_| Error::message("an id has 16 bytes"))?,
            from: node_id(decoder)?,
            name: decoder.str()?,
            to: match decoder.datatype()? {
                Type::Null => decoder.null().map(|()| None)?,
                _ => Some(node_id(decoder)?),
            },
            function: decoder.str()?,
            form: decoder.u8()?,
            arguments: decoder.bytes()?,
            more: decoder.bool()?,
            idempotent: decoder.bool()?,
            created: decoder.u64()?,
        })
    }

    fn limits(&self) -> Outcome<()> {
        at_most("name", self.name.len(), NAME_MAX)?;
        at_most("function name", self.function.len(), FUNCTION_MAX)?;
        at_most("first arguments", self.arguments.len(), ARGUMENTS_MAX)
    }
}

/// Appends the open body of a call, around its encoded [`Fixed`].
///
/// # Errors
/// `too-large` when the fixed part or the chain is beyond its limit.
pub fn encode_open(out: &mut Vec<u8>, exchange: Exchange, fixed: &[u8], hop: &Hop) -> Outcome<()> {
    at_most("call", fixed.len(), FIXED_MAX)?;
    at_most("chain", hop.chain.len(), usize::from(HOPS_MAX))?;
    out.reserve(48 + fixed.len() + 34 * hop.chain.len());
    let mut encoder = Encoder::new(out);
    let head = encoder.array(3).and_then(|encoder| encoder.u8(exchange.byte())?.bytes(fixed).map(|_| ()));
    head.and_then(|()| hop.write(&mut encoder)).map_err(|error| unwritten("open", error))
}

/// Reads the open body of a call.
///
/// # Errors
/// `protocol` when it is none, `too-large` beyond a limit.
pub fn decode_open(body: &[u8]) -> Outcome<OpenRef<'_>> {
    let mut decoder = Decoder::new(body);
    let exchange = read_exchange(&mut decoder, 3)?;
    let fixed = decoder.bytes().map_err(|error| unread("open", error))?;
    at_most("call", fixed.len(), FIXED_MAX)?;
    let hop = Hop::read(&mut decoder).map_err(|error| unread("open", error))?;
    end(&decoder, body)?;
    Ok(OpenRef { exchange, fixed, hop })
}

/// Appends the open body of an exchange that is not a call.
///
/// # Errors
/// `too-large` beyond [`DETAILS_MAX`].
pub fn encode_start(out: &mut Vec<u8>, exchange: Exchange, details: &[u8]) -> Outcome<()> {
    at_most("open", details.len(), DETAILS_MAX)?;
    let mut encoder = Encoder::new(out);
    let written =
        encoder.array(2).and_then(|encoder| encoder.u8(exchange.byte())?.bytes(details).map(|_| ()));
    written.map_err(|error| unwritten("open", error))
}

/// Reads the details of an exchange that is not a call.
///
/// # Errors
/// `protocol` when it is none, `too-large` beyond [`DETAILS_MAX`].
pub fn decode_start(body: &[u8]) -> Outcome<(Exchange, &[u8])> {
    let mut decoder = Decoder::new(body);
    let exchange = read_exchange(&mut decoder, 2)?;
    let details = decoder.bytes().map_err(|error| unread("open", error))?;
    at_most("open", details.len(), DETAILS_MAX)?;
    end(&decoder, body)?;
    Ok((exchange, details))
}

/// What the exchange with this open body is for, so that the rest can be read accordingly.
///
/// # Errors
/// `protocol` when it is not known.
pub fn exchange_of(body: &[u8]) -> Outcome<Exchange> {
    let mut decoder = Decoder::new(body);
    let head = decoder.array().and_then(|_| decoder.u8());
    Exchange::from_byte(head.map_err(|error| unread("open", error))?)
}

fn read_exchange(decoder: &mut Decoder<'_>, fields: u64) -> Outcome<Exchange> {
    let found = decoder.array().map_err(|error| unread("open", error))?;
    let exchange = decoder.u8().map_err(|error| unread("open", error))?;
    let exchange = Exchange::from_byte(exchange)?;
    let call = exchange == Exchange::Invoke;
    if found != Some(fields) || call != (fields == 3) {
        return Err(Fault::new(
            Code::Protocol,
            format!("open of {} is not an array of {fields}", exchange.as_str()),
        ));
    }
    Ok(exchange)
}

fn end(decoder: &Decoder<'_>, body: &[u8]) -> Outcome<()> {
    if decoder.position() == body.len() {
        return Ok(());
    }
    Err(Fault::new(Code::Protocol, "open has bytes after its end"))
}

fn at_most(what: &str, found: usize, most: usize) -> Outcome<()> {
    if found <= most {
        return Ok(());
    }
    Err(Fault::new(Code::TooLarge, format!("{what} of length {found}: {most} are allowed")))
}

fn unread(what: &str, error: minicbor::decode::Error) -> Fault {
    Fault::new(Code::Protocol, format!("{what} is not what it should be: {error}"))
}

/// Writing into memory does not fail; if it ever does, it is ours.
fn unwritten(what: &str, error: impl std::fmt::Display) -> Fault {
    Fault::new(Code::Internal, format!("{what} could not be written: {error}"))
}

#[cfg(test)]
mod tests;
