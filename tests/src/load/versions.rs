//! Versions of everything that runs on the two nodes: equal but for their bytes, and some that must be refused.

use std::collections::HashMap;
use std::fmt::Write;
use std::sync::Arc;

use midplane::words::{Code, Digest};

use super::ledger::Place;
use super::pair::LABELS;
use super::stamps::{marked, stamped};
use crate::guests::{built, hostile};
use crate::policies::acting;

/// The slot of the gateway.
pub const GATEWAY: &str = "gateway/stamped";
/// The slots of the skills, by node.
pub const UNARY: [&str; 2] = ["skill/unary-n1", "skill/unary-n2"];
/// The same of those that stream.
pub const STREAMS: [&str; 2] = ["skill/streams-n1", "skill/streams-n2"];
/// Where the gateway answers.
pub const MOUNT: &str = "/stamped";

/// What a skill is called by.
pub fn name(skill: &str, label: &str) -> String {
    format!("{skill}-{label}@load")
}

/// One version of everything.
#[derive(Clone)]
pub struct Version {
    /// The manifest.
    pub text: String,
    /// Components by their path in it.
    pub components: HashMap<String, Arc<[u8]>>,
    /// What its guests answer.
    pub stamp: u64,
    /// Whether somebody confirms that nodes can be reached with it.
    pub reached: bool,
}

impl Version {
    /// What serves on a node, and where.
    pub fn served(&self, node: usize) -> Vec<(Place, Digest)> {
        let of = |slot, path: &str| (Place { node, slot }, Digest::of(&self.components[path]));
        vec![of(UNARY[node], "unary"), of(STREAMS[node], "streams"), of(GATEWAY, "gateway")]
    }
}

/// So many versions with this probation, whose stamps are their numbers.
pub fn versions(count: usize, probation: &str) -> Vec<Version> {
    let policy = |name: &str, number| -> Arc<[u8]> { marked(&built(name), number).into() };
    let guest = |name: &str, number| -> Arc<[u8]> { stamped(&built(name), number).into() };
    let version = |number: usize| {
        let number = number as u64;
        let components = [
            ("discovery", policy("discovery/static", number)),
            ("admission", policy("admission/basic", number)),
            ("routing", policy("routing/path-vector", number)),
            ("sync", policy("sync/lww", number)),
            ("unary", guest("test/skill/stamped", number)),
            ("streams", guest("test/skill/stamped-streams", number)),
            ("gateway", guest("test/gateway/stamped", number)),
        ];
        let components = components.map(|(path, bytes)| (path.to_owned(), bytes)).into();
        Version { text: text(probation), components, stamp: number, reached: true }
    };
    (1..=count).map(version).collect()
}

/// The manifest. All versions have the same one; the bytes at its paths differ.
fn text(probation: &str) -> String {
    let mut text = format!("probation = {probation:?}\n\n");
    let mut add = |slot: &str, kind: &str, path: &str, more: &str| {
        writeln!(text, "[[plugin]]\nslot = {slot:?}\nkind = {kind:?}\ncomponent = {path:?}\n{more}\n")
            .expect("a string takes everything");
    };
    add("discovery", "discovery", "discovery", "");
    add("admission", "admission", "admission", "");
    add("routing", "routing", "routing", "protocol = \"path-vector/1\"");
    add("sync", "sync", "sync", "protocol = \"lww/1\"\ndatasets = [\"load\"]");
    for (node, label) in LABELS.iter().enumerate() {
        let skill = |skill, more| {
            format!("names = [{:?}]\non = {{ labels = [{label:?}] }}\n{more}", name(skill, label))
        };
        add(UNARY[node], "skill", "unary", &skill("unary", "instances = \"reuse 100000\""));
        add(STREAMS[node], "skill", "streams", &skill("streams", ""));
    }
    add(GATEWAY, "gateway", "gateway", &format!("mount = {MOUNT:?}\ninstances = \"reuse 100000\""));
    text
}

/// The same version with routing that starts well, and traps whenever it is asked.
pub fn traps_in_use(version: &Version) -> Version {
    let mut bad = Version { reached: false, ..version.clone() };
    bad.components.insert("routing".to_owned(), acting(&[("DECIDE", "unreachable")]).into());
    bad
}

/// A version that is not to come into force, and how it is refused.
pub struct Bad {
    /// What is wrong with it.
    pub what: &'static str,
    /// The version.
    pub version: Version,
    /// How each node refuses it.
    pub code: Code,
}

/// Versions of which one component is bad: it traps, never gets ready, or is something else.
pub fn bad(version: &Version) -> Vec<Bad> {
    let with = |what, path: &str, bytes: Vec<u8>, code| {
        let mut version = version.clone();
        version.components.insert(path.to_owned(), bytes.into());
        Bad { what, version, code }
    };
    let mut refuses = version.clone();
    let sync = "datasets = [\"load\"]";
    refuses.text = refuses.text.replace(sync, &format!("{sync}\nconfig = {{ keep-removed = \"1s\" }}"));
    vec![
        with("routing traps at its start", "routing", acting(&[("INIT", "unreachable")]), Code::Trap),
        with("a skill traps at its start", "unary", hostile("trap-start"), Code::Trap),
        with("routing never gets ready", "routing", acting(&[("INIT", "(loop (br 0))")]), Code::OutOfFuel),
        with("admission is something else", "admission", built("skill/math1"), Code::WrongWorld),
        with("discovery is no component", "discovery", b"nothing".to_vec(), Code::BadComponent),
        Bad { what: "sync refuses its config", version: refuses, code: Code::InitFailed },
        with("the gateway answers nobody", "gateway", built("skill/math1"), Code::WrongWorld),
    ]
}
