//! `fetch-p3`: a gateway over `wasi:http` 0.3 that asks for `?METHOD,SCHEME,AUTHORITY,PATH` and answers with what came.

use midplane_sdk::wit_bindgen::{StreamResult, spawn_local};

midplane_sdk::gateway!(Fetch);

use exports::wasi::http::handler::Guest;
use wasi::http::client;
use wasi::http::types::{ErrorCode, Fields, Method, Request, Response, Scheme};

struct Fetch;

/// Bytes that are read at a time.
const PIECE: usize = 16 << 10;

impl Guest for Fetch {
    async fn handle(request: Request) -> Result<Response, ErrorCode> {
        let text = fetch(&request.get_path_with_query().unwrap_or_default()).await;
        let (mut writer, body) = wit_stream::new();
        let (trailers, end) = wit_future::new(|| Ok(None));
        spawn_local(async move {
            writer.write_all(text.into_bytes()).await;
            drop((writer, trailers));
        });
        Ok(Response::new(Fields::new(), Some(body), end).0)
    }
}

/// Asks for `?METHOD,SCHEME,AUTHORITY,PATH`, sending the word `body` along unless the method is GET, and says what came.
async fn fetch(target: &str) -> String {
    let query = target.split_once('?').map_or("", |(_, query)| query);
    let parts: Vec<&str> = query.splitn(4, ',').collect();
    let [method, scheme, authority, path] = parts[..] else {
        return "no METHOD,SCHEME,AUTHORITY,PATH".into();
    };
    let (mut writer, body) = wit_stream::new();
    let (trailers, end) = wit_future::new(|| Ok(None));
    let method = match method {
        "GET" => Method::Get,
        "POST" => Method::Post,
        other => Method::Other(other.into()),
    };
    let sends = !matches!(method, Method::Get);
    spawn_local(async move {
        if sends {
            writer.write_all(b"body".to_vec()).await;
        }
        drop((writer, trailers));
    });
    let headers = Fields::from_list(&[("x-probe".into(), b"asks".to_vec())]).unwrap();
    let (request, _sent) = Request::new(headers, sends.then_some(body), end, None);
    let scheme = if scheme == "https" { Scheme::Https } else { Scheme::Http };
    if request.set_method(&method).is_err()
        || request.set_scheme(Some(&scheme)).is_err()
        || request.set_authority(Some(authority)).is_err()
        || request.set_path_with_query(Some(path)).is_err()
    {
        return "the host refuses these parts".into();
    }
    let response = match client::send(request).await {
        Ok(response) => response,
        Err(error) => return format!("{error:?}"),
    };
    let mut text = format!("{}\n", response.get_status_code());
    for (name, value) in response.get_headers().copy_all() {
        text += &format!("{name}: {}\n", String::from_utf8_lossy(&value));
    }
    let (result, done) = wit_future::new(|| Ok(()));
    let (mut input, _trailers) = Response::consume_body(response, done);
    let (mut buffer, mut length) = (Vec::with_capacity(PIECE), 0);
    loop {
        let (status, piece) = input.read(buffer).await;
        length += piece.len();
        if length <= 4_096 {
            text += &String::from_utf8_lossy(&piece);
        }
        if !matches!(status, StreamResult::Complete(_)) {
            break;
        }
        buffer = piece;
        buffer.clear();
    }
    drop(result);
    format!("{text}\nbytes {length}")
}
