//! Values across the border: every element type, scalars, empty tensors, strings, memory that is shared.

use bytes::Bytes;
use modelhost_core::{Datatype, Tensor};
use tract_onnx::pb::AttributeProto;
use tract_onnx::pb::attribute_proto::AttributeType;
use tract_onnx::pb::tensor_proto::DataType;

use super::{engine_or_return, load, run};
use crate::onnx::{Fixed, GraphBuilder, Named, int_attribute, linear};
use crate::values::{floats, limits, to_floats, to_integers};

fn identity(element: DataType) -> Vec<u8> {
    GraphBuilder::new()
        .input("x", element, &[Named("n"), Named("m")])
        .node("Identity", &["x"], &["y"])
        .output("y", element, &[Named("n"), Named("m")])
        .build()
}

#[test]
fn every_element_type_passes_unchanged() {
    let engine = engine_or_return!();
    let elements = [
        (DataType::Bool, Datatype::Bool),
        (DataType::Uint8, Datatype::Uint8),
        (DataType::Uint16, Datatype::Uint16),
        (DataType::Uint32, Datatype::Uint32),
        (DataType::Uint64, Datatype::Uint64),
        (DataType::Int8, Datatype::Int8),
        (DataType::Int16, Datatype::Int16),
        (DataType::Int32, Datatype::Int32),
        (DataType::Int64, Datatype::Int64),
        (DataType::Float16, Datatype::Fp16),
        (DataType::Bfloat16, Datatype::Bf16),
        (DataType::Float, Datatype::Fp32),
        (DataType::Double, Datatype::Fp64),
    ];
    for (element, datatype) in elements {
        let size = datatype.size().unwrap();
        let byte = |index: usize| if datatype == Datatype::Bool { index as u8 % 2 } else { 3 + index as u8 };
        let data: Vec<u8> = (0..6 * size).map(byte).collect();
        let input = Tensor::new(datatype, vec![3, 2], data.into()).unwrap();
        let outputs = run(engine, &identity(element), vec![input.clone()]).unwrap();
        assert_eq!(outputs, [input], "{datatype}");
        let empty = Tensor::new(datatype, vec![0, 7], Bytes::new()).unwrap();
        let outputs = run(engine, &identity(element), vec![empty.clone()]).unwrap();
        assert_eq!(outputs, [empty], "{datatype}");
    }
}

#[test]
fn strings_of_any_bytes_pass_unchanged() {
    let engine = engine_or_return!();
    let long = "x".repeat(10_000);
    let words: [&[u8]; 6] = [b"", b"a\0b", "zwölf".as_bytes(), long.as_bytes(), b"\0", b"end"];
    let input = Tensor::from_bytes_elements(vec![3, 2], &words).unwrap();
    let outputs = run(engine, &identity(DataType::String), vec![input.clone()]).unwrap();
    assert_eq!(outputs, [input]);
    let empty = Tensor::new(Datatype::Bytes, vec![2, 0], Bytes::new()).unwrap();
    assert_eq!(run(engine, &identity(DataType::String), vec![empty.clone()]).unwrap(), [empty]);
}

fn strings_attribute(name: &str, strings: &[&str]) -> AttributeProto {
    AttributeProto {
        name: name.into(),
        r#type: AttributeType::Strings as i32,
        strings: strings.iter().map(|text| text.as_bytes().to_vec()).collect(),
        ..AttributeProto::default()
    }
}

fn integers_attribute(name: &str, ints: &[i64]) -> AttributeProto {
    AttributeProto {
        name: name.into(),
        r#type: AttributeType::Ints as i32,
        ints: ints.to_vec(),
        ..AttributeProto::default()
    }
}

#[test]
fn strings_become_labels_and_labels_strings() {
    let engine = engine_or_return!();
    let attributes = vec![
        strings_attribute("keys_strings", &["no", "yes"]),
        integers_attribute("values_int64s", &[0, 1]),
        int_attribute("default_int64", -1),
    ];
    let encode = GraphBuilder::new()
        .input("x", DataType::String, &[Named("n")])
        .node_with("ai.onnx.ml", "LabelEncoder", &["x"], &["y"], attributes)
        .output("y", DataType::Int64, &[Named("n")])
        .build();
    let input = Tensor::from_bytes_elements(vec![3], &["yes", "maybe", "no"]).unwrap();
    assert_eq!(to_integers(&run(engine, &encode, vec![input]).unwrap()[0]), [1, -1, 0]);

    let attributes = vec![
        integers_attribute("keys_int64s", &[0, 1]),
        strings_attribute("values_strings", &["nein", "ja"]),
    ];
    let decode = GraphBuilder::new()
        .input("x", DataType::Int64, &[Named("n")])
        .node_with("ai.onnx.ml", "LabelEncoder", &["x"], &["y"], attributes)
        .output("y", DataType::String, &[Named("n")])
        .build();
    let outputs = run(engine, &decode, vec![crate::values::integers(&[2], &[1, 0])]).unwrap();
    let texts: Vec<&[u8]> = outputs[0].bytes_elements().collect();
    assert_eq!(texts, [&b"ja"[..], b"nein"]);
}

