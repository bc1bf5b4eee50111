//! A recording of a policy: a file from which its calls can be run again.
//!
//! A CBOR sequence (RFC 8742): a [`Header`], then an [`Item`] for each call, in the order in which they were made, then its end. A
//! file that was cut off is a recording as far as its items are whole; one that has its end is checked as a whole.

use minicbor::Decoder;
use serde::{Deserialize, Serialize};
use serde_bytes::ByteBuf;

use super::fault::{Code, Fault, Outcome};
use super::id::Digest;
use super::note;
use super::objects::{BlobRef, Kind};

/// Version of the format.
pub const FORMAT: u32 = 1;
/// Largest recording, and so the most that is ever read: it is in memory at once, and on a small board twice.
pub const RECORDING_MAX: usize = 64 << 20;
/// The function that starts an instance; its arguments are a setup.
pub const INIT: &str = "init";
/// The function that takes an event.
pub const HANDLE: &str = "handle";
/// The function that returns the state. It has no arguments.
pub const SAVE: &str = "save";

/// What was recorded, and under which rules it ran.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct Header {
    /// [`FORMAT`]. The name of the field says what the file is.
    pub midplane_recording: u32,
    /// Version of the host.
    pub host: String,
    /// Slot.
    pub slot: String,
    /// Kind of the policy.
    pub kind: Kind,
    /// The component.
    pub component: BlobRef,
    /// Memory of an instance, in bytes.
    pub memory: u64,
    /// Fuel of a call.
    pub fuel: Fuel,
    /// When it began, Unix ms.
    pub began: u64,
}

/// Fuel that a call may use, by what is called.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct Fuel {
    /// `init`.
    pub init: u64,
    /// `handle` and `save`.
    pub handle: u64,
    /// A question.
    pub question: u64,
}

/// One part of a recording.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Item {
    /// A call. The first one is [`INIT`]; another one follows each time the instance was ended and started again.
    Call(Call),
    /// The last item.
    End(End),
}

/// A call and what came of it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct Call {
    /// What was called.
    pub function: String,
    /// The time that the instance was given, Unix ms.
    pub now: u64,
    /// Its arguments: CBOR, see [`super::packed`].
    pub arguments: ByteBuf,
    /// Effects, answer or state, or why the instance ended.
    pub answer: Answer,
    /// Fuel used.
    pub fuel: u64,
}

/// What came of a call.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Answer {
    /// A value: CBOR, see [`super::packed`].
    Value(ByteBuf),
    /// The instance was ended.
    Ended(Fault),
}

/// How a recording ended.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct End {
    /// Why.
    pub why: Why,
    /// Digest of all bytes before this item.
    pub digest: Digest,
}

/// Why a recording ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Why {
    /// Its time was over.
    Time,
    /// Whoever recorded had enough.
    Interrupted,
    /// The next call would not have fitted into [`RECORDING_MAX`].
    Full,
    /// Whoever recorded did not keep up, and the policy does not wait.
    Behind,
    /// The slot was given another component or configuration.
    Replaced,
    /// The slot or its node stopped.
    Stopped,
    /// The node that was recorded could not be heard any more.
    Lost,
}

impl Why {
    /// A sentence for people.
    pub const fn as_str(self) -> &'static str {
        match self {
            Why::Time => "its time was over",
            Why::Interrupted => "it was interrupted",
            Why::Full => "it had become as large as it may",
            Why::Behind => "its reader did not keep up with the policy",
            Why::Replaced => "the slot was given another component or configuration",
            Why::Stopped => "the slot stopped",
            Why::Lost => "the node could not be heard any more",
        }
    }
}

/// What a node says to whoever records: pieces of the file, cut anywhere, then why there are no more.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Told {
    /// The next bytes of the file.
    Piece(ByteBuf),
    /// There are no more.
    Over(Why),
}

/// A recording that was read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Recording {
    /// What was recorded.
    pub header: Header,
    /// The calls in their order.
    pub calls: Vec<Call>,
    /// Why it ended; none for one that was cut off.
    pub end: Option<Why>,
    /// Bytes from the beginning that are whole.
    pub whole: usize,
    /// Bytes after them.
    pub cut: usize,
}

impl Recording {
    /// Reads a recording. One that was cut off is read as far as it is whole.
    ///
    /// # Errors
    /// `bad-object` when it is no recording, one of another format, or damaged.
    pub fn read(bytes: &[u8]) -> Outcome<Self> {
        let Some(length) = next(bytes, 0).ok().flatten() else { return Err(no_recording()) };
        let header = header(bytes.get(..length).unwrap_or_default())?;
        let mut recording = Self { header, calls: Vec::new(), end: None, whole: length, cut: 0 };
        while let Some(length) = next(bytes, recording.whole).map_err(|why| recording.damaged(&why))? {
            if recording.end.is_some() {
                return Err(recording.damaged("something follows its end"));
            }
            let item = bytes.get(recording.whole..recording.whole + length).unwrap_or_default();
            let item: Item =
                note::read("item", item, RECORDING_MAX).map_err(|fault| recording.damaged(&fault.what))?;
            match item {
                Item::Call(call) => recording.calls.push(call),
                Item::End(end) => {
                    let before = bytes.get(..recording.whole).unwrap_or_default();
                    if end.digest != Digest::of(before) {
                        return Err(recording.damaged("its bytes are not those that were recorded"));
                    }
                    recording.end = Some(end.why);
                }
            }
            recording.whole += length;
        }
        recording.cut = bytes.len() - recording.whole;
        if recording.calls.first().is_some_and(|first| first.function != INIT) {
            return Err(recording.damaged("it does not begin with a start"));
        }
        Ok(recording)
    }

