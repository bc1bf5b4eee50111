//! What is well with a machine and a directory, and what to change where it is not.

use serde::Serialize;

use super::sizing::{Machine, Plan};
use crate::words::Fault;

/// Free space below which a node may not be able to take another manifest with its components.
const FREE_LEAST: u64 = 512 << 20;
/// Files that a node opens at the most when it serves local callers; each caller takes one.
const FILES_LEAST: u64 = 1_024;

/// How a check went.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Verdict {
    /// As it should be.
    Well,
    /// The node runs, but with less.
    Limited,
    /// The node does not run like this.
    Broken,
}

impl Verdict {
    /// As people read it.
    pub const fn as_str(self) -> &'static str {
        match self {
            Verdict::Well => "well",
            Verdict::Limited => "limited",
            Verdict::Broken => "broken",
        }
    }
}

/// One thing that was looked at.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct Check {
    /// What.
    pub name: String,
    /// How it is.
    pub verdict: Verdict,
    /// What was found.
    pub found: String,
    /// What to change, where something can be.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub fix: Option<String>,
}

impl Check {
    /// Nothing to change.
    pub fn well(name: &str, found: impl Into<String>) -> Self {
        Self { name: name.to_owned(), verdict: Verdict::Well, found: found.into(), fix: None }
    }

    /// It works, with less.
    pub fn limited(name: &str, found: impl Into<String>, fix: impl Into<String>) -> Self {
        let fix = Some(fix.into());
        Self { name: name.to_owned(), verdict: Verdict::Limited, found: found.into(), fix }
    }

    /// It does not work.
    pub fn broken(name: &str, fault: &Fault) -> Self {
        let found = format!("{}: {}", fault.code, fault.what);
        Self { name: name.to_owned(), verdict: Verdict::Broken, found, fix: fault.fix.clone() }
    }
}

/// What the machine gives: one check for each resource that a plan depends on.
///
/// `socket_bytes` is the buffer that the node asks for its UDP socket, `scan` whether the kernel can tell touched pages.
pub fn machine(machine: &Machine, plan: &Plan, socket_bytes: u64, scan: bool) -> Vec<Check> {
    let mut checks = vec![
        of_plan("memory", format!("{} MiB", machine.memory >> 20), plan),
        of_plan("address-space", format!("{} GiB", machine.address_space >> 30), plan),
        of_plan("vm.max_map_count", machine.mappings.to_string(), plan),
    ];
    for (name, bytes) in
        [("net.core.rmem_max", machine.receive_buffer), ("net.core.wmem_max", machine.send_buffer)]
    {
        checks.push(if bytes < socket_bytes {
            let found = format!("{} KiB: links with a long way or much traffic lose packets", bytes >> 10);
            Check::limited(name, found, format!("sysctl -w {name}={socket_bytes}"))
        } else {
            Check::well(name, format!("{} KiB", socket_bytes >> 10))
        });
    }
    checks.push(if machine.open_files < FILES_LEAST {
        let found = format!("{}: few local callers at a time", machine.open_files);
        Check::limited("open-files", found, format!("ulimit -n {FILES_LEAST}"))
    } else {
        Check::well("open-files", machine.open_files.to_string())
    });
    checks.push(if scan {
        Check::well("pagemap-scan", "the kernel tells which pages a guest has touched")
    } else {
        let found = "not there: a fresh instance costs up to three times as much";
        Check::limited("pagemap-scan", found, "a kernel of 6.7 or newer")
    });
    checks
}

/// Whether the file system of the node's directory has room.
pub fn space(free: u64) -> Check {
    let found = format!("{} MiB free", free >> 20);
    if free < FREE_LEAST {
        let fix = format!("make {} MiB free, or use another --data-dir", FREE_LEAST >> 20);
        Check::limited("disk", found, fix)
    } else {
        Check::well("disk", found)
    }
}

fn of_plan(name: &str, found: String, plan: &Plan) -> Check {
    let reasons: Vec<_> = plan.reasons.iter().filter(|reason| reason.limit == name).collect();
    let Some(first) = reasons.first() else { return Check::well(name, found) };
    let effects: Vec<&str> = reasons.iter().map(|reason| reason.effect.as_str()).collect();
    Check::limited(name, format!("{found}; {}", effects.join("; ")), first.fix.clone())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::decisions::sizing::{INSTANCES_MOST, plan};

    const LARGE: Machine = Machine::LARGE;

    fn limited(found: &Machine, scan: bool) -> Vec<String> {
        machine(found, &plan(found, 2, INSTANCES_MOST), 8 << 20, scan)
            .into_iter()
            .filter(|check| check.verdict != Verdict::Well)
            .inspect(|check| assert!(check.fix.is_some(), "{check:?}"))
            .map(|check| check.name)
            .collect()
    }

    #[test]
    fn each_shortage_has_its_check_and_its_fix() {
        assert_eq!(limited(&LARGE, true), Vec::<String>::new());
        for (machine, scan, expect) in [
            (Machine { memory: 256 << 20, ..LARGE }, true, "memory"),
            (Machine { address_space: 256 << 30, ..LARGE }, true, "address-space"),
            (Machine { mappings: 1_024, ..LARGE }, true, "vm.max_map_count"),
            (Machine { receive_buffer: 212_992, ..LARGE }, true, "net.core.rmem_max"),
            (Machine { send_buffer: 212_992, ..LARGE }, true, "net.core.wmem_max"),
            (Machine { open_files: 256, ..LARGE }, true, "open-files"),
            (LARGE, false, "pagemap-scan"),
        ] {
            assert_eq!(limited(&machine, scan), [expect]);
        }
    }

    #[test]
    fn what_doctor_says_to_set_is_enough() {
        for mappings in [1_024, 8_000] {
            let short = Machine { mappings, ..LARGE };
            let reasons = plan(&short, 2, INSTANCES_MOST).reasons;
            let fix = &reasons.iter().find(|reason| reason.limit == "vm.max_map_count").unwrap().fix;
            let enough = fix.rsplit_once('=').unwrap().1.parse().unwrap();
            assert_eq!(plan(&Machine { mappings: enough, ..LARGE }, 2, INSTANCES_MOST).reasons, []);
        }
        let short = Machine { memory: 100 << 20, ..LARGE };
        let enough: Vec<u64> = plan(&short, 2, INSTANCES_MOST)
            .reasons
            .iter()
            .map(|reason| reason.fix.split(' ').find_map(|word| word.parse::<u64>().ok()).unwrap())
            .collect();
        let memory = enough.into_iter().max().unwrap() << 20;
        assert_eq!(plan(&Machine { memory, ..LARGE }, 2, INSTANCES_MOST).reasons, []);
    }

    #[test]
    fn little_space_is_said() {
        assert_eq!(space(1 << 30).verdict, Verdict::Well);
        assert_eq!(space(100 << 20).verdict, Verdict::Limited);
    }
}
