//! Dials the addresses that the node was told of, and what DNS says of the configured names.
//!
//! Config: `names`, a list of `host:port`, each looked up at the start and then every minute; `max-peers`, how
//! many addresses are dialled at most (256). A hint is dialled until the slot goes. An address of a name is hung up
//! when a look-up that worked does not list it any more; one that failed changes nothing.

use std::collections::VecDeque;

use midplane_sdk::discovery::*;
use midplane_sdk::serde::{Deserialize, Serialize};
use midplane_sdk::{Map, Set, log, set_timer};

/// The host keeps at most so many dials.
const DIALS_MAX: usize = 256;
/// The host does at most so many look-ups at a time.
const LOOK_UPS_MAX: usize = 16;
/// Pause between look-ups of a name: the time within which a moved node is found, and the least TTL that DNS
/// servers usually honour.
const LOOK_UP_MS: Millis = 60_000;
/// The only timer.
const LOOK_UP: u64 = 1;
/// Version of the saved state.
const VERSION: &str = "1";

#[derive(Deserialize)]
#[serde(crate = "midplane_sdk::serde", default, deny_unknown_fields, rename_all = "kebab-case")]
struct Config {
    names: Vec<String>,
    max_peers: usize,
}

impl Default for Config {
    fn default() -> Self {
        Self { names: Vec::new(), max_peers: DIALS_MAX }
    }
}

/// Why an address is dialled.
#[derive(Default, Serialize, Deserialize)]
#[serde(crate = "midplane_sdk::serde")]
struct Dialled {
    /// Whom to expect there, as the last hint said that said it.
    peer: Option<NodeId>,
    hinted: bool,
    /// The configured names that resolve to it.
    names: Set<String>,
}

impl Dialled {
    fn target(&self, address: &str) -> Target {
        Target { address: address.to_owned(), peer: self.peer.clone() }
    }

    /// A hint may correct an earlier one: a slip, or a machine that has a new key.
    fn expect(&mut self, address: &str, peer: Option<NodeId>, effects: &mut Vec<Effect>) {
        if peer.is_some() && peer != self.peer {
            effects.push(Effect::HangUp(self.target(address)));
            self.peer = peer;
            effects.push(Effect::Dial(self.target(address)));
        }
    }
}

struct Static {
    names: Set<String>,
    max_peers: usize,
    dialled: Map<String, Dialled>,
    /// Names that wait for a look-up, and those that are being looked up.
    waiting: VecDeque<String>,
    asked: Set<String>,
}

impl Policy for Static {
    fn init(setup: Setup) -> Result<(Self, Vec<Effect>), String> {
        let config: Config = setup.config()?;
        if let Some(bad) = config.names.iter().find(|name| !has_port(name)) {
            return Err(format!("config: names: {bad:?} is not host:port"));
        }
        let mut policy = Self {
            names: config.names.into_iter().collect(),
            max_peers: config.max_peers.min(DIALS_MAX),
            dialled: Map::new(),
            waiting: VecDeque::new(),
            asked: Set::new(),
        };
        let mut effects = Vec::new();
        policy.take_over(setup.handed_over(VERSION).unwrap_or_default(), &mut effects);
        policy.look_up_all(&mut effects);
        Ok((policy, effects))
    }

    fn handle(&mut self, _: Millis, event: Event) -> Vec<Effect> {
        let mut effects = Vec::new();
        match event {
            Event::Hint(hint) => {
                let Target { address, peer } = hint.target;
                if let Some(dialled) = self.dial(&address, peer.clone(), &mut effects) {
                    dialled.hinted = true;
                    dialled.expect(&address, peer, &mut effects);
                }
            }
            Event::Resolved(resolution) => self.resolved(resolution, &mut effects),
            Event::Base(BaseEvent::Timer(LOOK_UP)) => self.look_up_all(&mut effects),
            Event::Base(_) | Event::Dialled(_) => {}
        }
        effects
    }

    fn save(&self) -> State {
        State::of(VERSION, &self.dialled)
    }
}

impl Static {
    /// Goes on dialling what an earlier instance dialled, but for addresses of names that are not configured any more.
    fn take_over(&mut self, dialled: Map<String, Dialled>, effects: &mut Vec<Effect>) {
        for (address, mut one) in dialled {
            one.names.retain(|name| self.names.contains(name));
            if (one.hinted || !one.names.is_empty()) && self.dialled.len() < self.max_peers {
                effects.push(Effect::Dial(one.target(&address)));
                self.dialled.insert(address, one);
            } else {
                effects.push(Effect::HangUp(one.target(&address)));
            }
        }
    }

