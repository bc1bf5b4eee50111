//! Reads TOML tables field by field and remembers, with its line, everything that is wrong with them.

use std::ops::Range;

use toml::Spanned;
use toml::de::{DeTable, DeValue};

use crate::words::id::clip;
use crate::words::problems::Problems;
use crate::words::{Code, Name, Outcome};

/// Words closer than this to a known one are taken for a slip of it (Jaro-Winkler, 0 to 1).
const SIMILAR: f64 = 0.8;

/// The text with what was found wrong so far.
pub(super) struct Reader<'a> {
    text: &'a str,
    file: &'a str,
    problems: Vec<(usize, String)>,
}

impl<'a> Reader<'a> {
    pub(super) fn new(text: &'a str, file: &'a str) -> Self {
        Self { text, file, problems: Vec::new() }
    }

    pub(super) fn problem(&mut self, span: Range<usize>, what: String) {
        self.problem_at(self.line(span.start), what);
    }

    pub(super) fn problem_at(&mut self, line: usize, what: String) {
        self.problems.push((line, what));
    }

    /// The line of a byte, from 1.
    pub(super) fn line(&self, offset: usize) -> usize {
        let before = self.text.as_bytes().get(..offset).unwrap_or_default();
        1 + before.iter().filter(|byte| **byte == b'\n').count()
    }

    /// Ends here if anything was wrong: all problems, in the order of the lines.
    pub(super) fn finish(&mut self) -> Outcome<()> {
        self.problems.sort_by_key(|(line, _)| *line);
        let mut problems = Problems::new();
        for (line, what) in self.problems.drain(..) {
            problems.add(format!("{} line {line}: {what}", self.file));
        }
        problems.finish(Code::BadManifest, self.file)
    }
}

/// A table whose keys have been checked.
pub(super) struct Fields<'a> {
    /// Stands before each key in messages, for example `limits.`.
    prefix: String,
    table: &'a DeTable<'a>,
    span: Range<usize>,
}

impl<'a> Fields<'a> {
    pub(super) fn new(
        reader: &mut Reader,
        prefix: &str,
        table: &'a Spanned<DeTable<'a>>,
        known: &[&str],
    ) -> Self {
        Self::at(reader, prefix, table.get_ref(), table.span(), known)
    }

    pub(super) fn at(
        reader: &mut Reader,
        prefix: &str,
        table: &'a DeTable<'a>,
        span: Range<usize>,
        known: &[&str],
    ) -> Self {
        for (key, _) in table.iter().filter(|(key, _)| !known.contains(&key.get_ref().as_ref())) {
            let word = key.get_ref();
            let what = format!("unknown key {prefix}{}{}", clip(word).escape_debug(), hint(word, known));
            reader.problem(key.span(), what);
        }
        Self { prefix: prefix.to_owned(), table, span }
    }

    /// A field that may be absent. `parse` says what is wrong as the rest of a sentence: `is not a text`.
    pub(super) fn read<T>(
        &self,
        reader: &mut Reader,
        key: &str,
        parse: impl FnOnce(&DeValue) -> Result<T, String>,
    ) -> Option<T> {
        let value = self.table.get(key)?;
        match parse(value.get_ref()) {
            Ok(parsed) => Some(parsed),
            Err(why) => {
                reader.problem(value.span(), format!("{}{key} {why}", self.prefix));
                None
            }
        }
    }

    /// A field that must be there.
    pub(super) fn require<T>(
        &self,
        reader: &mut Reader,
        key: &str,
        parse: impl FnOnce(&DeValue) -> Result<T, String>,
    ) -> Option<T> {
        if !self.table.contains_key(key) {
            reader.problem(self.span.clone(), format!("{}{key} is missing", self.prefix));
        }
        self.read(reader, key, parse)
    }

    /// A table within this one.
    pub(super) fn table(&self, reader: &mut Reader, key: &str, known: &[&str]) -> Option<Fields<'a>> {
        let value = self.table.get(key)?;
        let Some(table) = value.get_ref().as_table() else {
            let what = format!("{}{key} {}", self.prefix, not("a table", value.get_ref()));
            reader.problem(value.span(), what);
            return None;
        };
        Some(Fields::at(reader, &format!("{}{key}.", self.prefix), table, value.span(), known))
    }

    /// The entries of a table whose keys are the author's own.
    pub(super) fn entries(
        &self,
        reader: &mut Reader,
        key: &str,
    ) -> Vec<(&'a str, &'a DeValue<'a>, Range<usize>)> {
        let Some(value) = self.table.get(key) else {
            return Vec::new();
        };
        let Some(table) = value.get_ref().as_table() else {
            let what = format!("{}{key} {}", self.prefix, not("a table", value.get_ref()));
            reader.problem(value.span(), what);
            return Vec::new();
        };
        table.iter().map(|(key, value)| (key.get_ref().as_ref(), value.get_ref(), value.span())).collect()
    }

    /// The tables of a `[[key]]`.
    pub(super) fn tables(&self, reader: &mut Reader, key: &str) -> Vec<(&'a DeTable<'a>, Range<usize>)> {
        let Some(value) = self.table.get(key) else {
            return Vec::new();
        };
        let Some(items) = value.get_ref().as_array() else {
            reader.problem(value.span(), format!("{key} is a list of tables; write [[{key}]]"));
            return Vec::new();
        };
        let mut tables = Vec::new();
        for item in items {
            match item.get_ref().as_table() {
                Some(table) => tables.push((table, item.span())),
                None => reader.problem(item.span(), format!("{key} {}", not("a table", item.get_ref()))),
            }
        }
        tables
    }
}

