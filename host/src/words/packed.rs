//! Values of generated types as CBOR, with lists of bytes as byte strings.
//!
//! The types that bindings generate for `list<u8>` are written by serde as arrays of numbers, up to twice as long and unreadable as
//! JSON. An array of numbers below 256 is packed here into a byte string; readers of lists take either.

use std::io::{self, Write};

use minicbor::data::Type;
use minicbor::{Decoder, Encoder, decode};
use serde::Serialize;
use serde::de::DeserializeOwned;

use super::fault::{Code, Fault, Outcome};

/// Deeper than any type of the contract, shallow enough for any stack.
const DEPTH_MAX: usize = 64;

/// Writes a value. Equal values give equal bytes.
///
/// # Errors
/// `too-large` when it takes more than `most` bytes, before or after packing.
pub fn write<T: Serialize>(value: &T, most: usize) -> Outcome<Vec<u8>> {
    let mut plain = Limited { bytes: Vec::with_capacity(256), most };
    let too_large = || Fault::new(Code::TooLarge, format!("value takes more than {most} bytes"));
    ciborium::into_writer(value, &mut plain).map_err(|error| match error {
        ciborium::ser::Error::Io(_) => too_large(),
        ciborium::ser::Error::Value(why) => {
            Fault::new(Code::Internal, format!("value could not be written: {why}"))
        }
    })?;
    let mut packed = Vec::with_capacity(plain.bytes.len());
    pack(&mut Decoder::new(&plain.bytes), &mut packed, 0)
        .map_err(|error| Fault::new(Code::Internal, format!("value could not be packed: {error}")))?;
    Ok(packed)
}

/// Reads a value that is exactly `bytes`.
///
/// # Errors
/// `bad-object` when it is not such a value or something follows it.
pub fn read<T: DeserializeOwned>(mut bytes: &[u8]) -> Outcome<T> {
    let value = ciborium::de::from_reader_with_recursion_limit(&mut bytes, DEPTH_MAX)
        .map_err(|error| Fault::new(Code::BadObject, format!("value is not of its type: {error}")))?;
    match bytes {
        [] => Ok(value),
        _ => Err(Fault::new(Code::BadObject, "value has bytes after its end")),
    }
}

/// Takes bytes up to a limit.
struct Limited {
    bytes: Vec<u8>,
    most: usize,
}

impl Write for Limited {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if self.bytes.len() + bytes.len() > self.most {
            return Err(io::ErrorKind::FileTooLarge.into());
        }
        self.bytes.extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Copies the next value.
fn pack(decoder: &mut Decoder<'_>, out: &mut Vec<u8>, depth: usize) -> Result<(), decode::Error> {
    if depth > DEPTH_MAX {
        return Err(decode::Error::message("nested too deeply"));
    }
    let start = decoder.position();
    let count = match decoder.datatype()? {
        Type::Array => {
            let count = decoder.array()?.unwrap_or(0);
            if count > 0
                && let Some(bytes) = small(decoder, count)
            {
                let _ = Encoder::new(out).bytes(&bytes);
                return Ok(());
            }
            count
        }
        Type::Map => decoder.map()?.unwrap_or(0).saturating_mul(2),
        _ => {
            decoder.skip()?;
            0
        }
    };
    let head = match count {
        0 => start..decoder.position(),
        // The head alone; what is in it follows one by one.
        _ => start..start + head_length(decoder.input().get(start)),
    };
    out.extend_from_slice(decoder.input().get(head).unwrap_or_default());
    for _ in 0..count {
        pack(decoder, out, depth + 1)?;
    }
    Ok(())
}

/// The next values, if so many follow and all are below 256; then they are consumed.
fn small(decoder: &mut Decoder<'_>, count: u64) -> Option<Vec<u8>> {
    let start = decoder.position();
    let mut bytes = Vec::new();
    for _ in 0..count {
        match decoder.u8() {
            Ok(byte) => bytes.push(byte),
            Err(_) => {
                decoder.set_position(start);
                return None;
            }
        }
    }
    Some(bytes)
}

/// Bytes of an array's or map's head that begins with this byte.
fn head_length(first: Option<&u8>) -> usize {
    match first.copied().unwrap_or(0) & 0x1f {
        24 => 2,
        25 => 3,
        26 => 5,
        27 => 9,
        _ => 1,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde::Deserialize;

    #[derive(Debug, PartialEq, Serialize, Deserialize)]
    enum Some {
        Bytes(Vec<u8>),
        Numbers { small: Vec<u64>, large: Vec<u64>, none: Vec<u8>, maybe: Option<Vec<u8>> },
        Nested(Vec<Vec<Some>>),
        Unit,
    }

    #[test]
    fn lists_of_bytes_are_packed_and_everything_comes_back() {
        let values = [
            Some::Bytes(vec![0, 23, 24, 255]),
            Some::Numbers { small: vec![1, 2], large: vec![1, 256], none: vec![], maybe: None },
            Some::Nested(vec![vec![Some::Bytes((0..=255).collect()), Some::Unit], vec![]]),
            Some::Nested(vec![(0..300).map(|_| Some::Bytes(vec![7; 70_000])).take(2).collect()]),
        ];
        for value in values {
            let bytes = write(&value, 1 << 20).unwrap();
            assert_eq!(read::<Some>(&bytes).unwrap(), value);
            assert!(read::<Some>(&bytes[..bytes.len() - 1]).is_err());
            assert_eq!(read::<Some>(&[&bytes[..], &[0]].concat()).unwrap_err().code, Code::BadObject);
        }
        assert_eq!(write(&Some::Bytes(vec![200; 3]), 64).unwrap(), b"\xa1\x65Bytes\x43\xc8\xc8\xc8");
        assert_eq!(write(&Some::Bytes(vec![200; 64]), 64).unwrap_err().code, Code::TooLarge);
    }
}
