//! The rights with which a call is served, and what is left of them when the plugin that serves it calls on.
//!
//! A chain of calls never gains rights: whoever is called by a peer of basic trust calls on with basic trust, whatever its
//! own node is trusted with.

use crate::words::id::NODE_DOMAIN;
use crate::words::{Code, Fault, Name, NodeId, Outcome, Trust};

/// Most plugins that may call on, one after the other. Each holds an instance while it waits, so a cycle must end early.
pub const DEPTH_MAX: u8 = 8;

/// On whose behalf a call is served.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rights {
    /// The node that asked this node.
    pub from: NodeId,
    /// The least trust of the whole chain.
    pub trust: Trust,
    /// How many plugins have called on so far.
    pub depth: u8,
}

impl Rights {
    /// Those of a call that the operator of this node makes.
    pub const fn own(node: NodeId) -> Self {
        Self { from: node, trust: Trust::Full, depth: 0 }
    }

    /// Those of code that runs on nobody's behalf, as while an instance starts.
    pub const fn none(node: NodeId) -> Self {
        Self { from: node, trust: Trust::Unknown, depth: 0 }
    }

    /// What is left when the plugin in `slot`, granted the names of `patterns`, calls `name`.
    ///
    /// # Errors
    /// `missing-grant` for a name that is not granted, `not-admitted` on nobody's behalf, `too-deep` at the end of the chain.
    pub fn nested(&self, slot: &str, patterns: &[String], name: &Name) -> Outcome<Self> {
        // What a node answers by its own name, blobs and orders, has grants of its own or is not for plugins.
        if name.is_reserved() {
            let what =
                format!("{slot} may not call {name}: names @{NODE_DOMAIN} are those of the nodes themselves");
            return Err(Fault::new(Code::MissingGrant, what)
                .fix("grants.blobs and grants.peers give what plugins may have of other nodes"));
        }
        if !patterns.iter().any(|pattern| name.matches(pattern)) {
            return Err(Fault::new(Code::MissingGrant, format!("{slot} may not call {name}"))
                .fix(format!("grants.invoke = [\"{name}\"]")));
        }
        if self.trust < Trust::Basic {
            return Err(Fault::new(Code::NotAdmitted, format!("{slot} calls {name} on nobody's behalf"))
                .fix("call it from a function that is called, not while the instance starts"));
        }
        if self.depth >= DEPTH_MAX {
            return Err(Fault::new(
                Code::TooDeep,
                format!("{slot} calls {name}, but {DEPTH_MAX} plugins have called on before"),
            )
            .fix("plugins that call each other in a circle have to end it themselves"));
        }
        Ok(Self { depth: self.depth + 1, ..*self })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn nested(rights: Rights, patterns: &[&str], name: &str) -> Result<Rights, Code> {
        let patterns: Vec<String> = patterns.iter().map(|text| (*text).to_owned()).collect();
        rights.nested("skill/a", &patterns, &name.parse().unwrap()).map_err(|fault| fault.code)
    }

    #[test]
    fn only_granted_names_may_be_called() {
        let own = Rights::own([1; 32].into());
        for (patterns, name, expect) in [
            (&[][..], "a@d", Err(Code::MissingGrant)),
            (&["a@d"], "a@d", Ok(())),
            (&["a@d"], "b@d", Err(Code::MissingGrant)),
            (&["*@d"], "b@d", Ok(())),
            (&["*@d"], "b@e", Err(Code::MissingGrant)),
            (&["x@y", "*"], "b@e", Ok(())),
            (&["*"], "b@node", Err(Code::MissingGrant)),
            (&["*@node"], "b@node", Err(Code::MissingGrant)),
            (&["b@node"], "b@node", Err(Code::MissingGrant)),
            (&["*"], "b@node.example", Ok(())),
        ] {
            assert_eq!(nested(own, patterns, name).map(|_| ()), expect, "{patterns:?} {name}");
        }
    }

    #[test]
    fn a_chain_never_gains_trust_and_ends() {
        for trust in Trust::ALL {
            let mut rights = Rights { from: [1; 32].into(), trust, depth: 0 };
            if trust < Trust::Basic {
                assert_eq!(nested(rights, &["*"], "a@d"), Err(Code::NotAdmitted));
                continue;
            }
            for depth in 1..=DEPTH_MAX {
                rights = nested(rights, &["*"], "a@d").unwrap();
                assert_eq!((rights.trust, rights.depth), (trust, depth));
            }
            assert_eq!(nested(rights, &["*"], "a@d"), Err(Code::TooDeep));
            rights.depth = u8::MAX;
            assert_eq!(nested(rights, &["*"], "a@d"), Err(Code::TooDeep));
        }
    }
}
