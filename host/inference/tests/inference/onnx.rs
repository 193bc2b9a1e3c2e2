//! Makes small ONNX files, so that the tests need neither Python nor committed models.

use prost::Message;
use tract_onnx::pb::tensor_proto::DataType;
use tract_onnx::pb::tensor_shape_proto::{Dimension, dimension};
use tract_onnx::pb::type_proto::Value;
use tract_onnx::pb::{
    AttributeProto, GraphProto, ModelProto, NodeProto, OperatorSetIdProto, TensorProto, TensorShapeProto,
    TypeProto, ValueInfoProto, attribute_proto::AttributeType, type_proto,
};

/// An extent of an input or output.
#[derive(Clone, Copy)]
pub enum Extent {
    Fixed(i64),
    Named(&'static str),
    Unknown,
}

pub use Extent::{Fixed, Named, Unknown};

#[derive(Clone, Default)]
pub struct GraphBuilder(pub GraphProto);

impl GraphBuilder {
    pub fn new() -> GraphBuilder {
        GraphBuilder(GraphProto { name: "test".into(), ..GraphProto::default() })
    }

    pub fn input(mut self, name: &str, element: DataType, shape: &[Extent]) -> Self {
        self.0.input.push(value(name, element, shape));
        self
    }

    pub fn output(mut self, name: &str, element: DataType, shape: &[Extent]) -> Self {
        self.0.output.push(value(name, element, shape));
        self
    }

    pub fn floats(mut self, name: &str, shape: &[i64], values: &[f32]) -> Self {
        let raw = values.iter().flat_map(|value| value.to_le_bytes()).collect();
        self.0.initializer.push(tensor(name, DataType::Float, shape, raw));
        self
    }

    pub fn integers(mut self, name: &str, shape: &[i64], values: &[i64]) -> Self {
        let raw = values.iter().flat_map(|value| value.to_le_bytes()).collect();
        self.0.initializer.push(tensor(name, DataType::Int64, shape, raw));
        self
    }

    pub fn node(self, operator: &str, inputs: &[&str], outputs: &[&str]) -> Self {
        self.node_with("", operator, inputs, outputs, Vec::new())
    }

    pub fn node_with(
        mut self,
        domain: &str,
        operator: &str,
        inputs: &[&str],
        outputs: &[&str],
        attribute: Vec<AttributeProto>,
    ) -> Self {
        self.0.node.push(NodeProto {
            input: inputs.iter().map(ToString::to_string).collect(),
            output: outputs.iter().map(ToString::to_string).collect(),
            name: format!("{operator}-{}", self.0.node.len()),
            op_type: operator.into(),
            domain: domain.into(),
            attribute,
            ..NodeProto::default()
        });
        self
    }

    /// With the operator sets of all its nodes.
    pub fn model(self) -> ModelProto {
        let set = |domain: &str, version| OperatorSetIdProto { domain: domain.into(), version };
        let mut opset_import = vec![set("", 17), set("ai.onnx.ml", 3)];
        for node in self.0.node.iter().filter(|node| node.domain != "ai.onnx") {
            if !opset_import.iter().any(|set| set.domain == node.domain) {
                opset_import.push(set(&node.domain, 1));
            }
        }
        ModelProto { ir_version: 8, opset_import, graph: Some(self.0), ..ModelProto::default() }
    }

    pub fn build(self) -> Vec<u8> {
        self.model().encode_to_vec()
    }
}

pub fn tensor(name: &str, element: DataType, shape: &[i64], raw_data: Vec<u8>) -> TensorProto {
    TensorProto {
        name: name.into(),
        dims: shape.to_vec(),
        data_type: element as i32,
        raw_data,
        ..TensorProto::default()
    }
}

pub fn graph_attribute(name: &str, graph: GraphProto) -> AttributeProto {
    AttributeProto {
        name: name.into(),
        r#type: AttributeType::Graph as i32,
        g: Some(graph),
        ..AttributeProto::default()
    }
}

/// The attribute `value` of `ConstantOfShape`.
pub fn value_attribute(value: f32) -> AttributeProto {
    AttributeProto {
        name: "value".into(),
        r#type: AttributeType::Tensor as i32,
        t: Some(tensor("", DataType::Float, &[1], value.to_le_bytes().to_vec())),
        ..AttributeProto::default()
    }
}

pub fn int_attribute(name: &str, i: i64) -> AttributeProto {
    AttributeProto { name: name.into(), r#type: AttributeType::Int as i32, i, ..AttributeProto::default() }
}

pub fn float_attribute(name: &str, f: f32) -> AttributeProto {
    AttributeProto { name: name.into(), r#type: AttributeType::Float as i32, f, ..AttributeProto::default() }
}

fn value(name: &str, element: DataType, shape: &[Extent]) -> ValueInfoProto {
    let dim = shape.iter().map(|extent| Dimension {
        value: match extent {
            Fixed(value) => Some(dimension::Value::DimValue(*value)),
            Named(name) => Some(dimension::Value::DimParam((*name).into())),
            Unknown => None,
        },
        ..Dimension::default()
    });
    let shape = Some(TensorShapeProto { dim: dim.collect() });
    let tensor = type_proto::Tensor { elem_type: element as i32, shape };
    let r#type = Some(TypeProto { value: Some(Value::TensorType(tensor)), ..TypeProto::default() });
    ValueInfoProto { name: name.into(), r#type, ..ValueInfoProto::default() }
}

/// `y = x · w + b` with x of `[n, 3]`, w of `[3, 2]`.
pub fn linear() -> GraphBuilder {
    GraphBuilder::new()
        .input("x", DataType::Float, &[Named("n"), Fixed(3)])
        .floats("w", &[3, 2], &[1.0, 2.0, 3.0, 4.0, 5.0, 6.0])
        .floats("b", &[2], &[10.0, 20.0])
        .node("MatMul", &["x", "w"], &["xw"])
        .node("Add", &["xw", "b"], &["y"])
        .output("y", DataType::Float, &[Named("n"), Fixed(2)])
}

/// A chain of products of square matrices, each of some milliseconds.
pub fn slow(products: usize) -> GraphBuilder {
    let side = 512;
    let mut graph = GraphBuilder::new().input("x0", DataType::Float, &[Fixed(side), Fixed(side)]);
    for step in 0..products {
        let (before, after) = (format!("x{step}"), format!("x{}", step + 1));
        // The second factor depends on the input: nothing can be computed ahead.
        graph = graph.node("MatMul", &[&before, "x0"], &[&after]);
    }
    graph.output(&format!("x{products}"), DataType::Float, &[Fixed(side), Fixed(side)])
}

/// `y = x + times`, one in each round of a `Loop`.
pub fn counting_loop() -> Vec<u8> {
    let body = GraphBuilder::new()
        .input("round", DataType::Int64, &[])
        .input("go_on", DataType::Bool, &[])
        .input("before", DataType::Float, &[Fixed(1)])
        .floats("one", &[1], &[1.0])
        .node("Identity", &["go_on"], &["still"])
        .node("Add", &["before", "one"], &["after"])
        .output("still", DataType::Bool, &[])
        .output("after", DataType::Float, &[Fixed(1)]);
    GraphBuilder::new()
        .input("times", DataType::Int64, &[])
        .input("x", DataType::Float, &[Fixed(1)])
        .node_with("", "Loop", &["times", "", "x"], &["y"], vec![graph_attribute("body", body.0)])
        .output("y", DataType::Float, &[Fixed(1)])
        .build()
}
