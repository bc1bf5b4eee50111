//! Signed objects: COSE_Sign (RFC 9052, section 4.1) with Ed25519.
//!
//! The kind of object is the content type in the protected header, so a signature for one kind says nothing
//! about another; the verified bytes are the bytes that are decoded. A key is named by its 32 bytes, in the
//! protected header of its signature, and counts once, however often it signs. Every byte of an envelope is
//! either signed or fixed by this file: no two envelopes differ and mean the same, but for the signatures
//! that they carry.

use std::marker::PhantomData;

use coset::{
    AsCborValue, CoseSign, CoseSignature, Header, HeaderBuilder, ProtectedHeader, TaggedCborSerializable,
    iana,
};
use ed25519_dalek::{Signature, Signer, SigningKey, VerifyingKey};
use serde::Serialize;
use serde::de::DeserializeOwned;

use super::canonical;
use crate::words::objects::{Claim, Manifest, Membership, Order, Root, Swap};
use crate::words::{Code, Fault, NodeId, Outcome};

/// Signatures of one envelope. A root may carry those of two owner sets; each costs a verification.
pub const SIGNATURES_MAX: usize = 16;

/// Kinds of signed object.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ObjectKind {
    /// Whose mesh it is.
    Root,
    /// What runs.
    Manifest,
    /// Who belongs to it.
    Membership,
    /// Who serves a name.
    Claim,
    /// What an operator wants of a node.
    Order,
    /// Another component for one slot of one node.
    Swap,
}

impl ObjectKind {
    /// Every kind.
    pub const ALL: [ObjectKind; 6] = [
        ObjectKind::Root,
        ObjectKind::Manifest,
        ObjectKind::Membership,
        ObjectKind::Claim,
        ObjectKind::Order,
        ObjectKind::Swap,
    ];

    /// The word for people.
    pub const fn as_str(self) -> &'static str {
        match self {
            ObjectKind::Root => "root",
            ObjectKind::Manifest => "manifest",
            ObjectKind::Membership => "membership",
            ObjectKind::Claim => "claim",
            ObjectKind::Order => "order",
            ObjectKind::Swap => "swap",
        }
    }

    /// The content type in the protected header.
    pub const fn content_type(self) -> &'static str {
        match self {
            ObjectKind::Root => "application/midplane-root+cbor",
            ObjectKind::Manifest => "application/midplane-manifest+cbor",
            ObjectKind::Membership => "application/midplane-membership+cbor",
            ObjectKind::Claim => "application/midplane-claim+cbor",
            ObjectKind::Order => "application/midplane-order+cbor",
            ObjectKind::Swap => "application/midplane-swap+cbor",
        }
    }

    /// Bytes of an envelope, checked before anything is read: a root names some hundred keys, a manifest some
    /// hundred plugins; memberships and claims are sent with each link and kept for each peer; an order holds a request; a swap names one
    /// slot and one component.
    pub const fn size_max(self) -> usize {
        match self {
            ObjectKind::Root => 64 << 10,
            ObjectKind::Manifest => 256 << 10,
            ObjectKind::Membership => 8 << 10,
            ObjectKind::Claim => 4 << 10,
            ObjectKind::Order => 18 << 10,
            ObjectKind::Swap => 4 << 10,
        }
    }
}

impl std::fmt::Display for ObjectKind {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.as_str())
    }
}

/// A type that is signed.
pub trait Object: Serialize + DeserializeOwned {
    /// Its kind.
    const KIND: ObjectKind;
}

impl Object for Root {
    const KIND: ObjectKind = ObjectKind::Root;
}
impl Object for Manifest {
    const KIND: ObjectKind = ObjectKind::Manifest;
}
impl Object for Membership {
    const KIND: ObjectKind = ObjectKind::Membership;
}
impl Object for Claim {
    const KIND: ObjectKind = ObjectKind::Claim;
}
impl Object for Order {
    const KIND: ObjectKind = ObjectKind::Order;
}
impl Object for Swap {
    const KIND: ObjectKind = ObjectKind::Swap;
}

/// An object whose signatures were right and enough.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Opened<T> {
    /// What was signed.
    pub object: T,
    /// Its bytes, without the envelope. Their digest names this version of the object.
    pub payload: Vec<u8>,
    /// The keys that counted, each once.
    pub signers: Vec<NodeId>,
}

/// Signs an object. The order of keys makes no difference; a key given twice signs once.
///
/// # Errors
/// `bad-signature` without keys, `too-large` for more than [`SIGNATURES_MAX`] or an object above its size.
pub fn sign<T: Object>(object: &T, keys: &[&SigningKey]) -> Outcome<Vec<u8>> {
    seal(T::KIND, canonical::encode(object)?, Vec::new(), keys)
}

/// Adds the signature of one more key to an envelope whose signatures are right: owners on separate machines
/// sign one after the other.
///
/// # Errors
/// As [`verify`] and [`sign`].
pub fn cosign<T: Object>(bytes: &[u8], key: &SigningKey) -> Outcome<Vec<u8>> {
    let own = node_id(key);
    if verify::<T>(bytes)?.signers.contains(&own) {
        return Ok(bytes.to_vec());
    }
    let envelope = parse(T::KIND, bytes)?;
    seal(T::KIND, envelope.payload.unwrap_or_default(), envelope.signatures, &[key])
}

