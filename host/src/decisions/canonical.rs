//! One encoding per value: deterministic CBOR (RFC 8949, section 4.2.1) without tags, floats and simple
//! values that signed objects do not need.
//!
//! Two byte strings that mean the same would be two digests, two signatures and, with a careless reader, two
//! meanings; so whatever is not exactly what [`encode`] would have written is refused.

use ciborium::Value;
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::words::{Code, Fault, Outcome};

/// Depth of nesting. A manifest has 5; the rest is room.
pub const DEPTH_MAX: usize = 16;

/// The canonical form of a value.
///
/// # Errors
/// `internal` when the value has parts that canonical CBOR does not, such as floats.
pub fn encode<T: Serialize>(value: &T) -> Outcome<Vec<u8>> {
    let internal = |error: &dyn std::fmt::Display| Fault::new(Code::Internal, format!("encoding: {error}"));
    let mut value = Value::serialized(value).map_err(|error| internal(&error))?;
    sort(&mut value)?;
    check(&value).map_err(|what| internal(&what))?;
    bytes_of(&value)
}

/// Reads a value from its canonical form and nothing else; `what` names it in errors.
///
/// # Errors
/// `bad-object` when it is not CBOR, not canonical, nested too deeply or not this type.
pub fn decode<T: Serialize + DeserializeOwned>(bytes: &[u8], what: &str) -> Outcome<T> {
    let value = decode_value(bytes, what)?;
    check(&value).map_err(|why| bad(what, &why))?;
    let object: T = value.deserialized().map_err(|error| bad(what, &clean(&error)))?;
    // Catches what only the type knows, such as a null for an absent field or a list for bytes.
    if encode(&object)? != bytes {
        return Err(bad(what, "it is not in canonical form"));
    }
    Ok(object)
}

/// Reads CBOR whose re-encoding equals the input: definite lengths, shortest integers, nothing behind it.
/// The order of keys is not checked.
///
/// # Errors
/// `bad-object`.
pub fn decode_value(bytes: &[u8], what: &str) -> Outcome<Value> {
    use ciborium::de::Error;
    let value: Value =
        ciborium::de::from_reader_with_recursion_limit(bytes, DEPTH_MAX).map_err(|error| match error {
            Error::RecursionLimitExceeded => bad(what, &format!("it is nested deeper than {DEPTH_MAX}")),
            Error::Io(_) => bad(what, "it ends too early"),
            Error::Syntax(offset) => bad(what, &format!("byte {offset} is not CBOR")),
            Error::Semantic(_, text) => bad(what, &text),
        })?;
    let again = bytes_of(&value)?;
    if again == bytes {
        return Ok(value);
    }
    match bytes.strip_prefix(again.as_slice()) {
        Some(rest) => Err(bad(what, &format!("{} bytes follow it", rest.len()))),
        None => Err(bad(what, "it is not in canonical form")),
    }
}

fn bad(what: &str, why: &str) -> Fault {
    Fault::new(Code::BadObject, format!("{what} is malformed: {why}"))
}

/// The text of a type error, without the library's wrapping.
fn clean(error: &ciborium::value::Error) -> String {
    let ciborium::value::Error::Custom(text) = error;
    text.clone()
}

fn bytes_of(value: &Value) -> Outcome<Vec<u8>> {
    let mut bytes = Vec::new();
    ciborium::into_writer(value, &mut bytes)
        .map_err(|error| Fault::new(Code::Internal, format!("encoding: {error}")))?;
    Ok(bytes)
}

/// Puts the keys of every map into the order of their encodings.
fn sort(value: &mut Value) -> Outcome<()> {
    match value {
        Value::Array(items) => items.iter_mut().try_for_each(sort),
        Value::Map(entries) => {
            let mut keyed = Vec::with_capacity(entries.len());
            for (key, mut entry) in std::mem::take(entries) {
                sort(&mut entry)?;
                keyed.push((bytes_of(&key)?, key, entry));
            }
            keyed.sort_by(|a, b| a.0.cmp(&b.0));
            entries.extend(keyed.into_iter().map(|(_, key, entry)| (key, entry)));
            Ok(())
        }
        _ => Ok(()),
    }
}

