//! Every value of every type survives; nothing else is taken.

use minicbor::Encoder;
use proptest::prelude::*;

use super::super::*;
use super::through;
use crate::words::json::cbor_to_json;
use crate::words::schema::Case;

/// Types of a few levels, with distinct names.
fn types() -> impl Strategy<Value = Type> {
    let leaf = prop::sample::select(
        "bool s8 u8 s16 u16 s32 u32 s64 u64 f32 f64 char string list<u8> enum{red,green} flags{a,b,c} result"
            .split(' ')
            .collect::<Vec<_>>(),
    )
    .prop_map(|text| text.parse().unwrap());
    leaf.prop_recursive(4, 24, 3, |inner| {
        let boxed = inner.clone().prop_map(Box::new);
        let several = || prop::collection::vec(inner.clone(), 1..4);
        prop_oneof![
            boxed.clone().prop_map(Type::List),
            boxed.clone().prop_map(Type::Option),
            boxed.clone().prop_map(|ty| Type::Option(Box::new(Type::Option(ty)))),
            several().prop_map(Type::Tuple),
            several().prop_map(|types| {
                Type::Record(
                    types
                        .into_iter()
                        .enumerate()
                        .map(|(n, ty)| Field { name: format!("f{n}"), ty })
                        .collect(),
                )
            }),
            prop::collection::vec(prop::option::of(inner.clone()), 1..4).prop_map(|types| {
                Type::Variant(
                    types.into_iter().enumerate().map(|(n, ty)| Case { name: format!("c{n}"), ty }).collect(),
                )
            }),
            (prop::option::of(boxed.clone()), prop::option::of(boxed))
                .prop_map(|(ok, err)| Type::Result { ok, err }),
        ]
    })
}

type Written<'a> = Result<&'a mut Encoder<Vec<u8>>, minicbor::encode::Error<std::convert::Infallible>>;

/// CBOR of one item, or of the beginning of one.
fn cbor(write: impl FnOnce(&mut Encoder<Vec<u8>>) -> Written<'_>) -> Vec<u8> {
    let mut encoder = Encoder::new(Vec::new());
    write(&mut encoder).unwrap();
    encoder.into_writer()
}

fn number<T: Into<i128>>(number: T) -> Vec<u8> {
    let number: minicbor::data::Int = number.into().try_into().unwrap();
    cbor(|out| out.int(number))
}

fn string(text: &str) -> Vec<u8> {
    cbor(|out| out.str(text))
}

fn entry(key: &str, value: &[u8]) -> Vec<u8> {
    [&[0xa1][..], &string(key), value].concat()
}

fn sequence(items: &[Vec<u8>]) -> Vec<u8> {
    [cbor(|out| out.array(items.len() as u64)), items.concat()].concat()
}

fn single(number: f32) -> Vec<u8> {
    let number = if number.is_nan() { f32::NAN } else { number };
    [&[0xfa][..], &number.to_be_bytes()].concat()
}

fn double(number: f64) -> Vec<u8> {
    let number = if number.is_nan() { f64::NAN } else { number };
    [&[0xfb][..], &number.to_be_bytes()].concat()
}

