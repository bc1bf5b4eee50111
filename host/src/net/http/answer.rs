//! Answers of the host itself: a code, what happened, what to do; as JSON, or as text for those who ask for text.

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Response, StatusCode, header};
use http_body_util::{BodyExt, Full};
use serde_json::json;
use wasmtime_wasi_http::WasiBody;

use crate::decisions::http::Refusal;
use crate::words::{Code, Fault};

/// After how many seconds a client may try again when there is no room.
const RETRY_AFTER: HeaderValue = HeaderValue::from_static("1");

/// In which form a client takes an error.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Form {
    /// `{"code": …, "what": …, "fix": …}`.
    Json,
    /// Two lines.
    Text,
}

impl Form {
    /// Text for those who name a text type before JSON, JSON for everybody else.
    pub fn of(headers: &HeaderMap) -> Self {
        let accept = headers.get(header::ACCEPT).and_then(|accept| accept.to_str().ok()).unwrap_or_default();
        match (accept.find("text/"), accept.find("application/json")) {
            (Some(text), Some(json)) if text < json => Self::Text,
            (Some(_), None) => Self::Text,
            _ => Self::Json,
        }
    }
}

/// The answer to a request that was refused for its form. It closes the connection.
pub fn refusal(refusal: Refusal, form: Form) -> Response<WasiBody> {
    let status = StatusCode::from_u16(refusal.status).unwrap_or(StatusCode::BAD_REQUEST);
    let mut answer = fault(status, &Fault::new(refusal.code, refusal.what), form);
    answer.headers_mut().insert(header::CONNECTION, HeaderValue::from_static("close"));
    if status == StatusCode::METHOD_NOT_ALLOWED {
        let allowed = HeaderValue::from_static("GET, HEAD, POST, PUT, PATCH, DELETE, OPTIONS");
        answer.headers_mut().insert(header::ALLOW, allowed);
    }
    answer
}

/// An error as an answer. Only what the caller put into the fault is said: nothing of a guest.
pub fn fault(status: StatusCode, fault: &Fault, form: Form) -> Response<WasiBody> {
    let (kind, body) = match form {
        Form::Json => {
            let mut value = json!({ "code": fault.code.as_str(), "what": fault.what });
            if let (Some(fix), Some(map)) = (&fault.fix, value.as_object_mut()) {
                map.insert("fix".to_owned(), json!(fix));
            }
            ("application/json", format!("{value}\n"))
        }
        Form::Text => {
            let fix = fault.fix.as_ref().map(|fix| format!("  fix: {fix}\n")).unwrap_or_default();
            ("text/plain; charset=utf-8", format!("{fault}\n{fix}"))
        }
    };
    let mut answer =
        Response::new(Full::new(Bytes::from(body)).map_err(|never| match never {}).boxed_unsync());
    *answer.status_mut() = status;
    let headers = answer.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(kind));
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    headers.insert(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    if fault.code == Code::Busy {
        headers.insert(header::RETRY_AFTER, RETRY_AFTER);
    }
    answer
}

/// What a connection hears for which there is no place, as bytes.
pub(super) const NO_PLACE: &[u8] = b"HTTP/1.1 503 Service Unavailable\r\n\
content-type: application/json\r\ncontent-length: 74\r\nretry-after: 1\r\nconnection: close\r\n\r\n\
{\"code\":\"busy\",\"what\":\"there are as many connections as this node takes\"}\n";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_form_is_what_the_client_names_first() {
        for (accept, expect) in [
            ("", Form::Json),
            ("*/*", Form::Json),
            ("application/json", Form::Json),
            ("text/plain", Form::Text),
            ("text/html,application/xhtml+xml,*/*;q=0.8", Form::Text),
            ("text/plain, application/json", Form::Text),
            ("application/json, text/plain", Form::Json),
        ] {
            let mut headers = HeaderMap::new();
            headers.insert(header::ACCEPT, HeaderValue::from_static(accept));
            assert_eq!(Form::of(&headers), expect, "{accept}");
        }
        assert_eq!(Form::of(&HeaderMap::new()), Form::Json);
    }

    #[test]
    fn the_answer_without_a_place_has_the_length_that_it_says() {
        let text = std::str::from_utf8(NO_PLACE).unwrap();
        let (head, body) = text.split_once("\r\n\r\n").unwrap();
        assert!(head.contains(&format!("content-length: {}", body.len())), "{} bytes", body.len());
        assert!(serde_json::from_str::<serde_json::Value>(body).is_ok());
    }
}
