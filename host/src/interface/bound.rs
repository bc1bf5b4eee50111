//! Imports that names of the mesh satisfy: each function of a bound interface is a call of the same function of its name, on behalf
//! of whoever called the plugin and with the time that is left.

use std::sync::Arc;

use futures::StreamExt;
use futures::future::BoxFuture;
use wasmtime::component::{Linker, Val};

use super::host::invoke::within;
use crate::clock::Instant;
use crate::wasm::bound::{Bound, function_of};
use crate::wasm::guest::{BindingFailed, Guest, Terms};
use crate::wasm::outward::{Nested, Pieces};
use crate::wasm::value;
use crate::words::schema::{Form, Function, Type};
use crate::words::{Code, Fault, Name, Outcome};

/// Links every function of the bound interfaces.
pub fn add_to_linker(linker: &mut Linker<Guest>, bound: Vec<Bound>) -> wasmtime::Result<()> {
    for Bound { interface, name, functions } in bound {
        let mut instance = linker.instance(&interface)?;
        for function in functions {
            let called = function_of(&interface, &function.name);
            let (field, is_async) = (function.name.clone(), function.is_async);
            let (interface, name) = (interface.clone(), name.clone());
            let import = Arc::new(Import { interface, name, function, called });
            // Whether a function is async is part of its type: each kind is satisfied by its own.
            if is_async {
                instance.func_new_concurrent(&field, move |accessor, _, arguments, results| {
                    let import = import.clone();
                    Box::pin(async move {
                        let call = accessor.with(|mut access| import.start(access.get(), arguments))?;
                        let answer = call.answer().await;
                        let value = accessor.with(|mut access| import.end(access.get(), answer))?;
                        put(results, value)
                    })
                })?;
            } else {
                instance.func_new_async(&field, move |mut store, _, arguments, results| {
                    let import = import.clone();
                    Box::new(async move {
                        let call = import.start(store.data_mut(), arguments)?;
                        let answer = call.answer().await;
                        let value = import.end(store.data_mut(), answer)?;
                        put(results, value)
                    })
                })?;
            }
        }
    }
    Ok(())
}

/// One function that is satisfied by calls.
struct Import {
    interface: String,
    name: Name,
    function: Function,
    /// What is called: interface and function.
    called: String,
}

/// A call that has begun.
struct Call {
    started: BoxFuture<'static, Outcome<Pieces>>,
    deadline: Instant,
}

impl Call {
    /// The one value that comes; nothing where the function answers with none.
    async fn answer(self) -> Outcome<Vec<u8>> {
        let Self { started, deadline } = self;
        within(deadline, async {
            let mut pieces = started.await?;
            let Some(answer) = pieces.next().await.transpose()? else { return Ok(Vec::new()) };
            match pieces.next().await.transpose()? {
                None => Ok(answer.to_vec()),
                Some(_) => Err(Fault::new(Code::BadArgument, "it answers with a stream")),
            }
        })
        .await
    }
}

impl Import {
    /// Begins the call with the rights that are left to the guest. The binding is the grant to call this name.
    fn start(&self, guest: &mut Guest, arguments: &[Val]) -> wasmtime::Result<Call> {
        let nested = self.nested(guest, arguments).map_err(|cause| self.failed(guest, cause))?;
        guest.spend_bytes(self.name.as_str().len() + nested.function.len() + nested.arguments.len())?;
        let deadline = nested.deadline;
        Ok(Call { started: guest.plugin.outward.call(nested), deadline })
    }

    fn nested(&self, guest: &Guest, arguments: &[Val]) -> Outcome<Nested> {
        let Terms { deadline, rights, .. } = *guest.terms();
        let granted = [self.name.to_string()];
        let rights = rights.nested(&guest.plugin.slot, &granted, &self.name)?;
        let arguments = value::encode_arguments(&self.function, arguments)?;
        let (name, function) = (self.name.clone(), self.called.clone());
        Ok(Nested { name, function, form: Form::Cbor, arguments, deadline, idempotent: false, rights })
    }

    /// The value that the guest gets. Its own kind of error is a value; what is wrong with the mesh ends the guest's call.
    fn end(&self, guest: &mut Guest, answer: Outcome<Vec<u8>>) -> wasmtime::Result<Option<Val>> {
        let value = match (answer, &self.function.result) {
            (Ok(bytes), _) => {
                guest.spend_bytes(bytes.len())?;
                value::lower_answer(&self.function, &bytes).map_err(|wrong| self.differs(wrong))
            }
            (Err(fault), Some(Type::Result { err, .. })) if fault.code == Code::Application => {
                let bytes = value::error_bytes(err.as_deref(), &fault);
                guest.spend_bytes(bytes.as_ref().map_or(0, Vec::len))?;
                value::lower_error(&self.function, err.as_deref(), bytes.as_deref())
                    .map_err(|wrong| self.differs(wrong))
            }
            (Err(fault), _) => Err(self.explained(fault)),
        };
        value.map_err(|cause| self.failed(guest, cause).into())
    }

    /// What the callee says of arguments that do not fit comes with its signature: beside that of the import it shows the difference.
    fn explained(&self, cause: Fault) -> Fault {
        if cause.code != Code::BadArgument {
            return cause;
        }
        let there = cause.fix.clone();
        let fault = self.differs(cause);
        match there {
            Some(there) => fault.fix(format!("the import is {}; {} has {there}", self.function, self.name)),
            None => fault,
        }
    }

    fn differs(&self, wrong: Fault) -> Fault {
        let what = format!("its types are not those of the import: {}", wrong.what);
        Fault { what, ..wrong }.fix(format!("the import is {}", self.function))
    }

    /// Says which binding failed, and why. A deadline stays one; no other code of the cause may be taken for one of the guest's own
    /// call, which has started and must not be tried elsewhere. A report is for the node where the callee was ended.
    fn failed(&self, guest: &Guest, cause: Fault) -> BindingFailed {
        let code = if cause.code == Code::Deadline { Code::Deadline } else { Code::BindingFailed };
        let (slot, Self { interface, name, function, .. }) = (&guest.plugin.slot, self);
        let what = format!("{slot} imports {interface}, bound to {name}: {}: {cause}", function.name);
        BindingFailed(Fault { code, what, fix: cause.fix, report: None, value: None })
    }
}

fn put(results: &mut [Val], value: Option<Val>) -> wasmtime::Result<()> {
    if let (Some(place), Some(value)) = (results.first_mut(), value) {
        *place = value;
    }
    Ok(())
}
