//! The Open Inference Protocol in JSON and with binary tensors: request bodies into typed tensors, typed tensors into
//! response bodies. It knows neither HTTP nor models; whether tensors fit a model is for `serving` to say.
//!
//! Decoding makes two passes. The first (serde) checks that the body is JSON and finds the few fields around
//! the tensors; the `data` of each tensor stays a slice of the body, so the order of fields does not matter.
//! The second turns that slice into elements of the declared datatype, with no tree of values in between.
//! Nothing is ever allocated by what a body declares, only by what it holds. Binary tensors are slices of the body.

mod binary;
mod bounded;
mod classification;
mod data;
mod elements;
mod object;
mod parameters;
mod raw;
mod request;
mod reserved;
mod response;
mod sample;

#[cfg(test)]
mod malformed_tests;
#[cfg(test)]
mod property_tests;

pub use bounded::Bounded;
pub use classification::{ClassificationError, classify};
pub use object::Object;
pub use parameters::MAX_PARAMETERS;
pub use raw::decode_raw_request;
pub use request::{
    DecodeError, InferRequest, MAX_TENSORS, RequestedOutput, decode_json_request, decode_request,
};
pub use reserved::{InvalidParameter, Reserved, take_reserved};
pub use response::{EncodeError, EncodedResponse, InferResponse, ResponseOutput, encode_response};
pub use sample::decode_sample;

/// The start of a text from outside, which may be of any length: enough to recognise it in a message.
pub fn shortened(text: &str) -> String {
    const CHARACTERS: usize = 64;
    match text.char_indices().nth(CHARACTERS) {
        Some((end, _)) => format!("{}…", text.get(..end).unwrap_or_default()),
        None => text.to_owned(),
    }
}
