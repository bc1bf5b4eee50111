mod property;

use std::collections::BTreeMap;

use data_encoding::HEXLOWER;

use super::*;
use crate::words::json::{arguments, cbor_to_json};
use crate::words::schema::NESTING_MAX;

fn function(params: &[(&str, &str)]) -> Function {
    let params =
        params.iter().map(|(name, ty)| Field { name: (*name).into(), ty: ty.parse().unwrap() }).collect();
    Function { name: "f".into(), params, result: None, is_async: false, docs: None }
}

fn hex(text: &str) -> Vec<u8> {
    HEXLOWER.decode(text.replace(' ', "").as_bytes()).unwrap()
}

fn json(text: &str) -> Vec<u8> {
    json_to_cbor(&serde_json::from_str(text).unwrap())
}

fn array_of(item: &[u8]) -> Vec<u8> {
    [&[0x81], item].concat()
}

/// The value of the only argument `v`, lowered and encoded again.
fn through(ty: &Type, form: Form, bytes: &[u8]) -> Outcome<Vec<u8>> {
    let params = vec![Field { name: "v".into(), ty: ty.clone() }];
    let function = Function { params, ..function(&[]) };
    let vals = lower_arguments(&function, form, &array_of(bytes))?;
    let mut out = Vec::new();
    encode(ty, &vals[0], &mut out)?;
    Ok(out)
}

#[test]
fn cbor_is_read_and_written_canonically() {
    // Type, what comes, and what is written for it where that differs.
    for (ty, input, output) in [
        ("bool", "f5", ""),
        ("u8", "18ff", ""),
        ("u8", "190005", "05"),
        ("s8", "387f", ""),
        ("u64", "1bffffffffffffffff", ""),
        ("s64", "3b7fffffffffffffff", ""),
        ("s64", "1a00000007", "07"),
        ("f64", "fb3ff199999999999a", ""),
        ("f64", "f93e00", "fb3ff8000000000000"),
        ("f64", "fa3fc00000", "fb3ff8000000000000"),
        ("f64", "03", "fb4008000000000000"),
        ("f64", "22", "fbc008000000000000"),
        ("f64", "fb7ff8000000000001", "fb7ff8000000000000"),
        ("f64", "fbfff0000000000000", ""),
        ("f32", "fa3dcccccd", ""),
        ("f32", "fb3fb999999999999a", "fa3dcccccd"),
        ("f32", "faffc00001", "fa7fc00000"),
        ("f32", "fb7ff0000000000000", "fa7f800000"),
        ("char", "62c3a4", ""),
        ("string", "60", ""),
        ("string", "7f61616162ff", "626162"),
        ("list<u8>", "430102ff", ""),
        ("list<u8>", "5f410141ffff", "4201ff"),
        ("list<u8>", "83010218ff", "430102ff"),
        ("list<u16>", "8201190100", ""),
        ("list<u16>", "9f0102ff", "820102"),
        ("tuple<u8, string>", "82016161", ""),
        ("record{x: u8, y-z: option<u8>}", "a2617801637 92d7a02", ""),
        ("record{x: u8, y-z: option<u8>}", "a2637 92d7a02617801", "a2617801637 92d7a02"),
        ("record{x: u8, y-z: option<u8>}", "a1617801", "a2617801637 92d7af6"),
        ("record{x: u8, y-z: option<u8>}", "820102", "a2617801637 92d7a02"),
        ("record{x: u8, y-z: option<u8>}", "8101", "a2617801637 92d7af6"),
        ("record{x: u8, y-z: option<u8>}", "bf617801ff", "a2617801637 92d7af6"),
        ("enum{red, green}", "63726564", ""),
        ("variant{a, b(u8)}", "6161", ""),
        ("variant{a, b(u8)}", "a1616107", "!v.a takes no value, got 7"),
        ("variant{a, b(u8)}", "a16161f6", "6161"),
        ("variant{a, b(u8)}", "a1616207", ""),
        ("flags{a, b, c}", "8261616163", ""),
        ("flags{a, b, c}", "80", ""),
        ("option<u8>", "f6", ""),
        ("option<u8>", "07", ""),
        ("option<option<u8>>", "f6", ""),
        ("option<option<u8>>", "80", ""),
        ("option<option<u8>>", "8107", ""),
        ("option<option<option<u8>>>", "81f6", ""),
        ("option<option<option<option<u8>>>>", "818107", ""),
        ("result", "a1626f6bf6", ""),
        ("result<u8, string>", "a1626f6b07", ""),
        ("result<u8, string>", "a1636572726178", ""),
        ("result<_, string>", "a1636572726178", ""),
    ] {
        let parsed: Type = ty.parse().unwrap();
        let got = through(&parsed, Form::Cbor, &hex(input));
        match output.strip_prefix('!') {
            Some(why) => assert_eq!(got.unwrap_err().what, why, "{ty} from {input}"),
            None => {
                let output = if output.is_empty() { input } else { output };
                assert_eq!(HEXLOWER.encode(&got.unwrap()), output.replace(' ', ""), "{ty} from {input}");
            }
        }
    }
}

