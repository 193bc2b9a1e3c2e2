//! Arithmetic, comparisons and logic of two tensors of which one is repeated for the rows or columns of the other.

use std::borrow::Cow;
use std::sync::Arc;

use tract_onnx::prelude::{Datum, DatumType, TValue, TVec, TractResult, TypedNode};
use tract_onnx::tract_core::internal::tvec;
use tract_onnx::tract_core::ops::binary::{BinMiniOp, TypedBinOp};
use tract_onnx::tract_core::ops::logic::{And, CompEq, CompGT, CompGTE, CompLT, CompLTE, CompNE, Or};
use tract_onnx::tract_core::ops::math::{Add, Div, Max, Min, Mul, Sub, SubF};

use super::Kernel;
use crate::tract::elements::{elements, filled};
use crate::tract::numeric::broadcast::Broadcast;
use crate::tract::numeric::widest::{Loop, widest};

/// The operator of a node, if it is one of those here.
pub(super) fn kernel(node: &TypedNode) -> Option<Arc<dyn Kernel>> {
    let TypedBinOp(operator, datum_type) = node.op_as::<TypedBinOp>()?;
    let operator: &dyn BinMiniOp = &**operator;
    if datum_type.is_some() {
        return None;
    }
    let is = [
        (operator.is::<Add>(), Arithmetic::Add.shared()),
        (operator.is::<Sub>(), Arithmetic::Sub.shared()),
        (operator.is::<SubF>(), Arithmetic::SubFrom.shared()),
        (operator.is::<Mul>(), Arithmetic::Mul.shared()),
        (operator.is::<Div>(), Arithmetic::Div.shared()),
        (operator.is::<Min>(), Arithmetic::Min.shared()),
        (operator.is::<Max>(), Arithmetic::Max.shared()),
        (operator.is::<CompEq>(), Comparison::Equal.shared()),
        (operator.is::<CompNE>(), Comparison::NotEqual.shared()),
        (operator.is::<CompLT>(), Comparison::Less.shared()),
        (operator.is::<CompLTE>(), Comparison::LessOrEqual.shared()),
        (operator.is::<CompGT>(), Comparison::Greater.shared()),
        (operator.is::<CompGTE>(), Comparison::GreaterOrEqual.shared()),
        (operator.is::<And>(), Logic::And.shared()),
        (operator.is::<Or>(), Logic::Or.shared()),
    ];
    is.into_iter().find_map(|(is_it, kernel)| is_it.then_some(kernel))
}

/// What two tensors of the same type are made into, if their shapes fit.
fn zipped<T: Datum + Copy, R: Datum + Copy>(
    inputs: &[TValue],
    of: impl Fn(T, T) -> R,
) -> TractResult<Option<TVec<TValue>>> {
    let [a, b] = inputs else { return Ok(None) };
    let Some(broadcast) = Broadcast::new([a.shape(), b.shape()]) else { return Ok(None) };
    let (a, b) = (elements::<T>(a)?, elements::<T>(b)?);
    let output = filled::<R>(broadcast.shape(), |output| {
        widest(Zip { broadcast: &broadcast, a, b, output, of });
    })?;
    Ok(Some(tvec!(output)))
}

struct Zip<'a, T, R, F> {
    broadcast: &'a Broadcast<2>,
    a: &'a [T],
    b: &'a [T],
    output: &'a mut [R],
    of: F,
}

impl<T: Copy, R, F: Fn(T, T) -> R> Loop for Zip<'_, T, R, F> {
    type Output = ();

    #[inline(always)]
    fn run<const FUSED: bool>(self) {
        self.broadcast.zip(self.a, self.b, self.output, self.of);
    }
}

/// The type of all inputs, if they have the same.
fn common_type(inputs: &[TValue]) -> Option<DatumType> {
    let [a, b] = inputs else { return None };
    (a.datum_type() == b.datum_type()).then(|| a.datum_type())
}

const FLOATS: [DatumType; 2] = [DatumType::F32, DatumType::F64];

