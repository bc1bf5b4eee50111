//! `liar`: a discovery policy that finds more than there is, again and again. Its config says what.

use midplane_sdk::discovery::*;
use midplane_sdk::{BaseEvent, log, set_timer};

/// Of anything, at each turn.
const MANY: usize = 4_000;

struct Liar {
    config: String,
}

impl Policy for Liar {
    fn init(setup: Setup) -> Result<(Self, Vec<Effect>), String> {
        if setup.config.contains("million") {
            return Ok((Self { config: setup.config }, (0..1_000_000).map(candidate).collect()));
        }
        Ok((Self { config: setup.config }, vec![set_timer(1, 0)]))
    }

    fn handle(&mut self, _: Millis, event: Event) -> Vec<Effect> {
        if !matches!(event, Event::Base(BaseEvent::Timer(_))) {
            return Vec::new();
        }
        let says = |word: &str| self.config.contains(word);
        let mut effects: Vec<Effect> = if says("candidates") {
            (0..MANY).map(candidate).collect()
        } else if says("dials") {
            (0..MANY).map(|number| Effect::Dial(target(number))).collect()
        } else if says("names") {
            (0..MANY).map(|number| Effect::Resolve(format!("n{number}.example:1"))).collect()
        } else if says("lines") {
            (0..MANY).map(|_| log::error("\x1b[2J\u{202e}\nERROR host: all is lost")).collect()
        } else if says("answers") {
            (0..3 * MANY).map(|number| Effect::Resolve(format!("{number}:1"))).collect()
        } else {
            (0..MANY).map(|number| Effect::HangUp(target(number))).collect()
        };
        effects.push(set_timer(1, 0));
        effects
    }
}

/// Nobody is there: it is this machine, at ports that mean nothing.
fn target(number: usize) -> Target {
    Target { address: format!("127.255.{}.{}:9", number / 250 % 250, number % 250 + 1), peer: None }
}

fn candidate(number: usize) -> Effect {
    Effect::Candidate(Candidate { target: target(number), source: "\x1b[31mnowhere".into() })
}

midplane_sdk::export_discovery!(Liar);
