//! `probe`: a gateway over `wasi:http` 0.2 that does what the last part of its path says.

midplane_sdk::gateway!(Probe);

use exports::wasi::http::incoming_handler::Guest;
use wasi::http::types::{
    ErrorCode, Fields, IncomingRequest, Method, OutgoingBody, OutgoingResponse, ResponseOutparam, Scheme,
};
use wasi::io::streams::{OutputStream, StreamError};

struct Probe;

/// Bytes that are read at a time.
const PIECE: u64 = 16 << 10;

impl Guest for Probe {
    fn handle(request: IncomingRequest, out: ResponseOutparam) {
        let target = request.path_with_query().unwrap_or_default();
        let path = target.split('?').next().unwrap_or_default();
        match path.rsplit('/').next().unwrap_or_default() {
            "echo" => echo(request, out),
            "head" => answer(out, 200, head(&request).as_bytes()),
            "trap" => panic!("secret words of the guest"),
            "half" => half(out),
            "open" => open(out, 5),
            "open-long" => open(out, 64 << 10),
            "spin" => loop {
                std::hint::black_box(());
            },
            "silent" => {}
            "error" => ResponseOutparam::set(out, Err(ErrorCode::ConfigurationError)),
            "endless" => endless(out),
            "status" => answer(out, 418, b"short and stout"),
            _ => answer(out, 404, b"probe has no such thing"),
        }
    }
}

fn begin(out: ResponseOutparam, status: u16) -> OutgoingBody {
    let headers = Fields::from_list(&[("x-probe".into(), b"yes".to_vec())]).unwrap();
    let response = OutgoingResponse::new(headers);
    response.set_status_code(status).unwrap();
    let body = response.body().unwrap();
    ResponseOutparam::set(out, Ok(response));
    body
}

fn answer(out: ResponseOutparam, status: u16, text: &[u8]) {
    let body = begin(out, status);
    let stream = body.write().unwrap();
    let _ = write(&stream, text);
    drop(stream);
    let _ = OutgoingBody::finish(body, None);
}

fn write(stream: &OutputStream, bytes: &[u8]) -> Result<(), StreamError> {
    // What one call of `blocking-write-and-flush` takes.
    bytes.chunks(4_096).try_for_each(|piece| stream.blocking_write_and_flush(piece))
}

/// Sends each piece back before the next one is read.
fn echo(request: IncomingRequest, out: ResponseOutparam) {
    let body = begin(out, 200);
    let stream = body.write().unwrap();
    let incoming = request.consume().unwrap();
    {
        let input = incoming.stream().unwrap();
        loop {
            match input.blocking_read(PIECE) {
                Ok(piece) => {
                    if write(&stream, &piece).is_err() {
                        return;
                    }
                }
                Err(StreamError::Closed) => break,
                Err(StreamError::LastOperationFailed(_)) => return,
            }
        }
    }
    drop(stream);
    let _ = OutgoingBody::finish(body, None);
}

/// What arrived, line by line.
fn head(request: &IncomingRequest) -> String {
    let method = match request.method() {
        Method::Get => "GET".to_owned(),
        Method::Put => "PUT".to_owned(),
        Method::Other(method) => method,
        other => format!("{other:?}"),
    };
    let scheme = match request.scheme() {
        Some(Scheme::Http) => "http",
        _ => "other",
    };
    let mut text = format!(
        "{method} {scheme} {} {}\n",
        request.authority().unwrap_or_default(),
        request.path_with_query().unwrap_or_default()
    );
    for (name, value) in request.headers().entries() {
        text += &format!("{name}: {}\n", String::from_utf8_lossy(&value));
    }
    text
}

/// Half an answer, then the end of the guest.
fn half(out: ResponseOutparam) {
    let body = begin(out, 200);
    let stream = body.write().unwrap();
    // More than is held on the way, so that some of it has arrived.
    let _ = write(&stream, &[b'h'; 64 << 10]);
    panic!("secret words in the middle");
}

/// So much of an answer, and never its end: what it is written to outlives the call.
fn open(out: ResponseOutparam, length: usize) {
    let body = begin(out, 200);
    let stream = body.write().unwrap();
    let _ = write(&stream, &vec![b'o'; length]);
    std::mem::forget((stream, body));
}

fn endless(out: ResponseOutparam) {
    let body = begin(out, 200);
    let stream = body.write().unwrap();
    while write(&stream, &[b'x'; 4_096]).is_ok() {}
}
