//! A canary: which call goes to the candidate, what counts against a plugin, and whether the candidate does as well.

use super::latency::Latency;
use crate::words::count::count;
use crate::words::swap::{CanaryTerms, Side};
use crate::words::{Code, Fault, Outcome};

/// Largest share of the candidate: something has to go to the active one, or there is nothing to compare with.
pub const SHARE_MAX: u32 = 990;
/// Longest trial: a day, as of a call.
pub const TIME_MOST_MS: u64 = 24 * 3_600_000;
/// What half of the calls may take longer whatever the share says: the noise of a machine with something else to do.
const NOISE_P50_NS: u64 = 50_000;
/// The same for one call in a hundred, which waits for the scheduler once.
const NOISE_P99_NS: u64 = 1_000_000;

/// Whether the call with this number, from 0, goes to the candidate. Its share is spread evenly, so that both see the same hours.
pub fn to_candidate(number: u64, share: u32) -> bool {
    let before = |number: u64| u128::from(number) * u128::from(share) / 1000;
    before(number.saturating_add(1)) > before(number)
}

/// Whether a failure counts against the plugin that was called: it was ended, or it has no such function or other types, where the other
/// one may have them. Its own errors do not, nor what is about the caller or the node.
pub const fn blames(code: Code) -> bool {
    matches!(
        code,
        Code::Trap
            | Code::MemoryLimit
            | Code::StackOverflow
            | Code::HostCallLimit
            | Code::OutOfFuel
            | Code::Deadline
            | Code::UnknownFunction
            | Code::NotCallable
            | Code::BadArgument
            | Code::Internal
    )
}

/// What was seen of one of the two.
#[derive(Debug, Default)]
pub struct Seen {
    calls: u64,
    faults: u64,
    latency: Latency,
}

impl Seen {
    /// A call that was answered, or failed, after this time.
    pub fn call(&mut self, took_ns: u64, fault: bool) {
        self.calls += 1;
        self.faults += u64::from(fault);
        self.latency.add(took_ns);
    }

    /// A call that was counted failed after its answer had begun.
    pub fn broke(&mut self) {
        self.faults += 1;
    }

    /// In numbers.
    pub fn side(&self) -> Side {
        Side {
            calls: self.calls,
            faults: self.faults,
            p50_ns: self.latency.quantile(500),
            p99_ns: self.latency.quantile(990),
            fuel: None,
        }
    }
}

/// What becomes of a canary.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// It goes on.
    GoOn,
    /// The candidate is put in force, and why.
    Promote(String),
    /// It is not, and why.
    Revert(String),
}

/// Refuses terms by which nothing can be judged.
///
/// # Errors
/// `usage`.
pub fn check(terms: &CanaryTerms) -> Outcome<()> {
    let usage = |what: &str| Err(Fault::new(Code::Usage, what));
    match terms {
        CanaryTerms { share, .. } if *share == 0 || *share > SHARE_MAX => {
            usage("share of a canary is from 0.1% to 99%: both have to be called")
        }
        CanaryTerms { at_least: 0, .. } => usage("a canary is judged by one call of each at the least"),
        CanaryTerms { calls: Some(calls), at_least, .. } if calls < at_least => {
            usage("a canary would end before it has the calls that it is judged by")
        }
        CanaryTerms { time_ms, .. } if *time_ms > TIME_MOST_MS => usage("a canary takes a day at most"),
        _ => Ok(()),
    }
}

