//! What the tree promises of itself, read from its files.

use std::fs;
use std::path::{Path, PathBuf};

/// Longest source file.
const LINES_MOST: usize = 400;
/// Modules of the host by stratum, lowest first. A module uses its own stratum and those below it.
const STRATA: [&[&str]; 5] = [
    &["words"],
    &["decisions"],
    &["clock", "log", "net", "store", "wasm", "interface", "policy"],
    &["node"],
    &["cli"],
];

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap().to_owned()
}

/// All files below these directories with one of these endings, without what builds leave behind.
fn files(directories: &[&str], endings: &[&str]) -> Vec<(PathBuf, String)> {
    let mut found = Vec::new();
    let mut todo: Vec<PathBuf> = directories.iter().map(|directory| root().join(directory)).collect();
    while let Some(path) = todo.pop() {
        if path.is_dir() {
            if path.file_name().is_some_and(|name| name == "target" || name == ".git") {
                continue;
            }
            todo.extend(fs::read_dir(&path).unwrap().map(|entry| entry.unwrap().path()));
        } else if endings.iter().any(|ending| path.to_string_lossy().ends_with(ending)) {
            let text = fs::read_to_string(&path).unwrap();
            found.push((path.strip_prefix(root()).unwrap().to_owned(), text));
        }
    }
    found.sort();
    assert!(!found.is_empty(), "nothing found in {directories:?}");
    found
}

fn report(problems: &[String]) {
    assert!(problems.is_empty(), "\n{}\n", problems.join("\n"));
}

#[test]
fn no_file_is_longer_than_a_person_reads_at_once() {
    let sources = files(&["host", "sdk", "plugins", "tests", "wit"], &[".rs", ".wit", ".sh"]);
    let long: Vec<String> = sources
        .iter()
        .map(|(path, text)| (path, text.lines().count()))
        .filter(|(_, lines)| *lines > LINES_MOST)
        .map(|(path, lines)| {
            format!("{} has {lines} lines; split it: the limit is {LINES_MOST}", path.display())
        })
        .collect();
    report(&long);
}

#[test]
fn a_stratum_uses_only_those_below_it() {
    let stratum = |module: &str| STRATA.iter().position(|modules| modules.contains(&module));
    let mut problems = Vec::new();
    for (path, text) in files(&["host/src"], &[".rs"]) {
        let inside = path.strip_prefix("host/src").unwrap();
        let first = inside.components().next().unwrap().as_os_str().to_string_lossy().into_owned();
        let own = first.trim_end_matches(".rs");
        if own == "lib" || own == "main" {
            continue;
        }
        let Some(own) = stratum(own) else {
            problems.push(format!("{} is in no stratum", path.display()));
            continue;
        };
        for (number, line) in text.lines().enumerate() {
            if line.trim_start().starts_with("//") {
                continue;
            }
            for used in line.split("crate::").skip(1) {
                let module: String =
                    used.chars().take_while(|char| char.is_alphanumeric() || *char == '_').collect();
                if stratum(&module).is_some_and(|used| used > own) {
                    problems.push(format!(
                        "{}:{} uses {module}, which is above it",
                        path.display(),
                        number + 1
                    ));
                }
            }
        }
    }
    report(&problems);
}

#[test]
fn the_list_of_modules_is_in_reading_order() {
    let text = fs::read_to_string(root().join("host/src/lib.rs")).unwrap();
    let listed: Vec<&str> =
        text.lines().filter_map(|line| line.strip_prefix("pub mod ")?.strip_suffix(';')).collect();
    let known: Vec<&str> = STRATA.iter().flat_map(|modules| modules.iter().copied()).collect();
    assert_eq!(listed, known);
}

#[test]
fn unsafe_code_is_in_one_place() {
    let unsafe_files: Vec<PathBuf> = files(&["host/src"], &[".rs"])
        .into_iter()
        .filter(|(_, text)| {
            text.lines().any(|line| {
                let code = line.split("//").next().unwrap_or_default();
                code.contains("unsafe {") || code.contains("unsafe fn") || code.contains("unsafe impl")
            })
        })
        .map(|(path, _)| path)
        .collect();
    assert_eq!(unsafe_files, [Path::new("host/src/wasm/cache.rs")]);
}

#[test]
fn nothing_is_unbounded_and_nothing_is_left_undone() {
    let forbidden = [
        ("unbounded", "a queue without a bound"),
        (concat!("todo", "!("), "a stub"),
        (concat!("unimplemented", "!("), "a stub"),
        (concat!("#[", "ignore"), "a test that does not run"),
    ];
    let mut problems = Vec::new();
    for (path, text) in files(&["host/src", "sdk/rust/src", "plugins", "tests"], &[".rs"]) {
        if path.ends_with("tidy.rs") {
            continue;
        }
        for (number, line) in text.lines().enumerate() {
            let code = line.split("//").next().unwrap_or_default();
            for (word, what) in forbidden {
                if code.contains(word) {
                    problems.push(format!("{}:{} has {what}: {word}", path.display(), number + 1));
                }
            }
        }
    }
    report(&problems);
}

#[test]
fn the_contract_is_half_documentation() {
    let mut problems = Vec::new();
    for (path, text) in files(&["wit"], &[".wit"]) {
        let lines: Vec<&str> =
            text.lines().map(str::trim).filter(|line| !line.is_empty() && *line != "}").collect();
        let docs = lines.iter().filter(|line| line.starts_with("///")).count();
        if docs * 5 < lines.len() * 2 {
            problems.push(format!("{}: {docs} of {} lines are documentation", path.display(), lines.len()));
        }
    }
    report(&problems);
}

#[test]
fn each_kind_has_the_same_name_in_every_room() {
    let mut problems = Vec::new();
    for kind in ["routing", "admission", "discovery", "sync"] {
        let rooms = ["wit/{}.wit", "host/src/policy/{}.rs", "sdk/rust/src/{}.rs", "plugins/{}"];
        for room in rooms.map(|room| room.replace("{}", kind)) {
            if !root().join(&room).exists() {
                problems.push(format!("{kind} has no {room}"));
            }
        }
    }
    for interface in ["logging", "host"] {
        let room = format!("host/src/interface/{interface}.rs");
        if !root().join(&room).exists() {
            problems.push(format!("interface {interface} has no {room}"));
        }
    }
    report(&problems);
}
