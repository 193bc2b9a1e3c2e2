//! One run of a plan within its limits.

use modelhost_core::Tensor;
use tract_onnx::prelude::{SymbolValues, TValue, TVec, TypedSimplePlan, TypedSimpleState};
use tract_onnx::tract_core::ops::konst::Const;
use tract_onnx::tract_core::plan;

use super::memory::{MemoryPlan, Peak};
use super::{memory, tensors};
use crate::engine::{RunError, RunLimits};

/// A graph that is ready to run, for any extents of its symbols.
pub(super) struct Plan {
    plan: std::sync::Arc<TypedSimplePlan>,
    memory: MemoryPlan,
    /// Bytes of the longest text in the graph.
    longest_text: u64,
    rows_are_independent: bool,
    /// The last extents and length of texts that were looked at, and their peak: requests of one client mostly have one
    /// shape.
    last_peak: parking_lot::Mutex<Option<(Vec<i64>, u64, Peak)>>,
}

impl Plan {
    /// `longest_text` are the bytes of the longest text in the graph.
    pub(super) fn new(
        plan: std::sync::Arc<TypedSimplePlan>,
        memory: MemoryPlan,
        longest_text: u64,
        rows_are_independent: bool,
    ) -> Plan {
        Plan { plan, memory, longest_text, rows_are_independent, last_peak: parking_lot::Mutex::default() }
    }

    /// Whether it is proven that the rows of a run do not touch each other.
    pub(super) fn rows_are_independent(&self) -> bool {
        self.rows_are_independent
    }

    pub(super) fn model(&self) -> &tract_onnx::prelude::TypedModel {
        self.plan.model()
    }

    /// Bytes of the constants that the plan holds, weights above all.
    pub(super) fn constant_bytes(&self) -> u64 {
        let constants = self.model().nodes().iter().filter_map(|node| node.op_as::<Const>());
        constants.map(|constant| memory::bytes(constant.val())).sum()
    }

    /// Whether a run with these inputs, of these extents, stays within the memory limit.
    pub(super) fn check_memory(
        &self,
        inputs: &[Tensor],
        extents: &[i64],
        values: impl FnOnce() -> SymbolValues,
        limit: u64,
    ) -> Result<(), RunError> {
        let longest_text = tensors::longest_text(inputs).max(self.longest_text);
        let mut last = self.last_peak.lock();
        let peak = match &*last {
            Some((known, length, peak)) if known == extents && *length == longest_text => peak,
            _ => {
                let peak = self.memory.peak(&values(), longest_text);
                &last.insert((extents.to_vec(), longest_text, peak)).2
            }
        };
        if peak.bytes > limit {
            return Err(RunError::TooLarge { operator: peak.operator.clone(), bytes: peak.bytes, limit });
        }
        Ok(())
    }

    /// Runs on this thread. The limits are looked at before each operator.
    pub(super) fn run(&self, inputs: Vec<Tensor>, limits: &RunLimits) -> Result<Vec<Tensor>, RunError> {
        let inputs: TVec<TValue> = inputs.into_iter().map(tensors::to_tract).collect::<Result<_, _>>()?;
        let mut state = TypedSimpleState::new_from_inputs(&self.plan, inputs)
            .map_err(|error| RunError::InvalidInput { reason: root_cause(&error) })?;
        let mut stopped = None;
        let ended = state.exec_plan_with_eval(|context, op_state, node, inputs| {
            limits.check().map_err(|error| {
                stopped = Some(error);
                Stopped
            })?;
            plan::eval(context, op_state, node, inputs)
        });
        if let Some(error) = stopped {
            return Err(error);
        }
        ended.map_err(|error| RunError::Failed { reason: root_cause(&error) })?;
        let outputs = state.outputs().map_err(|error| RunError::Failed { reason: root_cause(&error) })?;
        // Freed here, the intermediate values are not kept by what the caller does with the outputs.
        drop(state);
        outputs.into_iter().map(tensors::from_tract).collect()
    }
}

/// Only ends the run: the reason is beside it.
#[derive(Debug, thiserror::Error)]
#[error("stopped")]
struct Stopped;

/// The innermost message, which names what is wrong; those around it name tract's own steps.
pub(super) fn root_cause(error: &tract_onnx::prelude::TractError) -> String {
    let message = error.root_cause().to_string();
    message.chars().take(400).collect()
}
