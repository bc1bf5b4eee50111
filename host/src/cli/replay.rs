//! `midplane replay`: runs a recording again, without a node.

use std::path::PathBuf;

use serde::Serialize;
use serde_json::Value;

use super::Global;
use crate::decisions::sizing;
use crate::policy::replay::{self, Difference, replay};
use crate::store::blobs;
use crate::store::files;
use crate::wasm::compile::COMPONENT_MAX;
use crate::wasm::{engine, machine};
use crate::words::count::count;
use crate::words::objects::Kind;
use crate::words::recording::{RECORDING_MAX, Recording, Why};
use crate::words::{Code, Digest, Fault, Outcome};

/// Exit code when a call had another outcome.
const EXIT_DIFFERENT: u8 = 1;
/// Characters of a value that people are shown; `-o json` has the whole.
const SHOWN_MAX: usize = 1_000;

/// Arguments of `midplane replay`.
#[derive(clap::Args)]
pub(super) struct Replay {
    /// What `midplane record` wrote
    file: PathBuf,
    /// A component file to run instead of the recorded component
    #[arg(long, value_name = "COMPONENT")]
    with: Option<PathBuf>,
}

/// What came of it.
#[derive(Serialize)]
#[serde(rename_all = "kebab-case")]
struct Report {
    file: PathBuf,
    slot: String,
    kind: Kind,
    /// The component that was run.
    component: Digest,
    /// Whether it is the one that was recorded.
    same_component: bool,
    /// Why the recording ended; none for one that was cut off.
    ended: Option<Why>,
    /// Bytes at its end that are no whole call.
    cut: usize,
    #[serde(flatten)]
    replay: replay::Replay,
}

impl Replay {
    pub(super) fn run(&self, global: &Global) -> Outcome<u8> {
        let recording = self.recording()?;
        let wasm = match &self.with {
            Some(path) => files::read_limited(path, COMPONENT_MAX)?
                .ok_or_else(|| Fault::new(Code::NotFound, format!("{} is not there", path.display())))?,
            None => self.recorded(global, &recording)?,
        };
        let plan = sizing::plan(&machine::read(), engine::POOLS, sizing::INSTANCES_MOST);
        let engine = engine::compiler(engine::Kind::Policy, plan.memories)
            .map_err(|error| Fault::new(Code::Internal, format!("engine: {error:#}")))?;
        let replay = replay(&engine, &wasm, &recording).map_err(|fault| {
            let path = self.with.as_ref().unwrap_or(&self.file);
            Fault { what: format!("{}: {}", path.display(), fault.what), ..fault }
        })?;
        let component = Digest::of(&wasm);
        let code = if replay.equal { 0 } else { EXIT_DIFFERENT };
        let report = Report {
            file: self.file.clone(),
            slot: recording.header.slot.clone(),
            kind: recording.header.kind,
            component,
            same_component: component == recording.header.component.digest,
            ended: recording.end,
            cut: recording.cut,
            replay,
        };
        global.out().report(&report, text);
        Ok(code)
    }

    fn recording(&self) -> Outcome<Recording> {
        let file = self.file.display();
        let bytes = files::read_limited(&self.file, RECORDING_MAX as u64)?
            .ok_or_else(|| Fault::new(Code::NotFound, format!("{file} is not there")))?;
        let recording = Recording::read(&bytes)
            .map_err(|fault| Fault { what: format!("{file}: {}", fault.what), ..fault })?;
        if recording.calls.is_empty() {
            let what = format!("{file}: recording has no whole call");
            return Err(Fault::new(Code::BadObject, what).fix("record again, for longer"));
        }
        Ok(recording)
    }

    /// The component that was recorded, from the node's directory.
    fn recorded(&self, global: &Global, recording: &Recording) -> Outcome<Vec<u8>> {
        let (directory, component) = (global.directory(), &recording.header.component);
        blobs::peek(&directory.blobs(), component).map_err(|fault| {
            let path = directory.path().display();
            let what = format!("component of the recording, in {path}: {}", fault.what);
            let fix = format!(
                "give it by --with FILE; a node that has it writes it with `midplane blob get {} --out FILE`",
                component.digest
            );
            Fault { what, ..fault }.fix(fix)
        })
    }
}

fn text(report: &Report) -> String {
    let Report { replay, .. } = report;
    let mut lines = vec![
        format!("recording  {} ({}), {}", report.slot, report.kind, count(replay.calls, "call")),
        format!(
            "component  {}, {}",
            report.component.short(),
            if report.same_component { "the one that was recorded" } else { "not the one that was recorded" }
        ),
        format!("replayed   {}", count(replay.replayed, "call")),
        format!("fuel       {} then, {} now", replay.fuel_then, replay.fuel_now),
    ];
    match report.ended {
        Some(why) => lines.push(format!("ended      because {}", why.as_str())),
        None => lines.push(format!("ended      cut off: {} are no whole call", count(report.cut, "byte"))),
    }
    match &replay.difference {
        None => lines.push("equal      every outcome, byte for byte".to_owned()),
        Some(difference) => lines.push(different(difference)),
    }
    lines.join("\n")
}

fn different(difference: &Difference) -> String {
    let what = match difference.effect {
        Some(number) => format!("effect {number}"),
        None => "its outcome".to_owned(),
    };
    let Difference { call, function, now, .. } = difference;
    format!(
        "different  call {call}, {function} at {now}: {what}\n  arguments  {}\n  expected   {}\n  found      {}",
        shown(&difference.arguments),
        shown(&difference.expected),
        shown(&difference.found)
    )
}

fn shown(value: &Value) -> String {
    let text = value.to_string();
    match text.get(..text.floor_char_boundary(SHOWN_MAX)) {
        Some(begin) if begin.len() < text.len() => format!("{begin}… ({})", count(text.len(), "byte")),
        _ => text,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn long_values_are_cut_where_a_character_ends() {
        assert_eq!(shown(&Value::from("a")), "\"a\"");
        let long = shown(&Value::from("ä".repeat(SHOWN_MAX)));
        assert!(long.ends_with("… (2002 bytes)"), "{long}");
    }
}
