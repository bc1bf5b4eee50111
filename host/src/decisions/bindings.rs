//! Which imports of a component are satisfied by names of the mesh.

use crate::words::Name;
use crate::words::id::clip;
use crate::words::interface::Interface;
use crate::words::objects::Bindings;
use crate::words::problems::Problems;
use crate::words::{Code, Fault, Outcome};

/// Imports that a failure names.
const SHOWN_MOST: usize = 8;

/// The name that is bound to an import: by its full name, or by that without a version.
pub fn bound<'a>(bindings: &'a Bindings, import: &str) -> Option<&'a Name> {
    bindings.get(import).or_else(|| bindings.get(Interface::parse(import)?.path))
}

/// The lines of a manifest that would bind these imports.
pub fn line(imports: &[&str]) -> String {
    let each: Vec<String> =
        imports.iter().take(SHOWN_MOST).map(|import| format!("\"{import}\" = \"NAME@DOMAIN\"")).collect();
    format!("bindings = {{ {} }}", each.join(", "))
}

/// Refuses bindings that are not of exactly one import: a right that is used by nobody was meant for something else.
///
/// # Errors
/// `bad-manifest` with each of them.
pub fn check(slot: &str, bindings: &Bindings, imports: &[&str]) -> Outcome<()> {
    let mut problems = Problems::new();
    for key in bindings.keys() {
        let meant = |import: &&&str| {
            **import == key || Interface::parse(import).is_some_and(|interface| interface.path == key)
        };
        let meant: Vec<&str> = imports.iter().filter(meant).copied().collect();
        let key = clip(key).escape_debug();
        match meant.as_slice() {
            [_] => {}
            [] => problems.add(format!("{slot} binds {key}, which its component does not import")),
            several => problems.add(format!("{slot} binds {key}, which may be {}", several.join(" or "))),
        }
    }
    problems.finish(Code::BadManifest, slot).map_err(|fault| fix(fault, imports))
}

fn fix(fault: Fault, imports: &[&str]) -> Fault {
    let imports: Vec<&str> = imports.iter().take(SHOWN_MOST).copied().collect();
    if imports.is_empty() {
        return fault.fix("it imports nothing that can be bound: leave the line out");
    }
    fault.fix(format!("it imports {}", imports.join(", ")))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bindings(keys: &[&str]) -> Bindings {
        let name = |position: usize| format!("n{position}@d").parse().unwrap();
        keys.iter().enumerate().map(|(position, key)| ((*key).to_owned(), name(position))).collect()
    }

    #[test]
    fn an_import_is_bound_with_or_without_its_version() {
        let bindings = bindings(&["a:b/c", "a:b/d@1.0.0"]);
        for (import, expect) in [
            ("a:b/c", Some("n0@d")),
            ("a:b/c@3.0.0", Some("n0@d")),
            ("a:b/d@1.0.0", Some("n1@d")),
            ("a:b/d@1.0.1", None),
            ("a:b/d", None),
            ("a:b/e", None),
        ] {
            assert_eq!(bound(&bindings, import).map(Name::as_str), expect, "{import}");
        }
    }

    #[test]
    fn a_binding_is_of_exactly_one_import() {
        let imports = ["a:b/c@1.0.0", "a:b/c@2.0.0", "a:b/d@1.0.0"];
        for (keys, expect) in [
            (&[][..], &[][..]),
            (&["a:b/c@1.0.0", "a:b/c@2.0.0", "a:b/d"], &[]),
            (&["a:b/d@1.1.0"], &["a:b/d@1.1.0, which its component does not import"]),
            (&["a:b/c"], &["a:b/c, which may be a:b/c@1.0.0 or a:b/c@2.0.0"]),
            (&["a:b/c", "x:y/z"], &["a:b/c, which may be", "x:y/z, which its"]),
        ] {
            let checked = check("skill/x", &bindings(keys), &imports);
            let fault = checked.err().map(|fault| (fault.code, fault.what));
            assert_eq!(fault.is_some(), !expect.is_empty(), "{fault:?}");
            for part in expect {
                let (code, what) = fault.as_ref().unwrap();
                assert!(*code == Code::BadManifest && what.contains(part), "{what} lacks {part}");
            }
        }
        let fault = check("skill/x", &bindings(&["x:y/z"]), &[]).unwrap_err();
        assert!(fault.fix.unwrap().contains("nothing that can be bound"));
    }

    #[test]
    fn the_line_of_a_manifest_binds_them_all() {
        let line = line(&["a:b/c@1.0.0", "d:e/f"]);
        assert_eq!(line, "bindings = { \"a:b/c@1.0.0\" = \"NAME@DOMAIN\", \"d:e/f\" = \"NAME@DOMAIN\" }");
    }
}
