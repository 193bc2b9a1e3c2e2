//! One case: a model, its inputs, and the outputs that must come out.

use std::fs;
use std::path::Path;
use std::time::{Duration, Instant};

use modelhost_core::{Datatype, Tensor, TensorDescription};
use modelhost_inference::{ExecutableGraph, RunLimits};
use prost::Message;
use tract_onnx::pb::tensor_proto::DataType;
use tract_onnx::pb::{GraphProto, TensorProto};

use crate::compare::compare;

pub struct Case {
    pub onnx: Vec<u8>,
    /// Inputs and outputs by name.
    tensors: Vec<(String, Tensor)>,
}

pub fn names(folder: &Path) -> Vec<String> {
    let files = fs::read_dir(folder).unwrap().map(|file| file.unwrap().path());
    let models = files.filter(|path| path.extension().is_some_and(|extension| extension == "onnx"));
    models.map(|path| path.file_stem().unwrap().to_str().unwrap().to_owned()).collect()
}

impl Case {
    pub fn read(folder: &Path, name: &str) -> Case {
        let onnx = fs::read(folder.join(format!("{name}.onnx"))).unwrap();
        let data = fs::read(folder.join(format!("{name}.data"))).unwrap();
        let data = GraphProto::decode(&*data).unwrap();
        let tensors = data.initializer.iter().map(|tensor| (tensor.name.clone(), to_tensor(tensor)));
        Case { onnx, tensors: tensors.collect() }
    }

    fn tensor(&self, name: &str) -> &Tensor {
        &self.tensors.iter().find(|(other, _)| other == name).unwrap().1
    }

    /// All rows at once, then each alone.
    pub fn check(&self, graph: &dyn ExecutableGraph) -> Result<(), String> {
        let inputs: Vec<Tensor> = graph.inputs().iter().map(|input| self.tensor(&input.name).clone()).collect();
        let expected: Vec<Tensor> = graph.outputs().iter().map(|output| self.tensor(&output.name).clone()).collect();
        let rows = inputs[0].shape()[0];
        run(graph, inputs.clone(), &expected).map_err(|difference| format!("{rows} rows: {difference}"))?;
        for row in 0..rows {
            let one = |tensor: &Tensor| row_of(tensor, row, rows);
            let inputs = inputs.iter().map(one).collect();
            let expected: Vec<Tensor> = expected.iter().map(one).collect();
            run(graph, inputs, &expected).map_err(|difference| format!("row {row} alone: {difference}"))?;
        }
        Ok(())
    }
}

fn run(graph: &dyn ExecutableGraph, inputs: Vec<Tensor>, expected: &[Tensor]) -> Result<(), String> {
    let names = graph.inputs().iter().map(|input| input.name.clone());
    let named: Vec<(String, Tensor)> = names.zip(inputs.iter().cloned()).collect();
    TensorDescription::check_all(graph.inputs(), "input", &named).map_err(|error| error.to_string())?;
    let limits = RunLimits::new(Instant::now() + Duration::from_secs(60), 1 << 30);
    let outputs = graph.run(inputs, &limits).map_err(|error| error.to_string())?;
    for ((actual, expected), description) in outputs.iter().zip(expected).zip(graph.outputs()) {
        description.check("output", actual).map_err(|error| error.to_string())?;
        compare(actual, expected).map_err(|difference| format!("output {:?}: {difference}", description.name))?;
    }
    Ok(())
}

/// One row of a tensor whose first extent is the number of rows; the tensor itself where it is not.
fn row_of(tensor: &Tensor, row: u64, rows: u64) -> Tensor {
    if tensor.shape().first() != Some(&rows) {
        return tensor.clone();
    }
    let mut shape = tensor.shape().to_vec();
    shape[0] = 1;
    if tensor.datatype() == Datatype::Bytes {
        let elements: Vec<&[u8]> = tensor.bytes_elements().collect();
        let length = elements.len() / rows as usize;
        let start = row as usize * length;
        return Tensor::from_bytes_elements(shape, &elements[start..start + length]).unwrap();
    }
    let length = tensor.data().len() / rows as usize;
    let start = row as usize * length;
    Tensor::new(tensor.datatype(), shape, tensor.data().slice(start..start + length)).unwrap()
}

fn to_tensor(proto: &TensorProto) -> Tensor {
    let shape = proto.dims.iter().map(|extent| u64::try_from(*extent).unwrap()).collect();
    let datatype = match DataType::try_from(proto.data_type).unwrap() {
        DataType::Float => Datatype::Fp32,
        DataType::Double => Datatype::Fp64,
        DataType::Int64 => Datatype::Int64,
        DataType::Int32 => Datatype::Int32,
        DataType::Bool => Datatype::Bool,
        DataType::String => return Tensor::from_bytes_elements(shape, &proto.string_data).unwrap(),
        other => panic!("no case has elements of {other:?}"),
    };
    Tensor::new(datatype, shape, proto.raw_data.clone().into()).unwrap()
}
