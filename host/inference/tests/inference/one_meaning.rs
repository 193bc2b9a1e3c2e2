//! Files that two engines could read in two ways. What is proven of the network that one of them reads must hold for the
//! one that runs: such files are refused, or have one meaning by the time that an engine sees them.

use std::sync::Arc;

use modelhost_inference::{Engine, ExecutableGraph, LoadError, TractEngine};
use proptest::prelude::*;
use prost::Message as _;
use tract_onnx::pb::tensor_proto::DataType;
use tract_onnx::pb::tensor_shape_proto::dimension;
use tract_onnx::pb::{
    AttributeProto, GraphProto, ModelProto, NodeProto, OperatorSetIdProto, TensorProto,
    attribute_proto::AttributeType, type_proto,
};

use crate::onnx::{Fixed, GraphBuilder, Named, graph_attribute, int_attribute, linear, tensor};
use crate::onnxruntime_library::engine;
use crate::values::{floats, limits, load, load_error, to_floats};

/// The refusals of all engines that are here: all in the same words.
fn refusal(onnx: &[u8]) -> String {
    let ours = load_error(onnx);
    assert!(!TractEngine::new().prove(onnx).rows_are_independent, "{ours}");
    if let Some(engine) = engine() {
        let theirs = engine.load(onnx).err().unwrap_or_else(|| panic!("ONNX Runtime loads it: {ours}"));
        assert_eq!(theirs.to_string(), ours);
    }
    ours
}

/// Loads a network on one engine.
type Load = dyn Fn(&[u8]) -> Result<Arc<dyn ExecutableGraph>, LoadError>;

/// Those that are here.
fn engines() -> Vec<Box<Load>> {
    let ours: Box<dyn Fn(&[u8]) -> _> = Box::new(load);
    let theirs = engine().map(|engine| Box::new(|onnx: &[u8]| engine.load(onnx)) as _);
    std::iter::once(ours).chain(theirs).collect()
}

/// `y = f(x)` with rows that are apart or not, as `nodes` say.
fn rows() -> GraphBuilder {
    GraphBuilder::new().input("x", DataType::Float, &[Named("n"), Fixed(2), Fixed(2)]).output(
        "y",
        DataType::Float,
        &[Named("n"), Fixed(2), Fixed(2)],
    )
}

fn set(domain: &str, version: i64) -> OperatorSetIdProto {
    OperatorSetIdProto { domain: domain.into(), version }
}

