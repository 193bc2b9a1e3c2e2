//! One test case: a model, inputs, and the outputs that must come out, in several forms of the same question.

use std::collections::BTreeSet;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::time::{Duration, Instant};
use std::{fs, io};

use modelhost_core::{Datatype, Tensor, TensorDescription};
use modelhost_inference::{Engine, RunLimits, TractEngine};
use prost::Message;
use tract_onnx::pb::tensor_proto::DataType;
use tract_onnx::pb::{GraphProto, ModelProto, TensorProto, type_proto};

use crate::compare;

/// A way to ask the same question.
#[derive(Clone, Copy, Debug)]
pub struct Form {
    /// How many of the inputs stay inputs; the others become constants of the model, as in most real models.
    inputs: usize,
    /// Whether the extents of the inputs are free instead of numbers.
    free: bool,
}

/// As it is; with free extents; with constants for all inputs but the first; both; with nothing but constants.
pub const FORMS: [Form; 5] = [
    Form { inputs: usize::MAX, free: false },
    Form { inputs: usize::MAX, free: true },
    Form { inputs: 1, free: false },
    Form { inputs: 1, free: true },
    Form { inputs: 0, free: false },
];

pub enum Outcome {
    Right,
    Wrong(String),
    /// Loaded, but then there was an error.
    Failed(String),
    /// Not loaded.
    Refused(String),
}

pub struct Case {
    pub name: String,
    model: ModelProto,
    inputs: Vec<TensorProto>,
    outputs: Vec<Tensor>,
}

impl Case {
    pub fn read(folder: &Path) -> Result<Case, String> {
        let name = folder.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let bytes = fs::read(folder.join("model.onnx")).map_err(|error| error.to_string())?;
        let model = ModelProto::decode(&*bytes).map_err(|error| error.to_string())?;
        let data = folder.join("test_data_set_0");
        let inputs = tensors(&data, "input").map_err(|error| error.to_string())?;
        let outputs = tensors(&data, "output").map_err(|error| error.to_string())?;
        let outputs = outputs.iter().map(to_tensor).collect::<Result<_, _>>()?;
        inputs.iter().map(to_tensor).collect::<Result<Vec<_>, _>>()?;
        Ok(Case { name, model, inputs, outputs })
    }

    /// The kinds of operators in the model, nested graphs included.
    pub fn operators(&self) -> String {
        let mut names = BTreeSet::new();
        self.model.graph.iter().for_each(|graph| collect(graph, &mut names));
        names.into_iter().collect::<Vec<_>>().join(" + ")
    }

    /// None where this form is the same as an earlier one.
    pub fn run(&self, engine: &TractEngine, form: Form) -> Option<Outcome> {
        let count = self.inputs.len();
        if form.inputs != usize::MAX && count <= form.inputs {
            return None;
        }
        let model = self.in_form(form)?;
        let graph = match engine.load(&model.encode_to_vec()) {
            Ok(graph) => graph,
            Err(error) => return Some(Outcome::Refused(error.to_string())),
        };
        let inputs: Vec<Tensor> =
            self.inputs.iter().take(form.inputs).filter_map(|tensor| to_tensor(tensor).ok()).collect();
        let names = graph.inputs().iter().map(|description| description.name.clone());
        let named: Vec<(String, Tensor)> = names.zip(inputs.iter().cloned()).collect();
        if let Err(error) = TensorDescription::check_all(graph.inputs(), "input", &named) {
            return Some(Outcome::Failed(error.to_string()));
        }
        let limits = RunLimits::new(Instant::now() + Duration::from_secs(60), 1 << 30);
        Some(match catch_unwind(AssertUnwindSafe(|| graph.run(inputs, &limits))) {
            Ok(Ok(outputs)) => match compare::compare(&outputs, &self.outputs, graph.outputs()) {
                Ok(()) => Outcome::Right,
                Err(difference) => Outcome::Wrong(difference),
            },
            Ok(Err(error)) => Outcome::Failed(error.to_string()),
            Err(_) => Outcome::Failed("panic".into()),
        })
    }

