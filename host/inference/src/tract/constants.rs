//! Keeps a small file from asking for huge constants.
//!
//! While tract analyses a network it computes whatever depends on constants only, and looks at the size afterwards: a
//! `ConstantOfShape` of a few bytes would allocate whatever it says. So each network is first analysed with operators
//! that look at the shapes before they compute.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use tract_onnx::prelude::{DatumType, InferenceModel, InferenceModelExt, TDim, TVec, TractResult};
use tract_onnx::tract_core::internal::{EvalContext, EvalOp, Op, StaticName, TValue};
use tract_onnx::tract_core::not_a_typed_op;
use tract_onnx::tract_core::ops::TypedOp;
use tract_onnx::tract_hir::infer::{Factoid, InferenceFact, InferenceOp};
use tract_onnx::tract_hir::internal::OutletId;

use super::load::PlanLimits;
use crate::engine::LoadError;

/// Analyses a copy of the network.
///
/// # Errors
/// [`LoadError::TooLarge`] naming the operator whose output is fixed and larger than the limit, or with which all that are
/// computed are. What else may be wrong
/// with the network is found when it is loaded.
pub(super) fn check(model: &InferenceModel, limits: PlanLimits) -> Result<(), LoadError> {
    let mut guarded = model.clone();
    let computed = Arc::new(AtomicU64::new(0));
    for id in 0..guarded.nodes().len() {
        let node = guarded.node_mut(id);
        let inner = node.op.clone();
        node.op = Box::new(Guarded { inner, limits, is_counted: false, computed: computed.clone() });
    }
    match guarded.analyse(false) {
        Ok(_) => Ok(()),
        Err(error) => match error.root_cause().downcast_ref::<TooLarge>() {
            Some(too_large) => Err(LoadError::TooLarge { reason: too_large.to_string() }),
            None => Ok(()),
        },
    }
}

#[derive(Debug, thiserror::Error)]
#[error("with operator {operator} the constants come to {bytes} bytes: at most {limit} are allowed")]
struct TooLarge {
    operator: String,
    bytes: u64,
    limit: u64,
}

/// An operator that refuses to infer values of outputs that are too large.
#[derive(Clone, Debug)]
struct Guarded {
    inner: Box<dyn InferenceOp>,
    limits: PlanLimits,
    /// Whether its outputs are among those computed.
    is_counted: bool,
    /// Bytes of all outputs of the network that were computed because the inputs were constant.
    computed: Arc<AtomicU64>,
}

impl PartialEq for Guarded {
    fn eq(&self, _other: &Guarded) -> bool {
        false
    }
}

impl Eq for Guarded {}

impl Op for Guarded {
    fn name(&self) -> StaticName {
        self.inner.name()
    }

    not_a_typed_op!();
}

impl EvalOp for Guarded {
    fn eval_out_of_plan(&self, inputs: TVec<TValue>) -> TractResult<Option<TVec<TValue>>> {
        self.inner.eval_out_of_plan(inputs)
    }

    fn eval(&self, context: &EvalContext, inputs: TVec<TValue>) -> TractResult<TVec<TValue>> {
        self.inner.eval(context, inputs)
    }
}

type Facts = TVec<InferenceFact>;

impl InferenceOp for Guarded {
    fn infer(
        &mut self,
        inputs: TVec<&InferenceFact>,
        outputs: TVec<&InferenceFact>,
        observed: TVec<&InferenceFact>,
    ) -> TractResult<(Facts, Facts, Facts)> {
        let inferred = self.infer_facts(inputs.clone(), outputs.clone(), observed.clone())?;
        for fact in &inferred.1 {
            self.check(fact)?;
        }
        let is_constant = inferred.0.iter().all(|fact| fact.value.is_concrete());
        let is_sized = inferred.1.iter().all(|fact| fact.shape.is_concrete());
        if is_constant && !is_sized {
            // Not computed here: the size of the result is not known beforehand.
            return Ok(inferred);
        }
        if is_constant && !inputs.is_empty() {
            self.count(&inferred.1)?;
        }
        self.inner.infer(inputs, outputs, observed)
    }

    fn infer_facts(
        &mut self,
        inputs: TVec<&InferenceFact>,
        outputs: TVec<&InferenceFact>,
        observed: TVec<&InferenceFact>,
    ) -> TractResult<(Facts, Facts, Facts)> {
        self.inner.infer_facts(inputs, outputs, observed)
    }

    fn observe_outlets(
        &self,
        model: &InferenceModel,
        node: &tract_onnx::tract_hir::infer::InferenceNode,
    ) -> TractResult<Vec<OutletId>> {
        self.inner.observe_outlets(model, node)
    }

    fn nboutputs(&self) -> TractResult<usize> {
        self.inner.nboutputs()
    }

    // Analysis recognises sources and constants by the type of the operator.
    fn as_op(&self) -> &dyn Op {
        self.inner.as_op()
    }

    fn as_op_mut(&mut self) -> &mut dyn Op {
        self.inner.as_op_mut()
    }
}

impl Guarded {
    fn check(&self, fact: &InferenceFact) -> Result<(), TooLarge> {
        let limit = self.limits.max_constant_bytes;
        let Some(bytes) = known_bytes(fact, self.limits.longest_text) else { return Ok(()) };
        if bytes > limit {
            return Err(TooLarge { operator: self.inner.name().into_owned(), bytes, limit });
        }
        Ok(())
    }

    /// Counts the outputs that are about to be computed.
    fn count(&mut self, outputs: &[InferenceFact]) -> Result<(), TooLarge> {
        if std::mem::replace(&mut self.is_counted, true) {
            return Ok(());
        }
        let sizes = outputs.iter().filter_map(|fact| known_bytes(fact, self.limits.longest_text));
        let here = sizes.fold(0_u64, u64::saturating_add);
        let bytes = self.computed.fetch_add(here, Ordering::Relaxed).saturating_add(here);
        let limit = self.limits.max_computed_bytes;
        if bytes > limit {
            return Err(TooLarge { operator: self.inner.name().into_owned(), bytes, limit });
        }
        Ok(())
    }
}

/// The size of a tensor whose extents are all numbers; elements of a type that is not known yet count one byte.
fn known_bytes(fact: &InferenceFact, longest_text: u64) -> Option<u64> {
    let element_bytes = match fact.datum_type.concretize() {
        Some(DatumType::String) => (DatumType::String.size_of() as u64).saturating_add(longest_text),
        datum_type => datum_type.map_or(1, |datum_type| datum_type.size_of() as u64),
    };
    let shape: TVec<TDim> = fact.shape.concretize()?;
    shape.iter().try_fold(element_bytes, |bytes, dimension| {
        let extent = u64::try_from(dimension.as_i64()?).unwrap_or(0);
        Some(bytes.saturating_mul(extent))
    })
}
