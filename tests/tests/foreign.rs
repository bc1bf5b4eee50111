//! Components of other toolchains, as `tests/foreign/build.sh` makes them: they run as they are, with records, results, and
//! errors that say where they come from. Run by `make test-foreign`.

use std::time::Duration;

use midplane_tests::command::run;
use midplane_tests::{Manifest, Mesh, root};
use serde_json::json;

/// Compiling 18 MB takes some seconds of a free machine.
const COMPILE: Duration = Duration::from_secs(300);
/// Language, and what a failure shows of its place and its text.
const LANGUAGES: [(&str, &[&str]); 3] = [
    ("python", &["app.py\", line 16, in fail", "ValueError: no such thing"]),
    ("javascript", &["no such thing"]),
    ("rust", &["src/lib.rs:21", "no such thing"]),
];

#[test]
fn components_of_other_toolchains_run_as_they_are() {
    let mesh = Mesh::of(["n1"]);
    let [n1] = mesh.nodes();
    n1.start(&[]);
    let manifest = LANGUAGES.iter().fold(Manifest::empty(), |manifest, (language, _)| {
        let path = root().join("target/foreign").join(language).with_extension("wasm");
        assert!(path.is_file(), "{} is missing: make test-foreign", path.display());
        manifest.plugin(
            &format!("skill/{language}"),
            "skill",
            &path,
            &format!("names = [\"{language}@fabric\"]"),
        )
    });
    let file = manifest.write(mesh.path("foreign.toml"));
    run(&mut n1.command(["apply".as_ref(), file.as_os_str()]), COMPILE).ok();

    let items = json!([[
        {"name": "pen", "price": 1.5, "tags": ["blue", "thin"]},
        {"name": "ink", "price": 2.5, "tags": []},
    ]]);
    for (language, shown) in LANGUAGES {
        let name = format!("{language}@fabric");
        let bill = n1.json(["call", &name, "add-up", &items.to_string()]);
        let dearest = &items[0][1];
        assert_eq!(bill, json!({"total": 4.0, "names": ["pen", "ink"], "dearest": dearest}), "{language}");
        let nothing = n1.call(&name, "add-up", &["[[]]"]);
        assert!(nothing.fails(1, "application-error").contains("nothing to add up"), "{nothing:?}");
        let wrong = n1.call(&name, "add-up", &["[[{\"name\":\"pen\"}]]"]);
        wrong.fails(2, "bad-argument");
        let failed = n1.call(&name, "fail", &["text=no such thing"]);
        let message = failed.fails(1, "trap");
        for text in shown {
            assert!(message.contains(text), "{language} does not show {text}: {message}");
        }
    }
}
