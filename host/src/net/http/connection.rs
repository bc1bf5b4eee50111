//! One connection, from its first byte to its last.

use std::convert::Infallible;
use std::pin::{Pin, pin};
use std::time::Duration;

use http::{HeaderMap, Request, Response, Version};
use hyper::body::Incoming;
use hyper::server::conn::{http1, http2};
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioTimer};
use tokio::net::TcpStream;
use tokio::sync::watch;
use wasmtime_wasi_http::WasiBody;

use super::answer::{self, Form};
use super::body::{Inbound, Outbound};
use super::io::{Io, Protocol};
use super::watch::{Flight, Watch};
use super::{Limits, answer::fault};
use crate::decisions::http::Refusal;
use crate::decisions::http::head::{self, FIELDS_MAX, Head};

/// Bytes that the HTTP/1 parser holds of what it has not used yet.
const BUFFER: usize = 64 << 10;
/// Requests at a time on one HTTP/2 connection.
const STREAMS: u32 = 64;
/// Bytes of an HTTP/2 stream and connection that are taken before somebody reads them.
const STREAM_WINDOW: u32 = 256 << 10;
const CONNECTION_WINDOW: u32 = 1 << 20;
/// Bytes of answers that wait on one HTTP/2 stream.
const SEND_BUFFER: usize = 256 << 10;
/// Streams that a client may open and reset before anybody could answer, and that this side may have to reset: then the connection ends.
const RESETS: usize = 32;
/// As [`head::HEAD_MAX`].
const HEAD_LIST: u32 = 16 << 10;
/// How long requests in flight may take when the node stops.
const DRAIN: Duration = Duration::from_secs(2);

/// Serves a connection until it ends, or has to.
pub(super) async fn serve<H, F>(
    stream: TcpStream,
    limits: Limits,
    handler: H,
    mut stopping: watch::Receiver<bool>,
) where
    H: Fn(Request<Inbound>) -> F + Clone + Send + 'static,
    F: Future<Output = Response<WasiBody>> + Send + 'static,
{
    // An answer in two writes would wait for the client's delayed acknowledgement.
    let _ = stream.set_nodelay(true);
    let watch = Watch::new();
    let mut io = Io::new(stream, watch.clone());
    // Finding out the protocol has a deadline of its own: the servers behind it have none before their first byte.
    let protocol = tokio::select! {
        protocol = tokio::time::timeout(limits.patience, io.sniff()) => protocol,
        _ = stopping.wait_for(|stop| *stop) => return,
    };
    let Ok(Ok(Some(protocol))) = protocol else { return };
    let service = {
        let watch = watch.clone();
        service_fn(move |request: Request<Incoming>| {
            // Counted as it comes: with HTTP/2 the rest is a task that may run after the next look at the deadlines.
            let (watch, handler, counted) = (watch.clone(), handler.clone(), watch.request());
            async move { Ok::<_, Infallible>(answer_one(request, counted, watch, limits, handler).await) }
        })
    };
    match protocol {
        Protocol::Http1 => {
            let mut builder = http1::Builder::new();
            // Deadlines are the watch's; the parser gets whole heads only.
            builder.timer(TokioTimer::new()).header_read_timeout(limits.idle() * 2);
            builder.max_headers(FIELDS_MAX + 1).max_buf_size(BUFFER).pipeline_flush(true);
            let connection = builder.serve_connection(io, service);
            drive(connection, |connection| connection.graceful_shutdown(), (&watch, &limits), stopping).await;
        }
        Protocol::Http2 => {
            let mut builder = http2::Builder::new(TokioExecutor::new());
            builder.timer(TokioTimer::new());
            builder.keep_alive_interval(limits.patience).keep_alive_timeout(limits.patience);
            builder.max_concurrent_streams(STREAMS).max_header_list_size(HEAD_LIST);
            builder.initial_stream_window_size(STREAM_WINDOW);
            builder.initial_connection_window_size(CONNECTION_WINDOW);
            builder.max_send_buf_size(SEND_BUFFER);
            builder.max_pending_accept_reset_streams(RESETS).max_local_error_reset_streams(RESETS);
            let connection = builder.serve_connection(io, service);
            drive(connection, |connection| connection.graceful_shutdown(), (&watch, &limits), stopping).await;
        }
    }
}

