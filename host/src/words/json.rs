//! Between CBOR and JSON, without types, and from the words of the command line to arguments.

use std::collections::BTreeSet;
use std::convert::Infallible;

use data_encoding::BASE64;
use minicbor::data::Type;
use minicbor::{Decoder, Encoder, decode, encode};
use serde::Deserialize;
use serde::de::{Deserializer, Error as _, MapAccess, SeqAccess, Visitor};
use serde_json::{Map, Number, Value};

use super::cbor::{self, Items};
use super::fault::{Code, Fault, Outcome};
use super::id::clip;
pub use super::schema::Form;
use super::schema::NESTING_MAX;

/// Largest integer that every reader of JSON keeps exactly: 2^53. Beyond it integers are written as text.
const EXACT_MAX: i128 = 1 << 53;

/// The three ways to give arguments, for error messages.
const WAYS: &str = "give arguments as key=value words (x=3 y=4), one JSON array ('[3,4]') or one JSON object ('{\"x\":3,\"y\":4}')";

/// One CBOR value as JSON: bytes as base64, integers beyond 2^53 as text, floats that are not finite as `"NaN"`, `"inf"`
/// and `"-inf"`. Refuses what the mapping has no place for, keys that are not text or come twice, and deep nesting.
pub fn cbor_to_json(bytes: &[u8]) -> Outcome<Value> {
    let mut decoder = Decoder::new(bytes);
    let bad = |why: &dyn std::fmt::Display| {
        Fault::new(Code::Protocol, format!("value is not readable CBOR: {why}"))
    };
    let value = read(&mut decoder, 0).map_err(|error| bad(&error))?;
    match bytes.len().saturating_sub(decoder.position()) {
        0 => Ok(value),
        left => Err(bad(&format_args!("{left} bytes after its end"))),
    }
}

/// JSON as CBOR: integers as integers, other numbers as 64-bit floats, everything else as itself. Types are not known
/// here; the typed decoder reads the result in [`Form::Json`].
pub fn json_to_cbor(value: &Value) -> Vec<u8> {
    let mut bytes = Vec::new();
    let written = write(value, &mut Encoder::new(&mut bytes));
    debug_assert!(written.is_ok(), "writing to a vector cannot fail");
    bytes
}

/// Reads JSON text. A key that comes twice is refused, where the usual reader would silently take the last.
pub fn parse(text: &str) -> Result<Value, serde_json::Error> {
    serde_json::from_str(text).map(|Strict(value)| value)
}

/// What follows the name of the function on the command line: nothing, one JSON array or object, or `key=value` words.
/// The values of words stay raw text; the typed decoder reads each by the type of its parameter.
pub fn arguments(words: &[String]) -> Outcome<(Form, Vec<u8>)> {
    match words {
        [] => Ok((Form::Json, json_to_cbor(&Value::Array(Vec::new())))),
        [word] if is_json(word) => match parse(word) {
            Ok(value) => Ok((Form::Json, json_to_cbor(&value))),
            Err(error) => Err(usage(format!("argument is not JSON: {error}: {}", clip(word)))),
        },
        words => pairs(words).map(|bytes| (Form::Words, bytes)),
    }
}

/// Whether a word is meant as JSON. Keys cannot begin like this.
fn is_json(word: &str) -> bool {
    word.trim_start().starts_with(['[', '{'])
}

fn usage(what: String) -> Fault {
    Fault::new(Code::Usage, what).fix(WAYS)
}

fn pairs(words: &[String]) -> Outcome<Vec<u8>> {
    let mut seen = BTreeSet::new();
    let mut map = Map::new();
    for word in words {
        if is_json(word) {
            return Err(usage(format!("JSON stands among other arguments: {}", clip(word))));
        }
        let Some((key, value)) = word.split_once('=').filter(|(key, _)| !key.is_empty()) else {
            return Err(usage(format!("argument is not key=value: {}", clip(word))));
        };
        if !seen.insert(key) {
            return Err(usage(format!("argument {} is given twice", clip(key))));
        }
        map.insert(key.to_owned(), Value::String(value.to_owned()));
    }
    Ok(json_to_cbor(&Value::Object(map)))
}

