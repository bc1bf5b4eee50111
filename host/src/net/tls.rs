//! Who is at the other end: TLS 1.3 with raw public keys (RFC 7250) on both sides.
//!
//! There are no certificates: the key is the identity, so nothing has to be parsed, dated or renewed. There is no resumption and no
//! 0-RTT: a resumed session would skip the check of the key, and early data can be replayed.

use std::sync::{Arc, OnceLock};

use ed25519_dalek::{SigningKey, VerifyingKey};
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::client::{AlwaysResolvesClientRawPublicKeys, Resumption};
use rustls::crypto::{CryptoProvider, ring, verify_tls13_signature_with_raw_key};
use rustls::pki_types::{
    CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer, ServerName, SubjectPublicKeyInfoDer, UnixTime,
};
use rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use rustls::server::{AlwaysResolvesServerRawPublicKeys, NoServerSessionStorage};
use rustls::sign::CertifiedKey;
use rustls::{
    CertificateError, ClientConfig, DigitallySignedStruct, DistinguishedName, Error, PeerIncompatible,
    ServerConfig, SignatureScheme,
};
use zeroize::Zeroizing;

use crate::words::fault::{Code, Fault, Outcome};
use crate::words::id::NodeId;

/// What is spoken after the handshake; another number when the framing changes.
pub const ALPN: &[u8] = b"midplane/0";
/// TLS wants a name for the server; nodes have keys instead. `.invalid` is nobody's (RFC 2606), and it is not sent.
pub const SERVER_NAME: &str = "node.invalid";
/// What precedes the 32 bytes of an Ed25519 key in a SubjectPublicKeyInfo (RFC 8410, section 4).
const SPKI_PREFIX: [u8; 12] = [0x30, 0x2a, 0x30, 0x05, 0x06, 0x03, 0x2b, 0x65, 0x70, 0x03, 0x21, 0x00];
/// What precedes the 32 bytes of an Ed25519 seed in PKCS#8 (RFC 8410, section 7).
const PKCS8_PREFIX: [u8; 16] =
    [0x30, 0x2e, 0x02, 0x01, 0x00, 0x30, 0x05, 0x06, 0x03, 0x2b, 0x65, 0x70, 0x04, 0x22, 0x04, 0x20];

/// The id of the node with this key.
pub fn node_id(key: &SigningKey) -> NodeId {
    NodeId::from(key.verifying_key().to_bytes())
}

/// A signing key as PKCS#8 DER; wiped when dropped.
pub fn pkcs8(key: &SigningKey) -> Zeroizing<Vec<u8>> {
    let seed = Zeroizing::new(key.to_bytes());
    let mut der = Zeroizing::new(Vec::with_capacity(PKCS8_PREFIX.len() + seed.len()));
    der.extend_from_slice(&PKCS8_PREFIX);
    der.extend_from_slice(seed.as_ref());
    der
}

/// Both sides of TLS for one node.
#[derive(Clone, Debug)]
pub struct Tls {
    /// For connections that come in: any key, but a key.
    pub server: Arc<ServerConfig>,
    client: ClientConfig,
}

impl Tls {
    /// For connections to the node `expected`, or to any node. `found` gets the id that the other side showed, right or wrong.
    pub fn client(&self, expected: Option<NodeId>, found: Arc<OnceLock<NodeId>>) -> ClientConfig {
        let mut config = self.client.clone();
        config.dangerous().set_certificate_verifier(Arc::new(KeyVerifier { expected, found }));
        config
    }
}