    fn damaged(&self, why: &str) -> Fault {
        let after = self.calls.len();
        Fault::new(Code::BadObject, format!("recording is damaged after call {after}: {why}"))
            .fix("record again, or fetch the file again from where it came")
    }
}

/// Adds an item to what is to become a file.
///
/// # Errors
/// `too-large`.
pub fn item(item: &Item) -> Outcome<Vec<u8>> {
    note::write("item", item, RECORDING_MAX)
}

/// Bytes of the item that begins there; none at the end, or where the bytes end within it.
fn next(bytes: &[u8], at: usize) -> Result<Option<usize>, String> {
    let rest = bytes.get(at..).unwrap_or_default();
    let mut decoder = Decoder::new(rest);
    match decoder.skip() {
        Ok(()) => Ok(Some(decoder.position())),
        Err(error) if error.is_end_of_input() => Ok(None),
        Err(error) => Err(error.to_string()),
    }
}

fn header(bytes: &[u8]) -> Outcome<Header> {
    /// What every version has.
    #[derive(Deserialize)]
    #[serde(rename_all = "kebab-case")]
    struct Format {
        midplane_recording: u32,
    }
    let format: Format = note::read("header", bytes, RECORDING_MAX).map_err(|_| no_recording())?;
    if format.midplane_recording != FORMAT {
        let what = format!("recording has format {}; this host reads {FORMAT}", format.midplane_recording);
        return Err(Fault::new(Code::BadObject, what).fix("use the midplane that recorded it"));
    }
    note::read("header", bytes, RECORDING_MAX)
        .map_err(|fault| Fault::new(Code::BadObject, format!("recording is damaged: {}", fault.what)))
}

fn no_recording() -> Fault {
    Fault::new(Code::BadObject, "file is no recording").fix("`midplane record SLOT FILE` makes one")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample() -> Vec<u8> {
        let header = Header {
            midplane_recording: FORMAT,
            host: "0.1.0".into(),
            slot: "routing".into(),
            kind: Kind::Routing,
            component: BlobRef { digest: Digest::of(b"x"), length: 1 },
            memory: 1,
            fuel: Fuel { init: 1, handle: 2, question: 3 },
            began: 4,
        };
        let mut bytes = note::write("header", &header, RECORDING_MAX).unwrap();
        for (function, answer) in [
            (INIT, Answer::Value(ByteBuf::from([1]))),
            (HANDLE, Answer::Ended(Fault::new(Code::Trap, "routing trapped"))),
        ] {
            let arguments = ByteBuf::from([2]);
            let call = Call { function: function.into(), now: 5, arguments, answer, fuel: 6 };
            bytes.extend(item(&Item::Call(call)).unwrap());
        }
        bytes
    }

    fn ended(mut bytes: Vec<u8>) -> Vec<u8> {
        let end = End { why: Why::Time, digest: Digest::of(&bytes) };
        bytes.extend(item(&Item::End(end)).unwrap());
        bytes
    }

    #[test]
    fn a_recording_comes_back_and_a_cut_one_as_far_as_it_is_whole() {
        let whole = ended(sample());
        let recording = Recording::read(&whole).unwrap();
        assert_eq!((recording.calls.len(), recording.end, recording.cut), (2, Some(Why::Time), 0));
        let mut calls = Vec::new();
        for length in 0..whole.len() {
            match Recording::read(&whole[..length]) {
                Ok(cut) => {
                    assert_eq!((cut.end, cut.whole + cut.cut), (None, length));
                    calls.push(cut.calls.len());
                }
                Err(fault) => assert_eq!(fault.code, Code::BadObject),
            }
        }
        assert!(calls.is_sorted() && calls.first() == Some(&0) && calls.last() == Some(&2), "{calls:?}");
    }

    #[test]
    fn no_altered_byte_goes_unnoticed() {
        let whole = ended(sample());
        let good = Recording::read(&whole).unwrap();
        for at in 0..whole.len() {
            for bit in 0..8 {
                let mut altered = whole.clone();
                altered[at] ^= 1 << bit;
                match Recording::read(&altered) {
                    // A length that reaches beyond the end looks like a cut, and says so. What follows the digest is no call.
                    Ok(read) => assert!(read.cut > 0 || read.calls == good.calls, "byte {at}"),
                    Err(fault) => assert_eq!(fault.code, Code::BadObject, "byte {at}: {fault}"),
                }
            }
        }
        let mut longer = whole.clone();
        longer.push(0);
        assert!(Recording::read(&longer).unwrap_err().what.contains("follows its end"));
        assert!(Recording::read(b"").unwrap_err().what.contains("no recording"));
        assert!(Recording::read(b"\0asm\x0d\0\x01\0").unwrap_err().what.contains("no recording"));
    }

    #[test]
    fn another_format_is_refused_by_its_number() {
        let map = serde_json::json!({ "midplane-recording": 2, "host": "9.9.9" });
        let mut bytes = Vec::new();
        ciborium::into_writer(&map, &mut bytes).unwrap();
        assert!(Recording::read(&bytes).unwrap_err().what.contains("format 2"));
    }
}
