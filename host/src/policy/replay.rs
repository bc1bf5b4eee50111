//! Runs the calls of a recording again, with the component that was recorded or with another one.
//!
//! What is run is recorded again, and the two recordings are compared call by call: the same code writes both.

use serde::Serialize;
use serde_json::Value;
use wasmtime::Engine;
use wasmtime::component::Component;

use super::Kind;
use super::admission::Admission;
use super::discovery::Discovery;
use super::machine::{FUEL_HANDLE, FUEL_INIT, FUEL_QUESTION, Machine, Program};
use super::recorder::{self, Recorder, Tape};
use super::routing::Routing;
use super::sync::Sync;
use super::types::Setup;
use crate::wasm::preflight;
use crate::words::json::cbor_to_json;
use crate::words::objects;
use crate::words::recording::{Answer, Call, Fuel, HANDLE, INIT, Item, RECORDING_MAX, Recording, SAVE};
use crate::words::{Code, Digest, Fault, Outcome, note, packed};

/// The fuel that this host gives.
pub const FUEL: Fuel = Fuel { init: FUEL_INIT, handle: FUEL_HANDLE, question: FUEL_QUESTION };

/// What came of running a recording again.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct Replay {
    /// Whether every call had the same outcome, byte for byte.
    pub equal: bool,
    /// Calls in the recording.
    pub calls: usize,
    /// Calls that were run again; the last of them is the one that differs, if one does.
    pub replayed: usize,
    /// Fuel that these calls used when they were recorded.
    pub fuel_then: u64,
    /// Fuel that they used now.
    pub fuel_now: u64,
    /// The first call with another outcome.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub difference: Option<Difference>,
}

/// A call with another outcome than recorded.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct Difference {
    /// Its number, from 1.
    pub call: usize,
    /// What was called.
    pub function: String,
    /// The time that it was given, Unix ms.
    pub now: u64,
    /// Its arguments.
    pub arguments: Value,
    /// The first effect that differs, from 1, where both outcomes are effects.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub effect: Option<usize>,
    /// What was recorded: that effect, or the whole outcome; null for none.
    pub expected: Value,
    /// What came now.
    pub found: Value,
}

/// Runs a recording again. A policy of another kind is refused.
///
/// # Errors
/// `wrong-world` and `bad-component` when the component is no such policy, `bad-object` when a call cannot be read.
pub fn replay(engine: &Engine, wasm: &[u8], recording: &Recording) -> Outcome<Replay> {
    let header = &recording.header;
    if header.fuel != FUEL {
        let what = format!("recording of midplane {} was made with other limits of fuel", header.host);
        return Err(Fault::new(Code::BadObject, what).fix("use the midplane that recorded it"));
    }
    let component = Component::new(engine, wasm)
        .map_err(|error| Fault::new(Code::BadComponent, format!("component does not compile: {error:#}")))?;
    preflight::check_world(header.kind, "component", engine, &component)?;
    let digest = Digest::of(wasm).to_string();
    let program = Program::new(engine, &component, &header.slot, &digest, header.memory)?;
    match header.kind {
        objects::Kind::Discovery => Run::<Discovery>::new(&program).all(recording),
        objects::Kind::Admission => Run::<Admission>::new(&program).all(recording),
        objects::Kind::Routing => Run::<Routing>::new(&program).all(recording),
        objects::Kind::Sync => Run::<Sync>::new(&program).all(recording),
        kind @ (objects::Kind::Skill | objects::Kind::Gateway) => {
            Err(Fault::new(Code::BadObject, format!("recording is of a {kind}, which is no policy")))
        }
    }
}

/// A replay that goes on.
struct Run<'a, K: Kind> {
    program: &'a Program,
    machine: Option<Machine<K>>,
    recorder: Recorder,
    tape: Tape,
}

impl<'a, K: Kind> Run<'a, K> {
    fn new(program: &'a Program) -> Self {
        let (recorder, tape) = recorder::queue();
        Self { program, machine: None, recorder, tape }
    }

    fn all(mut self, recording: &Recording) -> Outcome<Replay> {
        let calls = recording.calls.len();
        let mut replay =
            Replay { equal: true, calls, replayed: 0, fuel_then: 0, fuel_now: 0, difference: None };
        for (index, call) in recording.calls.iter().enumerate() {
            let again = self
                .call(call)
                .map_err(|fault| Fault { what: format!("call {}: {}", index + 1, fault.what), ..fault })?;
            replay.replayed += 1;
            replay.fuel_then += call.fuel;
            replay.fuel_now += again.fuel;
            if !same(&call.answer, &again.answer) {
                replay.equal = false;
                replay.difference = Some(difference(index + 1, call, &again.answer));
                break;
            }
        }
        Ok(replay)
    }

