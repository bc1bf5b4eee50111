//! Whether a plugin may ask this of the outside, and whether an address is outside at all.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use crate::words::egress::{Egress, Host, HostPattern, PathPattern, split_port};

/// A request that a plugin wants to make.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Wish {
    /// Its method.
    pub method: String,
    /// Whether it goes through TLS.
    pub tls: bool,
    /// Whom it asks.
    pub host: Host,
    /// At which port.
    pub port: u16,
    /// The path, without the query.
    pub path: String,
}

impl Wish {
    /// Reads a request's parts.
    ///
    /// # Errors
    /// The rest of a sentence that begins with the authority.
    pub fn read(method: &str, tls: bool, authority: &str, path: &str) -> Result<Self, &'static str> {
        if authority.contains('@') {
            return Err("names a user");
        }
        let (host, port) = split_port(authority, tls).ok_or("has a port that is none")?;
        let host = Host::parse(host)?;
        // What a server makes of these is not what the grant says.
        let plain = path.to_ascii_lowercase().replace("%2e", ".");
        if plain.split(['/', '\\']).any(|part| part == "." || part == "..") {
            return Err("is asked for a path with . or .. as a part");
        }
        Ok(Self { method: method.to_owned(), tls, host, port, path: path.to_owned() })
    }
}

/// The first line that allows a request.
pub fn granted<'a>(lines: &'a [Egress], wish: &Wish) -> Option<&'a Egress> {
    lines.iter().find(|line| {
        let method = line.methods.is_empty() || line.methods.contains(&wish.method);
        let host = match (&line.host, &wish.host) {
            (HostPattern::Address(own), Host::Address(wanted)) => own.to_canonical() == wanted.to_canonical(),
            (HostPattern::Name(own), Host::Name(wanted)) => own == wanted,
            (HostPattern::Below(own), Host::Name(wanted)) => {
                wanted.strip_suffix(own.as_str()).is_some_and(|rest| rest.len() > 1 && rest.ends_with('.'))
            }
            _ => false,
        };
        let path = match &line.path {
            PathPattern::Any => true,
            PathPattern::Exact(own) => *own == wish.path,
            PathPattern::Prefix(own) => wish.path.starts_with(own.as_str()),
        };
        method && host && path && line.tls == wish.tls && line.port == wish.port
    })
}

/// Whether a request that this line allows may go to this address.
pub fn may_reach(line: &Egress, address: IpAddr) -> bool {
    let address = address.to_canonical();
    match line.host {
        HostPattern::Address(own) => own.to_canonical() == address && is_one_host(address),
        HostPattern::Name(_) | HostPattern::Below(_) => {
            is_public(address) || line.private && is_one_host(address)
        }
    }
}

/// Whether it is an address of one host, wherever it is.
fn is_one_host(address: IpAddr) -> bool {
    let broadcast = matches!(address, IpAddr::V4(v4) if v4.is_broadcast());
    !address.is_unspecified() && !address.is_multicast() && !broadcast
}

/// Whether an address is of the public internet, by the special-purpose registries of IANA. An IPv6 address that stands for an IPv4 one
/// through a translator or tunnel is not: where it leads is for the translator to say.
pub fn is_public(address: IpAddr) -> bool {
    match address.to_canonical() {
        IpAddr::V4(address) => !PRIVATE_V4.iter().any(|(net, bits)| in_v4(address, *net, *bits)),
        IpAddr::V6(address) => {
            in_v6(address, Ipv6Addr::new(0x2000, 0, 0, 0, 0, 0, 0, 0), 3)
                && !PRIVATE_V6.iter().any(|(net, bits)| in_v6(address, *net, *bits))
        }
    }
}

