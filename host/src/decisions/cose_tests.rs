use ciborium::Value;
use coset::{AsCborValue, CoseSign, CoseSignature, HeaderBuilder, TaggedCborSerializable, iana};
use ed25519_dalek::{Signer, SigningKey};

use super::canonical;
use super::cose::*;
use crate::words::objects::{Claim, Membership, Order, Swap};
use crate::words::{Code, NodeId, Outcome};

fn key(seed: u8) -> SigningKey {
    SigningKey::from_bytes(&[seed; 32])
}

fn ids(seeds: &[u8]) -> Vec<NodeId> {
    seeds.iter().map(|seed| node_id(&key(*seed))).collect()
}

fn claim() -> Claim {
    Claim {
        mesh: [9; 32].into(),
        node: node_id(&key(1)),
        name: "math1@fabric".parse().unwrap(),
        label: None,
        serial: 3,
        issued: 1000,
        expires: 2000,
    }
}

fn signed(seeds: &[u8]) -> Vec<u8> {
    let keys: Vec<SigningKey> = seeds.iter().map(|seed| key(*seed)).collect();
    sign(&claim(), &keys.iter().collect::<Vec<_>>()).unwrap()
}

fn open_claim(bytes: &[u8], may: &[u8], threshold: usize) -> Outcome<Opened<Claim>> {
    open::<Claim>(bytes, &ids(may), threshold)
}

#[track_caller]
fn refused(bytes: &[u8], may: &[u8], threshold: usize, code: Code, text: &str) {
    let fault = open_claim(bytes, may, threshold).unwrap_err();
    assert_eq!(fault.code, code, "{fault}");
    assert!(fault.what.contains(text), "{fault} lacks {text:?}");
}

/// Takes an envelope apart, changes it and puts it together again.
fn edit(bytes: &[u8], change: impl FnOnce(&mut CoseSign)) -> Vec<u8> {
    let mut envelope = CoseSign::from_tagged_slice(bytes).unwrap();
    change(&mut envelope);
    envelope.to_tagged_vec().unwrap()
}

/// Signs any payload as a claim, properly but for what `change` does before the signature is made.
fn forge(payload: Vec<u8>, seed: u8, change: impl FnOnce(&mut CoseSign, &mut CoseSignature)) -> Vec<u8> {
    let mut envelope = CoseSign::from_tagged_slice(&signed(&[seed])).unwrap();
    let mut signature = envelope.signatures.remove(0);
    envelope.payload = Some(payload);
    change(&mut envelope, &mut signature);
    signature.signature = key(seed).sign(&envelope.tbs_data(&[], &signature)).to_bytes().to_vec();
    envelope.signatures.push(signature);
    envelope.to_tagged_vec().unwrap()
}

#[test]
fn what_is_signed_is_opened() {
    let bytes = signed(&[1]);
    let opened = open_claim(&bytes, &[1, 2], 1).unwrap();
    assert_eq!((opened.object, opened.signers), (claim(), ids(&[1])));
    assert_eq!(opened.payload, canonical::encode(&claim()).unwrap());
    // A threshold of zero would take anything: it is one.
    refused(&bytes, &[2], 0, Code::UnknownKey, "");
    refused(&bytes, &[], 0, Code::UnknownKey, "");
    assert!(open_claim(&bytes, &[1], 0).is_ok());
}

#[test]
fn the_order_of_keys_makes_no_difference() {
    assert_eq!(signed(&[1, 2, 3]), signed(&[3, 1, 2]));
    assert_eq!(signed(&[1, 2]), signed(&[2, 1, 2, 1]));
    let one_by_one = cosign::<Claim>(&cosign::<Claim>(&signed(&[3]), &key(1)).unwrap(), &key(2)).unwrap();
    assert_eq!(one_by_one, signed(&[1, 2, 3]));
    assert_eq!(cosign::<Claim>(&one_by_one, &key(2)).unwrap(), one_by_one);
    assert!(cosign::<Membership>(&one_by_one, &key(2)).is_err());
    assert_eq!(sign(&claim(), &[]).unwrap_err().code, Code::BadSignature);
}

