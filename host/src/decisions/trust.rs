//! Who may do what: one function, one table.

use crate::words::{Code, Fault, NodeId, Outcome, Trust};

/// What somebody may ask a node for over a link.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Operation {
    /// Say hello and ask for admission.
    Hello,
    /// Call a skill that is exposed from this level of trust on.
    Call(Trust),
    /// Have a call forwarded.
    Forward,
    /// Fetch a blob.
    FetchBlob,
    /// Fetch the manifest that the node passes on, and ask what it runs.
    Manifest,
    /// Speak with the policies over a channel.
    Channel,
    /// Exchange entries of datasets.
    Sync,
}

impl Operation {
    /// The least trust that is needed. Control is not in the table: it is never a matter of trust.
    pub fn needs(self) -> Trust {
        match self {
            Operation::Hello => Trust::Unknown,
            Operation::Call(exposed) => exposed.max(Trust::Basic),
            Operation::Forward => Trust::Basic,
            Operation::FetchBlob | Operation::Manifest | Operation::Channel | Operation::Sync => {
                Trust::Trusted
            }
        }
    }
}

/// Effective trust of a peer: the least of what anybody says.
pub fn effective(membership: Option<Trust>, strangers: Trust, verdict: Trust, cap: Trust) -> Trust {
    membership.unwrap_or(strangers.min(Trust::Pending)).min(verdict).min(cap)
}

/// Refuses what the trust does not cover.
pub fn check(operation: Operation, trust: Trust, who: &NodeId) -> Outcome<()> {
    let needs = operation.needs();
    if trust >= needs {
        return Ok(());
    }
    if trust < Trust::Basic {
        return Err(Fault::new(
            Code::NotAdmitted,
            format!("{} has not been admitted: its trust is {trust}", who.short()),
        )
        .fix("give it a membership of this mesh: `midplane peer admit NODE-ID`"));
    }
    Err(Fault::new(Code::NotAllowed, format!("{} is trusted as {trust}; this needs {needs}", who.short()))
        .fix("raise the trust of its membership, or `expose` of the plugin"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_whole_table() {
        let who = NodeId::from([1; 32]);
        let operations = [
            (Operation::Hello, [true, true, true, true, true]),
            (Operation::Call(Trust::Unknown), [false, false, true, true, true]),
            (Operation::Call(Trust::Basic), [false, false, true, true, true]),
            (Operation::Call(Trust::Trusted), [false, false, false, true, true]),
            (Operation::Call(Trust::Full), [false, false, false, false, true]),
            (Operation::Forward, [false, false, true, true, true]),
            (Operation::FetchBlob, [false, false, false, true, true]),
            (Operation::Manifest, [false, false, false, true, true]),
            (Operation::Channel, [false, false, false, true, true]),
            (Operation::Sync, [false, false, false, true, true]),
        ];
        for (operation, expect) in operations {
            for (trust, expect) in Trust::ALL.into_iter().zip(expect) {
                assert_eq!(check(operation, trust, &who).is_ok(), expect, "{operation:?} at {trust}");
            }
        }
    }

    #[test]
    fn nobody_can_raise_the_trust() {
        for membership in [None, Some(Trust::Basic), Some(Trust::Full)] {
            for verdict in Trust::ALL {
                for cap in Trust::ALL {
                    let trust = effective(membership, Trust::Full, verdict, cap);
                    assert!(trust <= verdict && trust <= cap);
                    assert!(trust <= membership.unwrap_or(Trust::Pending));
                }
            }
        }
    }
}
