//! `midplane inspect`: what a component is, what can be called, and what it needs.

use std::path::Path;

use super::Global;
use super::client::{ASK, ask, block_on};
use super::output::table;
use crate::decisions::sizing;
use crate::store::files;
use crate::wasm::cache::Compiled;
use crate::wasm::compile::COMPONENT_MAX;
use crate::wasm::{engine, inspect, machine, preflight};
use crate::words::control::{Inspection, Request};
use crate::words::count::count;
use crate::words::objects::{Bindings, Grants, Kind};
use crate::words::{Code, Fault, Outcome};

/// Arguments of `midplane inspect`.
#[derive(clap::Args)]
pub(super) struct Inspect {
    /// A component file; or a slot or name of the running node
    target: String,
}

impl Inspect {
    pub(super) fn run(&self, global: &Global) -> Outcome<()> {
        let path = Path::new(&self.target);
        let inspection = if path.is_file() && global.on.is_none() {
            file(path)?
        } else {
            let request = Request::Inspect { target: self.target.clone() };
            block_on(global.timeout.or(Some(ASK)), ask(global, &request)).map_err(|fault| {
                match fault.code {
                    Code::NotRunning | Code::NotFound => {
                        Fault { what: format!("{} is no file; {}", self.target, fault.what), ..fault }
                    }
                    _ => fault,
                }
            })?
        };
        global.out().report(&inspection, text);
        Ok(())
    }
}

/// Looks at a file without a node. Compiles it here, so it is for files of one's own.
fn file(path: &Path) -> Outcome<Inspection> {
    let wasm = files::read_limited(path, COMPONENT_MAX)?
        .ok_or_else(|| Fault::new(Code::NotFound, format!("{} is not there", path.display())))?;
    let kind = preflight::engine_for(Kind::Skill, &wasm)?;
    let fail =
        |error: wasmtime::Error| Fault::new(Code::BadComponent, format!("{}: {error:#}", path.display()));
    let plan = sizing::plan(&machine::read(), engine::POOLS, sizing::INSTANCES_MOST);
    let engine = engine::compiler(kind, plan.memories).map_err(fail)?;
    let component = wasmtime::component::Component::new(&engine, &wasm).map_err(fail)?;
    let world = inspect::kind(&engine, &component);
    // Compiled as a skill to find out what it is; a policy would run on an engine of its own.
    let kind = preflight::engine_for(world, &wasm)?;
    let code = Compiled { kind, component };
    Ok(inspect::component(&code, &wasm, world, &Grants::default(), &Bindings::new()))
}

fn text(inspection: &Inspection) -> String {
    let mut text = format!(
        "component  {}\nlength     {}\nkind       {}\nengine     {}\n",
        inspection.digest,
        count(inspection.length, "byte"),
        inspection.kind,
        inspection.engine
    );
    for function in &inspection.functions {
        text += &format!("\n{}\n", function.signature());
        for line in function.docs.iter().flat_map(|docs| docs.lines()) {
            text += &format!("    {line}\n");
        }
    }
    if !inspection.documented && inspection.kind == Kind::Skill {
        text += "\nThe component carries no documentation; `midplane build` puts it in.\n";
    }
    if !inspection.not_callable.is_empty() {
        text += "\nnot callable:\n";
        for (signature, why) in &inspection.not_callable {
            text += &format!("  {signature}: {why}\n");
        }
    }
    if !inspection.imports.is_empty() {
        let rows: Vec<Vec<String>> =
            inspection.imports.iter().map(|(name, what)| vec![name.clone(), what.clone()]).collect();
        text += &format!("\n{}\n", table(&["IMPORT", "WHAT IT IS HERE"], &rows));
    }
    text
}
