//! How far a manifest has come on a node, from what the node says.

use serde::Serialize;

use crate::words::mesh::{NodeReport, Runs};
use crate::words::{Code, Digest, Fault, Outcome};

/// Which manifest is asked about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Want {
    /// Its version.
    pub version: u64,
    /// Digest of the signed bytes.
    pub digest: Digest,
}

/// How far it has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum State {
    /// It is in force.
    Applied,
    /// A newer one is in force.
    Newer,
    /// It can be reached and does not run it yet.
    Waiting,
    /// It does not take it.
    Refused,
    /// It took it and runs an earlier one again.
    Returned,
    /// It is known and cannot be reached; it will take it when it is back.
    Queued,
    /// It does not say what it runs.
    Silent,
    /// It took it, and was given back what it ran before, because others did not fare well.
    Reverted,
    /// It was not asked to take it.
    Untouched,
}

impl State {
    /// The word for people.
    pub const fn as_str(self) -> &'static str {
        match self {
            State::Applied => "applied",
            State::Newer => "newer",
            State::Waiting => "waiting",
            State::Refused => "refused",
            State::Returned => "returned",
            State::Queued => "queued",
            State::Silent => "silent",
            State::Reverted => "reverted",
            State::Untouched => "untouched",
        }
    }

    /// Whether there is nothing left to do on this node.
    pub const fn is_done(self) -> bool {
        matches!(self, State::Applied | State::Newer)
    }

    /// Whether waiting changes nothing.
    pub const fn is_final(self) -> bool {
        !matches!(self, State::Waiting | State::Queued)
    }
}

/// How far it has come on this node, and why no further.
pub fn state(want: &Want, report: &NodeReport) -> (State, Option<String>) {
    let Some(runs) = &report.runs else {
        return match &report.why {
            Some(fault) if matches!(fault.code, Code::NotAllowed | Code::UnknownFunction) => {
                (State::Silent, Some(fault.to_string()))
            }
            Some(fault) if fault.code == Code::NoRoute => {
                (State::Queued, Some("no way leads there at the moment".to_owned()))
            }
            why => (State::Queued, why.as_ref().map(ToString::to_string)),
        };
    };
    if runs.version > want.version {
        return (State::Newer, Some(format!("generation {} is in force there", runs.version)));
    }
    if runs.version == want.version {
        return in_force(want, runs);
    }
    if runs.held_instead_of == Some(want.version) {
        let again = format!("generation {} is in force there again", runs.version);
        let why = runs.returned.as_ref().map(|why| format!("{again}: {why}"));
        return (State::Returned, Some(why.unwrap_or(again)));
    }
    match runs.refused.iter().find(|refused| refused.digest == want.digest) {
        Some(refused) if refused.again => (State::Waiting, Some(refused.why.clone())),
        Some(refused) => (State::Refused, Some(refused.why.clone())),
        // It has taken this very one, and its pointer moves in a moment.
        None if runs.digest == Some(want.digest) => (State::Waiting, None),
        None if runs.floor >= want.version => {
            (State::Refused, Some(format!("version {} was taken there already", runs.floor)))
        }
        None => (State::Waiting, None),
    }
}

fn in_force(want: &Want, runs: &Runs) -> (State, Option<String>) {
    match runs.digest {
        Some(digest) if digest != want.digest => {
            let what = format!("another manifest {} is in force there: {}", want.version, digest.short());
            (State::Refused, Some(what))
        }
        _ if !runs.troubled.is_empty() => {
            (State::Waiting, Some(format!("not running there: {}", runs.troubled.join(", "))))
        }
        _ if runs.probation.is_some_and(|probation| probation.confirm) => {
            (State::Waiting, Some("nobody has confirmed yet that it can still be reached".to_owned()))
        }
        _ if runs.probation.is_some() => (State::Applied, Some("on probation".to_owned())),
        _ => (State::Applied, None),
    }
}

