//! Scan as exports of nearest neighbours and of kernels have it: for each vector of a table, its distance from every row of
//! the input. Such a loop runs as one operator. Every other Scan stays tract's.

use std::collections::HashMap;

use tract_onnx::model::ParsingContext;
use tract_onnx::pb::{GraphProto, NodeProto};
use tract_onnx::prelude::tract_num_traits::Float;
use tract_onnx::prelude::{Datum, DatumType, TValue, TVec, TractResult};
use tract_onnx::tract_core::internal::{bail, ensure, tvec};

use super::attributes::{integer, integers};
use super::operator::{Built, Described, KeptAxes, Operator, built, built_by_tract};
use super::values::{self, expect_type};
use crate::tract::numeric::distances::{Distances, Measure};
use crate::tract::numeric::widest::widest;

pub(super) fn scan(context: &ParsingContext<'_>, node: &NodeProto) -> Built {
    let body = node.get_attr_opt::<&GraphProto>("body")?;
    match body.and_then(|body| measure(context, body)) {
        Some(measure) if node.input.len() == 2 => built(node, DistanceLoop { measure }),
        _ => built_by_tract(context, node),
    }
}

/// What the body of a loop computes, if it is a distance: the sum over the columns of what becomes of the difference between
/// its first input, which it hands on as it is, and its second one.
fn measure(context: &ParsingContext<'_>, body: &GraphProto) -> Option<Measure> {
    let makers: HashMap<&str, &NodeProto> = body
        .node
        .iter()
        .flat_map(|node| node.output.iter().map(move |output| (output.as_str(), node)))
        .collect();
    let made_by =
        |name: &str, operator: &str| makers.get(name).copied().filter(|node| node.op_type == operator);
    // The name of what an Identity hands on.
    let origin = |name: &str| -> String {
        let mut name = name;
        while let Some(identity) = made_by(name, "Identity") {
            let [input] = &*identity.input else { break };
            name = input;
        }
        name.to_owned()
    };
    let ([state, element], [state_after, distance]) = (&*body.input, &*body.output) else { return None };
    if origin(&state_after.name) != state.name {
        return None;
    }
    let distance = origin(&distance.name);
    let (reduction, measure) = match made_by(&distance, "ReduceSumSquare") {
        Some(reduction) => (reduction, Measure::Square),
        None => (made_by(&distance, "ReduceSum")?, Measure::Absolute),
    };
    if !is_over_columns(context, body, reduction) {
        return None;
    }
    let mut difference = origin(reduction.input.first()?);
    if measure == Measure::Absolute {
        difference = origin(made_by(&difference, "Abs")?.input.first()?);
    }
    let [a, b] = &*made_by(&difference, "Sub")?.input else { return None };
    let (a, b) = (origin(a), origin(b));
    let is_difference = (a == state.name && b == element.name) || (a == element.name && b == state.name);
    is_difference.then_some(measure)
}

/// Whether a reduction of a table adds up each row, and leaves one dimension.
fn is_over_columns(context: &ParsingContext<'_>, body: &GraphProto, reduction: &NodeProto) -> bool {
    let axes = match reduction.input.get(1) {
        None => integers(reduction, "axes").map(<[i64]>::to_vec).unwrap_or_default(),
        Some(name) => {
            let constant = body.initializer.iter().find(|tensor| tensor.name == *name);
            let constant = constant.and_then(|tensor| context.load_tensor(tensor).ok());
            let axes = constant.and_then(|tensor| values::elements::<i64>(&tensor).ok().map(<[i64]>::to_vec));
            axes.unwrap_or_default()
        }
    };
    matches!(*axes, [1 | -1]) && integer(reduction, "keepdims", 1).is_ok_and(|keeps| keeps == 0)
}

#[derive(Clone, Debug)]
struct DistanceLoop {
    measure: Measure,
}

impl Operator for DistanceLoop {
    fn name(&self) -> &'static str {
        "Scan"
    }

    fn output_count(&self) -> usize {
        2
    }

    fn outputs(&self, inputs: &[Described]) -> TractResult<TVec<Described>> {
        let [rows, vectors] = inputs else { bail!("Scan over distances takes two inputs") };
        expect_type("Scan over distances", rows, &[DatumType::F32, DatumType::F64])?;
        expect_type("Scan over distances", vectors, &[rows.datum_type])?;
        let ([count, columns], [vectors, other]) = (&*rows.shape, &*vectors.shape) else {
            bail!("Scan over distances takes two tables")
        };
        let differ = columns.as_i64().zip(other.as_i64()).is_some_and(|(columns, other)| columns != other);
        ensure!(!differ, "Scan over distances takes tables of as many columns, not of {columns} and {other}");
        Ok(tvec!(rows.clone(), Described::new(rows.datum_type, [vectors.clone(), count.clone()])))
    }

    fn kept_axes(&self, _inputs: &[Described]) -> KeptAxes {
        KeptAxes::FirstOfBothInSecondOutput
    }

    fn run(&self, inputs: &[TValue]) -> TractResult<TVec<TValue>> {
        let found = match inputs[0].datum_type() {
            DatumType::F32 => self.distances::<f32>(inputs)?,
            _ => self.distances::<f64>(inputs)?,
        };
        Ok(tvec!(inputs[0].clone(), found))
    }
}

impl DistanceLoop {
    fn distances<T: Datum + Float>(&self, inputs: &[TValue]) -> TractResult<TValue> {
        let (rows, vectors) = (values::elements::<T>(&inputs[0])?, values::elements::<T>(&inputs[1])?);
        let ([count, columns], [vector_count, other]) = (inputs[0].shape(), inputs[1].shape()) else {
            bail!("Scan over distances takes two tables")
        };
        ensure!(
            columns == other,
            "Scan over distances: {columns} columns in one table, {other} in the other"
        );
        values::filled(&[*vector_count, *count], |output| {
            if *columns > 0 && !output.is_empty() {
                let (columns, measure) = (*columns, self.measure);
                widest(Distances { rows, vectors, columns, measure, output });
            }
        })
    }
}
