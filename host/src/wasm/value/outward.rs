//! The other way round: values of a guest become the arguments of a call, and what comes back becomes a value of the guest.

use minicbor::{Decoder, Encoder};
use wasmtime::component::Val;

use super::wrong::Wrongs;
use super::{encode, lower};
use crate::words::fault::{Code, Fault, Outcome};
use crate::words::json::json_to_cbor;
use crate::words::schema::{Form, Function, Type};

/// What stands before the paths in an answer or error that does not fit.
const ANSWER: &str = "answer";
const ERROR: &str = "error";

/// The arguments of a call as CBOR by name, so that a parameter that was renamed is noticed.
pub fn encode_arguments(function: &Function, arguments: &[Val]) -> Outcome<Vec<u8>> {
    let mut out = Vec::new();
    // Writing to a vector cannot fail.
    let _ = Encoder::new(&mut out).map(function.params.len() as u64);
    for (param, value) in function.params.iter().zip(arguments) {
        let _ = Encoder::new(&mut out).str(&param.name);
        encode(&param.ty, value, &mut out)?;
    }
    Ok(out)
}

/// What a function answers with, from what a call of it gave. None where it has no result.
///
/// # Errors
/// `bad-argument` that says which part of the answer is of another type.
pub fn lower_answer(function: &Function, bytes: &[u8]) -> Outcome<Option<Val>> {
    let fault = |wrongs: Wrongs| wrongs.within(ANSWER).fault(function);
    let whole = |ty: Option<&Type>| match ty {
        Some(ty) => exactly(ty, bytes, Form::Cbor).map(|val| Some(Box::new(val))),
        None if bytes.is_empty() => Ok(None),
        None => Err(Wrongs::malformed("there is one, and the function has none")),
    };
    match &function.result {
        Some(Type::Result { ok, .. }) => Ok(Some(Val::Result(Ok(whole(ok.as_deref()).map_err(fault)?)))),
        result => Ok(whole(result.as_ref()).map_err(fault)?.map(|val| *val)),
    }
}

/// The error's own value as CBOR made from JSON. None where there is none to come, or it was too large to come with its failure.
pub fn error_bytes(ty: Option<&Type>, fault: &Fault) -> Option<Vec<u8>> {
    match (ty, &fault.value) {
        (Some(_), Some(value)) => Some(json_to_cbor(value)),
        // An error of `none` is a null, which is left out on the way.
        (Some(Type::Option(_)), None) => Some(json_to_cbor(&serde_json::Value::Null)),
        _ => None,
    }
}

/// A function's own error, from [`error_bytes`].
///
/// # Errors
/// `bad-argument` that says which part of it is of another type, `too-large` where there should be a value and is none.
pub fn lower_error(function: &Function, ty: Option<&Type>, bytes: Option<&[u8]>) -> Outcome<Option<Val>> {
    let error = match (ty, bytes) {
        (None, _) => None,
        (Some(ty), Some(bytes)) => {
            let read = exactly(ty, bytes, Form::Json);
            Some(Box::new(read.map_err(|wrongs| wrongs.within(ERROR).fault(function))?))
        }
        (Some(_), None) => {
            return Err(Fault::new(
                Code::TooLarge,
                "it answered with an error whose value did not come with it",
            ));
        }
    };
    Ok(Some(Val::Result(Err(error))))
}