/// Opens an envelope that at least `threshold` different keys of `may_sign` have signed. Keys outside
/// `may_sign` do not count and do no harm, but their signatures must be right too. A threshold of 0 is 1.
///
/// # Errors
/// `too-large`; `bad-object` for a broken envelope, another kind, or a payload that is not in canonical form;
/// `bad-signature` for none, a wrong one, or too few; `unknown-key` when no signer is in `may_sign`.
pub fn open<T: Object>(bytes: &[u8], may_sign: &[NodeId], threshold: usize) -> Outcome<Opened<T>> {
    let signed = verify::<T>(bytes)?;
    let signers = signed.require(may_sign, threshold)?;
    Ok(Opened { object: signed.decode()?, payload: signed.payload, signers })
}

/// An envelope of an intact object of kind `T`: every signature is right for the key that it names. Whether
/// those keys may sign it is not known yet.
#[derive(Debug)]
pub struct Signed<T> {
    payload: Vec<u8>,
    signers: Vec<NodeId>,
    object: PhantomData<fn() -> T>,
}

/// Checks size, envelope, kind and every signature, in this order.
///
/// # Errors
/// As [`open`], but for `unknown-key`.
pub fn verify<T: Object>(bytes: &[u8]) -> Outcome<Signed<T>> {
    let envelope = parse(T::KIND, bytes)?;
    let mut signers = Vec::new();
    for signature in &envelope.signatures {
        let signer = check_signature(T::KIND, &envelope, signature)?;
        if !signers.contains(&signer) {
            signers.push(signer);
        }
    }
    Ok(Signed { payload: envelope.payload.unwrap_or_default(), signers, object: PhantomData })
}

impl<T: Object> Signed<T> {
    /// The signers among `may_sign`, when they are enough.
    ///
    /// # Errors
    /// `unknown-key` when there are none, `bad-signature` when there are too few.
    pub fn require(&self, may_sign: &[NodeId], threshold: usize) -> Outcome<Vec<NodeId>> {
        let counted: Vec<NodeId> =
            self.signers.iter().filter(|key| may_sign.contains(key)).copied().collect();
        match (counted.first(), self.signers.first()) {
            (None, Some(key)) => {
                let what = format!("{} is signed by key {key}, which may not sign it", T::KIND);
                Err(Fault::new(Code::UnknownKey, what))
            }
            _ if counted.len() < threshold.max(1) => {
                let what = format!(
                    "{} has {} of {} signatures that it needs",
                    T::KIND,
                    counted.len(),
                    threshold.max(1)
                );
                Err(Fault::new(Code::BadSignature, what).fix("let more of the owners sign it"))
            }
            _ => Ok(counted),
        }
    }

    /// What was signed.
    ///
    /// # Errors
    /// `bad-object` when the payload is not the canonical form of a `T`.
    pub fn decode(&self) -> Outcome<T> {
        canonical::decode(&self.payload, T::KIND.as_str())
    }

    /// The bytes that were signed.
    pub fn payload(&self) -> &[u8] {
        &self.payload
    }

    /// Every key that signed, each once.
    pub fn signers(&self) -> &[NodeId] {
        &self.signers
    }

    /// Object, bytes and signers, where all that was asked of the signers has been asked.
    pub(super) fn opened(self, object: T, signers: Vec<NodeId>) -> Opened<T> {
        Opened { object, payload: self.payload, signers }
    }
}

/// The id of a key's owner: its public half.
pub fn node_id(key: &SigningKey) -> NodeId {
    NodeId::from(key.verifying_key().to_bytes())
}

/// Whether these bytes are a public key that can be relied on: a point on the curve, in its one encoding (a key
/// must not count twice by having two), and not one of the few under which anyone can make signatures.
pub fn is_strong(key: &NodeId) -> bool {
    // The y coordinate, little-endian without the sign bit, is below the prime 2^255 - 19.
    let [low, middle @ .., high] = key.as_bytes();
    let reduced = *low < 0xed || *high & 0x7f < 0x7f || middle.iter().any(|byte| *byte < 0xff);
    reduced && VerifyingKey::from_bytes(key.as_bytes()).is_ok_and(|key| !key.is_weak())
}

