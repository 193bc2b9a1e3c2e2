//! Operators of the default domain that tract does not have for FP64: Sigmoid and IsNaN. For all other types they stay
//! tract's.

use tract_onnx::model::ParsingContext;
use tract_onnx::pb::NodeProto;
use tract_onnx::prelude::{DatumType, TValue, TVec, TractResult, TypedModel};
use tract_onnx::tract_core::internal::{OutletId, StaticName, bail, tvec};
use tract_onnx::tract_hir::infer::{
    InferenceResult, Solver, TensorProxy, check_input_arity, check_output_arity,
};
use tract_onnx::tract_hir::internal::{Expansion, expand};

use super::operator::{Built, Described, KeptAxes, Operator, of_tract, wired};
use super::values;

pub(super) fn sigmoid(context: &ParsingContext<'_>, node: &NodeProto) -> Built {
    Ok((expand(OfAny { function: Function::Sigmoid, of_tract: of_tract(context, node)? }), Vec::new()))
}

pub(super) fn is_nan(context: &ParsingContext<'_>, node: &NodeProto) -> Built {
    Ok((expand(OfAny { function: Function::IsNan, of_tract: of_tract(context, node)? }), Vec::new()))
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Function {
    Sigmoid,
    IsNan,
}

impl Function {
    fn name(self) -> &'static str {
        match self {
            Function::Sigmoid => "Sigmoid",
            Function::IsNan => "IsNaN",
        }
    }

    fn output(self, input: DatumType) -> DatumType {
        match self {
            Function::Sigmoid => input,
            Function::IsNan => DatumType::Bool,
        }
    }
}

#[derive(Clone, Debug)]
struct OfAny {
    function: Function,
    of_tract: Box<dyn Expansion>,
}

impl Expansion for OfAny {
    fn name(&self) -> StaticName {
        self.function.name().into()
    }

    fn rules<'r, 'p: 'r, 's: 'r>(
        &'s self,
        solver: &mut Solver<'r>,
        inputs: &'p [TensorProxy],
        outputs: &'p [TensorProxy],
    ) -> InferenceResult {
        check_input_arity(inputs, 1)?;
        check_output_arity(outputs, 1)?;
        solver.equals(&outputs[0].shape, &inputs[0].shape)?;
        solver.given(&inputs[0].datum_type, move |solver, datum_type| {
            solver.equals(&outputs[0].datum_type, self.function.output(datum_type))
        })
    }

    fn wire(&self, prefix: &str, model: &mut TypedModel, inputs: &[OutletId]) -> TractResult<TVec<OutletId>> {
        match model.outlet_fact(inputs[0])?.datum_type {
            DatumType::F64 => wired(OfDoubles(self.function), prefix, model, inputs),
            _ => self.of_tract.wire(prefix, model, inputs),
        }
    }
}

#[derive(Clone, Debug)]
struct OfDoubles(Function);

impl Operator for OfDoubles {
    fn name(&self) -> &'static str {
        self.0.name()
    }

    fn outputs(&self, inputs: &[Described]) -> TractResult<TVec<Described>> {
        let [input] = inputs else { bail!("{} takes one input", self.0.name()) };
        Ok(tvec!(Described { datum_type: self.0.output(input.datum_type), ..input.clone() }))
    }

    fn kept_axes(&self, _inputs: &[Described]) -> KeptAxes {
        KeptAxes::All
    }

    fn run(&self, inputs: &[TValue]) -> TractResult<TVec<TValue>> {
        let numbers = values::elements::<f64>(&inputs[0])?.iter();
        let shape = inputs[0].shape();
        Ok(tvec!(match self.0 {
            Function::Sigmoid =>
                values::tensor(shape, numbers.map(|value| 1.0 / (1.0 + (-value).exp())).collect())?,
            Function::IsNan => values::tensor(shape, numbers.map(|value| value.is_nan()).collect())?,
        }))
    }
}
