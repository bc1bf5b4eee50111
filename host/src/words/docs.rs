//! The documentation that a component may carry: the custom section `package-docs`.
//!
//! No toolchain puts doc comments of WIT into components; `midplane build` appends them in the form that
//! `wit-parser` uses for WIT packages: one version byte, then JSON. The JSON is read here as it is and not with
//! `wit_component::decode`, which takes a component with this section for a WIT package and rejects it.

use std::collections::BTreeMap;

use serde_json::Value;
use wasmparser::{Parser, Payload};

/// Name of the custom section.
const SECTION: &str = "package-docs";
/// Longest section that is read. The documentation of a large package is some tens of KiB.
const SECTION_MAX: usize = 1 << 20;
/// Longest text kept per function. Longer ones are no use in a listing.
const TEXT_MAX: usize = 8 << 10;
/// Most functions kept, so that a section of a million empty names is not a large map.
const FUNCTIONS_MAX: usize = 4096;

/// Documentation by function name: `add` for a function of the world, and for one of an interface both
/// `interface.add` and, unless something else has that name already, `add`.
///
/// Empty when the component carries none or what it carries cannot be read: documentation is never a reason
/// to refuse a component.
pub fn docs(component: &[u8]) -> BTreeMap<String, String> {
    let mut found = BTreeMap::new();
    if let Some(package) = section(component).and_then(parse) {
        for world in children(&package, "worlds").map(|(_, world)| world) {
            functions(world, "funcs", "", &mut found);
            functions(world, "func_exports", "", &mut found);
            for kind in ["interfaces", "interface_exports"] {
                interfaces(world, kind, &mut found);
            }
        }
        interfaces(&package, "interfaces", &mut found);
    }
    found
}

/// A component followed by this section.
pub fn append(component: &[u8], data: &[u8]) -> Vec<u8> {
    let mut section = leb128(SECTION.len());
    section.extend_from_slice(SECTION.as_bytes());
    section.extend_from_slice(data);
    // 0 is the id of custom sections, in modules and components alike.
    [component, &[0], &leb128(section.len()), &section].concat()
}

/// The section of the outermost component. Those nested in it describe other packages.
fn section(component: &[u8]) -> Option<&[u8]> {
    let mut depth = 0_u32;
    for payload in Parser::new(0).parse_all(component) {
        match payload.ok()? {
            Payload::Version { .. } => depth = depth.saturating_add(1),
            Payload::End(_) => depth = depth.saturating_sub(1),
            Payload::CustomSection(custom) if depth == 1 && custom.name() == SECTION => {
                return Some(custom.data());
            }
            _ => {}
        }
    }
    None
}

/// The JSON behind the version byte. Versions 0 and 1 differ in what may be present, not in how it is read.
fn parse(section: &[u8]) -> Option<Value> {
    match section.split_first() {
        Some((0 | 1, json)) if json.len() <= SECTION_MAX => serde_json::from_slice(json).ok(),
        _ => None,
    }
}

fn interfaces(of: &Value, kind: &str, found: &mut BTreeMap<String, String>) {
    for (name, interface) in children(of, kind) {
        functions(interface, "funcs", &format!("{name}."), found);
        functions(interface, "funcs", "", found);
    }
}

fn functions(of: &Value, kind: &str, prefix: &str, found: &mut BTreeMap<String, String>) {
    for (name, function) in children(of, kind) {
        let text = function.get("docs").and_then(Value::as_str).map(str::trim);
        if let Some(text) = text.filter(|text| !text.is_empty())
            && found.len() < FUNCTIONS_MAX
        {
            let end = text.floor_char_boundary(TEXT_MAX);
            let text = text.get(..end).unwrap_or_default();
            found.entry(format!("{prefix}{name}")).or_insert_with(|| text.to_owned());
        }
    }
}

fn children<'a>(of: &'a Value, kind: &str) -> impl Iterator<Item = (&'a String, &'a Value)> {
    of.get(kind).and_then(Value::as_object).into_iter().flatten()
}

/// The unsigned number encoding of WebAssembly: seven bits a byte, lowest first.
fn leb128(mut number: usize) -> Vec<u8> {
    let mut bytes = Vec::new();
    loop {
        let low = (number & 0x7f) as u8;
        number >>= 7;
        if number == 0 {
            bytes.push(low);
            return bytes;
        }
        bytes.push(low | 0x80);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The preamble of a component without anything in it.
    const EMPTY: &[u8] = b"\0asm\x0d\0\x01\0";

    fn check(section: &[u8], expect: &[(&str, &str)]) {
        let found = docs(&append(EMPTY, section));
        let found: Vec<_> = found.iter().map(|(name, text)| (name.as_str(), text.as_str())).collect();
        assert_eq!(found, expect, "{}", String::from_utf8_lossy(section));
    }

    #[test]
    fn numbers_are_encoded_as_the_specification_says() {
        for (number, expect) in
            [(0, &[0][..]), (127, &[127]), (128, &[0x80, 1]), (624_485, &[0xe5, 0x8e, 0x26])]
        {
            assert_eq!(leb128(number), expect);
        }
    }

    #[test]
    fn functions_of_worlds_and_interfaces_are_found() {
        check(br#"{}"#, &[]);
        check(
            b"\x01{\"worlds\":{\"w\":{\"docs\":\"W\",\"func_exports\":{\"add\":{\"docs\":\" Adds.\\n\"},\"mul\":{}}}}}",
            &[("add", "Adds.")],
        );
        check(
            b"\x00{\"worlds\":{\"w\":{\"funcs\":{\"f\":{\"docs\":\"of the world\"}}}},\
              \"interfaces\":{\"i\":{\"funcs\":{\"f\":{\"docs\":\"of i\"},\"g\":{\"docs\":\"G\"}}}}}",
            &[("f", "of the world"), ("g", "G"), ("i.f", "of i"), ("i.g", "G")],
        );
    }

    #[test]
    fn garbage_is_no_documentation() {
        for section in [
            &b""[..],
            b"\x01",
            b"\x02{}",
            b"\x01[]",
            b"\x01{\"worlds\":7}",
            b"\x01{\"worlds\":{\"w\":{\"funcs\":[1]}}}",
        ] {
            check(section, &[]);
        }
        for bytes in [&b""[..], b"no component", EMPTY, &EMPTY[..6]] {
            assert!(docs(bytes).is_empty());
        }
        let deep = [b"\x01", "[".repeat(100_000).as_bytes()].concat();
        check(&deep, &[]);
    }

    #[test]
    fn a_section_of_a_nested_component_is_not_this_ones() {
        let nested = append(EMPTY, b"\x01{\"interfaces\":{\"i\":{\"funcs\":{\"f\":{\"docs\":\"F\"}}}}}");
        assert_eq!(docs(&nested).len(), 2);
        // Section 4 of a component is a component; this one is shorter than 128 bytes, so its length is one byte.
        assert!(nested.len() < 128);
        let outer = [EMPTY, &[4, nested.len() as u8], &nested].concat();
        assert!(docs(&outer).is_empty());
    }
}
