//! Bodies of error and note frames: CBOR, read and written rarely, so through serde.

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use super::fault::{Code, Fault, Outcome, TrapReport};
use super::id::{Digest, NodeId};

/// Longest error body: a sentence, a fix, a trap report and a small error value.
pub const ERROR_MAX: usize = 16 * 1024;
/// Longest note body: a few of them ride in front of every traced answer.
pub const NOTE_MAX: usize = 4 * 1024;
/// Longest text of a fault that had to be shortened.
const TEXT_MAX: usize = 2 * 1024;

/// Something about an exchange that is not part of it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Note {
    /// What one node did with a traced call.
    #[serde(rename_all = "kebab-case")]
    Hop {
        /// The node.
        node: NodeId,
        /// Its label.
        label: String,
        /// The node that it passed the call to; none where the call was served.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        next: Option<NodeId>,
        /// The component that decided or served.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        plugin: Option<Digest>,
        /// Microseconds from taking the call to passing it on, or to its answer where it was served.
        took_us: u64,
        /// What was decided, and why, for people.
        decision: String,
    },
    /// What served a call that is not traced. Comes before the answer; a traced call says it in its last hop.
    #[serde(rename_all = "kebab-case")]
    Served {
        /// The component.
        plugin: Digest,
    },
}

/// What is before the digest in the body of [`Note::Served`]: it goes with every answer, so it is written and read as bytes.
const SERVED: &[u8; 18] = b"\xa1\x66served\xa1\x66plugin\x58\x20";

/// The body of [`Note::Served`].
pub fn served(plugin: &Digest) -> [u8; SERVED.len() + 32] {
    let mut body = [0; SERVED.len() + 32];
    let (head, digest) = body.split_at_mut(SERVED.len());
    head.copy_from_slice(SERVED);
    digest.copy_from_slice(plugin.as_bytes());
    body
}

/// The digest in the body of a [`Note::Served`]; none of any other note.
pub fn served_by(body: &[u8]) -> Option<Digest> {
    let digest: [u8; 32] = body.strip_prefix(SERVED)?.try_into().ok()?;
    Some(digest.into())
}

impl Note {
    /// The body of a note frame.
    ///
    /// # Errors
    /// `too-large` beyond [`NOTE_MAX`].
    pub fn encode(&self) -> Outcome<Vec<u8>> {
        write("note", self, NOTE_MAX)
    }

    /// Reads the body of a note frame.
    ///
    /// # Errors
    /// `protocol` when this version does not know it (a note may then be ignored), `too-large` beyond [`NOTE_MAX`].
    pub fn decode(body: &[u8]) -> Outcome<Self> {
        read("note", body, NOTE_MAX)
    }
}

/// The body of an error frame. What does not fit is left out: first the error value, then the log lines, then the ends of
/// the texts. A failure must always reach whoever waits for it.
pub fn encode_fault(fault: &Fault) -> Vec<u8> {
    let shorter = |fault: &Fault| Fault {
        code: fault.code,
        what: shorten(&fault.what),
        fix: fault.fix.as_deref().map(shorten),
        report: None,
        value: None,
    };
    let without_value = |fault: &Fault| {
        let report = fault.report.as_deref().map(|report| {
            Box::new(TrapReport {
                last_lines: report.last_lines.iter().map(|line| shorten(line)).take(4).collect(),
                ..report.clone()
            })
        });
        Fault { value: None, report, ..fault.clone() }
    };
    write("error", fault, ERROR_MAX)
        .or_else(|_| write("error", &without_value(fault), ERROR_MAX))
        .or_else(|_| write("error", &shorter(fault), ERROR_MAX))
        .unwrap_or_default()
}

/// Reads the body of an error frame. A body that is not a fault is itself reported as one: `protocol`.
pub fn decode_fault(body: &[u8]) -> Fault {
    read("error", body, ERROR_MAX).unwrap_or_else(|fault| fault)
}

/// Writes a message as CBOR.
///
/// # Errors
/// `too-large` beyond `most` bytes.
pub(crate) fn write<T: Serialize>(what: &str, message: &T, most: usize) -> Outcome<Vec<u8>> {
    let mut out = Vec::with_capacity(256);
    ciborium::into_writer(message, &mut out)
        .map_err(|error| Fault::new(Code::Internal, format!("{what} could not be written: {error}")))?;
    if out.len() > most {
        return Err(Fault::new(Code::TooLarge, format!("{what} of {} bytes: {most} are allowed", out.len())));
    }
    Ok(out)
}