/// Makes both sides of TLS for the node with this key, given as PKCS#8 DER.
///
/// # Errors
/// `bad-object` when the key is not an Ed25519 key.
pub fn configs(pkcs8: &[u8], own_id: NodeId) -> Outcome<Tls> {
    let refused =
        |error: Error| Fault::new(Code::BadObject, format!("node key cannot be used for TLS: {error}"));
    let provider = Arc::new(provider());
    let key = PrivateKeyDer::from(PrivatePkcs8KeyDer::from(pkcs8.to_vec()));
    let key = provider.key_provider.load_private_key(key).map_err(refused)?;
    let spki = [&SPKI_PREFIX[..], own_id.as_bytes()].concat();
    if key.public_key().as_deref() != Some(&spki[..]) {
        return Err(Fault::new(Code::BadObject, format!("node key is not that of {own_id}")));
    }
    let certified = Arc::new(CertifiedKey::new(vec![CertificateDer::from(spki)], key));
    let verifier = KeyVerifier { expected: None, found: Arc::default() };

    let mut server = ServerConfig::builder_with_provider(provider.clone())
        .with_protocol_versions(&[&rustls::version::TLS13])
        .map_err(refused)?
        .with_client_cert_verifier(Arc::new(verifier.clone()))
        .with_cert_resolver(Arc::new(AlwaysResolvesServerRawPublicKeys::new(certified.clone())));
    server.alpn_protocols = vec![ALPN.to_vec()];
    server.send_tls13_tickets = 0;
    server.session_storage = Arc::new(NoServerSessionStorage {});
    server.max_early_data_size = 0;

    let mut client = ClientConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&rustls::version::TLS13])
        .map_err(refused)?
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(verifier))
        .with_client_cert_resolver(Arc::new(AlwaysResolvesClientRawPublicKeys::new(certified)));
    client.alpn_protocols = vec![ALPN.to_vec()];
    client.enable_sni = false;
    client.enable_early_data = false;
    client.resumption = Resumption::disabled();
    Ok(Tls { server: Arc::new(server), client })
}

/// The node whose key this is.
///
/// # Errors
/// When it is not exactly one Ed25519 public key, or one with which anybody's signature would be good.
pub fn id_of_spki(spki: &[u8]) -> Result<NodeId, Error> {
    let bad = || Error::InvalidCertificate(CertificateError::BadEncoding);
    let key: &[u8; 32] =
        spki.strip_prefix(&SPKI_PREFIX[..]).and_then(|key| key.try_into().ok()).ok_or_else(bad)?;
    match VerifyingKey::from_bytes(key) {
        Ok(checked) if !checked.is_weak() => Ok(NodeId::from(*key)),
        _ => Err(bad()),
    }
}

/// What is used of TLS 1.3. AES-128 first: it is the fastest where AES is in hardware, and strong enough. One curve.
fn provider() -> CryptoProvider {
    CryptoProvider {
        cipher_suites: vec![
            ring::cipher_suite::TLS13_AES_128_GCM_SHA256,
            ring::cipher_suite::TLS13_AES_256_GCM_SHA384,
            ring::cipher_suite::TLS13_CHACHA20_POLY1305_SHA256,
        ],
        kx_groups: vec![ring::kx_group::X25519],
        ..ring::default_provider()
    }
}

/// Checks the other side's key, in both directions.
#[derive(Clone, Debug)]
struct KeyVerifier {
    expected: Option<NodeId>,
    found: Arc<OnceLock<NodeId>>,
}

impl KeyVerifier {
    /// One key and nothing else, the one that is expected if one is. Only a dialler expects one, and has a `found` of its own.
    fn check(&self, key: &CertificateDer<'_>, others: &[CertificateDer<'_>]) -> Result<(), Error> {
        if !others.is_empty() {
            return Err(Error::InvalidCertificate(CertificateError::BadEncoding));
        }
        let id = id_of_spki(key)?;
        let Some(expected) = self.expected else { return Ok(()) };
        // Set once: a second handshake message of this kind does not exist in TLS 1.3.
        let _ = self.found.set(id);
        if id != expected {
            return Err(Error::InvalidCertificate(CertificateError::NotValidForName));
        }
        Ok(())
    }

    fn signature(
        message: &[u8],
        key: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        if signed.scheme != SignatureScheme::ED25519 {
            return Err(Error::PeerIncompatible(PeerIncompatible::NoSignatureSchemesInCommon));
        }
        let algorithms = ring::default_provider().signature_verification_algorithms;
        verify_tls13_signature_with_raw_key(
            message,
            &SubjectPublicKeyInfoDer::from(key.as_ref()),
            signed,
            &algorithms,
        )
    }
}

