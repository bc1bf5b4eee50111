//! Everything that can be wrong with a component, found before anything is published.

use serde::Serialize;
use wasmparser::{CanonicalFunction, Payload, Validator, WasmFeatures};
use wasmtime::Engine;
use wasmtime::component::Component;
use wasmtime::component::types::ComponentItem;

use super::describe::{self, Export};
use super::engine;
use crate::decisions::bindings;
use crate::decisions::grants::{Import, judge};
use crate::log;
use crate::words::objects::{Bindings, Grants, Kind};
use crate::words::{Code, Fault, Outcome};

/// One import that is a capability: an interface with at least one function.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Capability {
    /// Full name, for example `wasi:io/poll@0.2.6`.
    pub interface: String,
    /// What it is for this plugin.
    pub import: Import,
}

/// The engines that a plugin may run on, the cheaper one first.
pub fn engines(kind: Kind) -> &'static [engine::Kind] {
    match kind {
        Kind::Skill | Kind::Gateway => &[engine::Kind::Lean, engine::Kind::Concurrent],
        Kind::Discovery | Kind::Admission | Kind::Routing | Kind::Sync => &[engine::Kind::Policy],
    }
}

/// Picks one of [`engines`]: lean for everything that validates without async.
pub fn engine_for(kind: Kind, component: &[u8]) -> Outcome<engine::Kind> {
    let features = WasmFeatures::default()
        - WasmFeatures::MEMORY64
        - WasmFeatures::THREADS
        - WasmFeatures::GC
        - WasmFeatures::EXCEPTIONS
        - WasmFeatures::TAIL_CALL
        - WasmFeatures::MULTI_MEMORY
        - WasmFeatures::RELAXED_SIMD
        - WasmFeatures::CM_ASYNC;
    if !wasmparser::Parser::is_component(component) {
        let fault = Fault::new(Code::BadComponent, "the file is not a WebAssembly component");
        return Err(if wasmparser::Parser::is_core_wasm(component) {
            fault.fix("it is a core module; `midplane build` makes a component of it")
        } else {
            fault
        });
    }
    let lean = Validator::new_with_features(features).validate_all(component);
    match (kind, lean) {
        // A handler of `wasi:http` 0.2 is not async, one of 0.3 is.
        (Kind::Skill | Kind::Gateway, Ok(_)) => Ok(engine::Kind::Lean),
        (_, Ok(_)) if is_composed(component) => {
            let what = "a policy is one component; this one is composed of several";
            Err(Fault::new(Code::WrongWorld, what).fix("link them as modules of one component"))
        }
        (_, Ok(_)) => Ok(engine::Kind::Policy),
        (Kind::Skill | Kind::Gateway, Err(lean)) => {
            Validator::new_with_features(features | WasmFeatures::CM_ASYNC)
                .validate_all(component)
                .map(|_| engine::Kind::Concurrent)
                // An error that is not about async is the same in both.
                .map_err(|_| invalid(&lean))
        }
        (_, Err(error)) => Err(invalid(&error).fix("a policy has no async functions, streams or futures")),
    }
}

/// Whether components inside of this one hand values to each other. The host checks and copies them, which no fuel pays for: a policy
/// that hands around large texts would take hours.
fn is_composed(component: &[u8]) -> bool {
    let mut depth = 0_usize;
    wasmparser::Parser::new(0).parse_all(component).any(|payload| match payload {
        Ok(Payload::Version { .. }) => {
            depth += 1;
            false
        }
        Ok(Payload::End(_)) => {
            depth = depth.saturating_sub(1);
            false
        }
        Ok(Payload::ComponentCanonicalSection(functions)) => {
            let moves = |function| {
                matches!(function, Ok(CanonicalFunction::Lift { .. } | CanonicalFunction::Lower { .. }))
            };
            depth > 1 && functions.into_iter().any(moves)
        }
        _ => false,
    })
}

/// Names in the error are the component's.
fn invalid(error: &wasmparser::BinaryReaderError) -> Fault {
    Fault::new(Code::BadComponent, format!("component is not valid: {}", log::clean(&error.to_string())))
}

/// The component's imports that are capabilities, in its own order. Interfaces that only have types are none.
pub fn capabilities(
    engine: &Engine,
    component: &Component,
    grants: &Grants,
    bindings: &Bindings,
) -> Vec<Capability> {
    let ty = component.component_type();
    ty.imports(engine)
        .filter(|(_, import)| match &import.ty {
            ComponentItem::ComponentInstance(instance) => instance.exports(engine).any(|(_, export)| {
                matches!(
                    export.ty,
                    ComponentItem::ComponentFunc(_) | ComponentItem::CoreFunc(_) | ComponentItem::Resource(_)
                )
            }),
            ComponentItem::Type(_) => false,
            _ => true,
        })
        .map(|(name, _)| Capability { interface: name.to_owned(), import: judge(name, grants, bindings) })
        .collect()
}

