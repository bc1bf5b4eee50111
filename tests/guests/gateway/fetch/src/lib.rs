//! `fetch`: a gateway that asks for `?METHOD,SCHEME,AUTHORITY,PATH` and answers with what came.

midplane_sdk::gateway!(Fetch);

use exports::wasi::http::incoming_handler::Guest;
use wasi::http::outgoing_handler;
use wasi::http::types::{
    Fields, IncomingRequest, Method, OutgoingBody, OutgoingRequest, OutgoingResponse, ResponseOutparam,
    Scheme,
};
use wasi::io::streams::StreamError;

struct Fetch;

/// Bytes that are read at a time.
const PIECE: u64 = 16 << 10;

impl Guest for Fetch {
    fn handle(request: IncomingRequest, out: ResponseOutparam) {
        let text = fetch(&request.path_with_query().unwrap_or_default());
        let response = OutgoingResponse::new(Fields::new());
        let body = response.body().unwrap();
        ResponseOutparam::set(out, Ok(response));
        let stream = body.write().unwrap();
        // What one call of `blocking-write-and-flush` takes.
        let _ = text.as_bytes().chunks(4_096).try_for_each(|piece| stream.blocking_write_and_flush(piece));
        drop(stream);
        let _ = OutgoingBody::finish(body, None);
    }
}

/// Asks for `?METHOD,SCHEME,AUTHORITY,PATH` and says what came.
fn fetch(target: &str) -> String {
    let query = target.split_once('?').map_or("", |(_, query)| query);
    let parts: Vec<&str> = query.splitn(4, ',').collect();
    let [method, scheme, authority, path] = parts[..] else {
        return "no METHOD,SCHEME,AUTHORITY,PATH".into();
    };
    let headers = Fields::from_list(&[("x-probe".into(), b"asks".to_vec())]).unwrap();
    let request = OutgoingRequest::new(headers);
    let method = match method {
        "GET" => Method::Get,
        "POST" => Method::Post,
        other => Method::Other(other.into()),
    };
    let scheme = if scheme == "https" { Scheme::Https } else { Scheme::Http };
    if request.set_method(&method).is_err()
        || request.set_scheme(Some(&scheme)).is_err()
        || request.set_authority(Some(authority)).is_err()
        || request.set_path_with_query(Some(path)).is_err()
    {
        return "the host refuses these parts".into();
    }
    let body = request.body().unwrap();
    let _ = OutgoingBody::finish(body, None);
    let future = match outgoing_handler::handle(request, None) {
        Ok(future) => future,
        Err(error) => return format!("{error:?}"),
    };
    future.subscribe().block();
    match future.get() {
        Some(Ok(Ok(response))) => {
            let mut text = format!("{}\n", response.status());
            for (name, value) in response.headers().entries() {
                text += &format!("{name}: {}\n", String::from_utf8_lossy(&value));
            }
            let body = response.consume().unwrap();
            let input = body.stream().unwrap();
            let mut length = 0;
            loop {
                match input.blocking_read(PIECE) {
                    Ok(piece) => {
                        length += piece.len();
                        if length <= 4_096 {
                            text += &String::from_utf8_lossy(&piece);
                        }
                    }
                    Err(StreamError::Closed) => return format!("{text}\nbytes {length}"),
                    Err(StreamError::LastOperationFailed(error)) => {
                        return format!("{text}\nbroke off after {length}: {}", error.to_debug_string());
                    }
                }
            }
        }
        Some(Ok(Err(error))) => format!("{error:?}"),
        _ => "nothing came".into(),
    }
}