fn read(decoder: &mut Decoder<'_>, depth: usize) -> Result<Value, decode::Error> {
    if depth > NESTING_MAX + 1 {
        return Err(decode::Error::message(format_args!("nested deeper than {NESTING_MAX}")));
    }
    let ty = decoder.datatype()?;
    Ok(match ty {
        Type::Null | Type::Undefined => {
            decoder.skip()?;
            Value::Null
        }
        Type::Bool => Value::Bool(decoder.bool()?),
        Type::U8 | Type::U16 | Type::U32 | Type::U64 => integer(decoder)?,
        Type::I8 | Type::I16 | Type::I32 | Type::I64 | Type::Int => integer(decoder)?,
        Type::F16 | Type::F64 => float(cbor::float(decoder)?),
        Type::F32 => float(shortest(decoder.f32()?)),
        Type::Bytes | Type::BytesIndef => Value::String(BASE64.encode(&cbor::bytes(decoder)?)),
        Type::String | Type::StringIndef => Value::String(cbor::text(decoder)?.into_owned()),
        Type::Array | Type::ArrayIndef => array(decoder, depth)?,
        Type::Map | Type::MapIndef => map(decoder, depth)?,
        Type::Tag | Type::Simple | Type::Break | Type::Unknown(_) => {
            return Err(decode::Error::type_mismatch(ty).at(decoder.position()));
        }
    })
}

fn array(decoder: &mut Decoder<'_>, depth: usize) -> Result<Value, decode::Error> {
    let mut items = Items::array(decoder)?;
    let mut values = Vec::new();
    while items.more(decoder)? {
        values.push(read(decoder, depth + 1)?);
    }
    Ok(Value::Array(values))
}

fn map(decoder: &mut Decoder<'_>, depth: usize) -> Result<Value, decode::Error> {
    let mut entries = Items::map(decoder)?;
    let mut values = Map::new();
    while entries.more(decoder)? {
        let key = cbor::text(decoder)?.into_owned();
        let shown = clip(&key).to_owned();
        if values.insert(key, read(decoder, depth + 1)?).is_some() {
            return Err(decode::Error::message(format_args!("key {shown:?} comes twice")));
        }
    }
    Ok(Value::Object(values))
}

fn integer(decoder: &mut Decoder<'_>) -> Result<Value, decode::Error> {
    let number = i128::from(decoder.int()?);
    let exact = i64::try_from(number).ok().filter(|_| (-EXACT_MAX..=EXACT_MAX).contains(&number));
    Ok(exact.map_or_else(|| Value::String(number.to_string()), Value::from))
}

fn float(number: f64) -> Value {
    match Number::from_f64(number) {
        Some(number) => Value::Number(number),
        None => Value::String(number.to_string()),
    }
}

/// The double with the shortest digits that are still this number, so that 0.1 is shown as 0.1.
fn shortest(number: f32) -> f64 {
    number.to_string().parse().unwrap_or_else(|_| f64::from(number))
}

/// A JSON value in which no key came twice.
struct Strict(Value);

impl<'de> Deserialize<'de> for Strict {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(StrictVisitor).map(Strict)
    }
}

struct StrictVisitor;

impl<'de> Visitor<'de> for StrictVisitor {
    type Value = Value;

    fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("a JSON value")
    }

    fn visit_unit<E>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_bool<E>(self, value: bool) -> Result<Value, E> {
        Ok(Value::Bool(value))
    }

    fn visit_u64<E>(self, number: u64) -> Result<Value, E> {
        Ok(Value::from(number))
    }

    fn visit_i64<E>(self, number: i64) -> Result<Value, E> {
        Ok(Value::from(number))
    }

    fn visit_f64<E>(self, number: f64) -> Result<Value, E> {
        Ok(Value::from(number))
    }

    fn visit_str<E>(self, text: &str) -> Result<Value, E> {
        Ok(Value::String(text.to_owned()))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Value, A::Error> {
        let mut values = Vec::new();
        while let Some(Strict(value)) = items.next_element()? {
            values.push(value);
        }
        Ok(Value::Array(values))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut entries: A) -> Result<Value, A::Error> {
        let mut values = Map::new();
        while let Some((key, Strict(value))) = entries.next_entry::<String, _>()? {
            if values.contains_key(&key) {
                return Err(A::Error::custom(format_args!("key {:?} comes twice", clip(&key))));
            }
            values.insert(key, value);
        }
        Ok(Value::Object(values))
    }
}

