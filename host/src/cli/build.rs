//! `midplane build`: from the source of plugins to components.

use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::Stdio;

use serde::{Deserialize, Serialize};

use super::Global;
use super::componentize::componentize;
use super::output::table;
use super::toolchain::{TARGET, Toolchain, clean, run};
use crate::words::{Code, Digest, Fault, Outcome};

/// Directory names that make a crate below them a plugin of that kind: `skill/math1` is written to
/// `skill/math1.wasm`. A crate anywhere else is written under its package name.
const KINDS: [&str; 6] = ["discovery", "admission", "routing", "sync", "skill", "gateway"];

/// Longest module that is read: the host takes components up to this size.
const MODULE_MAX: u64 = 64 << 20;

/// Arguments of `midplane build`.
#[derive(clap::Args)]
pub(super) struct Build {
    /// A plugin crate, or a workspace of them
    #[arg(default_value = ".")]
    dir: PathBuf,
    /// Where the components go [default: `plugins` in cargo's target directory]
    #[arg(long, value_name = "DIR")]
    out: Option<PathBuf>,
}

impl Build {
    pub(super) fn run(&self, global: &Global) -> Outcome<()> {
        let out = match &self.out {
            Some(out) => out.clone(),
            None => default_out(&self.dir)?,
        };
        let built = build(&self.dir, &out, global.verbose)?;
        global.out().report(&built, |built| {
            let rows: Vec<Vec<String>> = built
                .iter()
                .map(|one| {
                    let state = if one.fresh { "new" } else { "unchanged" };
                    vec![
                        one.name.clone(),
                        one.bytes.to_string(),
                        one.digest.short(),
                        state.into(),
                        one.path.display().to_string(),
                    ]
                })
                .collect();
            table(&["PLUGIN", "BYTES", "DIGEST", "", "FILE"], &rows)
        });
        Ok(())
    }
}

/// A component that a build left behind.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct Built {
    /// `kind/name`, or the package name of a crate that lies in no kind's directory.
    pub name: String,
    /// Where the component is.
    pub path: PathBuf,
    /// Its length.
    pub bytes: u64,
    /// Its BLAKE3 digest.
    pub digest: Digest,
    /// Whether this build changed the file. A file of the same bytes is left as it is, with its time.
    pub fresh: bool,
}

/// Where components go when nothing else is said: `plugins` in cargo's target directory of `dir`.
pub fn default_out(dir: &Path) -> Outcome<PathBuf> {
    Ok(metadata(&existing(dir)?)?.target_directory.join("plugins"))
}

/// Builds the plugin crate in `dir`, or all of them when `dir` is a workspace, and writes each as a component to
/// `out/<kind>/<name>.wasm`. What the compiler says goes to stderr. Blocks: a first build takes seconds to minutes.
///
/// # Errors
///
/// `not-found` when there is no crate or no toolchain, `usage` when the directory has no plugin, `build-failed` when
/// the source does not compile, `bad-component` when what was compiled is no plugin: of all crates at once.
pub fn build(dir: &Path, out: &Path, verbose: bool) -> Outcome<Vec<Built>> {
    let dir = existing(dir)?;
    let metadata = metadata(&dir)?;
    let plugins = plugins(&metadata, &dir);
    if plugins.is_empty() {
        return Err(Fault::new(Code::Usage, format!("{} has no plugin", dir.display()))
            .fix("crate-type = [\"cdylib\"] under [lib] in Cargo.toml makes a crate a plugin"));
    }
    compile(&Toolchain::find(&dir)?, &dir, &plugins, verbose)?;

    let mut built = Vec::new();
    let mut refused: Vec<Fault> = Vec::new();
    for plugin in &plugins {
        match finish(plugin, out) {
            Ok(one) => built.push(one),
            Err(fault) => refused.push(fault),
        }
    }
    match refused.first() {
        None => Ok(built),
        Some(first) => {
            let texts: Vec<&str> = refused.iter().map(|fault| fault.what.as_str()).collect();
            Err(Fault { what: texts.join("; "), ..first.clone() })
        }
    }
}

/// What `cargo metadata` tells, as far as it is used.
#[derive(Deserialize)]
struct Metadata {
    packages: Vec<Package>,
    workspace_root: PathBuf,
    target_directory: PathBuf,
}