#[test]
fn json_is_read_and_written() {
    for (ty, input, output) in [
        ("s64", "\"-9223372036854775808\"", ""),
        ("s64", "\"5\"", "5"),
        ("u64", "18446744073709551615", "\"18446744073709551615\""),
        ("u8", "7", ""),
        ("f64", "3", "3.0"),
        ("f64", "0.1", ""),
        ("f32", "0.1", ""),
        ("f64", "\"NaN\"", ""),
        ("f32", "\"-inf\"", ""),
        ("f64", "\"inf\"", ""),
        ("list<u8>", "\"AQL/\"", ""),
        ("list<u8>", "[1,2,255]", "\"AQL/\""),
        ("list<u8>", "\"\"", ""),
        ("char", "\"ä\"", ""),
        ("record{x: s64, y: option<string>}", "{\"x\":1}", "{\"x\":1,\"y\":null}"),
        ("variant{dot, circle(f64)}", "{\"circle\":1.5}", ""),
        ("variant{dot, circle(f64)}", "\"dot\"", ""),
        ("result<list<u8>, string>", "{\"ok\":\"AQ==\"}", ""),
        ("option<option<u8>>", "[]", ""),
        ("list<tuple<u8, flags{a, b}>>", "[[1,[\"a\"]],[2,[]]]", ""),
    ] {
        let parsed: Type = ty.parse().unwrap();
        let got = through(&parsed, Form::Json, &json(input)).unwrap();
        let output = if output.is_empty() { input } else { output };
        assert_eq!(cbor_to_json(&got).unwrap().to_string(), output, "{ty} from {input}");
    }
}

#[test]
fn words_are_read_by_the_type_of_their_parameter() {
    for (ty, word, output) in [
        ("s64", "4", "4"),
        ("s64", "\"4\"", "4"),
        ("s64", "four", "!v wants s64, got \"four\""),
        ("s64", "[4]", "!v wants s64, got a list"),
        ("u8", "300", "!v wants u8, got 300"),
        ("f64", "NaN", "\"NaN\""),
        ("f64", "-inf", "\"-inf\""),
        ("f64", "2", "2.0"),
        ("bool", "true", "true"),
        ("bool", "yes", "!v wants bool, got \"yes\""),
        ("string", "4", "\"4\""),
        ("string", "\"a\"", "\"\\\"a\\\"\""),
        ("string", "", "\"\""),
        ("option<string>", "null", "\"null\""),
        ("option<s64>", "null", "null"),
        ("option<s64>", "5", "5"),
        ("char", "7", "\"7\""),
        ("enum{true, red}", "true", "\"true\""),
        ("enum{red}", "blue", "!v wants enum{red}, got \"blue\""),
        ("option<enum{red}>", "red", "\"red\""),
        ("variant{dot, circle(f64)}", "dot", "\"dot\""),
        ("variant{dot, circle(f64)}", "{\"circle\": 2}", "{\"circle\":2.0}"),
        ("list<u8>", "AQL/", "\"AQL/\""),
        ("list<u8>", "1234", "\"1234\""),
        ("list<u8>", "[1, 2]", "\"AQI=\""),
        ("list<string>", "[\"a\"]", "[\"a\"]"),
        ("record{x: u8}", "{\"x\": 300}", "!v.x wants u8, got 300"),
        (
            "record{x: u8}",
            "{\"x\": 3, \"x\": 4}",
            "!v wants record{x: u8}, got \"{\\\"x\\\": 3, \\\"x\\\": 4}\"",
        ),
    ] {
        let function = function(&[("v", ty)]);
        let (form, bytes) = arguments(&[format!("v={word}")]).unwrap();
        let got = lower_arguments(&function, form, &bytes);
        match output.strip_prefix('!') {
            Some(why) => assert_eq!(got.unwrap_err().what, why, "{ty} from {word}"),
            None => {
                let mut out = Vec::new();
                encode(&function.params[0].ty, &got.unwrap()[0], &mut out).unwrap();
                assert_eq!(cbor_to_json(&out).unwrap().to_string(), output, "{ty} from {word}");
            }
        }
    }
}

