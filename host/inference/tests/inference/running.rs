//! Values: every element type, free extents, empty tensors, wrong inputs.

use modelhost_core::{Datatype, Tensor};
use modelhost_inference::RunError;
use tract_onnx::pb::tensor_proto::DataType;

use crate::onnx::{Fixed, GraphBuilder, Named, int_attribute, linear};
use crate::values::{floats, load, run, to_floats, to_integers, zeros};

#[test]
fn one_plan_takes_any_batch() {
    let graph = load(&linear().build()).unwrap();
    for rows in [1_u64, 2, 7, 1000] {
        let ones = vec![1.0; 3 * rows as usize];
        let outputs = graph.run(vec![floats(&[rows, 3], &ones)], &crate::values::limits()).unwrap();
        assert_eq!(outputs[0].shape(), [rows, 2]);
        assert!(to_floats(&outputs[0]).chunks(2).all(|row| row == [19.0, 32.0]));
    }
}

#[test]
fn an_empty_batch_gives_an_empty_output() {
    let outputs = run(&linear().build(), vec![floats(&[0, 3], &[])]).unwrap();
    assert_eq!(outputs[0].shape(), [0, 2]);
    assert!(outputs[0].data().is_empty());
}

#[test]
fn every_element_type_passes_unchanged() {
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
        (DataType::Float, Datatype::Fp32),
        (DataType::Double, Datatype::Fp64),
    ];
    for (element, datatype) in elements {
        let onnx = GraphBuilder::new()
            .input("x", element, &[Named("n"), Fixed(2)])
            .node_with("", "Transpose", &["x"], &["y"], Vec::new())
            .output("y", element, &[])
            .build();
        let size = datatype.size().unwrap();
        let values: Vec<u8> = (0..6 * size).map(|index| (index % 2) as u8).collect();
        let tensor = Tensor::new(datatype, vec![3, 2], values.clone().into()).unwrap();
        let outputs = run(&onnx, vec![tensor]).unwrap();
        assert_eq!((outputs[0].datatype(), outputs[0].shape()), (datatype, &[2, 3][..]));
        let expected: Vec<u8> =
            [0, 2, 4, 1, 3, 5].iter().flat_map(|i| values[i * size..][..size].to_vec()).collect();
        assert_eq!(outputs[0].data()[..], expected[..], "{datatype}");
    }
}

#[test]
fn unsigned_constants_in_their_own_field_are_read() {
    let mut graph = GraphBuilder::new()
        .input("x", DataType::Uint64, &[Fixed(2)])
        .node("Concat", &["x", "c"], &["y"])
        .output("y", DataType::Uint64, &[Fixed(4)]);
    graph.0.node[0].attribute.push(int_attribute("axis", 0));
    let mut constant = crate::onnx::tensor("c", DataType::Uint64, &[2], Vec::new());
    constant.uint64_data = vec![u64::MAX, 7];
    graph.0.initializer.push(constant);
    let outputs = run(&graph.build(), vec![zeros(Datatype::Uint64, &[2])]).unwrap();
    let words: Vec<u64> =
        outputs[0].data().as_chunks::<8>().0.iter().map(|b| u64::from_le_bytes(*b)).collect();
    assert_eq!(words, [0, 0, u64::MAX, 7]);
}

#[test]
fn indices_and_shapes_come_out_as_int64() {
    let onnx = GraphBuilder::new()
        .input("x", DataType::Float, &[Named("n"), Fixed(3)])
        .node_with(
            "",
            "ArgMax",
            &["x"],
            &["label"],
            vec![int_attribute("axis", 1), int_attribute("keepdims", 0)],
        )
        .node("Shape", &["x"], &["shape"])
        .output("label", DataType::Int64, &[Named("n")])
        .output("shape", DataType::Int64, &[Fixed(2)])
        .build();
    let graph = load(&onnx).unwrap();
    assert!(graph.outputs().iter().all(|output| output.datatype == Datatype::Int64));
    let input = floats(&[2, 3], &[0.0, 9.0, 1.0, 5.0, 4.0, 3.0]);
    let outputs = graph.run(vec![input], &crate::values::limits()).unwrap();
    assert_eq!(to_integers(&outputs[0]), [1, 0]);
    assert_eq!(to_integers(&outputs[1]), [2, 3]);
}

#[test]
fn extents_of_one_name_must_agree() {
    let onnx = GraphBuilder::new()
        .input("left", DataType::Float, &[Named("n"), Fixed(2)])
        .input("right", DataType::Float, &[Named("n"), Fixed(2)])
        .node("Add", &["left", "right"], &["y"])
        .output("y", DataType::Float, &[Named("n"), Fixed(2)])
        .build();
    let outputs = run(&onnx, vec![zeros(Datatype::Fp32, &[4, 2]), zeros(Datatype::Fp32, &[4, 2])]).unwrap();
    assert_eq!(outputs[0].shape(), [4, 2]);
    let error = run(&onnx, vec![zeros(Datatype::Fp32, &[4, 2]), zeros(Datatype::Fp32, &[5, 2])]).unwrap_err();
    let RunError::InvalidInput { reason } = error else { panic!("{error}") };
    assert_eq!(reason, "dimension 0 of input \"right\" is 5: expected 4, as dimension 0 of input \"left\"");
}

#[test]
fn outputs_can_outlive_the_graph() {
    let graph = load(&linear().build()).unwrap();
    let outputs = graph.run(vec![floats(&[1, 3], &[1.0, 1.0, 1.0])], &crate::values::limits()).unwrap();
    drop(graph);
    assert_eq!(to_floats(&outputs[0]), [19.0, 32.0]);
}

#[test]
fn a_network_that_needs_numbers_gets_one_plan_per_shape() {
    // n·m elements in rows of four: tract cannot divide a product of two unknowns.
    let onnx = GraphBuilder::new()
        .input("x", DataType::Float, &[Named("n"), Named("m")])
        .integers("shape", &[2], &[-1, 4])
        .node("Reshape", &["x", "shape"], &["rows"])
        .node("Relu", &["rows"], &["y"])
        .output("y", DataType::Float, &[])
        .build();
    let graph = load(&onnx).unwrap();
    assert_eq!(graph.outputs()[0].shape[0], -1);
    // More shapes than plans are kept, twice.
    for extent in (1..=12).chain(1..=12) {
        let outputs = graph.run(vec![zeros(Datatype::Fp32, &[extent, 4])], &crate::values::limits()).unwrap();
        assert_eq!(outputs[0].shape(), [extent, 4]);
    }
    let error = graph.run(vec![zeros(Datatype::Fp32, &[3, 3])], &crate::values::limits()).unwrap_err();
    assert!(matches!(error, RunError::InvalidInput { .. } | RunError::Failed { .. }), "{error}");
}

#[test]
fn a_network_that_accepts_one_extent_only_says_so() {
    let onnx = GraphBuilder::new()
        .input("x", DataType::Float, &[Named("n"), Fixed(4)])
        .integers("shape", &[1], &[4])
        .node("Reshape", &["x", "shape"], &["y"])
        .output("y", DataType::Float, &[])
        .build();
    let graph = load(&onnx).unwrap();
    let outputs = graph.run(vec![zeros(Datatype::Fp32, &[1, 4])], &crate::values::limits()).unwrap();
    assert_eq!(outputs[0].shape(), [4]);
    let error = graph.run(vec![zeros(Datatype::Fp32, &[2, 4])], &crate::values::limits()).unwrap_err();
    let RunError::InvalidInput { reason } = error else { panic!("{error}") };
    assert!(reason.starts_with("the network does not accept inputs of these shapes"), "{reason}");
}
