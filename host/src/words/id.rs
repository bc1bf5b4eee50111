//! Identities, digests and names: parsed once, valid from then on.

use std::fmt;
use std::str::FromStr;

use data_encoding::{BASE32_NOPAD, HEXLOWER};
use serde::{Deserialize, Serialize};

use super::fault::{Code, Fault};

/// Length of a node id in text: 32 bytes in base32.
pub const NODE_ID_CHARS: usize = 52;
/// Longest name, local part and domain together. DNS allows 253 characters for the domain alone.
pub const NAME_MAX: usize = 320;

/// Domain of the names that nodes have by themselves. Nothing else is served under it.
pub const NODE_DOMAIN: &str = "node";

/// Implements text and serde forms of a 32-byte value: text for people, bytes in CBOR.
macro_rules! bytes32 {
    ($type:ident) => {
        impl $type {
            /// The 32 bytes.
            pub const fn as_bytes(&self) -> &[u8; 32] {
                &self.0
            }
        }

        impl From<[u8; 32]> for $type {
            fn from(bytes: [u8; 32]) -> Self {
                Self(bytes)
            }
        }

        impl fmt::Debug for $type {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "{self}")
            }
        }

        impl Serialize for $type {
            fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                if serializer.is_human_readable() {
                    serializer.collect_str(self)
                } else {
                    serializer.serialize_bytes(&self.0)
                }
            }
        }

        impl<'de> Deserialize<'de> for $type {
            fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                use serde::de::Error as _;
                if deserializer.is_human_readable() {
                    let text = String::deserialize(deserializer)?;
                    text.parse().map_err(D::Error::custom)
                } else {
                    let bytes = serde_bytes::ByteBuf::deserialize(deserializer)?;
                    let bytes: [u8; 32] =
                        bytes.as_ref().try_into().map_err(|_| D::Error::custom("expected 32 bytes"))?;
                    Ok(Self(bytes))
                }
            }
        }
    };
}

/// A node, owner or operator: the bytes of its Ed25519 public key. Text: 52 characters of lower-case base32.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct NodeId([u8; 32]);
bytes32!(NodeId);

impl NodeId {
    /// The first eight characters, for people. Not unique.
    pub fn short(&self) -> String {
        let mut text = self.to_string();
        text.truncate(8);
        text
    }
}

impl fmt::Display for NodeId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&BASE32_NOPAD.encode(&self.0).to_ascii_lowercase())
    }
}

impl FromStr for NodeId {
    type Err = Fault;

    fn from_str(text: &str) -> Result<Self, Fault> {
        let bad = || {
            Fault::new(Code::Usage, format!("not a node id: {:?}", clip(text)))
                .fix("a node id is 52 characters of lower-case base32; `midplane key show` prints one")
        };
        if text.len() != NODE_ID_CHARS || text.bytes().any(|byte| byte.is_ascii_uppercase()) {
            return Err(bad());
        }
        let bytes = BASE32_NOPAD.decode(text.to_ascii_uppercase().as_bytes()).map_err(|_| bad())?;
        Ok(Self(bytes.try_into().map_err(|_| bad())?))
    }
}

/// BLAKE3 digest of a blob. Text: 64 characters of lower-case hex.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Digest([u8; 32]);
bytes32!(Digest);

impl Digest {
    /// Digest of these bytes.
    pub fn of(bytes: &[u8]) -> Self {
        Self(*blake3::hash(bytes).as_bytes())
    }

    /// The first twelve characters, for people. Not unique.
    pub fn short(&self) -> String {
        let mut text = self.to_string();
        text.truncate(12);
        text
    }
}

impl fmt::Display for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&HEXLOWER.encode(&self.0))
    }
}

impl FromStr for Digest {
    type Err = Fault;

    fn from_str(text: &str) -> Result<Self, Fault> {
        let bytes = HEXLOWER.decode(text.as_bytes()).ok().and_then(|bytes| bytes.try_into().ok());
        bytes.map(Self).ok_or_else(|| {
            Fault::new(Code::Usage, format!("not a digest: {:?}", clip(text)))
                .fix("a digest is 64 characters of lower-case hex")
        })
    }
}

/// A mesh: digest of the first version of its root.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct MeshId([u8; 32]);
bytes32!(MeshId);

impl fmt::Display for MeshId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&BASE32_NOPAD.encode(&self.0).to_ascii_lowercase())
    }
}

impl FromStr for MeshId {
    type Err = Fault;

    fn from_str(text: &str) -> Result<Self, Fault> {
        let id: NodeId =
            text.parse().map_err(|_| Fault::new(Code::Usage, format!("not a mesh id: {:?}", clip(text))))?;
        Ok(Self(*id.as_bytes()))
    }
}