#[test]
fn scalars_have_no_dimensions() {
    let engine = engine_or_return!();
    let onnx = GraphBuilder::new()
        .input("x", DataType::Float, &[])
        .node("Neg", &["x"], &["y"])
        .output("y", DataType::Float, &[])
        .build();
    let graph = load(engine, &onnx);
    assert!(graph.inputs()[0].shape.is_empty() && graph.outputs()[0].shape.is_empty());
    let outputs = graph.run(vec![floats(&[], &[2.5])], &limits()).unwrap();
    assert_eq!((outputs[0].shape(), to_floats(&outputs[0])), (&[][..], vec![-2.5]));
}

#[test]
fn an_empty_batch_gives_an_empty_output() {
    let engine = engine_or_return!();
    let outputs = run(engine, &linear().build(), vec![floats(&[0, 3], &[])]).unwrap();
    assert_eq!((outputs[0].shape(), outputs[0].data().len()), (&[0, 2][..], 0));
}

#[test]
fn inputs_may_lie_anywhere_in_a_request() {
    let engine = engine_or_return!();
    let graph = load(engine, &linear().build());
    for offset in 0..8 {
        let mut request = vec![0xff; offset];
        request.extend([1.0_f32, 1.0, 1.0].iter().flat_map(|value| value.to_le_bytes()));
        let data = Bytes::from(request).slice(offset..);
        let input = Tensor::new(Datatype::Fp32, vec![1, 3], data).unwrap();
        assert_eq!(to_floats(&graph.run(vec![input], &limits()).unwrap()[0]), [19.0, 32.0], "{offset}");
    }
}

#[test]
fn an_output_that_is_an_input_outlives_the_request() {
    let engine = engine_or_return!();
    let onnx = GraphBuilder::new()
        .input("x", DataType::Float, &[Named("n")])
        .node("Neg", &["x"], &["y"])
        .output("y", DataType::Float, &[Named("n")])
        .output("x", DataType::Float, &[Named("n")])
        .build();
    let graph = load(engine, &onnx);
    let outputs = graph.run(vec![floats(&[1000], &[7.0; 1000])], &limits()).unwrap();
    // What the request held may be used again by now.
    let others: Vec<_> = (0..100).map(|_| floats(&[1000], &[1.0; 1000])).collect();
    assert!(to_floats(&outputs[0]).iter().all(|value| *value == -7.0));
    assert!(to_floats(&outputs[1]).iter().all(|value| *value == 7.0));
    assert_eq!(others.len(), 100);
}

#[test]
fn outputs_outlive_their_graph() {
    let engine = engine_or_return!();
    let outputs = {
        let graph = load(engine, &linear().build());
        graph.run(vec![floats(&[1, 3], &[1.0, 1.0, 1.0])], &limits()).unwrap()
    };
    assert_eq!(to_floats(&outputs[0]), [19.0, 32.0]);
}

#[test]
fn extents_of_one_name_must_agree() {
    let engine = engine_or_return!();
    let onnx = GraphBuilder::new()
        .input("a", DataType::Float, &[Named("n")])
        .input("b", DataType::Float, &[Named("n")])
        .node("Add", &["a", "b"], &["y"])
        .output("y", DataType::Float, &[Named("n")])
        .build();
    let graph = load(engine, &onnx);
    let error = graph.run(vec![floats(&[2], &[1.0; 2]), floats(&[1], &[1.0])], &limits()).unwrap_err();
    let expected = "dimension 0 of input \"b\" is 1: expected 2, as dimension 0 of input \"a\"";
    assert_eq!(error.to_string(), expected);
}

#[test]
fn dictionaries_of_probabilities_become_rows() {
    let engine = engine_or_return!();
    let onnx = GraphBuilder::new()
        .input("x", DataType::Float, &[Named("n"), Fixed(2)])
        .node("Softmax", &["x"], &["p"])
        .node_with(
            "ai.onnx.ml",
            "ZipMap",
            &["p"],
            &["z"],
            vec![integers_attribute("classlabels_int64s", &[0, 1])],
        )
        .output("z", DataType::Float, &[])
        .build();
    let outputs = run(engine, &onnx, vec![floats(&[1, 2], &[0.0, 0.0])]).unwrap();
    assert_eq!((outputs[0].shape(), to_floats(&outputs[0])), (&[1, 2][..], vec![0.5, 0.5]));
}
