//! The one form in which a failure reaches a user or another node.
//!
//! Inside the host each verb may have its own error enum; where an error leaves the node — through the
//! control socket, over a link or on the terminal — it is a [`Fault`]: a code from a closed list, a sentence
//! with the culprit first, and a line that says what to do next.

use std::fmt;

use serde::{Deserialize, Serialize};

/// Defines the closed list of codes with their text and the exit code of the command line.
macro_rules! codes {
    ($( $(#[doc = $doc:literal])+ $variant:ident = $text:literal, $exit:literal; )+) => {
        /// What kind of failure this is. The text form is stable and part of the wire protocol.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
        pub enum Code { $( $(#[doc = $doc])+ $variant, )+ }

        impl Code {
            /// Every code, in the order of the list.
            pub const ALL: &[Code] = &[ $( Code::$variant, )+ ];

            /// The stable text, for example `no-route`.
            pub const fn as_str(self) -> &'static str {
                match self { $( Code::$variant => $text, )+ }
            }

            /// The exit code of a command that ends in this failure: 1 failure, 2 usage, 3 refused by
            /// verification or policy, 4 not found, 5 timeout or unreachable, 6 partly done, 130 interrupted.
            pub const fn exit(self) -> u8 {
                match self { $( Code::$variant => $exit, )+ }
            }
        }
    };
}

codes! {
    /// Nobody that can be reached serves the name.
    NoRoute = "no-route", 4;
    /// The skill has no such function.
    UnknownFunction = "unknown-function", 4;
    /// A blob is neither here nor with a linked peer.
    BlobMissing = "blob-missing", 4;
    /// Something named on the command line does not exist.
    NotFound = "not-found", 4;
    /// An argument does not fit the function's WIT types.
    BadArgument = "bad-argument", 2;
    /// The function has a type that cannot be called from outside.
    NotCallable = "not-callable", 2;
    /// Arguments, answer or message exceed a limit.
    TooLarge = "too-large", 2;
    /// The command line or a file given to it is wrong.
    Usage = "usage", 2;
    /// A manifest says something that it may not say.
    BadManifest = "bad-manifest", 2;
    /// The caller's trust does not allow this.
    NotAllowed = "not-allowed", 3;
    /// The peer has not been admitted.
    NotAdmitted = "not-admitted", 3;
    /// A component imports something that its manifest entry does not grant.
    MissingGrant = "missing-grant", 3;
    /// A component imports something that this host does not have.
    MissingImport = "missing-import", 3;
    /// A manifest grants more than the one in force, and nobody said that it may.
    NeedsConsent = "needs-consent", 3;
    /// A component does not have the world of its kind.
    WrongWorld = "wrong-world", 3;
    /// A signature is missing, wrong or from a key that may not sign this.
    BadSignature = "bad-signature", 3;
    /// The bytes are not the object that they should be.
    BadObject = "bad-object", 3;
    /// A version that is not above the one in force.
    StaleVersion = "stale-version", 3;
    /// A signed object whose time is over.
    Expired = "expired", 3;
    /// An object or peer of another mesh.
    WrongMesh = "wrong-mesh", 3;
    /// A key that the root does not name.
    UnknownKey = "unknown-key", 3;
    /// Bytes that do not match their digest or length.
    DigestMismatch = "digest-mismatch", 3;
    /// A file whose mode lets others in.
    WrongMode = "wrong-mode", 3;
    /// Compiling the component takes more memory or time than is allowed.
    TooBigToCompile = "too-big-to-compile", 3;
    /// The bytes are not a valid component.
    BadComponent = "bad-component", 3;
    /// Two machines use one node key.
    DuplicateIdentity = "duplicate-identity", 3;
    /// A plugin refused to start.
    InitFailed = "init-failed", 3;
    /// The time for the call is over.
    Deadline = "deadline", 5;
    /// Another version of the plugin has its place, and the call was not done within the time to drain.
    Replaced = "replaced", 5;
    /// A generation that changes how the node is reached was not confirmed in time, so the one before came back.
    NotConfirmed = "not-confirmed", 5;
    /// The link that carried the call is gone.
    LinkLost = "link-lost", 5;
    /// The node cannot be reached.
    Unreachable = "unreachable", 5;
    /// A queue, pool or quota is full; try again.
    Busy = "busy", 5;
    /// No node runs on this data directory.
    NotRunning = "not-running", 5;
    /// The call went over more hops than it may.
    TooManyHops = "too-many-hops", 5;
    /// A chain of calls from plugin to plugin is longer than it may be.
    TooDeep = "too-deep", 1;
    /// The guest trapped.
    Trap = "trap", 1;
    /// The guest asked for more memory or table space than it has.
    MemoryLimit = "memory-limit", 1;
    /// The guest's stack is exhausted.
    StackOverflow = "stack-overflow", 1;
    /// The guest made more host calls, or moved more bytes through them, than it may.
    HostCallLimit = "host-call-limit", 1;
    /// The guest used up its fuel.
    OutOfFuel = "out-of-fuel", 1;
    /// The source of a plugin does not compile.
    BuildFailed = "build-failed", 1;
    /// A call that satisfies an import of a plugin did not come to an answer; the text says which, and why.
    BindingFailed = "binding-failed", 1;
    /// The function answered with its own error.
    Application = "application-error", 1;
    /// Another process uses the data directory.
    Locked = "locked", 1;
    /// The port is in use.
    PortInUse = "port-in-use", 1;
    /// The disk is full or the reserve is reached.
    StorageFull = "storage-full", 1;
    /// The other side does not follow the protocol.
    Protocol = "protocol", 1;
    /// The operating system refused something.
    Io = "io", 1;
    /// A bug in Midplane.
    Internal = "internal", 1;
    /// Done on some nodes only.
    PartlyDone = "partly-done", 6;
    /// Ended by the caller.
    Cancelled = "cancelled", 130;
}

impl fmt::Display for Code {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl Serialize for Code {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.as_str())
    }
}

impl<'de> Deserialize<'de> for Code {
    /// An unknown code, from a newer node, is read as `internal`.
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = std::borrow::Cow::<str>::deserialize(deserializer)?;
        Ok(Code::ALL.iter().copied().find(|code| code.as_str() == text).unwrap_or(Code::Internal))
    }
}

/// What is known of a guest that was ended: whose fault it was, and where to look.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct TrapReport {
    /// Slot of the plugin.
    pub plugin: String,
    /// Digest of the component that ran.
    pub digest: String,
    /// Function that was called.
    pub function: String,
    /// The limit that was reached, with its value, or the kind of trap.
    pub limit: String,
    /// The guest's last log lines and panic text, oldest first; at most 8.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub last_lines: Vec<String>,
}

/// A failure with a code, a sentence and, where there is one, the next thing to do.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct Fault {
    /// What kind of failure.
    pub code: Code,
    /// What happened: lower case, culprit first, value last, no full stop.
    pub what: String,
    /// A line that can be typed or a change that can be made.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub fix: Option<String>,
    /// Present when a guest was ended.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub report: Option<Box<TrapReport>>,
    /// The function's own error value, when that is what the failure is: JSON.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub value: Option<Box<serde_json::Value>>,
}

