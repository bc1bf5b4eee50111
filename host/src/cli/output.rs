//! What people and scripts read: text for the one, JSON for the other.

use std::borrow::Cow;
use std::io::{IsTerminal, Write};

use serde::Serialize;

use crate::log::is_text;
use crate::words::{Code, Fault};

/// Form of the output.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Form {
    /// For people.
    Text,
    /// For scripts: JSON alone on standard output, one value, or one value per line where items arrive over time.
    Json,
}

/// Where a command's answer goes.
#[derive(Clone, Copy)]
pub(crate) struct Output {
    form: Form,
}

impl Output {
    pub(crate) fn new(form: Form) -> Self {
        Self { form }
    }

    pub(crate) fn is_json(self) -> bool {
        self.form == Form::Json
    }

    /// Prints a report: as JSON, or as the text that `text` makes of it.
    pub(crate) fn report<T: Serialize>(self, report: &T, text: impl FnOnce(&T) -> String) {
        line(&self.shown(report, text));
    }

    /// Prints the report of a command that goes on, and has more to end than itself: whether somebody reads it is no matter.
    pub(crate) fn announce<T: Serialize>(self, report: &T, text: impl FnOnce(&T) -> String) {
        let _ = try_line(&self.shown(report, text));
    }

    fn shown<T: Serialize>(self, report: &T, text: impl FnOnce(&T) -> String) -> String {
        match self.form {
            Form::Json => serde_json::to_string_pretty(report).unwrap_or_default(),
            Form::Text => text(report).trim_end().to_owned(),
        }
    }

    /// Prints one item as soon as it is there.
    pub(crate) fn item(self, value: &serde_json::Value) {
        match (self.form, value) {
            (Form::Text, serde_json::Value::String(text)) => line(text),
            _ => line(&value.to_string()),
        }
    }

    /// Prints a failure on standard error.
    pub(crate) fn fault(self, fault: &Fault) {
        let mut stderr = std::io::stderr().lock();
        let written = if self.is_json() {
            writeln!(stderr, "{}", serde_json::json!({ "error": fault }))
        } else {
            let bold = stderr.is_terminal() && std::env::var_os("NO_COLOR").is_none();
            let (on, off) = if bold { ("\x1b[1;31m", "\x1b[0m") } else { ("", "") };
            let what = readable(&fault.what);
            // The words of a guest: none of their lines looks like one of ours.
            let what =
                if fault.code == Code::Application { what.replace('\n', "\n  | ").into() } else { what };
            let mut text = format!("{on}{}{off}: {what}\n", fault.code);
            if let Some(report) = &fault.report {
                let digest: String = report.digest.chars().take(12).collect();
                let (plugin, limit) = (readable(&report.plugin), readable(&report.limit));
                text += &format!("  in: {plugin} {} ({digest}), {limit}\n", readable(&report.function));
                for line in &report.last_lines {
                    text += &format!("  | {}\n", readable(line));
                }
            }
            if let Some(fix) = &fault.fix {
                text += &format!("  fix: {}\n", readable(fix));
            }
            write!(stderr, "{text}")
        };
        // Nobody reads: there is nobody to tell.
        let _ = written;
    }
}

/// Prints a line; a reader that is gone ends the process quietly, as a pipe's writer should.
fn line(text: &str) {
    if try_line(text).is_err() {
        std::process::exit(0);
    }
}

fn try_line(text: &str) -> std::io::Result<()> {
    let mut stdout = std::io::stdout().lock();
    // Into a file or a pipe it goes as it is; a terminal would obey it.
    let text = if stdout.is_terminal() { readable(text) } else { text.into() };
    writeln!(stdout, "{text}").and_then(|()| stdout.flush())
}

/// A text that moves no cursor, whoever wrote it: of what is no text, only ends of lines are left.
pub(crate) fn readable(text: &str) -> Cow<'_, str> {
    let fits = |char: char| char == '\n' || is_text(char);
    if text.chars().all(fits) {
        return text.into();
    }
    text.chars().map(|char| if fits(char) { char } else { '\u{FFFD}' }).collect()
}

/// Rows under a head, in columns as wide as they need to be.
pub(crate) fn table(head: &[&str], rows: &[Vec<String>]) -> String {
    let mut widths: Vec<usize> = head.iter().map(|cell| cell.chars().count()).collect();
    for row in rows {
        for (width, cell) in widths.iter_mut().zip(row) {
            *width = (*width).max(cell.chars().count());
        }
    }
    let line = |cells: Vec<&str>| {
        let padded: Vec<String> = cells
            .iter()
            .zip(&widths)
            .map(|(cell, width)| format!("{cell:<width$}", width = *width))
            .collect();
        padded.join("  ").trim_end().to_owned()
    };
    let mut lines = vec![line(head.to_vec())];
    lines.extend(rows.iter().map(|row| line(row.iter().map(String::as_str).collect())));
    lines.join("\n")
}

/// A duration for people, in its two largest units.
pub(crate) fn ago(ms: u64) -> String {
    let text = humantime::format_duration(std::time::Duration::from_secs(ms / 1000)).to_string();
    text.split(' ').take(2).collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_that_is_shown_moves_a_cursor() {
        assert_eq!(readable("two\nlines, ä\t👩\u{200d}🚀"), "two\nlines, ä\t👩\u{200d}🚀");
        assert_eq!(
            readable("\x1b]0;title\x07\r\u{9b}2J\u{202e}"),
            "\u{FFFD}]0;title\u{FFFD}\u{FFFD}\u{FFFD}2J\u{FFFD}"
        );
    }

    #[test]
    fn tables_line_up() {
        let rows = vec![vec!["a".into(), "long".into()], vec!["bcd".into(), "x".into()]];
        assert_eq!(table(&["n", "value"], &rows), "n    value\na    long\nbcd  x");
        assert_eq!(ago(3_725_000), "1h 2m");
    }
}
