//! rten with the settings that are best for it: all operators, weights packed when the network is loaded.

use std::sync::Arc;

use anyhow::{Context, Result, bail};
use rten::{ModelOptions, NodeId, RunOptions, ThreadPool, Value, ValueOrView};
use rten_tensor::prelude::*;

use crate::Run;
use crate::case::{Array, Case, Elements};

pub fn load(onnx: &[u8], case: &Case) -> Result<Run> {
    let model = ModelOptions::with_all_ops().prepack_weights(true).load(onnx.to_vec())?;
    let node = |name: &str| model.node_id(name).with_context(|| format!("no node {name:?}"));
    let mut inputs: Vec<(NodeId, Value)> = Vec::new();
    for (name, array) in &case.inputs {
        inputs.push((node(name)?, value(array)?));
    }
    let outputs: Vec<NodeId> = case.output_names().map(node).collect::<Result<_>>()?;
    let options = RunOptions::default().with_thread_pool(Some(Arc::new(ThreadPool::with_num_threads(1))));
    Ok(Box::new(move || {
        let inputs = inputs.iter().map(|(node, value)| (*node, ValueOrView::from(value))).collect();
        model.run(inputs, &outputs, Some(options.clone()))?.into_iter().map(array).collect()
    }))
}

/// rten has no 64-bit integers: it reads them as 32-bit ones.
fn value(array: &Array) -> Result<Value> {
    let shape = &array.shape;
    Ok(match &array.elements {
        Elements::Fp32(elements) => Value::from_shape(shape, elements.clone())?,
        Elements::Int32(elements) => Value::from_shape(shape, elements.clone())?,
        Elements::Int64(elements) => {
            let narrow: Result<Vec<i32>, _> = elements.iter().map(|x| i32::try_from(*x)).collect();
            Value::from_shape(shape, narrow?)?
        }
    })
}

fn array(value: Value) -> Result<Array> {
    let shape = value.shape().to_vec();
    let elements = match value {
        Value::FloatTensor(tensor) => Elements::Fp32(tensor.to_vec()),
        Value::Int32Tensor(tensor) => Elements::Int32(tensor.to_vec()),
        _ => bail!("an output is neither FP32 nor INT32"),
    };
    Ok(Array { shape, elements })
}
