//! What a plugin may ask of the outside over HTTP: one line of `grants.http`.
//!
//! `METHODS URL [private]`: methods separated by commas, or `*`; a URL with scheme and host, whose host may begin with `*.` and whose path may
//! end with `*`; and `private` where the host may be an address of a private network.

use std::net::IpAddr;
use std::str::FromStr;

use super::id::clip;

/// Bytes of a line.
const LINE_MAX: usize = 512;

/// One line, read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Egress {
    /// Empty for all of them.
    pub methods: Vec<String>,
    /// `https`, or `http`.
    pub tls: bool,
    /// Where to.
    pub host: HostPattern,
    /// The port, also where the URL does not say it.
    pub port: u16,
    /// Which paths.
    pub path: PathPattern,
    /// Whether the host may be in a private network.
    pub private: bool,
}

/// Hosts of a line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum HostPattern {
    /// This address and no other way to say it; it may be a private one.
    Address(IpAddr),
    /// This name, lower case.
    Name(String),
    /// Every name below this one.
    Below(String),
}

/// Paths of a line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PathPattern {
    /// All of them.
    Any,
    /// This one.
    Exact(String),
    /// Those that begin so.
    Prefix(String),
}

/// A host as a URL names it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Host {
    /// A literal address.
    Address(IpAddr),
    /// A name: lower case, without the dot at its end.
    Name(String),
}

impl Host {
    /// Reads a host in the one way that everybody reads it. IPv6 stands in brackets.
    ///
    /// # Errors
    /// The rest of a sentence, for whatever some resolver would take for an address of another spelling, and for whatever is no host.
    pub fn parse(text: &str) -> Result<Self, &'static str> {
        if let Some(inner) = text.strip_prefix('[') {
            let inner = inner.strip_suffix(']').ok_or("has a bracket too few")?;
            return inner.parse().map(|v6| Host::Address(IpAddr::V6(v6))).map_err(|_| "is no IPv6 address");
        }
        let name = text.strip_suffix('.').unwrap_or(text).to_ascii_lowercase();
        if let Ok(v4) = name.parse() {
            // The dot at the end makes a name of it for some and an address for others.
            return if text.ends_with('.') {
                Err("is an address with a dot at its end")
            } else {
                Ok(Host::Address(IpAddr::V4(v4)))
            };
        }
        let byte = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-' || b == b'_';
        let label = |label: &str| (1..=63).contains(&label.len()) && label.bytes().all(byte);
        if name.len() > 253 || !name.split('.').all(label) {
            return Err(
                "is no host: letters, digits and - in parts separated by dots (names in other scripts as xn--)",
            );
        }
        // `0x7f.1`, `2130706433`, `127.1`: resolvers take them for IPv4 addresses.
        let last = name.rsplit('.').next().unwrap_or_default();
        if last.bytes().all(|b| b.is_ascii_digit()) || last.starts_with("0x") {
            return Err("is an address in a spelling that not everybody reads alike");
        }
        Ok(Host::Name(name))
    }
}

impl FromStr for Egress {
    type Err = String;

    /// Errors are the rest of a sentence.
    fn from_str(line: &str) -> Result<Self, String> {
        let bad = |why: &str| {
            format!(
                "{:?} is not \"METHODS URL\" such as \"GET https://api.example/v1/*\": it {why}",
                clip(line)
            )
        };
        if line.len() > LINE_MAX {
            return Err(bad("is longer than 512 bytes"));
        }
        let words: Vec<&str> = line.split(' ').collect();
        let (methods, url, private) = match words[..] {
            [methods, url] => (methods, url, false),
            [methods, url, "private"] => (methods, url, true),
            _ => return Err(bad("has other words")),
        };
        let method =
            |text: &str| !text.is_empty() && text.bytes().all(|b| b.is_ascii_uppercase() || b == b'-');
        let methods: Vec<String> = match methods {
            "*" => Vec::new(),
            list if list.split(',').all(method) => list.split(',').map(str::to_owned).collect(),
            _ => return Err(bad("has methods that are not capitals separated by commas, or *")),
        };
        let (scheme, rest) = url.split_once("://").ok_or_else(|| bad("has no scheme"))?;
        let tls = match scheme {
            "https" => true,
            "http" => false,
            _ => return Err(bad("has a scheme that is not https or http")),
        };
        let (authority, path) = rest.split_at(rest.find('/').unwrap_or(rest.len()));
        let (host, port) = split_port(authority, tls).ok_or_else(|| bad("has a port that is none"))?;
        let host = match host.strip_prefix("*.") {
            Some(below) => match Host::parse(below) {
                Ok(Host::Name(name)) if name.contains('.') => HostPattern::Below(name),
                _ => return Err(bad("has a * that does not stand before a domain of two parts")),
            },
            None => match Host::parse(host).map_err(bad)? {
                Host::Name(name) => HostPattern::Name(name),
                Host::Address(address) => HostPattern::Address(address),
            },
        };
        if !path.bytes().all(|b| b.is_ascii_graphic() && !matches!(b, b'?' | b'#' | b'"')) {
            return Err(bad("has a query, or what must be percent-encoded"));
        }
        let path = match path.strip_suffix('*') {
            Some(begin) if begin.ends_with('/') && !begin.contains('*') => {
                PathPattern::Prefix(begin.to_owned())
            }
            Some(_) => return Err(bad("has a * that does not stand after the last /")),
            None if path.contains('*') => return Err(bad("has a * that does not stand after the last /")),
            None if path.is_empty() => PathPattern::Any,
            None => PathPattern::Exact(path.to_owned()),
        };
        Ok(Self { methods, tls, host, port, path, private })
    }
}

