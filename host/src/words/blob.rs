//! What is said about blobs: by the command line to its node, and between nodes.

use serde::{Deserialize, Serialize};

use super::id::Digest;

/// What the command line asks of the blobs of a node. Where a blob is named by text, the first characters of its digest are enough.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum BlobRequest {
    /// Keeps the bytes that follow as items, up to an end: [`Put`], which comes when they are durable.
    #[serde(rename_all = "kebab-case")]
    Put {
        /// How many bytes will come, where it is known: then the room is taken first.
        length: Option<u64>,
        /// Whether it stays until it is unpinned.
        pin: bool,
    },
    /// The bytes of a blob: notes with [`Progress`] while it is fetched, then [`Got`], then items up to an end.
    #[serde(rename_all = "kebab-case")]
    Get {
        /// Which one.
        digest: String,
        /// Whether to fetch it from peers when it is not here.
        fetch: bool,
    },
    /// Each blob that is here or pinned, each an item: [`BlobReport`].
    List,
    /// Keeps a blob until it is unpinned: [`BlobReport`].
    Pin {
        /// Which one.
        digest: String,
    },
    /// Takes away what nothing needs: pieces of [`Collected`] as items, and an end.
    Collect {
        /// Only say what would go.
        dry_run: bool,
    },
    /// Takes the pin away: [`BlobReport`].
    Unpin {
        /// Which one.
        digest: String,
    },
}

/// One piece of what a collection did.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Collected {
    /// Gone, or would go.
    Freed(Freed),
    /// The last piece.
    Rest(Rest),
}

/// What a collection took away.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct Freed {
    /// Its digest.
    pub digest: Digest,
    /// Bytes that are free now.
    pub length: u64,
    /// Whether it was a fetch that nobody goes on with.
    pub unfinished: bool,
}

/// What a collection left.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct Rest {
    /// Blobs that stay because they are pinned or a generation needs them.
    pub kept: u64,
    /// Blobs that stay because somebody uses them, or put them within the last hour.
    pub leased: u64,
}

/// What a put did.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct Put {
    /// Its digest.
    pub digest: Digest,
    /// Its bytes.
    pub length: u64,
    /// Whether it is pinned now.
    pub pinned: bool,
    /// Whether it was not here before.
    pub new: bool,
}

/// What a get answers with.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct Got {
    /// Its digest.
    pub digest: Digest,
    /// Its bytes.
    pub length: u64,
    /// Whether it came from peers.
    pub fetched: bool,
}

/// How far a fetch is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct Progress {
    /// Bytes that are here and verified.
    pub done: u64,
    /// All of them.
    pub total: u64,
}

/// One blob of a node.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct BlobReport {
    /// Its digest.
    pub digest: Digest,
    /// Its bytes; none when it is pinned but not here.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub length: Option<u64>,
    /// Whether it is pinned.
    pub pinned: bool,
    /// The generations that need it.
    pub generations: Vec<u64>,
    /// The slots that keep it.
    #[serde(skip_serializing_if = "Vec::is_empty", default)]
    pub slots: Vec<String>,
}

/// What one node asks another for: the details of an `open` frame of the exchange `blob`.
///
/// The answer is one item with an [`Offer`], items with the range in the form of bao — each one group of bytes after the hashes that
/// prove it — and an end. A peer that is asked for an empty range says only whether it has the blob.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Ask {
    /// Which blob.
    pub digest: Digest,
    /// Its bytes, where they are known; a blob of another length is not it.
    pub length: Option<u64>,
    /// First byte that is wanted; the range is widened to whole groups.
    pub start: u64,
    /// The byte after the last one.
    pub end: u64,
}

/// What a node has of what it was asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Offer {
    /// Bytes of the blob. Proved only by its last bytes.
    pub length: u64,
}