#[test]
fn signers_are_counted_by_distinct_known_keys() {
    let two = signed(&[1, 2]);
    assert_eq!(open_claim(&two, &[1, 2, 3], 2).unwrap().signers.len(), 2);
    refused(&two, &[1, 2, 3], 3, Code::BadSignature, "has 2 of 3 signatures");
    refused(&signed(&[1]), &[1, 2], 2, Code::BadSignature, "has 1 of 2 signatures");
    // A key that may not sign does not count, and does no harm.
    refused(&two, &[1], 2, Code::BadSignature, "has 1 of 2 signatures");
    assert_eq!(open_claim(&two, &[1], 1).unwrap().signers, ids(&[1]));
    let unknown = node_id(&key(7)).to_string();
    refused(&signed(&[7]), &[1, 2], 1, Code::UnknownKey, &unknown);
    // Twice the same key, in the signatures or among those that may sign.
    let doubled = edit(&signed(&[1]), |envelope| envelope.signatures.push(envelope.signatures[0].clone()));
    refused(&doubled, &[1, 2], 2, Code::BadSignature, "has 1 of 2");
    refused(&doubled, &[1, 1], 2, Code::BadSignature, "has 1 of 2");
    assert_eq!(open_claim(&doubled, &[1], 1).unwrap().signers, ids(&[1]));
    // One key's signature under another's name.
    let renamed = edit(&doubled, |envelope| {
        envelope.signatures[1].protected.original_data = None;
        envelope.signatures[1].protected.header.key_id = node_id(&key(2)).as_bytes().to_vec();
    });
    refused(&renamed, &[1, 2], 2, Code::BadSignature, "wrong");
    // The same key made by its holder to look like two.
    let long_id = forge(canonical::encode(&claim()).unwrap(), 1, |_, signature| {
        signature.protected.original_data = None;
        signature.protected.header.key_id.push(0);
    });
    refused(&long_id, &[1], 1, Code::BadObject, "no key of 32 bytes");
}

#[test]
fn every_changed_byte_is_refused() {
    for seeds in [&[1u8][..], &[1, 2]] {
        let good = signed(seeds);
        assert!(open_claim(&good, &[1, 2], seeds.len()).is_ok());
        for index in 0..good.len() {
            for bit in 0..8 {
                let mut bad = good.clone();
                bad[index] ^= 1 << bit;
                assert!(open_claim(&bad, &[1, 2], seeds.len()).is_err(), "byte {index} bit {bit} was taken");
                // Nor does a changed signature hide behind a good one.
                assert!(open_claim(&bad, &[1, 2], 1).is_err(), "byte {index} bit {bit} was taken");
            }
        }
        for end in 0..good.len() {
            assert!(open_claim(&good[..end], &[1, 2], 1).is_err(), "cut at {end} was taken");
        }
        for extra in [0x00u8, 0x80, 0xf6, 0xff] {
            let longer = [good.as_slice(), &[extra]].concat();
            refused(&longer, &[1, 2], 1, Code::BadObject, "1 bytes follow");
        }
    }
}