/// Lets a connection run until it ends, until a deadline of it is over, or until the node stops and its requests are answered.
async fn drive<C: Future>(
    connection: C,
    shutdown: impl Fn(Pin<&mut C>),
    (watch, limits): (&Watch, &Limits),
    mut stopping: watch::Receiver<bool>,
) {
    let mut connection = pin!(connection);
    tokio::select! {
        biased;
        _ = connection.as_mut() => return,
        () = overdue(watch, limits) => return,
        _ = stopping.wait_for(|stop| *stop) => {}
    }
    shutdown(connection.as_mut());
    let _ = tokio::time::timeout(DRAIN, connection).await;
}

/// Waits until a deadline of the connection is over.
async fn overdue(watch: &Watch, limits: &Limits) {
    // Deadlines move with each request; looking five times in the shortest of them is cheaper than a timer for each move.
    let mut look = tokio::time::interval(limits.patience / 5);
    loop {
        look.tick().await;
        if let Some(why) = watch.overdue(limits) {
            tracing::debug!("an http connection is closed: {why}");
            return;
        }
    }
}

async fn answer_one<H, F>(
    request: Request<Incoming>,
    (refused, flight): (Option<Refusal>, Flight),
    watch: Watch,
    limits: Limits,
    handler: H,
) -> Response<Outbound>
where
    H: Fn(Request<Inbound>) -> F,
    F: Future<Output = Response<WasiBody>>,
{
    let form = Form::of(request.headers());
    let second = request.version() == Version::HTTP_2;
    let refused = if second { judge(&request).err() } else { refused };
    let mut answer = match refused {
        Some(refusal) => answer::refusal(refusal, form),
        None => {
            let request = request.map(|body| Inbound::new(body, watch.clone(), limits.body()));
            tokio::select! {
                answer = handler(request) => match watch.failure() {
                    None => answer,
                    // What a handler makes of a body that broke off is not why it did.
                    Some(refusal) => answer::refusal(refusal, form),
                },
                refusal = watch.failed() => answer::refusal(refusal, form),
            }
        }
    };
    if answer.status().is_informational() {
        // An upgrade that a guest grants would hand it the connection.
        let what = "the handler answered with a status that is not an answer";
        let refused = crate::words::Fault::new(crate::words::Code::Application, what);
        answer = fault(http::StatusCode::BAD_GATEWAY, &refused, form);
    }
    if second {
        answer.headers_mut().remove(http::header::CONNECTION);
    }
    answer.map(|body| Outbound::new(body, flight))
}

/// Judges a request of HTTP/2, as [`crate::decisions::http::framing`] does it for HTTP/1.
fn judge(request: &Request<Incoming>) -> Result<(), Refusal> {
    let target = request.uri().path_and_query().map_or("/", |target| target.as_str());
    let authority = request.uri().authority().map(|authority| authority.as_str().as_bytes());
    let fields = |headers: &'_ HeaderMap| -> Vec<(Vec<u8>, Vec<u8>)> {
        let field = |(name, value): (&http::HeaderName, &http::HeaderValue)| {
            (name.as_str().as_bytes().to_vec(), value.as_bytes().to_vec())
        };
        headers.iter().map(field).collect()
    };
    let owned = fields(request.headers());
    let fields = owned.iter().map(|(name, value)| (name.as_slice(), value.as_slice())).collect();
    head::judge(&Head {
        version: head::Version::Http2,
        method: request.method().as_str().as_bytes(),
        target: target.as_bytes(),
        authority,
        fields,
    })
    .map(|_| ())
}
