//! HTTP by itself: hyper that answers, and hyper with a handler of `wasi:http` behind it, without limits, deadlines, mounts or scanning.

use std::convert::Infallible;
use std::net::SocketAddr;

use bytes::Bytes;
use http::{Request, Response};
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use tokio::net::TcpListener;
use wasmtime::component::{Component, Linker, ResourceTable};
use wasmtime::{Config, Engine, InstanceAllocationStrategy, PoolingAllocationConfig, Store};
use wasmtime_wasi::{WasiCtx, WasiCtxView, WasiView};
use wasmtime_wasi_http::p2::bindings::ProxyPre;
use wasmtime_wasi_http::p2::bindings::http::types::Scheme;
use wasmtime_wasi_http::{
    Error, RequestOptions, WasiBody, WasiHttpCtx, WasiHttpCtxView, WasiHttpHooks, WasiHttpView, p2,
};

use crate::Failure;

/// Bytes that a pool slot keeps between two instances: all that `hello` touches.
const KEEP: usize = 1 << 20;

/// Serves with this until the bench ends.
async fn serve<F>(answer: impl Fn(Request<Incoming>) -> F + Clone + 'static) -> Result<SocketAddr, Failure>
where
    F: Future<Output = Response<WasiBody>> + 'static,
{
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let address = listener.local_addr()?;
    tokio::task::spawn_local(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let answer = answer.clone();
            let service = service_fn(move |request| {
                let answer = answer(request);
                async move { Ok::<_, Infallible>(answer.await) }
            });
            let _ = stream.set_nodelay(true);
            tokio::task::spawn_local(http1::Builder::new().serve_connection(TokioIo::new(stream), service));
        }
    });
    Ok(address)
}

/// Hyper alone.
pub async fn hyper() -> Result<SocketAddr, Failure> {
    serve(|_| async {
        let body = Full::new(Bytes::from_static(b"hello, world\n")).map_err(|never| match never {});
        Response::new(body.boxed_unsync())
    })
    .await
}

/// Hyper and a component with a fresh instance for each request, from a pool that suits it.
pub async fn wasmtime(component: &[u8]) -> Result<SocketAddr, Failure> {
    let mut pool = PoolingAllocationConfig::new();
    let scan = PoolingAllocationConfig::is_pagemap_scan_available();
    pool.total_component_instances(1_000).total_memories(1_000).total_stacks(1_000);
    pool.linear_memory_keep_resident(if scan { KEEP } else { 64 << 10 }).table_keep_resident(64 << 10);
    pool.pagemap_scan(if scan { wasmtime::Enabled::Yes } else { wasmtime::Enabled::No });
    let mut config = Config::new();
    config.wasm_component_model_async(false).concurrency_support(false).gc_support(false);
    config.allocation_strategy(InstanceAllocationStrategy::Pooling(pool));
    let engine = Engine::new(&config)?;
    let mut linker = Linker::new(&engine);
    p2::add_to_linker_async(&mut linker)?;
    let pre = ProxyPre::new(linker.instantiate_pre(&Component::new(&engine, component)?)?)?;
    serve(move |request| {
        let pre = pre.clone();
        async move { handle(&pre, request).await.expect("the floor answers") }
    })
    .await
}

async fn handle(pre: &ProxyPre<State>, request: Request<Incoming>) -> Result<Response<WasiBody>, Failure> {
    let state = State {
        table: ResourceTable::new(),
        wasi: WasiCtx::builder().build(),
        http: WasiHttpCtx::new(),
        hooks: NoRequests,
    };
    let mut store = Store::new(pre.engine(), state);
    let (sender, answer) = tokio::sync::oneshot::channel();
    let request = store.data_mut().http().new_incoming_request(Scheme::Http, request)?;
    let out = store.data_mut().http().new_response_outparam(sender)?;
    let pre = pre.clone();
    // A task of its own, because the body is written after the head.
    tokio::spawn(async move {
        let proxy = pre.instantiate_async(&mut store).await?;
        proxy.wasi_http_incoming_handler().call_handle(store, request, out).await
    });
    Ok(answer.await??)
}

struct State {
    table: ResourceTable,
    wasi: WasiCtx,
    http: WasiHttpCtx,
    hooks: NoRequests,
}

impl WasiView for State {
    fn ctx(&mut self) -> WasiCtxView<'_> {
        WasiCtxView { ctx: &mut self.wasi, table: &mut self.table }
    }
}

impl WasiHttpView for State {
    fn http(&mut self) -> WasiHttpCtxView<'_> {
        WasiHttpCtxView { hooks: &mut self.hooks, table: &mut self.table, ctx: &mut self.http }
    }
}

struct NoRequests;

type Sent = (Response<WasiBody>, Box<dyn Future<Output = Result<(), Error>> + Send>);

impl WasiHttpHooks for NoRequests {
    fn send_request(
        &mut self,
        _: Request<WasiBody>,
        _: Option<RequestOptions>,
        _: Box<dyn Future<Output = Result<(), Error>> + Send>,
    ) -> Box<dyn Future<Output = Result<Sent, Error>> + Send> {
        Box::new(async { Err(Error::HttpRequestDenied) })
    }
}