/// Says what a value has that the canonical form has not.
fn check(value: &Value) -> Result<(), String> {
    match value {
        Value::Array(items) => items.iter().try_for_each(check),
        Value::Map(entries) => {
            let mut last: Option<Vec<u8>> = None;
            for (key, entry) in entries {
                if !matches!(key, Value::Text(_)) {
                    return Err("a key is not text".into());
                }
                let key = bytes_of(key).map_err(|fault| fault.what)?;
                if last.as_ref().is_some_and(|last| *last >= key) {
                    return Err("its keys are not in ascending order, each once".into());
                }
                last = Some(key);
                check(entry)?;
            }
            Ok(())
        }
        Value::Integer(_) | Value::Bytes(_) | Value::Text(_) | Value::Bool(_) | Value::Null => Ok(()),
        Value::Float(_) => Err("it has a floating-point number".into()),
        Value::Tag(tag, _) => Err(format!("it has the tag {tag}")),
        _ => Err("it has an unknown kind of value".into()),
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use data_encoding::HEXLOWER;
    use proptest::prelude::*;
    use serde::Deserialize;

    use super::*;

    #[derive(Debug, PartialEq, Serialize, Deserialize)]
    #[serde(deny_unknown_fields)]
    struct Sample {
        bb: u64,
        a: String,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        c: Option<bool>,
    }

    #[test]
    fn keys_are_ordered_by_their_encoding() {
        let bytes = encode(&Sample { bb: 24, a: "x".into(), c: Some(true) }).unwrap();
        // {"a": "x", "c": true, "bb": 24}: shorter keys first, because their length byte is smaller.
        assert_eq!(HEXLOWER.encode(&bytes), "a36161617861 63f5626262 1818".replace(' ', ""));
        assert_eq!(decode::<Sample>(&bytes, "it").unwrap().bb, 24);
    }

    #[test]
    fn one_spelling_is_taken() {
        for (hex, expect) in [
            ("a2 6161 6178 626262 1818", "ok"),
            ("a2 626262 1818 6161 6178", "ascending"),
            ("a3 6161 6178 6161 6178 626262 1818", "ascending"),
            ("bf 6161 6178 626262 1818 ff", "canonical"),
            ("a2 6161 7f 6178 ff 626262 1818", "canonical"),
            ("b802 6161 6178 626262 1818", "canonical"),
            ("a2 6161 6178 626262 190018", "canonical"),
            ("a2 6161 7801 78 626262 1818", "canonical"),
            ("a2 6161 6178 626262 1818 00", "1 bytes follow"),
            ("a3 6161 6178 6163 f6 626262 1818", "canonical"),
            ("a3 6161 6178 6164 f5 626262 1818", "unknown field `d`"),
            ("a2 6161 6178 626262 c21818", "not CBOR|malformed"),
            ("a2 6161 6178 626262 c24118", "canonical"),
            ("a2 6161 6178 626262 c10a", "tag 1"),
            ("a2 6161 6178 626262 fb4038000000000000", "canonical"),
            ("a2 6161 6178 626262 f94e00", "floating"),
            ("a2 6161 6178 626262 20", "malformed"),
            ("a2 6161 01 626262 1818", "malformed"),
            ("a2 6161 61ff 626262 1818", "malformed"),
            ("a2 01 6178 626262 1818", "not text"),
            ("a1 6161 6178", "missing field `bb`"),
            ("9b 7fffffffffffffff", "too early"),
            ("5b 7fffffffffffffff", "too early"),
            ("bb 7fffffffffffffff", "too early"),
            ("", "too early"),
            ("ff", "malformed"),
        ] {
            let bytes = HEXLOWER.decode(hex.replace(' ', "").as_bytes()).unwrap();
            match decode::<Sample>(&bytes, "it") {
                Ok(_) => assert_eq!(expect, "ok", "{hex} was taken"),
                Err(fault) => {
                    assert_eq!(fault.code, Code::BadObject, "{hex}: {fault}");
                    assert!(expect.split('|').any(|part| fault.what.contains(part)), "{hex}: {fault}");
                }
            }
        }
    }

    #[test]
    fn deep_nesting_ends_early() {
        for opening in [0x81u8, 0x9f, 0xc1] {
            let bomb = vec![opening; 200_000];
            let fault = decode_value(&bomb, "it").unwrap_err();
            assert!(fault.what.contains("deeper than 16"), "{fault}");
        }
        let maps: Vec<u8> = [0xa1u8, 0x61, 0x61].repeat(1000);
        assert!(decode_value(&maps, "it").unwrap_err().what.contains("deeper than 16"));
    }

    proptest! {
        #[test]
        fn what_is_encoded_is_read_back(map in any::<BTreeMap<String, Vec<(u64, bool)>>>()) {
            let bytes = encode(&map).unwrap();
            prop_assert_eq!(decode::<BTreeMap<String, Vec<(u64, bool)>>>(&bytes, "it").unwrap(), map);
        }

        #[test]
        fn any_bytes_are_read_or_refused(bytes in any::<Vec<u8>>()) {
            if let Ok(value) = decode_value(&bytes, "it") {
                prop_assert_eq!(bytes_of(&value).unwrap(), bytes);
            }
        }
    }
}