/// Apart in version 13 of the operator set, where Softmax is along one axis, and not in 12, where it is along all from
/// that one on.
fn softmax_over(sets: &[(&str, i64)]) -> Vec<u8> {
    let swap = |name: &str| {
        let perm = AttributeType::Ints as i32;
        vec![AttributeProto { name: name.into(), r#type: perm, ints: vec![1, 0, 2], ..Default::default() }]
    };
    let mut model = rows()
        .node_with("", "Transpose", &["x"], &["t"], swap("perm"))
        .node_with("", "Softmax", &["t"], &["s"], vec![int_attribute("axis", 0)])
        .node_with("", "Transpose", &["s"], &["y"], swap("perm"))
        .model();
    model.opset_import = sets.iter().map(|(domain, version)| set(domain, *version)).collect();
    model.encode_to_vec()
}

#[test]
fn an_operator_set_is_imported_in_one_version() {
    assert!(TractEngine::new().prove(&softmax_over(&[("", 13)])).rows_are_independent);
    assert!(!TractEngine::new().prove(&softmax_over(&[("", 12)])).rows_are_independent);
    for sets in [
        &[("", 13), ("", 12)][..],
        &[("", 12), ("", 13)],
        &[("", 13), ("ai.onnx", 12)],
        &[("ai.onnx", 13), ("", 12)],
    ] {
        let refusal = refusal(&softmax_over(sets));
        assert!(refusal.contains("imports the operator set ai.onnx in two versions"), "{sets:?}: {refusal}");
    }
    // One version said twice is one.
    let twice = softmax_over(&[("", 13), ("ai.onnx", 13), ("", 13)]);
    assert!(load(&twice).is_ok() && TractEngine::new().prove(&twice).rows_are_independent);
    assert!(engine().is_none_or(|engine| engine.load(&twice).unwrap().rows_are_independent()));
    let mut model = linear().model();
    model.opset_import.push(set("ai.onnx.ml", 1));
    assert!(refusal(&model.encode_to_vec()).contains("imports the operator set ai.onnx.ml in two versions"));
}

#[test]
fn an_operator_set_that_is_not_imported_is_not_guessed() {
    // ONNX Runtime takes the newest one, tract the oldest.
    for sets in [&[][..], &[("ai.onnx.ml", 3)]] {
        let refusal = refusal(&softmax_over(sets));
        assert!(refusal.contains("operator set ai.onnx, which it does not import"), "{refusal}");
    }
}

#[test]
fn the_default_domain_has_one_name_inside() {
    let mut model = linear().model();
    model.opset_import[0].domain = "ai.onnx".into();
    model.graph.as_mut().unwrap().node[0].domain = "ai.onnx".into();
    let onnx = model.encode_to_vec();
    assert!(load(&onnx).is_ok() && TractEngine::new().prove(&onnx).rows_are_independent);
    assert!(engine().is_none_or(|engine| engine.load(&onnx).unwrap().rows_are_independent()));
}

fn with_attributes(operator: &str, attributes: Vec<AttributeProto>) -> Vec<u8> {
    rows().node_with("", operator, &["x"], &["y"], attributes).build()
}

#[test]
fn an_attribute_has_one_value() {
    let twice = vec![int_attribute("axis", 1), int_attribute("axis", 0)];
    assert!(refusal(&with_attributes("Softmax", twice)).contains("the attribute \"axis\" twice"));
    let referring = AttributeProto { ref_attr_name: "axis".into(), ..int_attribute("axis", 1) };
    assert!(
        refusal(&with_attributes("Softmax", vec![referring]))
            .contains("\"axis\" refers to one of a function")
    );
    let untyped = AttributeProto { r#type: 0, ..int_attribute("axis", 1) };
    assert!(refusal(&with_attributes("Softmax", vec![untyped])).contains("\"axis\" has no type"));
    // A value that the type does not speak of is no value.
    let another = AttributeProto { ints: vec![0], f: 3.0, ..int_attribute("axis", 1) };
    let onnx = with_attributes("Softmax", vec![another]);
    assert!(load(&onnx).unwrap().rows_are_independent());
    assert!(engine().is_none_or(|engine| engine.load(&onnx).unwrap().rows_are_independent()));
}

/// `y = x - sum of x along the axes` that a constant says.
fn centred(constant: NodeProto) -> Vec<u8> {
    let mut graph = rows().node("ReduceSum", &["x", "axes"], &["s"]).node("Sub", &["x", "s"], &["y"]);
    graph.0.node.insert(0, constant);
    graph.build()
}

#[test]
fn a_constant_has_one_value() {
    let of_tensor = AttributeProto {
        name: "value".into(),
        r#type: AttributeType::Tensor as i32,
        t: Some(tensor("", DataType::Int64, &[1], 1_i64.to_le_bytes().to_vec())),
        ..AttributeProto::default()
    };
    let of_integers = AttributeProto {
        name: "value_ints".into(),
        r#type: AttributeType::Ints as i32,
        ints: vec![0],
        ..AttributeProto::default()
    };
    let constant = |attribute: &[&AttributeProto], output: &[&str]| NodeProto {
        op_type: "Constant".into(),
        attribute: attribute.iter().copied().cloned().collect(),
        output: output.iter().map(ToString::to_string).collect(),
        ..NodeProto::default()
    };
    assert!(load(&centred(constant(&[&of_tensor], &["axes"]))).unwrap().rows_are_independent());
    assert!(!load(&centred(constant(&[&of_integers], &["axes"]))).unwrap().rows_are_independent());
    for (attributes, outputs) in [
        (&[&of_tensor, &of_integers][..], &["axes"][..]),
        (&[&of_integers, &of_tensor], &["axes"]),
        (&[], &["axes"]),
        (&[&of_tensor], &[]),
        (&[&of_tensor], &["axes", "more"]),
    ] {
        let refusal = refusal(&centred(constant(attributes, outputs)));
        assert!(refusal.contains("expected one of each"), "{refusal}");
    }
}

#[test]
fn a_name_means_one_value() {
    let is_refused = |graph: GraphBuilder, name: &str| {
        let refusal = refusal(&graph.build());
        assert!(refusal.contains(&format!("the value {name:?} is made twice")), "{refusal}");
    };
    let sum = || rows().node("ReduceSum", &["x", "axes"], &["s"]).node("Sub", &["x", "s"], &["y"]);
    is_refused(sum().integers("axes", &[1], &[1]).integers("axes", &[1], &[0]), "axes");
    let constant_input = sum().input("axes", DataType::Int64, &[Fixed(1)]);
    is_refused(constant_input.integers("axes", &[1], &[1]).integers("axes", &[1], &[0]), "axes");
    is_refused(rows().node("Relu", &["x"], &["y"]).node("Neg", &["x"], &["y"]), "y");
    is_refused(
        rows().floats("x2", &[1], &[1.0]).node("Relu", &["x"], &["x2"]).node("Neg", &["x2"], &["y"]),
        "x2",
    );
    is_refused(rows().node("Relu", &["x"], &["x"]).node("Neg", &["x"], &["y"]), "x");
}

/// A branch whose output `name` is a constant that is called `constant`.
fn branch(name: &str, constant: &str) -> GraphProto {
    let graph = GraphBuilder::new().floats(constant, &[1], &[1.0]).node("Identity", &[constant], &[name]);
    graph.output(name, DataType::Float, &[]).0
}

#[test]
fn a_name_means_one_value_inside_too() {
    let with_constant = |constant: &str| {
        let branches = vec![
            graph_attribute("then_branch", branch("a", constant)),
            graph_attribute("else_branch", branch("b", constant)),
        ];
        GraphBuilder::new()
            .input("flag", DataType::Bool, &[])
            .floats("c", &[1], &[2.0])
            .node_with("", "If", &["flag"], &["i"], branches)
            .node("Add", &["i", "c"], &["y"])
            .output("y", DataType::Float, &[Fixed(1)])
            .build()
    };
    assert!(refusal(&with_constant("c")).contains("the value \"c\" is made twice"));
    // Beside each other, two graphs may use one name.
    assert!(engine().is_none_or(|engine| engine.load(&with_constant("d")).is_ok()));
    // tract has no `If`, and has nothing else to say about it.
    assert!(load_error(&with_constant("d")).ends_with("correctly: If"));
}

#[test]
fn names_of_extents_are_names() {
    let with_extent = |name: &'static str| {
        GraphBuilder::new()
            .input("x", DataType::Float, &[Named("n"), Named(name)])
            .node("Relu", &["x"], &["y"])
            .output("y", DataType::Float, &[])
            .build()
    };
    // tract takes each for an expression, and the first for the number one.
    for name in ["1", "2-1", " n", "n+0", "2*n", "floor(n)", "", "?", "ä", "modelhost_extent_0"] {
        let onnx = with_extent(name);
        assert_eq!(load(&onnx).unwrap().inputs()[0].shape, [-1, -1], "{name:?}");
        let graph = load(&onnx).unwrap();
        let outputs = graph.run(vec![floats(&[2, 3], &[1.0; 6])], &limits()).unwrap();
        assert_eq!(outputs[0].shape(), [2, 3], "{name:?}");
        assert!(engine().is_none_or(|engine| engine.load(&onnx).unwrap().inputs()[0].shape == [-1, -1]));
    }
}

#[test]
fn negative_extents_are_free() {
    let mut model = linear().model();
    let input = model.graph.as_mut().unwrap().input[0].r#type.as_mut().unwrap();
    let Some(type_proto::Value::TensorType(input)) = &mut input.value else { panic!("a tensor") };
    input.shape.as_mut().unwrap().dim[0].value = Some(dimension::Value::DimValue(-7));
    let onnx = model.encode_to_vec();
    assert_eq!(load(&onnx).unwrap().inputs()[0].shape, [-1, 3]);
    assert!(engine().is_none_or(|engine| engine.load(&onnx).unwrap().inputs()[0].shape == [-1, 3]));
}

fn with_weights(change: impl FnOnce(&mut TensorProto)) -> Vec<u8> {
    let mut model: ModelProto = linear().model();
    change(&mut model.graph.as_mut().unwrap().initializer[0]);
    model.encode_to_vec()
}

#[test]
fn a_tensor_has_as_many_elements_as_its_shape_says() {
    let changes: [fn(&mut TensorProto); 6] = [
        |weights| weights.raw_data.truncate(20),
        |weights| weights.raw_data.push(0),
        |weights| weights.dims = vec![-3, -2],
        |weights| weights.dims = vec![1 << 40, 1 << 40],
        |weights| weights.data_type = 99,
        |weights| (weights.raw_data, weights.float_data) = (Vec::new(), vec![1.0; 5]),
    ];
    for change in changes {
        let refusal = refusal(&with_weights(change));
        assert!(refusal.contains("tensor \"w\" has "), "{refusal}");
    }
    // Bytes count, whatever else there is: so say both engines.
    let both = with_weights(|weights| weights.float_data = vec![9.0; 6]);
    let outputs = load(&both).unwrap().run(vec![floats(&[1, 3], &[1.0; 3])], &limits()).unwrap();
    assert_eq!(to_floats(&outputs[0]), [19.0, 32.0]);
}

#[test]
fn what_is_left_out_is_not_counted_as_there() {
    let onnx = GraphBuilder::new()
        .input("x", DataType::Float, &[Named("n"), Fixed(4)])
        .integers("k", &[1], &[2])
        .node("TopK", &["x", "k"], &["", "y"])
        .output("y", DataType::Int64, &[])
        .build();
    let error = load_error(&onnx);
    assert!(error.contains("TopK (an output left out before another)"), "{error}");
    let onnx = rows().node("Sum", &["x", "", "x"], &["y"]).build();
    assert!(load_error(&onnx).contains("an input left out before another"));
}

#[test]
fn sentences_are_short_whatever_names_a_file_has() {
    let long = "x".repeat(1 << 20);
    let operators: Vec<String> = (0..100).map(|index| format!("{index}{long}")).collect();
    let mut graph = rows();
    for operator in &operators {
        graph = graph.node(operator, &["x"], &[]);
    }
    let missing = linear().node("Relu", &[&long], &["z"]).build();
    let many = graph.node("Relu", &["x"], &["y"]).build();
    for load in engines() {
        for onnx in [&missing, &many] {
            let error = load(onnx).err().unwrap().to_string();
            assert!(error.len() < 2_000, "{} bytes", error.len());
        }
    }
    let unknown = (0..100).fold(rows(), |graph, index| {
        graph.node_with(&format!("domain{index}"), &long, &["x"], &[], Vec::new())
    });
    let refusal = refusal(&unknown.node("Relu", &["x"], &["y"]).build());
    assert!(refusal.ends_with("and 90 more") && refusal.len() < 2_000, "{} bytes", refusal.len());
}

#[test]
fn the_number_of_inputs_is_bounded() {
    let with_inputs = |count: usize| {
        let mut graph = linear();
        for index in 1..count {
            graph = graph.input(&format!("unused{index}"), DataType::Float, &[Fixed(1)]);
        }
        graph.build()
    };
    assert!(TractEngine::new().check_operators(&with_inputs(1024)).is_ok());
    assert!(matches!(TractEngine::new().load(&with_inputs(1025)), Err(LoadError::Unsupported { .. })));
    assert!(refusal(&with_inputs(1025)).contains("has 1025 inputs: at most 1024"));
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, failure_persistence: None, ..ProptestConfig::default() })]

    /// The fields for typed data and the bytes are two ways to write one tensor.
    #[test]
    fn typed_data_is_data(values in proptest::collection::vec(any::<i16>(), 1..9), kind in 0_usize..5) {
        let extents = [values.len() as i64];
        let element = [DataType::Float, DataType::Int32, DataType::Int64, DataType::Double, DataType::Int16][kind];
        let mut constant = tensor("c", element, &extents, Vec::new());
        match element {
            DataType::Float => constant.float_data = values.iter().copied().map(f32::from).collect(),
            DataType::Double => constant.double_data = values.iter().copied().map(f64::from).collect(),
            DataType::Int64 => constant.int64_data = values.iter().copied().map(i64::from).collect(),
            _ => constant.int32_data = values.iter().copied().map(i32::from).collect(),
        }
        let mut graph = GraphBuilder::new().input("x", DataType::Float, &[Fixed(1)]);
        graph.0.initializer.push(constant);
        let onnx = graph
            .node_with("", "Cast", &["c"], &["f"], vec![int_attribute("to", DataType::Float as i64)])
            .node("Add", &["x", "f"], &["y"])
            .output("y", DataType::Float, &[])
            .build();
        let expected: Vec<f32> = values.iter().copied().map(f32::from).collect();
        for load in engines() {
            let outputs = load(&onnx).unwrap().run(vec![floats(&[1], &[0.0])], &limits()).unwrap();
            prop_assert_eq!(to_floats(&outputs[0]), expected.clone());
        }
    }
}
