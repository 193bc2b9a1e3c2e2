//! Texts as inputs and outputs, and the memory that they take.

use modelhost_core::{Datatype, Tensor};
use modelhost_inference::{RunError, RunLimits};
use tract_onnx::pb::tensor_proto::DataType;
use tract_onnx::pb::{AttributeProto, attribute_proto::AttributeType};

use crate::onnx::{Fixed, GraphBuilder, Named, int_attribute};
use crate::values::{limits, load, load_error, run, to_integers};

fn words(shape: &[u64], words: &[&str]) -> Tensor {
    Tensor::from_bytes_elements(shape.to_vec(), words).unwrap()
}

fn texts_attribute(name: &str, texts: &[&str]) -> AttributeProto {
    AttributeProto {
        name: name.into(),
        r#type: AttributeType::Strings as i32,
        strings: texts.iter().map(|text| text.as_bytes().to_vec()).collect(),
        ..AttributeProto::default()
    }
}

fn integers_attribute(name: &str, integers: &[i64]) -> AttributeProto {
    AttributeProto {
        name: name.into(),
        r#type: AttributeType::Ints as i32,
        ints: integers.to_vec(),
        ..AttributeProto::default()
    }
}

/// A number for each word, and the word of each number.
fn lookup() -> GraphBuilder {
    let keys = texts_attribute("keys_strings", &["one", "two"]);
    let values = integers_attribute("values_int64s", &[1, 2]);
    let numbers = integers_attribute("keys_int64s", &[1, 2]);
    let texts = texts_attribute("values_strings", &["eins", "zwei"]);
    GraphBuilder::new()
        .input("words", DataType::String, &[Named("n")])
        .node_with("ai.onnx.ml", "LabelEncoder", &["words"], &["numbers"], vec![keys, values])
        .node_with("ai.onnx.ml", "LabelEncoder", &["numbers"], &["translated"], vec![numbers, texts])
        .output("numbers", DataType::Int64, &[Named("n")])
        .output("translated", DataType::String, &[Named("n")])
}

#[test]
fn texts_come_and_go_as_bytes() {
    let graph = load(&lookup().build()).unwrap();
    assert_eq!(graph.inputs()[0].datatype, Datatype::Bytes);
    assert_eq!(graph.outputs()[1].datatype, Datatype::Bytes);
    let outputs = graph.run(vec![words(&[3], &["two", "drei", "one"])], &limits()).unwrap();
    assert_eq!(to_integers(&outputs[0]), [2, -1, 1]);
    assert_eq!(outputs[1], words(&[3], &["zwei", "_Unused", "eins"]));
    let none = graph.run(vec![words(&[0], &[])], &limits()).unwrap();
    assert_eq!(none[1].shape(), [0]);
}

#[test]
fn bytes_that_are_no_text_are_the_callers_fault() {
    let input = Tensor::from_bytes_elements(vec![2], &[&b"one"[..], &[0xff, 0xfe]]).unwrap();
    let error = run(&lookup().build(), vec![input]).unwrap_err();
    assert_eq!(error, RunError::InvalidInput { reason: "element 1 of BYTES is no text in UTF-8".into() });
}

#[test]
fn a_text_that_is_no_number_is_an_error() {
    let onnx = GraphBuilder::new()
        .input("x", DataType::String, &[Fixed(2)])
        .node_with("", "Cast", &["x"], &["y"], vec![int_attribute("to", 1)])
        .output("y", DataType::Float, &[Fixed(2)])
        .build();
    assert!(run(&onnx, vec![words(&[2], &["1.5", "-2e3"])]).is_ok());
    let error = run(&onnx, vec![words(&[2], &["1.5", "many"])]).unwrap_err().to_string();
    assert_eq!(error, "inference failed: Cast: element 1 is no number: \"many\"");
}

#[test]
fn an_operator_that_does_not_take_texts_is_refused() {
    let onnx = GraphBuilder::new()
        .input("x", DataType::String, &[Fixed(2)])
        .integers("times", &[1], &[3])
        .node("Tile", &["x", "times"], &["y"])
        .output("y", DataType::String, &[Fixed(6)])
        .build();
    let error = load_error(&onnx);
    assert!(error.contains("Tile") && error.contains("does not take texts"), "{error}");
}

#[test]
fn the_length_of_texts_counts() {
    let long = "x".repeat(1 << 20);
    let graph = load(&lookup().build()).unwrap();
    let few = RunLimits { max_tensor_bytes: 1 << 21, ..limits() };
    graph.run(vec![words(&[3], &["one", "two", "one"])], &few).unwrap();
    let error = graph.run(vec![words(&[3], &["one", &long, "one"])], &few).unwrap_err();
    assert!(matches!(error, RunError::TooLarge { .. }), "{error}");

    // A long text in the graph is one for each row that leaves it.
    let mut graph = lookup();
    graph.0.node[1].attribute[1] = texts_attribute("values_strings", &[&long, "zwei"]);
    let graph = load(&graph.build()).unwrap();
    let many = words(&[64], &["one"; 64]);
    let error = graph.run(vec![many.clone()], &few).unwrap_err();
    assert!(matches!(error, RunError::TooLarge { .. }), "{error}");
    assert!(graph.run(vec![many], &limits()).is_ok());
}
