//! What two nodes say to each other on the hello stream: each message is one item frame, CBOR.
//!
//! Before admission only `hello` and `show` are said: nothing that an unknown peer could learn from. What a node is
//! and serves (`welcome`) follows once it has admitted the other.

use serde::{Deserialize, Serialize};
use serde_bytes::ByteBuf;

use super::fault::{Code, Fault, Outcome};
use super::id::{Digest, MeshId};
use super::note;

/// The protocol that this version speaks. Its number is also in the ALPN of the transport, whose framing it shares.
pub const PROTOCOL: u16 = 0;
/// Longest message before admission: a membership with its signatures.
pub const STRANGER_MAX: usize = 8 * 1024;
/// Longest message of an admitted peer: the slots and tags of a large node.
pub const GREETING_MAX: usize = 32 * 1024;
/// Most bytes of roots in one message; one that is longer by itself has to be brought by an operator.
pub const ROOTS_BYTES: usize = GREETING_MAX - 1024;
/// Longest label, tag, slot name, version or address, in bytes: one DNS name.
pub const TEXT_MAX: usize = 255;
/// Most tags of a node: what a person can keep apart.
pub const TAGS_MAX: usize = 32;
/// Most slots with a channel: the policies of one node.
pub const SLOTS_MAX: usize = 64;

/// The first message of each side.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct Hello {
    /// Oldest protocol that the node speaks.
    pub protocol_min: u16,
    /// Newest protocol that the node speaks.
    pub protocol_max: u16,
    /// BLAKE3 of the mesh id, so that a stranger does not learn the id.
    #[serde(with = "serde_bytes")]
    pub mesh: [u8; 32],
    /// How often the node has started; persisted and rising.
    pub boot: u64,
    /// Drawn at start.
    pub random: u64,
}

/// A slot that speaks with the slot of the same name.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PeerSlot {
    /// Name of the slot.
    pub slot: String,
    /// The protocol that its plugin speaks, as its manifest states it.
    pub protocol: String,
}

/// A signed manifest that a node has taken and gives to whoever asks for it by its digest.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct Announced {
    /// Its version, as long as nobody has looked: the signed bytes decide.
    pub version: u64,
    /// Digest of the signed bytes.
    pub digest: Digest,
}

/// What a node tells an admitted peer about itself.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct Welcome {
    /// Label of the node.
    pub label: String,
    /// Its tags.
    pub tags: Vec<String>,
    /// Its slots with a channel.
    pub slots: Vec<PeerSlot>,
    /// Serial of the generation in force.
    pub generation: u64,
    /// Version of the manifest in force; 0 for none.
    pub manifest: u64,
    /// Version of the root in force.
    #[serde(default)]
    pub root: u64,
    /// The newest manifest that it passes on.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub newest: Option<Announced>,
    /// Version of the host, for people.
    pub version: String,
    /// Address at which the peer is seen, as `ip:port`.
    pub observed: String,
}

/// One message on the hello stream.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Greeting {
    /// First message of each side.
    Hello(Hello),
    /// Shows the membership that the sender has, if any.
    Show {
        /// The signed membership.
        membership: Option<ByteBuf>,
    },
    /// The receiver is admitted by the sender.
    Welcome(Welcome),
    /// The receiver is not admitted yet, but may be.
    Pending {
        /// Why, for people.
        reason: String,
    },
    /// The receiver is not admitted; the sender closes the link.
    Refuse(Fault),
    /// Something of the last `welcome` is different now.
    Changed(Welcome),
    /// Roots that the receiver does not have, oldest first.
    Roots {
        /// Signed.
        roots: Vec<ByteBuf>,
    },
}

impl Hello {
    /// The hello of this version.
    pub fn new(mesh: &MeshId, boot: u64, random: u64) -> Self {
        Self { protocol_min: PROTOCOL, protocol_max: PROTOCOL, mesh: mesh_hash(mesh), boot, random }
    }
}

/// What a stranger is told of a mesh: BLAKE3 of its id.
pub fn mesh_hash(mesh: &MeshId) -> [u8; 32] {
    *blake3::hash(mesh.as_bytes()).as_bytes()
}

impl Greeting {
    /// The body of its item frame.
    ///
    /// # Errors
    /// `too-large` beyond a limit.
    pub fn encode(&self) -> Outcome<Vec<u8>> {
        self.limits()?;
        note::write("greeting", self, self.most())
    }

    /// Reads the body of an item frame.
    ///
    /// # Errors
    /// `protocol` when it is no greeting of this version, `too-large` beyond a limit.
    pub fn decode(body: &[u8]) -> Outcome<Self> {
        let greeting: Self = note::read("greeting", body, GREETING_MAX)?;
        if body.len() > greeting.most() {
            return Err(too_large("greeting", body.len(), greeting.most()));
        }
        greeting.limits()?;
        Ok(greeting)
    }