#[derive(Clone, Copy, Debug)]
enum Arithmetic {
    Add,
    Sub,
    SubFrom,
    Mul,
    Div,
    Min,
    Max,
}

impl Kernel for Arithmetic {
    fn run(&self, inputs: &[TValue]) -> TractResult<Option<TVec<TValue>>> {
        match common_type(inputs) {
            // tract makes an alpha of Gemm FP32, whatever it multiplies, and cannot run what becomes of that.
            None if inputs.iter().all(|input| FLOATS.contains(&input.datum_type())) => {
                let doubles =
                    inputs.iter().map(|input| input.cast_to_dt(DatumType::F64).map(Cow::into_owned));
                let doubles: TVec<TValue> =
                    doubles.map(|input| input.map(TValue::from)).collect::<TractResult<_>>()?;
                self.of_floats::<f64>(&doubles)
            }
            Some(DatumType::F32) => self.of_floats::<f32>(inputs),
            Some(DatumType::F64) => self.of_floats::<f64>(inputs),
            Some(DatumType::I64) => match self {
                Arithmetic::Add => zipped(inputs, i64::wrapping_add),
                Arithmetic::Sub => zipped(inputs, i64::wrapping_sub),
                Arithmetic::Mul => zipped(inputs, i64::wrapping_mul),
                _ => Ok(None),
            },
            _ => Ok(None),
        }
    }
}

impl Arithmetic {
    fn of_floats<T: Datum + Copy + tract_onnx::prelude::tract_num_traits::Float>(
        self,
        inputs: &[TValue],
    ) -> TractResult<Option<TVec<TValue>>> {
        match self {
            Arithmetic::Add => zipped(inputs, |a: T, b: T| a + b),
            Arithmetic::Sub => zipped(inputs, |a: T, b: T| a - b),
            Arithmetic::SubFrom => zipped(inputs, |a: T, b: T| b - a),
            Arithmetic::Mul => zipped(inputs, |a: T, b: T| a * b),
            Arithmetic::Div => zipped(inputs, |a: T, b: T| a / b),
            Arithmetic::Min => zipped(inputs, T::min),
            Arithmetic::Max => zipped(inputs, T::max),
        }
    }
}

#[derive(Clone, Copy, Debug)]
enum Comparison {
    Equal,
    NotEqual,
    Less,
    LessOrEqual,
    Greater,
    GreaterOrEqual,
}

impl Kernel for Comparison {
    fn run(&self, inputs: &[TValue]) -> TractResult<Option<TVec<TValue>>> {
        match common_type(inputs) {
            Some(DatumType::F32) => self.of::<f32>(inputs),
            Some(DatumType::F64) => self.of::<f64>(inputs),
            Some(DatumType::I64) => self.of::<i64>(inputs),
            Some(DatumType::I32) => self.of::<i32>(inputs),
            _ => Ok(None),
        }
    }
}

impl Comparison {
    fn of<T: Datum + Copy + PartialOrd>(self, inputs: &[TValue]) -> TractResult<Option<TVec<TValue>>> {
        match self {
            Comparison::Equal => zipped(inputs, |a: T, b: T| a == b),
            Comparison::NotEqual => zipped(inputs, |a: T, b: T| a != b),
            Comparison::Less => zipped(inputs, |a: T, b: T| a < b),
            Comparison::LessOrEqual => zipped(inputs, |a: T, b: T| a <= b),
            Comparison::Greater => zipped(inputs, |a: T, b: T| a > b),
            Comparison::GreaterOrEqual => zipped(inputs, |a: T, b: T| a >= b),
        }
    }
}

#[derive(Clone, Copy, Debug)]
enum Logic {
    And,
    Or,
}

impl Kernel for Logic {
    fn run(&self, inputs: &[TValue]) -> TractResult<Option<TVec<TValue>>> {
        if common_type(inputs) != Some(DatumType::Bool) {
            return Ok(None);
        }
        match self {
            Logic::And => zipped(inputs, |a: bool, b: bool| a & b),
            Logic::Or => zipped(inputs, |a: bool, b: bool| a | b),
        }
    }
}
