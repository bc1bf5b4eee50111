//! Reading CBOR (RFC 8949) where the decoder leaves a choice: definite or indefinite length, width of floats.

use std::borrow::Cow;

use super::fault::{Code, Fault, Outcome};
use minicbor::Decoder;
use minicbor::data::Type;
use minicbor::decode::Error;

/// First byte of a byte string of indefinite length.
const BYTES_INDEFINITE: u8 = 0x5f;
/// First byte of a text of indefinite length.
const TEXT_INDEFINITE: u8 = 0x7f;
/// The byte that ends an item of indefinite length.
const BREAK: u8 = 0xff;

/// Steps through the items of an array or the entries of a map, of definite or indefinite length.
pub struct Items {
    left: Option<u64>,
}

impl Items {
    /// Enters an array.
    pub fn array(decoder: &mut Decoder<'_>) -> Result<Self, Error> {
        Ok(Self { left: decoder.array()? })
    }

    /// Enters a map.
    pub fn map(decoder: &mut Decoder<'_>) -> Result<Self, Error> {
        Ok(Self { left: decoder.map()? })
    }

    /// Whether one more item follows. The end of an indefinite length is consumed.
    #[inline]
    pub fn more(&mut self, decoder: &mut Decoder<'_>) -> Result<bool, Error> {
        match &mut self.left {
            Some(0) => Ok(false),
            Some(left) => {
                *left -= 1;
                Ok(true)
            }
            None => match first(decoder) {
                Some(BREAK) => {
                    decoder.set_position(decoder.position() + 1);
                    self.left = Some(0);
                    Ok(false)
                }
                Some(_) => Ok(true),
                None => Err(Error::end_of_input()),
            },
        }
    }

    /// How many items were announced and not yet read, at most `limit`: for reserving room. Where none were announced
    /// it is 0, so that room is only ever made for items without which the bytes are refused.
    pub fn announced(&self, limit: usize) -> usize {
        self.left.map_or(0, |left| usize::try_from(left).unwrap_or(limit).min(limit))
    }
}

/// Reads a text; one of indefinite length is put together.
#[inline]
pub fn text<'b>(decoder: &mut Decoder<'b>) -> Result<Cow<'b, str>, Error> {
    if first(decoder) != Some(TEXT_INDEFINITE) {
        return decoder.str().map(Cow::Borrowed);
    }
    let mut whole = String::new();
    for part in decoder.str_iter()? {
        whole.push_str(part?);
    }
    Ok(Cow::Owned(whole))
}

/// Reads bytes; those of indefinite length are put together.
pub fn bytes<'b>(decoder: &mut Decoder<'b>) -> Result<Cow<'b, [u8]>, Error> {
    if first(decoder) != Some(BYTES_INDEFINITE) {
        return decoder.bytes().map(Cow::Borrowed);
    }
    let mut whole = Vec::new();
    for part in decoder.bytes_iter()? {
        whole.extend_from_slice(part?);
    }
    Ok(Cow::Owned(whole))
}

/// Reads a float of any width.
pub fn float(decoder: &mut Decoder<'_>) -> Result<f64, Error> {
    if decoder.datatype()? != Type::F16 {
        return decoder.f64();
    }
    let start = decoder.position();
    let half = match decoder.input().get(start..).unwrap_or_default() {
        [_, high, low, ..] => u16::from_be_bytes([*high, *low]),
        _ => return Err(Error::end_of_input()),
    };
    decoder.set_position(start + 1 + size_of::<u16>());
    Ok(widen(half))
}

/// The first byte of the next item. Looking at it alone is much cheaper than classifying it, and every key is read here.
fn first(decoder: &Decoder<'_>) -> Option<u8> {
    decoder.input().get(decoder.position()).copied()
}

/// A half float as a double, after RFC 8949, appendix D.
fn widen(half: u16) -> f64 {
    let mantissa = f64::from(half & 0x3ff);
    let size = match i32::from((half >> 10) & 0x1f) {
        0 => mantissa * 2_f64.powi(-24),
        31 if mantissa == 0.0 => f64::INFINITY,
        31 => f64::NAN,
        exponent => (mantissa + 1024.0) * 2_f64.powi(exponent - 25),
    };
    if half & 0x8000 == 0 { size } else { -size }
}

/// Takes a CBOR sequence (RFC 8742) apart.
///
/// # Errors
/// `protocol` when an item is cut off or malformed.
pub fn sequence(mut bytes: &[u8]) -> Outcome<Vec<&[u8]>> {
    let mut items = Vec::new();
    while !bytes.is_empty() {
        let mut decoder = Decoder::new(bytes);
        decoder
            .skip()
            .map_err(|error| Fault::new(Code::Protocol, format!("an item is malformed: {error}")))?;
        let (item, rest) = bytes.split_at(decoder.position().min(bytes.len()));
        items.push(item);
        bytes = rest;
    }
    Ok(items)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn halves_are_widened() {
        for (half, expect) in [
            (0x0000, 0.0),
            (0x3c00, 1.0),
            (0xc400, -4.0),
            (0x7bff, 65504.0),
            (0x0001, 5.960_464_477_539_063e-8),
            (0x0400, 0.000_061_035_156_25),
            (0x7c00, f64::INFINITY),
            (0xfc00, f64::NEG_INFINITY),
        ] {
            assert_eq!(widen(half), expect, "{half:x}");
        }
        assert!(widen(0x7e00).is_nan());
        assert!(widen(0x8000).is_sign_negative());
        assert_eq!(float(&mut Decoder::new(&[0xf9, 0x3c, 0x00])).unwrap(), 1.0);
        assert!(float(&mut Decoder::new(&[0xf9, 0x3c])).is_err());
    }

    #[test]
    fn indefinite_lengths_are_put_together() {
        assert_eq!(text(&mut Decoder::new(b"\x7f\x61a\x62bc\xff")).unwrap(), "abc");
        assert_eq!(*bytes(&mut Decoder::new(b"\x5f\x41\x01\x42\x02\x03\xff")).unwrap(), [1, 2, 3]);
        let mut decoder = Decoder::new(b"\x9f\x01\x02\xff\x03");
        let mut items = Items::array(&mut decoder).unwrap();
        assert_eq!(items.announced(9), 0);
        let mut sum = 0;
        while items.more(&mut decoder).unwrap() {
            sum += decoder.u8().unwrap();
        }
        assert_eq!((sum, decoder.u8().unwrap()), (3, 3));
        assert!(!items.more(&mut decoder).unwrap());
        assert_eq!(
            Items::array(&mut Decoder::new(b"\x9b\xff\xff\xff\xff\xff\xff\xff\xff")).unwrap().announced(9),
            9
        );
    }
}
