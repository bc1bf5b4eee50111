//! `wit/host.wit`: what a skill may ask its node for. Each interface needs its grant in the manifest.
//!
//! ```no_run
//! use midplane_sdk::host::{Error, call};
//! use midplane_sdk::serde_json::json;
//!
//! fn total(prices: &[i64]) -> Result<i64, Error> {
//!     let mut sum = 0;
//!     for price in prices {
//!         let answer = call("math1@fabric", "add", &json!({"x": sum, "y": price}))?;
//!         sum = answer.as_i64().unwrap_or_default();
//!     }
//!     Ok(sum)
//! }
//! ```

use std::fmt;

use serde_json::Value;

#[allow(missing_docs, reason = "the documentation is that of the WIT file")]
mod bindings {
    wit_bindgen::generate!({
        path: ["../../wit/host.wit"],
        world: "midplane:host/imports@0.1.0",
        runtime_path: "::midplane_sdk::wit_bindgen::rt",
        generate_all,
    });
}

pub use bindings::midplane::host::types::Trust;
pub use bindings::midplane::host::{blobs, invoke, node, peers};

/// Why something did not work. See `midplane:host/types`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Error {
    /// A word of the closed list of codes, for example `no-route`.
    pub code: String,
    /// A sentence for people.
    pub what: String,
    /// What could be done about it.
    pub fix: Option<String>,
    /// With `application-error`: the error that the called function answered with, as JSON text.
    pub value: Option<String>,
}

/// Calls a function whose answer is one value, with arguments as a map by parameter name or an array by position. The
/// answer is `null` when the function has no result.
pub fn call(name: &str, function: &str, arguments: &Value) -> Result<Value, Error> {
    let mut items = stream(name, function, arguments)?;
    items.next().unwrap_or(Ok(Value::Null))
}

/// Calls a function whose answer is a stream. Dropping the items cancels the call.
pub fn stream(name: &str, function: &str, arguments: &Value) -> Result<Items, Error> {
    let reply = invoke::start(&invoke::Call {
        name: name.to_owned(),
        function: function.to_owned(),
        form: invoke::Form::Json,
        arguments: arguments.to_string().into_bytes(),
        timeout: None,
        idempotent: false,
    })
    .map_err(Error::from)?;
    Ok(Items { reply: Some(reply), piece: Vec::new().into_iter() })
}

/// Puts a blob that is in memory, and answers its digest.
pub fn put_blob(bytes: &[u8]) -> Result<String, Error> {
    let writer = blobs::put(Some(bytes.len() as u64))?;
    bytes.chunks(PIECE).try_for_each(|piece| writer.write(piece))?;
    Ok(writer.finish()?.digest)
}

/// Reads a whole blob into memory.
pub fn get_blob(digest: &str) -> Result<Vec<u8>, Error> {
    let reader = blobs::get(digest, 0, None)?;
    let mut bytes = Vec::new();
    while let Some(piece) = reader.next(PIECE as u32)? {
        bytes.extend(piece);
    }
    Ok(bytes)
}

/// Bytes of a blob that are moved at a time.
const PIECE: usize = 256 << 10;

/// The items of an answer, one by one; an error is the last.
pub struct Items {
    reply: Option<invoke::Reply>,
    piece: std::vec::IntoIter<Value>,
}

impl Iterator for Items {
    type Item = Result<Value, Error>;

    fn next(&mut self) -> Option<Self::Item> {
        loop {
            if let Some(value) = self.piece.next() {
                return Some(Ok(value));
            }
            let end = match self.reply.as_ref()?.next() {
                Ok(Some(piece)) => match serde_json::Deserializer::from_slice(&piece).into_iter().collect() {
                    Ok(values) => {
                        self.piece = Vec::into_iter(values);
                        continue;
                    }
                    Err(error) => Some(Err(unreadable(&error))),
                },
                Ok(None) => None,
                Err(error) => Some(Err(error.into())),
            };
            self.reply = None;
            return end;
        }
    }
}

fn unreadable(error: &serde_json::Error) -> Error {
    let what = format!("the answer is no JSON: {error}");
    Error { code: "protocol".to_owned(), what, fix: None, value: None }
}

impl From<bindings::midplane::host::types::Error> for Error {
    fn from(error: bindings::midplane::host::types::Error) -> Self {
        Self { code: error.code, what: error.what, fix: error.fix, value: error.value }
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.code, self.what)
    }
}

impl std::error::Error for Error {}
