//! Operators that change the numbers of a table where they stand: Scaler, Normalizer, Imputer and Binarizer.

use tract_onnx::model::ParsingContext;
use tract_onnx::pb::NodeProto;
use tract_onnx::prelude::{Datum, DatumType, TValue, TVec, TractResult};
use tract_onnx::tract_core::internal::{bail, ensure, tvec};

use super::attributes::{self, expect_length};
use super::operator::{Built, Described, KeptAxes, Operator, built};
use super::values::{self, NUMBERS, Table, expect_type, rows_and_columns};

/// One value for each column, or one for all.
fn check_columns(operator: &str, input: &Described, values: usize) -> TractResult<()> {
    let (_, columns) = rows_and_columns(operator, input)?;
    let fits = values == 1 || columns.as_i64().is_none_or(|columns| columns == values as i64);
    ensure!(fits, "{operator} has values for {values} columns, but its input has {columns}");
    Ok(())
}

fn one(inputs: &[Described], operator: &str) -> TractResult<Described> {
    match inputs {
        [input] => Ok(input.clone()),
        _ => bail!("{operator} takes one input"),
    }
}

pub(super) fn scaler(_context: &ParsingContext<'_>, node: &NodeProto) -> Built {
    let offset = attributes::floats(node, "offset")?.to_vec();
    let scale = attributes::floats(node, "scale")?.to_vec();
    node.expect_attr("scale", !scale.is_empty(), "at least one number")?;
    expect_length(node, "offset", offset.len(), scale.len())?;
    built(node, Scaler { offset, scale })
}

#[derive(Clone, Debug)]
struct Scaler {
    offset: Vec<f32>,
    scale: Vec<f32>,
}

impl Operator for Scaler {
    fn name(&self) -> &'static str {
        "Scaler"
    }

    fn outputs(&self, inputs: &[Described]) -> TractResult<TVec<Described>> {
        let input = one(inputs, "Scaler")?;
        expect_type("Scaler", &input, &NUMBERS)?;
        check_columns("Scaler", &input, self.scale.len())?;
        Ok(tvec!(Described { datum_type: DatumType::F32, ..input }))
    }

    fn kept_axes(&self, inputs: &[Described]) -> KeptAxes {
        KeptAxes::rows(&inputs[0])
    }

    fn run(&self, inputs: &[TValue]) -> TractResult<TVec<TValue>> {
        let input = &inputs[0];
        let columns = Table::of(input)?.columns;
        let output = if input.datum_type() == DatumType::F64 {
            let numbers = values::elements::<f64>(input)?;
            let scaled = |value: f64, offset: f32, scale: f32| ((value - f64::from(offset)) * f64::from(scale)) as f32;
            self.scaled(numbers, columns, scaled)?
        } else {
            self.scaled(&values::floats(input)?, columns, |value, offset, scale| (value - offset) * scale)?
        };
        Ok(tvec!(values::tensor(input.shape(), output)?))
    }
}

impl Scaler {
    fn scaled<T: Copy>(&self, numbers: &[T], columns: usize, scaled: impl Fn(T, f32, f32) -> f32) -> TractResult<Vec<f32>> {
        if let ([offset], [scale]) = (&*self.offset, &*self.scale) {
            return Ok(numbers.iter().map(|value| scaled(*value, *offset, *scale)).collect());
        }
        ensure!(columns == self.scale.len(), "Scaler has values for {} columns, not for {columns}", self.scale.len());
        let mut output = Vec::with_capacity(numbers.len());
        for row in numbers.chunks_exact(columns) {
            let values = row.iter().zip(self.offset.iter().zip(&self.scale));
            output.extend(values.map(|(value, (offset, scale))| scaled(*value, *offset, *scale)));
        }
        Ok(output)
    }
}

pub(super) fn normalizer(_context: &ParsingContext<'_>, node: &NodeProto) -> Built {
    let norm = match attributes::text(node, "norm", "MAX")?.as_str() {
        "MAX" => Norm::Max,
        "L1" => Norm::L1,
        "L2" => Norm::L2,
        _ => return node.bail_attr("norm", "expected MAX, L1 or L2"),
    };
    built(node, Normalizer(norm))
}

#[derive(Clone, Copy, Debug)]
enum Norm {
    Max,
    L1,
    L2,
}

#[derive(Clone, Debug)]
struct Normalizer(Norm);