/// Judges, by what was seen of both in the same time. Too many faults end it as soon as there are calls enough to say so; how long calls
/// took is judged at the end.
pub fn judge(terms: &CanaryTerms, active: &Side, candidate: &Side, time_over: bool) -> Verdict {
    let enough = active.calls >= terms.at_least && candidate.calls >= terms.at_least;
    if enough && fails_more(active, candidate, terms.errors_at_most) {
        return Verdict::Revert(format!(
            "{} of the candidate in {}, {} of the active one in {}; at most {} more are allowed",
            count(candidate.faults, "fault"),
            count(candidate.calls, "call"),
            active.faults,
            active.calls,
            percent(terms.errors_at_most)
        ));
    }
    if !time_over && terms.calls.is_none_or(|calls| candidate.calls < calls || !enough) {
        return Verdict::GoOn;
    }
    if !enough {
        return Verdict::Revert(format!(
            "too few calls: {} of the candidate and {} of the active one, {} of each are needed",
            candidate.calls, active.calls, terms.at_least
        ));
    }
    for (what, of, noise) in [
        ("half of the calls", (active.p50_ns, candidate.p50_ns), NOISE_P50_NS),
        ("99% of the calls", (active.p99_ns, candidate.p99_ns), NOISE_P99_NS),
    ] {
        let (active, candidate) = of;
        let most = u128::from(active) * u128::from(1000 + terms.slower_at_most) / 1000 + u128::from(noise);
        if u128::from(candidate) > most {
            return Verdict::Revert(format!(
                "slower: {what} took up to {} µs, with the active one {} µs; at most {} more are allowed",
                candidate / 1000,
                active / 1000,
                percent(terms.slower_at_most)
            ));
        }
    }
    Verdict::Promote(format!("it did as well in {}", count(candidate.calls, "call")))
}

/// Whether the candidate's share of faults is above that of the active one by more than this.
fn fails_more(active: &Side, candidate: &Side, at_most: u32) -> bool {
    let (active_calls, calls) = (u128::from(active.calls), u128::from(candidate.calls));
    let allowed = 1000 * u128::from(active.faults) + u128::from(at_most) * active_calls;
    1000 * u128::from(candidate.faults) * active_calls > allowed * calls
}

