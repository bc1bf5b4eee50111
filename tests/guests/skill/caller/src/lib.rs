//! `caller`: what a skill can do with other skills.

use midplane_sdk::host::{self, Error, Items, invoke};
use midplane_sdk::serde_json::{Value, from_str, json};

midplane_sdk::skill!(Caller);

struct Caller;

fn start(name: &str, function: &str, arguments: &str) -> Result<Items, Error> {
    host::stream(name, function, &from_str(arguments).expect("JSON"))
}

fn begin(
    name: String,
    function: String,
    form: invoke::Form,
    arguments: Vec<u8>,
    timeout: Option<u64>,
) -> Result<Vec<u8>, Error> {
    let call = invoke::Call { name, function, form, arguments, timeout, idempotent: false };
    let reply = invoke::start(&call)?;
    let mut all = Vec::new();
    while let Some(piece) = reply.next()? {
        all.extend(piece);
    }
    Ok(all)
}

impl Guest for Caller {
    fn call(name: String, function: String, arguments: String) -> Result<Vec<String>, String> {
        let items = start(&name, &function, &arguments).map_err(|error| error.to_string())?;
        items.map(|item| item.map(|item| item.to_string()).map_err(|error| error.to_string())).collect()
    }

    fn error_value(name: String, function: String, arguments: String) -> Option<String> {
        let end = start(&name, &function, &arguments).and_then(|items| items.collect::<Result<Vec<_>, _>>());
        end.err()?.value
    }

    fn first(name: String, function: String, arguments: String, count: u32) -> Result<Vec<String>, String> {
        let items = start(&name, &function, &arguments).map_err(|error| error.to_string())?;
        let first = items.take(count as usize);
        first.map(|item| item.map(|item| item.to_string()).map_err(|error| error.to_string())).collect()
    }

    fn bounce(to: String, back: String) -> (u32, String) {
        match host::call(&to, "bounce", &json!({"to": back, "back": to})) {
            Ok(Value::Array(answer)) => {
                let depth = answer[0].as_u64().expect("a number") as u32;
                (depth + 1, answer[1].as_str().expect("a text").to_owned())
            }
            Ok(other) => (0, format!("answered with {other}")),
            Err(error) => (0, error.to_string()),
        }
    }

    fn hurried(
        name: String,
        function: String,
        arguments: String,
        timeout: u64,
    ) -> Result<Vec<String>, String> {
        let arguments = arguments.into_bytes();
        let answer = begin(name, function, invoke::Form::Json, arguments, Some(timeout));
        let answer = answer.map_err(|error| error.to_string())?;
        Ok(String::from_utf8(answer).expect("text").lines().map(str::to_owned).collect())
    }

    fn raw(name: String, function: String, arguments: Vec<u8>) -> Result<Vec<u8>, String> {
        begin(name, function, invoke::Form::Cbor, arguments, None).map_err(|error| error.to_string())
    }

    fn peers() -> Vec<(String, String, Vec<String>)> {
        let peers = host::peers::all();
        peers.into_iter().map(|peer| (peer.label, format!("{:?}", peer.trust), peer.tags)).collect()
    }
}
