//! What the author of a modelhost plugin writes against.
//!
//! A plugin is a struct that implements [`Plugin`] and is named in one call of [`export!`]. It takes the tensors
//! of a [`Request`] and answers with those of a [`Response`]; in between it may run the networks that
//! [`embed_graph!`] put into it. `cargo build --release --target wasm32-wasip2` makes the one file to upload.
//!
//! ```no_run
//! use modelhost_guest::{ANY, Datatype, Error, Graph, Plugin, Request, Response, Signature, Tensor};
//!
//! modelhost_guest::embed_graph!("iris", "../examples/iris.onnx");
//!
//! const SPECIES: [&str; 3] = ["setosa", "versicolor", "virginica"];
//!
//! struct Iris;
//!
//! modelhost_guest::export!(Iris);
//!
//! impl Plugin for Iris {
//!     fn signature() -> Result<Signature, Error> {
//!         Ok(Signature::new()
//!             .input("measurements", Datatype::Fp32, [ANY, 4])
//!             .output("label", Datatype::Bytes, [ANY])
//!             .output("probability", Datatype::Fp32, [ANY, 3]))
//!     }
//!
//!     fn predict(mut request: Request) -> Result<Response, Error> {
//!         let measurements = request.take("measurements")?;
//!         let mut outputs = Graph::load("iris")?.compute([("measurements", measurements)])?;
//!         let probability = outputs.take("probabilities")?;
//!         let label = Tensor::string_column(probability.rows::<f32>()?.map(likeliest))?;
//!         Ok(Response::new([("label", label), ("probability", probability)]))
//!     }
//! }
//!
//! fn likeliest(probabilities: &[f32]) -> &'static str {
//!     let best = probabilities.iter().zip(SPECIES).max_by(|a, b| a.0.total_cmp(b.0));
//!     best.map_or("", |(_, species)| species)
//! }
//! # fn main() {}
//! ```
//!
//! Everything but running a graph works outside the host too, so that `cargo test` on the author's machine can call
//! a plugin's `predict` with a request that the test made.
#![deny(missing_docs)]

#[cfg(target_endian = "big")]
compile_error!("tensors are little-endian, and their elements are read where they lie");

mod datatype;
mod element;
mod embed;
mod error;
mod export;
mod graph;
mod log;
mod parameters;
mod predictions;
mod request;
mod response;
mod signature;
mod streaming;
mod tensor;

pub use datatype::Datatype;
pub use element::Element;
pub use error::Error;
pub use export::Plugin;
pub use graph::{Fault, Graph, GraphDescription, GraphError, Outputs, graphs};
pub use half;
pub use log::{Level, log};
pub use parameters::{Parameter, Parameters};
pub use predictions::{Key, LookupError, PredictedRows, PredictionTable, Refusal};
pub use request::Request;
pub use response::Response;
pub use signature::{ANY, Signature, TensorDescription};
pub use streaming::{Responses, StreamingPlugin};
pub use tensor::{BytesElements, Tensor};

#[doc(hidden)]
#[allow(missing_docs, reason = "generated from the contract, for this crate and for what `export!` writes")]
#[allow(unused_qualifications, clippy::allow_attributes_without_reason, reason = "generated")]
pub mod bindings {
    wit_bindgen::generate!({
        path: "../wit",
        world: "modelhost:plugin/plugin",
        generate_all,
        pub_export_macro: true,
        export_macro_name: "__export_bindings",
        default_bindings_module: "modelhost_guest::bindings",
    });
}

/// Only what the ordinary world does not have: a component that exports both has them in one world.
#[doc(hidden)]
#[allow(
    missing_docs,
    reason = "generated from the contract, for this crate and for what `export_streaming!` writes"
)]
#[allow(unused_qualifications, clippy::allow_attributes_without_reason, reason = "generated")]
pub mod streaming_bindings {
    wit_bindgen::generate!({
        path: "../wit",
        inline: "
            package modelhost:guest;
            world streaming { export modelhost:plugin/streaming-predictor@0.1.0; }
        ",
        world: "modelhost:guest/streaming",
        with: {
            "modelhost:plugin/requests@0.1.0": crate::bindings::modelhost::plugin::requests,
            "modelhost:plugin/streams@0.1.0": crate::bindings::modelhost::plugin::streams,
            "modelhost:plugin/tensors@0.1.0": crate::bindings::modelhost::plugin::tensors,
            "wasi:nn/tensor@0.2.0-rc-2024-10-28": crate::bindings::wasi::nn::tensor,
        },
        pub_export_macro: true,
        export_macro_name: "__export_streaming_bindings",
        default_bindings_module: "modelhost_guest::streaming_bindings",
    });
}
