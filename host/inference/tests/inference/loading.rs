//! What is described, and what is refused with which sentence.

use modelhost_core::Datatype;
use tract_onnx::pb::tensor_proto::DataType;
use tract_onnx::pb::{StringStringEntryProto, tensor_proto};

use crate::onnx::{Fixed, GraphBuilder, Named, Unknown, linear};
use crate::values::{floats, load, load_error, run, to_floats};

#[test]
fn inputs_and_outputs_are_described_in_order() {
    let graph = load(&linear().build()).unwrap();
    let [x] = graph.inputs() else { panic!("one input") };
    assert_eq!((x.name.as_str(), x.datatype, x.shape.as_slice()), ("x", Datatype::Fp32, &[-1, 3][..]));
    let [y] = graph.outputs() else { panic!("one output") };
    assert_eq!((y.name.as_str(), y.datatype, y.shape.as_slice()), ("y", Datatype::Fp32, &[-1, 2][..]));
}

#[test]
fn names_are_not_tame() {
    let name = "serving_default_input_2:0";
    let onnx = GraphBuilder::new()
        .input(name, DataType::Float, &[Unknown])
        .node("Relu", &[name], &["Identity/y:0"])
        .output("Identity/y:0", DataType::Float, &[Unknown])
        .build();
    let graph = load(&onnx).unwrap();
    assert_eq!(graph.inputs()[0].name, name);
    assert_eq!(graph.outputs()[0].name, "Identity/y:0");
}

#[test]
fn declared_output_shapes_are_not_believed() {
    let onnx = GraphBuilder::new()
        .input("x", DataType::Float, &[Named("n"), Fixed(3)])
        .node("Relu", &["x"], &["y"])
        .output("y", DataType::Float, &[Fixed(1), Fixed(99)])
        .build();
    assert_eq!(load(&onnx).unwrap().outputs()[0].shape, [-1, 3]);
    let outputs = run(&onnx, vec![floats(&[2, 3], &[-1.0, 2.0, -3.0, 4.0, -5.0, 6.0])]).unwrap();
    assert_eq!(to_floats(&outputs[0]), [0.0, 2.0, 0.0, 4.0, 0.0, 6.0]);
}

#[test]
fn declared_inner_shapes_that_are_wrong_are_ignored() {
    let mut model = linear().model();
    let liar = GraphBuilder::new().output("xw", DataType::Float, &[Fixed(7), Fixed(7), Fixed(7)]);
    model.graph.as_mut().unwrap().value_info = liar.0.output;
    let outputs =
        run(&prost::Message::encode_to_vec(&model), vec![floats(&[1, 3], &[1.0, 0.0, 0.0])]).unwrap();
    assert_eq!(to_floats(&outputs[0]), [11.0, 22.0]);
}

#[test]
fn data_in_other_files_is_refused() {
    let mut model = linear().model();
    let weights = &mut model.graph.as_mut().unwrap().initializer[0];
    weights.data_location = Some(tensor_proto::DataLocation::External as i32);
    weights.external_data =
        vec![StringStringEntryProto { key: "location".into(), value: "/etc/passwd".into() }];
    let error = load_error(&prost::Message::encode_to_vec(&model));
    assert!(error.contains("\"w\" keeps its data in another file"), "{error}");
}

#[test]
fn element_types_that_no_tensor_has_are_refused_by_name() {
    for element in [DataType::Bfloat16, DataType::Complex64, DataType::Float8e4m3fn] {
        let onnx = GraphBuilder::new()
            .input("words", element, &[Fixed(2)])
            .node("Identity", &["words"], &["y"])
            .output("y", element, &[Fixed(2)])
            .build();
        let error = load_error(&onnx);
        assert!(error.contains("graph is not supported"), "{element:?}: {error}");
    }
}

#[test]
fn names_that_nothing_makes_are_refused() {
    let onnx = GraphBuilder::new()
        .input("x", DataType::Float, &[Fixed(1)])
        .node("Add", &["x", "bias"], &["y"])
        .output("y", DataType::Float, &[Fixed(1)])
        .build();
    let error = load_error(&onnx);
    assert!(error.contains("takes \"bias\", which nothing makes"), "{error}");

    let onnx = GraphBuilder::new()
        .input("x", DataType::Float, &[Fixed(1)])
        .node("Relu", &["x"], &["y"])
        .output("z", DataType::Float, &[Fixed(1)])
        .build();
    let error = load_error(&onnx);
    assert!(error.contains("nothing makes the output \"z\""), "{error}");
}

#[test]
fn operator_sets_that_are_not_known_are_refused() {
    for version in [1, 8, 29, i64::MAX, -1] {
        let mut model = linear().model();
        model.opset_import[0].version = version;
        let error = load_error(&prost::Message::encode_to_vec(&model));
        assert!(error.contains(&format!("version {version}: expected 9 to 28")), "{error}");
    }
}
