//! How another version of a skill with one instance takes over what the one before it knows: `wit/skill.wit`.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::OwnedSemaphorePermit;

use super::guest::Terms;
use super::value;
use super::workload::{Answer, Callable, Workload};
use crate::clock::{self, Instant};
use crate::decisions::rights::Rights;
use crate::words::objects::Handover;
use crate::words::schema::Form;
use crate::words::{Code, Fault, Outcome};

/// The interface.
pub(super) const STATE: &str = "midplane:skill/state@0.1.0";
/// Time for each of its functions: what an instance knows is in its memory.
const TIME: Duration = Duration::from_secs(5);
/// Largest state: one answer of a call.
const STATE_MAX: usize = 1 << 20;
/// Head of a CBOR array of one item: the state is the only argument.
const ONE: u8 = 0x81;

/// Where its functions are among all of a component.
#[derive(Clone, Copy)]
pub(super) struct Functions {
    save: usize,
    restore: usize,
}

impl Functions {
    /// None when a component has not both.
    pub(super) fn find(functions: &[Callable]) -> Option<Self> {
        let find = |name: &str| {
            let is = |callable: &Callable| {
                callable.interface.as_deref() == Some(STATE) && callable.function.name == name
            };
            functions.iter().position(is)
        };
        Some(Self { save: find("save")?, restore: find("restore")? })
    }
}

/// The one place of a skill that has handed over. While it is kept, calls of that skill wait.
pub struct HandedOver(
    #[expect(dead_code, reason = "what counts is when it is dropped")] OwnedSemaphorePermit,
);

impl Workload {
    /// Takes over what the version before knows, when both have one instance and the interface for it. The calls that came first end
    /// before; those that come later wait until what is returned is dropped.
    ///
    /// # Errors
    /// `busy` when the call in flight does not end until then; `init-failed` when the state is not given or not taken, unless the manifest
    /// lets the new version start without.
    pub async fn take_over(
        self: &Arc<Self>,
        before: &Arc<Self>,
        handover: Handover,
        until: Instant,
    ) -> Outcome<Option<HandedOver>> {
        let (Some(from), Some(to)) = (before.state, self.state) else { return Ok(None) };
        if !before.places().is_single() || !self.places().is_single() || handover == Handover::None {
            return Ok(None);
        }
        let place = before.instances.place(until).await.map_err(|fault| {
            let what = format!("{}, and its state cannot be handed over before that ends", fault.what);
            Fault { what, ..fault }.fix("try again, or handover = \"none\" in the manifest")
        })?;
        let moved = async {
            let saved = before.internal(from.save, &[]).await?;
            if saved.len() > STATE_MAX {
                let what = format!("its state has {} bytes; the limit is {STATE_MAX}", saved.len());
                return Err(Fault::new(Code::TooLarge, what));
            }
            self.internal(to.restore, &[&[ONE], saved.as_slice()].concat()).await
        };
        if let Err(fault) = moved.await {
            // What has seen half of a state is not what is to serve.
            self.instances.forget();
            let slot = &self.plugin().slot;
            let what = format!("{slot}: the state of the version before is not taken: {}", fault.what);
            if handover == Handover::Required {
                return Err(Fault { code: Code::InitFailed, what, ..fault }.fix(
                    "handover = \"optional\" in the manifest lets it start without, when it cannot take it",
                ));
            }
            self.plugin().log.plugin(slot, crate::log::Level::Warn, &what);
        }
        Ok(Some(HandedOver(place)))
    }

    /// Calls a function of the interface. The place is taken, or nobody knows of the skill yet.
    async fn internal(&self, position: usize, arguments: &[u8]) -> Outcome<Vec<u8>> {
        let callable = self.functions.get(position);
        let callable = callable.ok_or_else(|| Fault::new(Code::Internal, "an exported function is gone"))?;
        let now = clock::monotonic();
        let deadline = now + TIME;
        let terms = Terms { now, deadline, rights: Rights::none(self.plugin().node.id) };
        let none = [0x80];
        let arguments = if arguments.is_empty() { &none[..] } else { arguments };
        let arguments = value::lower_arguments(&callable.function, Form::Cbor, arguments)?;
        let live = self.live(terms, &callable.function.name).await?;
        let called =
            Box::pin(self.call_value(live, position, &callable.function, arguments, deadline)).await?;
        match called {
            Answer::Value(value) => Ok(value),
            Answer::Stream(_) => Err(Fault::new(Code::WrongWorld, "a state is not a stream")),
        }
    }
}