/// What is not public of IPv4.
const PRIVATE_V4: [(Ipv4Addr, u32); 16] = [
    // This network, private use, carriers' own, loopback, link-local (where clouds answer with secrets).
    (Ipv4Addr::new(0, 0, 0, 0), 8),
    (Ipv4Addr::new(10, 0, 0, 0), 8),
    (Ipv4Addr::new(100, 64, 0, 0), 10),
    (Ipv4Addr::new(127, 0, 0, 0), 8),
    (Ipv4Addr::new(169, 254, 0, 0), 16),
    (Ipv4Addr::new(172, 16, 0, 0), 12),
    (Ipv4Addr::new(192, 168, 0, 0), 16),
    // Protocol assignments, documentation, relays of 6to4, AS112, benchmarks.
    (Ipv4Addr::new(192, 0, 0, 0), 24),
    (Ipv4Addr::new(192, 0, 2, 0), 24),
    (Ipv4Addr::new(192, 88, 99, 0), 24),
    (Ipv4Addr::new(192, 175, 48, 0), 24),
    (Ipv4Addr::new(198, 18, 0, 0), 15),
    (Ipv4Addr::new(198, 51, 100, 0), 24),
    (Ipv4Addr::new(203, 0, 113, 0), 24),
    // Multicast; reserved, with broadcast.
    (Ipv4Addr::new(224, 0, 0, 0), 4),
    (Ipv4Addr::new(240, 0, 0, 0), 4),
];

/// What is not public of 2000::/3; nothing else of IPv6 is, so neither loopback, nor mapped, NAT64, local or multicast addresses.
const PRIVATE_V6: [(Ipv6Addr, u32); 4] = [
    // Protocol assignments with Teredo; documentation, twice; 6to4.
    (Ipv6Addr::new(0x2001, 0, 0, 0, 0, 0, 0, 0), 23),
    (Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 0), 32),
    (Ipv6Addr::new(0x2002, 0, 0, 0, 0, 0, 0, 0), 16),
    (Ipv6Addr::new(0x3fff, 0, 0, 0, 0, 0, 0, 0), 20),
];

fn in_v4(address: Ipv4Addr, net: Ipv4Addr, bits: u32) -> bool {
    (u32::from(address) ^ u32::from(net)) >> (32 - bits) == 0
}

