//! Operators that choose or join columns: ArrayFeatureExtractor and FeatureVectorizer.

use tract_onnx::model::ParsingContext;
use tract_onnx::pb::NodeProto;
use tract_onnx::prelude::{Datum, DatumType, TDim, TValue, TVec, TractResult};
use tract_onnx::tract_core::internal::{bail, ensure, format_err, tvec};

use super::attributes;
use super::operator::{Built, Described, KeptAxes, Operator, built};
use super::values::{self, NUMBERS, Table, expect_type, rows_and_columns};

pub(super) fn array_feature_extractor(_context: &ParsingContext<'_>, node: &NodeProto) -> Built {
    built(node, ArrayFeatureExtractor)
}

/// Chooses elements along the last axis.
#[derive(Clone, Debug)]
struct ArrayFeatureExtractor;

impl Operator for ArrayFeatureExtractor {
    fn name(&self) -> &'static str {
        "ArrayFeatureExtractor"
    }

    fn outputs(&self, inputs: &[Described]) -> TractResult<TVec<Described>> {
        let [data, indices] = inputs else { bail!("ArrayFeatureExtractor takes two inputs") };
        let [f32, f64, i64, i32] = NUMBERS;
        expect_type("ArrayFeatureExtractor", data, &[f32, f64, i64, i32, DatumType::String])?;
        expect_type("ArrayFeatureExtractor", indices, &[DatumType::I64])?;
        let count: TDim = indices.shape.iter().product();
        let shape: TVec<TDim> = match &*data.shape {
            [] => bail!("ArrayFeatureExtractor takes an input of one dimension or more"),
            [_] => tvec!(1.into(), count),
            [outer @ .., _] => outer.iter().cloned().chain([count]).collect(),
        };
        Ok(tvec!(Described { datum_type: data.datum_type, shape }))
    }

    fn kept_axes(&self, inputs: &[Described]) -> KeptAxes {
        match (inputs[0].shape.len(), inputs[1].shape.len()) {
            (1, 1) => KeptAxes::SecondInputIsLast,
            (1, _) => KeptAxes::None,
            (rank, _) => KeptAxes::Leading(rank - 1),
        }
    }

    fn run(&self, inputs: &[TValue]) -> TractResult<TVec<TValue>> {
        let (data, indices) = (&inputs[0], &inputs[1]);
        let width = data.shape().last().copied().unwrap_or(0);
        let places = values::elements::<i64>(indices)?.iter().map(|index| {
            let place = usize::try_from(*index).ok().filter(|place| *place < width);
            place.ok_or_else(|| format_err!("ArrayFeatureExtractor: index {index} is not among {width} columns"))
        });
        let places: Vec<usize> = places.collect::<TractResult<_>>()?;
        let mut shape: TVec<usize> = data.shape().into();
        if shape.len() == 1 {
            shape.insert(0, 1);
        }
        if let Some(last) = shape.last_mut() {
            *last = places.len();
        }
        let output = match data.datum_type() {
            DatumType::F32 => chosen::<f32>(data, width, &places, &shape),
            DatumType::F64 => chosen::<f64>(data, width, &places, &shape),
            DatumType::I64 => chosen::<i64>(data, width, &places, &shape),
            DatumType::I32 => chosen::<i32>(data, width, &places, &shape),
            _ => chosen::<String>(data, width, &places, &shape),
        };
        Ok(tvec!(output?))
    }
}

fn chosen<T: Datum + Clone>(data: &TValue, width: usize, places: &[usize], shape: &[usize]) -> TractResult<TValue> {
    let mut output = Vec::with_capacity(shape.iter().product());
    for row in values::elements::<T>(data)?.chunks_exact(width.max(1)) {
        output.extend(places.iter().map(|place| row[*place].clone()));
    }
    values::tensor(shape, output)
}

pub(super) fn feature_vectorizer(_context: &ParsingContext<'_>, node: &NodeProto) -> Built {
    let widths = attributes::integers(node, "inputdimensions")?;
    let widths: Option<Vec<usize>> = widths.iter().map(|width| usize::try_from(*width).ok()).collect();
    let Some(widths) = widths else { return node.bail_attr("inputdimensions", "expected no negative numbers") };
    node.expect_attr("inputdimensions", widths.len() == node.input.len(), "one number for each input")?;
    built(node, FeatureVectorizer { widths })
}

/// Joins tables side by side, as FP32.
#[derive(Clone, Debug)]
struct FeatureVectorizer {
    widths: Vec<usize>,
}

impl Operator for FeatureVectorizer {
    fn name(&self) -> &'static str {
        "FeatureVectorizer"
    }

    fn outputs(&self, inputs: &[Described]) -> TractResult<TVec<Described>> {
        let [first, ..] = inputs else { bail!("FeatureVectorizer takes at least one input") };
        let (rows, _) = rows_and_columns("FeatureVectorizer", first)?;
        for (input, width) in inputs.iter().zip(&self.widths) {
            expect_type("FeatureVectorizer", input, &NUMBERS)?;
            let (other_rows, columns) = rows_and_columns("FeatureVectorizer", input)?;
            ensure!(input.shape.len() == 2, "FeatureVectorizer takes inputs of two dimensions");
            ensure!(other_rows == rows, "FeatureVectorizer takes inputs of as many rows each");
            ensure!(columns == TDim::from(*width), "FeatureVectorizer expects {width} columns, not {columns}");
        }
        let columns: usize = self.widths.iter().sum();
        Ok(tvec!(Described::new(DatumType::F32, [rows, TDim::from(columns)])))
    }

    fn kept_axes(&self, _inputs: &[Described]) -> KeptAxes {
        KeptAxes::First
    }

    fn run(&self, inputs: &[TValue]) -> TractResult<TVec<TValue>> {
        let rows = Table::of(&inputs[0])?.rows;
        let parts: Vec<_> = inputs.iter().map(|input| values::floats(input)).collect::<TractResult<_>>()?;
        let columns: usize = self.widths.iter().sum();
        let mut output = Vec::with_capacity(rows * columns);
        for row in 0..rows {
            for (part, width) in parts.iter().zip(&self.widths) {
                let part = part.get(row * width..(row + 1) * width);
                output.extend_from_slice(part.ok_or_else(|| format_err!("FeatureVectorizer: inputs of unlike shape"))?);
            }
        }
        Ok(tvec!(values::tensor(&[rows, columns], output)?))
    }
}