#[test]
fn what_does_not_fit_is_named() {
    let check = |params: &[(&str, &str)], input: &str, expect: &str| {
        let function = function(params);
        let fault = lower_arguments(&function, Form::Json, &json(input)).unwrap_err();
        assert_eq!((fault.code, fault.what.as_str()), (Code::BadArgument, expect), "{input}");
        assert_eq!(fault.fix, Some(function.signature()));
    };
    let xy = &[("x", "s64"), ("y", "s64")];
    check(xy, "{\"x\":3,\"y\":\"four\"}", "y wants s64, got \"four\"");
    check(xy, "[3,4.5]", "y wants s64, got 4.5");
    check(xy, "[3]", "missing argument y: s64");
    check(xy, "[]", "missing argument x: s64; missing argument y: s64");
    check(xy, "[1,2,3]", "arguments: at most 2, got more");
    check(xy, "{\"x\":3,\"y\":4,\"z\":[[]]}", "unknown argument z");
    check(
        xy,
        "{\"x\":true,\"y\":null,\"z\":1}",
        "x wants s64, got true; y wants s64, got null; unknown argument z",
    );
    check(xy, "7", "arguments cannot be read: they are neither a map nor a list");
    check(&[], "[1]", "arguments: at most 0, got more");
    let point = &[("point", "record{x: s64, y: option<u8>}")];
    check(point, "[{\"x\":{\"a\":1}}]", "point.x wants s64, got a map");
    check(point, "[{\"y\":1}]", "missing field point.x: s64");
    check(point, "[{\"x\":1,\"z\":1}]", "unknown field point.z");
    check(point, "[{\"x\":1,\"y\":256}]", "point.y wants u8, got 256");
    check(point, "[5]", "point wants record{x: s64, y: option<u8>}, got 5");
    check(point, "[[1,2,3]]", "point: at most 2, got more");
    let items = &[("items", "list<record{n: list<u16>}>")];
    check(items, "[[{\"n\":[]},{\"n\":[1,2,-3]}]]", "items[1].n[2] wants u16, got -3");
    check(&[("b", "list<u8>")], "[\"AQ\"]", "b wants list<u8>, got \"AQ\"");
    check(&[("t", "tuple<u8, u8>")], "[[1]]", "t wants tuple<u8, u8>, got a list of 1");
    check(&[("t", "tuple<u8>")], "[[1,2]]", "t wants tuple<u8>, got a longer list");
    check(&[("c", "char")], "[\"ab\"]", "c wants char, got \"ab\"");
    check(&[("c", "char")], "[\"\"]", "c wants char, got \"\"");
    check(&[("f", "f32")], "[1e300]", "f wants f32, got 1e300");
    check(&[("f", "f64")], "[\"1.5\"]", "f wants f64, got \"1.5\"");
    check(&[("e", "enum{red}")], "[\"Red\"]", "e wants enum{red}, got \"Red\"");
    check(&[("e", "flags{a, b}")], "[[\"a\",\"c\"]]", "e[1] wants flags{a, b}, got \"c\"");
    check(&[("e", "flags{a, b}")], "[[\"a\",\"a\"]]", "field e.a is given twice");
    let shape = &[("shape", "variant{dot, circle(f64)}")];
    check(shape, "[\"circle\"]", "shape wants variant{dot, circle(f64)}, got \"circle\" without its value");
    check(shape, "[{\"oval\":1}]", "shape wants variant{dot, circle(f64)}, got a map with the key \"oval\"");
    check(
        shape,
        "[{\"circle\":1,\"dot\":1}]",
        "shape wants variant{dot, circle(f64)}, got a map of several entries",
    );
    check(shape, "[{}]", "shape wants variant{dot, circle(f64)}, got an empty map");
    check(shape, "[{\"circle\":\"x\"}]", "shape.circle wants f64, got \"x\"");
    check(&[("r", "result<u8>")], "[{\"ok\":\"x\"}]", "r.ok wants u8, got \"x\"");
    check(&[("r", "result<u8>")], "[{\"yes\":1}]", "r wants result<u8>, got a map with the key \"yes\"");
    check(&[("o", "option<option<u8>>")], "[5]", "o wants option<u8>, got 5");
    check(&[("o", "option<option<u8>>")], "[[5,6]]", "o wants option<u8>, got a longer list");
}

