//! How large the pools are, decided from what the machine has.
//!
//! Pools reserve address space for every instance that may live at the same time. A pool that does not fit is
//! never replaced by something else in silence: the plan is made smaller first, and says why.

/// What the machine offers this process.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Machine {
    /// Physical memory in bytes, or the memory limit of the process's cgroup where that is smaller.
    pub memory: u64,
    /// Address space that the process may use, in bytes: `RLIMIT_AS`, or 47 bits.
    pub address_space: u64,
    /// `vm.max_map_count`: memory mappings that the process may have.
    pub mappings: u64,
}

/// Sizes of one pool of workload instances.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PoolPlan {
    /// Component instances that may live at the same time.
    pub instances: u32,
    /// Address space reserved for one linear memory, in bytes.
    pub memory_reservation: u64,
    /// Guard region after one linear memory, in bytes.
    pub memory_guard: u64,
    /// What made the pool smaller than its largest size; empty when nothing did.
    pub reasons: Vec<String>,
}

/// Enough for any load that two policies' worth of threads can drive; more only costs page tables.
const INSTANCES_MOST: u64 = 1_000;
/// Fewer than this and a node cannot serve a burst at all.
const INSTANCES_LEAST: u64 = 8;
/// A resident workload instance with its stack, measured at 100–300 KiB; ten times that leaves room for data.
const MEMORY_PER_INSTANCE: u64 = 4 << 20;
/// With 4 GiB reserved and 32 MiB of guard, compiled code needs no bounds checks.
const RESERVATION_FULL: u64 = 4 << 30;
const GUARD_FULL: u64 = 32 << 20;
/// Without the address space for that: the largest memory a workload may ask for, checked at each access.
const RESERVATION_SMALL: u64 = 128 << 20;
const GUARD_SMALL: u64 = 64 << 10;
/// Each live instance has a memory, a table and a stack, each of them up to two mappings.
const MAPPINGS_PER_INSTANCE: u64 = 6;

/// Decides the size of each of `pools` equal pools.
pub fn plan(machine: Machine, pools: u64) -> PoolPlan {
    let mut reasons = Vec::new();
    // Half of the address space stays for code, heap, policies and file mappings.
    let space = machine.address_space / 2 / pools.max(1);
    let full = RESERVATION_FULL + GUARD_FULL;
    let (reservation, guard) = if space / full >= INSTANCES_LEAST * 8 {
        (RESERVATION_FULL, GUARD_FULL)
    } else {
        reasons.push(format!(
            "address space of {} GiB: memories are bounds-checked",
            machine.address_space >> 30
        ));
        (RESERVATION_SMALL, GUARD_SMALL)
    };
    let bounds = [
        (space / (reservation + guard), "address space"),
        (machine.memory / 2 / MEMORY_PER_INSTANCE, "memory"),
        (machine.mappings / 2 / MAPPINGS_PER_INSTANCE / pools.max(1), "vm.max_map_count"),
    ];
    let mut instances = INSTANCES_MOST;
    for (bound, what) in bounds {
        if bound < instances {
            instances = bound;
            reasons.push(format!("{what} allows {bound} instances"));
        }
    }
    PoolPlan {
        instances: u32::try_from(instances.max(INSTANCES_LEAST)).unwrap_or(u32::MAX),
        memory_reservation: reservation,
        memory_guard: guard,
        reasons,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LARGE: Machine = Machine { memory: 24 << 30, address_space: 1 << 47, mappings: 65_530 };

    #[test]
    fn a_large_machine_gets_the_full_pool() {
        let plan = plan(LARGE, 2);
        assert_eq!((plan.instances, plan.memory_reservation), (1_000, 4 << 30));
        assert!(plan.reasons.is_empty());
    }

    #[test]
    fn a_small_machine_gets_a_small_pool_and_is_told_why() {
        for (machine, instances, word) in [
            (Machine { memory: 256 << 20, ..LARGE }, 32, "memory"),
            (Machine { address_space: 256 << 30, ..LARGE }, 511, "address space"),
            (Machine { mappings: 2_400, ..LARGE }, 100, "vm.max_map_count"),
            (Machine { memory: 1 << 20, ..LARGE }, 8, "memory"),
        ] {
            let plan = plan(machine, 2);
            assert_eq!(plan.instances, instances, "{machine:?}");
            assert!(plan.reasons.iter().any(|reason| reason.contains(word)), "{:?}", plan.reasons);
            assert!(
                u64::from(plan.instances) * (plan.memory_reservation + plan.memory_guard) * 2
                    <= machine.address_space,
                "{plan:?} does not fit {machine:?}"
            );
        }
    }
}
