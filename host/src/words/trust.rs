//! How far a peer is trusted.

use serde::{Deserialize, Serialize};

/// Levels of trust, least first. Each may do everything that those before it may.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Trust {
    /// Nothing is known (0). May do nothing.
    Unknown,
    /// Waits for admission (10). May speak hello and admission only.
    Pending,
    /// Member (50). May call what is exposed to basic peers.
    Basic,
    /// Member (75). May also call skills and speak with policies.
    Trusted,
    /// Member (100). May do everything except control the node.
    Full,
}

impl Trust {
    /// Every level, least first.
    pub const ALL: [Trust; 5] = [Trust::Unknown, Trust::Pending, Trust::Basic, Trust::Trusted, Trust::Full];

    /// The text used in manifests, memberships and output.
    pub const fn as_str(self) -> &'static str {
        match self {
            Trust::Unknown => "unknown",
            Trust::Pending => "pending",
            Trust::Basic => "basic",
            Trust::Trusted => "trusted",
            Trust::Full => "full",
        }
    }
}

impl std::fmt::Display for Trust {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.as_str())
    }
}