/// Reads a message that is exactly `bytes`.
///
/// # Errors
/// `too-large` beyond `most` bytes, `protocol` when it is not such a message or something follows it.
pub(crate) fn read<T: DeserializeOwned>(what: &str, bytes: &[u8], most: usize) -> Outcome<T> {
    /// Deeper than any message of ours, shallow enough for any stack.
    const DEPTH_MAX: usize = 32;
    if bytes.len() > most {
        return Err(Fault::new(
            Code::TooLarge,
            format!("{what} of {} bytes: {most} are allowed", bytes.len()),
        ));
    }
    let mut rest = bytes;
    let message = ciborium::de::from_reader_with_recursion_limit(&mut rest, DEPTH_MAX).map_err(|error| {
        Fault::new(Code::Protocol, format!("{what} is not known to this version: {error}"))
    })?;
    if !rest.is_empty() {
        return Err(Fault::new(Code::Protocol, format!("{what} has bytes after its end")));
    }
    Ok(message)
}

/// The beginning of a text.
fn shorten(text: &str) -> String {
    text.get(..text.floor_char_boundary(TEXT_MAX)).unwrap_or_default().to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn notes_round_trip_and_refuse() {
        let note = Note::Hop {
            node: [1; 32].into(),
            label: "edge-1".to_owned(),
            next: Some([2; 32].into()),
            plugin: None,
            took_us: 12,
            decision: "forward".to_owned(),
        };
        let body = note.encode().unwrap();
        assert_eq!(Note::decode(&body).unwrap(), note);
        let mut longer = body.clone();
        longer.push(0);
        assert_eq!(Note::decode(&longer).unwrap_err().code, Code::Protocol);
        assert_eq!(Note::decode(&body[..body.len() - 1]).unwrap_err().code, Code::Protocol);
        assert_eq!(Note::decode(&vec![0; NOTE_MAX + 1]).unwrap_err().code, Code::TooLarge);
        let Note::Hop { node, next, plugin, took_us, decision, .. } = note else { panic!("{note:?}") };
        let long = Note::Hop { node, label: "x".repeat(NOTE_MAX), next, plugin, took_us, decision };
        assert_eq!(long.encode().unwrap_err().code, Code::TooLarge);
    }

    #[test]
    fn what_served_is_written_as_any_other_note() {
        let plugin = Digest::of(b"x");
        let body = served(&plugin);
        assert_eq!(body[..], Note::Served { plugin }.encode().unwrap());
        assert_eq!(Note::decode(&body).unwrap(), Note::Served { plugin });
        assert_eq!(served_by(&body), Some(plugin));
        assert_eq!(served_by(&body[..body.len() - 1]), None);
        assert_eq!(served_by(&[]), None);
    }

    #[test]
    fn faults_arrive_whatever_their_size() {
        let report = TrapReport { last_lines: vec!["z".repeat(9_000); 8], ..TrapReport::default() };
        let cases = [
            (
                Fault::new(Code::NoRoute, "nobody@fabric is not served").fix("did you mean math1@fabric?"),
                true,
            ),
            (Fault::new(Code::Trap, "x trapped").report(report.clone()), false),
            (Fault::new(Code::Application, "y".repeat(40_000)).fix("ä".repeat(40_000)).report(report), false),
            (
                Fault {
                    value: Some(Box::new("v".repeat(20_000).into())),
                    ..Fault::new(Code::Application, "no")
                },
                false,
            ),
        ];
        for (fault, whole) in cases {
            let body = encode_fault(&fault);
            assert!(body.len() <= ERROR_MAX);
            let back = decode_fault(&body);
            assert_eq!(back.code, fault.code);
            assert!(!back.what.is_empty() && fault.what.starts_with(&back.what));
            assert_eq!(back == fault, whole);
            assert_eq!(back.report.is_some(), fault.report.is_some() && fault.what.len() < 100);
        }
        for bad in [&[][..], &[0xff], &[0xa0]] {
            assert_eq!(decode_fault(bad).code, Code::Protocol);
        }
    }
}
