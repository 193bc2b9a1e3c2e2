//! Writes ONNX files layer by layer, with fixed weights.

use prost::Message as _;
use tract_onnx::pb;
use tract_onnx::pb::attribute_proto::AttributeType;
use tract_onnx::pb::tensor_shape_proto::{Dimension, dimension};

/// A network that is being made. Its first dimension is free.
pub struct Layers {
    graph: pb::GraphProto,
    input: Vec<usize>,
    /// The extents of one row of the last layer.
    row: Vec<usize>,
    value: String,
}

impl Layers {
    /// Nothing but the input `x`, of rows of these extents.
    pub fn of_row(row: &[usize]) -> Layers {
        let graph = pb::GraphProto { name: "network".to_owned(), ..Default::default() };
        Layers { graph, input: row.to_vec(), row: row.to_vec(), value: "x".to_owned() }
    }

    /// The extents of one row of the input.
    pub fn input(&self) -> &[usize] {
        &self.input
    }

    /// A fully connected layer.
    pub fn dense(mut self, width: usize) -> Layers {
        let weights = self.constant(&[self.row[0], width]);
        let bias = self.constant(&[width]);
        self.row = vec![width];
        self.add("Gemm", &[&weights, &bias], Vec::new())
    }

    /// Convolution with a kernel of 3 × 3, followed by Relu.
    pub fn convolution(mut self, channels: usize, stride: i64) -> Layers {
        let kernel = self.constant(&[channels, self.row[0], 3, 3]);
        let bias = self.constant(&[channels]);
        let extent = |before: usize| before.div_ceil(stride as usize);
        self.row = vec![channels, extent(self.row[1]), extent(self.row[2])];
        let attributes = vec![
            integers("kernel_shape", &[3, 3]),
            integers("pads", &[1, 1, 1, 1]),
            integers("strides", &[stride, stride]),
        ];
        self.add("Conv", &[&kernel, &bias], attributes).relu()
    }

    /// The mean of each channel.
    pub fn average(mut self) -> Layers {
        self.row.truncate(1);
        self.add("GlobalAveragePool", &[], Vec::new()).add("Flatten", &[], Vec::new())
    }

    /// What is negative becomes zero.
    pub fn relu(self) -> Layers {
        self.add("Relu", &[], Vec::new())
    }

    /// Ends with probabilities, under the name `y`: the file.
    pub fn softmax(mut self) -> Vec<u8> {
        self.graph.node.push(node("Softmax", &[&self.value], "y", Vec::new()));
        self.graph.input.push(description("x", &self.input));
        self.graph.output.push(description("y", &self.row));
        let model = pb::ModelProto {
            ir_version: 8,
            opset_import: vec![pb::OperatorSetIdProto { domain: String::new(), version: 13 }],
            graph: Some(self.graph),
            ..Default::default()
        };
        model.encode_to_vec()
    }

    fn add(mut self, operator: &str, constants: &[&str], attributes: Vec<pb::AttributeProto>) -> Layers {
        let output = format!("value{}", self.graph.node.len());
        let inputs = [&[&self.value[..]], constants].concat();
        self.graph.node.push(node(operator, &inputs, &output, attributes));
        self.value = output;
        self
    }

    fn constant(&mut self, shape: &[usize]) -> String {
        let name = format!("constant{}", self.graph.initializer.len());
        let elements: usize = shape.iter().product();
        // Small, of both signs, and the same in every run.
        let weight = |index: usize| ((index * 7_919 % 201) as f32 - 100.0) / 1_000.0;
        self.graph.initializer.push(pb::TensorProto {
            name: name.clone(),
            dims: shape.iter().map(|extent| *extent as i64).collect(),
            data_type: pb::tensor_proto::DataType::Float as i32,
            raw_data: (0..elements).flat_map(|index| weight(index).to_le_bytes()).collect(),
            ..Default::default()
        });
        name
    }
}

fn node(operator: &str, inputs: &[&str], output: &str, attribute: Vec<pb::AttributeProto>) -> pb::NodeProto {
    pb::NodeProto {
        op_type: operator.to_owned(),
        input: inputs.iter().map(|name| (*name).to_owned()).collect(),
        output: vec![output.to_owned()],
        attribute,
        ..Default::default()
    }
}

fn integers(name: &str, values: &[i64]) -> pb::AttributeProto {
    pb::AttributeProto {
        name: name.to_owned(),
        r#type: AttributeType::Ints as i32,
        ints: values.to_vec(),
        ..Default::default()
    }
}

fn description(name: &str, row: &[usize]) -> pb::ValueInfoProto {
    let dimension = |value| Dimension { value: Some(value), ..Default::default() };
    let batch = dimension(dimension::Value::DimParam("batch".to_owned()));
    let extents = row.iter().map(|extent| dimension(dimension::Value::DimValue(*extent as i64)));
    let shape = pb::TensorShapeProto { dim: std::iter::once(batch).chain(extents).collect() };
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
