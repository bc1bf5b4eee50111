//! `probe-p3`: a gateway over `wasi:http` 0.3 that does what the last part of its path says.

use midplane_sdk::wit_bindgen::{StreamResult, spawn_local};

midplane_sdk::gateway!(Probe);

use exports::wasi::http::handler::Guest;
use wasi::http::types::{ErrorCode, Fields, Request, Response};

struct Probe;

/// Bytes that are read at a time.
const PIECE: usize = 16 << 10;

impl Guest for Probe {
    async fn handle(request: Request) -> Result<Response, ErrorCode> {
        let target = request.get_path_with_query().unwrap_or_default();
        let path = target.split('?').next().unwrap_or_default();
        match path.rsplit('/').next().unwrap_or_default() {
            "echo" => Ok(echo(request)),
            "head" => Ok(answer(head(&request).into_bytes(), false)),
            "trap" => panic!("secret words of the guest"),
            "half" => Ok(answer(b"the first half".to_vec(), true)),
            "error" => Err(ErrorCode::ConfigurationError),
            _ => Ok(answer(b"probe has no such thing".to_vec(), false)),
        }
    }
}

fn answer(text: Vec<u8>, trap: bool) -> Response {
    let (mut writer, body) = wit_stream::new();
    let (trailers, end) = wit_future::new(|| Ok(None));
    spawn_local(async move {
        writer.write_all(text).await;
        if trap {
            panic!("secret words in the middle");
        }
        drop((writer, trailers));
    });
    Response::new(Fields::new(), Some(body), end).0
}

/// Sends each piece back before the next one is read.
fn echo(request: Request) -> Response {
    let (result, done) = wit_future::new(|| Ok(()));
    let (mut input, _trailers) = Request::consume_body(request, done);
    let (mut writer, body) = wit_stream::new();
    let (trailers, end) = wit_future::new(|| Ok(None));
    spawn_local(async move {
        let mut buffer = Vec::with_capacity(PIECE);
        loop {
            let (status, piece) = input.read(buffer).await;
            let over = !matches!(status, StreamResult::Complete(_));
            buffer = writer.write_all(piece).await;
            if over || !buffer.is_empty() {
                break;
            }
            buffer.reserve(PIECE);
        }
        drop((writer, trailers, result));
    });
    Response::new(Fields::new(), Some(body), end).0
}

/// What arrived, line by line.
fn head(request: &Request) -> String {
    let method = format!("{:?}", request.get_method());
    let mut text = format!(
        "{method} {} {}\n",
        request.get_authority().unwrap_or_default(),
        request.get_path_with_query().unwrap_or_default()
    );
    for (name, value) in request.get_headers().copy_all() {
        text += &format!("{name}: {}\n", String::from_utf8_lossy(&value));
    }
    text
}