pub(super) fn text(value: &DeValue) -> Result<String, String> {
    value.as_str().map(str::to_owned).ok_or_else(|| not("a text", value))
}

pub(super) fn truth(value: &DeValue) -> Result<bool, String> {
    value.as_bool().ok_or_else(|| not("true or false", value))
}

pub(super) fn name(value: &DeValue) -> Result<Name, String> {
    text(value)?.parse().map_err(|_| "is not a name such as math1@fabric".to_owned())
}

/// Each item with `parse`; all that are wrong are told.
pub(super) fn list<T>(
    value: &DeValue,
    parse: impl Fn(&DeValue) -> Result<T, String>,
) -> Result<Vec<T>, String> {
    let items = value.as_array().ok_or_else(|| not("a list", value))?;
    let mut parsed = Vec::new();
    let mut wrong = Vec::new();
    for item in items {
        match parse(item.get_ref()) {
            Ok(item) => parsed.push(item),
            Err(why) => wrong.push(format!("{} {why}", shown(item.get_ref()))),
        }
    }
    if wrong.is_empty() { Ok(parsed) } else { Err(format!("has mistakes: {}", wrong.join("; "))) }
}

pub(super) fn choice<T: Copy>(value: &DeValue, options: &[(&str, T)]) -> Result<T, String> {
    let word = text(value)?;
    if let Some((_, chosen)) = options.iter().find(|(option, _)| *option == word) {
        return Ok(*chosen);
    }
    let words: Vec<&str> = options.iter().map(|(option, _)| *option).collect();
    Err(format!("is one of {}, not {}{}", words.join(", "), shown(value), hint(&word, &words)))
}

pub(super) fn integer(value: &DeValue) -> Result<u64, String> {
    let number = value.as_integer().ok_or_else(|| not("a whole number", value))?;
    u64::from_str_radix(number.as_str(), number.radix())
        .map_err(|_| format!("is a whole number from 0 to 2^64-1, not {number}"))
}

/// A number of bytes: a whole number, or text such as `64MiB`.
pub(super) fn size(value: &DeValue) -> Result<u64, String> {
    let Some(text) = value.as_str() else {
        return integer(value).map_err(|_| not("a size such as \"64MiB\"", value));
    };
    let digits = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let (number, unit) = text.split_at(digits);
    let shift = match unit.trim_start() {
        "" | "B" => Some(0),
        "KiB" => Some(10),
        "MiB" => Some(20),
        "GiB" => Some(30),
        _ => None,
    };
    let bytes =
        number.parse::<u64>().ok().zip(shift).and_then(|(number, shift)| number.checked_mul(1 << shift));
    bytes.ok_or_else(|| format!("is a size in B, KiB, MiB or GiB, not {}", shown(value)))
}

/// A length of time such as `365d` or `2s`.
pub(super) fn duration_ms(value: &DeValue) -> Result<u64, String> {
    let parsed = humantime::parse_duration(&text(value)?).ok();
    parsed
        .and_then(|duration| u64::try_from(duration.as_millis()).ok())
        .ok_or_else(|| format!("is a time such as \"2s\", \"10min\" or \"365d\", not {}", shown(value)))
}

/// The JSON text of a table, keys in order: one configuration, one text, one signature.
pub(super) fn config(value: &DeValue) -> Result<String, String> {
    if !value.is_table() {
        return Err(not("a table", value));
    }
    Ok(json(value)?.to_string())
}

fn json(value: &DeValue) -> Result<serde_json::Value, String> {
    Ok(match value {
        DeValue::String(text) => text.as_ref().into(),
        DeValue::Boolean(truth) => (*truth).into(),
        DeValue::Integer(number) => match i64::from_str_radix(number.as_str(), number.radix()) {
            Ok(number) => number.into(),
            Err(_) => return Err(format!("has a number that is too large: {number}")),
        },
        DeValue::Float(number) => {
            let parsed = number.as_str().parse().ok().and_then(serde_json::Number::from_f64);
            parsed.ok_or_else(|| format!("has a number that JSON has not: {number}"))?.into()
        }
        DeValue::Datetime(date) => return Err(format!("has a date, write it as text: \"{date}\"")),
        DeValue::Array(items) => items.iter().map(|item| json(item.get_ref())).collect::<Result<_, _>>()?,
        DeValue::Table(table) => {
            let mut entries = Vec::new();
            for (key, value) in table {
                entries.push((key.get_ref().to_string(), json(value.get_ref())?));
            }
            entries.sort_by(|a, b| a.0.cmp(&b.0));
            serde_json::Value::Object(entries.into_iter().collect())
        }
    })
}

fn not(expected: &str, value: &DeValue) -> String {
    format!("is {expected}, not {}", shown(value))
}

/// A value as it may stand in a message.
fn shown(value: &DeValue) -> String {
    match value {
        DeValue::String(text) => format!("{:?}", clip(text)),
        DeValue::Integer(number) => clip(&number.to_string()).to_owned(),
        DeValue::Float(number) => clip(&number.to_string()).to_owned(),
        DeValue::Boolean(truth) => truth.to_string(),
        DeValue::Datetime(date) => date.to_string(),
        DeValue::Array(_) => "a list".into(),
        DeValue::Table(_) => "a table".into(),
    }
}

/// `; did you mean x`, or nothing.
fn hint(word: &str, known: &[&str]) -> String {
    let likeness = |known: &str| strsim::jaro_winkler(clip(word), known);
    let best = known.iter().max_by(|a, b| likeness(a).total_cmp(&likeness(b)));
    best.filter(|best| likeness(best) >= SIMILAR)
        .map_or_else(String::new, |best| format!("; did you mean {best}"))
}
