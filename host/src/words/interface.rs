//! Names of WIT interfaces as components import and export them: `acme:weather/forecast@1.2.0`.

/// Bytes of an interface's name: it is part of what a call says over a link.
pub const INTERFACE_MAX: usize = 96;
/// Packages that are the host's own to satisfy.
const HOST: [&str; 2] = ["wasi:", "midplane:"];

/// The parts of an interface's name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Interface<'a> {
    /// Package and interface, for example `acme:weather/forecast`.
    pub path: &'a str,
    /// The version, for example `1.2.0`, if the package has one.
    pub version: Option<&'a str>,
}

impl<'a> Interface<'a> {
    /// Reads a name; none for what is not an interface of a package.
    pub fn parse(text: &'a str) -> Option<Self> {
        let (path, version) = match text.split_once('@') {
            Some((path, version)) => (path, Some(version)),
            None => (text, None),
        };
        let (namespace, rest) = path.split_once(':')?;
        let (package, interface) = rest.split_once('/')?;
        let version_byte = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'-' | b'+');
        let good = text.len() <= INTERFACE_MAX
            && [namespace, package, interface].into_iter().all(is_word)
            && version.is_none_or(|version| !version.is_empty() && version.bytes().all(version_byte));
        good.then_some(Self { path, version })
    }

    /// Whether the host satisfies it or nobody does.
    pub fn is_host(&self) -> bool {
        HOST.iter().any(|package| self.path.starts_with(package))
    }

    /// Whether who wants this may be given `other`: the same interface in the same version or, as components are linked
    /// everywhere, in one that promises to be compatible.
    pub fn takes(&self, other: &Interface<'_>) -> bool {
        let track = |interface: &Interface<'_>| interface.version.and_then(track);
        self.path == other.path
            && (self.version == other.version || track(self).is_some() && track(self) == track(other))
    }
}

/// What two compatible versions have in common (SemVer, 2.0.0): the major number, or below 1.0 the first that is not 0. None for
/// a version before a release, which promises nothing.
fn track(version: &str) -> Option<[u64; 3]> {
    let mut numbers = version.split('.').map(str::parse::<u64>);
    let (major, minor, patch) = (numbers.next()?.ok()?, numbers.next()?.ok()?, numbers.next()?.ok()?);
    if numbers.next().is_some() {
        return None;
    }
    Some(match (major, minor) {
        (0, 0) => [0, 0, patch],
        (0, minor) => [0, minor, 0],
        (major, _) => [major, 0, 0],
    })
}

/// WIT's identifiers: words of letters and digits joined by `-`.
fn is_word(text: &str) -> bool {
    let part = |part: &str| !part.is_empty() && part.bytes().all(|b| b.is_ascii_alphanumeric());
    text.starts_with(|first: char| first.is_ascii_alphabetic()) && text.split('-').all(part)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_read_or_refused() {
        for (text, path, version) in [
            ("acme:weather/forecast@1.2.0", "acme:weather/forecast", Some("1.2.0")),
            ("acme:weather/forecast", "acme:weather/forecast", None),
            ("a:b-2/c-d@0.1.0-rc.1+x", "a:b-2/c-d", Some("0.1.0-rc.1+x")),
        ] {
            assert_eq!(Interface::parse(text), Some(Interface { path, version }), "{text}");
        }
        let long = format!("a:b/{}", "c".repeat(INTERFACE_MAX));
        for text in [
            "",
            "forecast",
            "a:b",
            "a/b",
            "a:b/",
            ":b/c",
            "a:b/c@",
            "a:b/c@1 0",
            "a:b/c/d",
            "a:b/-c",
            "1:b/c",
            &long,
        ] {
            assert_eq!(Interface::parse(text), None, "{text}");
        }
    }

    #[test]
    fn compatible_versions_are_taken() {
        for (wanted, other, expect) in [
            ("a:b/c@1.2.0", "a:b/c@1.2.0", true),
            ("a:b/c@1.2.0", "a:b/c@1.9.3", true),
            ("a:b/c@1.2.0", "a:b/c@2.2.0", false),
            ("a:b/c@0.2.0", "a:b/c@0.2.7", true),
            ("a:b/c@0.2.0", "a:b/c@0.3.0", false),
            ("a:b/c@0.0.1", "a:b/c@0.0.1", true),
            ("a:b/c@0.0.1", "a:b/c@0.0.2", false),
            ("a:b/c@1.0.0-rc.1", "a:b/c@1.0.0-rc.1", true),
            ("a:b/c@1.0.0-rc.1", "a:b/c@1.0.0", false),
            ("a:b/c", "a:b/c", true),
            ("a:b/c", "a:b/c@1.0.0", false),
            ("a:b/c@1.2.0", "a:b/d@1.2.0", false),
        ] {
            let read = |text| Interface::parse(text).unwrap();
            assert_eq!(read(wanted).takes(&read(other)), expect, "{wanted} {other}");
        }
    }

    #[test]
    fn the_host_keeps_its_own() {
        for (text, expect) in
            [("wasi:http/types@0.2.0", true), ("midplane:host/node@0.1.0", true), ("wasim:x/y", false)]
        {
            assert_eq!(Interface::parse(text).unwrap().is_host(), expect, "{text}");
        }
    }
}
