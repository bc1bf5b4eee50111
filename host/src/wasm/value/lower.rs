//! Decodes CBOR against a type. There is no tree in between: each value is read where it stands.

use std::str::FromStr;

use data_encoding::BASE64;
use minicbor::Decoder;
use minicbor::data::Type as CborType;
use minicbor::decode::Error;
use wasmtime::component::Val;

use super::members::members;
use super::wrong::Wrongs;
use crate::words::cbor::{self, Items};
use crate::words::schema::{Case, Field, Form, NESTING_MAX, Type};

/// Most items for which room is made before they have been seen. An announced length is not believed; lists of this
/// size are the usual ones, and longer lists grow as they are read.
const RESERVE_MAX: usize = 64;

/// Reads a value of the type. What does not fit is told with paths relative to this value.
pub(super) fn value(decoder: &mut Decoder<'_>, ty: &Type, form: Form, depth: usize) -> Result<Val, Wrongs> {
    Ok(match ty {
        Type::S64 => Val::S64(integer(decoder, ty, form, |decoder| decoder.i64())?),
        Type::U64 => Val::U64(integer(decoder, ty, form, |decoder| decoder.u64())?),
        Type::S32 => Val::S32(integer(decoder, ty, form, |decoder| decoder.i32())?),
        Type::U32 => Val::U32(integer(decoder, ty, form, |decoder| decoder.u32())?),
        Type::S16 => Val::S16(integer(decoder, ty, form, |decoder| decoder.i16())?),
        Type::U16 => Val::U16(integer(decoder, ty, form, |decoder| decoder.u16())?),
        Type::S8 => Val::S8(integer(decoder, ty, form, |decoder| decoder.i8())?),
        Type::U8 => Val::U8(integer(decoder, ty, form, |decoder| decoder.u8())?),
        Type::F64 => Val::Float64(float(decoder, ty, form)?),
        Type::F32 => Val::Float32(narrow(decoder, ty, form)?),
        Type::Bool => Val::Bool(scalar(decoder, ty, |decoder| decoder.bool().ok())?),
        Type::String => {
            Val::String(scalar(decoder, ty, |decoder| Some(cbor::text(decoder).ok()?.into_owned()))?)
        }
        Type::Char => Val::Char(scalar(decoder, ty, one_char)?),
        Type::Enum(names) => Val::Enum(scalar(decoder, ty, |decoder| known(decoder, names))?),
        compound => self::compound(decoder, compound, form, depth)?,
    })
}

fn compound(decoder: &mut Decoder<'_>, ty: &Type, form: Form, depth: usize) -> Result<Val, Wrongs> {
    if depth >= NESTING_MAX {
        return Err(Wrongs::deep());
    }
    let depth = depth + 1;
    match ty {
        Type::List(element) => list(decoder, ty, element, form, depth),
        Type::Record(fields) => record(decoder, ty, fields, form, depth),
        Type::Tuple(types) => tuple(decoder, ty, types, form, depth),
        Type::Variant(cases) => variant(decoder, ty, cases, form, depth),
        Type::Flags(names) => flags(decoder, ty, names),
        Type::Option(inner) => option(decoder, inner, form, depth),
        Type::Result { ok, err } => result(decoder, ty, (ok.as_deref(), err.as_deref()), form, depth),
        _ => Err(Wrongs::uncallable(ty)),
    }
}

fn integer<'b, T: FromStr>(
    decoder: &mut Decoder<'b>,
    ty: &Type,
    form: Form,
    read: impl Fn(&mut Decoder<'b>) -> Result<T, Error>,
) -> Result<T, Wrongs> {
    let start = decoder.position();
    if let Ok(number) = read(decoder) {
        return Ok(number);
    }
    decoder.set_position(start);
    scalar(decoder, ty, |decoder| match form {
        Form::Cbor => None,
        _ => cbor::text(decoder).ok()?.parse().ok(),
    })
}

/// Reads by `read`; where it finds nothing, says what came instead.
fn scalar<'b, T>(
    decoder: &mut Decoder<'b>,
    ty: &Type,
    read: impl FnOnce(&mut Decoder<'b>) -> Option<T>,
) -> Result<T, Wrongs> {
    let start = decoder.position();
    read(decoder).ok_or_else(|| Wrongs::wants(decoder, start, ty))
}

