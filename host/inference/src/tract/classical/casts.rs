//! Cast from and to texts. All other casts stay tract's.

use tract_onnx::model::ParsingContext;
use tract_onnx::pb::NodeProto;
use tract_onnx::prelude::{Datum, DatumType, SpecialOps, TValue, TVec, TractResult, TypedModel};
use tract_onnx::tract_core::internal::{OutletId, StaticName, bail, format_err, tvec};
use tract_onnx::tract_core::ops::cast::cast as number_cast;
use tract_onnx::tract_hir::infer::{
    InferenceResult, Solver, TensorProxy, check_input_arity, check_output_arity,
};
use tract_onnx::tract_hir::internal::{Expansion, expand};

use super::operator::{Built, Described, KeptAxes, Operator, wired};
use super::values;

pub(super) fn cast(_context: &ParsingContext<'_>, node: &NodeProto) -> Built {
    let to = node.get_attr::<DatumType>("to")?;
    Ok((expand(Cast { to }), Vec::new()))
}

#[derive(Clone, Debug)]
struct Cast {
    to: DatumType,
}

impl Expansion for Cast {
    fn name(&self) -> StaticName {
        "Cast".into()
    }

    fn rules<'r, 'p: 'r, 's: 'r>(
        &'s self,
        solver: &mut Solver<'r>,
        inputs: &'p [TensorProxy],
        outputs: &'p [TensorProxy],
    ) -> InferenceResult {
        check_input_arity(inputs, 1)?;
        check_output_arity(outputs, 1)?;
        solver.given(&inputs[0].datum_type, move |solver, from| {
            solver.equals(&outputs[0].datum_type, self.result(from))
        })?;
        solver.equals(&outputs[0].rank, &inputs[0].rank)?;
        solver.equals(&outputs[0].shape, &inputs[0].shape)
    }

    fn wire(&self, prefix: &str, model: &mut TypedModel, inputs: &[OutletId]) -> TractResult<TVec<OutletId>> {
        let from = model.outlet_fact(inputs[0])?.datum_type;
        match (from, self.result(from)) {
            (from, to) if from == to => Ok(inputs.into()),
            (_, DatumType::String) => wired(ToText, prefix, model, inputs),
            (DatumType::String, to) => wired(OfText { to }, prefix, model, inputs),
            (_, to) => model.wire_node(prefix, number_cast(to), inputs),
        }
    }
}

impl Cast {
    /// tract computes with dimensions, which are expressions, where ONNX has INT64: those stay what they are. Numbers stay
    /// numbers, of which there may be one for each row.
    fn result(&self, from: DatumType) -> DatumType {
        if self.to == DatumType::I64 && from == DatumType::TDim { from } else { self.to }
    }
}

/// Numbers to texts.
#[derive(Clone, Debug)]
struct ToText;

impl Operator for ToText {
    fn name(&self) -> &'static str {
        "Cast"
    }

    fn outputs(&self, inputs: &[Described]) -> TractResult<TVec<Described>> {
        let [input] = inputs else { bail!("Cast takes one input") };
        Ok(tvec!(Described { datum_type: DatumType::String, shape: input.shape.clone() }))
    }

    fn kept_axes(&self, _inputs: &[Described]) -> KeptAxes {
        KeptAxes::All
    }

    fn run(&self, inputs: &[TValue]) -> TractResult<TVec<TValue>> {
        let input = &inputs[0];
        let texts = match input.datum_type() {
            DatumType::F32 => {
                values::elements::<f32>(input)?.iter().map(|value| of_float(f64::from(*value))).collect()
            }
            DatumType::F64 => values::elements::<f64>(input)?.iter().map(|value| of_float(*value)).collect(),
            DatumType::Bool => texts::<bool>(input, |value| u8::from(*value).to_string())?,
            DatumType::I64 => texts::<i64>(input, i64::to_string)?,
            DatumType::I32 => texts::<i32>(input, i32::to_string)?,
            DatumType::I16 => texts::<i16>(input, i16::to_string)?,
            DatumType::I8 => texts::<i8>(input, i8::to_string)?,
            DatumType::U64 => texts::<u64>(input, u64::to_string)?,
            DatumType::U32 => texts::<u32>(input, u32::to_string)?,
            DatumType::U16 => texts::<u16>(input, u16::to_string)?,
            DatumType::U8 => texts::<u8>(input, u8::to_string)?,
            other => bail!("Cast of {other:?} to text is not supported"),
        };
        Ok(tvec!(values::tensor(input.shape(), texts)?))
    }
}

