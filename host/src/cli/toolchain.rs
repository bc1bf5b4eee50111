//! Finds a Rust toolchain that compiles for WebAssembly, and fetches what is missing of it.
//!
//! In this order: the toolchain that is active in the directory, when it has the target; the same after
//! `rustup target add`; Debian's packages, which bring the standard library as source. The first two need no
//! more than a second. The third is for machines that reach a Debian mirror and not Rust's server.

use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use crate::words::{Code, Fault, Outcome};

/// The target of plugins: its components import exactly their world and nothing of WASI.
pub(crate) const TARGET: &str = "wasm32-unknown-unknown";

/// Debian's toolchain for WebAssembly: compiler, cargo and the source of the standard library.
const DEBIAN_PACKAGES: [&str; 3] = ["rustc-web", "cargo-web", "rust-web-src"];

/// Variables that a surrounding cargo, or a build for the machine itself, leaves behind and that change or break
/// a build for WebAssembly. `RUSTC_WRAPPER` and `CARGO_TARGET_DIR` are the user's and stay.
const LEFTOVERS: [&str; 10] = [
    "CARGO",
    "CARGO_BUILD_RUSTFLAGS",
    "CARGO_BUILD_TARGET",
    "CARGO_ENCODED_RUSTFLAGS",
    "CARGO_MAKEFLAGS",
    "CARGO_PRIMARY_PACKAGE",
    "OUT_DIR",
    "RUSTC",
    "RUSTDOC",
    "RUSTFLAGS",
];
/// The same, by prefix: what cargo tells of the crate that it runs.
const LEFTOVER_PREFIXES: [&str; 4] = ["CARGO_PKG_", "CARGO_MANIFEST_", "CARGO_BIN_", "CARGO_CRATE_"];

/// A way to call cargo for WebAssembly.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Toolchain {
    /// The one that is active in the directory.
    Active,
    /// Debian's, which has no linker for WebAssembly of its own; the active toolchain has one.
    Debian {
        /// `rust-lld`.
        linker: PathBuf,
    },
}

impl Toolchain {
    /// A toolchain for crates in this directory. May install the target, which is said on stderr.
    ///
    /// # Errors
    ///
    /// `not-found` when there is none; the text says everything that was tried.
    pub(crate) fn find(directory: &Path) -> Outcome<Self> {
        let mut tried = Vec::new();
        let has_target = || has_target(directory);
        match has_target() {
            Ok(true) => return Ok(Self::Active),
            Ok(false) => tried.push(format!("the active toolchain has no {TARGET}")),
            Err(error) => tried.push(error),
        }
        say(&format!("adding the target {TARGET}"));
        match run(clean("rustup", directory).args(["target", "add", TARGET])) {
            Ok(_) if has_target() == Ok(true) => return Ok(Self::Active),
            Ok(_) => tried.push("rustup added the target to another toolchain".into()),
            Err(error) => tried.push(error),
        }
        match debian(directory) {
            Ok(linker) => Ok(Self::Debian { linker }),
            Err(error) => {
                tried.push(error);
                Err(missing(&tried))
            }
        }
    }

    /// `cargo build --release` for WebAssembly in this directory; what to build is the caller's to add.
    pub(crate) fn build(&self, directory: &Path) -> Command {
        let mut command = match self {
            Self::Active => clean("cargo", directory),
            Self::Debian { linker } => {
                let mut command = clean("/usr/bin/cargo", directory);
                // Building the standard library is an unstable feature, which Debian's stable compiler has to be told.
                command.env("RUSTC", "/usr/bin/rustc").env("RUSTC_BOOTSTRAP", "1");
                command.env("CARGO_TARGET_WASM32_UNKNOWN_UNKNOWN_LINKER", linker);
                command
            }
        };
        command.args(["build", "--release", "--target", TARGET]);
        if matches!(self, Self::Debian { .. }) {
            command.arg("-Zbuild-std=std,panic_abort");
        }
        command
    }
}

/// A command in a directory, without what a surrounding cargo leaves behind.
pub(crate) fn clean(program: impl AsRef<OsStr>, directory: &Path) -> Command {
    let mut command = Command::new(program);
    command.current_dir(directory).stdin(Stdio::null());
    for (name, _) in std::env::vars_os() {
        let text = name.to_string_lossy();
        let leftover = LEFTOVERS.contains(&text.as_ref())
            || LEFTOVER_PREFIXES.iter().any(|prefix| text.starts_with(prefix))
            // Set by the user it is a choice; set by rustup's cargo it is the toolchain of another directory.
            || (text == "RUSTUP_TOOLCHAIN" && std::env::var_os("CARGO").is_some());
        if leftover {
            command.env_remove(&name);
        }
    }
    command
}

/// Runs to the end; the standard output, or one line that says what failed.
pub(crate) fn run(command: &mut Command) -> Result<String, String> {
    let program = command.get_program().to_string_lossy().into_owned();
    let output = command.output().map_err(|error| format!("{program}: {error}"))?;
    if output.status.success() {
        return Ok(String::from_utf8_lossy(&output.stdout).into_owned());
    }
    let text = String::from_utf8_lossy(&output.stderr).into_owned();
    // The last line that says what is wrong; progress and hints stand around it.
    let line = text.lines().find(|line| line.starts_with("error")).or(text.lines().last()).unwrap_or("");
    Err(format!("{program} ended with {}: {}", output.status, line.trim()))
}

