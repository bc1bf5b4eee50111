//! Which generation runs, and which other ones are kept beside it: the words of the file `current`.
//!
//! One file says all of it, so that a crash leaves the old or the new: what runs, whether it is held by a rollback, which of its components
//! are swapped, and where one can go back to.

use serde::{Deserialize, Serialize};

use crate::words::objects::BlobRef;
use crate::words::{Code, Digest, Fault, NodeId, Outcome};

/// Which generation runs.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Current {
    /// Manifest version.
    pub version: u64,
    /// Digest of the signed manifest.
    pub digest: Digest,
    /// When it was published, Unix ms.
    pub since: u64,
    /// Keys that had signed it.
    #[serde(default)]
    pub signers: Vec<NodeId>,
    /// What it changed when it was first applied, in a line for people.
    #[serde(default)]
    pub change: String,
    /// The version that would run here without a rollback: the highest that was applied. None when that is what runs.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub instead_of: Option<u64>,
    /// Why the node went back by itself from the version of `instead_of`. None when somebody rolled back.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub returned: Option<String>,
    /// Whether it has shown that it is good.
    #[serde(default = "yes")]
    pub settled: bool,
    /// What it still has to show. None once it is settled, and for one that came back.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub probation: Option<Probation>,
    /// The others that are kept, the one that ran last in front.
    #[serde(default)]
    pub others: Vec<Past>,
    /// Where another component runs than the manifest names, at most one for each slot.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub swaps: Vec<Swapped>,
    /// Versions that are not passed on to peers: a wave of nodes tries them first, or this node went back from them.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub kept_back: Vec<u64>,
}

/// A swap that is in force.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Swapped {
    /// The slot.
    pub slot: String,
    /// What runs there.
    pub component: BlobRef,
    /// When it came into force, Unix ms.
    pub since: u64,
    /// Keys that had signed it.
    pub signers: Vec<NodeId>,
    /// The swap as it was signed: a start verifies it again.
    #[serde(with = "serde_bytes")]
    pub signed: Vec<u8>,
}

/// What a generation still has to show.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Probation {
    /// When it is settled unless something goes wrong, Unix ms.
    pub until: u64,
    /// Whether somebody has to confirm before then that the node can still be reached.
    pub confirm: bool,
    /// How often the node has started with it since.
    pub starts: u32,
}

fn yes() -> bool {
    true
}

/// A generation that ran, and can run again.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Past {
    /// Manifest version.
    pub version: u64,
    /// Digest of the signed manifest.
    pub digest: Digest,
    /// When it was published, Unix ms.
    pub since: u64,
    /// Keys that had signed it.
    pub signers: Vec<NodeId>,
    /// What it changed when it was first applied, in a line for people.
    pub change: String,
    /// Whether it has shown that it is good.
    #[serde(default = "yes")]
    pub settled: bool,
}

impl Current {
    /// A newly applied generation, after the one that ran before it. It ends a hold and all swaps. Two are kept, each of which may need components of
    /// its own; and a third, the last that was settled, while the one before is not.
    pub fn after(before: Option<&Current>, new: Past) -> Self {
        let good = before.filter(|before| !before.settled);
        let good = good.and_then(|before| before.others.iter().find(|past| past.settled).cloned());
        let others: Vec<Past> = before.map(Current::past).into_iter().chain(good).collect();
        let kept_back = before.map(|before| before.kept_back.clone()).unwrap_or_default();
        let kept_back =
            kept_back.into_iter().filter(|kept| others.iter().any(|past| past.version == *kept)).collect();
        Self::of(new, others, kept_back)
    }

    /// A generation as it was signed, in force and not held.
    fn of(past: Past, others: Vec<Past>, kept_back: Vec<u64>) -> Self {
        let Past { version, digest, since, signers, change, settled } = past;
        Self {
            version,
            digest,
            since,
            signers,
            change,
            instead_of: None,
            returned: None,
            settled,
            probation: None,
            others,
            swaps: Vec::new(),
            kept_back,
        }
    }

    /// The same, with somebody to watch what was swapped in it until then, and to confirm it when that is wanted.
    #[must_use]
    pub fn watch_swaps(self, until: u64, confirm: bool) -> Self {
        if self.swaps.is_empty() {
            return Self { probation: self.probation.filter(|_| !self.settled), ..self };
        }
        let before = self.probation;
        let probation = Probation {
            until: before.map_or(until, |before| before.until.max(until)),
            confirm: confirm || before.is_some_and(|before| before.confirm),
            starts: before.map_or(0, |before| before.starts),
        };
        Self { probation: Some(probation), ..self }
    }

