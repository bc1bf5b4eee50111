//! What to do about a failure whose words came from where nobody knew what was asked: a peer, a stream, the network.

use crate::words::{Code, Fault};

/// Adds what is to be done, where the failure does not say it and its code does.
pub(super) fn advised(fault: Fault) -> Fault {
    match advice(fault.code) {
        Some(advice) if fault.fix.is_none() => fault.fix(advice),
        _ => fault,
    }
}

fn advice(code: Code) -> Option<&'static str> {
    Some(match code {
        Code::Deadline => {
            "--timeout gives more time; `midplane peers` shows who is connected, `midplane logs` what goes on"
        }
        Code::LinkLost => {
            "ask again when `midplane peers` shows it connected; --idempotent lets a call try elsewhere"
        }
        Code::Unreachable => {
            "`midplane peers` shows who is connected; `midplane doctor` looks at the network"
        }
        Code::Busy => "try again in a moment",
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_failure_says_itself_comes_first() {
        let fault = |code| Fault::new(code, "what");
        assert_eq!(advised(fault(Code::Busy).fix("wait")).fix.as_deref(), Some("wait"));
        assert_eq!(advised(fault(Code::Busy)).fix.as_deref(), Some("try again in a moment"));
        assert_eq!(advised(fault(Code::Application)).fix, None);
    }
}