/// Whether the toolchain that is active in the directory has the target's standard library.
fn has_target(directory: &Path) -> Result<bool, String> {
    let printed = run(clean("rustc", directory).args(["--print", "target-libdir", "--target", TARGET]))?;
    let library = Path::new(printed.trim());
    Ok(std::fs::read_dir(library).is_ok_and(|mut files| files.next().is_some()))
}

/// Debian's packages, installed when they are not and may be; answers the linker to use.
fn debian(directory: &Path) -> Result<PathBuf, String> {
    let installed = || {
        let query = run(clean("dpkg-query", directory)
            .args(["-W", "-f=${db:Status-Status}\n"])
            .args(DEBIAN_PACKAGES));
        query.is_ok_and(|text| {
            text.lines().filter(|line| *line == "installed").count() == DEBIAN_PACKAGES.len()
        })
    };
    if !installed() {
        if !rustix::process::geteuid().is_root() {
            return Err(format!("{} are not installed", DEBIAN_PACKAGES.join(", ")));
        }
        say(&format!("installing {}", DEBIAN_PACKAGES.join(", ")));
        let mut install = clean("apt-get", directory);
        install.env("DEBIAN_FRONTEND", "noninteractive");
        run(install.args(["install", "-y", "--no-install-recommends"]).args(DEBIAN_PACKAGES))?;
    }
    linker(directory)
}

/// The `rust-lld` of the active toolchain.
fn linker(directory: &Path) -> Result<PathBuf, String> {
    let printed = run(clean("rustc", directory).args(["--print", "sysroot"]))?;
    let libraries = Path::new(printed.trim()).join("lib/rustlib");
    let mut hosts: Vec<_> =
        std::fs::read_dir(&libraries).into_iter().flatten().flatten().map(|entry| entry.path()).collect();
    hosts.sort();
    let found = hosts.into_iter().map(|host| host.join("bin/rust-lld")).find(|linker| linker.is_file());
    found.ok_or_else(|| format!("{} has no rust-lld", libraries.display()))
}

fn missing(tried: &[String]) -> Fault {
    Fault::new(Code::NotFound, format!("no Rust toolchain for {TARGET}: {}", tried.join("; "))).fix(format!(
        "rustup target add {TARGET}, or on Debian: apt-get install {}",
        DEBIAN_PACKAGES.join(" ")
    ))
}

fn say(text: &str) {
    eprintln!("midplane build: {text}");
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(command: &Command) -> Vec<String> {
        let program = std::iter::once(command.get_program());
        program.chain(command.get_args()).map(|word| word.to_string_lossy().into_owned()).collect()
    }

    #[test]
    fn each_toolchain_has_its_command() {
        let active = Toolchain::Active.build(Path::new("/"));
        assert_eq!(words(&active), ["cargo", "build", "--release", "--target", TARGET]);

        let debian = Toolchain::Debian { linker: "/lld".into() }.build(Path::new("/"));
        let expect =
            ["/usr/bin/cargo", "build", "--release", "--target", TARGET, "-Zbuild-std=std,panic_abort"];
        assert_eq!(words(&debian), expect);
        let set: Vec<_> = debian.get_envs().filter_map(|(name, value)| Some((name, value?))).collect();
        assert!(set.contains(&(OsStr::new("RUSTC"), OsStr::new("/usr/bin/rustc"))));
        assert!(
            set.contains(&(OsStr::new("CARGO_TARGET_WASM32_UNKNOWN_UNKNOWN_LINKER"), OsStr::new("/lld")))
        );
    }

    #[test]
    fn a_surrounding_cargo_leaves_nothing_behind() {
        // The test itself runs inside cargo, which sets these.
        let command = clean("cargo", Path::new("/"));
        let removed: Vec<_> =
            command.get_envs().filter(|(_, value)| value.is_none()).map(|(name, _)| name).collect();
        for name in ["CARGO", "CARGO_MANIFEST_DIR", "CARGO_PKG_NAME"] {
            assert!(std::env::var_os(name).is_none() || removed.contains(&OsStr::new(name)), "{name}");
        }
        assert!(!removed.contains(&OsStr::new("PATH")));
    }

    #[test]
    fn a_failing_command_is_one_line() {
        let error = run(clean("cargo", Path::new("/")).args(["metadata", "--no-deps"])).unwrap_err();
        assert!(error.starts_with("cargo ended with") && error.contains("error: "), "{error}");
        assert!(!error.contains('\n'));
        assert!(run(&mut clean("/nowhere/at/all", Path::new("/"))).unwrap_err().contains("/nowhere/at/all"));
    }

    #[test]
    fn the_fault_says_all_that_was_tried_and_what_to_install() {
        let fault = missing(&["one".into(), "two".into()]);
        assert_eq!(fault.code, Code::NotFound);
        assert!(fault.what.ends_with("one; two"));
        assert!(fault.fix.unwrap().contains("rustup target add"));
    }
}
