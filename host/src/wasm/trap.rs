//! From what wasmtime reports to whose fault it was.

use wasmtime::{PoolConcurrencyLimitError, Trap};

use super::guest::{BindingFailed, Ended};
use crate::log;
use crate::words::{Code, Fault, TrapReport};

/// Who ran, for the report.
pub struct Culprit<'a> {
    /// Slot of the plugin.
    pub plugin: &'a str,
    /// Digest of the component, in hex.
    pub digest: &'a str,
    /// Function that was called.
    pub function: &'a str,
    /// What the guest said last.
    pub last_lines: Vec<String>,
}

/// Turns the end of a guest into a fault that names plugin, function and limit.
pub fn fault(error: &wasmtime::Error, culprit: Culprit<'_>) -> Fault {
    if let Some(full) = error.downcast_ref::<PoolConcurrencyLimitError>() {
        return Fault::new(Code::Busy, format!("{}: the pool of instances is full: {full}", culprit.plugin))
            .fix("try again, or `run --instances N`; `midplane doctor` shows how many this machine holds");
    }
    if let Some(BindingFailed(fault)) = error.downcast_ref::<BindingFailed>() {
        return fault.clone();
    }
    let (code, limit) = classify(error);
    let Culprit { plugin, digest, function, last_lines } = culprit;
    let what = match code {
        Code::Trap => match last_lines.last() {
            Some(line) => format!("{plugin} {function} trapped: {limit} ({line})"),
            None => format!("{plugin} {function} trapped: {limit}"),
        },
        Code::Replaced => {
            format!("{plugin} was replaced, and {function} was not done within its time to drain: {limit}")
        }
        _ => format!("{plugin} {function} was ended by its limit: {limit}"),
    };
    let fault = Fault::new(code, what).report(TrapReport {
        plugin: plugin.to_owned(),
        digest: digest.to_owned(),
        function: function.to_owned(),
        limit,
        last_lines,
    });
    match code {
        Code::Deadline => fault.fix("--timeout for this call, or limits.deadline in the manifest"),
        Code::MemoryLimit => fault.fix("limits.memory in the manifest"),
        Code::Replaced => fault.fix("call again, or drain = \"5min\" in the manifest"),
        Code::HostCallLimit => fault.fix("limits.host-calls or limits.host-bytes in the manifest"),
        _ => fault,
    }
}

fn classify(error: &wasmtime::Error) -> (Code, String) {
    if let Some(ended) = error.downcast_ref::<Ended>() {
        let code = match ended {
            Ended::Deadline(_) => Code::Deadline,
            Ended::Memory { .. } | Ended::Table(_) => Code::MemoryLimit,
            Ended::HostCalls(_) | Ended::HostBytes(_) => Code::HostCallLimit,
            Ended::Replaced(_) => Code::Replaced,
        };
        return (code, ended.to_string());
    }
    match error.downcast_ref::<Trap>() {
        Some(Trap::StackOverflow) => (Code::StackOverflow, "the stack of 512 KiB".to_owned()),
        Some(Trap::OutOfFuel) => (Code::OutOfFuel, "the fuel for one call".to_owned()),
        Some(Trap::Interrupt) => (Code::Deadline, "the deadline".to_owned()),
        Some(Trap::UnreachableCodeReached) => {
            (Code::Trap, "unreachable code reached: a panic or abort".to_owned())
        }
        Some(trap) => (Code::Trap, trap.to_string()),
        // The innermost cause says most: a table that is full, a fuel that is used up while lifting.
        // Names in it are the guest's.
        None => (Code::Trap, log::clean(&error.root_cause().to_string())),
    }
}
