//! What is wrong with arguments, collected on the way up and told in one sentence.

use std::borrow::Cow;
use std::fmt;

use minicbor::Decoder;
use minicbor::data::Type as CborType;
use minicbor::decode::Error;

use crate::words::cbor;
use crate::words::fault::{Code, Fault};
use crate::words::id::clip;
use crate::words::schema::{Function, NESTING_MAX, Type};

/// Most mistakes told at once: more does not help anybody, and each costs another pass over its argument.
const WRONGS_MAX: usize = 8;
/// Longest text of a type in a message. The signature, which has it in full, stands below.
const TYPE_CHARS_MAX: usize = 160;

/// Everything that is wrong with a value, with paths relative to it. Never empty where it is an error.
#[derive(Debug, Default)]
pub(super) struct Wrongs(Vec<Wrong>);

#[derive(Debug)]
struct Wrong {
    /// From the value that was being decoded to the culprit: `point.x`, `items[3]`; empty for the value itself.
    path: String,
    say: Say,
}

#[derive(Debug)]
enum Say {
    /// The WIT type and what came.
    Wants(String, String),
    /// What came with a case that has no payload.
    NoPayload(String),
    /// The WIT type of what is missing.
    Missing(String),
    Unknown,
    Twice,
    /// How many there may be.
    TooMany(usize),
    Deep,
    Uncallable(String),
    /// The bytes cannot be read, whatever their type.
    Malformed(Cow<'static, str>),
}

impl From<Error> for Wrongs {
    fn from(error: Error) -> Self {
        Self::of(Say::Malformed(error.to_string().into()))
    }
}

impl Wrongs {
    /// The value at `start` does not fit the type.
    #[cold]
    pub(super) fn wants(decoder: &mut Decoder<'_>, start: usize, ty: &Type) -> Self {
        decoder.set_position(start);
        match came(decoder) {
            Ok(came) => Self::of(Say::Wants(shown(ty), came)),
            Err(error) => error.into(),
        }
    }

    /// The value that comes next does not fit the type.
    #[cold]
    pub(super) fn wants_here(decoder: &mut Decoder<'_>, ty: &Type) -> Self {
        Self::wants(decoder, decoder.position(), ty)
    }

    /// A value of the right kind that does not fit, described by the caller.
    #[cold]
    pub(super) fn unfit(ty: &Type, came: String) -> Self {
        Self::of(Say::Wants(shown(ty), came))
    }

    /// A payload where the case has none.
    #[cold]
    pub(super) fn no_payload(decoder: &mut Decoder<'_>) -> Self {
        match came(decoder) {
            Ok(came) => Self::of(Say::NoPayload(came)),
            Err(error) => error.into(),
        }
    }

    /// A member or parameter that has to be given was not.
    #[cold]
    pub(super) fn missing(name: &str, ty: &Type) -> Self {
        Self::of(Say::Missing(shown(ty))).within(name)
    }

    /// A key that names nothing.
    #[cold]
    pub(super) fn unknown(name: &str) -> Self {
        Self::of(Say::Unknown).within(clip(name))
    }

    /// A key that was given before.
    #[cold]
    pub(super) fn twice(name: &str) -> Self {
        Self::of(Say::Twice).within(name)
    }

    /// More values by position than there are names.
    #[cold]
    pub(super) fn too_many(most: usize) -> Self {
        Self::of(Say::TooMany(most))
    }

    /// A type nested deeper than values may be.
    #[cold]
    pub(super) fn deep() -> Self {
        Self::of(Say::Deep)
    }

    /// A type that has no bytes.
    #[cold]
    pub(super) fn uncallable(ty: &Type) -> Self {
        Self::of(Say::Uncallable(shown(ty)))
    }

    /// Bytes that are no arguments of any function.
    #[cold]
    pub(super) fn malformed(why: &'static str) -> Self {
        Self::of(Say::Malformed(why.into()))
    }

    /// Moves every path below a member: `x` becomes `name.x`, `[3]` becomes `name[3]`.
    #[cold]
    pub(super) fn within(mut self, name: &str) -> Self {
        for wrong in &mut self.0 {
            let dot = if wrong.path.is_empty() || wrong.path.starts_with('[') { "" } else { "." };
            wrong.path = format!("{name}{dot}{}", wrong.path);
        }
        self
    }

