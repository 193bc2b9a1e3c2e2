//! tract, loaded as modelhost's embedded engine loads it, but with the concrete shapes of the inputs.

use anyhow::{Context, Result, bail};
use std::sync::Arc;
use tract_onnx::prelude::{
    DatumType, Framework, InferenceFact, InferenceModelExt, IntoRunnable, TValue, TVec, Tensor,
    TypedRunnableModel,
};

use crate::Run;
use crate::case::{Array, Case, Elements};

pub fn load(onnx: &[u8], case: &Case) -> Result<Run> {
    // Converters declare shapes inside the network that are not true: without them it may still load.
    let plan = plan(onnx, case, false).or_else(|error| plan(onnx, case, true).map_err(|_| error))?;
    let inputs: Vec<Tensor> = case.inputs.iter().map(|(_, array)| tensor(array)).collect::<Result<_>>()?;
    Ok(Box::new(move || {
        let inputs: TVec<TValue> = inputs.iter().map(|input| input.clone().into()).collect();
        plan.run(inputs)?.iter().map(array).collect()
    }))
}

fn plan(onnx: &[u8], case: &Case, ignore_value_info: bool) -> Result<Arc<TypedRunnableModel>> {
    let parser = tract_onnx::onnx().with_ignore_value_info(ignore_value_info);
    let mut model = parser.model_for_read(&mut &*onnx)?;
    let order: Vec<String> = model.inputs.iter().map(|input| model.node(input.node).name.clone()).collect();
    for (index, name) in order.iter().enumerate() {
        let (_, array) =
            case.inputs.iter().find(|(input, _)| input == name).context("an input is missing")?;
        let datum_type = match array.elements {
            Elements::Fp32(_) => DatumType::F32,
            Elements::Int64(_) => DatumType::I64,
            Elements::Int32(_) => DatumType::I32,
        };
        model.set_input_fact(index, InferenceFact::dt_shape(datum_type, &array.shape))?;
    }
    Ok(model.into_optimized()?.into_runnable()?)
}

fn tensor(array: &Array) -> Result<Tensor> {
    match &array.elements {
        Elements::Fp32(elements) => Tensor::from_shape(&array.shape, elements),
        Elements::Int64(elements) => Tensor::from_shape(&array.shape, elements),
        Elements::Int32(elements) => Tensor::from_shape(&array.shape, elements),
    }
}

fn array(value: &TValue) -> Result<Array> {
    let shape = value.shape().to_vec();
    let elements = match value.datum_type() {
        DatumType::F32 => Elements::Fp32(value.to_plain_array_view::<f32>()?.iter().copied().collect()),
        DatumType::I32 => Elements::Int32(value.to_plain_array_view::<i32>()?.iter().copied().collect()),
        DatumType::I64 | DatumType::TDim => {
            let whole = value.cast_to::<i64>()?;
            Elements::Int64(whole.to_plain_array_view::<i64>()?.iter().copied().collect())
        }
        other => bail!("an output is {other:?}"),
    };
    Ok(Array { shape, elements })
}
