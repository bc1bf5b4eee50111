//! From an HTTP request to the gateway whose mount takes it, and from what goes wrong there to an answer that says nothing of its inside.

use http::header::{CONNECTION, HOST};
use http::uri::{PathAndQuery, Scheme};
use http::{HeaderName, HeaderValue, Request, Response, StatusCode, Uri};
use http_body_util::BodyExt;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use wasmtime_wasi_http::WasiBody;

use super::Node;
use super::canary::Canary;
use super::generation::{Generation, Installed, Runs};
use crate::decisions::http::head::host_name;
use crate::log::Level;
use crate::net::http::Inbound;
use crate::net::http::answer::{self, Form};
use crate::wasm::gateway::Gateway;
use crate::words::mount::Mount;
use crate::words::{Code, Fault};

/// Header of an answer: the digest of the component that gave it.
pub const SERVED_BY: HeaderName = HeaderName::from_static("midplane-served-by");

/// The gateways of a generation, in the order in which their mounts are looked at.
pub fn mounts<'a>(plugins: impl Iterator<Item = &'a Arc<Installed>>) -> Vec<(Mount, Arc<Installed>)> {
    let mounted = plugins.filter_map(|installed| {
        let mount = installed.entry.mount.as_deref()?.parse().ok()?;
        Some((mount, installed.clone()))
    });
    let mut mounts: Vec<(Mount, Arc<Installed>)> = mounted.collect();
    mounts.sort_by_key(|(mount, _)| std::cmp::Reverse(mount.rank()));
    mounts
}

/// Answers a request whose form was judged. The generation is looked at for each, so that a connection meets what runs now.
pub async fn answer(node: Node, request: Request<Inbound>) -> Response<WasiBody> {
    let form = Form::of(request.headers());
    let Some((gateway, authority, canary)) = find(&node.generation.load(), &request) else {
        let fault = Fault::new(Code::NotFound, "nothing is mounted here")
            .fix("`midplane plugins` on the node lists the mounts");
        return answer::fault(StatusCode::NOT_FOUND, &fault, form);
    };
    let (tried, gateway) = match &canary {
        None => (false, gateway),
        Some(canary) => canary.choose(gateway),
    };
    let (gateway, place) = match gateway.place().await {
        // It was replaced while the request waited for its turn.
        Err(_) if gateway.places().is_closed() => {
            let Some((gateway, _, _)) = find(&node.generation.load(), &request) else {
                return answer::fault(
                    StatusCode::NOT_FOUND,
                    &Fault::new(Code::NotFound, "nothing is mounted here any more"),
                    form,
                );
            };
            let place = gateway.place().await;
            (gateway, place)
        }
        place => (gateway, place),
    };
    let place = match place {
        Ok(place) => place,
        Err(fault) => {
            let (status, public) = public(&fault);
            return answer::fault(status, &public, form);
        }
    };
    let Some(request) = located(request, authority) else {
        return answer::fault(
            StatusCode::BAD_REQUEST,
            &Fault::new(Code::Usage, "the target of the request is no URI"),
            form,
        );
    };
    let (parts, mut body) = request.into_parts();
    if let Err(refusal) = body.limit(gateway.plugin().limits.host_bytes) {
        return answer::refusal(refusal, form);
    }
    let request = Request::from_parts(parts, body.boxed_unsync());
    let answered = match canary {
        None => gateway.handle(place, request).await,
        Some(canary) => Box::pin(canary.handle(tried, &gateway, place, request)).await,
    };
    let mut answer = match answered {
        Ok(answer) => answer,
        Err(fault) => {
            let (status, public) = public(&fault);
            let mut answer = answer::fault(status, &public, form);
            node.note_trap(&fault);
            // A report is long and its lines are the guest's: they are for the operator.
            let plugin = gateway.plugin();
            let mut text = fault.to_string();
            for line in fault.report.iter().flat_map(|report| &report.last_lines) {
                text += &format!(" | {line}");
            }
            plugin.log.plugin(&plugin.slot, Level::Error, &text);
            // What is left of its body nobody reads.
            answer.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
            answer
        }
    };
    // Whatever the guest says of itself under this name.
    if let Ok(digest) = HeaderValue::from_str(&gateway.plugin().digest) {
        answer.headers_mut().insert(SERVED_BY, digest);
    }
    answer
}

/// The gateway for a request, the authority that the request names, and what is tried beside it.
fn find(
    generation: &Generation,
    request: &Request<Inbound>,
) -> Option<(Arc<Gateway>, String, Option<Arc<Canary>>)> {
    let named = request.uri().authority().map(|authority| authority.as_str());
    let header = || request.headers().get(HOST).and_then(|host| host.to_str().ok());
    let authority = named.or_else(header).unwrap_or_default().to_owned();
    let host = host_name(&authority);
    let path = request.uri().path();
    let (_, installed) = generation.mounts.iter().find(|(mount, _)| mount.takes(&host, path))?;
    installed.served.fetch_add(1, Ordering::Relaxed);
    match &installed.runs {
        Runs::Gateway(gateway) => Some((gateway.clone(), authority, installed.canary.canary())),
        Runs::Skill(_) | Runs::Policy(_) => None,
    }
}

/// The request with its host in its URI, where both versions of `wasi:http` look for it.
fn located(mut request: Request<Inbound>, authority: String) -> Option<Request<Inbound>> {
    let target = request.uri().path_and_query().cloned().unwrap_or(PathAndQuery::from_static("/"));
    let uri = Uri::builder().scheme(Scheme::HTTP).authority(authority).path_and_query(target).build();
    *request.uri_mut() = uri.ok()?;
    Some(request)
}

/// What a client hears of a failure.
fn public(fault: &Fault) -> (StatusCode, Fault) {
    let logs = "`midplane logs` on the node says why";
    match fault.code {
        Code::Busy => {
            let busy =
                Fault::new(Code::Busy, "this gateway has no room at the moment").fix("try again in a second");
            (StatusCode::SERVICE_UNAVAILABLE, busy)
        }
        Code::Deadline => {
            let late = Fault::new(Code::Deadline, "the gateway did not answer in time").fix(logs);
            (StatusCode::GATEWAY_TIMEOUT, late)
        }
        Code::Application => {
            let failed = Fault::new(Code::Application, "the gateway answered with an error").fix(logs);
            (StatusCode::BAD_GATEWAY, failed)
        }
        Code::BindingFailed => {
            let failed = Fault::new(Code::BindingFailed, "the gateway did not reach what it needs").fix(logs);
            (StatusCode::BAD_GATEWAY, failed)
        }
        code => {
            let ended = Fault::new(code, "the gateway ended without an answer").fix(logs);
            (StatusCode::INTERNAL_SERVER_ERROR, ended)
        }
    }
}
