//! Many components that do the same and can be told apart: other bytes, and so other digests.

/// Before the digits that a stamped guest answers with.
const STAMP: &[u8] = b"stamp=";
/// How many digits there are.
const DIGITS: usize = 16;

/// A stamped guest with this number in the place of its own.
pub fn stamped(wasm: &[u8], number: u64) -> Vec<u8> {
    let found: Vec<usize> = wasm
        .windows(STAMP.len())
        .enumerate()
        .filter(|(_, bytes)| *bytes == STAMP)
        .map(|(at, _)| at)
        .collect();
    let [at] = found[..] else { panic!("a stamped guest has one stamp, not {}", found.len()) };
    let mut other = wasm.to_vec();
    let digits = format!("{number:0>DIGITS$}");
    other[at + STAMP.len()..][..DIGITS].copy_from_slice(digits.as_bytes());
    other
}

/// The same component with a section of its own at the end that nobody reads.
pub fn marked(wasm: &[u8], number: u64) -> Vec<u8> {
    /// Length of the name, the name.
    const NAME: &[u8] = b"\x05stamp";
    let mut other = wasm.to_vec();
    let length = u8::try_from(NAME.len() + 8).expect("one byte of LEB128");
    other.extend_from_slice(&[0, length]);
    other.extend_from_slice(NAME);
    other.extend_from_slice(&number.to_le_bytes());
    other
}

/// The number in an answer of the stamped gateway.
pub fn number(text: &[u8]) -> Option<u64> {
    std::str::from_utf8(text.strip_prefix(STAMP)?).ok()?.parse().ok()
}
