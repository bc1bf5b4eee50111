//! Plans that routing made, kept so that a call costs a look-up and not a question.

use std::collections::HashMap;
use std::sync::{Arc, PoisonError, RwLock};

use crate::policy::routing::{Choice, Plan, Query, Scope};
use crate::words::NodeId;

/// Plans that are kept. More names than this in use at once ask routing again.
const KEPT: usize = 4_096;
/// The longest that a plan may be used, whatever it says.
const VALID_MOST_MS: u64 = 3_600_000;
/// Hops of a plan that count.
const HOPS_MOST: usize = 16;

/// A kept plan for one name.
struct Kept {
    to: Option<NodeId>,
    /// The neighbour, or none for a call that started here; nothing for a plan that does not depend on it.
    from: Option<Option<NodeId>>,
    choice: Arc<Choice>,
    until: u64,
}

/// What a look-up found.
#[derive(Clone, Debug)]
pub enum Found {
    /// A plan that is in force.
    Valid(Arc<Choice>),
    /// A plan whose time is over: of use only while routing cannot be asked.
    Stale(Arc<Choice>),
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
            Some(kept) if kept.until > now => Found::Valid(kept.choice.clone()),
            Some(kept) => Found::Stale(kept.choice.clone()),
            None => Found::Nothing,
        };
        (found, table.epoch)
    }

    /// Keeps what routing answered, unless plans were forgotten since it was asked.
    pub fn keep(&self, query: &Query, mut plan: Plan, epoch: u64, now: u64) -> Arc<Choice> {
        if let Choice::Forward(forward) = &mut plan.choice {
            forward.hops.truncate(HOPS_MOST);
        }
        let choice = Arc::new(plan.choice);
        if plan.valid_for == 0 {
            return choice;
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
                table.plans.clear();
                table.count = 0;
            }
            let plans = table.plans.entry(query.name.clone()).or_default();
            let known = plans.len();
            plans.retain(|kept| (kept.to, kept.from) != (to, from));
            let replaced = known - plans.len();
            plans.push(Kept { to, from, choice: choice.clone(), until });
            table.count += 1 - replaced.min(1);
        }
        choice
    }

    /// Forgets the plans of some names, or all.
    pub fn forget(&self, names: Option<&[String]>) {
        let mut table = self.table.write().unwrap_or_else(PoisonError::into_inner);
        table.epoch += 1;
        match names {
            None => table.plans.clear(),
            Some(names) => table.plans.retain(|name, _| !names.contains(name)),
        }
        table.count = table.plans.values().map(Vec::len).sum();
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
    fn an_answer_from_before_a_change_is_not_kept() {
        let plans = Plans::default();
        let (_, epoch) = plans.find("a@b", None, None, 0);
        plans.forget(Some(&["other@b".into()]));
        plans.keep(&query(None), plan(10, Scope::Target), epoch, 0);
        assert!(matches!(plans.find("a@b", None, None, 0).0, Found::Nothing));
    }

    #[test]
    fn forgetting_takes_the_named_ones_only() {
        let plans = Plans::default();
        plans.keep(&query(None), plan(10, Scope::Target), 0, 0);
        plans.forget(Some(&["other@b".into()]));
        assert!(matches!(plans.find("a@b", None, None, 0).0, Found::Valid(_)));
        plans.forget(Some(&["a@b".into()]));
        assert!(matches!(plans.find("a@b", None, None, 0).0, Found::Nothing));
    }
}