    /// Where the node goes when this one is no good: to itself without its swaps, if it was settled before there were any; otherwise to the last
    /// that was settled, or else to the one that ran before.
    pub fn last_good(&self) -> Option<u64> {
        if self.settled && !self.swaps.is_empty() {
            return Some(self.version);
        }
        let settled = self.others.iter().find(|past| past.settled);
        settled.or(self.others.first()).map(|past| past.version)
    }

    /// The same, but this generation is not passed on to peers.
    #[must_use]
    pub fn keep_back(mut self) -> Self {
        self.kept_back.push(self.version);
        self
    }

    /// The same, for a node that came here by itself. What it went back from is not passed on to peers.
    #[must_use]
    pub fn went_back(mut self, from: u64, why: &str) -> Self {
        self.returned = Some(why.to_owned());
        if !self.kept_back.contains(&from) {
            self.kept_back.push(from);
        }
        self
    }

    /// The same, and the one of this version is passed on; none when it is already.
    pub fn pass_on(&self, version: u64) -> Option<Self> {
        let mut passing = self.clone();
        passing.kept_back.retain(|kept| *kept != version);
        (passing.kept_back.len() < self.kept_back.len()).then_some(passing)
    }

    /// The newest one that is passed on to peers.
    pub fn newest_passed_on(&self) -> Option<Past> {
        self.all().into_iter().find(|past| !self.kept_back.contains(&past.version))
    }

    /// The generation of this version again, from now on and as it was signed; none when it is not kept. No generation is forgotten by it:
    /// one can always return.
    pub fn back_to(&self, version: u64, now: u64) -> Option<Self> {
        if version == self.version && !self.swaps.is_empty() {
            let probation = self.probation.filter(|_| !self.settled);
            return Some(Self { swaps: Vec::new(), probation, ..self.clone() });
        }
        let target = self.others.iter().find(|past| past.version == version)?.clone();
        let newest = self.instead_of.unwrap_or(self.version);
        let rest = self.others.iter().filter(|past| past.version != version).cloned();
        let others = [self.past()].into_iter().chain(rest).collect();
        let again = Self::of(Past { since: now, ..target }, others, self.kept_back.clone());
        Some(Self { instead_of: (version != newest).then_some(newest), ..again })
    }

    /// The same with another component in a slot, or with none but the manifest's where none is given.
    #[must_use]
    pub fn swap(&self, slot: &str, with: Option<Swapped>) -> Self {
        let mut swaps: Vec<Swapped> = self.swaps.iter().filter(|swap| swap.slot != slot).cloned().collect();
        swaps.extend(with);
        Self { swaps, ..self.clone() }
    }

    /// Where a rollback goes: to this version; without one to the generation that runs as it was signed, if it does not run so, and
    /// otherwise to the one before it.
    ///
    /// # Errors
    /// `usage` for the version that runs, `not-found` for one that is not kept.
    pub fn target(&self, wanted: Option<u64>) -> Outcome<u64> {
        let own = self.version;
        if !self.swaps.is_empty() && wanted.is_none_or(|wanted| wanted == own) {
            return Ok(own);
        }
        let not_found = |what| Fault::new(Code::NotFound, what).fix("`midplane history` lists what is kept");
        let Some(wanted) = wanted else {
            let before = self.versions().filter(|version| *version < own).max();
            return before.ok_or_else(|| {
                let fault = not_found(format!("nothing from before generation {own} is kept on this node"));
                match self.instead_of {
                    Some(newest) => fault.fix(format!("`midplane rollback {newest}` ends the hold")),
                    None => fault,
                }
            });
        };
        if wanted == own {
            let what = format!("generation {own} is the one that runs here already");
            return Err(Fault::new(Code::Usage, what).fix("`midplane history` lists what is kept"));
        }
        if self.versions().any(|version| version == wanted) {
            return Ok(wanted);
        }
        Err(not_found(format!("generation {wanted} is not kept on this node")))
    }

    /// The versions that are kept: this one and the others.
    pub fn versions(&self) -> impl Iterator<Item = u64> {
        [self.version].into_iter().chain(self.others.iter().map(|past| past.version))
    }

    /// Every generation that is kept, the highest version first.
    pub fn all(&self) -> Vec<Past> {
        let mut all: Vec<Past> = [self.past()].into_iter().chain(self.others.iter().cloned()).collect();
        all.sort_by_key(|past| std::cmp::Reverse(past.version));
        all
    }

    /// This one, as one of those that are kept.
    pub fn past(&self) -> Past {
        Past {
            version: self.version,
            digest: self.digest,
            since: self.since,
            signers: self.signers.clone(),
            change: self.change.clone(),
            settled: self.settled,
        }
    }
}

#[cfg(test)]
mod tests;
