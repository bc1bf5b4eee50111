//! Values between CBOR and the engine: arguments are decoded against the types of the function, answers encoded.
//!
//! | WIT | CBOR | JSON and words, where they differ |
//! |---|---|---|
//! | `bool` | boolean | |
//! | integers | integer | also a decimal string |
//! | `f32`, `f64` | float of any width, or integer | also `"NaN"`, `"inf"`, `"-inf"` |
//! | `char` | text of one character | |
//! | `string` | text | |
//! | `list<u8>` | bytes, or array of numbers | also base64 with padding |
//! | `list`, `tuple` | array | |
//! | `record` | map by kebab name, or array by position | |
//! | `enum` | text | |
//! | `variant` | text, or `{case: payload}` | |
//! | `flags` | array of text | |
//! | `option` | `null`, or the value; an option directly inside one is `[]` or `[value]` | |
//! | `result` | `{"ok": value}` or `{"err": value}`, `null` where there is no payload | |
//!
//! A record's field or a parameter that is missing is none when it is an option, and an error otherwise.

mod lift;
mod lower;
mod members;
mod outward;
mod wrong;

use std::borrow::Cow;

use minicbor::Decoder;
use wasmtime::component::Val;

use crate::words::cbor;
use crate::words::fault::{Code, Fault, Outcome};
use crate::words::json::{cbor_to_json, json_to_cbor, parse};
use crate::words::schema::{Field, Form, Function, Type};

pub use lift::encode;
pub use outward::{encode_arguments, error_bytes, lower_answer, lower_error};
use wrong::Wrongs;

/// Decodes the arguments of a function: a CBOR map by parameter name, or an array by position. Every argument that does
/// not fit is named in one [`Code::BadArgument`].
///
/// What is given for a parameter `stream<T>` is the list of its items; whoever calls makes a stream of it.
pub fn lower_arguments(function: &Function, form: Form, bytes: &[u8]) -> Outcome<Vec<Val>> {
    let mut decoder = Decoder::new(bytes);
    let argument = |decoder: &mut Decoder<'_>, param: &Field| match form {
        Form::Words => word(decoder, &given(&param.ty)),
        form => lower::value(decoder, &given(&param.ty), form, 0),
    };
    let lowered = members::members(&mut decoder, &function.params, argument);
    match lowered {
        Ok(vals) if decoder.position() == bytes.len() => Ok(vals),
        Ok(_) => Err(Wrongs::malformed("bytes follow after their end").fault(function)),
        Err(wrongs) => Err(wrongs.fault(function)),
    }
}

/// The type of what is given for a parameter: for a stream, the list of its items.
fn given(ty: &Type) -> Cow<'_, Type> {
    match ty {
        Type::Stream(Some(element)) => Cow::Owned(Type::List(element.clone())),
        ty => Cow::Borrowed(ty),
    }
}

/// The CBOR of a function's result. An error of a `result` at the top is not a value but the answer's failure.
pub fn answer(ty: &Type, value: &Val) -> Outcome<Vec<u8>> {
    let mut out = Vec::new();
    match (ty, value) {
        (Type::Result { err, .. }, Val::Result(Err(value))) => {
            return Err(application_error(err.as_deref(), value.as_deref()));
        }
        (Type::Result { ok: Some(ty), .. }, Val::Result(Ok(Some(value)))) => encode(ty, value, &mut out)?,
        (Type::Result { ok: None, .. }, Val::Result(Ok(None))) => {}
        _ => encode(ty, value, &mut out)?,
    }
    Ok(out)
}

/// The fault of a function that answered with its own error; the error's value travels with it.
pub fn application_error(ty: Option<&Type>, value: Option<&Val>) -> Fault {
    let mut bytes = Vec::new();
    let json = match (ty, value) {
        (Some(ty), Some(value)) => encode(ty, value, &mut bytes).and_then(|()| cbor_to_json(&bytes)).ok(),
        _ => None,
    };
    let what = match &json {
        Some(serde_json::Value::String(text)) => text.clone(),
        Some(json) => json.to_string(),
        None => "the function answered with an error".to_owned(),
    };
    Fault { value: json.map(Box::new), ..Fault::new(Code::Application, what) }
}

/// Reads one argument from the raw text of the command line. Texts are taken as they are; everything else is JSON, or
/// what the JSON text of the same characters would mean, so that `red`, `NaN` and base64 need no quotes.
fn word(decoder: &mut Decoder<'_>, ty: &Type) -> Result<Val, Wrongs> {
    let text = cbor::text(decoder)?;
    let as_text = || {
        let bytes = json_to_cbor(&serde_json::Value::String(text.clone().into_owned()));
        lower::value(&mut Decoder::new(&bytes), ty, Form::Json, 0)
    };
    if is_text(ty) {
        return as_text();
    }
    let Ok(json) = parse(&text) else {
        return as_text();
    };
    let bytes = json_to_cbor(&json);
    lower::value(&mut Decoder::new(&bytes), ty, Form::Json, 0).or_else(|wrongs| as_text().map_err(|_| wrongs))
}

/// Whether the raw text is the value.
fn is_text(ty: &Type) -> bool {
    match ty {
        Type::String | Type::Char | Type::Enum(_) => true,
        Type::Option(inner) => matches!(**inner, Type::String | Type::Char | Type::Enum(_)),
        _ => false,
    }
}

#[cfg(test)]
mod tests;