/// Refuses a workload whose imports are not all there, naming every one of them and the grant it needs.
pub fn check_imports(slot: &str, capabilities: &[Capability]) -> Outcome<()> {
    let (mut missing, mut unbound, mut unknown) = (Vec::new(), Vec::new(), Vec::new());
    for capability in capabilities {
        match &capability.import {
            Import::Missing(grant) => missing.push((&capability.interface, grant)),
            Import::Unbound => unbound.push(capability.interface.as_str()),
            Import::Unknown => unknown.push(capability.interface.as_str()),
            Import::Empty | Import::Free | Import::Granted | Import::Bound(_) => {}
        }
    }
    if !unknown.is_empty() {
        return Err(Fault::new(
            Code::MissingImport,
            format!("{slot} imports what this host does not have: {}", unknown.join(", ")),
        )
        .fix("`midplane inspect COMPONENT` shows its imports; build it without these"));
    }
    if !unbound.is_empty() {
        let what = format!("{slot} imports {}; its manifest entry binds no name to it", unbound.join(", "));
        return Err(Fault::new(Code::MissingImport, what).fix(bindings::line(&unbound)));
    }
    if missing.is_empty() {
        return Ok(());
    }
    let imports: Vec<&str> = missing.iter().map(|(interface, _)| interface.as_str()).collect();
    let mut grants: Vec<&str> = missing.iter().map(|(_, grant)| grant.as_str()).collect();
    grants.dedup();
    Err(Fault::new(
        Code::MissingGrant,
        format!("{slot} imports {}; its manifest entry grants no such right", imports.join(", ")),
    )
    .fix(grants.join("; ")))
}

/// Which version of the handler a gateway exports.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Handler {
    /// `wasi:http/incoming-handler@0.2`.
    P2,
    /// `wasi:http/handler@0.3`.
    P3,
}

/// Finds the handler of a gateway.
///
/// # Errors
/// `wrong-world` when there is none.
pub fn handler(slot: &str, engine: &Engine, component: &Component) -> Outcome<Handler> {
    find_handler(engine, component).ok_or_else(|| {
        let what = format!("{slot} is a gateway and exports no handler of requests");
        Fault::new(Code::WrongWorld, what)
            .fix("export wasi:http/incoming-handler@0.2 or wasi:http/handler@0.3")
    })
}

/// The handler that a component exports, if it does.
pub fn find_handler(engine: &Engine, component: &Component) -> Option<Handler> {
    component.component_type().exports(engine).find_map(|(name, _)| {
        if name.starts_with("wasi:http/incoming-handler@0.2.") {
            Some(Handler::P2)
        } else if name.starts_with("wasi:http/handler@0.3.") {
            Some(Handler::P3)
        } else {
            None
        }
    })
}

/// Refuses a component that does not have the world of its kind. Returns what a skill exports.
pub fn check_world(kind: Kind, slot: &str, engine: &Engine, component: &Component) -> Outcome<Vec<Export>> {
    let exports = describe::exported_functions(component, engine);
    let machine = component
        .component_type()
        .exports(engine)
        .map(|(name, _)| name.to_owned())
        .find(|name| name.starts_with("midplane:") && name.contains("/machine@"));
    let wrong = |what: String| Err(Fault::new(Code::WrongWorld, format!("{slot} {what}")));
    match kind {
        Kind::Skill => {
            if let Some(machine) = machine {
                return wrong(format!("has the world of a policy, not of a skill: it exports {machine}"));
            }
            if !exports.iter().any(|export| export.function.callable().is_ok()) {
                return wrong("exports no function that can be called".to_owned());
            }
        }
        Kind::Gateway => {
            handler(slot, engine, component)?;
        }
        Kind::Discovery | Kind::Admission | Kind::Routing | Kind::Sync => {
            let wanted = format!("midplane:{}/machine@0.1.0", kind.as_str());
            let has = machine.as_deref().unwrap_or("no machine");
            if has != wanted {
                return wrong(format!("needs a component that exports {wanted}; this one exports {has}"));
            }
            let imports: Vec<String> = capabilities(engine, component, &Grants::default(), &Bindings::new())
                .into_iter()
                .map(|capability| capability.interface)
                .collect();
            if !imports.is_empty() {
                return wrong(format!(
                    "is a policy and may import no functions; it imports {}",
                    imports.join(", ")
                ));
            }
        }
    }
    Ok(exports)
}
