//! A gateway that is ready for requests: `wasi:http` 0.2 or 0.3, instances by the manifest's rule, one request at a time in each.
//!
//! A request runs in a task that owns the store. The head of the answer comes out of it first; the body is pulled out of the guest as the
//! client takes it. When the answer's body is dropped before its end, so is the task, and the guest with it.

mod answer;

use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use futures::FutureExt;
use futures::channel::oneshot;
use futures::future::Either;
use http::{Method, Request, Response, StatusCode, header};
use http_body_util::BodyExt;
use hyper::body::Body as _;
use tokio::sync::OwnedSemaphorePermit;
use tokio_util::task::AbortOnDropHandle;
use wasmtime::{AsContextMut, Store};
use wasmtime_wasi_http::handler::{Prepared, Proxy, ProxyPre};
use wasmtime_wasi_http::{WasiBody, WasiHttpView, p2, p3};

use self::answer::{Answer, Outflow};
use super::cache::Compiled;
use super::engine::Engines;
use super::guest::{Guest, Plugin, Terms};
use super::instances::{self, Instances, misfit};
use super::places::Places;
use super::preflight::Handler;
use crate::clock::{self, Instant};
use crate::decisions::rights::Rights;
use crate::log::Level;
use crate::words::objects::Instances as Rule;
use crate::words::{Code, Fault, Outcome, Trust};

/// What reports call the exported function.
const FUNCTION: &str = "handle";

/// A gateway with everything prepared: compiled and linked.
pub struct Gateway {
    instances: Instances<Proxy>,
    pre: ProxyPre<Guest>,
}

type Live = instances::Live<Proxy>;

/// A place for one request.
pub struct Place {
    place: OwnedSemaphorePermit,
    now: Instant,
    deadline: Instant,
}

/// A guest that has run.
struct Ran {
    ended: Outcome<()>,
    live: Live,
    place: OwnedSemaphorePermit,
}

impl Gateway {
    /// Links a component and makes one instance of it, so that nothing can be wrong later that could have been seen now.
    pub async fn prepare(
        engines: Engines,
        code: Arc<Compiled>,
        plugin: Arc<Plugin>,
        rule: &Rule,
        handler: Handler,
    ) -> Outcome<Arc<Self>> {
        let (instances, pre) = Instances::link(engines, code, plugin, rule, "requests")?;
        let pre = match handler {
            Handler::P2 => p2::bindings::ProxyPre::new(pre).map(ProxyPre::P2),
            Handler::P3 => p3::bindings::ServicePre::new(pre).map(ProxyPre::P3),
        };
        let pre = pre.map_err(|error| misfit(&instances.plugin, &error))?;
        let gateway = Self { instances, pre };
        let live = gateway.instantiate(gateway.instances.preflight()).await?;
        gateway.instances.keep(live);
        Ok(Arc::new(gateway))
    }

    /// The plugin that this is.
    pub fn plugin(&self) -> &Arc<Plugin> {
        &self.instances.plugin
    }

    /// The places for its requests.
    pub fn places(&self) -> &Places {
        &self.instances.places
    }

    /// A place for one request, and its deadline.
    ///
    /// # Errors
    /// `busy` while there is none.
    pub async fn place(&self) -> Outcome<Place> {
        let now = clock::monotonic();
        let deadline = now + Duration::from_millis(self.plugin().limits.deadline_ms);
        Ok(Place { place: self.instances.place(deadline).await?, now, deadline })
    }

    /// Answers a request. The guest ends at the plugin's deadline, which covers the answer's body.
    ///
    /// # Errors
    /// `deadline`, `trap` and the limits, with a report; `application-error` when the guest gave an error for an answer.
    pub async fn handle(
        self: &Arc<Self>,
        place: Place,
        request: Request<WasiBody>,
    ) -> Outcome<Response<WasiBody>> {
        let Place { place, now, deadline } = place;
        // An HTTP client is nobody whom the mesh knows, so it never counts as full; what a gateway may call is what its entry grants.
        let rights = Rights { trust: Trust::Trusted, ..Rights::own(self.plugin().node.id) };
        let terms = Terms { now, deadline, rights };
        let live = match self.instances.take_idle(terms) {
            Some(live) => live,
            None => Box::pin(self.instantiate(terms)).await?,
        };
        let bodiless = request.method() == Method::HEAD;
        let (sender, answered) = oneshot::channel();
        let run = Box::pin(self.clone().run(live, request, sender, deadline, place));
        // Most guests are at their end when their answer has a head. Only one that is not gets a task.
        let (response, run) = match futures::future::select(run, answered).await {
            Either::Left((ran, answered)) => {
                let Ran { ended, live, place } = ran;
                ended?;
                let response = answered.now_or_never().and_then(Result::ok).ok_or_else(|| self.silent())?;
                (response, Either::Left(Ran { ended: Ok(()), live, place }))
            }
            Either::Right((Ok(response), run)) => (response, Either::Right(run)),
            Either::Right((Err(_), run)) => {
                return Err(run.await.ended.err().unwrap_or_else(|| self.silent()));
            }
        };
        let response = response.map_err(|error| self.own_error(&error).unwrap_or_else(|| self.silent()))?;
        let (head, body) = response.into_parts();
        let bodiless = bodiless
            || matches!(head.status, StatusCode::NO_CONTENT | StatusCode::NOT_MODIFIED)
            || body.is_end_stream();
        let length = head.headers.get(header::CONTENT_LENGTH);
        let length = length.and_then(|length| length.to_str().ok()?.parse().ok());
        let outflow = Outflow::new(body);
        let task = match run {
            Either::Left(ran) => self.settle(ran, &outflow).map(|()| None)?,
            Either::Right(run) => Some(tokio::spawn(self.clone().go_on(run, outflow.clone()))),
        };
        let (left, task) = (self.plugin().limits.host_bytes, task.map(AbortOnDropHandle::new));
        let answer = Answer { outflow, left, length, ended: bodiless, task, gateway: self.clone() };
        Ok(Response::from_parts(head, answer.boxed_unsync()))
    }

