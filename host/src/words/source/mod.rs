//! The manifest as people write it: TOML, read with line numbers, all mistakes told at once.

mod bindings;
mod fields;
mod grants;
mod resolve;

use toml::de::DeTable;

use self::fields::{Fields, Reader, choice, config, duration_ms, integer, list, name, size, text};
use super::objects::rules;
use super::objects::{
    Bindings, BlobRef, Grants, Handover, Instances, Kind, Limits, Manifest, Plugin, Selector,
};
use super::{Digest, Name, Outcome, Trust};

pub use self::resolve::{Resolved, resolve};

/// How long a manifest is good for when its file does not say.
pub const LIFETIME_MS: u64 = 365 * 24 * 60 * 60 * 1000;
/// Longest lifetime: what nobody signs again in ten years nobody looks after.
pub const LIFETIME_MAX_MS: u64 = 10 * LIFETIME_MS;
/// Bytes of a file. A manifest of 256 plugins has a tenth of this.
pub const SOURCE_MAX: usize = 1 << 20;

/// A manifest's file, read; the components that it names are not.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Source {
    /// The file's name as it was given, for messages.
    pub file: String,
    /// From signing to expiry.
    pub lifetime_ms: u64,
    /// Trust of a peer without a membership.
    pub strangers: Trust,
    /// See [`Manifest::probation_ms`].
    pub probation_ms: u64,
    /// In the order of the file.
    pub plugins: Vec<PluginSource>,
}

/// A `[[plugin]]` of the file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PluginSource {
    /// Line of its `[[plugin]]`, from 1.
    pub line: usize,
    /// Path of the component, relative to the file.
    pub component: String,
    /// See [`Plugin::slot`].
    pub slot: String,
    /// See [`Plugin::kind`].
    pub kind: Kind,
    /// See [`Plugin::config`].
    pub config: String,
    /// See [`Plugin::protocol`].
    pub protocol: Option<String>,
    /// See [`Plugin::mount`].
    pub mount: Option<String>,
    /// See [`Plugin::datasets`].
    pub datasets: Vec<String>,
    /// See [`Plugin::names`].
    pub names: Vec<Name>,
    /// See [`Plugin::expose`].
    pub expose: Trust,
    /// See [`Plugin::grants`].
    pub grants: Grants,
    /// See [`Plugin::bindings`].
    pub bindings: Bindings,
    /// See [`Plugin::limits`].
    pub limits: Limits,
    /// See [`Plugin::instances`].
    pub instances: Instances,
    /// See [`Plugin::handover`].
    pub handover: Handover,
    /// See [`Plugin::drain_ms`].
    pub drain_ms: u64,
    /// See [`Plugin::probe`].
    pub probe: Option<String>,
    /// See [`Plugin::on`].
    pub on: Selector,
}

impl Source {
    /// Where a plugin stands, for example `shop.toml line 12`; the file alone when there is no such plugin.
    pub fn place(&self, plugin: usize) -> String {
        match self.plugins.get(plugin) {
            Some(plugin) => format!("{} line {}", self.file, plugin.line),
            None => self.file.clone(),
        }
    }
}

impl PluginSource {
    /// The plugin, once its component is known.
    pub fn with(&self, component: BlobRef) -> Plugin {
        Plugin {
            slot: self.slot.clone(),
            kind: self.kind,
            component,
            config: self.config.clone(),
            protocol: self.protocol.clone(),
            mount: self.mount.clone(),
            datasets: self.datasets.clone(),
            names: self.names.clone(),
            expose: self.expose,
            grants: self.grants.clone(),
            bindings: self.bindings.clone(),
            limits: self.limits,
            instances: self.instances,
            handover: self.handover,
            drain_ms: self.drain_ms,
            probe: self.probe.clone(),
            on: self.on.clone(),
        }
    }
}

/// Reads a manifest's file; `file` is its name for messages.
///
/// # Errors
/// `bad-manifest` with every problem, each as `file line N: …`. Mistakes in the syntax are told first, by
/// themselves, because what follows them is guesswork.
pub fn parse(text: &str, file: &str) -> Outcome<Source> {
    let mut reader = Reader::new(text, file);
    if text.len() > SOURCE_MAX {
        reader
            .problem(0..0, format!("a manifest has at most {SOURCE_MAX} bytes, this one has {}", text.len()));
    }
    reader.finish()?;
    let (document, errors) = DeTable::parse_recoverable(text);
    for error in errors {
        reader.problem(error.span().unwrap_or(0..0), error.message().to_owned());
    }
    reader.finish()?;
    let top = Fields::new(&mut reader, "", &document, &["expires", "strangers", "probation", "plugin"]);
    let lifetime_ms = top.read(&mut reader, "expires", |value| match duration_ms(value)? {
        1..=LIFETIME_MAX_MS => duration_ms(value),
        _ => Err("is a time after signing, at most 3650d".into()),
    });
    let strangers = top.read(&mut reader, "strangers", trust);
    let probation_ms = top.read(&mut reader, "probation", |value| {
        rules::check_probation(duration_ms(value)?).map_err(|why| format!("is {why}"))
    });
    let mut plugins = Vec::new();
    for (table, span) in top.tables(&mut reader, "plugin") {
        plugins.extend(plugin(&mut reader, table, span));
    }
    check(&mut reader, &plugins);
    reader.finish()?;
    Ok(Source {
        file: file.to_owned(),
        lifetime_ms: lifetime_ms.unwrap_or(LIFETIME_MS),
        strangers: strangers.unwrap_or(Trust::Pending),
        probation_ms: probation_ms.unwrap_or(Manifest::PROBATION_MS),
        plugins,
    })
}

