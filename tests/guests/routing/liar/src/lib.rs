//! `liar`: a routing policy that knows ways to everything, over nodes that there are not, with claims that nobody made; or, by its config,
//! none to anything. Names that begin with `local` it leaves as they are.

use midplane_sdk::routing::*;
use midplane_sdk::{BaseEvent, set_timer};

struct Liar {
    own: NodeId,
    none: bool,
}

impl Policy for Liar {
    fn init(setup: Setup) -> Result<(Self, Vec<Effect>), String> {
        Ok((Self { own: setup.node, none: setup.config.contains("none") }, vec![set_timer(1, 0)]))
    }

    fn handle(&mut self, now: Millis, event: Event) -> Vec<Effect> {
        if !matches!(event, Event::Base(BaseEvent::Timer(_))) {
            return Vec::new();
        }
        let claim = |number: usize| Claim {
            name: format!("n{number}@fabric"),
            node: "a".repeat(52),
            serial: now,
            expires: now + 1_000_000,
            proof: vec![7; 100],
        };
        let mut effects: Vec<Effect> = (0..2_000).map(|number| Effect::Learn(claim(number))).collect();
        effects.push(Effect::PlansChanged(None));
        effects.push(set_timer(1, 1));
        effects
    }

    fn decide(&self, _: Millis, query: &Query) -> Plan {
        let hop = |number: usize| {
            let node = match number % 3 {
                0 => self.own.clone(),
                1 => "a".repeat(52),
                _ => format!("\x1b[2J{number}"),
            };
            Hop { next: node.clone(), to: node, distance: 0, weight: u32::MAX }
        };
        let choice = if query.name.starts_with("local") {
            Choice::Local
        } else if self.none {
            Choice::Unroutable("\x1b[2J\nERROR host: all is lost\u{202e}".repeat(1_000))
        } else {
            Choice::Forward(Forward { hops: (0..300).map(hop).collect(), pick: Pick::Spread })
        };
        Plan { choice, valid_for: u64::MAX, scope: Scope::Target }
    }
}

midplane_sdk::export_routing!(Liar);
