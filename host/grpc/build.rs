//! Compiles the definitions in `proto/`, without any program that would have to be installed.

use std::error::Error;
use std::path::PathBuf;

use prost::Message as _;

const DEFINITIONS: [&str; 2] = ["proto/grpc_service.proto", "proto/health.proto"];

fn main() -> Result<(), Box<dyn Error>> {
    println!("cargo::rerun-if-changed=proto");
    let descriptors = protox::compile(DEFINITIONS, ["proto"])?;
    let out = PathBuf::from(std::env::var_os("OUT_DIR").ok_or("no OUT_DIR")?);
    std::fs::write(out.join("descriptors.bin"), descriptors.encode_to_vec())?;
    let mut messages = tonic_prost_build::Config::new();
    messages.enable_type_names();
    tonic_prost_build::configure()
        .build_transport(false)
        .codec_path("crate::codec::MeasuringCodec")
        // Slices of what was received, in place of copies.
        .bytes(".inference.ModelInferRequest.raw_input_contents")
        .bytes(".inference.ModelInferResponse.raw_output_contents")
        .emit_rerun_if_changed(false)
        .compile_fds_with_config(descriptors, messages)?;
    Ok(())
}
