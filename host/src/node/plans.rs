//! Plans that routing made, kept so that a call costs a look-up and not a question.

use std::collections::HashMap;
use std::sync::{Arc, PoisonError, RwLock};

use crate::decisions::hops::{Candidate, Pick};
use crate::log;
use crate::policy::routing::{self, Choice, Plan, Query, Scope};
use crate::words::NodeId;

/// Plans that are kept. More names than this in use at once ask routing again.
const KEPT: usize = 4_096;
/// The longest that a plan may be used, whatever it says.
const VALID_MOST_MS: u64 = 3_600_000;
/// Hops of a plan that count.
const HOPS_MOST: usize = 16;

/// A plan as calls use it: its ids are read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Planned {
    /// To the plugin of this node.
    Local,
    /// To a neighbour.
    Forward(Ways),
    /// Nowhere, and why.
    Unroutable(String),
}

/// Where a call may go on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ways {
    /// What the policy named, without what is no id.
    pub hops: Vec<Candidate>,
    /// How one is picked.
    pub pick: Pick,
}

impl From<Choice> for Planned {
    fn from(choice: Choice) -> Self {
        let forward = match choice {
            Choice::Local => return Planned::Local,
            Choice::Unroutable(why) => return Planned::Unroutable(log::clean(&why)),
            Choice::Forward(forward) => forward,
        };
        let read = |hop: &routing::Hop| {
            let (next, to) = (hop.next.parse().ok()?, hop.to.parse().ok()?);
            Some(Candidate { next, to, distance: hop.distance, weight: hop.weight })
        };
        let pick = match forward.pick {
            routing::Pick::Failover => Pick::Failover,
            routing::Pick::Spread => Pick::Spread,
            routing::Pick::Sticky => Pick::Sticky,
        };
        Planned::Forward(Ways { hops: forward.hops.iter().take(HOPS_MOST).filter_map(read).collect(), pick })
    }
}

/// A kept plan for one name.
struct Kept {
    to: Option<NodeId>,
    /// The neighbour, or none for a call that started here; nothing for a plan that does not depend on it.
    from: Option<Option<NodeId>>,
    planned: Arc<Planned>,
    until: u64,
}

/// What a look-up found.
#[derive(Clone, Debug)]
pub enum Found {
    /// A plan that is in force.
    Valid(Arc<Planned>),
    /// A plan whose time is over: of use only while routing cannot be asked.
    Stale(Arc<Planned>),
    /// Nothing.
    Nothing,
}

/// The cache.
#[derive(Default)]
pub struct Plans {
    table: RwLock<Table>,
}

#[derive(Default)]
struct Table {
    /// By name, so that a look-up needs no key of its own: few names have more than one or two plans.
    plans: HashMap<String, Vec<Kept>>,
    count: usize,
    /// Rises when plans are forgotten, so that an answer which was asked for before is not kept after.
    epoch: u64,
}

impl Plans {
    /// The plan for a call, and the epoch to give back with [`Plans::keep`].
    pub fn find(&self, name: &str, to: Option<NodeId>, from: Option<NodeId>, now: u64) -> (Found, u64) {
        let table = self.table.read().unwrap_or_else(PoisonError::into_inner);
        let fits = |kept: &&Kept| kept.to == to && kept.from.is_none_or(|kept| kept == from);
        let found = match table.plans.get(name).and_then(|plans| plans.iter().find(fits)) {
            Some(kept) if kept.until > now => Found::Valid(kept.planned.clone()),
            Some(kept) => Found::Stale(kept.planned.clone()),
            None => Found::Nothing,
        };
        (found, table.epoch)
    }

    /// Keeps what routing answered, unless plans were forgotten since it was asked.
    pub fn keep(&self, query: &Query, plan: Plan, epoch: u64, now: u64) -> Arc<Planned> {
        let planned = Arc::new(Planned::from(plan.choice));
        if plan.valid_for == 0 {
            return planned;
        }
        let id = |text: &Option<String>| text.as_ref().and_then(|text| text.parse().ok());
        let from = match plan.scope {
            Scope::Target => None,
            Scope::Neighbour => Some(id(&query.from)),
        };
        let to = id(&query.to);
        let until = now.saturating_add(plan.valid_for.min(VALID_MOST_MS));
        let mut table = self.table.write().unwrap_or_else(PoisonError::into_inner);
        if table.epoch == epoch {
            if table.count >= KEPT {
                table.clear();
            }
            let plans = table.plans.entry(query.name.clone()).or_default();
            let known = plans.len();
            // What it said before in another scope must not be found first.
            let overlaps = |kept: &Kept| kept.from == from || kept.from.is_none() || from.is_none();
            let replaced =
                |kept: &Kept| kept.to == to && (kept.from == from || kept.until <= now && overlaps(kept));
            plans.retain(|kept| !replaced(kept));
            let replaced = known - plans.len();
            plans.push(Kept { to, from, planned: planned.clone(), until });
            table.count = table.count + 1 - replaced;
        }
        planned
    }

    /// Routing is asked again, about some names or all. What it said before is of use while it cannot answer.
    pub fn outdate(&self, names: Option<&[String]>) {
        let mut table = self.table.write().unwrap_or_else(PoisonError::into_inner);
        table.epoch += 1;
        let outdate = |kept: &mut Kept| kept.until = 0;
        match names {
            None => table.plans.values_mut().flatten().for_each(outdate),
            Some(names) => {
                for name in names {
                    table.plans.get_mut(name).into_iter().flatten().for_each(outdate);
                }
            }
        }
    }

