//! Values through a real component and back, as JSON and as the words of a command line.

use midplane::wasm::workload::Answer;
use midplane::words::json::{arguments, cbor_to_json};
use midplane::words::objects::{Instances, Limits};
use midplane::words::{Code, Outcome};
use midplane_tests::guests::{Bench, PATIENCE, built, call, start};
use serde_json::{Value, json};

/// What is answered when it is not what was asked.
const SAME: Option<Value> = None;

fn scalars() -> Value {
    json!({
        "yes": true, "s-one": -128, "u-one": 255, "s-two": -32768, "u-two": 65535, "s-four": i32::MIN,
        "u-four": u32::MAX, "s-eight": i64::MIN.to_string(), "u-eight": u64::MAX.to_string(), "f-four": 0.5,
        "f-eight": -1.25e300, "letter": "ß", "text": "line\nand \"quotes\" \u{0} 🌍",
    })
}

fn nested() -> Value {
    json!({
        "name": "n", "at": {"named": null}, "all": ["dot", {"circle": 1.5}, {"rectangle": [3, 4]}, {"named": "x"}],
        "rights": ["read", "run-it"], "then": {"err": "no"}, "note": null,
    })
}

/// Function, argument, and the answer where it differs.
fn values() -> Vec<(&'static str, Value, Option<Value>)> {
    let mut sparse = nested();
    sparse.as_object_mut().unwrap().retain(|name, _| name != "at" && name != "note");
    let mut filled = sparse.clone();
    filled["at"] = json!(null);
    filled["note"] = json!(null);
    vec![
        ("echo-scalars", scalars(), SAME),
        ("echo-nested", nested(), SAME),
        ("echo-nested", sparse, Some(filled)),
        (
            "echo-nested",
            json!(["n", null, [], [], {"ok": "red"}, "x"]),
            Some(json!({
                "name": "n", "at": null, "all": [], "rights": [], "then": {"ok": "red"}, "note": "x",
            })),
        ),
        ("echo-colour", json!("dark-blue"), SAME),
        ("echo-rights", json!([]), SAME),
        ("echo-rights", json!(["run-it", "read"]), Some(json!(["read", "run-it"]))),
        ("echo-shape", json!("dot"), SAME),
        ("echo-shape", json!({"circle": 2.0}), SAME),
        ("echo-shape", json!({"rectangle": [1, 2]}), SAME),
        ("echo-shape", json!({"named": null}), SAME),
        ("echo-bytes", json!("AAH/"), SAME),
        ("echo-bytes", json!([0, 1, 255]), Some(json!("AAH/"))),
        ("echo-bytes", json!(""), SAME),
        ("echo-text", json!(""), SAME),
        ("echo-float", json!("NaN"), SAME),
        ("echo-float", json!("-inf"), SAME),
        ("echo-float", json!(5), Some(json!(5.0))),
        ("echo-lists", json!([[], [1], [-1, 32767]]), SAME),
        ("echo-option", json!(null), SAME),
        ("echo-option", json!("null"), SAME),
        ("echo-options", json!(null), SAME),
        ("echo-options", json!([]), SAME),
        ("echo-options", json!([7]), SAME),
        ("echo-results", json!([{"ok": 1}, {"err": "e"}]), SAME),
        ("echo-units", json!([{"ok": null}, {"err": null}, {"err": "e"}]), SAME),
        ("echo-outcome", json!({"ok": 9}), Some(json!(9))),
    ]
}