const PLUGIN_KEYS: &[&str] = &[
    "slot",
    "kind",
    "component",
    "config",
    "protocol",
    "mount",
    "datasets",
    "names",
    "expose",
    "grants",
    "bindings",
    "limits",
    "instances",
    "handover",
    "drain",
    "probe",
    "on",
];

fn plugin(reader: &mut Reader, table: &DeTable, span: std::ops::Range<usize>) -> Option<PluginSource> {
    let line = reader.line(span.start);
    let fields = Fields::at(reader, "", table, span, PLUGIN_KEYS);
    let slot = fields.require(reader, "slot", text);
    let kind =
        fields.require(reader, "kind", |value| choice(value, &Kind::ALL.map(|kind| (kind.as_str(), kind))));
    let component = fields.require(reader, "component", text);
    let config = fields.read(reader, "config", config);
    let protocol = fields.read(reader, "protocol", text);
    let mount = fields.read(reader, "mount", text);
    let datasets = fields.read(reader, "datasets", |value| list(value, text));
    let names = fields.read(reader, "names", |value| list(value, name));
    let expose = fields.read(reader, "expose", trust);
    let instances = fields.read(reader, "instances", instances);
    let handover = fields.read(reader, "handover", |value| {
        choice(
            value,
            &[Handover::Required, Handover::Optional, Handover::None]
                .map(|handover| (handover.as_str(), handover)),
        )
    });
    let drain_ms = fields.read(reader, "drain", duration_ms);
    let probe = fields.read(reader, "probe", text);
    let grants = grants::grants(reader, &fields);
    let bindings = bindings::bindings(reader, &fields);
    let limits = limits(reader, &fields);
    let on = fields.table(reader, "on", &["labels", "tags"]).map(|fields| Selector {
        labels: fields.read(reader, "labels", |value| list(value, text)).unwrap_or_default(),
        tags: fields.read(reader, "tags", |value| list(value, text)).unwrap_or_default(),
    });
    Some(PluginSource {
        line,
        component: component?,
        slot: slot?,
        kind: kind?,
        config: config.unwrap_or_else(|| "{}".into()),
        protocol,
        mount,
        datasets: datasets.unwrap_or_default(),
        names: names.unwrap_or_default(),
        expose: expose.unwrap_or(Trust::Trusted),
        grants,
        bindings,
        limits,
        instances: instances.unwrap_or_default(),
        handover: handover.unwrap_or_default(),
        drain_ms: drain_ms.unwrap_or(Plugin::DRAIN_MS),
        probe,
        on: on.unwrap_or_default(),
    })
}

fn limits(reader: &mut Reader, fields: &Fields) -> Limits {
    let keys = ["memory", "deadline", "host-calls", "host-bytes", "concurrency"];
    let defaults = Limits::default();
    let Some(fields) = fields.table(reader, "limits", &keys) else {
        return defaults;
    };
    Limits {
        memory: fields.read(reader, "memory", size).unwrap_or(defaults.memory),
        deadline_ms: fields.read(reader, "deadline", deadline).unwrap_or(defaults.deadline_ms),
        host_calls: fields.read(reader, "host-calls", integer).unwrap_or(defaults.host_calls),
        host_bytes: fields.read(reader, "host-bytes", size).unwrap_or(defaults.host_bytes),
        concurrency: fields
            .read(reader, "concurrency", |value| {
                u32::try_from(integer(value)?).map_err(|_| "is too large".to_owned())
            })
            .unwrap_or(defaults.concurrency),
    }
}

/// Applies the rules that hold for every manifest to what has been read without mistakes.
fn check(reader: &mut Reader, plugins: &[PluginSource]) {
    // The component is read later, and its length is checked then.
    let unknown = BlobRef { digest: Digest::of(&[]), length: 1 };
    let drafts: Vec<Plugin> = plugins.iter().map(|plugin| plugin.with(unknown)).collect();
    for problem in rules::problems(&drafts) {
        let line = problem.plugin.and_then(|index| plugins.get(index)).map_or(1, |plugin| plugin.line);
        reader.problem_at(line, problem.what);
    }
}

fn trust(value: &toml::de::DeValue) -> Result<Trust, String> {
    choice(value, &Trust::ALL.map(|trust| (trust.as_str(), trust)))
}

fn deadline(value: &toml::de::DeValue) -> Result<u64, String> {
    let classes = [("quick", Limits::QUICK_MS), ("normal", Limits::NORMAL_MS), ("long", Limits::LONG_MS)];
    match value.as_str() {
        Some(text) if text.starts_with(|first: char| first.is_ascii_digit()) => duration_ms(value),
        _ => choice(value, &classes).map_err(|why| format!("{why}, or a time such as \"2s\"")),
    }
}

fn instances(value: &toml::de::DeValue) -> Result<Instances, String> {
    let calls = value.as_str().and_then(|text| text.strip_prefix("reuse ")).map(|calls| calls.trim().parse());
    match calls {
        Some(Ok(calls)) => Ok(Instances::Reuse(calls)),
        Some(Err(_)) => Err("is \"reuse N\", N the number of calls".into()),
        None => choice(value, &[("fresh", Instances::Fresh), ("singleton", Instances::Singleton)])
            .map_err(|why| format!("{why}, or \"reuse N\"")),
    }
}

#[cfg(test)]
mod tests;