#[test]
fn envelopes_have_one_form() {
    let good = signed(&[1]);
    refused(&[], &[1], 1, Code::BadObject, "ends too early");
    refused(&good[2..], &[1], 1, Code::BadObject, "not a COSE_Sign");
    refused(&[0xd2, 0x80], &[1], 1, Code::BadObject, "not a COSE_Sign");
    refused(&[0xd8, 0x62, 0x80], &[1], 1, Code::BadObject, "envelope");
    refused(
        &edit(&good, |envelope| envelope.signatures.clear()),
        &[1],
        1,
        Code::BadSignature,
        "no signature",
    );
    refused(&edit(&good, |envelope| envelope.payload = None), &[1], 1, Code::BadObject, "no payload");
    let header = HeaderBuilder::new().key_id(vec![1]).build();
    refused(&edit(&good, |e| e.unprotected = header.clone()), &[1], 1, Code::BadObject, "unprotected");
    refused(
        &edit(&good, |e| e.signatures[0].unprotected = header.clone()),
        &[1],
        1,
        Code::BadObject,
        "headers",
    );
    let many = edit(&good, |e| e.signatures = vec![e.signatures[0].clone(); SIGNATURES_MAX + 1]);
    refused(&many, &[1], 1, Code::BadObject, "17 signatures, at most 16");
    let short = edit(&good, |e| e.signatures[0].signature.truncate(63));
    refused(&short, &[1], 1, Code::BadSignature, "wrong");
    // Other algorithms, critical headers and a content type elsewhere are signed, and refused all the same.
    let payload = canonical::encode(&claim()).unwrap();
    let es256 = forge(payload.clone(), 1, |_, signature| {
        let id = signature.protected.header.key_id.clone();
        signature.protected.original_data = None;
        signature.protected.header =
            HeaderBuilder::new().algorithm(iana::Algorithm::ES256).key_id(id).build();
    });
    refused(&es256, &[1], 1, Code::BadObject, "headers");
    let extra = forge(payload.clone(), 1, |envelope, _| {
        envelope.protected.original_data = None;
        envelope.protected.header.iv = vec![1];
    });
    refused(&extra, &[1], 1, Code::BadObject, "something else");
    assert!(open_claim(&forge(payload, 1, |_, _| ()), &[1], 1).is_ok(), "the forger makes good ones too");
}

#[test]
fn a_signature_is_for_one_kind_and_one_payload() {
    let bytes = signed(&[1]);
    let fault = open::<Membership>(&bytes, &ids(&[1]), 1).unwrap_err();
    assert_eq!(
        (fault.code, fault.what.as_str()),
        (Code::BadObject, "membership was expected, this is a claim")
    );
    let mut other = claim();
    other.serial = 4;
    let swapped = edit(&bytes, |e| e.payload = Some(canonical::encode(&other).unwrap()));
    refused(&swapped, &[1], 1, Code::BadSignature, "wrong");
    // The claim's signature over the claim's bytes, said to be a membership.
    let relabelled = edit(&bytes, |envelope| {
        envelope.protected.original_data = None;
        envelope.protected.header =
            HeaderBuilder::new().content_type(ObjectKind::Membership.content_type().into()).build();
    });
    let fault = open::<Membership>(&relabelled, &ids(&[1]), 1).unwrap_err();
    assert_eq!(fault.code, Code::BadSignature, "{fault}");
}

#[test]
fn weak_keys_sign_nothing() {
    // The identity point: for it R = identity, s = 0 verifies any message without `verify_strict`.
    let mut weak = [0u8; 32];
    weak[0] = 1;
    let forged = edit(&signed(&[1]), |envelope| {
        let signature = &mut envelope.signatures[0];
        signature.protected.original_data = None;
        signature.protected.header.key_id = weak.to_vec();
        signature.signature = [&weak[..], &[0; 32]].concat();
    });
    let fault = open::<Claim>(&forged, &[NodeId::from(weak)], 1).unwrap_err();
    assert_eq!(fault.code, Code::BadSignature, "{fault}");
    assert!(fault.what.contains("not a usable key"), "{fault}");
}

#[test]
fn usable_keys_are_points_in_one_encoding() {
    let y = |low: u8, rest: u8, high: u8| {
        let mut bytes = [rest; 32];
        (bytes[0], bytes[31]) = (low, high);
        NodeId::from(bytes)
    };
    for (key, expect) in [
        (node_id(&key(1)), true),
        (y(1, 0, 0), false),
        // Not on the curve.
        (y(2, 0, 0), false),
        // 3 is on the curve; 3 + p is the same point, written otherwise.
        (y(3, 0, 0), true),
        (y(0xf0, 0xff, 0x7f), false),
        (y(0xff, 0xff, 0xff), false),
    ] {
        assert_eq!(is_strong(&key), expect, "{key}");
    }
}

