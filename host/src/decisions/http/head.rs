//! Whether a request's head is taken: one function, for HTTP/1 before its parser sees it, and for HTTP/2.
//!
//! Whatever two readers could understand differently is refused, because one of them may be a proxy before this node and the other
//! a component behind it.

use super::Refusal;

/// Bytes of an HTTP/1 head, and of an HTTP/2 header list. Nginx and hyper take about as much.
pub const HEAD_MAX: usize = 16 << 10;
/// Fields of a head.
pub const FIELDS_MAX: usize = 64;
/// Bytes of a request target: what RFC 9110 §4.1 asks for at least.
pub const TARGET_MAX: usize = 8_000 + 192;
/// Bytes of a method. The longest registered one has 17.
const METHOD_MAX: usize = 20;
/// Digits of a `Content-Length`: what fits into 63 bits.
const LENGTH_DIGITS: usize = 18;

/// Which protocol the head came in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Version {
    /// HTTP/1.0.
    Http10,
    /// HTTP/1.1.
    Http11,
    /// HTTP/2: boundaries are those of frames.
    Http2,
}

/// A head, taken apart but not understood.
#[derive(Clone, Debug)]
pub struct Head<'a> {
    /// Its protocol.
    pub version: Version,
    /// As it came.
    pub method: &'a [u8],
    /// As it came: for HTTP/2 path and query.
    pub target: &'a [u8],
    /// `:authority` of HTTP/2.
    pub authority: Option<&'a [u8]>,
    /// Names and values in their order.
    pub fields: Vec<(&'a [u8], &'a [u8])>,
}

/// How the body after a head ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Framing {
    /// After so many bytes; 0 for none.
    Length(u64),
    /// After the last chunk.
    Chunked,
}

/// Judges a head.
///
/// # Errors
/// The first thing that is wrong with it.
pub fn judge(head: &Head<'_>) -> Result<Framing, Refusal> {
    method(head.method)?;
    if head.fields.len() > FIELDS_MAX {
        return Err(Refusal::HEAD);
    }
    let named = target(head)?;
    for (name, value) in &head.fields {
        field(name, value)?;
    }
    host(head, named)?;
    let mut expectations = values(head, b"expect");
    if expectations.any(|value| !value.eq_ignore_ascii_case(b"100-continue")) {
        return Err(Refusal::EXPECTATION);
    }
    framing(head)
}

/// The host that a request is for: lower case, without port, without the dot that may end a name.
pub fn host_name(authority: &str) -> String {
    let end = if authority.starts_with('[') {
        authority.find(']').map_or(authority.len(), |at| at + 1)
    } else {
        authority.find(':').unwrap_or(authority.len())
    };
    let name = authority.get(..end).unwrap_or_default();
    name.strip_suffix('.').unwrap_or(name).to_ascii_lowercase()
}

fn values<'a>(head: &'a Head<'_>, wanted: &'static [u8]) -> impl Iterator<Item = &'a [u8]> {
    let of_name = move |(name, _): &&(&[u8], &[u8])| name.eq_ignore_ascii_case(wanted);
    head.fields.iter().filter(of_name).map(|(_, value)| *value)
}

fn method(method: &[u8]) -> Result<(), Refusal> {
    if method == b"CONNECT" || method == b"TRACE" || method == b"TRACK" {
        return Err(Refusal::method("this method is not served"));
    }
    // Methods are case-sensitive, and all that are registered are capitals: `get` is a slip, or a try.
    let fits = |b: &u8| b.is_ascii_uppercase() || *b == b'-';
    if method.is_empty() || method.len() > METHOD_MAX || !method.iter().all(fits) {
        return Err(Refusal::bad("the method is not one"));
    }
    Ok(())
}

/// Checks the target, and gives the authority that it or the protocol names.
fn target<'a>(head: &Head<'a>) -> Result<Option<&'a [u8]>, Refusal> {
    let bad = Refusal::bad("the request target is no path and no http URL");
    if head.target.len() > TARGET_MAX {
        return Err(Refusal::TARGET);
    }
    let mut named = head.authority;
    let mut rest = head.target;
    if !rest.starts_with(b"/") {
        // The absolute form, as proxies are asked.
        let lower = rest.get(..8.min(rest.len())).unwrap_or_default().to_ascii_lowercase();
        let skip = if lower.starts_with(b"http://") {
            7
        } else if lower.starts_with(b"https://") {
            8
        } else {
            return Err(bad);
        };
        rest = rest.get(skip..).unwrap_or_default();
        let end = rest.iter().position(|b| matches!(b, b'/' | b'?' | b'#')).unwrap_or(rest.len());
        named = Some(rest.get(..end).unwrap_or_default());
        rest = rest.get(end..).unwrap_or_default();
        if !rest.is_empty() && !rest.starts_with(b"/") {
            return Err(bad);
        }
    }
    let split = rest.iter().position(|b| *b == b'?').unwrap_or(rest.len());
    path(rest.get(..split).unwrap_or_default())?;
    // As browsers send it: anything visible but what ends or quotes a URL.
    let query = |b: &u8| b.is_ascii_graphic() && !matches!(b, b'"' | b'#' | b'<' | b'>');
    if !rest.get(split..).unwrap_or_default().iter().all(query) {
        return Err(Refusal::bad("the query has a character that must be percent-encoded"));
    }
    Ok(named)
}

