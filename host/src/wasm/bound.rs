//! The imports of a component that names of the mesh satisfy, as its own types describe them.

use wasmtime::Engine;
use wasmtime::component::Component;
use wasmtime::component::types::ComponentItem;

use super::describe;
use super::preflight::Capability;
use crate::decisions::bindings;
use crate::decisions::grants::Import;
use crate::words::envelope::FUNCTION_MAX;
use crate::words::objects::Bindings;
use crate::words::problems::Problems;
use crate::words::schema::Function;
use crate::words::{Code, Name, Outcome};

/// An imported interface with the name that satisfies it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Bound {
    /// As the component imports it.
    pub interface: String,
    /// What is called.
    pub name: Name,
    /// Its functions: all of them can be called over links.
    pub functions: Vec<Function>,
}

/// Finds the bound imports of a component.
///
/// # Errors
/// `bad-manifest` for a binding that is of no import, `missing-import` for an interface that no calls can satisfy.
pub fn find(
    slot: &str,
    engine: &Engine,
    component: &Component,
    capabilities: &[Capability],
    bindings: &Bindings,
) -> Outcome<Vec<Bound>> {
    let foreign = |one: &&Capability| matches!(one.import, Import::Bound(_) | Import::Unbound);
    let imports: Vec<&str> = capabilities.iter().filter(foreign).map(|one| one.interface.as_str()).collect();
    bindings::check(slot, bindings, &imports)?;
    let mut problems = Problems::new();
    let mut left = describe::TYPES_ALL;
    let mut found = Vec::new();
    for (interface, item) in component.component_type().imports(engine) {
        let Some(name) = bound(capabilities, interface) else { continue };
        let ComponentItem::ComponentInstance(instance) = item.ty else { continue };
        let described = describe::interface(&instance, engine, &mut left);
        let mut add =
            |why: &str| problems.add(format!("{slot} imports {interface}, which cannot be bound: {why}"));
        for resource in described.resources {
            add(&format!("{resource} is a resource"));
        }
        for function in &described.functions {
            if let Err(why) = function.bindable() {
                add(&format!("{}: {why}", function.name));
            }
            if function_of(interface, &function.name).len() > FUNCTION_MAX {
                add(&format!("{}: with its interface it has more than {FUNCTION_MAX} bytes", function.name));
            }
        }
        let (interface, name) = (interface.to_owned(), name.clone());
        found.push(Bound { interface, name, functions: described.functions });
    }
    problems.finish(Code::MissingImport, slot).map_err(|fault| {
        fault.fix("a bound interface has functions of plain values: no resource, stream or future")
    })?;
    Ok(found)
}

/// How a function of an interface is called by name.
pub fn function_of(interface: &str, function: &str) -> String {
    format!("{interface}#{function}")
}

fn bound<'a>(capabilities: &'a [Capability], interface: &str) -> Option<&'a Name> {
    let capability = capabilities.iter().find(|capability| capability.interface == interface)?;
    match &capability.import {
        Import::Bound(name) => Some(name),
        _ => None,
    }
}
