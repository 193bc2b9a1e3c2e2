//! The request headers that the API gives a meaning to.

use http::header::{FROM, IF_MATCH};
use http::{HeaderMap, HeaderName, HeaderValue};

use crate::error::ApiError;

/// Names a request in the log; echoed in the response.
pub(crate) const X_REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");
/// How many bytes of a body are JSON, where binary tensors follow.
pub(crate) const INFERENCE_HEADER_CONTENT_LENGTH: HeaderName =
    HeaderName::from_static("inference-header-content-length");

const MAX_REQUEST_ID: usize = 128;
const MAX_FROM: usize = 256;

/// The client's request id where it is 1 to 128 printable ASCII characters, else 128 random bits in hex: unique,
/// but no secret.
pub(crate) fn request_id(headers: &HeaderMap) -> HeaderValue {
    match headers.get(X_REQUEST_ID) {
        Some(id) if is_request_id(id.as_bytes()) => id.clone(),
        _ => random_request_id(),
    }
}

fn is_request_id(id: &[u8]) -> bool {
    (1..=MAX_REQUEST_ID).contains(&id.len()) && id.iter().all(u8::is_ascii_graphic)
}

fn random_request_id() -> HeaderValue {
    HeaderValue::try_from(format!("{:032x}", fastrand::u128(..))).unwrap_or(HeaderValue::from_static("-"))
}

/// How many bytes of a body are JSON, where it says so.
///
/// # Errors
/// What is no number.
pub(crate) fn inference_header_content_length(headers: &HeaderMap) -> Result<Option<usize>, ApiError> {
    let Some(value) = headers.get(INFERENCE_HEADER_CONTENT_LENGTH) else { return Ok(None) };
    let digits = value.to_str().unwrap_or_default().trim();
    let is_number = !digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_digit());
    digits.parse().ok().filter(|_| is_number).map(Some).ok_or_else(|| {
        ApiError::invalid(
            "the header Inference-Header-Content-Length must be the number of bytes of JSON at the start of the body",
        )
    })
}

/// Who asks, for the records: the standard header `From`, as the client says it. It proves nothing.
pub(crate) fn author(headers: &HeaderMap) -> Result<Option<String>, ApiError> {
    let Some(value) = headers.get(FROM) else { return Ok(None) };
    let text = std::str::from_utf8(value.as_bytes()).ok().map(str::trim);
    match text {
        Some(name) if (1..=MAX_FROM).contains(&name.len()) => Ok(Some(name.to_owned())),
        _ => Err(ApiError::invalid(format!("header From must be 1 to {MAX_FROM} bytes of UTF-8"))),
    }
}

/// The generation that the client last saw: `If-Match: "7"`. None where any will do: no header, or `*`.
pub(crate) fn expected_generation(headers: &HeaderMap) -> Result<Option<u64>, ApiError> {
    let mut values = headers.get_all(IF_MATCH).iter();
    let Some(value) = values.next() else { return Ok(None) };
    let text = value.to_str().unwrap_or_default().trim();
    if text == "*" && values.next().is_none() {
        return Ok(None);
    }
    let tag = text.strip_prefix('"').and_then(|rest| rest.strip_suffix('"'));
    let generation =
        tag.filter(|tag| tag.bytes().all(|byte| byte.is_ascii_digit())).and_then(|tag| tag.parse().ok());
    match generation {
        Some(generation) if values.next().is_none() => Ok(Some(generation)),
        _ => Err(ApiError::invalid(
            "header If-Match must be one strong entity tag as ETag gave it, such as \"7\" in quotes, or *",
        )),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(name: HeaderName, values: &[&'static str]) -> HeaderMap {
        values.iter().map(|value| (name.clone(), HeaderValue::from_static(value))).collect()
    }

    #[test]
    fn request_ids_are_taken_over_or_made() {
        assert_eq!(request_id(&headers(X_REQUEST_ID, &["abc-1"])), "abc-1");
        for bad in [&[][..], &[""], &["a b"], &["x\ty"]] {
            let made = request_id(&headers(X_REQUEST_ID, bad));
            assert_eq!(made.len(), 32, "{bad:?}");
        }
        let long = HeaderValue::try_from("x".repeat(129)).unwrap();
        assert_eq!(request_id(&HeaderMap::from_iter([(X_REQUEST_ID, long)])).len(), 32);
        assert_ne!(random_request_id(), random_request_id());
    }

    #[test]
    fn if_match_is_one_quoted_generation() {
        let expected = |values: &[&'static str]| expected_generation(&headers(IF_MATCH, values));
        assert_eq!(expected(&[]).unwrap(), None);
        assert_eq!(expected(&["*"]).unwrap(), None);
        assert_eq!(expected(&["\"7\""]).unwrap(), Some(7));
        for bad in
            ["7", "W/\"7\"", "\"\"", "\"x\"", "\"7", "\"+7\"", "\"7\", \"8\"", "", "\"18446744073709551616\""]
        {
            assert!(expected(&[bad]).is_err(), "{bad}");
        }
        assert!(expected(&["\"7\"", "\"8\""]).is_err());
        assert!(expected(&["*", "\"8\""]).is_err());
    }

    #[test]
    fn the_length_of_the_json_part_is_a_number() {
        let length = |value| {
            inference_header_content_length(&headers(INFERENCE_HEADER_CONTENT_LENGTH, &[value]))
                .map(Option::unwrap)
        };
        assert_eq!(length("0").unwrap(), 0);
        assert_eq!(length(" 17 ").unwrap(), 17);
        for bad in ["", "-1", "+1", "1.0", "0x10", "99999999999999999999999"] {
            assert!(length(bad).is_err(), "{bad}");
        }
        assert_eq!(inference_header_content_length(&HeaderMap::new()).unwrap(), None);
    }

    #[test]
    fn from_is_a_short_text() {
        assert_eq!(author(&headers(FROM, &["ada@example.org"])).unwrap().as_deref(), Some("ada@example.org"));
        assert_eq!(author(&headers(FROM, &[])).unwrap(), None);
        assert!(author(&headers(FROM, &[" "])).is_err());
        let latin1 = HeaderValue::from_bytes(b"\xe4").unwrap();
        assert!(author(&HeaderMap::from_iter([(FROM, latin1)])).is_err());
    }
}
