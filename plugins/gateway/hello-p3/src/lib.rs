//! `hello`: greets over HTTP, as a handler of `wasi:http` 0.3.

use midplane_sdk::wit_bindgen::spawn_local;

midplane_sdk::gateway!(Hello);

use exports::wasi::http::handler::Guest;
use wasi::http::types::{ErrorCode, Fields, Request, Response};

struct Hello;

impl Guest for Hello {
    async fn handle(request: Request) -> Result<Response, ErrorCode> {
        let target = request.get_path_with_query().unwrap_or_default();
        let headers = Fields::new();
        let _ = headers.set("content-type", &[b"text/plain; charset=utf-8".to_vec()]);
        let (mut writer, body) = wit_stream::new();
        let (trailers, end) = wit_future::new(|| Ok(None));
        // The host takes the body after the response, so it is written beside this function.
        spawn_local(async move {
            writer.write_all(greeting(&target).into_bytes()).await;
            drop((writer, trailers));
        });
        Ok(Response::new(headers, Some(body), end).0)
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
            ("/hello?name=", "hello, world\n"),
        ] {
            assert_eq!(greeting(target), expect, "{target}");
        }
    }
}
