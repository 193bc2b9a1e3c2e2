//! The networks that are measured, made as ONNX files with fixed weights.

use prost::Message as _;
use tract_onnx::pb;
use tract_onnx::pb::tensor_shape_proto::{Dimension, dimension};

/// A network to measure.
pub struct Network {
    /// For the table.
    pub name: &'static str,
    /// Elements of one input row.
    pub inputs: usize,
    /// The ONNX file.
    pub onnx: Vec<u8>,
}

/// Logistic regression: 4 inputs, 3 outputs, 15 parameters.
pub fn tiny() -> Network {
    Network { name: "tiny (15 parameters)", inputs: 4, onnx: perceptron(&[4, 3]) }
}

/// A perceptron of 64, 1024, 896 and 10 units: 993,994 parameters.
pub fn million() -> Network {
    Network { name: "perceptron (994 k parameters)", inputs: 64, onnx: perceptron(&[64, 1024, 896, 10]) }
}

/// Fully connected layers of these widths, with Relu between and Softmax after them. The first dimension of
/// the input `x` and of the output `y` is free.
fn perceptron(widths: &[usize]) -> Vec<u8> {
    let mut graph = pb::GraphProto { name: "perceptron".to_owned(), ..Default::default() };
    let mut value = "x".to_owned();
    let layers = widths.len() - 1;
    for (layer, pair) in widths.windows(2).enumerate() {
        let (weights, bias) = (format!("w{layer}"), format!("b{layer}"));
        graph.initializer.push(constant(&weights, &[pair[0], pair[1]]));
        graph.initializer.push(constant(&bias, &[pair[1]]));
        let sum = format!("sum{layer}");
        graph.node.push(node("Gemm", &[&value, &weights, &bias], &sum));
        let last = layer + 1 == layers;
        value = if last { "y".to_owned() } else { format!("layer{layer}") };
        graph.node.push(node(if last { "Softmax" } else { "Relu" }, &[&sum], &value));
    }
    graph.input.push(description("x", widths[0]));
    graph.output.push(description("y", widths[layers]));
    let model = pb::ModelProto {
        ir_version: 8,
        opset_import: vec![pb::OperatorSetIdProto { domain: String::new(), version: 13 }],
        graph: Some(graph),
        ..Default::default()
    };
    model.encode_to_vec()
}

fn node(operator: &str, inputs: &[&str], output: &str) -> pb::NodeProto {
    pb::NodeProto {
        op_type: operator.to_owned(),
        input: inputs.iter().map(|name| (*name).to_owned()).collect(),
        output: vec![output.to_owned()],
        ..Default::default()
    }
}

fn constant(name: &str, shape: &[usize]) -> pb::TensorProto {
    let elements: usize = shape.iter().product();
    // Small, of both signs, and the same in every run.
    let weight = |index: usize| ((index * 7_919 % 201) as f32 - 100.0) / 1_000.0;
    pb::TensorProto {
        name: name.to_owned(),
        dims: shape.iter().map(|extent| *extent as i64).collect(),
        data_type: pb::tensor_proto::DataType::Float as i32,
        raw_data: (0..elements).flat_map(|index| weight(index).to_le_bytes()).collect(),
        ..Default::default()
    }
}

fn description(name: &str, width: usize) -> pb::ValueInfoProto {
    let dimension = |value| Dimension { value: Some(value), ..Default::default() };
    let shape = pb::TensorShapeProto {
        dim: vec![
            dimension(dimension::Value::DimParam("batch".to_owned())),
            dimension(dimension::Value::DimValue(width as i64)),
        ],
    };
    let tensor =
        pb::type_proto::Tensor { elem_type: pb::tensor_proto::DataType::Float as i32, shape: Some(shape) };
    pb::ValueInfoProto {
        name: name.to_owned(),
        r#type: Some(pb::TypeProto {
            value: Some(pb::type_proto::Value::TensorType(tensor)),
            ..Default::default()
        }),
        ..Default::default()
    }
}
