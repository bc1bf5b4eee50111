//! `midplane call`: a function by name, wherever it is served.

use std::time::Duration;

use serde_json::Value;

use super::client::{Conversation, block_on};
use super::output::readable;
use super::{Global, parsed};
use crate::net::Piece;
use crate::words::control::Request;
use crate::words::json::{arguments, cbor_to_json};
use crate::words::note::{Note, decode_fault};
use crate::words::{Code, Fault, Name, Outcome, cbor};

/// Time for a call that says nothing else.
const CALL: Duration = Duration::from_secs(30);
/// How much longer the command waits than the call may take: the node's own answer is better than none.
const GRACE: Duration = Duration::from_secs(2);

/// Arguments of `midplane call`.
#[derive(clap::Args)]
pub(super) struct Call {
    /// What is called, for example math1@fabric
    #[arg(value_parser = parsed::<Name>)]
    name: Name,
    /// Its function, for example add
    function: String,
    /// x=3 y=4, or '{"x":3,"y":4}', or '[3,4]'
    arguments: Vec<String>,
    /// Allow a second attempt elsewhere when the link is lost before an answer came
    #[arg(long)]
    idempotent: bool,
}

impl Call {
    pub(super) fn run(&self, global: &Global) -> Outcome<()> {
        let (form, bytes) = arguments(&self.arguments)?;
        let timeout = global.timeout.unwrap_or(CALL);
        let request = Request::Call {
            name: self.name.clone(),
            function: self.function.clone(),
            form: form.number(),
            timeout_ms: u64::try_from(timeout.as_millis()).unwrap_or(u64::MAX),
            idempotent: self.idempotent,
            trace: global.verbose,
        };
        let out = global.out();
        block_on(Some(timeout.saturating_add(GRACE)), async {
            let mut conversation = Conversation::start_with(global, &request, &bytes).await?;
            loop {
                match conversation.piece().await? {
                    Piece::Item(items) => {
                        for item in cbor::sequence(&items)? {
                            out.item(&cbor_to_json(item)?);
                        }
                    }
                    Piece::Note(bytes) => show(&Note::decode(&bytes)?, out.is_json()),
                    Piece::End => return Ok(()),
                    Piece::Error(bytes) => return Err(decode_fault(&bytes)),
                    Piece::Open(_) => return Err(Fault::new(Code::Protocol, "an answer has no open frame")),
                }
            }
        })
    }
}

/// What a hop says of itself goes to standard error: standard output is the answer. What served the call is shown by its hop.
fn show(note: &Note, json: bool) {
    let Note::Hop { node, label, plugin, took_us, decision, .. } = note else { return };
    if json {
        let note = serde_json::to_value(note).unwrap_or(Value::Null);
        return eprintln!("{note}");
    }
    let plugin = plugin.map(|digest| format!(", component {}", digest.short())).unwrap_or_default();
    let (label, decision) = (readable(label), readable(decision));
    eprintln!("hop: {label} ({}) {decision}, {took_us} µs{plugin}", node.short());
}
