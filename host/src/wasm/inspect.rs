//! What a component is, for people who want to call it or run it.

use wasmtime::Engine;
use wasmtime::component::Component;

use super::cache::Compiled;
use super::preflight::Capability;
use super::{describe, preflight};
use crate::decisions::bindings;
use crate::decisions::grants::Import;
use crate::words::Digest;
use crate::words::control::Inspection;
use crate::words::docs;
use crate::words::objects::{Bindings, Grants, Kind};

/// Describes a component.
pub fn component(
    code: &Compiled,
    wasm: &[u8],
    kind: Kind,
    grants: &Grants,
    bindings: &Bindings,
) -> Inspection {
    let (engine, component) = (code.engine(), &code.component);
    let docs = docs::docs(wasm);
    let (mut functions, mut not_callable) = (Vec::new(), Vec::new());
    for export in describe::exported_functions(component, engine) {
        let mut function = export.function;
        function.docs = docs.get(&function.name).cloned();
        match function.callable() {
            Ok(()) if kind == Kind::Skill => functions.push(function),
            Ok(()) => not_callable.push((function.signature(), format!("only the host calls a {kind}"))),
            Err(why) => not_callable.push((function.signature(), why)),
        }
    }
    let imports = preflight::capabilities(engine, component, grants, bindings)
        .into_iter()
        .map(|capability| {
            let text = import_text(&capability);
            (capability.interface, text)
        })
        .collect();
    Inspection {
        digest: Digest::of(wasm),
        length: wasm.len() as u64,
        kind,
        engine: code.kind.as_str().to_owned(),
        functions,
        not_callable,
        imports,
        documented: !docs.is_empty(),
    }
}

/// The kind that a component's exports make it.
pub fn kind(engine: &Engine, component: &Component) -> Kind {
    if preflight::find_handler(engine, component).is_some() {
        return Kind::Gateway;
    }
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

fn import_text(capability: &Capability) -> String {
    match &capability.import {
        Import::Empty => "empty".to_owned(),
        Import::Free => "free".to_owned(),
        Import::Granted => "granted".to_owned(),
        Import::Missing(grant) => format!("missing: {grant}"),
        Import::Bound(name) => format!("bound to {name}"),
        Import::Unbound => format!("missing: {}", bindings::line(&[&capability.interface])),
        Import::Unknown => "unknown to this host".to_owned(),
    }
}