/// Reads an envelope whose every unsigned byte is as it must be.
fn parse(kind: ObjectKind, bytes: &[u8]) -> Outcome<CoseSign> {
    let bad = |why: &str| Fault::new(Code::BadObject, format!("{kind} is malformed: {why}"));
    if bytes.len() > kind.size_max() {
        return Err(too_large(kind, bytes.len()));
    }
    let inner = match canonical::decode_value(bytes, kind.as_str())? {
        ciborium::Value::Tag(CoseSign::TAG, inner) => *inner,
        _ => return Err(bad("it is not a COSE_Sign")),
    };
    let envelope =
        CoseSign::from_cbor_value(inner).map_err(|error| bad(&format!("its envelope: {error}")))?;
    if envelope.signatures.len() > SIGNATURES_MAX {
        let count = envelope.signatures.len();
        return Err(bad(&format!("it has {count} signatures, at most {SIGNATURES_MAX} are read")));
    }
    if envelope.protected.original_data.as_deref() != Some(&*protected_bytes(body_header(kind))?) {
        return Err(wrong_kind(kind, &envelope.protected.header));
    }
    if !envelope.unprotected.is_empty() {
        return Err(bad("it has unprotected headers"));
    }
    if envelope.payload.is_none() {
        return Err(bad("it has no payload"));
    }
    if envelope.signatures.is_empty() {
        return Err(Fault::new(Code::BadSignature, format!("{kind} has no signature")));
    }
    Ok(envelope)
}

/// The key of a signature that is right.
fn check_signature(kind: ObjectKind, envelope: &CoseSign, signature: &CoseSignature) -> Outcome<NodeId> {
    let bad = |code: Code, why: String| Fault::new(code, format!("{kind} is malformed: {why}"));
    let Ok(key) = <[u8; 32]>::try_from(signature.protected.header.key_id.as_slice()) else {
        return Err(bad(Code::BadObject, "a signature names no key of 32 bytes".into()));
    };
    let id = NodeId::from(key);
    if signature.protected.original_data.as_deref() != Some(&*protected_bytes(key_header(&id))?)
        || !signature.unprotected.is_empty()
    {
        return Err(bad(
            Code::BadObject,
            format!("the signature of key {id} has headers that it may not have"),
        ));
    }
    let wrong =
        || Fault::new(Code::BadSignature, format!("{kind} has a signature of key {id} that is wrong"));
    let key = VerifyingKey::from_bytes(&key).map_err(|_| wrong())?;
    if !is_strong(&id) {
        let what = format!("{kind} is signed by key {id}, which is not a usable key");
        return Err(Fault::new(Code::BadSignature, what));
    }
    let bytes = Signature::from_slice(&signature.signature).map_err(|_| wrong())?;
    key.verify_strict(&envelope.tbs_data(&[], signature), &bytes).map_err(|_| wrong())?;
    Ok(id)
}

/// Puts a payload into an envelope, adds signatures and orders them by key.
fn seal(
    kind: ObjectKind,
    payload: Vec<u8>,
    mut signatures: Vec<CoseSignature>,
    keys: &[&SigningKey],
) -> Outcome<Vec<u8>> {
    let mut envelope =
        CoseSign { protected: protected(body_header(kind)), payload: Some(payload), ..CoseSign::default() };
    for key in keys {
        let mut signature =
            CoseSignature { protected: protected(key_header(&node_id(key))), ..CoseSignature::default() };
        signature.signature = key.sign(&envelope.tbs_data(&[], &signature)).to_bytes().to_vec();
        signatures.push(signature);
    }
    signatures.sort_by(|a, b| a.protected.header.key_id.cmp(&b.protected.header.key_id));
    signatures.dedup_by(|a, b| a.protected.header.key_id == b.protected.header.key_id);
    if signatures.is_empty() {
        return Err(Fault::new(Code::BadSignature, format!("{kind} has no key to sign it")));
    }
    if signatures.len() > SIGNATURES_MAX {
        let what = format!("{kind} has {} signatures, at most {SIGNATURES_MAX} are read", signatures.len());
        return Err(Fault::new(Code::TooLarge, what));
    }
    envelope.signatures = signatures;
    let bytes = envelope
        .to_tagged_vec()
        .map_err(|error| Fault::new(Code::Internal, format!("encoding a {kind}: {error}")))?;
    if bytes.len() > kind.size_max() {
        return Err(too_large(kind, bytes.len()));
    }
    Ok(bytes)
}

fn body_header(kind: ObjectKind) -> Header {
    HeaderBuilder::new().content_type(kind.content_type().into()).build()
}

fn key_header(key: &NodeId) -> Header {
    HeaderBuilder::new().algorithm(iana::Algorithm::EdDSA).key_id(key.as_bytes().to_vec()).build()
}

fn protected(header: Header) -> ProtectedHeader {
    ProtectedHeader { original_data: None, header }
}

fn protected_bytes(header: Header) -> Outcome<Vec<u8>> {
    use coset::CborSerializable as _;
    header.to_vec().map_err(|error| Fault::new(Code::Internal, format!("encoding a header: {error}")))
}

fn too_large(kind: ObjectKind, length: usize) -> Fault {
    Fault::new(Code::TooLarge, format!("{kind} has {length} bytes, at most {} are read", kind.size_max()))
}

/// Says what an envelope of another kind is.
fn wrong_kind(expected: ObjectKind, header: &Header) -> Fault {
    let found = match &header.content_type {
        Some(coset::ContentType::Text(text)) => {
            ObjectKind::ALL.into_iter().find(|kind| kind.content_type() == text)
        }
        _ => None,
    };
    let what = match found {
        Some(found) if found != expected => format!("{expected} was expected, this is a {found}"),
        _ => format!("{expected} was expected, this is something else"),
    };
    Fault::new(Code::BadObject, what)
}
