//! `wasi:http`: the types, always linked; requests out of a guest, where `grants.http` is not empty.

mod send;
pub mod tls;

use std::sync::Arc;

use http::Request;
use tokio::sync::Semaphore;
use wasmtime::component::Linker;
use wasmtime_wasi_http::{
    Error, RequestOptions, WasiBody, WasiHttp, WasiHttpCtx, WasiHttpCtxView, WasiHttpHooks, WasiHttpView, p2,
    p3,
};

use crate::wasm::engine::Kind;
use crate::wasm::guest::{Guest, Plugin};
use crate::words::objects::Grants;

/// Requests at a time out of one instance.
const AT_A_TIME: usize = 8;

/// Links the types of `wasi:http`, and with a grant what sends requests.
pub fn add_to_linker(linker: &mut Linker<Guest>, kind: Kind, grants: &Grants) -> wasmtime::Result<()> {
    let options = p2::bindings::LinkOptions::default();
    let concurrent = kind == Kind::Concurrent;
    p2::bindings::http::types::add_to_linker::<_, WasiHttp>(linker, &options.into(), Guest::http)?;
    if concurrent {
        p3::bindings::http::types::add_to_linker::<_, WasiHttp>(linker, Guest::http)?;
    }
    if !grants.http.is_empty() {
        p2::bindings::http::outgoing_handler::add_to_linker::<_, WasiHttp>(linker, Guest::http)?;
        if concurrent {
            p3::bindings::http::client::add_to_linker::<_, WasiHttp>(linker, Guest::http)?;
        }
    }
    Ok(())
}

impl WasiHttpView for Guest {
    fn http(&mut self) -> WasiHttpCtxView<'_> {
        WasiHttpCtxView { hooks: &mut self.http.hooks, table: &mut self.table, ctx: &mut self.http.ctx }
    }
}

/// What `wasi:http` keeps in a store.
pub struct Http {
    ctx: WasiHttpCtx,
    hooks: Hooks,
}

impl Http {
    /// Nothing was sent yet.
    pub fn new(plugin: Arc<Plugin>) -> Self {
        Self { ctx: WasiHttpCtx::default(), hooks: Hooks { plugin, places: None } }
    }
}

/// The host's side of requests.
struct Hooks {
    plugin: Arc<Plugin>,
    /// Made at the first request.
    places: Option<Arc<Semaphore>>,
}

/// What a request out of a guest becomes: an answer, and a future that drives the connection.
type Sent = (http::Response<WasiBody>, Box<dyn Future<Output = Result<(), Error>> + Send>);

impl WasiHttpHooks for Hooks {
    fn send_request(
        &mut self,
        request: Request<WasiBody>,
        options: Option<RequestOptions>,
        _: Box<dyn Future<Output = Result<(), Error>> + Send>,
    ) -> Box<dyn Future<Output = Result<Sent, Error>> + Send> {
        let places = self.places.get_or_insert_with(|| Arc::new(Semaphore::new(AT_A_TIME)));
        match places.clone().try_acquire_owned() {
            Ok(place) => Box::new(send::send(self.plugin.clone(), request, options, place)),
            Err(_) => Box::new(async { Err(Error::ConnectionLimitReached) }),
        }
    }
}
