//! What a component is, for people who want to call it or run it.

use wasmtime::Engine;
use wasmtime::component::Component;

use super::{describe, engine, preflight};
use crate::decisions::grants::Import;
use crate::words::Digest;
use crate::words::control::Inspection;
use crate::words::docs;
use crate::words::objects::{Grants, Kind};

/// Describes a component.
pub fn component(
    engine: &Engine,
    engine_kind: engine::Kind,
    component: &Component,
    wasm: &[u8],
    kind: Kind,
    grants: &Grants,
) -> Inspection {
    let docs = docs::docs(wasm);
    let (mut functions, mut not_callable) = (Vec::new(), Vec::new());
    for export in describe::exported_functions(component, engine) {
        let mut function = export.function;
        function.docs = docs.get(&function.name).cloned();
        match function.callable() {
            Ok(()) if kind == Kind::Skill => functions.push(function),
            Ok(()) => not_callable.push((function.signature(), "only the host calls a policy".to_owned())),
            Err(why) => not_callable.push((function.signature(), why)),
        }
    }
    let imports = preflight::capabilities(engine, component, grants)
        .into_iter()
        .map(|capability| (capability.interface, import_text(&capability.import)))
        .collect();
    Inspection {
        digest: Digest::of(wasm),
        length: wasm.len() as u64,
        kind,
        engine: engine_kind.as_str().to_owned(),
        functions,
        not_callable,
        imports,
        documented: !docs.is_empty(),
    }
}

/// The kind that a component's exports make it.
pub fn kind(engine: &Engine, component: &Component) -> Kind {
    let machine = component
        .component_type()
        .exports(engine)
        .map(|(name, _)| name.to_owned())
        .find(|name| name.starts_with("midplane:") && name.contains("/machine@"));
    Kind::ALL
        .into_iter()
        .find(|kind| machine.as_ref().is_some_and(|name| name.starts_with(&format!("midplane:{kind}/"))))
        .unwrap_or(Kind::Skill)
}

fn import_text(import: &Import) -> String {
    match import {
        Import::Empty => "empty".to_owned(),
        Import::Free => "free".to_owned(),
        Import::Granted => "granted".to_owned(),
        Import::Missing(grant) => format!("missing: {grant}"),
        Import::Unknown => "unknown to this host".to_owned(),
    }
}
