//! How large the pools and the compile worker are, decided from what the machine has.
//!
//! Pools reserve address space for every instance that may live at the same time. A pool that does not fit is
//! never replaced by something else in silence: the plan is made smaller first, and says why.

use std::fmt;

use serde::Serialize;

/// What the machine offers this process.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct Machine {
    /// Physical memory in bytes, or the memory limit of the process's control groups where that is smaller.
    pub memory: u64,
    /// Address space that the process may use, in bytes: `RLIMIT_AS`, or 47 bits.
    pub address_space: u64,
    /// `vm.max_map_count`: memory mappings that the process may have.
    pub mappings: u64,
    /// Size of a page in bytes.
    pub page: u64,
    /// `net.core.rmem_max`: the largest receive buffer of a socket, in bytes.
    pub receive_buffer: u64,
    /// `net.core.wmem_max`: the largest send buffer of a socket, in bytes.
    pub send_buffer: u64,
    /// `RLIMIT_NOFILE`: files and sockets that the process may have open.
    pub open_files: u64,
}

#[cfg(test)]
impl Machine {
    /// A machine on which nothing is short.
    pub const LARGE: Self = Self {
        memory: 24 << 30,
        address_space: 1 << 47,
        mappings: 65_530,
        page: 4_096,
        receive_buffer: 8 << 20,
        send_buffer: 8 << 20,
        open_files: 1 << 20,
    };
}

/// Sizes of one pool of workload instances, and of the worker that compiles for it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct Plan {
    /// Component instances that may live at the same time in each pool.
    pub instances: u32,
    /// What one linear memory takes.
    pub memories: Memories,
    /// Address space of one compile worker, in bytes.
    pub compile_memory: u64,
    /// Compile workers at a time.
    pub compile_workers: u32,
    /// What made the plan smaller than was wanted; empty when nothing did.
    pub reasons: Vec<Reason>,
}

/// One bound of the machine that makes a plan smaller.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct Reason {
    /// What is short: `memory`, `address-space` or `vm.max_map_count`.
    pub limit: &'static str,
    /// What follows from it.
    pub effect: String,
    /// What the operator can change.
    pub fix: String,
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.limit, self.effect)
    }
}

/// Address space of one linear memory. Code is compiled for it: these two decide which bounds it checks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct Memories {
    /// Reserved for the memory, in bytes.
    pub reservation: u64,
    /// Guard region after it, in bytes.
    pub guard: u64,
}

impl Memories {
    const fn total(self) -> u64 {
        self.reservation + self.guard
    }
}

/// Enough for any load that two processors can drive; more only costs page tables. `run --instances` asks for more.
pub const INSTANCES_MOST: u32 = 1_000;
/// Fewer than this and a node cannot serve a burst at all.
const INSTANCES_LEAST: u64 = 8;
/// A resident workload instance with its stack, measured at 30–300 KiB.
const MEMORY_PER_INSTANCE: u64 = 512 << 10;
/// With 4 GiB reserved and 32 MiB of guard, compiled code needs no bounds checks.
const FULL: Memories = Memories { reservation: 4 << 30, guard: 32 << 20 };
/// Without the address space for that: the largest memory a workload may ask for, checked at each access.
const RESERVATION_SMALL: u64 = 128 << 20;
const GUARD_SMALL: u64 = 64 << 10;
/// A place in a pool has two from the start, its stack and the guard before it; an instance that lives in it has four more, measured.
const MAPPINGS_PER_INSTANCE: u64 = 6;
/// Of sixteen mappings so many are for pools; the rest is for code, heap and policies.
const MAPPINGS_FOR_POOLS: u64 = 15;
/// A component of 18 MB, a language's runtime with it, needs 390 MB to compile; twice that is room.
const COMPILE_MEMORY_MOST: u64 = 1 << 30;
/// Less and not even small components compile.
const COMPILE_MEMORY_LEAST: u64 = 192 << 20;
/// More would take the processors from the calls that go on meanwhile.
const COMPILE_WORKERS_MOST: u64 = 2;

/// Decides the sizes of each of `pools` equal pools that are to hold `wanted` instances.
pub fn plan(machine: &Machine, pools: u64, wanted: u32) -> Plan {
    let mut reasons = Vec::new();
    let memories = memories(machine, pools, wanted, &mut reasons);
    let instances = instances(machine, pools, wanted, memories, &mut reasons);
    let compile_memory = (machine.memory / 2).clamp(COMPILE_MEMORY_LEAST, COMPILE_MEMORY_MOST);
    if compile_memory < COMPILE_MEMORY_MOST {
        reasons.push(Reason {
            limit: "memory",
            effect: format!(
                "components that need more than {} MiB to compile are refused",
                compile_memory >> 20
            ),
            fix: format!("give the process {} MiB of memory", COMPILE_MEMORY_MOST >> 19),
        });
    }
    let compile_workers = (machine.memory / 2 / compile_memory).clamp(1, COMPILE_WORKERS_MOST);
    Plan {
        instances,
        memories,
        compile_memory,
        compile_workers: u32::try_from(compile_workers).unwrap_or(1),
        reasons,
    }
}