/// Whether the node has taken it, and it has shown there that it is good; or it may still do so.
///
/// # Errors
/// Why it will not.
pub fn settled(want: &Want, report: &NodeReport) -> Outcome<bool> {
    let (state, why) = state(want, report);
    match state {
        State::Applied => Ok(report.runs.as_ref().is_some_and(|runs| runs.probation.is_none())),
        State::Newer => Ok(true),
        State::Waiting | State::Queued => Ok(false),
        _ => Err(Fault::new(Code::PartlyDone, why.unwrap_or_else(|| state.as_str().to_owned()))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::words::NodeId;
    use crate::words::control::OnProbation;
    use crate::words::mesh::Refused;

    fn digest(text: &str) -> Digest {
        Digest::of(text.as_bytes())
    }

    fn runs(version: u64, text: &str) -> Runs {
        Runs {
            label: "n".into(),
            version,
            digest: Some(digest(text)),
            floor: version,
            held_instead_of: None,
            returned: None,
            probation: None,
            troubled: vec![],
            refused: vec![],
        }
    }

    fn says(runs: Runs) -> NodeReport {
        NodeReport { node: NodeId::from([1; 32]), label: "n".into(), own: false, runs: Some(runs), why: None }
    }

    fn silent(code: Code) -> NodeReport {
        NodeReport { runs: None, why: Some(Fault::new(code, "why")), ..says(runs(1, "")) }
    }

    fn refused(text: &str, again: bool) -> Runs {
        let refused = Refused { version: 5, digest: digest(text), why: "because".into(), again };
        Runs { refused: vec![refused], ..runs(4, "old") }
    }

    #[test]
    fn every_state_and_what_it_means() {
        let want = Want { version: 5, digest: digest("new") };
        let held = Runs { held_instead_of: Some(5), floor: 5, ..runs(4, "old") };
        let lost = Runs { floor: 5, ..runs(4, "old") };
        let taking = Runs { floor: 5, ..runs(4, "new") };
        let troubled = Runs { troubled: vec!["routing".into()], ..runs(5, "new") };
        let watched = |confirm| {
            let probation = OnProbation { version: 5, until: 9, confirm };
            Runs { probation: Some(probation), ..runs(5, "new") }
        };
        let returned = Runs { returned: Some("it trapped".into()), ..held.clone() };
        for (report, expect, settles) in [
            (says(watched(true)), State::Waiting, Ok(false)),
            (says(watched(false)), State::Applied, Ok(false)),
            (says(returned), State::Returned, Err("generation 4 is in force there again: it trapped")),
            (says(runs(5, "new")), State::Applied, Ok(true)),
            (says(runs(5, "other")), State::Refused, Err("another manifest 5 is in force there: ")),
            (says(troubled), State::Waiting, Ok(false)),
            (says(runs(6, "next")), State::Newer, Ok(true)),
            (says(runs(4, "old")), State::Waiting, Ok(false)),
            (says(runs(0, "")), State::Waiting, Ok(false)),
            (says(held), State::Returned, Err("generation 4 is in force there again")),
            (says(taking), State::Waiting, Ok(false)),
            (says(lost), State::Refused, Err("version 5 was taken there already")),
            (says(refused("new", false)), State::Refused, Err("because")),
            (says(refused("new", true)), State::Waiting, Ok(false)),
            (says(refused("another", false)), State::Waiting, Ok(false)),
            (silent(Code::Unreachable), State::Queued, Ok(false)),
            (silent(Code::NoRoute), State::Queued, Ok(false)),
            (silent(Code::NotAllowed), State::Silent, Err("not-allowed: why")),
        ] {
            let (found, why) = state(&want, &report);
            assert_eq!(found, expect, "{report:?}: {why:?}");
            match (settled(&want, &report), settles) {
                (Ok(found), Ok(expect)) => assert_eq!(found, expect, "{report:?}"),
                (Err(fault), Err(expect)) => assert!(fault.what.starts_with(expect), "{fault}"),
                (found, expect) => panic!("{found:?}, not {expect:?}: {report:?}"),
            }
        }
    }
}
