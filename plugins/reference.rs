//! What the reference tests of the plugins share: the cases that a training script wrote, and its network, run by
//! the engine of the host. Knows nothing of a plugin's features.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use modelhost_guest::{Datatype, Error, Parameter, Request, Response, Tensor};
use serde_json::Value;
use tract_onnx::prelude::{
    self as tract, Framework, InferenceModelExt, IntoRunnable, TVec, TypedRunnableModel,
};

/// Absolute, for probabilities: engines add up in different orders.
const TOLERANCE: f32 = 1e-5;

/// Answers every case of `tests/reference.json` and that of `example.json`, and compares.
pub fn check(answer: impl Fn(&Request) -> Result<Response, Error>) {
    let cases = read("tests/reference.json");
    let cases = cases.as_array().expect("an array of cases");
    assert!(!cases.is_empty());
    for (index, case) in cases.iter().enumerate() {
        compare(case, &answer, &format!("case {index}"));
    }
    compare(&read("example.json"), &answer, "example.json");
}

/// The plugin's network.
pub struct Network(Arc<TypedRunnableModel>);

impl Network {
    /// Reads `model.onnx`.
    pub fn load() -> Network {
        let model = tract_onnx::onnx().model_for_path(in_crate("model.onnx")).unwrap();
        Network(model.into_optimized().unwrap().into_runnable().unwrap())
    }

    /// Runs the network on its inputs, in its order, and answers its first output, which must be FP32.
    pub fn run<const N: usize>(&self, inputs: [Tensor; N]) -> Result<Tensor, Error> {
        let inputs: TVec<tract::TValue> = inputs.iter().map(|input| to_tract(input).into()).collect();
        let outputs = self.0.run(inputs).unwrap();
        let output = outputs[0].to_plain_array_view::<f32>().unwrap();
        Tensor::new(output.shape(), output.iter().copied().collect::<Vec<f32>>())
    }
}

fn to_tract(tensor: &Tensor) -> tract::Tensor {
    match tensor.datatype() {
        Datatype::Fp32 => {
            tract::Tensor::from_shape(tensor.shape(), tensor.as_slice::<f32>().unwrap()).unwrap()
        }
        Datatype::Int64 => {
            tract::Tensor::from_shape(tensor.shape(), tensor.as_slice::<i64>().unwrap()).unwrap()
        }
        other => panic!("no network here takes {other}"),
    }
}

fn compare(case: &Value, answer: impl Fn(&Request) -> Result<Response, Error>, name: &str) {
    let response = answer(&request(&case["request"])).unwrap_or_else(|error| panic!("{name}: {error}"));
    let outputs = tensors(&case["response"]["outputs"]);
    assert!(!outputs.is_empty(), "{name} expects nothing");
    for (output, expected) in outputs {
        let actual = response.output(&output).unwrap();
        assert_eq!(actual.shape(), expected.shape(), "{name}: shape of {output}");
        match expected.datatype() {
            Datatype::Bytes => assert_eq!(actual.strings(), expected.strings(), "{name}: {output}"),
            _ => {
                let (actual, expected) =
                    (actual.as_slice::<f32>().unwrap(), expected.as_slice::<f32>().unwrap());
                let close = actual.iter().zip(expected).all(|(a, b)| (a - b).abs() <= TOLERANCE);
                assert!(close, "{name}: {output} is {actual:?}, not {expected:?}");
            }
        }
    }
}

fn request(body: &Value) -> Request {
    let mut request = Request::new(tensors(&body["inputs"]));
    for (name, value) in body["parameters"].as_object().into_iter().flatten() {
        request = request.with_parameter(name, Parameter::Integer(value.as_i64().unwrap()));
    }
    request
}

fn tensors(named: &Value) -> Vec<(String, Tensor)> {
    let named = named.as_array().expect("an array of tensors");
    named.iter().map(|one| (one["name"].as_str().unwrap().to_owned(), tensor(one))).collect()
}

fn tensor(described: &Value) -> Tensor {
    let shape = described["shape"].as_array().unwrap().iter().map(|extent| extent.as_u64().unwrap() as usize);
    let shape: Vec<usize> = shape.collect();
    let data = described["data"].as_array().unwrap();
    match described["datatype"].as_str() {
        Some("BYTES") => Tensor::from_strings(shape, data.iter().map(|text| text.as_str().unwrap())).unwrap(),
        Some("FP32") => {
            Tensor::new(shape, data.iter().map(|x| x.as_f64().unwrap() as f32).collect::<Vec<f32>>()).unwrap()
        }
        other => panic!("no case here holds {other:?}"),
    }
}

fn read(path: &str) -> Value {
    serde_json::from_str(&fs::read_to_string(in_crate(path)).unwrap()).unwrap()
}

fn in_crate(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(path)
}