    fn in_form(&self, form: Form) -> Option<ModelProto> {
        let mut model = self.model.clone();
        let graph = model.graph.as_mut()?;
        for (input, tensor) in graph.input.iter().zip(&self.inputs).skip(form.inputs) {
            graph.initializer.push(TensorProto { name: input.name.clone(), ..tensor.clone() });
        }
        graph.input.truncate(form.inputs);
        if form.free {
            // What is declared inside no longer holds when extents are free.
            graph.value_info.clear();
            graph.input.iter_mut().for_each(free_extents);
        }
        Some(model)
    }
}

fn free_extents(input: &mut tract_onnx::pb::ValueInfoProto) {
    let Some(type_proto::Value::TensorType(tensor)) =
        input.r#type.as_mut().and_then(|r#type| r#type.value.as_mut())
    else {
        return;
    };
    tensor.shape.iter_mut().flat_map(|shape| &mut shape.dim).for_each(|dimension| dimension.value = None);
}

fn collect(graph: &GraphProto, names: &mut BTreeSet<String>) {
    for node in &graph.node {
        let name = match node.domain.as_str() {
            "" | "ai.onnx" => node.op_type.clone(),
            domain => format!("{domain}.{}", node.op_type),
        };
        names.insert(name);
        let nested = node.attribute.iter().flat_map(|attribute| attribute.g.iter().chain(&attribute.graphs));
        nested.for_each(|graph| collect(graph, names));
    }
}

fn tensors(folder: &Path, role: &str) -> io::Result<Vec<TensorProto>> {
    let mut tensors = Vec::new();
    loop {
        let path = folder.join(format!("{role}_{}.pb", tensors.len()));
        if !path.exists() {
            return Ok(tensors);
        }
        tensors.push(TensorProto::decode(&*fs::read(path)?).map_err(io::Error::other)?);
    }
}

fn to_tensor(proto: &TensorProto) -> Result<Tensor, String> {
    let datatype = match DataType::try_from(proto.data_type) {
        Ok(DataType::Float) => Datatype::Fp32,
        Ok(DataType::Uint8) => Datatype::Uint8,
        Ok(DataType::Int8) => Datatype::Int8,
        Ok(DataType::Uint16) => Datatype::Uint16,
        Ok(DataType::Int16) => Datatype::Int16,
        Ok(DataType::Int32) => Datatype::Int32,
        Ok(DataType::Int64) => Datatype::Int64,
        Ok(DataType::Bool) => Datatype::Bool,
        Ok(DataType::Float16) => Datatype::Fp16,
        Ok(DataType::Double) => Datatype::Fp64,
        Ok(DataType::Uint32) => Datatype::Uint32,
        Ok(DataType::Uint64) => Datatype::Uint64,
        Ok(DataType::String) => Datatype::Bytes,
        other => return Err(format!("element type {other:?}")),
    };
    let shape = proto.dims.iter().map(|extent| u64::try_from(*extent)).collect::<Result<Vec<_>, _>>();
    let shape = shape.map_err(|error| error.to_string())?;
    if datatype == Datatype::Bytes {
        return Tensor::from_bytes_elements(shape, &proto.string_data).map_err(|error| error.to_string());
    }
    Tensor::new(datatype, shape, elements(proto).into()).map_err(|error| error.to_string())
}

/// Tensors of these files are raw, apart from some small ones.
fn elements(proto: &TensorProto) -> Vec<u8> {
    if !proto.raw_data.is_empty() {
        proto.raw_data.clone()
    } else if !proto.float_data.is_empty() {
        proto.float_data.iter().flat_map(|value| value.to_le_bytes()).collect()
    } else if !proto.int64_data.is_empty() {
        proto.int64_data.iter().flat_map(|value| value.to_le_bytes()).collect()
    } else if proto.data_type == DataType::Int32 as i32 {
        proto.int32_data.iter().flat_map(|value| value.to_le_bytes()).collect()
    } else {
        // Any other use of this field holds narrower elements; where the length then disagrees, the case is skipped.
        proto.int32_data.iter().map(|value| *value as u8).collect()
    }
}
