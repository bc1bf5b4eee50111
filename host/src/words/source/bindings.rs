//! The `bindings` of a plugin's entry.

use super::fields::{Fields, Reader, name};
use crate::words::id::clip;
use crate::words::objects::Bindings;

/// Reads the table, whose keys are interfaces; nothing is bound where there is none.
pub(super) fn bindings(reader: &mut Reader, fields: &Fields) -> Bindings {
    let mut bindings = Bindings::new();
    for (key, value, span) in fields.entries(reader, "bindings") {
        match name(value) {
            Ok(name) => {
                bindings.insert(key.to_owned(), name);
            }
            Err(why) => reader.problem(span, format!("bindings: {} {why}", clip(key).escape_debug())),
        }
    }
    bindings
}
