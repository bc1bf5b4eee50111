//! `adder`: a gateway that answers `?X,Y` with a sum that somebody else makes.

midplane_sdk::gateway!(Adder);

use exports::wasi::http::incoming_handler::Guest;
use tests::adder::sums;
use wasi::http::types::{Fields, IncomingRequest, OutgoingBody, OutgoingResponse, ResponseOutparam};

struct Adder;

impl Guest for Adder {
    fn handle(request: IncomingRequest, out: ResponseOutparam) {
        let target = request.path_with_query().unwrap_or_default();
        let query = target.split_once('?').map_or("", |(_, query)| query);
        let (x, y) = query.split_once(',').expect("X,Y");
        let sum = sums::add(x.parse().expect("a number"), y.parse().expect("a number"));
        let response = OutgoingResponse::new(Fields::new());
        let body = response.body().unwrap();
        ResponseOutparam::set(out, Ok(response));
        let stream = body.write().unwrap();
        let _ = stream.blocking_write_and_flush(sum.to_string().as_bytes());
        drop(stream);
        let _ = OutgoingBody::finish(body, None);
    }
}
