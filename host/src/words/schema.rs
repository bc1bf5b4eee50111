//! Types and signatures of the functions of a skill, as plain data.
//!
//! What a component exports is described once, when it is loaded; arguments are then decoded, answers encoded and
//! signatures printed from this description, without the engine. The text form is WIT with the names of types left
//! out, for example `record{x: s64, y: s64}`, and reads back into the same value.

mod parse;

use std::fmt;

use serde::{Deserialize, Serialize};

use super::fault::{Code, Fault};

/// Deepest nesting of types and of values. WIT has no recursive types and real interfaces stay below ten, while every
/// level costs stack in the decoder; a type of this depth gives a value of at most this depth.
pub const NESTING_MAX: usize = 64;

/// A WIT type, structurally: names of types are not kept.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
#[allow(missing_docs, reason = "the variants are WIT's own words")]
pub enum Type {
    Bool,
    S8,
    U8,
    S16,
    U16,
    S32,
    U32,
    S64,
    U64,
    F32,
    F64,
    Char,
    String,
    List(Box<Type>),
    Record(Vec<Field>),
    Tuple(Vec<Type>),
    Variant(Vec<Case>),
    Enum(Vec<String>),
    Option(Box<Type>),
    Result {
        ok: Option<Box<Type>>,
        err: Option<Box<Type>>,
    },
    Flags(Vec<String>),
    Stream(Option<Box<Type>>),
    Future(Option<Box<Type>>),
    /// A handle in WIT text, `own<file>` or `borrow<file>`.
    Resource(String),
    /// The text of a type that has no place in the mapping, for example `error-context`.
    Unsupported(String),
}

/// A named member of a record, or a parameter.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Field {
    /// Kebab-case name.
    pub name: String,
    /// Its type.
    #[serde(rename = "type")]
    pub ty: Type,
}

/// A case of a variant.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Case {
    /// Kebab-case name.
    pub name: String,
    /// Type of the payload, if the case has one.
    #[serde(rename = "type", default, skip_serializing_if = "Option::is_none")]
    pub ty: Option<Type>,
}

/// A function that a component exports.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct Function {
    /// Kebab-case name, without its interface.
    pub name: String,
    /// Parameters in order.
    #[serde(default)]
    pub params: Vec<Field>,
    /// Type of the answer, if there is one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub result: Option<Type>,
    /// Whether it is an `async func`.
    #[serde(rename = "async", default)]
    pub is_async: bool,
    /// Doc comment, where the component carries it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub docs: Option<String>,
}

/// The shape in which a function answers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Answer {
    /// No result.
    Nothing,
    /// One value.
    Value,
    /// `stream<T>`, with the type of its elements.
    Stream(Type),
    /// `result<stream<T>, E>`: an error, or a stream.
    ResultStream {
        /// Type of the stream's elements.
        element: Type,
        /// Type of the error, if it has one.
        err: Option<Type>,
    },
    /// `tuple<stream<T>, future<result<_, E>>>`: a stream, then how it ended.
    StreamThenResult {
        /// Type of the stream's elements.
        element: Type,
        /// Type of the error, if it has one.
        err: Option<Type>,
    },
}

/// In which form arguments are given. The numbers are part of the wire protocol.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum Form {
    /// CBOR of the mapping: bytes are bytes, integers are integers.
    Cbor = 0,
    /// CBOR made from JSON: also base64 for bytes, text for large integers and for floats that are not finite.
    Json = 1,
    /// A CBOR map from parameter to the raw text of the command line.
    Words = 2,
}

impl Form {
    /// The number on the wire.
    pub const fn number(self) -> u8 {
        self as u8
    }
}

impl TryFrom<u8> for Form {
    type Error = Fault;

    fn try_from(number: u8) -> Result<Self, Fault> {
        match number {
            0 => Ok(Form::Cbor),
            1 => Ok(Form::Json),
            2 => Ok(Form::Words),
            _ => Err(Fault::new(Code::Protocol, format!("unknown form of arguments: {number}"))),
        }
    }
}

