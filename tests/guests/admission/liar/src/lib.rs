//! `liar`: an admission policy that trusts everybody fully, at great length, and has everybody looked at again and again.

use midplane_sdk::admission::*;
use midplane_sdk::{BaseEvent, set_timer};

struct Liar {
    peers: Vec<String>,
}

impl Policy for Liar {
    fn init(_: Setup) -> Result<(Self, Vec<Effect>), String> {
        Ok((Self { peers: vec!["a".repeat(52)] }, vec![set_timer(1, 0)]))
    }

    fn handle(&mut self, _: Millis, event: Event) -> Vec<Effect> {
        match event {
            Event::Base(BaseEvent::LinkUp(link)) => {
                self.peers.push(link.peer);
                Vec::new()
            }
            Event::Base(BaseEvent::Timer(_)) => {
                let peers = self.peers.iter().cycle().take(4_000).cloned();
                peers.map(Effect::Reconsider).chain([set_timer(1, 1)]).collect()
            }
            _ => Vec::new(),
        }
    }

    fn admit(&self, _: Millis, _: &Request) -> Verdict {
        Verdict { trust: Trust::Full, reason: "\x1b[2Jwelcome\n".repeat(50_000) }
    }
}

midplane_sdk::export_admission!(Liar);