/// What is called: `x@domain`. Lower-case letters, digits, `-` and `_`; the domain also has dots.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Name(std::sync::Arc<str>);

impl Name {
    /// The text.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The name that a node has by itself, `ID@node`: what requests of operators are sent to. Only that node may claim it,
    /// whatever memberships and manifests say.
    pub fn of_node(node: &NodeId) -> Self {
        Self(format!("{node}@{NODE_DOMAIN}").into())
    }

    /// The node whose own name this is.
    pub fn node(&self) -> Option<NodeId> {
        self.0.strip_suffix(NODE_DOMAIN)?.strip_suffix('@')?.parse().ok()
    }

    /// Whether this name is in the domain of nodes, so that nobody can be given it.
    pub fn is_reserved(&self) -> bool {
        self.0.rsplit_once('@').is_some_and(|(_, domain)| domain == NODE_DOMAIN)
    }

    /// Whether this name lies within a pattern: the name itself, `*@domain`, or `*` for any.
    pub fn matches(&self, pattern: &str) -> bool {
        match pattern.strip_prefix("*@") {
            Some(domain) => self.0.rsplit_once('@').is_some_and(|(_, own)| own == domain),
            None => pattern == "*" || pattern == &*self.0,
        }
    }
}

impl FromStr for Name {
    type Err = Fault;

    fn from_str(text: &str) -> Result<Self, Fault> {
        let label = |part: &str, dots: bool| {
            let byte = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-' || b == b'_';
            let labels: Vec<&str> = if dots { part.split('.').collect() } else { vec![part] };
            labels.iter().all(|label| !label.is_empty() && label.len() <= 63 && label.bytes().all(byte))
        };
        let good = text.len() <= NAME_MAX
            && text.split_once('@').is_some_and(|(local, domain)| label(local, false) && label(domain, true));
        if good {
            return Ok(Self(text.into()));
        }
        Err(Fault::new(Code::Usage, format!("not a name: {:?}", clip(text)))
            .fix("a name is x@domain in lower case, for example math1@fabric"))
    }
}

impl TryFrom<String> for Name {
    type Error = Fault;

    fn try_from(text: String) -> Result<Self, Fault> {
        text.parse()
    }
}

impl From<Name> for String {
    fn from(name: Name) -> Self {
        name.0.as_ref().to_owned()
    }
}

impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// The beginning of a text from outside, for an error message.
pub fn clip(text: &str) -> &str {
    /// Enough to recognise what was typed.
    const SHOWN: usize = 80;
    match text.char_indices().nth(SHOWN) {
        Some((end, _)) => text.get(..end).unwrap_or(text),
        None => text,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn node_ids_round_trip_and_refuse_other_spellings() {
        let id = NodeId::from([7; 32]);
        let text = id.to_string();
        assert_eq!(text.len(), NODE_ID_CHARS);
        assert_eq!(text.parse::<NodeId>().unwrap(), id);
        for bad in
            ["", "abc", &text.to_uppercase(), text.get(1..).unwrap(), &format!("{text}a"), &"1".repeat(52)]
        {
            assert!(bad.parse::<NodeId>().is_err(), "{bad:?} was taken");
        }
    }

    #[test]
    fn names_are_checked() {
        for good in ["math1@fabric", "a@b.c", "x-1@edge_2.example"] {
            assert!(good.parse::<Name>().is_ok(), "{good}");
        }
        for bad in ["", "math1", "@fabric", "math1@", "Math@x", "a@b..c", "a@b@c", "a b@c", "a@.b", "a/b@c"] {
            assert!(bad.parse::<Name>().is_err(), "{bad:?} was taken");
        }
        assert!(format!("{}@d", "a".repeat(64)).parse::<Name>().is_err());
    }

    #[test]
    fn a_node_has_a_name_of_its_own() {
        let id = NodeId::from([7; 32]);
        let name = Name::of_node(&id);
        assert_eq!(name.as_str().parse::<Name>().unwrap(), name);
        assert_eq!((name.node(), name.is_reserved()), (Some(id), true));
        for (other, reserved) in
            [("x@node", true), ("x@node.fabric", false), ("x@my-node", false), ("math1@fabric", false)]
        {
            let name: Name = other.parse().unwrap();
            assert_eq!((name.node(), name.is_reserved()), (None, reserved), "{other}");
        }
    }

    #[test]
    fn names_match_patterns() {
        let name: Name = "math1@fabric".parse().unwrap();
        for (pattern, expect) in [
            ("math1@fabric", true),
            ("*@fabric", true),
            ("*", true),
            ("*@fab", false),
            ("math@fabric", false),
            ("*@*", false),
        ] {
            assert_eq!(name.matches(pattern), expect, "{pattern}");
        }
    }
}