impl Type {
    /// Whether a stream of this can be carried: `bool`, numbers, `char`, `string`, `list<u8>`, and options and tuples
    /// of those.
    pub fn is_stream_element(&self) -> bool {
        match self {
            Type::Option(inner) => inner.is_simple(),
            ty => ty.is_simple(),
        }
    }

    /// Whether this is `bool`, a number, `char`, `string` or `list<u8>`.
    fn is_simple(&self) -> bool {
        match self {
            Type::List(element) => **element == Type::U8,
            Type::Bool | Type::Char | Type::String | Type::F32 | Type::F64 => true,
            Type::S8 | Type::U8 | Type::S16 | Type::U16 => true,
            Type::S32 | Type::U32 | Type::S64 | Type::U64 => true,
            _ => false,
        }
    }

    /// Why a value of this type cannot be carried, where it cannot.
    fn plain(&self, depth: usize) -> Result<(), String> {
        if depth > NESTING_MAX {
            return Err(format!("types nested deeper than {NESTING_MAX}"));
        }
        let each = |ty: &Type| ty.plain(depth + 1);
        match self {
            Type::Resource(_) => Err(format!("{self} is a resource")),
            Type::Unsupported(_) => Err(format!("{self} is not supported")),
            Type::Stream(_) | Type::Future(_) => Err(format!("{self} lies where it cannot be carried")),
            Type::List(inner) | Type::Option(inner) => each(inner),
            Type::Record(fields) => fields.iter().try_for_each(|field| each(&field.ty)),
            Type::Tuple(types) => types.iter().try_for_each(each),
            Type::Variant(cases) => cases.iter().filter_map(|case| case.ty.as_ref()).try_for_each(each),
            Type::Result { ok, err } => ok.iter().chain(err).try_for_each(|ty| each(ty)),
            _ => Ok(()),
        }
    }
}

impl Function {
    /// For people: `add(x: s64, y: s64) -> s64`, with `async` before it where it is.
    pub fn signature(&self) -> String {
        self.to_string()
    }

    /// Why the function cannot be called from outside, where it cannot.
    pub fn callable(&self) -> Result<(), String> {
        for param in &self.params {
            let carried = match &param.ty {
                Type::Stream(Some(element)) => streamable(element),
                ty => ty.plain(0),
            };
            carried.map_err(|why| format!("parameter {}: {why}", param.name))?;
        }
        let carried = match self.answer() {
            Answer::Nothing => Ok(()),
            Answer::Value => self.result.iter().try_for_each(|ty| ty.plain(0)),
            Answer::Stream(element) => streamable(&element),
            Answer::ResultStream { element, err } => {
                streamable(&element).and_then(|()| err.iter().try_for_each(|ty| ty.plain(0)))
            }
            Answer::StreamThenResult { err: Some(err), .. } if err != Type::String => {
                Err(format!("a stream that ends in an error of {err}: it may be string, or nothing"))
            }
            Answer::StreamThenResult { element, .. } => streamable(&element),
        };
        carried.map_err(|why| format!("result: {why}"))
    }

    /// Why no call can take the place of the function where a component imports it, where none can.
    pub fn bindable(&self) -> Result<(), String> {
        for Field { name, ty } in &self.params {
            ty.plain(0).map_err(|why| format!("parameter {name}: {why}"))?;
        }
        self.result.iter().try_for_each(|ty| ty.plain(0)).map_err(|why| format!("result: {why}"))
    }

