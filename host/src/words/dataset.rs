//! Datasets and their entries: what they may be, what is asked of them, and what comes back.

use serde::{Deserialize, Serialize};

use super::fault::{Code, Fault, Outcome};
use super::id::clip;

/// Bytes of a key: a path of a few parts.
pub const KEY_MAX: usize = 256;
/// Bytes of a value. With its metadata it fits into one message between policies; larger things are blobs.
pub const VALUE_MAX: usize = 32 << 10;
/// Bytes of the metadata that a policy keeps with an entry.
pub const META_MAX: usize = 16 << 10;

/// What the command line asks about datasets.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum DatasetRequest {
    /// Keeps a value, which follows as one item. The answer is an end, once the entry is durable here.
    Put {
        /// Dataset.
        dataset: String,
        /// Key.
        key: String,
        /// Time for the whole of it.
        timeout_ms: u64,
    },
    /// Removes an entry. The answer is an end.
    Remove {
        /// Dataset.
        dataset: String,
        /// Key.
        key: String,
        /// Time for the whole of it.
        timeout_ms: u64,
    },
    /// Reads an entry: [`Found`].
    Get {
        /// Dataset.
        dataset: String,
        /// Key.
        key: String,
    },
    /// Keys of a dataset in their order: each item is a list of [`Listed`].
    List {
        /// Dataset.
        dataset: String,
        /// Only keys that begin with this.
        prefix: String,
    },
    /// The datasets of the node: a list of [`DatasetReport`].
    Datasets,
    /// Changes as they happen, each an item: [`Change`].
    Watch {
        /// Dataset.
        dataset: String,
        /// Only keys that begin with this.
        prefix: String,
    },
}

/// A value that was read.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct Found {
    /// Its bytes.
    #[serde(with = "serde_bytes")]
    pub value: Vec<u8>,
}

/// A key of a dataset.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct Listed {
    /// Key.
    pub key: String,
    /// Bytes of its value.
    pub bytes: u64,
}

/// An entry that is new, other than before, or gone.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct Change {
    /// Dataset.
    pub dataset: String,
    /// Key.
    pub key: String,
    /// Its bytes; none when it was removed.
    pub value: Option<serde_bytes::ByteBuf>,
}

/// One dataset of a node.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct DatasetReport {
    /// Dataset.
    pub dataset: String,
    /// Slot of the plugin that syncs it.
    pub slot: String,
    /// Entries that can be read.
    pub entries: u64,
    /// Bytes of their values.
    pub bytes: u64,
    /// Rows that only remember a removal.
    pub removed: u64,
    /// Values that gave way to others which did not know of them, since the node started.
    pub conflicts: u64,
}

/// Refuses a key that no entry can have.
///
/// # Errors
/// `usage`.
pub fn check_key(key: &str) -> Outcome<()> {
    if is_key(key) {
        return Ok(());
    }
    Err(Fault::new(Code::Usage, format!("not a key: {:?}", clip(key)))
        .fix(format!("a key is 1 to {KEY_MAX} bytes of text without control characters")))
}

/// Refuses a value that is too large.
///
/// # Errors
/// `too-large`.
pub fn check_value(value: &[u8]) -> Outcome<()> {
    if value.len() <= VALUE_MAX {
        return Ok(());
    }
    Err(Fault::new(
        Code::TooLarge,
        format!("the value has {} bytes; the limit of an entry is {VALUE_MAX}", value.len()),
    )
    .fix("keep the bytes elsewhere, and in the entry their digest or address"))
}

/// Whether this can be the key of an entry.
pub fn is_key(key: &str) -> bool {
    !key.is_empty() && key.len() <= KEY_MAX && !key.chars().any(char::is_control)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_are_short_visible_texts() {
        for (key, expect) in [
            ("a", true),
            ("motd/π with spaces", true),
            (&"k".repeat(KEY_MAX), true),
            ("", false),
            (&"k".repeat(KEY_MAX + 1), false),
            ("a\nb", false),
            ("\u{1b}[0m", false),
        ] {
            assert_eq!(is_key(key), expect, "{key:?}");
            assert_eq!(check_key(key).is_ok(), expect, "{key:?}");
        }
        assert!(check_value(&vec![0; VALUE_MAX]).is_ok());
        assert_eq!(check_value(&vec![0; VALUE_MAX + 1]).unwrap_err().code, Code::TooLarge);
    }
}
