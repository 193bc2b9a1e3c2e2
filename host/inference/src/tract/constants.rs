//! Keeps a small file from asking for huge constants.
//!
//! While tract analyses a network it computes whatever depends on constants only, and looks at the size afterwards: a
//! `ConstantOfShape` of a few bytes would allocate whatever it says. So each network is first analysed with operators
//! that look at the shapes before they compute, and count what all of them compute together.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use tract_onnx::prelude::{DatumType, InferenceModel, InferenceModelExt, TDim, TVec, TractResult};
use tract_onnx::tract_core::internal::{EvalContext, EvalOp, Op, StaticName, TValue};
use tract_onnx::tract_core::not_a_typed_op;
use tract_onnx::tract_core::ops::TypedOp;
use tract_onnx::tract_hir::infer::{Factoid, InferenceFact, InferenceOp};
use tract_onnx::tract_hir::internal::OutletId;

use super::load::PlanLimits;
use super::memory;
use crate::engine::LoadError;

/// Analyses a copy of the network. Gives the bytes of the constants that were computed.
///
/// # Errors
/// [`LoadError::TooLarge`] naming the operator whose output is fixed and larger than the limit, or with which all
/// constants together are. What else may be wrong with the network is found when it is loaded.
pub(super) fn check(model: &InferenceModel, limits: &PlanLimits) -> Result<u64, LoadError> {
    let budget = Arc::new(Budget { limits: limits.clone(), taken: AtomicU64::new(0) });
    let mut guarded = model.clone();
    for id in 0..guarded.nodes().len() {
        let node = guarded.node_mut(id);
        let inner = node.op.clone();
        node.op = Box::new(Guarded { inner, budget: budget.clone(), is_counted: false });
    }
    if let Err(error) = guarded.analyse(false)
        && let Some(too_large) = error.root_cause().downcast_ref::<TooLarge>()
    {
        return Err(LoadError::TooLarge { reason: too_large.to_string() });
    }
    Ok(budget.taken.load(Ordering::Relaxed))
}

#[derive(Debug, thiserror::Error)]
enum TooLarge {
    #[error("operator {operator} makes a tensor of {bytes} bytes: at most {limit} are allowed")]
    Tensor { operator: String, bytes: u64, limit: u64 },
    #[error(
        "operator {operator} brings the constants that are computed to {bytes} bytes: at most {limit} are allowed"
    )]
    Constants { operator: String, bytes: u64, limit: u64 },
}

/// What all operators of one analysis share.
#[derive(Debug)]
struct Budget {
    limits: PlanLimits,
    /// Bytes of the constants that were computed.
    taken: AtomicU64,
}

/// An operator that refuses to infer values of outputs that are too large.
#[derive(Clone, Debug)]
struct Guarded {
    inner: Box<dyn InferenceOp>,
    budget: Arc<Budget>,
    /// Analysis comes back to an operator whenever more is known of its neighbours.
    is_counted: bool,
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
        self.budget.limits.check()?;
        let inferred = self.infer_facts(inputs.clone(), outputs.clone(), observed.clone())?;
        let mut bytes = 0_u64;
        for fact in &inferred.1 {
            bytes = bytes.saturating_add(self.check(fact)?);
        }
        let is_constant = inferred.0.iter().all(|fact| fact.value.is_concrete());
        let is_sized = inferred.1.iter().all(|fact| fact.shape.is_concrete());
        if is_constant && !is_sized {
            // Not computed here: the size of the result is not known beforehand.
            return Ok(inferred);
        }
        // What the file brings has no inputs.
        if is_constant && !inferred.0.is_empty() {
            self.take(bytes)?;
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
    /// The size of an output, as far as it is known.
    fn check(&self, fact: &InferenceFact) -> Result<u64, TooLarge> {
        let limit = self.budget.limits.max_tensor_bytes;
        let bytes = known_bytes(fact, self.budget.limits.longest_text).unwrap_or(0);
        if bytes > limit {
            return Err(TooLarge::Tensor { operator: self.inner.name().into_owned(), bytes, limit });
        }
        Ok(bytes)
    }

    /// Counts the outputs, which are about to be computed.
    fn take(&mut self, bytes: u64) -> Result<(), TooLarge> {
        if std::mem::replace(&mut self.is_counted, true) {
            return Ok(());
        }
        let limit = self.budget.limits.max_constant_bytes;
        let bytes = self.budget.taken.fetch_add(bytes, Ordering::Relaxed).saturating_add(bytes);
        if bytes > limit {
            return Err(TooLarge::Constants { operator: self.inner.name().into_owned(), bytes, limit });
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

/// Bytes of the values that a network has before it is analysed: those that the file brings.
pub(super) fn in_file(model: &InferenceModel) -> u64 {
    let outputs = model.nodes().iter().flat_map(|node| &node.outputs);
    outputs.filter_map(|output| output.fact.value.concretize()).map(|value| memory::bytes(&value)).sum()
}