/// Canonical CBOR of values of the type, written without the code under test.
fn values(ty: &Type) -> BoxedStrategy<Vec<u8>> {
    let null = || Just(vec![0xf6]).boxed();
    let payload = |ty: Option<&Type>| ty.map_or_else(null, values);
    match ty {
        Type::Bool => any::<bool>().prop_map(|value| vec![0xf4 + u8::from(value)]).boxed(),
        Type::S8 => any::<i8>().prop_map(number).boxed(),
        Type::U8 => any::<u8>().prop_map(number).boxed(),
        Type::S16 => any::<i16>().prop_map(number).boxed(),
        Type::U16 => any::<u16>().prop_map(number).boxed(),
        Type::S32 => any::<i32>().prop_map(number).boxed(),
        Type::U32 => any::<u32>().prop_map(number).boxed(),
        Type::S64 => any::<i64>().prop_map(number).boxed(),
        Type::U64 => any::<u64>().prop_map(number).boxed(),
        Type::F32 => prop::num::f32::ANY.prop_map(single).boxed(),
        Type::F64 => prop::num::f64::ANY.prop_map(double).boxed(),
        Type::Char => any::<char>().prop_map(|c| string(&c.to_string())).boxed(),
        Type::String => any::<String>().prop_map(|text| string(&text)).boxed(),
        Type::List(element) if **element == Type::U8 => {
            prop::collection::vec(any::<u8>(), 0..40).prop_map(|bytes| cbor(|out| out.bytes(&bytes))).boxed()
        }
        Type::List(element) => {
            prop::collection::vec(values(element), 0..4).prop_map(|items| sequence(&items)).boxed()
        }
        Type::Tuple(types) => {
            types.iter().map(values).collect::<Vec<_>>().prop_map(|items| sequence(&items)).boxed()
        }
        Type::Record(fields) => {
            let header = cbor(|out| out.map(fields.len() as u64));
            let members: Vec<_> = fields
                .iter()
                .map(|field| {
                    let key = string(&field.name);
                    values(&field.ty).prop_map(move |value| [&key[..], &value].concat())
                })
                .collect();
            members.prop_map(move |members| [&header[..], &members.concat()].concat()).boxed()
        }
        Type::Enum(names) => prop::sample::select(names.clone()).prop_map(|name| string(&name)).boxed(),
        Type::Flags(names) => prop::sample::subsequence(names.clone(), 0..=names.len())
            .prop_map(|names| sequence(&names.iter().map(|name| string(name)).collect::<Vec<_>>()))
            .boxed(),
        Type::Variant(cases) => {
            let cases: Vec<_> = cases
                .iter()
                .map(|case| {
                    let name = case.name.clone();
                    match &case.ty {
                        Some(ty) => values(ty).prop_map(move |value| entry(&name, &value)).boxed(),
                        None => Just(string(&name)).boxed(),
                    }
                })
                .collect();
            prop::strategy::Union::new(cases).boxed()
        }
        Type::Option(inner) => match &**inner {
            Type::Option(boxed) => {
                let some = values(boxed).prop_map(|value| sequence(&[value]));
                prop_oneof![null(), Just(vec![0x80]), some].boxed()
            }
            inner => prop_oneof![null(), values(inner)].boxed(),
        },
        Type::Result { ok, err } => prop_oneof![
            payload(ok.as_deref()).prop_map(|value| entry("ok", &value)),
            payload(err.as_deref()).prop_map(|value| entry("err", &value)),
        ]
        .boxed(),
        other => panic!("{other} has no values"),
    }
}

proptest! {
    #[test]
    fn values_survive_as_cbor_and_as_json((ty, bytes) in types().prop_flat_map(|ty| (Just(ty.clone()), values(&ty)))) {
        prop_assert_eq!(ty.to_string().parse::<Type>().unwrap(), ty.clone());
        prop_assert_eq!(&through(&ty, Form::Cbor, &bytes).unwrap(), &bytes);
        let json = cbor_to_json(&bytes).unwrap();
        prop_assert_eq!(&through(&ty, Form::Json, &json_to_cbor(&json)).unwrap(), &bytes);
    }

    #[test]
    fn cut_off_values_are_refused((ty, bytes) in types().prop_flat_map(|ty| (Just(ty.clone()), values(&ty)))) {
        for end in 0..bytes.len() {
            prop_assert!(through(&ty, Form::Cbor, &bytes[..end]).is_err());
        }
    }

    #[test]
    fn any_bytes_are_read_or_refused(ty in types(), bytes in prop::collection::vec(any::<u8>(), 0..64)) {
        for form in [Form::Cbor, Form::Json, Form::Words] {
            if let Err(fault) = through(&ty, form, &bytes) {
                prop_assert_eq!(fault.code, Code::BadArgument);
            }
        }
    }
}
