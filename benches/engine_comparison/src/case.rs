//! What goes into a network and what should come out. Knows no engine.

use std::path::Path;

use anyhow::{Context, Result, bail, ensure};
use serde_json::Value;

/// Named tensors, in the order of the network.
pub struct Case {
    pub inputs: Vec<(String, Array)>,
    expected: Vec<(String, Array)>,
}

/// A tensor whose elements are kept as the widest type of their kind.
pub struct Array {
    pub shape: Vec<usize>,
    pub elements: Elements,
}

pub enum Elements {
    Fp32(Vec<f32>),
    Int64(Vec<i64>),
    Int32(Vec<i32>),
}

impl Case {
    pub fn read(path: &Path) -> Result<Case> {
        let text =
            std::fs::read_to_string(path).with_context(|| format!("cannot read {}", path.display()))?;
        let case: Value = serde_json::from_str(&text)?;
        Ok(Case { inputs: arrays(&case["inputs"])?, expected: arrays(&case["outputs"])? })
    }

    pub fn output_names(&self) -> impl Iterator<Item = &str> {
        self.expected.iter().map(|(name, _)| name.as_str())
    }

    /// The largest difference of an element, over the larger of 1 and the largest expected element of its tensor.
    pub fn difference(&self, outputs: &[Array]) -> Result<f64> {
        ensure!(outputs.len() == self.expected.len(), "{} outputs", outputs.len());
        let mut largest = 0.0_f64;
        for (output, (name, expected)) in outputs.iter().zip(&self.expected) {
            let (shape, wanted) = (&output.shape, &expected.shape);
            ensure!(shape == wanted, "output {name:?} has the shape {shape:?}, not {wanted:?}");
            let expected = expected.elements.to_f64();
            let scale = expected.iter().fold(1.0_f64, |scale, element| scale.max(element.abs()));
            for (element, expected) in output.elements.to_f64().iter().zip(&expected) {
                ensure!(
                    element.is_nan() == expected.is_nan(),
                    "output {name:?} holds {element}, not {expected}"
                );
                largest = largest.max((element - expected).abs() / scale);
            }
        }
        Ok(largest)
    }
}

impl Elements {
    fn to_f64(&self) -> Vec<f64> {
        match self {
            Elements::Fp32(elements) => elements.iter().map(|x| f64::from(*x)).collect(),
            Elements::Int64(elements) => elements.iter().map(|x| *x as f64).collect(),
            Elements::Int32(elements) => elements.iter().map(|x| f64::from(*x)).collect(),
        }
    }
}

fn arrays(named: &Value) -> Result<Vec<(String, Array)>> {
    let named = named.as_array().context("no array of tensors")?;
    named.iter().map(|one| Ok((one["name"].as_str().context("no name")?.to_owned(), array(one)?))).collect()
}

fn array(described: &Value) -> Result<Array> {
    let shape: Vec<usize> = serde_json::from_value(described["shape"].clone())?;
    let data = described["data"].clone();
    let elements = match described["datatype"].as_str() {
        Some("FP32") => Elements::Fp32(serde_json::from_value(data)?),
        Some("INT64") => Elements::Int64(serde_json::from_value(data)?),
        Some("INT32") => Elements::Int32(serde_json::from_value(data)?),
        other => bail!("elements of {other:?} are not compared here"),
    };
    Ok(Array { shape, elements })
}
