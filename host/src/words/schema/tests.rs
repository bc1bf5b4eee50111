use super::*;

fn ty(text: &str) -> Type {
    text.parse().unwrap()
}

fn function(params: &[(&str, &str)], result: Option<&str>) -> Function {
    Function {
        name: "f".into(),
        params: params.iter().map(|(name, text)| Field { name: (*name).into(), ty: ty(text) }).collect(),
        result: result.map(ty),
        is_async: false,
        docs: None,
    }
}

#[test]
fn types_print_as_wit_and_read_back() {
    let texts = [
        "bool",
        "s8",
        "u8",
        "s16",
        "u16",
        "s32",
        "u32",
        "s64",
        "u64",
        "f32",
        "f64",
        "char",
        "string",
        "list<u8>",
        "option<option<s64>>",
        "tuple<>",
        "tuple<s64, list<string>>",
        "record{x: s64, y: s64}",
        "record{list: list<u8>, a-b: record{c: bool}}",
        "variant{dot, circle(f64), poly(list<tuple<f64, f64>>)}",
        "enum{red, green}",
        "flags{}",
        "flags{a, b-c}",
        "result",
        "result<s64>",
        "result<_, string>",
        "result<list<u8>, enum{a, b}>",
        "stream",
        "stream<u8>",
        "future",
        "future<result<_, string>>",
        "own<file>",
        "borrow<file>",
        "error-context",
        "map<string, list<u8>>",
        "list<u8, 4>",
        "tuple<own<a>, map<string, u8>, list<u8, 4>, bool>",
    ];
    for text in texts {
        let parsed = ty(text);
        assert_eq!(parsed.to_string(), text);
        let json = serde_json::to_string(&parsed).unwrap();
        assert_eq!(serde_json::from_str::<Type>(&json).unwrap(), parsed);
    }
    assert_eq!(ty("own<file>"), Type::Resource("own<file>".into()));
    assert_eq!(ty("list<u8, 4>"), Type::Unsupported("list<u8, 4>".into()));
    assert_eq!(ty("error-context"), Type::Unsupported("error-context".into()));
}

#[test]
fn other_texts_are_refused() {
    let deep = format!("{}u8{}", "list<".repeat(10_000), ">".repeat(10_000));
    for text in [
        "",
        "list",
        "list<",
        "list<u8",
        "list<u8>>",
        "option",
        "record{x}",
        "record{x: }",
        "result<>",
        "result<u8, u8, u8>",
        "enum{a b}",
        "variant{a(}",
        "tuple<u8 u8>",
        "u8, u8",
        "own<a",
        "<",
        &deep,
    ] {
        let parsed = text.parse::<Type>();
        assert!(parsed.is_err(), "{text:?} was taken: {parsed:?}");
    }
}

#[test]
fn signatures_are_wit() {
    let mut add = function(&[("x", "s64"), ("y", "s64")], Some("s64"));
    add.name = "add".into();
    assert_eq!(add.signature(), "add(x: s64, y: s64) -> s64");
    add.is_async = true;
    assert_eq!(add.signature(), "async add(x: s64, y: s64) -> s64");
    assert_eq!(function(&[], None).signature(), "f()");
    let json = serde_json::to_string(&add).unwrap();
    assert_eq!(
        json,
        r#"{"name":"add","params":[{"name":"x","type":"s64"},{"name":"y","type":"s64"}],"result":"s64","async":true}"#
    );
    assert_eq!(serde_json::from_str::<Function>(&json).unwrap(), add);
}

#[test]
fn answers_are_classified() {
    let element = || Type::U64;
    let err = || Some(Type::String);
    for (result, expect) in [
        (None, Answer::Nothing),
        (Some("s64"), Answer::Value),
        (Some("result<s64, string>"), Answer::Value),
        (Some("stream<u64>"), Answer::Stream(element())),
        (Some("stream"), Answer::Value),
        (Some("result<stream<u64>, string>"), Answer::ResultStream { element: element(), err: err() }),
        (Some("result<stream<u64>>"), Answer::ResultStream { element: element(), err: None }),
        (
            Some("tuple<stream<u64>, future<result<_, string>>>"),
            Answer::StreamThenResult { element: element(), err: err() },
        ),
        (
            Some("tuple<stream<u64>, future<result>>"),
            Answer::StreamThenResult { element: element(), err: None },
        ),
        (Some("tuple<stream<u64>, future<result<u8, string>>>"), Answer::Value),
        (Some("tuple<stream<u64>, u8>"), Answer::Value),
    ] {
        assert_eq!(function(&[], result).answer(), expect, "{result:?}");
    }
}

#[test]
fn what_cannot_be_called_says_why() {
    let check = |params: &[(&str, &str)], result: Option<&str>, expect: Option<&str>| {
        let callable = function(params, result).callable();
        match expect {
            None => assert_eq!(callable, Ok(()), "{params:?} {result:?}"),
            Some(why) => {
                let said = callable.unwrap_err();
                assert!(said.contains(why), "{params:?} {result:?}: {said}");
            }
        }
    };
    check(&[("x", "record{a: list<option<u8>>}")], Some("variant{a, b(string)}"), None);
    check(&[("x", "stream<u8>"), ("n", "u8")], Some("stream<option<u64>>"), None);
    check(&[], Some("result<stream<option<list<u8>>>, record{a: u8}>"), None);
    check(&[], Some("tuple<stream<char>, future<result<_, string>>>"), None);
    check(&[("x", "borrow<file>")], None, Some("parameter x: borrow<file> is a resource"));
    check(&[], Some("list<own<file>>"), Some("result: own<file> is a resource"));
    check(&[], Some("option<error-context>"), Some("error-context is not supported"));
    check(&[("x", "list<stream<u8>>")], None, Some("parameter x: stream<u8> lies"));
    check(&[("x", "future<u8>")], None, Some("parameter x: future<u8>"));
    check(&[("x", "stream")], None, Some("parameter x: stream lies"));
    check(&[("x", "stream<record{a: u8}>")], None, Some("parameter x: stream of record{a: u8}"));
    check(&[], Some("stream<stream<u8>>"), Some("result: stream of stream<u8>"));
    check(&[], Some("result<stream<list<u16>>>"), Some("stream of list<u16>"));
    check(&[], Some("stream<tuple<string, u64>>"), Some("result: stream of tuple<string, u64>"));
    check(&[], Some("tuple<stream<u8>, future<result<_, u8>>>"), Some("ends in an error of u8"));
    check(&[], Some("result<stream<u8>, own<file>>"), Some("own<file> is a resource"));
    check(&[], Some("result<u8, future<u8>>"), Some("future<u8> lies"));
    let deep = (0..=NESTING_MAX).fold(Type::U8, |ty, _| Type::List(Box::new(ty)));
    let function = Function { result: Some(deep), ..function(&[], None) };
    assert!(function.callable().unwrap_err().contains("deeper than 64"));
}

#[test]
fn forms_keep_their_numbers() {
    for (form, number) in [(Form::Cbor, 0), (Form::Json, 1), (Form::Words, 2)] {
        assert_eq!(form.number(), number);
        assert_eq!(Form::try_from(number).unwrap(), form);
    }
    assert_eq!(Form::try_from(3).unwrap_err().code, Code::Protocol);
}
