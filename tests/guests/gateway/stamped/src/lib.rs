//! `stamped`: a gateway that says which bytes answered.

midplane_sdk::gateway!(Stamped);

use exports::wasi::http::incoming_handler::Guest;
use wasi::http::types::{Fields, IncomingRequest, OutgoingBody, OutgoingResponse, ResponseOutparam};

struct Stamped;

/// Tests write other digits into the component.
static STAMP: [u8; 22] = *b"stamp=0000000000000000";

impl Guest for Stamped {
    fn handle(_: IncomingRequest, out: ResponseOutparam) {
        // Not known before it runs.
        let stamp = std::hint::black_box(&STAMP);
        let length = vec![stamp.len().to_string().into_bytes()];
        let headers = Fields::new();
        headers.set("content-length", &length).expect("a header");
        let response = OutgoingResponse::new(headers);
        let body = response.body().expect("a body");
        ResponseOutparam::set(out, Ok(response));
        let stream = body.write().expect("a stream");
        let _ = stream.blocking_write_and_flush(stamp);
        drop(stream);
        let _ = OutgoingBody::finish(body, None);
    }
}