fn in_v6(address: Ipv6Addr, net: Ipv6Addr, bits: u32) -> bool {
    (u128::from(address) ^ u128::from(net)) >> (128 - bits) == 0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_public_internet_is_public() {
        for address in [
            "0.0.0.0",
            "0.1.2.3",
            "10.0.0.1",
            "10.255.255.255",
            "100.64.0.1",
            "100.127.255.255",
            "127.0.0.1",
            "127.255.255.254",
            "169.254.169.254",
            "172.16.0.1",
            "172.31.255.255",
            "192.0.0.1",
            "192.0.2.1",
            "192.88.99.1",
            "192.168.0.1",
            "198.18.0.1",
            "198.19.255.255",
            "198.51.100.1",
            "203.0.113.1",
            "224.0.0.1",
            "239.255.255.255",
            "240.0.0.1",
            "255.255.255.255",
            "::",
            "::1",
            "::ffff:127.0.0.1",
            "::ffff:10.0.0.1",
            "::ffff:169.254.169.254",
            "::127.0.0.1",
            "64:ff9b::7f00:1",
            "64:ff9b::808:808",
            "64:ff9b:1::1",
            "100::1",
            "2001::1",
            "2001:0:808:808::1",
            "2001:10::1",
            "2001:20::1",
            "2001:db8::1",
            "2002:7f00:1::1",
            "2002:808:808::1",
            "3fff::1",
            "5f00::1",
            "fc00::1",
            "fd00:ec2::254",
            "fe80::1",
            "fec0::1",
            "ff02::1",
            "4000::1",
        ] {
            assert!(!is_public(address.parse().unwrap()), "{address}");
        }
        for address in [
            "1.1.1.1",
            "8.8.8.8",
            "9.255.255.255",
            "11.0.0.1",
            "100.63.255.255",
            "100.128.0.1",
            "126.1.1.1",
            "128.0.0.1",
            "169.253.1.1",
            "172.15.1.1",
            "172.32.0.1",
            "192.167.1.1",
            "192.169.1.1",
            "198.17.1.1",
            "198.20.0.1",
            "223.255.255.255",
            "::ffff:8.8.8.8",
            "2606:4700:4700::1111",
            "2a00:1450::1",
            "2001:200::1",
            "2003::1",
        ] {
            assert!(is_public(address.parse().unwrap()), "{address}");
        }
    }

    #[test]
    fn a_request_needs_a_line_for_method_scheme_host_port_and_path() {
        let lines: Vec<Egress> = [
            "GET https://api.example",
            "POST https://labels.example/x/*",
            "PUT https://labels.example/one",
            "* http://*.a.example:8080",
            "GET http://127.0.0.1:9000",
            "GET http://[::1]",
        ]
        .iter()
        .map(|line| line.parse().unwrap())
        .collect();
        for (method, tls, authority, path, expect) in [
            ("GET", true, "api.example", "/", Some(0)),
            ("GET", true, "API.Example.", "/any/thing", Some(0)),
            ("GET", true, "api.example:443", "/", Some(0)),
            ("POST", true, "api.example", "/", None),
            ("GET", false, "api.example", "/", None),
            ("GET", true, "api.example:8443", "/", None),
            ("GET", true, "xapi.example", "/", None),
            ("GET", true, "api.example.evil.example", "/", None),
            ("POST", true, "labels.example", "/x/1", Some(1)),
            ("POST", true, "labels.example", "/x/", Some(1)),
            ("POST", true, "labels.example", "/x", None),
            ("POST", true, "labels.example", "/xy", None),
            ("PUT", true, "labels.example", "/one", Some(2)),
            ("PUT", true, "labels.example", "/one/", None),
            ("DELETE", false, "b.a.example:8080", "/", Some(3)),
            ("DELETE", false, "c.b.a.example:8080", "/", Some(3)),
            ("DELETE", false, "a.example:8080", "/", None),
            ("DELETE", false, ".a.example:8080", "/", None),
            ("DELETE", false, "xa.example:8080", "/", None),
            ("GET", false, "127.0.0.1:9000", "/", Some(4)),
            ("GET", false, "[::ffff:127.0.0.1]:9000", "/", Some(4)),
            ("GET", false, "localhost:9000", "/", None),
            ("GET", false, "[::1]", "/", Some(5)),
            ("GET", false, "[0:0:0:0:0:0:0:1]:80", "/", Some(5)),
        ] {
            let wish = Wish::read(method, tls, authority, path);
            let found = wish.ok().and_then(|wish| granted(&lines, &wish).cloned());
            assert_eq!(
                found.as_ref(),
                expect.map(|at: usize| &lines[at]),
                "{method} {tls} {authority} {path}"
            );
        }
    }

    #[test]
    fn spellings_that_lead_elsewhere_are_no_wishes() {
        for (authority, path) in [
            ("user@api.example", "/"),
            ("api.example@evil.example", "/"),
            ("2130706433", "/"),
            ("0x7f.1", "/"),
            ("127.1:80", "/"),
            ("0177.0.0.1", "/"),
            ("[::1%lo]", "/"),
            ("api.example:", "/"),
            ("api.example:0", "/"),
            ("api.example:99999", "/"),
            ("api.example:+443", "/"),
            ("api.example#", "/"),
            ("api.example\\", "/"),
            ("", "/"),
            ("api.example", "/x/../y"),
            ("api.example", "/x/%2e%2E/y"),
            ("api.example", "/x/..\\y"),
            ("api.example", "/."),
        ] {
            assert!(Wish::read("GET", true, authority, path).is_err(), "{authority} {path}");
        }
    }

    #[test]
    fn where_a_name_leads_is_looked_at_too() {
        for (line, address, expect) in [
            ("GET https://api.example", "8.8.8.8", true),
            ("GET https://api.example", "127.0.0.1", false),
            ("GET https://api.example", "::ffff:10.0.0.1", false),
            ("GET https://api.example", "169.254.169.254", false),
            ("GET https://api.example private", "10.0.0.1", true),
            ("GET https://api.example private", "127.0.0.1", true),
            ("GET https://api.example private", "0.0.0.0", false),
            ("GET https://api.example private", "224.0.0.1", false),
            ("GET https://api.example private", "255.255.255.255", false),
            ("GET https://api.example private", "::", false),
            ("GET http://127.0.0.1:9000", "127.0.0.1", true),
            ("GET http://127.0.0.1:9000", "::ffff:127.0.0.1", true),
            ("GET http://127.0.0.1:9000", "127.0.0.2", false),
            ("GET http://0.0.0.0:9000", "0.0.0.0", false),
        ] {
            let line: Egress = line.parse().unwrap();
            assert_eq!(may_reach(&line, address.parse().unwrap()), expect, "{line:?} {address}");
        }
    }
}