/// Result of everything that a user or a peer may ask for.
pub type Outcome<T> = Result<T, Fault>;

impl Fault {
    /// A failure without advice.
    pub fn new(code: Code, what: impl Into<String>) -> Self {
        Self { code, what: what.into(), fix: None, report: None, value: None }
    }

    /// Adds what to do next.
    #[must_use]
    pub fn fix(mut self, fix: impl Into<String>) -> Self {
        self.fix = Some(fix.into());
        self
    }

    /// Adds what is known of the guest.
    #[must_use]
    pub fn report(mut self, report: TrapReport) -> Self {
        self.report = Some(Box::new(report));
        self
    }

    /// A failure of the operating system while doing `what`.
    pub fn io(what: impl fmt::Display, error: &std::io::Error) -> Self {
        let code = match error.kind() {
            std::io::ErrorKind::StorageFull | std::io::ErrorKind::QuotaExceeded => Code::StorageFull,
            std::io::ErrorKind::NotFound => Code::NotFound,
            _ => Code::Io,
        };
        Self::new(code, format!("{what}: {error}"))
    }

    /// Whether the invocation provably had not started when it failed, so that another hop may be tried.
    pub fn not_started(&self) -> bool {
        matches!(self.code, Code::NoRoute | Code::Unreachable | Code::Busy | Code::NotAdmitted)
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.code, self.what)
    }
}

impl std::error::Error for Fault {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_have_distinct_texts_and_survive_the_wire() {
        let mut texts: Vec<_> = Code::ALL.iter().map(|code| code.as_str()).collect();
        texts.sort_unstable();
        texts.dedup();
        assert_eq!(texts.len(), Code::ALL.len());
        for code in Code::ALL {
            let json = serde_json::to_string(code).unwrap();
            assert_eq!(serde_json::from_str::<Code>(&json).unwrap(), *code);
        }
        assert_eq!(serde_json::from_str::<Code>("\"from-the-future\"").unwrap(), Code::Internal);
    }
}
