//! Operators of the default domain that tract does not have for FP64: Sigmoid and IsNaN.

use tract_onnx::model::ParsingContext;
use tract_onnx::pb::NodeProto;
use tract_onnx::prelude::{DatumType, TValue, TVec, TractResult, TypedModel};
use tract_onnx::tract_core::internal::{OutletId, bail, tvec};
use tract_onnx::tract_hir::infer::{
    InferenceResult, Solver, TensorProxy, check_input_arity, check_output_arity,
};
use tract_onnx::tract_hir::internal::Expansion;

use super::operator::{Built, Described, KeptAxes, Operator, wired};
use super::types::{OfTypes, built};
use super::values;

pub(super) fn sigmoid(context: &ParsingContext<'_>, node: &NodeProto) -> Built {
    built(context, node, Function::Sigmoid)
}

pub(super) fn is_nan(context: &ParsingContext<'_>, node: &NodeProto) -> Built {
    built(context, node, Function::IsNan)
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

impl OfTypes for Function {
    fn name(&self) -> &'static str {
        Function::name(*self)
    }

    fn types(&self) -> &'static [DatumType] {
        &[DatumType::F64]
    }

    fn rules<'r, 'p: 'r, 's: 'r>(
        &'s self,
        _of_tract: &'s dyn Expansion,
        solver: &mut Solver<'r>,
        inputs: &'p [TensorProxy],
        outputs: &'p [TensorProxy],
    ) -> InferenceResult {
        check_input_arity(inputs, 1)?;
        check_output_arity(outputs, 1)?;
        solver.equals(&outputs[0].shape, &inputs[0].shape)?;
        solver.given(&inputs[0].datum_type, move |solver, datum_type| {
            solver.equals(&outputs[0].datum_type, self.output(datum_type))
        })
    }

    fn wire(&self, prefix: &str, model: &mut TypedModel, inputs: &[OutletId]) -> TractResult<TVec<OutletId>> {
        wired(OfDoubles(*self), prefix, model, inputs)
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