#[test]
fn the_cbor_form_knows_no_texts_for_numbers_and_bytes() {
    for (ty, text) in [("s64", "\"5\""), ("f64", "\"NaN\""), ("list<u8>", "\"AQ==\"")] {
        let fault = through(&ty.parse().unwrap(), Form::Cbor, &json(text)).unwrap_err();
        assert_eq!(fault.what, format!("v wants {ty}, got {text}"));
    }
}

#[test]
fn many_mistakes_are_cut_off() {
    let object: BTreeMap<String, u8> = (0..1000).map(|n| (format!("k{n}"), 0)).collect();
    let bytes = json(&serde_json::to_string(&object).unwrap());
    let fault = lower_arguments(&function(&[]), Form::Json, &bytes).unwrap_err();
    assert_eq!(fault.what.matches("unknown argument").count(), 8);
    let long = format!("[\"{}\"]", "x".repeat(100_000));
    let fault = lower_arguments(&function(&[("x", "u8")]), Form::Json, &json(&long)).unwrap_err();
    assert!(fault.what.len() < 200, "{}", fault.what);
}

#[test]
fn hostile_bytes_are_refused() {
    let two = function(&[("x", "s64"), ("y", "list<string>")]);
    let deep = [vec![0x82, 0x01], vec![0x81; 10_000], vec![0]].concat();
    let deep_text = [hex("820181"), vec![0x81; 10_000], vec![0]].concat();
    for (bytes, expect) in [
        (hex(""), "arguments cannot be read"),
        (hex("82"), "x cannot be read: end of input"),
        (hex("8201"), "y cannot be read: end of input"),
        (hex("82018161"), "y[0] cannot be read"),
        (hex("820180ff"), "bytes follow after their end"),
        (hex("9f0180"), "arguments cannot be read"),
        (hex("82ff80"), "x cannot be read"),
        (hex("821c80"), "x cannot be read"),
        (hex("82c10180"), "x wants s64, got a tagged value"),
        (hex("82019b8000000000000000"), "y[0] cannot be read"),
        (hex("82017b8000000000000000"), "y cannot be read"),
        (hex("9b80000000000000000180"), "at most 2, got more"),
        (hex("bb8000000000000000"), "arguments cannot be read"),
        (hex("820181 7b8000000000000000"), "y[0] cannot be read"),
        (hex("a201016179 80"), "arguments cannot be read"),
        (hex("a3617801617801617980"), "argument x is given twice"),
        (hex("820181 61ff"), "y[0] cannot be read"),
        (deep, "y[0] wants string, got a list"),
        (deep_text, "y[0] wants string, got a list"),
    ] {
        let fault = lower_arguments(&two, Form::Cbor, &bytes).unwrap_err();
        assert_eq!(fault.code, Code::BadArgument);
        assert!(
            fault.what.contains(expect),
            "{}: {}",
            HEXLOWER.encode(&bytes[..bytes.len().min(16)]),
            fault.what
        );
    }
    // Words carry JSON text, whose parser has its own limit.
    let word = format!("y={}", "[".repeat(10_000));
    let (form, bytes) = arguments(&["x=1".into(), word]).unwrap();
    assert!(
        lower_arguments(&two, form, &bytes).unwrap_err().what.starts_with("y wants list<string>, got \"[[[")
    );
}

