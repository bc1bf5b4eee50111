//! `hello`: greets over HTTP, as a handler of `wasi:http` 0.2.

midplane_sdk::gateway!(Hello);

use exports::wasi::http::incoming_handler::Guest;
use wasi::http::types::{Fields, IncomingRequest, OutgoingBody, OutgoingResponse, ResponseOutparam};

struct Hello;

impl Guest for Hello {
    fn handle(request: IncomingRequest, out: ResponseOutparam) {
        let target = request.path_with_query().unwrap_or_default();
        let headers = Fields::new();
        let _ = headers.set("content-type", &[b"text/plain; charset=utf-8".to_vec()]);
        let response = OutgoingResponse::new(headers);
        let body = response.body();
        ResponseOutparam::set(out, Ok(response));
        // A client that has gone away takes nothing; there is nobody to tell.
        if let Ok(body) = body {
            if let Ok(stream) = body.write() {
                let _ = stream.blocking_write_and_flush(greeting(&target).as_bytes());
            }
            let _ = OutgoingBody::finish(body, None);
        }
    }
}

/// `hello, NAME` with the `name` of the query, or `hello, world`.
fn greeting(target: &str) -> String {
    let query = target.split_once('?').map_or("", |(_, query)| query);
    let name = query.split('&').find_map(|pair| pair.strip_prefix("name="));
    let name = name.filter(|name| !name.is_empty() && name.bytes().all(|b| b.is_ascii_alphanumeric()));
    format!("hello, {}\n", name.unwrap_or("world"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn greets_by_name() {
        for (target, expect) in [
            ("/hello", "hello, world\n"),
            ("/hello?name=ada", "hello, ada\n"),
            ("/hello?x=1&name=ada&y=2", "hello, ada\n"),
            ("/hello?name=", "hello, world\n"),
            ("/hello?name=%3Cscript%3E", "hello, world\n"),
        ] {
            assert_eq!(greeting(target), expect, "{target}");
        }
    }
}