/// One value and nothing after it.
fn exactly(ty: &Type, bytes: &[u8], form: Form) -> Result<Val, Wrongs> {
    if bytes.is_empty() {
        return Err(Wrongs::unfit(ty, "nothing".to_owned()));
    }
    let mut decoder = Decoder::new(bytes);
    let val = lower::value(&mut decoder, ty, form, 0)?;
    if decoder.position() == bytes.len() {
        Ok(val)
    } else {
        Err(Wrongs::malformed("bytes follow after its end"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ty(text: &str) -> Type {
        text.parse().unwrap()
    }

    fn function(result: Option<&str>) -> Function {
        let result = result.map(ty);
        Function { name: "f".into(), params: Vec::new(), result, is_async: false, docs: None }
    }

    fn cbor(ty: &Type, val: &Val) -> Vec<u8> {
        let mut out = Vec::new();
        encode(ty, val, &mut out).unwrap();
        out
    }

    #[test]
    fn answers_come_back_as_what_they_were() {
        let point = Val::Record(vec![("x".into(), Val::S64(-3)), ("y".into(), Val::Option(None))]);
        let record = "record{x: s64, y: option<string>}";
        let bytes = cbor(&ty(record), &point);
        assert_eq!(lower_answer(&function(Some(record)), &bytes).unwrap(), Some(point.clone()));
        let ok = Val::Result(Ok(Some(Box::new(point))));
        assert_eq!(
            lower_answer(&function(Some(&format!("result<{record}, string>"))), &bytes).unwrap(),
            Some(ok)
        );
        assert_eq!(lower_answer(&function(None), &[]).unwrap(), None);
        assert_eq!(
            lower_answer(&function(Some("result<_, string>")), &[]).unwrap(),
            Some(Val::Result(Ok(None)))
        );
    }

    #[test]
    fn an_answer_of_another_type_says_where() {
        let check = |result: Option<&str>, given: &str, val: Val, expect: &str| {
            let fault = lower_answer(&function(result), &cbor(&ty(given), &val)).unwrap_err();
            assert!(fault.code == Code::BadArgument && fault.what.contains(expect), "{fault} lacks {expect}");
        };
        let text = || Val::String("four".into());
        check(Some("s64"), "string", text(), "answer wants s64, got \"four\"");
        let record = Val::Record(vec![("x".into(), text())]);
        check(Some("record{x: s64}"), "record{x: string}", record, "answer.x wants s64, got \"four\"");
        check(None, "string", text(), "answer cannot be read");
        let nothing = lower_answer(&function(Some("result<u8>")), &[]).unwrap_err();
        assert!(nothing.what.contains("answer wants u8, got nothing"), "{nothing}");
        let two = lower_answer(&function(Some("u8")), &[1, 2]).unwrap_err();
        assert!(two.what.contains("bytes follow"), "{two}");
    }

    #[test]
    fn errors_come_back_as_what_they_were() {
        let shape = "variant{dot, circle(f64), named(list<u8>)}";
        for (err, val) in [
            (shape, Val::Variant("dot".into(), None)),
            (shape, Val::Variant("circle".into(), Some(Box::new(Val::Float64(f64::INFINITY))))),
            (shape, Val::Variant("named".into(), Some(Box::new(Val::List(vec![Val::U8(7), Val::U8(0)]))))),
            ("u64", Val::U64(u64::MAX)),
            ("option<string>", Val::Option(None)),
            ("string", Val::String("sorry".into())),
        ] {
            let function = function(Some(&format!("result<_, {err}>")));
            let ty = ty(err);
            let mut fault = super::super::application_error(Some(&ty), Some(&val));
            for on_the_way in [false, true] {
                if on_the_way {
                    fault = crate::words::note::decode_fault(&crate::words::note::encode_fault(&fault));
                }
                let bytes = error_bytes(Some(&ty), &fault);
                let back = lower_error(&function, Some(&ty), bytes.as_deref()).unwrap();
                assert_eq!(back, Some(Val::Result(Err(Some(Box::new(val.clone()))))), "{err}");
            }
        }
        let unit = function(Some("result"));
        assert_eq!(lower_error(&unit, None, None).unwrap(), Some(Val::Result(Err(None))));
        let string = ty("string");
        assert_eq!(lower_error(&unit, Some(&string), None).unwrap_err().code, Code::TooLarge);
        let other = lower_error(&unit, Some(&string), Some(&json_to_cbor(&4.into()))).unwrap_err();
        assert!(other.what.contains("error wants string, got 4"), "{other}");
    }

    #[test]
    fn arguments_go_by_name() {
        let param = |name: &str, text: &str| crate::words::schema::Field { name: name.into(), ty: ty(text) };
        let function = Function { params: vec![param("x", "u8"), param("y", "string")], ..function(None) };
        let vals = [Val::U8(3), Val::String("a".into())];
        let bytes = encode_arguments(&function, &vals).unwrap();
        assert_eq!(super::super::lower_arguments(&function, Form::Cbor, &bytes).unwrap(), vals);
        let renamed = Function { params: vec![param("x", "u8"), param("z", "string")], ..function };
        let fault = super::super::lower_arguments(&renamed, Form::Cbor, &bytes).unwrap_err();
        assert!(fault.what.contains("unknown argument y"), "{fault}");
    }
}