    /// Runs one request to the guest's end.
    async fn run(
        self: Arc<Self>,
        mut live: Live,
        request: Request<WasiBody>,
        answer: oneshot::Sender<Answered>,
        deadline: Instant,
        place: OwnedSemaphorePermit,
    ) -> Ran {
        let guest = Box::pin(drive(&mut live.store, &live.instance, request, answer));
        let ended = self.instances.watch(guest, deadline).await.map_err(|error| {
            let fault = self.own_error(&error);
            fault.unwrap_or_else(|| self.instances.fault(&error, &live.store, FUNCTION))
        });
        Ran { ended, live, place }
    }

    /// Runs a guest on whose answer is on its way: the client sees it break off, and nobody else would say why.
    async fn go_on(self: Arc<Self>, run: impl Future<Output = Ran>, outflow: Arc<Outflow>) {
        if let Err(fault) = self.settle(run.await, &outflow) {
            self.plugin().log.plugin(&self.plugin().slot, Level::Error, &fault.to_string());
        }
    }

    /// Takes the instance back, if its guest has ended well and has left nothing open.
    fn settle(&self, ran: Ran, outflow: &Outflow) -> Outcome<()> {
        let Ran { ended, live, place } = ran;
        if let Err(fault) = ended {
            outflow.guest_broke_down();
            return Err(fault);
        }
        if !outflow.guest_is_over() {
            let what = format!("{} returned before its answer was whole", self.plugin().slot);
            return Err(Fault::new(Code::Trap, what).fix("finish the body before the handler returns"));
        }
        self.instances.give_back(live);
        drop(place);
        Ok(())
    }

    async fn instantiate(&self, terms: Terms) -> Outcome<Live> {
        let mut store = self.instances.store(terms);
        let proxy = {
            let run = pin!(self.pre.instantiate_async(&mut store));
            self.instances.watch(run, terms.deadline).await
        };
        match proxy {
            Ok(proxy) => Ok(Live::new(store, proxy)),
            Err(error) => Err(self.instances.fault(&error, &store, FUNCTION)),
        }
    }

    /// What the guest answered with where an answer should be.
    fn own_error(&self, error: &wasmtime::Error) -> Option<Fault> {
        let code =
            error.downcast_ref::<p2::bindings::http::types::ErrorCode>().map(|code| format!("{code:?}"));
        let code = code.or_else(|| {
            error.downcast_ref::<p3::bindings::http::types::ErrorCode>().map(|code| format!("{code:?}"))
        })?;
        let what = format!("{} answered with the error {code}", self.plugin().slot);
        Some(Fault::new(Code::Application, what))
    }

    fn silent(&self) -> Fault {
        Fault::new(Code::Trap, format!("{} ended without an answer", self.plugin().slot))
    }
}

/// What `wasi:http` gives for a request: the answer, or the guest's own error.
type Answered = wasmtime::Result<Response<WasiBody>>;

/// Calls the handler and lets the guest run until it has nothing more to do.
async fn drive(
    store: &mut Store<Guest>,
    proxy: &Proxy,
    request: Request<WasiBody>,
    answer: oneshot::Sender<Answered>,
) -> wasmtime::Result<()> {
    match proxy {
        Proxy::P2(guest) => {
            let mut http = store.data_mut().http();
            let request = http.new_incoming_request(p2::bindings::http::types::Scheme::Http, request)?;
            let out = http.new_response_outparam_from_callback(move |response| {
                let _ = answer.send(response.map_err(wasmtime::Error::from));
            })?;
            guest.wasi_http_incoming_handler().call_handle(store, request, out).await
        }
        Proxy::P3(_) => {
            let run = store.run_concurrent(async move |accessor| {
                let prepared = accessor.with(|mut store| {
                    Prepared::new(store.as_context_mut(), proxy, request, Guest::http, answer)
                })?;
                prepared.run(accessor, std::future::pending()).await?;
                // Bodies are written after the function has returned.
                std::future::poll_fn(|cx| accessor.poll_no_interesting_tasks(cx)).await;
                Ok(())
            });
            run.await?
        }
    }
}