#[test]
fn nesting_ends_where_it_is_said_to() {
    for (depth, fits) in [(NESTING_MAX, true), (NESTING_MAX + 1, false)] {
        let ty = (0..depth).fold(Type::U16, |ty, _| Type::List(Box::new(ty)));
        let bytes = [vec![0x81; depth], vec![7]].concat();
        let got = through(&ty, Form::Cbor, &bytes);
        match fits {
            true => assert_eq!(
                cbor_to_json(&array_of(&got.unwrap())).unwrap(),
                cbor_to_json(&array_of(&bytes)).unwrap()
            ),
            false => assert!(got.unwrap_err().what.ends_with("is nested deeper than 64")),
        }
        let val = (0..depth).fold(Val::U16(7), |val, _| Val::List(vec![val]));
        let mut out = vec![0xee];
        assert_eq!(
            encode(&ty, &val, &mut out).map_err(|fault| fault.code),
            if fits { Ok(()) } else { Err(Code::TooLarge) }
        );
        assert!(fits || out == [0xee]);
    }
}

#[test]
fn a_stream_is_given_as_the_list_of_its_items() {
    let given = |json_text| lower_arguments(&function(&[("s", "stream<u16>")]), Form::Json, &json(json_text));
    assert_eq!(given("[[1, 2]]").unwrap(), [Val::List(vec![Val::U16(1), Val::U16(2)])]);
    assert_eq!(given("[[]]").unwrap(), [Val::List(vec![])]);
    assert_eq!(given("[[\"x\"]]").unwrap_err().code, Code::BadArgument);
    assert_eq!(given("[7]").unwrap_err().code, Code::BadArgument);
}

#[test]
fn types_without_bytes_are_refused() {
    for ty in ["future<u8>", "list<stream<u8>>", "own<file>", "option<error-context>"] {
        let fault = lower_arguments(&function(&[("s", ty)]), Form::Json, &json("[[1]]")).unwrap_err();
        assert_eq!(fault.code, Code::NotCallable, "{ty}: {}", fault.what);
    }
    for (ty, val, code) in [
        ("own<file>", Val::U8(1), Code::NotCallable),
        ("u8", Val::U16(1), Code::Internal),
        ("list<u8>", Val::List(vec![Val::U8(1), Val::S8(1)]), Code::Internal),
        ("record{x: u8}", Val::Record(vec![("y".into(), Val::U8(1))]), Code::Internal),
        ("tuple<u8>", Val::Tuple(vec![]), Code::Internal),
        ("variant{a}", Val::Variant("b".into(), None), Code::Internal),
        ("variant{a(u8)}", Val::Variant("a".into(), None), Code::Internal),
        ("result", Val::Result(Ok(Some(Box::new(Val::U8(1))))), Code::Internal),
        ("option<option<u8>>", Val::Option(Some(Box::new(Val::U8(1)))), Code::Internal),
    ] {
        let mut out = b"before".to_vec();
        assert_eq!(encode(&ty.parse().unwrap(), &val, &mut out).unwrap_err().code, code, "{ty}");
        assert_eq!(out, b"before");
    }
}