/// Thousandths for people.
pub fn percent(thousandths: u32) -> String {
    match (thousandths / 10, thousandths % 10) {
        (whole, 0) => format!("{whole}%"),
        (whole, part) => format!("{whole}.{part}%"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn terms() -> CanaryTerms {
        CanaryTerms {
            share: 100,
            time_ms: 60_000,
            calls: None,
            at_least: 20,
            errors_at_most: 10,
            slower_at_most: 500,
        }
    }

    fn side(calls: u64, faults: u64, p50_us: u64, p99_us: u64) -> Side {
        Side { calls, faults, p50_ns: p50_us * 1000, p99_ns: p99_us * 1000, fuel: None }
    }

    #[test]
    fn a_share_is_what_it_says_and_spread_evenly() {
        for share in [1, 10, 100, 333, 500, SHARE_MAX] {
            let all: Vec<bool> = (0..10_000).map(|number| to_candidate(number, share)).collect();
            assert_eq!(all.iter().filter(|to| **to).count(), share as usize * 10, "{share}");
            let pause = all.split(|to| *to).map(<[bool]>::len).max().unwrap();
            assert!(pause <= 1000_usize.div_ceil(share as usize), "{share}: {pause} in a row");
        }
        assert!(!(0..10_000).any(|number| to_candidate(number, 0)));
        assert!(to_candidate(u64::MAX - 1, 1000));
    }

    #[test]
    fn faults_of_the_plugin_count_and_nothing_else() {
        let counted: Vec<&str> =
            Code::ALL.iter().filter(|code| blames(**code)).map(|code| code.as_str()).collect();
        assert_eq!(
            counted,
            [
                "unknown-function",
                "bad-argument",
                "not-callable",
                "deadline",
                "trap",
                "memory-limit",
                "stack-overflow",
                "host-call-limit",
                "out-of-fuel",
                "internal"
            ]
        );
    }

    #[test]
    fn the_whole_table() {
        enum Is {
            On,
            In,
            Out(&'static str),
        }
        let calls = |calls| CanaryTerms { calls: Some(calls), ..terms() };
        for (terms, active, candidate, over, expect) in [
            // Nothing is said before there is something to say.
            (terms(), side(0, 0, 0, 0), side(0, 0, 0, 0), false, Is::On),
            (terms(), side(0, 0, 0, 0), side(0, 0, 0, 0), true, Is::Out("too few calls: 0 of the candidate")),
            (terms(), side(900, 0, 9, 90), side(19, 0, 9, 90), true, Is::Out("too few calls: 19")),
            (terms(), side(19, 0, 9, 90), side(900, 0, 9, 90), true, Is::Out("too few calls: 900")),
            (terms(), side(900, 0, 9, 90), side(100, 0, 9, 90), false, Is::On),
            (terms(), side(900, 0, 9, 90), side(100, 0, 9, 90), true, Is::In),
            // Faults, beyond those that the active one has too.
            (terms(), side(900, 0, 9, 90), side(100, 1, 9, 90), true, Is::In),
            (
                terms(),
                side(900, 0, 9, 90),
                side(100, 2, 9, 90),
                true,
                Is::Out("2 faults of the candidate in 100"),
            ),
            (terms(), side(900, 0, 9, 90), side(100, 2, 9, 90), false, Is::Out("2 faults")),
            (terms(), side(900, 0, 9, 90), side(19, 19, 9, 90), false, Is::On),
            (terms(), side(900, 0, 9, 90), side(20, 20, 9, 90), false, Is::Out("20 faults")),
            (terms(), side(900, 90, 9, 90), side(100, 11, 9, 90), true, Is::In),
            (terms(), side(900, 90, 9, 90), side(100, 12, 9, 90), true, Is::Out("12 faults")),
            (terms(), side(900, 900, 9, 90), side(100, 100, 9, 90), true, Is::In),
            // Time, at the end only, and beyond the noise.
            (terms(), side(900, 0, 1000, 9000), side(100, 0, 1550, 9000), true, Is::In),
            (terms(), side(900, 0, 1000, 9000), side(100, 0, 1551, 9000), true, Is::Out("slower: half")),
            (terms(), side(900, 0, 1000, 9000), side(100, 0, 1551, 9000), false, Is::On),
            (terms(), side(900, 0, 1000, 2000), side(100, 0, 1000, 4000), true, Is::In),
            (terms(), side(900, 0, 1000, 2000), side(100, 0, 1000, 4001), true, Is::Out("slower: 99%")),
            (terms(), side(900, 0, 1, 2), side(100, 0, 40, 900), true, Is::In),
            // So many calls are enough.
            (calls(50), side(900, 0, 9, 90), side(49, 0, 9, 90), false, Is::On),
            (calls(50), side(900, 0, 9, 90), side(50, 0, 9, 90), false, Is::In),
            (calls(50), side(19, 0, 9, 90), side(50, 0, 9, 90), false, Is::On),
            (calls(50), side(19, 0, 9, 90), side(50, 0, 9, 90), true, Is::Out("too few")),
        ] {
            let verdict = judge(&terms, &active, &candidate, over);
            let good = match (&verdict, &expect) {
                (Verdict::GoOn, Is::On) | (Verdict::Promote(_), Is::In) => true,
                (Verdict::Revert(why), Is::Out(expect)) => why.starts_with(expect),
                _ => false,
            };
            assert!(good, "{active:?} {candidate:?} {over}: {verdict:?}");
        }
    }

    #[test]
    fn terms_by_which_nothing_can_be_judged_are_refused() {
        assert!(check(&terms()).is_ok());
        for wrong in [
            CanaryTerms { share: 0, ..terms() },
            CanaryTerms { share: SHARE_MAX + 1, ..terms() },
            CanaryTerms { at_least: 0, ..terms() },
            CanaryTerms { calls: Some(19), ..terms() },
            CanaryTerms { time_ms: TIME_MOST_MS + 1, ..terms() },
        ] {
            assert_eq!(check(&wrong).unwrap_err().code, Code::Usage, "{wrong:?}");
        }
    }

    #[test]
    fn thousandths_are_told_as_percent() {
        assert_eq!([percent(10), percent(5), percent(125), percent(0)], ["1%", "0.5%", "12.5%", "0%"]);
    }
}
