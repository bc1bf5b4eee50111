//! A core module that wit-bindgen made becomes a component, with the documentation of its WIT.

use std::path::Path;

use wit_component::{ComponentEncoder, DecodedWasm};
use wit_parser::{PackageMetadata, Resolve};

use crate::words::{Code, Fault, Outcome, docs};

/// The component of a core module, validated. When `wit` is the directory of its WIT package, the package's doc
/// comments are appended, and [`docs::docs`] reads them.
///
/// # Errors
///
/// `bad-component` when the module has no world or does not fit the one it has, or the WIT cannot be read.
pub fn componentize(module: &[u8], wit: Option<&Path>) -> Outcome<Vec<u8>> {
    let bad = |error: anyhow::Error| Fault::new(Code::BadComponent, format!("{error:#}"));
    let mut encoder = ComponentEncoder::default();
    let component = encoder.validate(true).module(module).and_then(ComponentEncoder::encode).map_err(bad)?;
    require_exports(&component)?;
    match wit {
        Some(directory) => Ok(docs::append(&component, &package_docs(directory).map_err(bad)?)),
        None => Ok(component),
    }
}

/// Refuses a component without exports: nobody could ever call it.
fn require_exports(component: &[u8]) -> Outcome<()> {
    let decoded = wit_component::decode(component)
        .map_err(|error| Fault::new(Code::BadComponent, format!("{error:#}")))?;
    let exports = match decoded {
        DecodedWasm::Component(resolve, world) => {
            resolve.worlds.get(world).map_or(0, |world| world.exports.len())
        }
        DecodedWasm::WitPackage(..) => 0,
    };
    if exports > 0 {
        return Ok(());
    }
    Err(Fault::new(Code::BadComponent, "exports nothing").fix(
        "midplane_sdk::skill!(Type), or midplane_sdk::export_routing!(Type) and its like, once in the crate",
    ))
}

fn package_docs(directory: &Path) -> anyhow::Result<Vec<u8>> {
    let mut resolve = Resolve::default();
    let (package, _) = resolve.push_dir(directory)?;
    PackageMetadata::extract(&resolve, package).encode()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_no_module_or_has_no_world_is_refused() {
        for (module, names) in [(&b"no module"[..], "magic"), (b"\0asm\x01\0\0\0", "exports nothing")] {
            let fault = componentize(module, None).unwrap_err();
            assert_eq!(fault.code, Code::BadComponent);
            assert!(fault.what.contains(names), "{fault}");
        }
    }
}