    /// Forgets all plans: what they lead to may not be used any more.
    pub fn forget(&self) {
        let mut table = self.table.write().unwrap_or_else(PoisonError::into_inner);
        table.epoch += 1;
        table.clear();
    }
}

impl Table {
    fn clear(&mut self) {
        self.plans.clear();
        self.count = 0;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn query(from: Option<NodeId>) -> Query {
        Query { name: "a@b".into(), to: None, from: from.map(|id| id.to_string()) }
    }

    fn plan(valid_for: u64, scope: Scope) -> Plan {
        Plan { choice: Choice::Local, valid_for, scope }
    }

    #[test]
    fn plans_are_kept_for_their_time_and_their_scope() {
        let plans = Plans::default();
        let (one, two) = (NodeId::from([1; 32]), NodeId::from([2; 32]));
        let (found, epoch) = plans.find("a@b", None, Some(one), 0);
        assert!(matches!(found, Found::Nothing));
        plans.keep(&query(Some(one)), plan(10, Scope::Neighbour), epoch, 0);
        assert!(matches!(plans.find("a@b", None, Some(one), 9).0, Found::Valid(_)));
        assert!(matches!(plans.find("a@b", None, Some(one), 10).0, Found::Stale(_)));
        assert!(matches!(plans.find("a@b", None, Some(two), 0).0, Found::Nothing));
        plans.keep(&query(None), plan(10, Scope::Neighbour), epoch, 0);
        assert!(matches!(plans.find("a@b", None, None, 0).0, Found::Valid(_)));
        assert!(matches!(plans.find("a@b", None, Some(two), 0).0, Found::Nothing));
        plans.keep(&query(Some(one)), plan(10, Scope::Target), epoch, 0);
        assert!(matches!(plans.find("a@b", None, Some(two), 0).0, Found::Valid(_)));
        assert!(matches!(plans.find("a@b", None, None, 0).0, Found::Valid(_)));
        assert!(matches!(plans.find("a@b", Some(two), None, 0).0, Found::Nothing));
    }

    #[test]
    fn what_is_no_id_is_no_way() {
        let (one, two) = (NodeId::from([1; 32]), NodeId::from([2; 32]));
        let hop =
            |next: &str| routing::Hop { next: next.into(), to: two.to_string(), distance: 1, weight: 1 };
        let hops = vec![hop("nobody"), hop(&one.to_string())];
        let choice = Choice::Forward(routing::Forward { hops, pick: routing::Pick::Sticky });
        let candidate = Candidate { next: one, to: two, distance: 1, weight: 1 };
        let ways = Ways { hops: vec![candidate], pick: Pick::Sticky };
        assert_eq!(Planned::from(choice), Planned::Forward(ways));
    }

    #[test]
    fn an_answer_from_before_a_change_is_not_kept() {
        let plans = Plans::default();
        let (_, epoch) = plans.find("a@b", None, None, 0);
        plans.outdate(Some(&["other@b".into()]));
        plans.keep(&query(None), plan(10, Scope::Target), epoch, 0);
        assert!(matches!(plans.find("a@b", None, None, 0).0, Found::Nothing));
    }

    #[test]
    fn plans_of_another_generation_are_a_last_resort() {
        let plans = Plans::default();
        let (_, epoch) = plans.find("a@b", None, None, 1);
        plans.keep(&query(None), plan(10, Scope::Target), epoch, 1);
        plans.outdate(None);
        let (found, next) = plans.find("a@b", None, None, 1);
        assert!(matches!(found, Found::Stale(_)));
        // What was asked of the routing of before is not kept.
        plans.keep(&query(None), plan(10, Scope::Target), epoch, 1);
        assert!(matches!(plans.find("a@b", None, None, 1).0, Found::Stale(_)));
        plans.keep(&query(None), plan(10, Scope::Target), next, 1);
        assert!(matches!(plans.find("a@b", None, None, 1).0, Found::Valid(_)));
    }

    #[test]
    fn what_is_outdated_is_not_found_before_what_is_not() {
        let plans = Plans::default();
        let one = Some(NodeId::from([1; 32]));
        for (before, after) in [(Scope::Target, Scope::Neighbour), (Scope::Neighbour, Scope::Target)] {
            let (_, epoch) = plans.find("a@b", None, one, 1);
            plans.keep(&query(one), plan(10, before), epoch, 1);
            plans.outdate(None);
            let (_, epoch) = plans.find("a@b", None, one, 1);
            plans.keep(&query(one), plan(10, after), epoch, 1);
            assert!(matches!(plans.find("a@b", None, one, 1).0, Found::Valid(_)));
        }
    }

    #[test]
    fn only_the_named_ones_are_asked_for_again() {
        let plans = Plans::default();
        plans.keep(&query(None), plan(10, Scope::Target), 0, 0);
        plans.outdate(Some(&["other@b".into()]));
        assert!(matches!(plans.find("a@b", None, None, 0).0, Found::Valid(_)));
        plans.outdate(Some(&["a@b".into()]));
        assert!(matches!(plans.find("a@b", None, None, 0).0, Found::Stale(_)));
        plans.forget();
        assert!(matches!(plans.find("a@b", None, None, 0).0, Found::Nothing));
    }
}
