//! Which effects ask for something, and which events say what came of it: what a shadow has to know of each kind.

use super::Kind;
use super::admission::{self, Admission};
use super::discovery::{self, Discovery};
use super::routing::{self, Routing};
use super::sync::{self, Sync};
use crate::decisions::shadow::Topic;

/// What an effect has to do with outcomes.
pub(super) enum Ask {
    /// It is answered by an event on this topic.
    For(Topic),
    /// No more outcomes on this topic are wanted.
    Ends(Topic),
}

/// A kind whose policies can run in the shadow.
pub(super) trait Asking: Kind {
    /// What the effect asks for.
    fn asks(effect: &Self::Effect) -> Option<Ask>;
    /// What the event answers.
    fn answers(event: &Self::Event) -> Option<Topic>;
}

impl Asking for Routing {
    fn asks(effect: &routing::Effect) -> Option<Ask> {
        match effect {
            routing::Effect::Learn(routing::Claim { name, node, serial, .. }) => {
                Some(Ask::For(Topic::Learn(name.clone(), node.clone(), *serial)))
            }
            routing::Effect::PlansChanged(_) | routing::Effect::Base(_) => None,
        }
    }

    fn answers(event: &routing::Event) -> Option<Topic> {
        match event {
            routing::Event::Learned(routing::LearnOutcome { name, node, serial, .. }) => {
                Some(Topic::Learn(name.clone(), node.clone(), *serial))
            }
            // Of calls, whoever chose their ways: it is news of the world.
            routing::Event::Outcome(_) => None,
            routing::Event::Base(_) | routing::Event::Serving(_) | routing::Event::Withdrawn(_) => None,
        }
    }
}

impl Asking for Admission {
    fn asks(effect: &admission::Effect) -> Option<Ask> {
        match effect {
            // It is asked again about the peer, and that is a question to both.
            admission::Effect::Reconsider(_) | admission::Effect::Base(_) => None,
        }
    }

    fn answers(_: &admission::Event) -> Option<Topic> {
        None
    }
}

impl Asking for Discovery {
    fn asks(effect: &discovery::Effect) -> Option<Ask> {
        match effect {
            discovery::Effect::Dial(target) => Some(Ask::For(Topic::Dial(target.address.clone()))),
            discovery::Effect::HangUp(target) => Some(Ask::Ends(Topic::Dial(target.address.clone()))),
            discovery::Effect::Resolve(name) => Some(Ask::For(Topic::Resolve(name.clone()))),
            discovery::Effect::Candidate(_) | discovery::Effect::Forget(_) | discovery::Effect::Base(_) => {
                None
            }
        }
    }

    fn answers(event: &discovery::Event) -> Option<Topic> {
        match event {
            discovery::Event::Dialled(outcome) => Some(Topic::Dial(outcome.target.address.clone())),
            discovery::Event::Resolved(resolution) => Some(Topic::Resolve(resolution.name.clone())),
            discovery::Event::Hint(_) | discovery::Event::Base(_) => None,
        }
    }
}

impl Asking for Sync {
    fn asks(effect: &sync::Effect) -> Option<Ask> {
        match effect {
            sync::Effect::Load(request) => Some(Ask::For(Topic::Load(request.id))),
            _ => None,
        }
    }

    fn answers(event: &sync::Event) -> Option<Topic> {
        match event {
            sync::Event::Loaded(reading) => Some(Topic::Load(reading.id)),
            _ => None,
        }
    }
}