    /// Longest encoded form of this message.
    fn most(&self) -> usize {
        match self {
            Greeting::Welcome(_) | Greeting::Changed(_) | Greeting::Roots { .. } => GREETING_MAX,
            Greeting::Refuse(_) => note::ERROR_MAX,
            Greeting::Hello(_) | Greeting::Show { .. } | Greeting::Pending { .. } => STRANGER_MAX,
        }
    }

    fn limits(&self) -> Outcome<()> {
        let (Greeting::Welcome(welcome) | Greeting::Changed(welcome)) = self else { return Ok(()) };
        for (what, found, most) in
            [("tags", welcome.tags.len(), TAGS_MAX), ("slots", welcome.slots.len(), SLOTS_MAX)]
        {
            if found > most {
                return Err(too_large(what, found, most));
            }
        }
        let slots = welcome.slots.iter().flat_map(|slot| [&slot.slot, &slot.protocol]);
        let texts = [&welcome.label, &welcome.version, &welcome.observed].into_iter();
        match texts.chain(&welcome.tags).chain(slots).find(|text| text.len() > TEXT_MAX) {
            Some(text) => Err(too_large("text in greeting", text.len(), TEXT_MAX)),
            None => Ok(()),
        }
    }
}

fn too_large(what: &str, found: usize, most: usize) -> Fault {
    Fault::new(Code::TooLarge, format!("{what} of length {found}: {most} are allowed"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn welcome() -> Welcome {
        Welcome {
            label: "edge-1".to_owned(),
            tags: vec!["arm".to_owned()],
            slots: vec![PeerSlot { slot: "routing".to_owned(), protocol: "path-vector/1".to_owned() }],
            generation: 3,
            manifest: 7,
            root: 1,
            newest: Some(Announced { version: 7, digest: Digest::of(b"manifest") }),
            version: "0.1.0".to_owned(),
            observed: "192.0.2.1:6437".to_owned(),
        }
    }

    #[test]
    fn greetings_round_trip() {
        let greetings = [
            Greeting::Hello(Hello::new(&MeshId::from([1; 32]), 4, 5)),
            Greeting::Show { membership: None },
            Greeting::Show { membership: Some(ByteBuf::from(vec![1; 500])) },
            Greeting::Welcome(welcome()),
            Greeting::Pending { reason: "waits for an operator".to_owned() },
            Greeting::Refuse(Fault::new(Code::WrongMesh, "other mesh")),
            Greeting::Changed(welcome()),
        ];
        for greeting in greetings {
            let body = greeting.encode().unwrap();
            assert_eq!(Greeting::decode(&body).unwrap(), greeting);
            for cut in 0..body.len() {
                assert_eq!(
                    Greeting::decode(&body[..cut]).unwrap_err().code,
                    Code::Protocol,
                    "{greeting:?} cut at {cut}"
                );
            }
        }
    }

    #[test]
    fn greetings_beyond_a_limit_are_refused() {
        let long = "x".repeat(TEXT_MAX + 1);
        let cases = [
            Greeting::Welcome(Welcome { label: long.clone(), ..welcome() }),
            Greeting::Changed(Welcome { tags: vec![long.clone()], ..welcome() }),
            Greeting::Welcome(Welcome { tags: vec![String::new(); TAGS_MAX + 1], ..welcome() }),
            Greeting::Welcome(Welcome {
                slots: vec![PeerSlot { slot: String::new(), protocol: long }; 1],
                ..welcome()
            }),
            Greeting::Show { membership: Some(ByteBuf::from(vec![1; STRANGER_MAX])) },
            Greeting::Pending { reason: "x".repeat(STRANGER_MAX) },
        ];
        for greeting in cases {
            assert_eq!(greeting.encode().unwrap_err().code, Code::TooLarge);
            let mut body = Vec::new();
            ciborium::into_writer(&greeting, &mut body).unwrap();
            assert_eq!(Greeting::decode(&body).unwrap_err().code, Code::TooLarge);
        }
        let mut body = Vec::new();
        ciborium::into_writer(&ciborium::Value::Map(vec![("dance".into(), 1.into())]), &mut body).unwrap();
        assert_eq!(Greeting::decode(&body).unwrap_err().code, Code::Protocol);
    }

    #[test]
    fn the_mesh_id_itself_is_not_said() {
        let mesh = MeshId::from([9; 32]);
        let body = Greeting::Hello(Hello::new(&mesh, 1, 1)).encode().unwrap();
        assert!(!body.windows(32).any(|window| window == mesh.as_bytes()));
    }
}