/// Host and port of an authority without a user; the port of the scheme where there is none.
pub fn split_port(authority: &str, tls: bool) -> Option<(&str, u16)> {
    let after = authority.rfind(']').map_or(0, |at| at + 1);
    let colon = authority.get(after..)?.find(':').map(|at| after + at);
    let Some(colon) = colon else { return Some((authority, if tls { 443 } else { 80 })) };
    let (host, port) = authority.split_at(colon);
    let digits = port.strip_prefix(':')?;
    let fits = (1..=5).contains(&digits.len()) && digits.bytes().all(|b| b.is_ascii_digit());
    let port = digits.parse::<u16>().ok().filter(|port| fits && *port > 0)?;
    Some((host, port))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_says_methods_url_and_whether_it_may_be_private() {
        let line = |text: &str| text.parse::<Egress>().unwrap();
        let api = line("GET https://API.example");
        assert_eq!((api.tls, api.port, api.private, &api.path), (true, 443, false, &PathPattern::Any));
        assert_eq!(api.host, HostPattern::Name("api.example".into()));
        let labels = line("POST,PUT http://labels.example:8080/x/* private");
        assert_eq!(labels.methods, ["POST", "PUT"]);
        assert_eq!((labels.port, labels.private), (8080, true));
        assert_eq!(labels.path, PathPattern::Prefix("/x/".into()));
        assert_eq!(line("* https://*.a.example/").host, HostPattern::Below("a.example".into()));
        assert_eq!(line("GET http://[::1]:8080").host, HostPattern::Address("::1".parse().unwrap()));
        for bad in [
            "",
            "https://a.example",
            "GET",
            "get https://a.example",
            "GET  https://a.example",
            "GET ftp://a.example",
            "GET a.example",
            "GET https://",
            "GET https://u@a.example",
            "GET https://a.example:0",
            "GET https://a.example:x",
            "GET https://a.example:70000",
            "GET https://*",
            "GET https://*.example",
            "GET https://a.*.example",
            "GET https://127.1",
            "GET https://0x7f000001",
            "GET https://a.example/x*",
            "GET https://a.example/*/x",
            "GET https://a.example/?q",
            "GET https://a.example/#x",
            "GET https://a.example open",
            "GET,get https://a.example",
            "GET, https://a.example",
            "GET https://[::1",
            "GET https://b\u{e4}r.example",
        ] {
            assert!(bad.parse::<Egress>().is_err(), "{bad:?}");
        }
    }

    #[test]
    fn a_host_has_one_reading() {
        for (text, expect) in [
            ("A.Example", Some("a.example")),
            ("a.example.", Some("a.example")),
            ("xn--br-via.example", Some("xn--br-via.example")),
            ("localhost", Some("localhost")),
            ("1.example", Some("1.example")),
            ("a.0x1e", None),
            ("2130706433", None),
            ("0x7f.0.0.1", None),
            ("0x7f000001", None),
            ("127.1", None),
            ("127.0.0.1.", None),
            ("0177.0.0.1", None),
            ("127.0.0.01", None),
            ("1.2.3.4.5", None),
            ("256.1.1.1", None),
            ("a..b", None),
            ("", None),
            (".", None),
            ("a b", None),
            ("a%2eb", None),
            ("b\u{e4}r.example", None),
            ("\u{ff11}27.0.0.1", None),
            ("[::1%eth0]", None),
            ("[127.0.0.1]", None),
            ("::1", None),
            ("a@b", None),
        ] {
            let name = match Host::parse(text) {
                Ok(Host::Name(name)) => Some(name),
                Ok(Host::Address(address)) => panic!("{text:?} is {address}"),
                Err(_) => None,
            };
            assert_eq!(name.as_deref(), expect, "{text:?}");
        }
        for (text, expect) in
            [("127.0.0.1", "127.0.0.1"), ("[::1]", "::1"), ("[::FFFF:127.0.0.1]", "::ffff:127.0.0.1")]
        {
            assert_eq!(Host::parse(text), Ok(Host::Address(expect.parse().unwrap())));
        }
    }
}