/// The part of the two traits that is the same: signatures.
macro_rules! signatures {
    () => {
        fn verify_tls12_signature(
            &self,
            _message: &[u8],
            _key: &CertificateDer<'_>,
            _signed: &DigitallySignedStruct,
        ) -> Result<HandshakeSignatureValid, Error> {
            Err(Error::PeerIncompatible(PeerIncompatible::Tls12NotOffered))
        }

        fn verify_tls13_signature(
            &self,
            message: &[u8],
            key: &CertificateDer<'_>,
            signed: &DigitallySignedStruct,
        ) -> Result<HandshakeSignatureValid, Error> {
            Self::signature(message, key, signed)
        }

        fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
            vec![SignatureScheme::ED25519]
        }

        fn requires_raw_public_keys(&self) -> bool {
            true
        }
    };
}

impl ServerCertVerifier for KeyVerifier {
    fn verify_server_cert(
        &self,
        key: &CertificateDer<'_>,
        others: &[CertificateDer<'_>],
        _name: &ServerName<'_>,
        _ocsp: &[u8],
        _now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        self.check(key, others).map(|()| ServerCertVerified::assertion())
    }

    signatures!();
}

impl ClientCertVerifier for KeyVerifier {
    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        &[]
    }

    fn client_auth_mandatory(&self) -> bool {
        true
    }

    fn verify_client_cert(
        &self,
        key: &CertificateDer<'_>,
        others: &[CertificateDer<'_>],
        _now: UnixTime,
    ) -> Result<ClientCertVerified, Error> {
        self.check(key, others).map(|()| ClientCertVerified::assertion())
    }

    signatures!();
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_one_good_ed25519_key_is_an_identity() {
        let key = SigningKey::from_bytes(&[3; 32]);
        let good = [&SPKI_PREFIX[..], &key.verifying_key().to_bytes()].concat();
        assert_eq!(id_of_spki(&good).unwrap(), node_id(&key));

        let mut identity_point = [0; 32];
        identity_point[0] = 1;
        let mut other_curve = good.clone();
        other_curve[8] = 0x6e;
        let mut not_a_point = good.clone();
        not_a_point[12..].copy_from_slice(&[2; 32]);
        assert!(VerifyingKey::from_bytes(&[2; 32]).is_err());
        for bad in [
            Vec::new(),
            good[..43].to_vec(),
            [&good[..], &[0]].concat(),
            good[12..].to_vec(),
            [&SPKI_PREFIX[..], &identity_point].concat(),
            other_curve,
            not_a_point,
        ] {
            assert!(id_of_spki(&bad).is_err(), "{bad:02x?} was taken");
        }
    }

    #[test]
    fn a_key_of_another_node_is_refused() {
        let (own, other) = (SigningKey::from_bytes(&[1; 32]), SigningKey::from_bytes(&[2; 32]));
        assert!(configs(&pkcs8(&own), node_id(&own)).is_ok());
        assert_eq!(configs(&pkcs8(&own), node_id(&other)).unwrap_err().code, Code::BadObject);
        assert_eq!(configs(&[1, 2, 3], node_id(&own)).unwrap_err().code, Code::BadObject);
    }

    #[test]
    fn a_second_key_in_the_message_is_refused() {
        let key = SigningKey::from_bytes(&[3; 32]);
        let spki = CertificateDer::from([&SPKI_PREFIX[..], &key.verifying_key().to_bytes()].concat());
        let verifier = KeyVerifier { expected: None, found: Arc::default() };
        assert!(verifier.check(&spki, &[]).is_ok());
        assert!(verifier.check(&spki, std::slice::from_ref(&spki)).is_err());
        let found = Arc::new(OnceLock::new());
        let wrong = KeyVerifier { expected: Some([9; 32].into()), found: found.clone() };
        assert!(wrong.check(&spki, &[]).is_err());
        assert_eq!(found.get(), Some(&node_id(&key)));
    }
}