    /// The entry of an address, which is dialled when it is new. None when there are too many.
    fn dial(
        &mut self,
        address: &str,
        peer: Option<NodeId>,
        effects: &mut Vec<Effect>,
    ) -> Option<&mut Dialled> {
        if !self.dialled.contains_key(address) {
            if self.dialled.len() >= self.max_peers {
                effects.push(log::warn(format!("{address} is not dialled: max-peers is {}", self.max_peers)));
                return None;
            }
            let dialled = Dialled { peer, ..Dialled::default() };
            effects.push(Effect::Dial(dialled.target(address)));
            self.dialled.insert(address.to_owned(), dialled);
        }
        self.dialled.get_mut(address)
    }

    /// Looks up every name that is not waiting already, and sets the timer for the next time.
    fn look_up_all(&mut self, effects: &mut Vec<Effect>) {
        if self.names.is_empty() {
            return;
        }
        let pending = |name: &&String| self.asked.contains(*name) || self.waiting.contains(*name);
        let due: Vec<String> = self.names.iter().filter(|name| !pending(name)).cloned().collect();
        self.waiting.extend(due);
        self.look_up(effects);
        effects.push(set_timer(LOOK_UP, LOOK_UP_MS));
    }

    fn look_up(&mut self, effects: &mut Vec<Effect>) {
        while self.asked.len() < LOOK_UPS_MAX
            && let Some(name) = self.waiting.pop_front()
        {
            effects.push(Effect::Resolve(name.clone()));
            self.asked.insert(name);
        }
    }

    fn resolved(&mut self, resolution: Resolution, effects: &mut Vec<Effect>) {
        let Resolution { name, addresses, error } = resolution;
        self.asked.remove(&name);
        self.look_up(effects);
        if addresses.is_empty() {
            let why = error.unwrap_or_else(|| "no addresses".to_owned());
            effects.push(log::warn(format!("{name} cannot be looked up: {why}")));
            return;
        }
        if !self.names.contains(&name) {
            return;
        }
        self.hang_up(&name, &addresses, effects);
        for address in &addresses {
            if let Some(dialled) = self.dial(address, None, effects) {
                dialled.names.insert(name.clone());
            }
        }
    }

    /// Hangs up what only this name led to, and does not any more.
    fn hang_up(&mut self, name: &str, addresses: &[String], effects: &mut Vec<Effect>) {
        self.dialled.retain(|address, dialled| {
            if addresses.contains(address) || !dialled.names.remove(name) {
                return true;
            }
            let wanted = dialled.hinted || !dialled.names.is_empty();
            if !wanted {
                effects.push(Effect::HangUp(dialled.target(address)));
            }
            wanted
        });
    }
}

fn has_port(name: &str) -> bool {
    name.rsplit_once(':')
        .is_some_and(|(host, port)| !host.is_empty() && port.parse::<u16>().is_ok_and(|port| port > 0))
}

midplane_sdk::export_discovery!(Static);

#[cfg(test)]
mod tests {
    use super::*;

    fn setup(config: &str, handover: Option<State>) -> Setup {
        Setup {
            node: "self".into(),
            label: "self".into(),
            tags: Vec::new(),
            slot: "discovery".into(),
            config: config.into(),
            seed: 1,
            now: 0,
            clock_trusted: true,
            handover,
        }
    }

    fn hint(address: &str, peer: Option<&str>) -> Event {
        let target = Target { address: address.into(), peer: peer.map(str::to_owned) };
        Event::Hint(Hint { target, source: "test".into() })
    }

    fn resolved(name: &str, addresses: &[&str]) -> Event {
        Event::Resolved(Resolution {
            name: name.into(),
            addresses: addresses.iter().map(|address| (*address).to_owned()).collect(),
            error: addresses.is_empty().then(|| "no such name".into()),
        })
    }

    fn text(effects: Vec<Effect>) -> String {
        let texts = effects.into_iter().map(|effect| match effect {
            Effect::Dial(target) => match target.peer {
                Some(peer) => format!("dial {} {peer}", target.address),
                None => format!("dial {}", target.address),
            },
            Effect::HangUp(target) => format!("hang-up {}", target.address),
            Effect::Resolve(name) => format!("resolve {name}"),
            Effect::Base(BaseEffect::SetTimer(timer)) => format!("timer {} {}", timer.id, timer.after),
            Effect::Base(BaseEffect::Log(_)) => "log".into(),
            other => format!("{other:?}"),
        });
        texts.collect::<Vec<_>>().join(", ")
    }

