//! Asking a workload whether it is well: before it is published, and again while it is on probation.

use std::sync::Arc;

use http::{Method, Request, StatusCode};
use http_body_util::{BodyExt, Empty};

use super::Node;
use super::generation::Runs;
use crate::clock;
use crate::decisions::rights::Rights;
use crate::wasm::gateway::Gateway;
use crate::wasm::workload::{self, Answer, Workload};
use crate::words::objects::Plugin;
use crate::words::schema::Form;
use crate::words::{Code, Fault, Outcome};

/// Time for one probe. What takes longer is not well, whatever it answers.
const PROBE_MS: u64 = 5_000;
/// CBOR of an empty list: a probe has no arguments.
const NOTHING: &[u8] = &[0x80];

/// Asks what is to run, or runs, by an entry; one without a probe is well.
pub(super) async fn ask(node: &Node, entry: &Plugin, runs: &Runs) -> Outcome<()> {
    match runs {
        Runs::Skill(workload) => skill(node, entry, workload).await,
        Runs::Gateway(gateway) => self::gateway(entry, gateway).await,
        Runs::Policy(_) => Ok(()),
    }
}

/// Calls the function that is a skill's probe. Whatever it answers but an error is well.
async fn skill(node: &Node, entry: &Plugin, workload: &Arc<Workload>) -> Outcome<()> {
    let Some(function) = &entry.probe else { return Ok(()) };
    let request = workload::Request {
        function,
        form: Form::Cbor,
        arguments: NOTHING,
        deadline: clock::deadline_in(PROBE_MS),
        rights: Rights::own(node.identity.id),
    };
    match Box::pin(workload.call(request)).await {
        Ok(Answer::Value(_) | Answer::Stream(_)) => Ok(()),
        Err(fault) => Err(unwell(entry, fault)),
    }
}

/// Asks for the path that is a gateway's probe. A status below 500 is well.
async fn gateway(entry: &Plugin, gateway: &Arc<Gateway>) -> Outcome<()> {
    let Some(path) = &entry.probe else { return Ok(()) };
    let uri = format!("http://probe.invalid{path}");
    let body = Empty::new().map_err(|never| match never {}).boxed_unsync();
    let request = Request::builder().method(Method::GET).uri(uri).body(body).map_err(|error| {
        Fault::new(Code::BadManifest, format!("{}: probe {path:?} is no path: {error}", entry.slot))
    })?;
    let asked = async { gateway.handle(gateway.place().await?, request).await };
    let status = match tokio::time::timeout(std::time::Duration::from_millis(PROBE_MS), Box::pin(asked)).await
    {
        Ok(answered) => answered.map_err(|fault| unwell(entry, fault))?.status(),
        Err(_) => return Err(unwell(entry, Fault::new(Code::Deadline, "no answer came in time"))),
    };
    if status >= StatusCode::INTERNAL_SERVER_ERROR {
        return Err(unwell(entry, Fault::new(Code::Application, format!("it answered {status}"))));
    }
    Ok(())
}

fn unwell(entry: &Plugin, fault: Fault) -> Fault {
    let probe = entry.probe.as_deref().unwrap_or_default();
    let what = format!("{}: its probe {probe} failed: {}", entry.slot, fault.what);
    Fault { what, ..fault }
}