#[derive(Deserialize)]
struct Package {
    name: String,
    manifest_path: PathBuf,
    targets: Vec<CrateTarget>,
}

#[derive(Deserialize)]
struct CrateTarget {
    name: String,
    kind: Vec<String>,
}

/// A crate to build.
#[derive(Debug, PartialEq, Eq)]
struct Plugin {
    package: String,
    /// As in [`Built`].
    name: String,
    /// The core module that cargo makes of it.
    module: PathBuf,
    /// Directory of its WIT package. It may not exist.
    wit: PathBuf,
}

fn existing(dir: &Path) -> Outcome<PathBuf> {
    dir.canonicalize().map_err(|error| Fault::io(dir.display(), &error))
}

fn metadata(dir: &Path) -> Outcome<Metadata> {
    if !dir.join("Cargo.toml").is_file() {
        return Err(Fault::new(Code::NotFound, format!("{} has no Cargo.toml", dir.display()))
            .fix("midplane build DIR, where DIR is a plugin crate or a workspace of them"));
    }
    let json = run(clean("cargo", dir).args(["metadata", "--no-deps", "--format-version", "1"]))
        .map_err(|error| Fault::new(Code::BuildFailed, error))?;
    serde_json::from_str(&json)
        .map_err(|error| Fault::new(Code::BuildFailed, format!("cargo metadata: {error}")))
}

/// The plugins of a directory in the order of their names: all members of a workspace, or the one crate that lies there.
fn plugins(metadata: &Metadata, dir: &Path) -> Vec<Plugin> {
    let whole = metadata.workspace_root == dir;
    let modules = metadata.target_directory.join(TARGET).join("release");
    let mut plugins = Vec::new();
    for package in &metadata.packages {
        let home = package.manifest_path.parent().unwrap_or(dir);
        let library = package.targets.iter().find(|target| target.kind.iter().any(|kind| kind == "cdylib"));
        if let Some(library) = library.filter(|_| whole || home == dir) {
            plugins.push(Plugin {
                package: package.name.clone(),
                name: plugin_name(home, &package.name),
                module: modules.join(library.name.replace('-', "_")).with_extension("wasm"),
                wit: home.join("wit"),
            });
        }
    }
    plugins.sort_by(|a, b| a.name.cmp(&b.name));
    plugins
}

/// `kind/name` of a crate's directory, or the package's name.
fn plugin_name(home: &Path, package: &str) -> String {
    let part = |path: Option<&Path>| path?.file_name()?.to_str().map(str::to_owned);
    match (part(home.parent()), part(Some(home))) {
        (Some(kind), Some(name)) if KINDS.contains(&kind.as_str()) => format!("{kind}/{name}"),
        _ => package.to_owned(),
    }
}

fn compile(toolchain: &Toolchain, dir: &Path, plugins: &[Plugin], verbose: bool) -> Outcome<()> {
    let mut command = toolchain.build(dir);
    for plugin in plugins {
        command.args(["-p", &plugin.package]);
    }
    if verbose {
        command.arg("-v");
    }
    let status = command.stdout(Stdio::null()).status().map_err(|error| Fault::io("cargo", &error))?;
    if status.success() {
        return Ok(());
    }
    Err(Fault::new(Code::BuildFailed, format!("cargo build in {}: {status}", dir.display()))
        .fix("the compiler's messages are above"))
}

/// From the core module to the file in `out`. A fault begins with the plugin's name.
fn finish(plugin: &Plugin, out: &Path) -> Outcome<Built> {
    let about = |fault: Fault| Fault { what: format!("{}: {}", plugin.name, fault.what), ..fault };
    let io = |path: &Path, error: &std::io::Error| about(Fault::io(path.display(), error));

    let length = std::fs::metadata(&plugin.module).map_err(|error| io(&plugin.module, &error))?.len();
    if length > MODULE_MAX {
        return Err(about(Fault::new(Code::TooLarge, format!("{length} bytes, of at most {MODULE_MAX}"))));
    }
    let module = std::fs::read(&plugin.module).map_err(|error| io(&plugin.module, &error))?;
    let wit = plugin.wit.is_dir().then_some(plugin.wit.as_path());
    let component = componentize(&module, wit).map_err(about)?;

    let path = out.join(format!("{}.wasm", plugin.name));
    let fresh = write(&path, &component).map_err(|error| io(&path, &error))?;
    Ok(Built {
        name: plugin.name.clone(),
        path,
        bytes: component.len() as u64,
        digest: Digest::of(&component),
        fresh,
    })
}

