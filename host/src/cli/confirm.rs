//! Confirming a change that decides how a node is reached: by the way that orders take, so that it is known to work.

use std::time::Duration;

use super::client::{Target, ask};
use crate::clock;
use crate::words::control::{OnProbation, Request};
use crate::words::{Code, Digest, Fault, Outcome};

/// Pause between two attempts, in which routes may come up.
const AGAIN: Duration = Duration::from_millis(500);

/// Confirms what was applied or swapped, if it wants to be. `claim` is that of its answer. Tries for as long as the node waits for it.
///
/// # Errors
/// `not-confirmed` when the node could not be asked in time: it goes back by itself.
pub(super) async fn confirm(
    target: &Target,
    swap: Option<Digest>,
    claim: Option<u64>,
    probation: &mut Option<OnProbation>,
) -> Outcome<()> {
    let Some(OnProbation { version, until, confirm: true }) = *probation else { return Ok(()) };
    loop {
        let fault = match attempt(target, &Request::Confirm { version, swap }, claim).await {
            Ok(confirmed) => {
                *probation = confirmed;
                return Ok(());
            }
            Err(fault) => fault,
        };
        if !is_passing(&fault) || clock::now_ms() >= until {
            let what = format!("generation {version} was changed and could not be confirmed: {}", fault.what);
            return Err(Fault::new(Code::NotConfirmed, what)
                .fix("the node goes back by itself; `midplane events` there says so"));
        }
        tokio::time::sleep(AGAIN).await;
    }
}

/// One attempt. A node elsewhere is asked only once its own new routing policy has made it known: until then the order would go by
/// what is left of the one before.
async fn attempt(target: &Target, request: &Request, claim: Option<u64>) -> Outcome<Option<OnProbation>> {
    if let Some(found) = target.found().await?
        && claim.is_some_and(|told| found.claim.is_none_or(|known| known < told))
    {
        let what = format!("{} has not made itself known by its new routing policy", found.label);
        return Err(Fault::new(Code::Unreachable, what));
    }
    ask(target.clone(), request).await
}

/// Whether it may work a moment later.
fn is_passing(fault: &Fault) -> bool {
    matches!(
        fault.code,
        Code::Unreachable | Code::NoRoute | Code::LinkLost | Code::Deadline | Code::Busy | Code::NotFound
    )
}
