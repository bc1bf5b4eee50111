//! Whether somebody means it: when a manifest grants more than the one in force, and before it goes to many nodes.

use std::io::{BufRead, IsTerminal, Write};

use crate::words::count::count;
use crate::words::{Code, Fault, Outcome};

/// Rights that a refusal names. Nobody reads more in one sentence, and `diff` shows all.
const NAMED_MOST: usize = 32;

/// Refuses rights that are gained, each a line in words, unless they are allowed or somebody at a terminal says yes.
///
/// # Errors
/// `needs-consent`, which lists them.
pub(super) fn require(gains: &[String], allowed: bool) -> Outcome<()> {
    let mut answers = std::io::stdin().lock();
    let asks: Option<&mut dyn BufRead> = if is_seen() { Some(&mut answers) } else { None };
    decide(gains, allowed, &mut std::io::stderr().lock(), asks)
}

/// Says what is about to be done with many nodes, and asks somebody at a terminal unless that was said already.
///
/// # Errors
/// `needs-consent` for anything but a yes.
pub(super) fn agree(plan: &str, yes: bool) -> Outcome<()> {
    let mut answers = std::io::stdin().lock();
    let asks: Option<&mut dyn BufRead> = if is_seen() && !yes { Some(&mut answers) } else { None };
    begin(plan, &mut std::io::stderr().lock(), asks)
}

/// Whoever does not see a question does not answer it.
fn is_seen() -> bool {
    std::io::stdin().is_terminal() && std::io::stderr().is_terminal()
}

/// The same as [`agree`] with what is shown and who answers; none where there is nobody.
fn begin(plan: &str, shown: &mut dyn Write, asks: Option<&mut dyn BufRead>) -> Outcome<()> {
    let Some(asks) = asks else {
        // Nobody reads: there is nobody to tell.
        let _ = writeln!(shown, "{plan}");
        return Ok(());
    };
    let question = write!(shown, "{plan}; begin? [y/N] ").and_then(|()| shown.flush());
    let mut answer = String::new();
    match question.and_then(|()| asks.read_line(&mut answer)) {
        Ok(_) if is_yes(&answer) => Ok(()),
        _ => Err(Fault::new(Code::NeedsConsent, "nothing was given to any node")
            .fix("--yes begins without asking; --waves says how many nodes each wave has")),
    }
}

fn is_yes(answer: &str) -> bool {
    ["y", "yes"].contains(&answer.trim().to_ascii_lowercase().as_str())
}

/// The same with what is shown and who answers; none where there is nobody.
fn decide(
    gains: &[String],
    allowed: bool,
    shown: &mut dyn Write,
    asks: Option<&mut dyn BufRead>,
) -> Outcome<()> {
    if gains.is_empty() || allowed {
        return Ok(());
    }
    let refused = || {
        let mut named: Vec<&str> = gains.iter().map(String::as_str).take(NAMED_MOST).collect();
        let more = gains.len().saturating_sub(NAMED_MOST);
        let more = (more > 0).then(|| format!("{more} more"));
        named.extend(more.as_deref());
        let what = format!("manifest gains {}: {}", count(gains.len(), "right"), named.join("; "));
        Err(Fault::new(Code::NeedsConsent, what)
            .fix("`midplane apply --allow-grants` if that is meant; `midplane diff` shows the rest"))
    };
    let Some(asks) = asks else { return refused() };
    let lines = gains.iter().try_for_each(|line| writeln!(shown, "{line}"));
    let question = lines.and_then(|()| write!(shown, "grant this? [y/N] ")).and_then(|()| shown.flush());
    let mut answer = String::new();
    match question.and_then(|()| asks.read_line(&mut answer)) {
        Ok(_) if is_yes(&answer) => Ok(()),
        _ => refused(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rights_are_gained_by_a_flag_or_by_a_yes_and_in_no_other_way() {
        let gain = ["skill/a gains: node read".to_owned()];
        for (gains, allowed, answer, expect, shows) in [
            (&[][..], false, None, true, ""),
            (&gain[..], true, None, true, ""),
            (&gain[..], true, Some("n\n"), true, ""),
            (&gain[..], false, None, false, ""),
            (&gain[..], false, Some("y\n"), true, "skill/a gains: node read\ngrant this? [y/N] "),
            (&gain[..], false, Some(" YES\n"), true, "skill/a gains: node read\ngrant this? [y/N] "),
            (&gain[..], false, Some("\n"), false, "skill/a gains: node read\ngrant this? [y/N] "),
            (&gain[..], false, Some("yesterday\n"), false, "skill/a gains: node read\ngrant this? [y/N] "),
            (&gain[..], false, Some(""), false, "skill/a gains: node read\ngrant this? [y/N] "),
        ] {
            let mut shown = Vec::new();
            let mut answers = answer.map(str::as_bytes);
            let asks = answers.as_mut().map(|answers| answers as &mut dyn BufRead);
            let outcome = decide(gains, allowed, &mut shown, asks);
            assert_eq!(outcome.is_ok(), expect, "{gains:?} {allowed} {answer:?}");
            assert_eq!(String::from_utf8(shown).unwrap(), shows, "{allowed} {answer:?}");
        }
    }

    #[test]
    fn waves_begin_when_nobody_is_there_to_ask_or_somebody_agrees() {
        for (answer, expect, shows) in [
            (None, true, "plan\n"),
            (Some("y\n"), true, "plan; begin? [y/N] "),
            (Some("no\n"), false, "plan; begin? [y/N] "),
            (Some(""), false, "plan; begin? [y/N] "),
        ] {
            let mut shown = Vec::new();
            let mut answers = answer.map(str::as_bytes);
            let asks = answers.as_mut().map(|answers| answers as &mut dyn BufRead);
            let outcome = begin("plan", &mut shown, asks);
            assert_eq!(outcome.is_ok(), expect, "{answer:?}");
            assert_eq!(String::from_utf8(shown).unwrap(), shows, "{answer:?}");
        }
    }

    #[test]
    fn a_refusal_names_what_is_gained_and_is_no_endless_sentence() {
        let gains: Vec<String> = (0..40).map(|at| format!("skill/{at} gains: node read")).collect();
        let fault = decide(&gains, false, &mut Vec::new(), None).unwrap_err();
        assert_eq!((fault.code, fault.code.exit()), (Code::NeedsConsent, 3));
        assert!(fault.what.starts_with("manifest gains 40 rights: skill/0 gains: node read; "), "{fault}");
        assert!(fault.what.ends_with("skill/31 gains: node read; 8 more"), "{fault}");
        let one = decide(&gains[..1], false, &mut Vec::new(), None).unwrap_err();
        assert_eq!(one.what, "manifest gains 1 right: skill/0 gains: node read");
    }
}
