//! What this machine offers the process, read from the kernel. Values that cannot be read count as plentiful: a plan that is too
//! large fails by name, one that is too small for no reason is never noticed.

use std::path::{Path, PathBuf};

use rustix::process::{Resource, getrlimit};

use crate::decisions::sizing::Machine;

/// Linux's default for `vm.max_map_count`.
const MAPPINGS_DEFAULT: u64 = 65_530;
/// What a process can address on x86-64 and arm64.
const ADDRESS_SPACE: u64 = 1 << 47;
/// Where the control groups are.
const CGROUPS: &str = "/sys/fs/cgroup";

/// Reads it.
pub fn read() -> Machine {
    let sysctl = |name: &str| number(Path::new(&format!("/proc/sys/{name}")));
    let group = text(Path::new("/proc/self/cgroup"))
        .and_then(|groups| limit_files(&groups).iter().filter_map(|file| number(file)).min());
    Machine {
        memory: physical_memory().min(group.unwrap_or(u64::MAX)),
        address_space: getrlimit(Resource::As).current.unwrap_or(ADDRESS_SPACE).min(ADDRESS_SPACE),
        mappings: sysctl("vm/max_map_count").unwrap_or(MAPPINGS_DEFAULT),
        page: rustix::param::page_size() as u64,
        receive_buffer: sysctl("net/core/rmem_max").unwrap_or(u64::MAX),
        send_buffer: sysctl("net/core/wmem_max").unwrap_or(u64::MAX),
        open_files: getrlimit(Resource::Nofile).current.unwrap_or(u64::MAX),
    }
}

fn physical_memory() -> u64 {
    text(Path::new("/proc/meminfo"))
        .and_then(|text| {
            let line = text.lines().find(|line| line.starts_with("MemTotal:"))?.to_owned();
            line.split_whitespace().nth(1)?.parse::<u64>().ok()
        })
        .map_or(u64::MAX, |kib| kib.saturating_mul(1024))
}

/// The files that may limit the memory of a process, given its `/proc/self/cgroup`: of its own group and of all groups around it,
/// in both versions of control groups.
fn limit_files(groups: &str) -> Vec<PathBuf> {
    let mut files = Vec::new();
    for line in groups.lines() {
        let mut fields = line.splitn(3, ':');
        let (Some(_), Some(controllers), Some(group)) = (fields.next(), fields.next(), fields.next()) else {
            continue;
        };
        let (root, file) = match controllers {
            "" => (PathBuf::from(CGROUPS), "memory.max"),
            _ if controllers.split(',').any(|name| name == "memory") => {
                (Path::new(CGROUPS).join("memory"), "memory.limit_in_bytes")
            }
            _ => continue,
        };
        let group = group.trim_start_matches('/');
        files.extend(Path::new(group).ancestors().map(|ancestor| root.join(ancestor).join(file)));
    }
    files
}

fn text(path: &Path) -> Option<String> {
    std::fs::read_to_string(path).ok()
}

/// A number that is the file's whole text; `max` is none.
fn number(path: &Path) -> Option<u64> {
    text(path)?.trim().parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_group_around_the_process_may_limit_it() {
        let check = |groups: &str, expect: &[&str]| {
            let files: Vec<String> =
                limit_files(groups).iter().map(|file| file.display().to_string()).collect();
            assert_eq!(files, expect);
        };
        check(
            "0::/a/b\n",
            &["/sys/fs/cgroup/a/b/memory.max", "/sys/fs/cgroup/a/memory.max", "/sys/fs/cgroup/memory.max"],
        );
        check("0::/\n", &["/sys/fs/cgroup/memory.max"]);
        check(
            "4:cpu,memory:/x\n2:pids:/x\n",
            &["/sys/fs/cgroup/memory/x/memory.limit_in_bytes", "/sys/fs/cgroup/memory/memory.limit_in_bytes"],
        );
        check("nonsense\n", &[]);
    }

    #[test]
    fn this_machine_has_something_of_everything() {
        let machine = read();
        assert!(machine.memory > 64 << 20 && machine.page >= 4_096 && machine.page.is_power_of_two());
        assert!(machine.address_space > 1 << 30 && machine.mappings > 1_000 && machine.open_files > 0);
    }
}
