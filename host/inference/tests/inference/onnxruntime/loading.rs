//! What is refused, and with which sentence.

use modelhost_inference::{Engine, LoadError};
use prost::Message as _;
use tract_onnx::pb::StringStringEntryProto;
use tract_onnx::pb::tensor_proto::{DataLocation, DataType};

use super::{engine_or_return, load, load_error};
use crate::onnx::{Fixed, GraphBuilder, Named, linear};

#[test]
fn the_version_and_the_file_are_known() {
    let engine = engine_or_return!();
    assert!(engine.version().starts_with("1."), "{}", engine.version());
    assert!(engine.library().is_some_and(|file| file.is_file()));
}

#[test]
fn operators_that_are_not_there_are_named() {
    let engine = engine_or_return!();
    let of = |domain: &str, operator: &str| {
        let onnx = GraphBuilder::new()
            .input("x", DataType::Float, &[Fixed(1)])
            .node_with(domain, operator, &["x"], &["y"], Vec::new())
            .output("y", DataType::Float, &[Fixed(1)])
            .build();
        load_error(engine, &onnx).to_string()
    };
    let unknown = of("", "Frobnicate");
    assert!(unknown.contains("Frobnicate"), "{unknown}");
    let contributed = of("com.microsoft", "Frobnicate");
    assert!(contributed.contains("Frobnicate"), "{contributed}");
    let custom = of("my.domain", "Frobnicate");
    assert!(custom.contains("my.domain.Frobnicate"), "{custom}");
    let other_files = of("com.microsoft", "EPContext");
    assert!(other_files.contains("EPContext"), "{other_files}");
}

#[test]
fn data_in_other_files_is_refused() {
    let engine = engine_or_return!();
    let mut model = linear().model();
    let weights = &mut model.graph.as_mut().unwrap().initializer[0];
    weights.data_location = Some(DataLocation::External as i32);
    weights.external_data =
        vec![StringStringEntryProto { key: "location".into(), value: "/etc/passwd".into() }];
    let error = load_error(engine, &model.encode_to_vec());
    assert!(matches!(error, LoadError::Invalid { .. }));
    assert!(error.to_string().contains("another file"), "{error}");
}

#[test]
fn no_sentence_names_a_path_or_breaks_the_line() {
    let engine = engine_or_return!();
    let wrong_types = GraphBuilder::new()
        .input("x", DataType::Float, &[Fixed(1)])
        .input("i", DataType::Int64, &[Fixed(1)])
        .node("Add", &["x", "i"], &["y"])
        .output("y", DataType::Float, &[Fixed(1)])
        .build();
    let wrong_shapes = GraphBuilder::new()
        .input("x", DataType::Float, &[Fixed(2), Fixed(3)])
        .node("MatMul", &["x", "x"], &["y"])
        .output("y", DataType::Float, &[Fixed(2), Fixed(3)])
        .build();
    for onnx in [wrong_types, wrong_shapes, b"no file".to_vec(), Vec::new()] {
        let error = load_error(engine, &onnx).to_string();
        assert!(!error.contains('\n') && !error.contains("/onnxruntime") && error.len() < 500, "{error}");
        assert!(error.starts_with("graph "), "{error}");
    }
}

#[test]
fn declared_output_shapes_are_not_believed() {
    let engine = engine_or_return!();
    let onnx = GraphBuilder::new()
        .input("x", DataType::Float, &[Named("n"), Fixed(3)])
        .node("Relu", &["x"], &["y"])
        .output("y", DataType::Float, &[Fixed(1), Fixed(99)])
        .build();
    assert_eq!(load(engine, &onnx).outputs()[0].shape, [-1, 3]);
}

#[test]
fn functions_are_refused() {
    let engine = engine_or_return!();
    let mut model = linear().model();
    model.functions.push(Default::default());
    let error = load_error(engine, &model.encode_to_vec()).to_string();
    assert!(error.contains("inline"), "{error}");
}

#[test]
fn another_library_cannot_be_opened_beside_it() {
    let engine = engine_or_return!();
    let other = modelhost_inference::OnnxRuntimeEngine::open(std::path::Path::new("/other.so"), 1);
    assert!(other.is_err_and(|reason| reason.contains("open already")));
    assert!(modelhost_inference::OnnxRuntimeEngine::open(engine.file(), 1).is_ok());
}
