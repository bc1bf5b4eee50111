//! Encodes what a function answered.

use std::convert::Infallible;

use minicbor::Encoder;
use minicbor::encode::Error;
use wasmtime::component::Val;

use crate::words::fault::{Code, Fault, Outcome};
use crate::words::schema::{Case, Field, NESTING_MAX, Type};

type Writer<'a> = Encoder<&'a mut Vec<u8>>;

/// Appends a value as canonical CBOR: shortest integers, floats of their own width, one NaN, every field of a record in
/// order. Fails, and leaves `out` as it was, when the value is not of the type or has no bytes.
pub fn encode(ty: &Type, value: &Val, out: &mut Vec<u8>) -> Outcome<()> {
    let length = out.len();
    put(&mut Encoder::new(&mut *out), ty, value, 0).map_err(|unfit| {
        out.truncate(length);
        match unfit {
            Unfit::Mismatch => Fault::new(Code::Internal, format!("answer does not fit its own type {ty}")),
            Unfit::Uncallable(ty) => {
                Fault::new(Code::NotCallable, format!("{ty} cannot be carried in an answer"))
            }
            Unfit::Deep => Fault::new(Code::TooLarge, format!("answer is nested deeper than {NESTING_MAX}")),
        }
    })
}

enum Unfit {
    Mismatch,
    Uncallable(String),
    Deep,
}

impl From<Error<Infallible>> for Unfit {
    /// Does not happen: writing to a vector cannot fail.
    fn from(_: Error<Infallible>) -> Self {
        Unfit::Mismatch
    }
}

fn put(out: &mut Writer<'_>, ty: &Type, value: &Val, depth: usize) -> Result<(), Unfit> {
    match (ty, value) {
        (Type::Bool, Val::Bool(value)) => out.bool(*value)?.ok()?,
        (Type::S8, Val::S8(number)) => out.i8(*number)?.ok()?,
        (Type::U8, Val::U8(number)) => out.u8(*number)?.ok()?,
        (Type::S16, Val::S16(number)) => out.i16(*number)?.ok()?,
        (Type::U16, Val::U16(number)) => out.u16(*number)?.ok()?,
        (Type::S32, Val::S32(number)) => out.i32(*number)?.ok()?,
        (Type::U32, Val::U32(number)) => out.u32(*number)?.ok()?,
        (Type::S64, Val::S64(number)) => out.i64(*number)?.ok()?,
        (Type::U64, Val::U64(number)) => out.u64(*number)?.ok()?,
        (Type::F32, Val::Float32(number)) => {
            out.f32(if number.is_nan() { f32::NAN } else { *number })?.ok()?
        }
        (Type::F64, Val::Float64(number)) => {
            out.f64(if number.is_nan() { f64::NAN } else { *number })?.ok()?
        }
        (Type::Char, Val::Char(char)) => out.str(char.encode_utf8(&mut [0; 4]))?.ok()?,
        (Type::String, Val::String(text)) => out.str(text)?.ok()?,
        (Type::Enum(_), Val::Enum(name)) => out.str(name)?.ok()?,
        (ty, value) => compound(out, ty, value, depth)?,
    }
    Ok(())
}

fn compound(out: &mut Writer<'_>, ty: &Type, value: &Val, depth: usize) -> Result<(), Unfit> {
    if depth >= NESTING_MAX {
        return Err(Unfit::Deep);
    }
    let depth = depth + 1;
    match (ty, value) {
        (Type::List(element), Val::List(vals)) if **element == Type::U8 => octets(out, vals),
        (Type::List(element), Val::List(vals)) => {
            out.array(vals.len() as u64)?;
            vals.iter().try_for_each(|val| put(out, element, val, depth))
        }
        (Type::Record(fields), Val::Record(vals)) => record(out, fields, vals, depth),
        (Type::Tuple(types), Val::Tuple(vals)) if types.len() == vals.len() => {
            out.array(vals.len() as u64)?;
            types.iter().zip(vals).try_for_each(|(ty, val)| put(out, ty, val, depth))
        }
        (Type::Variant(cases), Val::Variant(name, payload)) => {
            variant(out, cases, name, payload.as_deref(), depth)
        }
        (Type::Flags(_), Val::Flags(names)) => {
            out.array(names.len() as u64)?;
            names.iter().try_for_each(|name| Ok(out.str(name)?.ok()?))
        }
        (Type::Option(inner), Val::Option(val)) => option(out, inner, val.as_deref(), depth),
        (Type::Result { ok, err }, Val::Result(result)) => {
            let (key, ty, payload) = match result {
                Ok(payload) => ("ok", ok, payload),
                Err(payload) => ("err", err, payload),
            };
            out.map(1)?.str(key)?;
            match (ty, payload) {
                (Some(ty), Some(payload)) => put(out, ty, payload, depth),
                (None, None) => Ok(out.null()?.ok()?),
                _ => Err(Unfit::Mismatch),
            }
        }
        (Type::Stream(_) | Type::Future(_) | Type::Resource(_) | Type::Unsupported(_), _) => {
            Err(Unfit::Uncallable(ty.to_string()))
        }
        _ => Err(Unfit::Mismatch),
    }
}

fn octets(out: &mut Writer<'_>, vals: &[Val]) -> Result<(), Unfit> {
    out.bytes_len(vals.len() as u64)?;
    let bytes = out.writer_mut();
    bytes.reserve(vals.len());
    for val in vals {
        let Val::U8(byte) = val else { return Err(Unfit::Mismatch) };
        bytes.push(*byte);
    }
    Ok(())
}

fn record(out: &mut Writer<'_>, fields: &[Field], vals: &[(String, Val)], depth: usize) -> Result<(), Unfit> {
    if fields.len() != vals.len() {
        return Err(Unfit::Mismatch);
    }
    out.map(vals.len() as u64)?;
    for (field, (name, val)) in fields.iter().zip(vals) {
        if field.name != *name {
            return Err(Unfit::Mismatch);
        }
        out.str(name)?;
        put(out, &field.ty, val, depth)?;
    }
    Ok(())
}

fn variant(
    out: &mut Writer<'_>,
    cases: &[Case],
    name: &str,
    payload: Option<&Val>,
    depth: usize,
) -> Result<(), Unfit> {
    let case = cases.iter().find(|case| case.name == name).ok_or(Unfit::Mismatch)?;
    match (&case.ty, payload) {
        (None, None) => Ok(out.str(name)?.ok()?),
        (Some(ty), Some(payload)) => {
            out.map(1)?.str(name)?;
            put(out, ty, payload, depth)
        }
        _ => Err(Unfit::Mismatch),
    }
}

/// `null`, or the value; an option directly inside is a list of none or one.
fn option(out: &mut Writer<'_>, inner: &Type, val: Option<&Val>, depth: usize) -> Result<(), Unfit> {
    match (inner, val) {
        (_, None) => Ok(out.null()?.ok()?),
        (Type::Option(boxed), Some(Val::Option(val))) => {
            out.array(u64::from(val.is_some()))?;
            val.iter().try_for_each(|val| put(out, boxed, val, depth + 1))
        }
        (Type::Option(_), Some(_)) => Err(Unfit::Mismatch),
        (inner, Some(val)) => put(out, inner, val, depth),
    }
}