fn float(decoder: &mut Decoder<'_>, ty: &Type, form: Form) -> Result<f64, Wrongs> {
    scalar(decoder, ty, |decoder| match decoder.datatype().ok()? {
        CborType::F16 | CborType::F32 | CborType::F64 => cbor::float(decoder).ok(),
        CborType::String | CborType::StringIndef if form != Form::Cbor => match &*cbor::text(decoder).ok()? {
            "NaN" => Some(f64::NAN),
            "inf" => Some(f64::INFINITY),
            "-inf" => Some(f64::NEG_INFINITY),
            _ => None,
        },
        // As close as a float comes: whoever writes 3 for a float means 3.0.
        _ => Some(i128::from(decoder.int().ok()?) as f64),
    })
    .map(|number| if number.is_nan() { f64::NAN } else { number })
}

/// Reads a 32-bit float. Digits beyond its width are rounded away, as JSON has no other floats; a number that is
/// too large for it is refused rather than made infinite.
fn narrow(decoder: &mut Decoder<'_>, ty: &Type, form: Form) -> Result<f32, Wrongs> {
    let start = decoder.position();
    let wide = float(decoder, ty, form)?;
    let number = wide as f32;
    if number.is_infinite() && wide.is_finite() {
        return Err(Wrongs::wants(decoder, start, ty));
    }
    Ok(if number.is_nan() { f32::NAN } else { number })
}

fn one_char(decoder: &mut Decoder<'_>) -> Option<char> {
    let text = cbor::text(decoder).ok()?;
    let mut chars = text.chars();
    chars.next().filter(|_| chars.next().is_none())
}

/// Reads a text that is one of the names.
fn known(decoder: &mut Decoder<'_>, names: &[String]) -> Option<String> {
    let text = cbor::text(decoder).ok()?;
    names.iter().find(|name| **name == *text).cloned()
}

fn list(
    decoder: &mut Decoder<'_>,
    ty: &Type,
    element: &Type,
    form: Form,
    depth: usize,
) -> Result<Val, Wrongs> {
    let octets = |bytes: &[u8]| Val::List(bytes.iter().copied().map(Val::U8).collect());
    let start = decoder.position();
    match decoder.datatype()? {
        CborType::Array | CborType::ArrayIndef => {}
        CborType::Bytes | CborType::BytesIndef if *element == Type::U8 => {
            return Ok(octets(&cbor::bytes(decoder)?));
        }
        CborType::String | CborType::StringIndef if *element == Type::U8 && form != Form::Cbor => {
            let bytes = BASE64.decode(cbor::text(decoder)?.as_bytes());
            return bytes.map(|bytes| octets(&bytes)).map_err(|_| Wrongs::wants(decoder, start, ty));
        }
        _ => return Err(Wrongs::wants(decoder, start, ty)),
    }
    let mut items = Items::array(decoder)?;
    let mut vals = Vec::with_capacity(items.announced(RESERVE_MAX));
    while items.more(decoder)? {
        let val = value(decoder, element, form, depth).map_err(|wrongs| wrongs.within_item(vals.len()))?;
        vals.push(val);
    }
    Ok(Val::List(vals))
}

fn record(
    decoder: &mut Decoder<'_>,
    ty: &Type,
    fields: &[Field],
    form: Form,
    depth: usize,
) -> Result<Val, Wrongs> {
    let came = decoder.datatype()?;
    if !matches!(came, CborType::Map | CborType::MapIndef | CborType::Array | CborType::ArrayIndef) {
        return Err(Wrongs::wants_here(decoder, ty));
    }
    let vals = members(decoder, fields, |decoder, field| value(decoder, &field.ty, form, depth))?;
    Ok(Val::Record(fields.iter().map(|field| field.name.clone()).zip(vals).collect()))
}

fn tuple(
    decoder: &mut Decoder<'_>,
    ty: &Type,
    types: &[Type],
    form: Form,
    depth: usize,
) -> Result<Val, Wrongs> {
    let mut items = array(decoder, ty)?;
    let mut vals = Vec::with_capacity(types.len());
    for part in types {
        if !items.more(decoder)? {
            return Err(Wrongs::unfit(ty, format!("a list of {}", vals.len())));
        }
        vals.push(value(decoder, part, form, depth).map_err(|wrongs| wrongs.within_item(vals.len()))?);
    }
    if items.more(decoder)? {
        return Err(Wrongs::unfit(ty, "a longer list".to_owned()));
    }
    Ok(Val::Tuple(vals))
}

/// Enters an array, or says what came instead.
fn array(decoder: &mut Decoder<'_>, ty: &Type) -> Result<Items, Wrongs> {
    match decoder.datatype()? {
        CborType::Array | CborType::ArrayIndef => Ok(Items::array(decoder)?),
        _ => Err(Wrongs::wants_here(decoder, ty)),
    }
}

