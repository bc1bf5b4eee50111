//! `midplane:host/invoke`: calls of other skills by name.

use bytes::Bytes;
use futures::StreamExt;
use wasmtime::component::Resource;

use super::error;
use super::generated::{invoke, types};
use crate::clock;
use crate::wasm::guest::{Guest, Terms};
use crate::wasm::outward::{Nested, Pieces};
use crate::words::json::{cbor_to_json, json_to_cbor, parse};
use crate::words::schema::Form;
use crate::words::{Code, Fault, Outcome, cbor};

/// An answer on its way to a guest. Dropped with its handle or with the store, which cancels the call.
pub struct Reply {
    pieces: Pieces,
    form: invoke::Form,
    /// Ends every wait: a guest that waits longer than its own call has no use for what comes.
    deadline: clock::Instant,
}

impl invoke::Host for Guest {
    async fn start(&mut self, call: invoke::Call) -> wasmtime::Result<Result<Resource<Reply>, types::Error>> {
        self.spend_bytes(call.name.len() + call.function.len() + call.arguments.len())?;
        let form = call.form;
        let nested = match nested(self, call) {
            Ok(nested) => nested,
            Err(fault) => return Ok(Err(error(fault))),
        };
        let deadline = nested.deadline;
        let started = self.plugin.outward.call(nested);
        match within(deadline, started).await {
            Ok(pieces) => Ok(Ok(self.table.push(Reply { pieces, form, deadline })?)),
            Err(fault) => Ok(Err(error(fault))),
        }
    }
}

impl invoke::HostReply for Guest {
    async fn next(
        &mut self,
        reply: Resource<Reply>,
    ) -> wasmtime::Result<Result<Option<Vec<u8>>, types::Error>> {
        let reply = self.table.get_mut(&reply)?;
        let (form, deadline) = (reply.form, reply.deadline);
        let next = within(deadline, async { reply.pieces.next().await.transpose() }).await;
        let piece = match next.and_then(|piece| piece.map(|piece| written(&piece, form)).transpose()) {
            Ok(piece) => piece,
            Err(fault) => return Ok(Err(error(fault))),
        };
        self.spend_bytes(piece.as_ref().map_or(0, Vec::len))?;
        Ok(Ok(piece))
    }

    fn drop(&mut self, reply: Resource<Reply>) -> wasmtime::Result<()> {
        self.table.delete(reply)?;
        Ok(())
    }
}

/// What the guest asks for, with the rights that are left to it.
fn nested(guest: &Guest, call: invoke::Call) -> Outcome<Nested> {
    let Terms { deadline, rights, .. } = *guest.terms();
    let name = call.name.parse()?;
    let rights = rights.nested(&guest.plugin.slot, &guest.plugin.grants.invoke, &name)?;
    let (form, arguments) = match call.form {
        invoke::Form::Cbor => (Form::Cbor, call.arguments),
        invoke::Form::Json => {
            let wrong = |why: &dyn std::fmt::Display| {
                Fault::new(Code::BadArgument, format!("{name}: the arguments are not JSON: {why}"))
            };
            let text = std::str::from_utf8(&call.arguments).map_err(|error| wrong(&error))?;
            (Form::Json, json_to_cbor(&parse(text).map_err(|error| wrong(&error))?))
        }
    };
    let left = clock::left_ms(deadline);
    let deadline = call.timeout.map_or(deadline, |timeout| clock::deadline_in(timeout.min(left)));
    let (function, idempotent) = (call.function, call.idempotent);
    Ok(Nested { name, function, form, arguments, deadline, idempotent, rights })
}

/// Waits until then at the longest.
pub(in crate::interface) async fn within<T>(
    deadline: clock::Instant,
    work: impl Future<Output = Outcome<T>>,
) -> Outcome<T> {
    match tokio::time::timeout_at(deadline, work).await {
        Ok(outcome) => outcome,
        Err(_) => Err(Fault::new(Code::Deadline, "no answer came in time")),
    }
}

/// A CBOR sequence in the form that the guest reads.
fn written(piece: &Bytes, form: invoke::Form) -> Outcome<Vec<u8>> {
    match form {
        invoke::Form::Cbor => Ok(piece.to_vec()),
        invoke::Form::Json => {
            let mut lines = Vec::new();
            for item in cbor::sequence(piece)? {
                if !lines.is_empty() {
                    lines.push(b'\n');
                }
                lines.extend_from_slice(cbor_to_json(item)?.to_string().as_bytes());
            }
            Ok(lines)
        }
    }
}
