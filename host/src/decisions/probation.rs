//! Whether a new version of a plugin is no good: what was seen of it since it has its slot goes in, a reason to go back comes out.

/// Ends of a policy's instances. One may be bad luck, and two a coincidence.
pub const POLICY_ENDS_MOST: u64 = 2;
/// Calls of a workload that may end by its own fault, however few there are in all.
pub const FAILED_MOST: u64 = 2;
/// More of them are too many when they are at least one call in this many. What fails more rarely may be a matter of what it is asked.
pub const FAILED_SHARE: u64 = 10;
/// Probes in a row that may fail.
pub const PROBES_MOST: u32 = 2;

/// What was seen of one plugin.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Seen {
    /// Instances of a policy that were ended.
    pub ended: u64,
    /// Calls of a workload.
    pub calls: u64,
    /// Those that ended by a fault of the plugin.
    pub failed: u64,
    /// Probes that failed one after the other, up to the last one.
    pub probes_failed: u32,
    /// Whether it is down: a policy without an instance.
    pub down: bool,
    /// Whether the time in which it had to show that it is good is over.
    pub over: bool,
}

/// Why it is no good, as the rest of a sentence that begins with its slot.
pub fn fails(seen: &Seen) -> Option<String> {
    let Seen { ended, calls, failed, probes_failed, down, over } = *seen;
    if ended > POLICY_ENDS_MOST {
        return Some(format!("was ended {ended} times"));
    }
    if failed > FAILED_MOST && failed.saturating_mul(FAILED_SHARE) >= calls {
        return Some(format!("failed in {failed} of {calls} calls"));
    }
    if probes_failed > PROBES_MOST {
        return Some(format!("failed {probes_failed} probes in a row"));
    }
    (down && over).then(|| "did not run at the end of its probation".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_fails_often_is_no_good() {
        let good = Seen::default();
        for (seen, expect) in [
            (good, None),
            (Seen { ended: 2, ..good }, None),
            (Seen { ended: 3, ..good }, Some("was ended 3 times")),
            (Seen { calls: 2, failed: 2, ..good }, None),
            (Seen { calls: 3, failed: 3, ..good }, Some("failed in 3 of 3 calls")),
            (Seen { calls: 30, failed: 3, ..good }, Some("failed in 3 of 30 calls")),
            (Seen { calls: 31, failed: 3, ..good }, None),
            (Seen { calls: 1_000_000, failed: 99_999, ..good }, None),
            (Seen { probes_failed: 2, ..good }, None),
            (Seen { probes_failed: 3, ..good }, Some("failed 3 probes in a row")),
            (Seen { down: true, ..good }, None),
            (Seen { over: true, ..good }, None),
            (Seen { down: true, over: true, ..good }, Some("did not run at the end of its probation")),
        ] {
            assert_eq!(fails(&seen).as_deref(), expect, "{seen:?}");
        }
    }
}
