//! The encoding of channel messages and saved state: [postcard](https://postcard.jamesmunns.com/wire-format),
//! which is small, has one encoding per value as long as maps are ordered, and is stable since 1.0.
//!
//! There are no field names on the wire: whoever changes a message type changes the protocol string of the
//! slot's manifest entry, or the version of the state.

use serde::{Serialize, de::DeserializeOwned};

/// The bytes of a value.
///
/// # Panics
///
/// When the value's own `Serialize` fails, or for a sequence of unknown length: neither happens with derived
/// implementations.
pub fn encode<T: Serialize + ?Sized>(value: &T) -> Vec<u8> {
    match postcard::to_allocvec(value) {
        Ok(bytes) => bytes,
        Err(error) => panic!("a value cannot be encoded: {error}"),
    }
}

/// The value of bytes that came from outside. An error names what is wrong; bytes that are left over are wrong too.
pub fn decode<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, String> {
    match postcard::take_from_bytes(bytes) {
        Ok((value, [])) => Ok(value),
        Ok((_, rest)) => Err(format!("{} bytes too many", rest.len())),
        Err(error) => Err(error.to_string()),
    }
}

/// The values of bytes in which one follows the other. After an error there are no more.
pub fn decode_each<T: DeserializeOwned>(bytes: &[u8]) -> impl Iterator<Item = Result<T, String>> {
    let mut rest = bytes;
    std::iter::from_fn(move || {
        if rest.is_empty() {
            return None;
        }
        match postcard::take_from_bytes(rest) {
            // A value of no bytes would be read for ever.
            Ok((_, after)) if after.len() == rest.len() => {
                rest = &[];
                Some(Err("a value of no bytes".to_owned()))
            }
            Ok((value, after)) => {
                rest = after;
                Some(Ok(value))
            }
            Err(error) => {
                rest = &[];
                Some(Err(error.to_string()))
            }
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_round_trip_and_every_cut_or_longer_form_is_refused() {
        let value = (7_u64, "text".to_owned(), vec![Some(1_u8), None]);
        let bytes = encode(&value);
        assert_eq!(decode(&bytes), Ok(value));
        for end in 0..bytes.len() {
            assert!(decode::<(u64, String, Vec<Option<u8>>)>(&bytes[..end]).is_err(), "{end}");
        }
        let longer = [bytes, vec![0]].concat();
        assert!(decode::<(u64, String, Vec<Option<u8>>)>(&longer).unwrap_err().contains("1 bytes too many"));
    }

    #[test]
    fn values_in_a_row_are_read_up_to_the_first_error() {
        let bytes = [encode("a"), encode("b"), vec![9, b'x']].concat();
        let read: Vec<Result<String, String>> = decode_each(&bytes).collect();
        assert_eq!(read.len(), 3);
        assert_eq!(read[..2], [Ok("a".to_owned()), Ok("b".to_owned())]);
        assert!(read[2].is_err());
        assert_eq!(decode_each::<()>(&[0]).count(), 1);
        assert_eq!(decode_each::<String>(&[]).count(), 0);
    }

    #[test]
    fn a_length_beyond_the_input_is_refused_without_the_memory() {
        assert!(decode::<Vec<u64>>(&[255, 255, 255, 255, 15]).is_err());
    }
}
