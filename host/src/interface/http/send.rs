//! A request out of a guest: allowed by a grant, to an address that was looked at, and to no other.
//!
//! The name is looked up once, every address is checked, and the connection goes to one of those very addresses. No redirect is followed,
//! no proxy is asked, and no connection is used twice.

use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::{Buf, Bytes};
use http::{Request, Uri};
use http_body_util::BodyExt;
use hyper::body::{Body, Frame, SizeHint};
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use rustls::pki_types::ServerName;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio::sync::OwnedSemaphorePermit;
use tokio::time::{Sleep, timeout};
use tokio_rustls::TlsConnector;
use wasmtime_wasi_http::{Error, RequestOptions, WasiBody};

use super::{Sent, tls};
use crate::clock;
use crate::decisions::http::egress::{Wish, granted, may_reach};
use crate::log::Level;
use crate::wasm::guest::Plugin;
use crate::words::egress::{Egress, Host};

/// For the look-up, and for connecting, TLS included.
const CONNECT: Duration = Duration::from_secs(10);
/// For the head of the answer, and between two pieces of its body. A guest may ask for less.
const ANSWER: Duration = Duration::from_secs(30);
/// Addresses of a name that are tried.
const ADDRESSES: usize = 4;
/// Fields of an answer's head, and bytes that are held of it.
const FIELDS: usize = 64;
const BUFFER: usize = 64 << 10;

/// Sends a request, if the plugin may.
pub(super) async fn send(
    plugin: Arc<Plugin>,
    request: Request<WasiBody>,
    options: Option<RequestOptions>,
    place: OwnedSemaphorePermit,
) -> Result<Sent, Error> {
    let (line, wish) = allowed(&plugin, &request)?;
    let least = |asked: Option<Duration>, most: Duration| asked.unwrap_or(most).min(most);
    let connect = least(options.and_then(|options| options.connect_timeout), CONNECT);
    let first = least(options.and_then(|options| options.first_byte_timeout), ANSWER);
    let between = least(options.and_then(|options| options.between_bytes_timeout), ANSWER);
    let stream =
        timeout(connect, open(&plugin, &line, &wish)).await.map_err(|_| Error::ConnectionTimeout)??;
    let mut builder = http1::Builder::new();
    builder.max_headers(FIELDS).max_buf_size(BUFFER);
    let (mut sender, connection) = timeout(connect, builder.handshake(TokioIo::new(stream)))
        .await
        .map_err(|_| Error::ConnectionTimeout)??;
    let limit = plugin.limits.host_bytes;
    let request = prepared(request, limit)?;
    let mut connection = Box::pin(connection);
    let (answer, over) = {
        let answer = timeout(first, sender.send_request(request));
        tokio::pin!(answer);
        tokio::select! {
            biased;
            answer = &mut answer => (answer, false),
            ended = &mut connection => {
                // It has read the answer, or it never will; the sender says which.
                ended?;
                (answer.await, true)
            }
        }
    };
    let answer = answer.map_err(|_| Error::HttpResponseTimeout)??;
    let answer = answer.map(|inner| {
        let reply = Reply { inner, left: limit, between, timer: None, _place: place };
        reply.boxed_unsync()
    });
    // What has ended is not to be asked again.
    let drive = async move { if over { Ok(()) } else { connection.await.map_err(Error::from) } };
    Ok((answer, Box::new(drive)))
}

/// The line of the grants that allows a request.
fn allowed(plugin: &Plugin, request: &Request<WasiBody>) -> Result<(Egress, Wish), Error> {
    let uri = request.uri();
    let (method, authority) =
        (request.method().as_str(), uri.authority().map_or("", |authority| authority.as_str()));
    let tls = uri.scheme() == Some(&http::uri::Scheme::HTTPS);
    let refuse = |why: &str| {
        let scheme = if tls { "https" } else { "http" };
        let what = format!("{method} {scheme}://{authority}{} was refused: {why}", uri.path());
        plugin.log.plugin(&plugin.slot, Level::Warn, &what);
        Error::HttpRequestDenied
    };
    let wish =
        Wish::read(method, tls, authority, uri.path()).map_err(|why| refuse(&format!("the host {why}")))?;
    // What the manifest's rules have let through parses.
    let lines: Vec<Egress> = plugin.grants.http.iter().filter_map(|line| line.parse().ok()).collect();
    let line = granted(&lines, &wish).ok_or_else(|| refuse("no line of grants.http allows it"))?;
    Ok((line.clone(), wish))
}

