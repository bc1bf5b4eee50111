//! How many of something, for people.

/// `1 byte`, `2 bytes`, `3 entries`: the noun is given in the singular.
pub fn count(number: impl TryInto<u64>, noun: &str) -> String {
    let number = number.try_into().unwrap_or(u64::MAX);
    // `entries`, but `keys`.
    let stem = noun.strip_suffix('y').filter(|stem| !stem.ends_with(['a', 'e', 'o', 'u']));
    match (number, stem) {
        (1, _) => format!("1 {noun}"),
        (_, Some(stem)) => format!("{number} {stem}ies"),
        (_, None) => format!("{number} {noun}s"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_is_not_many() {
        for (number, expect) in [(0_usize, "0 bytes"), (1, "1 byte"), (2, "2 bytes")] {
            assert_eq!(count(number, "byte"), expect);
        }
        assert_eq!((count(1_u8, "entry"), count(2_u8, "entry")), ("1 entry".into(), "2 entries".into()));
        assert_eq!(count(0_u8, "revoked key"), "0 revoked keys");
        assert_eq!(count(u64::MAX, "byte"), format!("{} bytes", u64::MAX));
    }
}