    /// Makes a call again, and reads what was recorded of it.
    fn call(&mut self, call: &Call) -> Outcome<Call> {
        if call.function == INIT {
            let setup: Setup = packed::read(&call.arguments)?;
            let started = Machine::recorded(self.program, &setup, Some(&self.recorder));
            // One that refuses to start is recorded as such.
            self.machine = started.ok().map(|(machine, _)| machine);
        } else {
            let Some(machine) = &mut self.machine else {
                return Err(Fault::new(Code::BadObject, "there is no instance to call"));
            };
            match call.function.as_str() {
                HANDLE => {
                    let event = packed::read(&call.arguments)?;
                    let _ = machine.handle(call.now, &event);
                }
                SAVE => {
                    let _ = machine.save();
                }
                question => {
                    if !K::ask_again(machine, question, call.now, &call.arguments)? {
                        let what = format!("a {} policy is not asked {question:?}", K::NAME);
                        return Err(Fault::new(Code::BadObject, what));
                    }
                }
            }
        }
        let item = self
            .tape
            .try_next()
            .ok_or_else(|| Fault::new(Code::TooLarge, "what comes of it does not fit into a recording"))?;
        match note::read("item", &item, RECORDING_MAX)? {
            Item::Call(again) => {
                if matches!(again.answer, Answer::Ended(_)) {
                    self.machine = None;
                }
                Ok(again)
            }
            Item::End(_) => Err(Fault::new(Code::Internal, "a call was recorded as an end")),
        }
    }
}

/// Whether two outcomes are the same: values byte for byte, and ends by what ended the instance. The text of a fault names the
/// component, which may be another one.
pub(super) fn same(expected: &Answer, found: &Answer) -> bool {
    match (expected, found) {
        (Answer::Value(expected), Answer::Value(found)) => expected == found,
        (Answer::Ended(expected), Answer::Ended(found)) => {
            let limit = |fault: &Fault| fault.report.as_ref().map(|report| report.limit.clone());
            // Why it refused to start is the policy's own word.
            let word = |fault: &Fault| (fault.code == Code::InitFailed).then(|| fault.what.clone());
            expected.code == found.code && limit(expected) == limit(found) && word(expected) == word(found)
        }
        _ => false,
    }
}

pub(super) fn difference(number: usize, call: &Call, found: &Answer) -> Difference {
    let (mut expected, mut found) = (shown(&call.answer), shown(found));
    let mut effect = None;
    if [INIT, HANDLE].contains(&call.function.as_str())
        && let (Value::Array(then), Value::Array(now)) = (&expected, &found)
        && let Some(at) = (0..then.len().max(now.len())).find(|at| then.get(*at) != now.get(*at))
    {
        effect = Some(at + 1);
        let one = |effects: &[Value]| effects.get(at).cloned().unwrap_or_default();
        (expected, found) = (one(then), one(now));
    }
    Difference {
        call: number,
        function: call.function.clone(),
        now: call.now,
        arguments: named(cbor_to_json(&call.arguments).unwrap_or_default()),
        effect,
        expected,
        found,
    }
}

/// An outcome for people and scripts.
fn shown(answer: &Answer) -> Value {
    match answer {
        Answer::Value(bytes) => named(cbor_to_json(bytes).unwrap_or_default()),
        Answer::Ended(fault) => serde_json::json!({ "ended": fault }),
    }
}

/// Keys as the contract writes them: the bindings say `LinkUp` and `rtt_us` for `link-up` and `rtt-us`.
fn named(value: Value) -> Value {
    match value {
        Value::Object(fields) => {
            Value::Object(fields.into_iter().map(|(key, value)| (kebab(&key), named(value))).collect())
        }
        Value::Array(items) => Value::Array(items.into_iter().map(named).collect()),
        other => other,
    }
}

fn kebab(name: &str) -> String {
    let mut out = String::with_capacity(name.len() + 4);
    for char in name.chars() {
        if char.is_ascii_uppercase() && !out.is_empty() {
            out.push('-');
        }
        out.push(if char == '_' { '-' } else { char.to_ascii_lowercase() });
    }
    out
}