/// Connects to an address of the host that may be reached.
async fn open(plugin: &Plugin, line: &Egress, wish: &Wish) -> Result<Box<dyn Stream>, Error> {
    let addresses: Vec<SocketAddr> = match &wish.host {
        Host::Address(address) => vec![(*address, wish.port).into()],
        Host::Name(name) => tokio::net::lookup_host((name.as_str(), wish.port))
            .await
            .map_err(|_| Error::DnsError { rcode: None, info_code: None })?
            .collect(),
    };
    // One that may not be reached among others is how a name that changes its mind looks.
    if let Some(address) = addresses.iter().find(|address| !may_reach(line, address.ip())) {
        let what = format!("a request to {:?} was refused: {} is no public address", wish.host, address.ip());
        plugin.log.plugin(&plugin.slot, Level::Warn, &what);
        return Err(Error::DestinationIpProhibited);
    }
    let mut last = Error::DestinationNotFound;
    for address in addresses.into_iter().take(ADDRESSES) {
        match TcpStream::connect(address).await {
            Ok(stream) => {
                let _ = stream.set_nodelay(true);
                return if wish.tls { secure(plugin, stream, wish).await } else { Ok(Box::new(stream)) };
            }
            Err(error) if error.kind() == std::io::ErrorKind::ConnectionRefused => {
                last = Error::ConnectionRefused
            }
            Err(error) => last = Error::Connect(error),
        }
    }
    Err(last)
}

async fn secure(plugin: &Plugin, stream: TcpStream, wish: &Wish) -> Result<Box<dyn Stream>, Error> {
    let name = match &wish.host {
        Host::Address(address) => ServerName::from(*address),
        Host::Name(name) => ServerName::try_from(name.clone()).map_err(|_| Error::TlsCertificateError)?,
    };
    let config = tls::of(plugin.given.tls.as_ref())?;
    match TlsConnector::from(config).connect(name.clone(), stream).await {
        Ok(stream) => Ok(Box::new(stream)),
        Err(error) => {
            let (error, why) = tls::failure(error);
            let what = format!("{}:{} was not asked: {why}", name.to_str(), wish.port);
            plugin.log.plugin(&plugin.slot, Level::Warn, &what);
            Err(error)
        }
    }
}

/// The request as it goes over the connection: its target without scheme and host, its body bounded.
fn prepared(mut request: Request<WasiBody>, limit: u64) -> Result<Request<WasiBody>, Error> {
    let target = request.uri().path_and_query().map_or("/", |target| target.as_str());
    let target = if target.is_empty() { "/" } else { target };
    *request.uri_mut() = target.parse::<Uri>().map_err(|_| Error::HttpRequestUriInvalid)?;
    if request.body().size_hint().lower() > limit {
        return Err(Error::HttpRequestBodySize(None));
    }
    Ok(request.map(|inner| Sending { inner, left: limit }.boxed_unsync()))
}

/// A connection, with TLS or without.
trait Stream: AsyncRead + AsyncWrite + Send + Unpin {}

impl<T: AsyncRead + AsyncWrite + Send + Unpin> Stream for T {}

/// The body of a request, which ends in an error when it grows too large.
struct Sending {
    inner: WasiBody,
    left: u64,
}

impl Body for Sending {
    type Data = Bytes;
    type Error = Error;

    fn poll_frame(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Error>>> {
        let this = self.get_mut();
        let frame = std::task::ready!(Pin::new(&mut this.inner).poll_frame(cx));
        Poll::Ready(match frame {
            Some(Ok(frame)) => Some(spend(&mut this.left, frame).ok_or(Error::HttpRequestBodySize(None))),
            other => other,
        })
    }

    fn is_end_stream(&self) -> bool {
        self.inner.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.inner.size_hint()
    }
}

/// The body of an answer, bounded in bytes and in how long it may be silent.
struct Reply {
    inner: hyper::body::Incoming,
    left: u64,
    between: Duration,
    /// Runs while it is waited for.
    timer: Option<Pin<Box<Sleep>>>,
    _place: OwnedSemaphorePermit,
}

impl Body for Reply {
    type Data = Bytes;
    type Error = Error;

    fn poll_frame(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Error>>> {
        let this = self.get_mut();
        match Pin::new(&mut this.inner).poll_frame(cx) {
            Poll::Ready(frame) => {
                this.timer = None;
                Poll::Ready(match frame {
                    Some(Ok(frame)) => {
                        Some(spend(&mut this.left, frame).ok_or(Error::HttpResponseBodySize(None)))
                    }
                    Some(Err(error)) => Some(Err(error.into())),
                    None => None,
                })
            }
            Poll::Pending => {
                let until = clock::monotonic() + this.between;
                let timer = this.timer.get_or_insert_with(|| Box::pin(tokio::time::sleep_until(until)));
                timer.as_mut().poll(cx).map(|()| Some(Err(Error::ConnectionReadTimeout)))
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        self.inner.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.inner.size_hint()
    }
}

/// Takes a frame off what is left; none when it is more.
fn spend(left: &mut u64, frame: Frame<Bytes>) -> Option<Frame<Bytes>> {
    let bytes = frame.data_ref().map_or(0, |data| data.remaining() as u64);
    *left = left.checked_sub(bytes)?;
    Some(frame)
}