impl Operator for Normalizer {
    fn name(&self) -> &'static str {
        "Normalizer"
    }

    fn outputs(&self, inputs: &[Described]) -> TractResult<TVec<Described>> {
        let input = one(inputs, "Normalizer")?;
        expect_type("Normalizer", &input, &NUMBERS)?;
        rows_and_columns("Normalizer", &input)?;
        Ok(tvec!(Described { datum_type: DatumType::F32, ..input }))
    }

    fn kept_axes(&self, inputs: &[Described]) -> KeptAxes {
        KeptAxes::rows(&inputs[0])
    }

    fn run(&self, inputs: &[TValue]) -> TractResult<TVec<TValue>> {
        let input = &inputs[0];
        let columns = Table::of(input)?.columns;
        let mut output = values::floats(input)?.into_owned();
        for row in output.chunks_exact_mut(columns.max(1)) {
            self.0.normalise(row);
        }
        Ok(tvec!(values::tensor(input.shape(), output)?))
    }
}

impl Norm {
    /// A row whose norm is zero stays as it is.
    fn normalise(self, row: &mut [f32]) {
        match self {
            Norm::Max => divide(row, row.iter().copied().fold(f32::MIN, f32::max)),
            Norm::L1 => divide(row, row.iter().map(|value| value.abs()).sum()),
            Norm::L2 => {
                let sum: f32 = row.iter().map(|value| value * value).sum();
                if sum != 0.0 {
                    row.iter_mut().for_each(|value| *value = (*value * *value / sum).sqrt().copysign(*value));
                }
            }
        }
    }
}

fn divide(row: &mut [f32], norm: f32) {
    if norm != 0.0 {
        row.iter_mut().for_each(|value| *value /= norm);
    }
}

pub(super) fn imputer(_context: &ParsingContext<'_>, node: &NodeProto) -> Built {
    let floats = attributes::floats(node, "imputed_value_floats")?.to_vec();
    let integers = attributes::integers(node, "imputed_value_int64s")?.to_vec();
    node.expect_attr("imputed_value_floats", floats.is_empty() != integers.is_empty(), || {
        "values either here or in 'imputed_value_int64s'".to_owned()
    })?;
    if floats.is_empty() {
        let replaced = attributes::integer(node, "replaced_value_int64", 0)?;
        return built(node, Imputer { replaced, imputed: integers });
    }
    let replaced = node.get_attr_opt::<f32>("replaced_value_float")?.unwrap_or(0.0);
    built(node, Imputer { replaced, imputed: floats })
}

#[derive(Clone, Debug)]
struct Imputer<T> {
    replaced: T,
    imputed: Vec<T>,
}

impl<T: Datum + Copy + PartialEq> Operator for Imputer<T> {
    fn name(&self) -> &'static str {
        "Imputer"
    }

    fn outputs(&self, inputs: &[Described]) -> TractResult<TVec<Described>> {
        let input = one(inputs, "Imputer")?;
        expect_type("Imputer", &input, &[T::datum_type()])?;
        check_columns("Imputer", &input, self.imputed.len())?;
        Ok(tvec!(input))
    }

    fn kept_axes(&self, inputs: &[Described]) -> KeptAxes {
        KeptAxes::rows(&inputs[0])
    }

    fn run(&self, inputs: &[TValue]) -> TractResult<TVec<TValue>> {
        let columns = Table::of(&inputs[0])?.columns;
        let input = values::elements::<T>(&inputs[0])?;
        // Only NaN differs from itself.
        #[allow(clippy::eq_op, reason = "the test for NaN of a type that may have it")]
        let is_nan = |value: &T| value != value;
        let is_replaced = |value: &T| *value == self.replaced || (is_nan(value) && is_nan(&self.replaced));
        let imputed = |column: usize| self.imputed[if self.imputed.len() == columns { column } else { 0 }];
        let mut output = Vec::with_capacity(input.len());
        for row in input.chunks_exact(columns.max(1)) {
            let values = row.iter().enumerate();
            output.extend(values.map(|(column, value)| if is_replaced(value) { imputed(column) } else { *value }));
        }
        Ok(tvec!(values::tensor(inputs[0].shape(), output)?))
    }
}

pub(super) fn binarizer(_context: &ParsingContext<'_>, node: &NodeProto) -> Built {
    built(node, Binarizer { threshold: node.get_attr_opt::<f32>("threshold")?.unwrap_or(0.0) })
}

#[derive(Clone, Debug)]
struct Binarizer {
    threshold: f32,
}

impl Operator for Binarizer {
    fn name(&self) -> &'static str {
        "Binarizer"
    }

    fn outputs(&self, inputs: &[Described]) -> TractResult<TVec<Described>> {
        let input = one(inputs, "Binarizer")?;
        expect_type("Binarizer", &input, &[DatumType::F32])?;
        Ok(tvec!(input))
    }

    fn kept_axes(&self, _inputs: &[Described]) -> KeptAxes {
        KeptAxes::All
    }

    fn run(&self, inputs: &[TValue]) -> TractResult<TVec<TValue>> {
        let input = values::elements::<f32>(&inputs[0])?;
        let output = input.iter().map(|value| f32::from(u8::from(*value > self.threshold))).collect();
        Ok(tvec!(values::tensor(inputs[0].shape(), output)?))
    }
}