/// Half of the address space stays for code, heap, policies and file mappings.
const fn space_for(machine: &Machine, pools: u64) -> u64 {
    let pools = if pools == 0 { 1 } else { pools };
    machine.address_space / 2 / pools
}

/// What is reserved for one memory: all that 32 bits can address when at least a tenth of what is wanted fits so.
fn memories(machine: &Machine, pools: u64, wanted: u32, reasons: &mut Vec<Reason>) -> Memories {
    let fit = space_for(machine, pools) / FULL.total();
    if fit >= INSTANCES_LEAST * 8 && fit >= u64::from(wanted / 10) {
        return FULL;
    }
    reasons.push(Reason {
        limit: "address-space",
        effect: "guests check each access to memory, and are slower".to_owned(),
        fix: "ulimit -v unlimited".to_owned(),
    });
    Memories { reservation: RESERVATION_SMALL, guard: GUARD_SMALL.next_multiple_of(machine.page.max(1)) }
}

fn instances(machine: &Machine, pools: u64, wanted: u32, each: Memories, reasons: &mut Vec<Reason>) -> u32 {
    let pools = pools.max(1);
    let wanted = u64::from(wanted);
    let memory = wanted * pools * MEMORY_PER_INSTANCE * 2;
    let mappings = (wanted * pools * MAPPINGS_PER_INSTANCE * 16).div_ceil(MAPPINGS_FOR_POOLS);
    let bounds = [
        ("address-space", space_for(machine, pools) / each.total(), "ulimit -v unlimited".to_owned()),
        (
            "memory",
            machine.memory / 2 / MEMORY_PER_INSTANCE / pools,
            format!("give the process {} MiB of memory", memory >> 20),
        ),
        (
            "vm.max_map_count",
            machine.mappings * MAPPINGS_FOR_POOLS / 16 / MAPPINGS_PER_INSTANCE / pools,
            format!("sysctl -w vm.max_map_count={mappings}"),
        ),
    ];
    let mut instances = wanted;
    for (limit, bound, fix) in bounds {
        if bound < instances {
            instances = bound.max(INSTANCES_LEAST);
            reasons.push(Reason {
                limit,
                effect: format!("{instances} instances in a pool, not {wanted}"),
                fix,
            });
        }
    }
    u32::try_from(instances).unwrap_or(u32::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    const LARGE: Machine = Machine::LARGE;

    #[test]
    fn a_large_machine_gets_the_full_pool() {
        let plan = plan(&LARGE, 2, INSTANCES_MOST);
        assert_eq!((plan.instances, plan.memories.reservation), (1_000, 4 << 30));
        assert_eq!((plan.compile_memory, plan.compile_workers), (1 << 30, 2));
        assert!(plan.reasons.is_empty());
    }

    #[test]
    fn a_small_machine_gets_a_small_pool_and_is_told_why() {
        for (machine, instances, word) in [
            (Machine { memory: 256 << 20, ..LARGE }, 128, "memory"),
            (Machine { address_space: 256 << 30, ..LARGE }, 511, "address-space"),
            (Machine { mappings: 1_600, ..LARGE }, 125, "vm.max_map_count"),
            (Machine { memory: 1 << 20, ..LARGE }, 8, "memory"),
        ] {
            let plan = plan(&machine, 2, INSTANCES_MOST);
            assert_eq!(plan.instances, instances, "{machine:?}");
            assert!(plan.reasons.iter().any(|reason| reason.limit == word), "{:?}", plan.reasons);
            assert!(
                u64::from(plan.instances) * plan.memories.total() * 2 <= machine.address_space,
                "{plan:?} does not fit {machine:?}"
            );
        }
    }

    #[test]
    fn more_than_a_machine_can_hold_is_cut_by_name() {
        let plan = plan(&LARGE, 2, 1_000_000);
        assert!(plan.instances < 1_000_000);
        assert!(plan.reasons.iter().any(|reason| reason.limit == "vm.max_map_count"), "{:?}", plan.reasons);
    }

    #[test]
    fn guards_are_whole_pages() {
        for page in [4 << 10, 16 << 10, 64 << 10, 256 << 10] {
            let machine = Machine { page, address_space: 64 << 30, ..LARGE };
            assert_eq!(plan(&machine, 2, INSTANCES_MOST).memories.guard % page, 0, "{page}");
        }
    }

    #[test]
    fn a_board_with_little_memory_compiles_one_at_a_time() {
        for (memory, compile, workers) in [
            (512 << 20, 256 << 20, 1),
            (64 << 20, 192 << 20, 1),
            (2 << 30, 1 << 30, 1),
            (4 << 30, 1 << 30, 2),
        ] {
            let plan = plan(&Machine { memory, ..LARGE }, 2, INSTANCES_MOST);
            assert_eq!((plan.compile_memory, plan.compile_workers), (compile, workers), "{memory}");
        }
    }
}