#[tokio::test]
async fn every_type_survives_the_way_there_and_back() {
    let bench = Bench::default();
    let echo = bench
        .prepare("skill/echo", &built("test/skill/echo"), Limits::default(), Instances::Reuse(5))
        .await
        .unwrap();
    for (function, value, expect) in values() {
        let expect = expect.unwrap_or_else(|| value.clone());
        for arguments in [json!([value]), json!({"x": value})] {
            let answer = call(&echo, function, arguments).await;
            assert_eq!(answer.as_ref(), Ok(&expect), "{function} {value}");
        }
        // The same by the interface's full name, and given as one word: the text itself for texts, otherwise JSON. There is no
        // word for a text that is absent.
        if value.is_null() && function == "echo-option" {
            continue;
        }
        let full = format!("tests:echo/ops@0.1.0#{function}");
        let text = value.as_str().map_or_else(|| value.to_string(), str::to_owned);
        assert_eq!(
            words(&echo, &full, &[&format!("x={text}")]).await.as_ref(),
            Ok(&expect),
            "{function} x={text}"
        );
    }
    assert_eq!(call(&echo, "nothing", json!([null])).await.unwrap(), json!(null));
    assert_eq!(call(&echo, "nothing", json!({})).await.unwrap(), json!(null));
}

async fn words(
    echo: &std::sync::Arc<midplane::wasm::workload::Workload>,
    function: &str,
    words: &[&str],
) -> Outcome<Value> {
    let words: Vec<String> = words.iter().map(|word| (*word).to_owned()).collect();
    let (form, bytes) = arguments(&words)?;
    match start(echo, function, form, &bytes, PATIENCE).await? {
        Answer::Value(bytes) => cbor_to_json(&bytes),
        Answer::Stream(_) => panic!("no stream"),
    }
}

#[tokio::test]
async fn the_error_of_a_result_is_the_failure_of_the_call() {
    let bench = Bench::default();
    let echo = bench
        .prepare("skill/echo", &built("test/skill/echo"), Limits::default(), Instances::Fresh)
        .await
        .unwrap();
    let fault = call(&echo, "echo-outcome", json!([{"err": {"circle": 1.5}}])).await.unwrap_err();
    assert_eq!((fault.code, fault.value.as_deref()), (Code::Application, Some(&json!({"circle": 1.5}))));
}

#[tokio::test]
async fn an_argument_that_does_not_fit_is_named() {
    let bench = Bench::default();
    let echo = bench
        .prepare("skill/echo", &built("test/skill/echo"), Limits::default(), Instances::Fresh)
        .await
        .unwrap();
    for (function, arguments, names) in [
        ("echo-colour", json!(["blue"]), "blue"),
        ("echo-rights", json!([["read", "fly"]]), "fly"),
        ("echo-rights", json!([["read", "read"]]), "read"),
        ("echo-shape", json!([{"square": 1}]), "square"),
        ("echo-shape", json!(["circle"]), "circle"),
        ("echo-bytes", json!(["not base64!"]), "x"),
        ("echo-lists", json!([[[40_000]]]), "40000"),
        ("echo-scalars", json!([{"yes": true}]), "s-one"),
        ("echo-nested", json!([{"name": "n", "wrong": 1}]), "wrong"),
        ("echo-text", json!([1]), "string"),
        ("echo-text", json!([]), "x"),
        ("echo-text", json!(["a", "b"]), "echo-text"),
        ("echo-text", json!({"y": "a"}), "y"),
        ("echo-results", json!([[{"ok": 1, "err": "e"}]]), "x"),
    ] {
        let fault = call(&echo, function, arguments.clone()).await.unwrap_err();
        assert_eq!(fault.code, Code::BadArgument, "{function} {arguments}: {fault}");
        let text = format!("{} {}", fault.what, fault.fix.as_deref().unwrap_or_default());
        assert!(text.contains(names), "{function} {arguments}: {text}");
        assert!(fault.fix.is_some(), "{fault}");
    }
    for (function, code) in [("echo-txet", Code::UnknownFunction), ("", Code::UnknownFunction)] {
        assert_eq!(call(&echo, function, json!([])).await.unwrap_err().code, code);
    }
    let fault = call(&echo, "echo-txet", json!([])).await.unwrap_err();
    assert_eq!(fault.fix.as_deref(), Some("did you mean echo-text?"));
}