    /// A config, the effects of `init`, and what each event is to be answered with.
    fn check(config: &str, start: &str, steps: &[(Event, &str)]) -> Static {
        let (mut policy, effects) = Static::init(setup(config, None)).unwrap();
        assert_eq!(text(effects), start);
        for (event, expect) in steps {
            assert_eq!(text(policy.handle(0, event.clone())), *expect, "{event:?}");
        }
        policy
    }

    #[test]
    fn each_hint_is_dialled_once_and_the_last_id_counts() {
        check(
            "{}",
            "",
            &[
                (hint("a:1", None), "dial a:1"),
                (hint("a:1", None), ""),
                (hint("a:1", Some("p")), "hang-up a:1, dial a:1 p"),
                (hint("a:1", Some("p")), ""),
                (hint("a:1", None), ""),
                (hint("a:1", Some("q")), "hang-up a:1, dial a:1 q"),
                (hint("b:1", Some("p")), "dial b:1 p"),
            ],
        );
    }

    #[test]
    fn names_are_looked_up_every_minute_and_what_vanished_is_hung_up() {
        let timer = Event::Base(BaseEvent::Timer(LOOK_UP));
        check(
            r#"{"names": ["x.example:7", "y.example:7"]}"#,
            "resolve x.example:7, resolve y.example:7, timer 1 60000",
            &[
                (resolved("x.example:7", &["a:7", "b:7"]), "dial a:7, dial b:7"),
                (timer.clone(), "resolve x.example:7, timer 1 60000"),
                (resolved("y.example:7", &["b:7", "c:7"]), "dial c:7"),
                (hint("c:7", None), ""),
                (resolved("x.example:7", &["d:7"]), "hang-up a:7, dial d:7"),
                (timer, "resolve x.example:7, resolve y.example:7, timer 1 60000"),
                (resolved("x.example:7", &[]), "log"),
                (resolved("y.example:7", &["b:7"]), ""),
                (resolved("unasked:7", &["z:7"]), ""),
            ],
        );
    }

    #[test]
    fn at_most_sixteen_names_are_looked_up_at_a_time() {
        let names: Vec<_> = (10..30).map(|i| format!("\"n{i}:1\"")).collect();
        let (mut policy, effects) =
            Static::init(setup(&format!("{{\"names\": [{}]}}", names.join(",")), None)).unwrap();
        assert_eq!(text(effects).matches("resolve").count(), LOOK_UPS_MAX);
        assert_eq!(text(policy.handle(0, resolved("n10:1", &[]))), "resolve n26:1, log");
    }

    #[test]
    fn no_more_than_max_peers_are_dialled() {
        check(
            r#"{"max-peers": 1}"#,
            "",
            &[(hint("a:1", None), "dial a:1"), (hint("b:1", None), "log"), (hint("a:1", None), "")],
        );
        check(r#"{"max-peers": 100000}"#, "", &[]);
    }

    #[test]
    fn a_later_instance_goes_on_with_what_was_dialled() {
        let config = r#"{"names": ["x:7"]}"#;
        let steps = [(hint("h:1", Some("p")), "dial h:1 p"), (resolved("x:7", &["a:7"]), "dial a:7")];
        let state = check(config, "resolve x:7, timer 1 60000", &steps).save();
        let (_, effects) = Static::init(setup(config, Some(state.clone()))).unwrap();
        assert_eq!(text(effects), "dial a:7, dial h:1 p, resolve x:7, timer 1 60000");
        let (_, effects) = Static::init(setup("{}", Some(state))).unwrap();
        assert_eq!(text(effects), "hang-up a:7, dial h:1 p");
    }

    #[test]
    fn a_wrong_config_is_refused_by_name() {
        for (config, names) in [
            (r#"{"names": ["x"]}"#, "\"x\" is not host:port"),
            (r#"{"names": [":7"]}"#, "is not host:port"),
            (r#"{"names": ["x:0"]}"#, "is not host:port"),
            (r#"{"peers": []}"#, "peers"),
        ] {
            let error = Static::init(setup(config, None)).err().unwrap();
            assert!(error.contains(names), "{error}");
        }
    }
}
