//! Operators that are this engine's own for some element types. For all others they stay tract's.

use std::fmt::Debug;
use std::sync::Arc;

use tract_onnx::model::ParsingContext;
use tract_onnx::pb::NodeProto;
use tract_onnx::prelude::{DatumType, TVec, TractResult, TypedModel};
use tract_onnx::tract_core::internal::{OutletId, StaticName};
use tract_onnx::tract_hir::infer::{InferenceResult, Solver, TensorProxy};
use tract_onnx::tract_hir::internal::{Expansion, expand};

use super::operator::{Built, of_tract};

/// An operator of tract's, as this engine runs it for some types.
pub(super) trait OfTypes: Debug + Send + Sync + 'static {
    /// The name in the operator set.
    fn name(&self) -> &'static str;

    /// The types of the first input for which it is this engine's own.
    fn types(&self) -> &'static [DatumType];

    /// What is known of the outputs, whatever the type: what tract says, where that is right.
    fn rules<'r, 'p: 'r, 's: 'r>(
        &'s self,
        of_tract: &'s dyn Expansion,
        solver: &mut Solver<'r>,
        inputs: &'p [TensorProxy],
        outputs: &'p [TensorProxy],
    ) -> InferenceResult {
        of_tract.rules(solver, inputs, outputs)
    }

    /// Puts it into a network, for one of these types.
    fn wire(&self, prefix: &str, model: &mut TypedModel, inputs: &[OutletId]) -> TractResult<TVec<OutletId>>;
}

/// The types of real numbers that exports have.
pub(super) const REALS: &[DatumType] = &[DatumType::F32, DatumType::F64];

/// Hands such an operator over to tract.
pub(super) fn built(context: &ParsingContext<'_>, node: &NodeProto, own: impl OfTypes) -> Built {
    Ok((expand(Partial { own: Arc::new(own), of_tract: of_tract(context, node)? }), Vec::new()))
}

#[derive(Clone, Debug)]
struct Partial {
    own: Arc<dyn OfTypes>,
    of_tract: Box<dyn Expansion>,
}

impl Expansion for Partial {
    fn name(&self) -> StaticName {
        self.own.name().into()
    }

    fn rules<'r, 'p: 'r, 's: 'r>(
        &'s self,
        solver: &mut Solver<'r>,
        inputs: &'p [TensorProxy],
        outputs: &'p [TensorProxy],
    ) -> InferenceResult {
        self.own.rules(&*self.of_tract, solver, inputs, outputs)
    }

    fn wire(&self, prefix: &str, model: &mut TypedModel, inputs: &[OutletId]) -> TractResult<TVec<OutletId>> {
        match self.own.types().contains(&model.outlet_fact(inputs[0])?.datum_type) {
            true => self.own.wire(prefix, model, inputs),
            false => self.of_tract.wire(prefix, model, inputs),
        }
    }
}