/// Recursion is safe: a [`Value`] that is too deep for it could not be dropped either, and its parser stops at 128.
fn write(value: &Value, encoder: &mut Encoder<&mut Vec<u8>>) -> Result<(), encode::Error<Infallible>> {
    match value {
        Value::Null => encoder.null()?.ok(),
        Value::Bool(value) => encoder.bool(*value)?.ok(),
        Value::String(text) => encoder.str(text)?.ok(),
        Value::Number(number) => match (number.as_u64(), number.as_i64()) {
            (Some(number), _) => encoder.u64(number)?.ok(),
            (None, Some(number)) => encoder.i64(number)?.ok(),
            (None, None) => encoder.f64(number.as_f64().unwrap_or(f64::NAN))?.ok(),
        },
        Value::Array(values) => {
            encoder.array(values.len() as u64)?;
            values.iter().try_for_each(|value| write(value, encoder))
        }
        Value::Object(values) => {
            encoder.map(values.len() as u64)?;
            values.iter().try_for_each(|(key, value)| {
                encoder.str(key)?;
                write(value, encoder)
            })
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;

    fn hex(text: &str) -> Vec<u8> {
        data_encoding::HEXLOWER.decode(text.replace(' ', "").as_bytes()).unwrap()
    }

    #[test]
    fn cbor_becomes_json() {
        for (bytes, expect) in [
            ("f6", json!(null)),
            ("f7", json!(null)),
            ("f5", json!(true)),
            ("18ff", json!(255)),
            ("3863", json!(-100)),
            ("1b0020000000000000", json!(9007199254740992_i64)),
            ("1b0020000000000001", json!("9007199254740993")),
            ("3b001fffffffffffff", json!(-9007199254740992_i64)),
            ("3b0020000000000000", json!("-9007199254740993")),
            ("3bffffffffffffffff", json!("-18446744073709551616")),
            ("f93e00", json!(1.5)),
            ("fa3dcccccd", json!(0.1)),
            ("fb3ff199999999999a", json!(1.1)),
            ("fb7ff8000000000000", json!("NaN")),
            ("fa7f800000", json!("inf")),
            ("f9fc00", json!("-inf")),
            ("430102ff", json!("AQL/")),
            ("4101", json!("AQ==")),
            ("5f41014102ff", json!("AQI=")),
            ("6161", json!("a")),
            ("9f01ff", json!([1])),
            ("a16178820102", json!({"x": [1, 2]})),
            ("bf617801ff", json!({"x": 1})),
        ] {
            assert_eq!(cbor_to_json(&hex(bytes)).unwrap(), expect, "{bytes}");
        }
    }

    #[test]
    fn other_cbor_is_refused() {
        let deep = [vec![0x81; 10_000], vec![0]].concat();
        for bytes in [
            "",
            "0101",
            "18",
            "c101",
            "e0",
            "ff",
            "1c",
            "81",
            "9f01",
            "a10101",
            "a16178",
            "a2617801617802",
            "61ff",
            "9bffffffffffffffff01",
            "5bffffffffffffffff",
            "bbffffffffffffffff",
            "f93c",
            "81ff",
            "bf6178ff",
        ] {
            assert_eq!(cbor_to_json(&hex(bytes)).unwrap_err().code, Code::Protocol, "{bytes}");
        }
        assert!(cbor_to_json(&deep).unwrap_err().what.contains("deeper than 64"));
        assert!(cbor_to_json(&hex("a2617801617802")).unwrap_err().what.contains("\"x\" comes twice"));
        assert!(cbor_to_json(&hex("0102")).unwrap_err().what.contains("1 bytes after"));
    }

    #[test]
    fn words_become_arguments() {
        let check = |words: &[&str], form: Form, expect: Value| {
            let words: Vec<String> = words.iter().map(|word| (*word).to_owned()).collect();
            let (got, bytes) = arguments(&words).unwrap();
            assert_eq!((got, cbor_to_json(&bytes).unwrap()), (form, expect), "{words:?}");
        };
        check(&[], Form::Json, json!([]));
        check(&["[3,4]"], Form::Json, json!([3, 4]));
        check(&[" {\"x\":3}"], Form::Json, json!({"x": 3}));
        check(&["x=3", "y=four"], Form::Words, json!({"x": "3", "y": "four"}));
        check(&["x="], Form::Words, json!({"x": ""}));
        check(&["x=[1]", "q=a=b"], Form::Words, json!({"x": "[1]", "q": "a=b"}));
    }

    #[test]
    fn other_words_are_refused_with_the_three_ways() {
        for (words, expect) in [
            (vec!["3"], "not key=value: 3"),
            (vec!["=3"], "not key=value"),
            (vec!["[3,"], "not JSON"),
            (vec!["{\"x\":3,\"x\":4}"], "\"x\" comes twice"),
            (vec!["x=3", "x=4"], "x is given twice"),
            (vec!["x=3", "[4]"], "JSON stands among"),
            (vec!["[4]", "x=3"], "JSON stands among"),
            (vec!["x=3", "4"], "not key=value: 4"),
        ] {
            let words: Vec<String> = words.into_iter().map(str::to_owned).collect();
            let fault = arguments(&words).unwrap_err();
            assert_eq!(fault.code, Code::Usage);
            assert!(fault.what.contains(expect), "{words:?}: {}", fault.what);
            assert_eq!(fault.fix.as_deref(), Some(WAYS));
        }
    }

    proptest! {
        #[test]
        fn any_bytes_are_read_or_refused(bytes in proptest::collection::vec(any::<u8>(), 0..64)) {
            if let Ok(value) = cbor_to_json(&bytes) {
                prop_assert_eq!(cbor_to_json(&json_to_cbor(&value)).unwrap(), value);
            }
        }
    }
}
