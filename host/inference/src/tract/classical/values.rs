//! What the operators want to know of their inputs: tables, element types, numbers as FP32.

use std::borrow::Cow;

use tract_onnx::prelude::{DatumType, TDim, TValue, Tensor, TractResult};
use tract_onnx::tract_core::internal::{bail, ensure};

use super::operator::Described;
pub(super) use crate::tract::elements::{elements, filled, tensor};

/// Rows and columns of an input. One dimension is one row, as ONNX Runtime has it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Table {
    pub(super) rows: usize,
    pub(super) columns: usize,
}

impl Table {
    pub(super) fn of(value: &TValue) -> TractResult<Table> {
        match *value.shape() {
            [columns] => Ok(Table { rows: 1, columns }),
            [rows, columns] => Ok(Table { rows, columns }),
            _ => bail!("expected an input of one or two dimensions"),
        }
    }
}

/// The number of rows of an input and the number of its columns, before it has elements.
pub(super) fn rows_and_columns(operator: &str, input: &Described) -> TractResult<(TDim, TDim)> {
    match &*input.shape {
        [columns] => Ok((1.into(), columns.clone())),
        [rows, columns] => Ok((rows.clone(), columns.clone())),
        shape => bail!("{operator} takes an input of one or two dimensions, not of {}", shape.len()),
    }
}

/// Elements of these types: an error of the operator where they are of another one.
pub(super) fn expect_type(operator: &str, input: &Described, accepted: &[DatumType]) -> TractResult<()> {
    ensure!(
        accepted.contains(&input.datum_type),
        "{operator} takes an input of {accepted:?}, not of {:?}",
        input.datum_type
    );
    Ok(())
}

/// The number types that the operators of ai.onnx.ml take.
pub(super) const NUMBERS: [DatumType; 4] = [DatumType::F32, DatumType::F64, DatumType::I64, DatumType::I32];

/// The elements as FP32, converted where they are of another type, as ONNX Runtime does.
pub(super) fn floats(value: &Tensor) -> TractResult<Cow<'_, [f32]>> {
    Ok(match value.datum_type() {
        DatumType::F32 => Cow::Borrowed(elements::<f32>(value)?),
        DatumType::F64 => elements::<f64>(value)?.iter().map(|value| *value as f32).collect(),
        DatumType::I64 => elements::<i64>(value)?.iter().map(|value| *value as f32).collect(),
        DatumType::I32 => elements::<i32>(value)?.iter().map(|value| *value as f32).collect(),
        other => bail!("expected numbers, not {other:?}"),
    })
}