/// Puts a file in place whole or not at all, and only when its bytes differ; answers whether they did.
fn write(path: &Path, bytes: &[u8]) -> std::io::Result<bool> {
    if std::fs::read(path).is_ok_and(|present| present == bytes) {
        return Ok(false);
    }
    let parent = path.parent().unwrap_or(Path::new("."));
    std::fs::create_dir_all(parent)?;
    let mut file = tempfile::NamedTempFile::new_in(parent)?;
    file.write_all(bytes)?;
    readable(file.as_file())?;
    file.persist(path)?;
    Ok(true)
}

/// A temporary file is its owner's alone; a component is as public as the source it comes from.
fn readable(file: &std::fs::File) -> std::io::Result<()> {
    use std::os::unix::fs::PermissionsExt as _;
    file.set_permissions(std::fs::Permissions::from_mode(0o644))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn metadata_of(crates: &[(&str, &str, &str)]) -> Metadata {
        let packages = crates.iter().map(|(home, name, kind)| Package {
            name: (*name).into(),
            manifest_path: Path::new(home).join("Cargo.toml"),
            targets: vec![CrateTarget { name: (*name).into(), kind: vec![(*kind).into()] }],
        });
        Metadata { packages: packages.collect(), workspace_root: "/w".into(), target_directory: "/t".into() }
    }

    #[test]
    fn a_workspace_is_all_its_plugins_and_a_member_is_itself() {
        let metadata = metadata_of(&[
            ("/w/skill/math1", "skill-math1", "cdylib"),
            ("/w/tools", "tools", "bin"),
            ("/w/routing/path-vector", "pv", "cdylib"),
            ("/w/own", "own", "cdylib"),
        ]);
        let check = |dir: &str, expect: &[&str]| {
            let names: Vec<_> =
                plugins(&metadata, Path::new(dir)).into_iter().map(|plugin| plugin.name).collect();
            assert_eq!(names, expect, "{dir}");
        };
        check("/w", &["own", "routing/path-vector", "skill/math1"]);
        check("/w/skill/math1", &["skill/math1"]);
        check("/w/own", &["own"]);
        check("/w/tools", &[]);
        check("/elsewhere", &[]);
        let module = &plugins(&metadata, Path::new("/w/skill/math1"))[0].module;
        assert_eq!(module, Path::new("/t/wasm32-unknown-unknown/release/skill_math1.wasm"));
    }

    #[test]
    fn a_file_is_written_only_when_its_bytes_differ() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("kind/name.wasm");
        for (bytes, expect) in
            [(&b"one"[..], true), (b"one", false), (b"two", true), (b"", true), (b"", false)]
        {
            assert_eq!(write(&path, bytes).unwrap(), expect, "{bytes:?}");
            assert_eq!(std::fs::read(&path).unwrap(), bytes);
        }
        assert_eq!(std::fs::read_dir(path.parent().unwrap()).unwrap().count(), 1, "a temporary file is left");
    }

    #[test]
    fn what_is_no_plugin_is_refused_by_name() {
        let dir = tempfile::tempdir().unwrap();
        let check = |code, names: &str| {
            let fault = build(dir.path(), &dir.path().join("out"), false).unwrap_err();
            assert_eq!(fault.code, code, "{fault}");
            assert!(
                fault.what.contains(names) && fault.fix.is_some() == (code != Code::BuildFailed),
                "{fault}"
            );
        };
        check(Code::NotFound, "has no Cargo.toml");
        std::fs::write(dir.path().join("Cargo.toml"), "[package").unwrap();
        check(Code::BuildFailed, "error");
        std::fs::create_dir(dir.path().join("src")).unwrap();
        std::fs::write(dir.path().join("src/lib.rs"), "").unwrap();
        std::fs::write(
            dir.path().join("Cargo.toml"),
            "[package]\nname = \"x\"\nversion = \"0.1.0\"\n[workspace]\n",
        )
        .unwrap();
        check(Code::Usage, "has no plugin");
        assert_eq!(build(Path::new("/nowhere/at/all"), dir.path(), false).unwrap_err().code, Code::NotFound);
    }
}
