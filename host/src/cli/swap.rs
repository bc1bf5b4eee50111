//! `midplane swap`: another component in one slot of one node, at once or after it was tried.

mod trial;

use std::path::PathBuf;
use std::time::Duration;

use super::Global;
use super::apply::{APPLY, missing, signer, upload};
use super::client::{Conversation, Target, ask, block_on};
use super::confirm::confirm;
use crate::clock;
use crate::decisions::cose;
use crate::store::files;
use crate::words::control::{Request, SignedManifest, Status};
use crate::words::count::count;
use crate::words::objects::rules::COMPONENT_MAX;
use crate::words::objects::swap::Mode;
use crate::words::objects::{BlobRef, Swap as Signed};
use crate::words::swap::{CanaryTerms, SwapDone, SwapRequest};
use crate::words::{Code, Digest, Fault, Outcome};

/// How long a node may take what was signed: it is sent at once, and nodes without a clock chip are minutes off.
const GOOD_FOR_MS: u64 = 3_600_000;

/// Arguments of `midplane swap`.
#[derive(clap::Args)]
pub(super) struct Swap {
    /// The slot
    slot: String,
    /// The component that is to run there; config, grants and limits stay those of the manifest
    component: PathBuf,
    /// Policies: only run it beside the active one for this long, and say what is different; ctrl-c ends it sooner
    #[arg(long, value_name = "TIME", value_parser = humantime::parse_duration, conflicts_with = "canary")]
    shadow: Option<Duration>,
    /// Differences that a shadow shows
    #[arg(long, value_name = "N", default_value_t = 5, requires = "shadow")]
    examples: u32,
    /// Skills and gateways: give it this share of the calls first, for example 10%; ctrl-c reverts it
    #[arg(long, value_name = "SHARE", value_parser = thousandths)]
    canary: Option<u32>,
    /// How long a canary is tried
    #[arg(long = "for", value_name = "TIME", value_parser = humantime::parse_duration, default_value = "1m", requires = "canary")]
    time: Duration,
    /// End it when it has had so many calls
    #[arg(long, value_name = "N", requires = "canary")]
    calls: Option<u64>,
    /// Calls that both must have had to be compared; with fewer it is reverted
    #[arg(long, value_name = "N", default_value_t = 20, requires = "canary")]
    at_least: u64,
    /// Share of faults (traps, limits, deadlines; of gateways also 5xx) that it may have beyond that of the active one
    #[arg(long, value_name = "SHARE", value_parser = thousandths, default_value = "1%", requires = "canary")]
    errors_at_most: u32,
    /// How much slower it may be, at the median and at the slowest hundredth
    #[arg(long, value_name = "SHARE", value_parser = thousandths, default_value = "50%", requires = "canary")]
    slower_at_most: u32,
}

impl Swap {
    pub(super) fn run(&self, global: &Global) -> Outcome<u8> {
        let target = Target::from(global);
        if let Some(time) = self.shadow {
            return trial::shadow(self, global, &target, time);
        }
        if let Some(share) = self.canary {
            let terms = CanaryTerms {
                share,
                time_ms: ms(self.time),
                calls: self.calls,
                at_least: self.at_least,
                errors_at_most: self.errors_at_most,
                slower_at_most: self.slower_at_most,
            };
            return trial::canary(self, global, &target, terms);
        }
        let done: SwapDone = block_on(Some(global.timeout.unwrap_or(APPLY)), async {
            let signed = self.prepare(global, &target, Mode::Plain).await?;
            let request = Request::Swap(SwapRequest::Plain);
            let mut done: SwapDone =
                Conversation::start_with(target.clone(), &request, &signed).await?.report().await?;
            confirm(&target, Some(done.component), done.claim, &mut done.probation).await?;
            Ok(done)
        })?;
        global.out().report(&done, text);
        Ok(0)
    }

    /// Signs the swap for what is in force on the node, and gives it the component.
    async fn prepare(&self, global: &Global, target: &Target, mode: Mode) -> Outcome<Vec<u8>> {
        let key = signer(global)?;
        let bytes = files::read_limited(&self.component, COMPONENT_MAX)?;
        let bytes = bytes.ok_or_else(|| missing(&self.component))?;
        let component = BlobRef { digest: Digest::of(&bytes), length: bytes.len() as u64 };
        let status: Status = ask(target.clone(), &Request::Status).await?;
        let base: SignedManifest = ask(target.clone(), &Request::Manifest { version: None }).await?;
        if base.version == 0 {
            let what = format!("nothing was ever applied on {}", status.label);
            return Err(Fault::new(Code::NotFound, what).fix("`midplane apply MANIFEST` is the beginning"));
        }
        // After the last one that was taken, whatever the clocks of those who signed that one and this one say.
        let created = clock::now_ms().max(status.swap_floor.saturating_add(1));
        let swap = Signed {
            mesh: status.mesh,
            node: status.node,
            version: base.version,
            manifest: Digest::of(&base.signed),
            slot: self.slot.clone(),
            component,
            mode,
            created,
            expires: created.saturating_add(GOOD_FOR_MS),
        };
        let signed = cose::sign(&swap, &[&key])?;
        upload(target, &[(component.digest, bytes)]).await?;
        Ok(signed)
    }
}

fn ms(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}

/// Reads a share as people write it, `10%` or `0.5%`, in thousandths.
fn thousandths(text: &str) -> Result<u32, String> {
    let wrong = || "a share is a percentage with at most one decimal, for example 10% or 0.5%".to_owned();
    let number = text.strip_suffix('%').ok_or_else(wrong)?;
    let (whole, tenths) = number.split_once('.').unwrap_or((number, "0"));
    let digits = |text: &str, most: usize| {
        (1..=most).contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_digit())
    };
    if !digits(whole, 6) || !digits(tenths, 1) {
        return Err(wrong());
    }
    format!("{whole}{tenths}").parse().map_err(|_| wrong())
}

fn text(done: &SwapDone) -> String {
    let SwapDone { slot, component, before, generation, .. } = done;
    let mut lines =
        vec![format!("{slot} runs component {}; before it ran {}", component.short(), before.short())];
    lines.push(match &done.instead_of {
        Some(named) => format!(
            "  instead of {} of generation {generation}; the next manifest ends it, or `midplane rollback`",
            named.short()
        ),
        None => format!("  as generation {generation} says; the swap is over"),
    });
    let signers: Vec<String> = done.signers.iter().map(|key| key.short()).collect();
    lines.push(format!("  signed by {}; published in {} µs", signers.join(", "), done.publish_us));
    if done.fetched > 0 {
        lines.push(format!("  {} came from peers", count(done.fetched, "blob")));
    }
    lines.join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shares_are_percentages_with_one_decimal() {
        for (text, expect) in [
            ("10%", Some(100)),
            ("0.5%", Some(5)),
            ("100%", Some(1000)),
            ("250000%", Some(2_500_000)),
            ("0%", Some(0)),
            ("10", None),
            ("%", None),
            ("-1%", None),
            ("+1%", None),
            ("1.25%", None),
            ("1.%", None),
            (".5%", None),
            ("9999999%", None),
            ("ten%", None),
        ] {
            assert_eq!(thousandths(text).ok(), expect, "{text}");
        }
    }
}
