//! Samples: requests that an author gives along with a model, in a file that may say more than the request.

use serde::Deserialize;
use serde_json::value::RawValue;

use crate::object::Object;
use crate::request::{DecodeError, InferRequest, decode_json_request};

/// What is looked for in a file; all else in it is left alone.
#[derive(Deserialize)]
struct Example<'a> {
    #[serde(borrow)]
    request: Option<&'a RawValue>,
}

/// Decodes a sample: the body of a request, or an object with one as its field `request`.
///
/// # Errors
/// [`DecodeError`] as for a request.
pub fn decode_sample(file: &[u8]) -> Result<InferRequest, DecodeError> {
    match serde_json::from_slice::<Object<Example<'_>>>(file) {
        Ok(Object(Example { request: Some(request) })) => decode_json_request(request.get().as_bytes()),
        // Whatever is wrong with it is said about the request that it should have been.
        _ => decode_json_request(file),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const REQUEST: &str = r#"{"id":"a","parameters":{"k":3},"inputs":[{"name":"x","datatype":"INT8","shape":[2],"data":[1,-2]}]}"#;

    #[test]
    fn a_request_is_found_bare_and_in_an_example() {
        let example = format!(r#" {{"response": {{"outputs": [NaN]}}, "request": {REQUEST}}}"#);
        assert!(decode_sample(example.as_bytes()).is_err(), "the rest has to be JSON too");
        let example = example.replace("NaN", "null");
        for file in [REQUEST, &example] {
            let request = decode_sample(file.as_bytes()).unwrap();
            assert_eq!((request.inputs.len(), request.inputs[0].1.data().as_ref()), (1, &[1, 254][..]));
            assert_eq!(request.parameters.len(), 1);
        }
    }

    #[test]
    fn what_is_neither_is_refused() {
        for file in ["", "{}", "[1]", r#"{"request": 5}"#, r#"{"request": {"request": {"inputs": []}}}"#] {
            assert!(decode_sample(file.as_bytes()).is_err(), "{file}");
        }
        let nested = format!(r#"{{"request":{}{}}}"#, "[".repeat(100_000), "]".repeat(100_000));
        assert!(decode_sample(nested.as_bytes()).is_err());
    }

    proptest! {
        #[test]
        fn arbitrary_bytes_never_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200), cut in 0_usize..100) {
            let _ = decode_sample(&bytes);
            let _ = decode_sample(&REQUEST.as_bytes()[..cut.min(REQUEST.len())]);
            let _ = decode_sample(&[br#"{"request":"#, bytes.as_slice(), b"}"].concat());
        }
    }
}
