//! What the reference tests of the plugins share: the cases that a training script wrote, and its network, run by
//! the engine of the host. Knows nothing of a plugin's features.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use modelhost_guest::{Datatype, Error, Parameter, Request, Response, Tensor};
use modelhost_inference::{Engine, ExecutableGraph, RunLimits, TractEngine};
use serde_json::Value;

/// Relative to the expected number, or absolute below one: engines add up in different orders.
const TOLERANCE: f32 = 1e-5;

/// Neither is near what a network here takes.
const RUN_LIMITS: (Duration, u64) = (Duration::from_secs(60), 1 << 30);

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
pub struct Network(Arc<dyn ExecutableGraph>);

impl Network {
    /// Reads `model.onnx`.
    pub fn load() -> Network {
        Network(TractEngine::new().load(&fs::read(in_crate("model.onnx")).unwrap()).unwrap())
    }

    /// Runs the network on its inputs, in its order, and answers its first output, which must be FP32.
    pub fn run<const N: usize>(&self, inputs: [Tensor; N]) -> Result<Tensor, Error> {
        let (time, bytes) = RUN_LIMITS;
        let limits = RunLimits::new(Instant::now() + time, bytes);
        let outputs = self.0.run(inputs.iter().map(to_host).collect(), &limits).unwrap();
        let output = &outputs[0];
        assert_eq!(output.datatype(), modelhost_core::Datatype::Fp32);
        let shape: Vec<usize> = output.shape().iter().map(|extent| *extent as usize).collect();
        let elements = output.data().as_chunks().0.iter().map(|bytes| f32::from_le_bytes(*bytes));
        Tensor::new(shape, elements.collect::<Vec<f32>>())
    }
}

fn to_host(tensor: &Tensor) -> modelhost_core::Tensor {
    let shape = tensor.shape().iter().map(|extent| *extent as u64).collect();
    let (datatype, data): (_, Vec<u8>) = match tensor.datatype() {
        Datatype::Fp32 => {
            let elements = tensor.as_slice::<f32>().unwrap();
            (modelhost_core::Datatype::Fp32, elements.iter().flat_map(|x| x.to_le_bytes()).collect())
        }
        Datatype::Int64 => {
            let elements = tensor.as_slice::<i64>().unwrap();
            (modelhost_core::Datatype::Int64, elements.iter().flat_map(|x| x.to_le_bytes()).collect())
        }
        other => panic!("no network here takes {other}"),
    };
    modelhost_core::Tensor::new(datatype, shape, data.into()).unwrap()
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
            Datatype::Int64 => {
                assert_eq!(actual.as_slice::<i64>(), expected.as_slice::<i64>(), "{name}: {output}");
            }
            _ => {
                let (actual, expected) =
                    (actual.as_slice::<f32>().unwrap(), expected.as_slice::<f32>().unwrap());
                let close =
                    actual.iter().zip(expected).all(|(a, b)| (a - b).abs() <= TOLERANCE * b.abs().max(1.0));
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
        Some("INT64") => {
            Tensor::new(shape, data.iter().map(|x| x.as_i64().unwrap()).collect::<Vec<i64>>()).unwrap()
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
