//! Where: one of two values for each element.

use std::sync::Arc;

use tract_onnx::prelude::{Datum, DatumType, TValue, TVec, TractResult, TypedNode};
use tract_onnx::tract_core::internal::tvec;
use tract_onnx::tract_core::ops::logic::Iff;

use super::Kernel;
use crate::tract::elements::{elements, tensor};
use crate::tract::numeric::broadcast::Broadcast;

pub(super) fn kernel(node: &TypedNode) -> Option<Arc<dyn Kernel>> {
    node.op_is::<Iff>().then(|| Choice.shared())
}

#[derive(Debug)]
struct Choice;

impl Kernel for Choice {
    fn run(&self, inputs: &[TValue]) -> TractResult<Option<TVec<TValue>>> {
        let [condition, yes, no] = inputs else { return Ok(None) };
        if yes.datum_type() != no.datum_type() || condition.datum_type() != DatumType::Bool {
            return Ok(None);
        }
        let shapes = [condition.shape(), yes.shape(), no.shape()];
        let Some(broadcast) = Broadcast::new(shapes) else { return Ok(None) };
        let output = match yes.datum_type() {
            DatumType::F32 => chosen::<f32>(&broadcast, inputs)?,
            DatumType::F64 => chosen::<f64>(&broadcast, inputs)?,
            DatumType::I64 => chosen::<i64>(&broadcast, inputs)?,
            DatumType::I32 => chosen::<i32>(&broadcast, inputs)?,
            DatumType::String => chosen::<String>(&broadcast, inputs)?,
            _ => return Ok(None),
        };
        Ok(Some(tvec!(output)))
    }
}

fn chosen<T: Datum + Clone>(broadcast: &Broadcast<3>, inputs: &[TValue]) -> TractResult<TValue> {
    let condition = elements::<bool>(&inputs[0])?;
    let (yes, no) = (elements::<T>(&inputs[1])?, elements::<T>(&inputs[2])?);
    let mut output = Vec::with_capacity(broadcast.shape().iter().product());
    broadcast.for_each(|[is_yes, yes_at, no_at]| {
        output.push(if condition[is_yes] { yes[yes_at].clone() } else { no[no_at].clone() });
    });
    tensor(broadcast.shape(), output)
}
