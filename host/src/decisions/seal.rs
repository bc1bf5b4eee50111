//! Answers to orders: each piece is signed by the node that answers, so that who carries it can drop the rest of an answer
//! and change nothing.
//!
//! A sealed piece is `u8` what it is ‖ signature (64 bytes) ‖ body. The signature covers a fixed text, the nonce of the order, the
//! number of the piece from 0, what it is, and the body; so no piece fits another order or another place.

use ed25519_dalek::{Signature, Signer, SigningKey, VerifyingKey};

use crate::words::{Code, Fault, NodeId, Outcome};

/// Bytes of a seal, before the body.
pub const SEAL: usize = 1 + SIGNATURE;
/// Bytes of a signature.
const SIGNATURE: usize = 64;
/// Nothing else that a node's key signs begins like this: neither TLS nor COSE.
const CONTEXT: &[u8] = b"midplane answer to an order\0";

/// What a sealed piece is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Said {
    /// The order is obeyed from here on. The first piece, without a body.
    Accepted,
    /// An item.
    Item,
    /// A note.
    Note,
    /// All went well; nothing more comes. No body.
    End,
    /// A failure, as in an error frame; nothing more comes.
    Error,
}

impl Said {
    const ALL: [Said; 5] = [Said::Accepted, Said::Item, Said::Note, Said::End, Said::Error];

    const fn byte(self) -> u8 {
        self as u8
    }
}

/// Seals one piece of an answer.
pub fn seal(key: &SigningKey, nonce: &[u8; 16], number: u64, said: Said, body: &[u8]) -> Vec<u8> {
    let signature = key.sign(&covered(nonce, number, said.byte(), body));
    let mut sealed = Vec::with_capacity(SEAL + body.len());
    sealed.push(said.byte());
    sealed.extend_from_slice(&signature.to_bytes());
    sealed.extend_from_slice(body);
    sealed
}

/// Opens the piece with this number.
///
/// # Errors
/// `bad-signature` for anything that this node did not say here.
pub fn open<'a>(node: &NodeId, nonce: &[u8; 16], number: u64, sealed: &'a [u8]) -> Outcome<(Said, &'a [u8])> {
    let wrong = || {
        let what = format!("answer of node {} was changed on the way", node.short());
        Fault::new(Code::BadSignature, what)
    };
    let (byte, rest) = sealed.split_first().ok_or_else(wrong)?;
    let (signature, body) = rest.split_at_checked(SIGNATURE).ok_or_else(wrong)?;
    let key = VerifyingKey::from_bytes(node.as_bytes()).map_err(|_| wrong())?;
    let signature = Signature::from_slice(signature).map_err(|_| wrong())?;
    key.verify_strict(&covered(nonce, number, *byte, body), &signature).map_err(|_| wrong())?;
    // Only now: a byte that this version does not know was really said.
    let said = Said::ALL.into_iter().find(|said| said.byte() == *byte).ok_or_else(|| {
        Fault::new(Code::Protocol, format!("answer has a piece {byte} that is not known to this version"))
    })?;
    Ok((said, body))
}

/// The nonce under which a node seals what it says to whoever is trusted and asks with this one. Derived, so that no question can be made
/// of the nonce of an order: what is sealed for it would fit an answer to that order.
pub fn nonce_of_question(asked: &[u8; 16]) -> [u8; 16] {
    let derived = blake3::derive_key("midplane 2026 what a node runs", asked);
    let mut nonce = [0; 16];
    nonce.iter_mut().zip(derived).for_each(|(byte, derived)| *byte = derived);
    nonce
}

fn covered(nonce: &[u8; 16], number: u64, said: u8, body: &[u8]) -> Vec<u8> {
    [CONTEXT, nonce, &number.to_be_bytes(), &[said], body].concat()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::decisions::cose::node_id;

    #[test]
    fn what_was_sealed_is_opened_in_its_place_only() {
        let key = SigningKey::from_bytes(&[1; 32]);
        let (node, nonce) = (node_id(&key), [7; 16]);
        for said in Said::ALL {
            let sealed = seal(&key, &nonce, 3, said, b"body");
            assert_eq!(open(&node, &nonce, 3, &sealed).unwrap(), (said, &b"body"[..]));
            for at in 0..sealed.len() {
                let mut changed = sealed.clone();
                changed[at] ^= 1;
                let fault = open(&node, &nonce, 3, &changed).unwrap_err();
                assert_eq!(fault.code, Code::BadSignature, "byte {at}");
                assert!(open(&node, &nonce, 3, &sealed[..at]).is_err(), "the first {at} bytes");
            }
            let other = node_id(&SigningKey::from_bytes(&[2; 32]));
            assert!(open(&other, &nonce, 3, &sealed).is_err());
            assert!(open(&node, &[8; 16], 3, &sealed).is_err());
            assert!(open(&node, &nonce, 4, &sealed).is_err());
        }
    }
    #[test]
    fn no_question_gets_a_seal_that_fits_an_order() {
        let key = SigningKey::from_bytes(&[1; 32]);
        let (node, order) = (node_id(&key), [7; 16]);
        // Somebody asks with the nonce of an order that is on its way.
        let said = seal(&key, &nonce_of_question(&order), 0, Said::Item, b"body");
        assert!(open(&node, &order, 0, &said).is_err());
        assert!(open(&node, &nonce_of_question(&order), 0, &said).is_ok());
        assert_ne!(nonce_of_question(&[0; 16]), nonce_of_question(&[1; 16]));
    }
}
