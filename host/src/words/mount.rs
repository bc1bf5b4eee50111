//! Where a gateway answers: `/path` on every host, or `host.example/path` on one.

use std::fmt;
use std::str::FromStr;

use super::id::clip;

/// Bytes of a mount: it is compared with each request.
pub const MOUNT_MAX: usize = 256;

/// A host, if it is for one only, and a path.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Mount {
    /// Lower case, without a port; none for every host.
    host: Option<String>,
    /// Begins with `/`; has no `/` at its end unless it is all.
    path: String,
}

impl Mount {
    /// Whether a request for this host (lower case, without port) and raw path comes here. A path takes in what lies
    /// below it: `/a` takes `/a` and `/a/b`, not `/ab`.
    pub fn takes(&self, host: &str, path: &str) -> bool {
        if self.host.as_ref().is_some_and(|own| own != host) {
            return false;
        }
        match path.strip_prefix(self.path.as_str()) {
            Some(rest) => self.path == "/" || rest.is_empty() || rest.starts_with('/'),
            None => false,
        }
    }

    /// What is larger goes first: a host of its own before every host, then the longer path.
    pub fn rank(&self) -> (bool, usize) {
        (self.host.is_some(), self.path.len())
    }
}

impl FromStr for Mount {
    type Err = String;

    /// Errors are the rest of a sentence: `is not …`.
    fn from_str(text: &str) -> Result<Self, String> {
        let bad =
            |why: &str| Err(format!("is \"/path\" or \"host.example/path\", not {:?}: {why}", clip(text)));
        if text.len() > MOUNT_MAX {
            return bad("it is longer than 256 bytes");
        }
        let (host, path) = match text.find('/') {
            Some(0) => (None, text),
            Some(at) => {
                let (host, path) = text.split_at(at);
                (Some(host), path)
            }
            None => return bad("it has no path"),
        };
        if host.is_some_and(|host| !is_host(host)) {
            return bad("a host is lower-case letters, digits, - and . without a port");
        }
        let all = path == "/";
        let path = if all { path } else { path.strip_suffix('/').unwrap_or(path) };
        let fits = |part: &str| !matches!(part, "" | "." | "..") && part.bytes().all(is_plain);
        let mut parts = path.split('/').skip(1);
        if !all && !parts.all(fits) {
            return bad("a path is parts of letters, digits and - . _ ~ separated by /");
        }
        Ok(Self { host: host.map(str::to_owned), path: path.to_owned() })
    }
}

impl fmt::Display for Mount {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}{}", self.host.as_deref().unwrap_or_default(), self.path)
    }
}

fn is_host(text: &str) -> bool {
    let byte = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-';
    text.split('.').all(|part| !part.is_empty() && part.bytes().all(byte))
}

/// Bytes that mean themselves in every part of a path, so that one place has one spelling.
fn is_plain(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_' | b'~')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn mounts_have_one_spelling() {
        for (text, shown) in [
            ("/", "/"),
            ("/hello", "/hello"),
            ("/hello/", "/hello"),
            ("/a/b.c/~d", "/a/b.c/~d"),
            ("host.example/", "host.example/"),
            ("host.example/a", "host.example/a"),
            ("127.0.0.1/a", "127.0.0.1/a"),
        ] {
            assert_eq!(text.parse::<Mount>().unwrap().to_string(), shown, "{text}");
        }
        let long = format!("/{}", "a".repeat(MOUNT_MAX));
        for text in [
            "",
            "hello",
            "host.example",
            "//",
            "/a//b",
            "/./a",
            "/a/..",
            "/a b",
            "/a?b",
            "/%61",
            "/a#",
            "HOST.example/a",
            "host.example:80/a",
            "a..b/c",
            ".a/b",
            "a@b/c",
            "[::1]/a",
            &long,
        ] {
            assert!(text.parse::<Mount>().is_err(), "{text:?}");
        }
    }

    #[test]
    fn a_mount_takes_what_lies_below_it() {
        for (mount, host, path, expect) in [
            ("/", "a.example", "/", true),
            ("/", "a.example", "/x/y", true),
            ("/a", "a.example", "/a", true),
            ("/a", "a.example", "/a/", true),
            ("/a", "a.example", "/a/b", true),
            ("/a", "a.example", "/ab", false),
            ("/a", "a.example", "/", false),
            ("/a", "a.example", "/A", false),
            ("a.example/a", "a.example", "/a/b", true),
            ("a.example/a", "b.example", "/a/b", false),
            ("a.example/", "a.example", "/z", true),
        ] {
            assert_eq!(mount.parse::<Mount>().unwrap().takes(host, path), expect, "{mount} {host} {path}");
        }
    }

    #[test]
    fn a_host_goes_before_a_path_and_a_long_path_before_a_short_one() {
        let rank = |text: &str| text.parse::<Mount>().unwrap().rank();
        assert!(rank("a.example/") > rank("/a/long/path"));
        assert!(rank("/a/b") > rank("/a"));
        assert!(rank("/a") > rank("/"));
    }
}
