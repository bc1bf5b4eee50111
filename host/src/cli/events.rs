//! `midplane events`: what happened to a node.

use serde_json::Value;

use super::Global;
use super::client::{Conversation, block_on};
use crate::words::Outcome;
use crate::words::control::Request;
use crate::words::event::Event;

/// Arguments of `midplane events`.
#[derive(clap::Args)]
pub(super) struct Events {
    /// Go on with what comes
    #[arg(short, long)]
    follow: bool,
    /// Events of the past
    #[arg(short = 'n', long, default_value = "100")]
    tail: u32,
    /// Only those after this number
    #[arg(long, default_value = "0", value_name = "NUMBER")]
    after: u64,
}

impl Events {
    pub(super) fn run(&self, global: &Global) -> Outcome<()> {
        let request = Request::Events { after: self.after, tail: self.tail, follow: self.follow };
        let out = global.out();
        block_on(global.timeout, async {
            let show = |event| {
                let event = flat(&event);
                out.item(&if out.is_json() { event } else { Value::String(text(&event)) });
            };
            Conversation::start(global, &request).await?.each(show).await
        })
    }
}

/// One object: number, time, the event's name, and its fields.
fn flat(event: &Event) -> Value {
    let mut object = serde_json::Map::new();
    object.insert("seq".into(), event.seq.into());
    object.insert("at".into(), event.at.into());
    object.insert("times".into(), event.times.into());
    if let Ok(Value::Object(what)) = serde_json::to_value(&event.what) {
        for (name, fields) in what {
            object.insert("event".into(), name.into());
            if let Value::Object(fields) = fields {
                object.extend(fields);
            }
        }
    }
    Value::Object(object)
}

/// A line for people: the same, with the fields as `name=value`.
fn text(event: &Value) -> String {
    let number = |name: &str| event.get(name).and_then(Value::as_u64).unwrap_or_default();
    let at = std::time::UNIX_EPOCH + std::time::Duration::from_millis(number("at"));
    let mut line = format!(
        "{} {:<4} {}",
        humantime::format_rfc3339_millis(at),
        number("seq"),
        event.get("event").and_then(Value::as_str).unwrap_or_default()
    );
    if number("times") > 1 {
        line += &format!(" ({} times)", number("times"));
    }
    let shown = |value: &Value| match value {
        Value::String(text) if !text.contains(' ') => text.clone(),
        other => other.to_string(),
    };
    for (name, value) in event.as_object().into_iter().flatten() {
        if !["seq", "at", "times", "event"].contains(&name.as_str()) {
            line += &format!(" {name}={}", shown(value));
        }
    }
    line
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::words::event::Happened;

    #[test]
    fn events_are_flat_for_scripts_and_a_line_for_people() {
        let what = Happened::LinkDown { peer: [0; 32].into(), why: "no sign of life".into() };
        let event = flat(&Event { seq: 7, at: 1_000, times: 3, what });
        assert_eq!(event["event"], "link-down");
        assert_eq!((&event["seq"], &event["why"]), (&7.into(), &"no sign of life".into()));
        let line = text(&event);
        assert!(line.starts_with("1970-01-01T00:00:01.000Z 7    link-down (3 times) peer=aaaa"), "{line}");
        assert!(line.ends_with("why=\"no sign of life\""), "{line}");
    }
}