fn texts<T: Datum>(input: &TValue, text: impl Fn(&T) -> String) -> TractResult<Vec<String>> {
    Ok(values::elements::<T>(input)?.iter().map(text).collect())
}

/// Eight digits in the shorter one of the usual and the scientific notation, as C's `%.8g` writes them.
fn of_float(value: f64) -> String {
    const DIGITS: i32 = 8;
    if value.is_nan() {
        return "NaN".into();
    }
    if value.is_infinite() {
        return if value > 0.0 { "INF" } else { "-INF" }.into();
    }
    let scientific = format!("{value:.*e}", DIGITS as usize - 1);
    let (digits, exponent) = scientific.split_once('e').unwrap_or((&scientific, "0"));
    let exponent: i32 = exponent.parse().unwrap_or(0);
    if !(-4..DIGITS).contains(&exponent) {
        let sign = if exponent < 0 { '-' } else { '+' };
        return format!("{}e{sign}{:02}", without_trailing_zeros(digits), exponent.abs());
    }
    // Not negative: the exponent is below the number of digits.
    let decimals = (DIGITS - 1 - exponent).unsigned_abs() as usize;
    without_trailing_zeros(&format!("{value:.decimals$}")).to_owned()
}

fn without_trailing_zeros(digits: &str) -> &str {
    if digits.contains('.') { digits.trim_end_matches('0').trim_end_matches('.') } else { digits }
}

/// Texts to numbers. A text that is not wholly a number is an error.
#[derive(Clone, Debug)]
struct OfText {
    to: DatumType,
}

impl Operator for OfText {
    fn name(&self) -> &'static str {
        "Cast"
    }

    fn outputs(&self, inputs: &[Described]) -> TractResult<TVec<Described>> {
        let [input] = inputs else { bail!("Cast takes one input") };
        if !values::NUMBERS.contains(&self.to) {
            bail!("Cast of texts to {:?} is not supported", self.to);
        }
        Ok(tvec!(Described { datum_type: self.to, shape: input.shape.clone() }))
    }

    fn kept_axes(&self, _inputs: &[Described]) -> KeptAxes {
        KeptAxes::All
    }

    fn run(&self, inputs: &[TValue]) -> TractResult<TVec<TValue>> {
        Ok(tvec!(match self.to {
            DatumType::F32 => parsed::<f32>(&inputs[0])?,
            DatumType::F64 => parsed::<f64>(&inputs[0])?,
            DatumType::I32 => parsed::<i32>(&inputs[0])?,
            _ => parsed::<i64>(&inputs[0])?,
        }))
    }
}

fn parsed<T: Datum + std::str::FromStr>(input: &TValue) -> TractResult<TValue> {
    let number = |(index, text): (usize, &String)| {
        let number = text.trim().parse::<T>().ok();
        number.ok_or_else(|| {
            format_err!("Cast: element {index} is no number: {:?}", text.chars().take(40).collect::<String>())
        })
    };
    let numbers: Vec<T> =
        values::elements::<String>(input)?.iter().enumerate().map(number).collect::<TractResult<_>>()?;
    values::tensor(input.shape(), numbers)
}

#[cfg(test)]
mod tests {
    use super::of_float;

    /// The answers are those of ONNX Runtime.
    #[test]
    fn floats_are_written_with_eight_digits() {
        let singles: [(f32, &str); 12] = [
            (0.1, "0.1"),
            (1.0, "1"),
            (-2.5, "-2.5"),
            (1e10, "1e+10"),
            (1e-5, "9.9999997e-06"),
            (0.0001, "9.9999997e-05"),
            (123_456.79, "123456.79"),
            (16_777_217.0, "16777216"),
            (1e8, "1e+08"),
            (123_456_790.0, "1.2345679e+08"),
            (f32::NEG_INFINITY, "-INF"),
            (-0.0, "-0"),
        ];
        for (value, text) in singles {
            assert_eq!(of_float(f64::from(value)), text);
        }
        for (value, text) in [(1.0 / 3.0, "0.33333333"), (1e20, "1e+20"), (1e-5, "1e-05"), (f64::NAN, "NaN")]
        {
            assert_eq!(of_float(value), text);
        }
    }
}
