//! The Open Inference Protocol over gRPC: the messages and services that `proto/` defines, requests out of them and
//! responses into them. It knows neither sockets nor models.
//!
//! A message from outside is measured before it is decoded: decoding allocates by the number of its parts, and two bytes
//! are enough for a part.

mod codec;
mod contents;
mod measure;
mod request;
mod response;

#[cfg(test)]
mod property_tests;

pub use request::{RequestError, decode_request};
pub use response::encode_response;

/// The messages and services of the Open Inference Protocol.
#[allow(missing_docs, reason = "generated from proto/")]
#[allow(clippy::all, clippy::allow_attributes_without_reason, unused_qualifications, reason = "generated")]
pub mod inference {
    tonic::include_proto!("inference");
}

/// The messages and the service of the standard health check.
#[allow(missing_docs, reason = "generated from proto/")]
#[allow(clippy::all, clippy::allow_attributes_without_reason, unused_qualifications, reason = "generated")]
pub mod health {
    tonic::include_proto!("grpc.health.v1");
}

/// What `proto/` defines, encoded as a `google.protobuf.FileDescriptorSet`, for server reflection.
pub const DESCRIPTORS: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/descriptors.bin"));