    /// The shape of the answer.
    pub fn answer(&self) -> Answer {
        let owned = |ty: &Option<Box<Type>>| ty.as_deref().cloned();
        match &self.result {
            None => Answer::Nothing,
            Some(Type::Stream(Some(element))) => Answer::Stream((**element).clone()),
            Some(Type::Result { ok: Some(ok), err }) => match &**ok {
                Type::Stream(Some(element)) => {
                    Answer::ResultStream { element: (**element).clone(), err: owned(err) }
                }
                _ => Answer::Value,
            },
            Some(Type::Tuple(types)) => match types.as_slice() {
                [Type::Stream(Some(element)), Type::Future(Some(end))] => match &**end {
                    Type::Result { ok: None, err } => {
                        Answer::StreamThenResult { element: (**element).clone(), err: owned(err) }
                    }
                    _ => Answer::Value,
                },
                _ => Answer::Value,
            },
            Some(_) => Answer::Value,
        }
    }
}

/// Why a stream of these elements cannot be carried, where it cannot.
fn streamable(element: &Type) -> Result<(), String> {
    if element.is_stream_element() {
        return Ok(());
    }
    Err(format!(
        "stream of {element}: elements may be bool, numbers, char, string, list<u8>, and options of those"
    ))
}

impl fmt::Display for Function {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.is_async {
            f.write_str("async ")?;
        }
        write!(f, "{}(", self.name)?;
        separated(f, &self.params)?;
        f.write_str(")")?;
        match &self.result {
            Some(result) => write!(f, " -> {result}"),
            None => Ok(()),
        }
    }
}

impl fmt::Display for Field {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.name, self.ty)
    }
}

impl fmt::Display for Case {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.ty {
            Some(ty) => write!(f, "{}({ty})", self.name),
            None => f.write_str(&self.name),
        }
    }
}

impl fmt::Display for Type {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Type::Bool => f.write_str("bool"),
            Type::S8 => f.write_str("s8"),
            Type::U8 => f.write_str("u8"),
            Type::S16 => f.write_str("s16"),
            Type::U16 => f.write_str("u16"),
            Type::S32 => f.write_str("s32"),
            Type::U32 => f.write_str("u32"),
            Type::S64 => f.write_str("s64"),
            Type::U64 => f.write_str("u64"),
            Type::F32 => f.write_str("f32"),
            Type::F64 => f.write_str("f64"),
            Type::Char => f.write_str("char"),
            Type::String => f.write_str("string"),
            Type::List(element) => write!(f, "list<{element}>"),
            Type::Option(inner) => write!(f, "option<{inner}>"),
            Type::Record(fields) => enclosed(f, "record{", fields, "}"),
            Type::Tuple(types) => enclosed(f, "tuple<", types, ">"),
            Type::Variant(cases) => enclosed(f, "variant{", cases, "}"),
            Type::Enum(names) => enclosed(f, "enum{", names, "}"),
            Type::Flags(names) => enclosed(f, "flags{", names, "}"),
            Type::Result { ok: None, err: None } => f.write_str("result"),
            Type::Result { ok: Some(ok), err: None } => write!(f, "result<{ok}>"),
            Type::Result { ok: None, err: Some(err) } => write!(f, "result<_, {err}>"),
            Type::Result { ok: Some(ok), err: Some(err) } => write!(f, "result<{ok}, {err}>"),
            Type::Stream(None) => f.write_str("stream"),
            Type::Stream(Some(element)) => write!(f, "stream<{element}>"),
            Type::Future(None) => f.write_str("future"),
            Type::Future(Some(inner)) => write!(f, "future<{inner}>"),
            Type::Resource(text) | Type::Unsupported(text) => f.write_str(text),
        }
    }
}

/// Writes the parts between brackets.
fn enclosed(f: &mut fmt::Formatter<'_>, open: &str, parts: &[impl fmt::Display], close: &str) -> fmt::Result {
    f.write_str(open)?;
    separated(f, parts)?;
    f.write_str(close)
}

/// Writes the parts with commas between them.
fn separated(f: &mut fmt::Formatter<'_>, parts: &[impl fmt::Display]) -> fmt::Result {
    for (index, part) in parts.iter().enumerate() {
        let comma = if index == 0 { "" } else { ", " };
        write!(f, "{comma}{part}")?;
    }
    Ok(())
}

#[cfg(test)]
mod tests;