#[test]
fn payloads_are_decoded_strictly_even_when_signed() {
    let value = || Value::serialized(&claim()).unwrap();
    let write = |value: &Value| {
        let mut bytes = Vec::new();
        ciborium::into_writer(value, &mut bytes).unwrap();
        bytes
    };
    let entries = |change: fn(&mut Vec<(Value, Value)>)| {
        let mut value: Value = ciborium::from_reader(&*canonical::encode(&claim()).unwrap()).unwrap();
        change(value.as_map_mut().unwrap());
        write(&value)
    };
    let good = canonical::encode(&claim()).unwrap();
    let indefinite = [&[0xbf], &good[1..], &[0xff]].concat();
    for (payload, text) in [
        (write(&value()), "ascending"),
        (entries(|map| map.swap(0, 1)), "ascending"),
        (entries(|map| map.push(map[0].clone())), "ascending"),
        (
            entries(|map| map.push((Value::Text("zzzzzzzzzzz".into()), Value::Null))),
            "unknown field `zzzzzzzzzzz`",
        ),
        (entries(|map| map.truncate(3)), "missing field"),
        (entries(|map| map[0].1 = Value::Float(1.0)), "floating"),
        (entries(|map| map[0].1 = Value::Tag(2, Box::new(Value::Bytes(vec![1])))), "malformed"),
        (indefinite, "canonical"),
        ([good.as_slice(), &[0]].concat(), "1 bytes follow"),
        (vec![0x81; 100], "deeper than 16"),
        (vec![0x9f; 2000], "deeper than 16"),
        (vec![], "ends too early"),
        (b"{}".to_vec(), "malformed"),
    ] {
        refused(&forge(payload, 1, |_, _| ()), &[1], 1, Code::BadObject, text);
    }
}

#[test]
fn sizes_are_checked_before_anything_else() {
    for kind in ObjectKind::ALL {
        let bytes = vec![0xff; kind.size_max() + 1];
        let fault = match kind {
            ObjectKind::Root => verify::<crate::words::objects::Root>(&bytes).err(),
            ObjectKind::Manifest => verify::<crate::words::objects::Manifest>(&bytes).err(),
            ObjectKind::Membership => verify::<Membership>(&bytes).err(),
            ObjectKind::Claim => verify::<Claim>(&bytes).err(),
            ObjectKind::Order => verify::<Order>(&bytes).err(),
            ObjectKind::Swap => verify::<Swap>(&bytes).err(),
        };
        assert_eq!(fault.unwrap().code, Code::TooLarge, "{kind}");
    }
    let membership = Membership {
        mesh: [9; 32].into(),
        node: node_id(&key(1)),
        trust: crate::words::Trust::Full,
        tags: vec!["x".repeat(9000)],
        names: vec![],
        issued: 0,
        expires: 1,
        serial: 1,
    };
    assert_eq!(sign(&membership, &[&key(1)]).unwrap_err().code, Code::TooLarge);
    let keys: Vec<SigningKey> = (0..17).map(key).collect();
    assert_eq!(sign(&claim(), &keys.iter().collect::<Vec<_>>()).unwrap_err().code, Code::TooLarge);
}

#[test]
fn envelopes_are_standard_cose() {
    let Value::Tag(98, inner) = ciborium::from_reader(&*signed(&[1])).unwrap() else { panic!("no tag 98") };
    let envelope = CoseSign::from_cbor_value(*inner).unwrap();
    let kind = coset::ContentType::Text("application/midplane-claim+cbor".into());
    assert_eq!(envelope.protected.header.content_type, Some(kind));
    let header = &envelope.signatures[0].protected.header;
    assert_eq!(header.alg, Some(coset::Algorithm::Assigned(iana::Algorithm::EdDSA)));
    assert_eq!(header.key_id, node_id(&key(1)).as_bytes());
}