fn variant(
    decoder: &mut Decoder<'_>,
    ty: &Type,
    cases: &[Case],
    form: Form,
    depth: usize,
) -> Result<Val, Wrongs> {
    let start = decoder.position();
    let find = |name: &str| cases.iter().find(|case| case.name == name);
    if matches!(decoder.datatype()?, CborType::String | CborType::StringIndef) {
        let text = cbor::text(decoder)?;
        return match find(&text) {
            Some(Case { name, ty: None }) => Ok(Val::Variant(name.clone(), None)),
            Some(case) => Err(Wrongs::unfit(ty, format!("{:?} without its value", case.name))),
            None => Err(Wrongs::wants(decoder, start, ty)),
        };
    }
    single(decoder, ty, |decoder, key| {
        let Some(case) = find(key) else { return Ok(None) };
        let payload = payload(decoder, case.ty.as_ref(), form, depth);
        payload
            .map(|payload| Some(Val::Variant(case.name.clone(), payload)))
            .map_err(|wrongs| wrongs.within(key))
    })
}

fn result(
    decoder: &mut Decoder<'_>,
    ty: &Type,
    (ok, err): (Option<&Type>, Option<&Type>),
    form: Form,
    depth: usize,
) -> Result<Val, Wrongs> {
    single(decoder, ty, |decoder, key| {
        let result = match key {
            "ok" => payload(decoder, ok, form, depth).map(Ok),
            "err" => payload(decoder, err, form, depth).map(Err),
            _ => return Ok(None),
        };
        result.map(|result| Some(Val::Result(result))).map_err(|wrongs| wrongs.within(key))
    })
}

/// Reads a map of one entry, whose value is read by key. `None` from `read` means an unknown key.
fn single<'b>(
    decoder: &mut Decoder<'b>,
    ty: &Type,
    read: impl FnOnce(&mut Decoder<'b>, &str) -> Result<Option<Val>, Wrongs>,
) -> Result<Val, Wrongs> {
    if !matches!(decoder.datatype()?, CborType::Map | CborType::MapIndef) {
        return Err(Wrongs::wants_here(decoder, ty));
    }
    let mut entries = Items::map(decoder)?;
    if !entries.more(decoder)? {
        return Err(Wrongs::unfit(ty, "an empty map".to_owned()));
    }
    let key = cbor::text(decoder)?;
    let Some(val) = read(decoder, &key)? else {
        return Err(Wrongs::unfit(ty, format!("a map with the key {:?}", crate::words::id::clip(&key))));
    };
    if entries.more(decoder)? {
        return Err(Wrongs::unfit(ty, "a map of several entries".to_owned()));
    }
    Ok(val)
}

/// Reads the payload of a case; `null` where the case has none.
fn payload(
    decoder: &mut Decoder<'_>,
    ty: Option<&Type>,
    form: Form,
    depth: usize,
) -> Result<Option<Box<Val>>, Wrongs> {
    match ty {
        Some(ty) => value(decoder, ty, form, depth).map(|val| Some(Box::new(val))),
        None if decoder.datatype()? == CborType::Null => {
            decoder.skip()?;
            Ok(None)
        }
        None => Err(Wrongs::no_payload(decoder)),
    }
}

fn flags(decoder: &mut Decoder<'_>, ty: &Type, names: &[String]) -> Result<Val, Wrongs> {
    let mut items = array(decoder, ty)?;
    let mut set: Vec<String> = Vec::new();
    while items.more(decoder)? {
        let index = set.len();
        let name = scalar(decoder, ty, |decoder| known(decoder, names))
            .map_err(|wrongs| wrongs.within_item(index))?;
        if set.contains(&name) {
            return Err(Wrongs::twice(&name));
        }
        set.push(name);
    }
    Ok(Val::Flags(set))
}

/// `null`, or the value. An option directly inside is a list of none or one, whose item may again be `null`.
fn option(decoder: &mut Decoder<'_>, inner: &Type, form: Form, depth: usize) -> Result<Val, Wrongs> {
    if decoder.datatype()? == CborType::Null {
        decoder.skip()?;
        return Ok(Val::Option(None));
    }
    let val = match inner {
        Type::Option(boxed) => {
            let mut items = array(decoder, inner)?;
            let val = match items.more(decoder)? {
                true => Some(Box::new(value(decoder, boxed, form, depth + 1)?)),
                false => None,
            };
            if items.more(decoder)? {
                return Err(Wrongs::unfit(inner, "a longer list".to_owned()));
            }
            Val::Option(val)
        }
        inner => value(decoder, inner, form, depth)?,
    };
    Ok(Val::Option(Some(Box::new(val))))
}
