//! One run of a plan within its limits.

use std::collections::VecDeque;

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
    constant_bytes: u64,
    /// Of the extents and lengths of texts that were looked at last: requests of a few clients have a few shapes.
    recent_peaks: parking_lot::Mutex<VecDeque<Known>>,
}

/// What is known of runs with these extents and texts of at most this length.
struct Known {
    extents: Vec<i64>,
    longest_text: u64,
    peak: Peak,
}

/// As many as calls that are put together have numbers of rows; they are looked through for each run.
const MAX_PEAKS: usize = 32;

impl Plan {
    /// `longest_text` are the bytes of the longest text in the graph.
    pub(super) fn new(
        plan: std::sync::Arc<TypedSimplePlan>,
        memory: MemoryPlan,
        longest_text: u64,
        rows_are_independent: bool,
    ) -> Plan {
        let constants = plan.model().nodes().iter().filter_map(|node| node.op_as::<Const>());
        let constant_bytes = constants.map(|constant| memory::bytes(constant.val())).sum();
        let recent_peaks = parking_lot::Mutex::default();
        Plan { plan, memory, longest_text, rows_are_independent, constant_bytes, recent_peaks }
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
        self.constant_bytes
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
        let peak = self.known_peak(extents, longest_text).unwrap_or_else(|| {
            // Not under the lock: runs of other shapes go on meanwhile.
            let peak = self.memory.peak(&values(), longest_text);
            self.keep_peak(Known { extents: extents.to_vec(), longest_text, peak: peak.clone() });
            peak
        });
        if peak.bytes > limit {
            return Err(RunError::TooLarge { operator: peak.operator, bytes: peak.bytes, limit });
        }
        Ok(())
    }

    fn known_peak(&self, extents: &[i64], longest_text: u64) -> Option<Peak> {
        let recent = self.recent_peaks.lock();
        let known =
            recent.iter().find(|known| known.extents == extents && known.longest_text == longest_text);
        known.map(|known| known.peak.clone())
    }

    fn keep_peak(&self, known: Known) {
        let mut recent = self.recent_peaks.lock();
        if recent.len() >= MAX_PEAKS {
            recent.pop_front();
        }
        recent.push_back(known);
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
