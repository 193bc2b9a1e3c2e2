//! Which operators are refused, and by which name.

use modelhost_inference::{LoadError, TractEngine};
use prost::Message;
use tract_onnx::pb::tensor_proto::DataType;
use tract_onnx::pb::{AttributeProto, FunctionProto, attribute_proto::AttributeType};

use crate::onnx::{Fixed, GraphBuilder, graph_attribute, int_attribute, linear};
use crate::values::load;

fn with_operator(domain: &str, operator: &str, attributes: Vec<AttributeProto>) -> Vec<u8> {
    GraphBuilder::new()
        .input("x", DataType::Float, &[Fixed(2), Fixed(3)])
        .node_with(domain, operator, &["x"], &["y"], attributes)
        .output("y", DataType::Float, &[])
        .build()
}

fn refused(onnx: &[u8]) -> Vec<String> {
    let named = TractEngine::new().refused_operators(onnx).unwrap();
    match (load(onnx), named.is_empty()) {
        (Err(LoadError::Operators { operators }), false) if named.len() <= 10 => assert_eq!(operators, named),
        (Err(LoadError::Operators { .. }), false) => {}
        (Ok(_) | Err(_), true) => {}
        (Ok(_), false) => panic!("loaded in spite of {named:?}"),
        (Err(error), false) => panic!("{error} instead of {named:?}"),
    }
    named
}

fn text_attribute(name: &str, text: &str) -> AttributeProto {
    AttributeProto {
        name: name.into(),
        r#type: AttributeType::String as i32,
        s: text.into(),
        ..AttributeProto::default()
    }
}

#[test]
fn an_operator_that_is_not_listed_is_refused_by_its_name() {
    let onnx = with_operator("ai.onnx.ml", "DictVectorizer", Vec::new());
    assert_eq!(refused(&onnx), ["ai.onnx.ml.DictVectorizer"]);
    let error = load(&onnx).err().unwrap().to_string();
    assert_eq!(
        error,
        "graph has operators that the engine is not known to run correctly: ai.onnx.ml.DictVectorizer"
    );
}

#[test]
fn the_default_domain_has_two_names() {
    assert!(refused(&with_operator("", "Relu", Vec::new())).is_empty());
    assert!(refused(&with_operator("ai.onnx", "Relu", Vec::new())).is_empty());
    assert_eq!(refused(&with_operator("ai.onnx", "NonMaxSuppression", Vec::new())), ["NonMaxSuppression"]);
}

#[test]
fn a_listed_name_in_another_domain_is_refused() {
    assert_eq!(refused(&with_operator("com.example", "Relu", Vec::new())), ["com.example.Relu"]);
    assert_eq!(refused(&with_operator("ai.onnx.ml", "Relu", Vec::new())), ["ai.onnx.ml.Relu"]);
}

#[test]
fn a_function_of_the_model_does_not_run_as_the_operator_of_its_name() {
    let mut model = linear().model();
    model.functions.push(FunctionProto {
        name: Some("Add".into()),
        domain: Some(String::new()),
        ..Default::default()
    });
    assert_eq!(refused(&model.encode_to_vec()), ["Add (a function of the model's own)"]);
}

#[test]
fn branches_are_checked_too() {
    let branch = |operator: &str| {
        let mut branch = GraphBuilder::new().node(operator, &["x"], &["inner"]).output(
            "inner",
            DataType::Float,
            &[Fixed(1)],
        );
        branch.0.name = operator.into();
        branch.0
    };
    let attributes = vec![
        graph_attribute("then_branch", branch("Unique")),
        graph_attribute("else_branch", branch("Relu")),
    ];
    let onnx = GraphBuilder::new()
        .input("x", DataType::Float, &[Fixed(1)])
        .input("which", DataType::Bool, &[])
        .node_with("", "If", &["which"], &["y"], attributes)
        .output("y", DataType::Float, &[Fixed(1)])
        .build();
    assert_eq!(refused(&onnx), ["If", "Unique"]);
}

#[test]
fn every_refused_operator_is_named_once_and_sorted_up_to_ten() {
    let names: Vec<String> = (0..14).rev().map(|index| format!("Own{index:02}")).collect();
    let mut graph = GraphBuilder::new().input("x", DataType::Float, &[Fixed(1)]);
    for (index, name) in names.iter().chain(&names).enumerate() {
        graph = graph.node_with("own", name, &["x"], &[&format!("y{index}")], Vec::new());
    }
    let onnx = graph.output("y0", DataType::Float, &[]).build();
    let named = refused(&onnx);
    assert_eq!(named.len(), 14);
    assert!(named.is_sorted());
    let error = load(&onnx).err().unwrap().to_string();
    assert!(error.contains("own.Own09, and 4 more") && !error.contains("Own10"), "{error}");
}

#[test]
fn wrong_uses_of_listed_operators_are_refused_with_the_reason() {
    let recurrent = |direction| vec![text_attribute("direction", direction), int_attribute("hidden_size", 5)];
    let cases: [(&str, &str, Vec<AttributeProto>, Option<&str>); 7] = [
        ("", "LSTM", recurrent("reverse"), Some("LSTM (direction reverse)")),
        ("", "LSTM", recurrent("forward"), None),
        ("", "Squeeze", Vec::new(), Some("Squeeze (without axes)")),
        ("", "ConstantOfShape", Vec::new(), Some("ConstantOfShape (without value)")),
        ("", "Dropout", Vec::new(), None),
        ("ai.onnx.ml", "Normalizer", Vec::new(), None),
        (
            "",
            "BatchNormalization",
            vec![int_attribute("training_mode", 1)],
            Some("BatchNormalization (training mode)"),
        ),
    ];
    for (domain, operator, attributes, expected) in cases {
        let onnx = with_operator(domain, operator, attributes);
        let named = TractEngine::new().refused_operators(&onnx).unwrap();
        assert_eq!(named.first().map(String::as_str), expected, "{operator}");
    }
}
