//! What operators may ask of a node: one table. Trust has no part in it.

use crate::words::objects::Role;
use crate::words::{Code, Fault, NodeId, Outcome, Verb};

/// The least role that may ask for this; none for what is asked only on the machine itself.
pub const fn needs(verb: Verb) -> Option<Role> {
    match verb {
        Verb::Status
        | Verb::Plugins
        | Verb::Peers
        | Verb::Routes
        | Verb::Logs
        | Verb::Events
        | Verb::Inspect
        | Verb::History
        | Verb::Manifest
        | Verb::Mesh => Some(Role::View),
        // A recording starts a policy anew and holds what it knows.
        // A call acts in the name of that node; blobs and entries take its room, and whoever reads them reads what may be secret.
        // A rollback brings nothing to the node but what somebody with the role deploy had signed for it, and it ran there.
        Verb::Call | Verb::Blob | Verb::Dataset | Verb::Record | Verb::Rollback => Some(Role::Operate),
        Verb::Lacks | Verb::PutBlob | Verb::Apply | Verb::Confirm | Verb::Swap | Verb::UpdateRoot => {
            Some(Role::Deploy)
        }
        Verb::Find | Verb::Forward => None,
    }
}

/// Refuses what the role of an operator does not cover.
///
/// # Errors
/// `not-allowed`.
pub fn check(role: Role, verb: Verb, who: &NodeId) -> Outcome<()> {
    let what = match needs(verb) {
        Some(needs) if role >= needs => return Ok(()),
        Some(needs) => format!("operator {} has role {role}; {verb} needs {needs}", who.short()),
        None => format!("{verb} is asked only on the node's own machine"),
    };
    Err(Fault::new(Code::NotAllowed, what).fix("`midplane mesh roles` shows who may ask for what"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_whole_table() {
        let who = NodeId::from([1; 32]);
        for verb in Verb::ALL {
            let expect = match verb.as_str() {
                "status" | "plugins" | "peers" | "routes" | "logs" | "events" | "inspect" | "history"
                | "manifest" | "mesh" => [true, true, true],
                "call" | "blob" | "dataset" | "record" | "rollback" => [false, true, true],
                "lacks" | "put-blob" | "apply" | "confirm" | "swap" | "update-root" => [false, false, true],
                "find" | "forward" => [false, false, false],
                other => panic!("{other} is not in the test"),
            };
            for (role, expect) in Role::ALL.into_iter().zip(expect) {
                let outcome = check(role, *verb, &who);
                assert_eq!(outcome.is_ok(), expect, "{verb} as {role}");
                assert!(outcome.is_ok() || outcome.unwrap_err().code == Code::NotAllowed);
            }
        }
    }
}