/// RFC 3986, without the parts that ask for another path than they show.
fn path(path: &[u8]) -> Result<(), Refusal> {
    let mut decoded = Vec::with_capacity(path.len());
    let mut bytes = path.iter();
    while let Some(byte) = bytes.next() {
        let hex = |b: Option<&u8>| b.and_then(|b| char::from(*b).to_digit(16));
        match byte {
            b'%' => match (hex(bytes.next()), hex(bytes.next())) {
                (Some(0), Some(0)) => return Err(Refusal::bad("the path has an encoded NUL")),
                // What is encoded is told apart from what is not, but for dots.
                (Some(2), Some(0xe)) => decoded.push(b'.'),
                (Some(_), Some(_)) => decoded.push(b'%'),
                _ => return Err(Refusal::bad("the path has a % that encodes nothing")),
            },
            b if b.is_ascii_alphanumeric() || b"-._~!$&'()*+,;=:@/|".contains(b) => decoded.push(*b),
            _ => return Err(Refusal::bad("the path has a character that must be percent-encoded")),
        }
    }
    if decoded.split(|b| *b == b'/').any(|part| part == b"." || part == b"..") {
        return Err(Refusal::bad("the path has . or .. as a part"));
    }
    Ok(())
}

/// Whether this byte may stand in a field's name or a method: `token` of RFC 9110 §5.6.2.
pub(super) fn is_token(byte: &u8) -> bool {
    byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(byte)
}

/// Checks a field's name and value.
pub(super) fn field(name: &[u8], value: &[u8]) -> Result<(), Refusal> {
    if name.is_empty() || !name.iter().all(is_token) {
        return Err(Refusal::bad("a field's name is not one"));
    }
    if value.iter().any(|b| (*b < 0x20 && *b != b'\t') || *b == 0x7f) {
        return Err(Refusal::bad("a field's value has a control character"));
    }
    Ok(())
}

fn host(head: &Head<'_>, named: Option<&[u8]>) -> Result<(), Refusal> {
    let mut hosts = values(head, b"host");
    let host = match (hosts.next(), hosts.next(), named) {
        (_, Some(_), _) => return Err(Refusal::bad("there is more than one Host")),
        (Some(host), None, Some(named)) if !host.eq_ignore_ascii_case(named) => {
            return Err(Refusal::bad("Host is not the host of the request target"));
        }
        (Some(host), None, _) => host,
        (None, _, Some(named)) if head.version == Version::Http2 => named,
        (None, _, _) => return Err(Refusal::bad("there is no Host")),
    };
    if is_authority(host) { Ok(()) } else { Err(Refusal::bad("Host is no host")) }
}

/// A name, IPv4 address or bracketed IPv6 address, with or without port; no user.
fn is_authority(text: &[u8]) -> bool {
    let (name, port) = if text.starts_with(b"[") {
        let Some(end) = text.iter().position(|b| *b == b']') else { return false };
        let (name, rest) = text.split_at(end + 1);
        let inner = name.get(1..end).and_then(|inner| std::str::from_utf8(inner).ok()).unwrap_or_default();
        if inner.parse::<std::net::Ipv6Addr>().is_err() {
            return false;
        }
        (name, rest)
    } else {
        let end = text.iter().position(|b| *b == b':').unwrap_or(text.len());
        let (name, rest) = text.split_at(end);
        if !name.iter().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'.' | b'_')) {
            return false;
        }
        (name, rest)
    };
    let port_fits = match port.strip_prefix(b":") {
        Some(digits) => {
            (1..=5).contains(&digits.len())
                && std::str::from_utf8(digits).is_ok_and(|digits| digits.parse::<u16>().is_ok())
                && digits.iter().all(u8::is_ascii_digit)
        }
        None => port.is_empty(),
    };
    !name.is_empty() && name.len() <= 255 && port_fits
}

/// One way to say where a body ends; two are one too many, even when they agree.
fn framing(head: &Head<'_>) -> Result<Framing, Refusal> {
    let mut lengths = values(head, b"content-length");
    let mut codings = values(head, b"transfer-encoding");
    match (codings.next(), codings.next(), lengths.next(), lengths.next()) {
        (_, Some(_), _, _) => Err(Refusal::bad("there is more than one Transfer-Encoding")),
        (_, _, _, Some(_)) => Err(Refusal::bad("there is more than one Content-Length")),
        (Some(_), _, Some(_), _) => {
            Err(Refusal::bad("Transfer-Encoding and Content-Length exclude each other"))
        }
        (Some(_), _, _, _) if head.version != Version::Http11 => {
            Err(Refusal::bad("only HTTP/1.1 has Transfer-Encoding"))
        }
        (Some(coding), _, _, _) if coding.eq_ignore_ascii_case(b"chunked") => Ok(Framing::Chunked),
        (Some(_), _, _, _) => Err(Refusal::bad("the only Transfer-Encoding is chunked")),
        (None, _, Some(length), _) => {
            let digits = length.len() <= LENGTH_DIGITS && length.iter().all(u8::is_ascii_digit);
            let canonical = length.len() == 1 || !length.starts_with(b"0");
            let number = std::str::from_utf8(length).ok().and_then(|text| text.parse().ok());
            match number.filter(|_| digits && canonical) {
                Some(length) => Ok(Framing::Length(length)),
                None => Err(Refusal::bad("Content-Length is no number")),
            }
        }
        (None, _, None, _) => Ok(Framing::Length(0)),
    }
}

#[cfg(test)]
mod tests;