    /// Moves every path below an item.
    #[cold]
    pub(super) fn within_item(self, index: usize) -> Self {
        self.within(&format!("[{index}]"))
    }

    /// Adds others; beyond the most that are told they are dropped.
    #[cold]
    pub(super) fn add(&mut self, others: Wrongs) {
        let room = WRONGS_MAX.saturating_sub(self.0.len());
        self.0.extend(others.0.into_iter().take(room));
    }

    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Whether looking for more is pointless: there is no room to tell it, or the bytes cannot be read.
    pub(super) fn is_final(&self) -> bool {
        self.0.len() >= WRONGS_MAX || self.0.iter().any(|wrong| matches!(wrong.say, Say::Malformed(_)))
    }

    /// The failure that the caller of the function gets to see.
    #[cold]
    pub(super) fn fault(&self, function: &Function) -> Fault {
        let uncallable = self.0.iter().any(|wrong| matches!(wrong.say, Say::Uncallable(_)));
        let code = if uncallable { Code::NotCallable } else { Code::BadArgument };
        let texts: Vec<String> = self.0.iter().map(Wrong::to_string).collect();
        Fault::new(code, texts.join("; ")).fix(function.signature())
    }

    fn of(say: Say) -> Self {
        Self(vec![Wrong { path: String::new(), say }])
    }
}

impl fmt::Display for Wrong {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { path, say } = self;
        let subject = if path.is_empty() { "arguments" } else { path };
        let argument = if path.contains(['.', '[']) { "field" } else { "argument" };
        match say {
            Say::Wants(ty, came) => write!(f, "{subject} wants {ty}, got {came}"),
            Say::NoPayload(came) => write!(f, "{subject} takes no value, got {came}"),
            Say::Missing(ty) => write!(f, "missing {argument} {path}: {ty}"),
            Say::Unknown => write!(f, "unknown {argument} {path}"),
            Say::Twice => write!(f, "{argument} {path} is given twice"),
            Say::TooMany(most) => write!(f, "{subject}: at most {most}, got more"),
            Say::Deep => write!(f, "{subject} is nested deeper than {NESTING_MAX}"),
            Say::Uncallable(ty) => write!(f, "{subject}: {ty} cannot be given from outside"),
            Say::Malformed(why) => write!(f, "{subject} cannot be read: {why}"),
        }
    }
}

/// The type as WIT, cut where it is long.
fn shown(ty: &Type) -> String {
    let mut text = ty.to_string();
    if let Some((end, _)) = text.char_indices().nth(TYPE_CHARS_MAX) {
        text.truncate(end);
        text.push('…');
    }
    text
}

/// Describes the value that comes next, and passes it.
fn came(decoder: &mut Decoder<'_>) -> Result<String, Error> {
    let start = decoder.position();
    let text = match decoder.datatype()? {
        CborType::Null | CborType::Undefined => "null".to_owned(),
        CborType::Bool => decoder.bool()?.to_string(),
        CborType::F16 | CborType::F32 | CborType::F64 => format!("{:?}", cbor::float(decoder)?),
        CborType::String | CborType::StringIndef => {
            let text = cbor::text(decoder)?;
            let clipped = clip(&text);
            let more = if clipped.len() < text.len() { "…" } else { "" };
            format!("{clipped:?}{more}")
        }
        CborType::Bytes | CborType::BytesIndef => format!("{} bytes", cbor::bytes(decoder)?.len()),
        CborType::Array | CborType::ArrayIndef => "a list".to_owned(),
        CborType::Map | CborType::MapIndef => "a map".to_owned(),
        CborType::Tag => "a tagged value".to_owned(),
        CborType::Simple => "a simple value".to_owned(),
        other @ (CborType::Break | CborType::Unknown(_)) => {
            return Err(Error::type_mismatch(other).at(start));
        }
        _ => decoder.int()?.to_string(),
    };
    decoder.set_position(start);
    decoder.skip()?;
    Ok(text)
}
