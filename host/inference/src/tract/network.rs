//! A loaded network: its tensors, and a plan for every shape or one for each.

use std::sync::Arc;

use modelhost_core::{Tensor, TensorDescription};
use parking_lot::Mutex;
use tract_onnx::prelude::InferenceModel;

use super::load::{self, PlanLimits};
use super::run::Plan;
use super::symbols::InputSymbols;
use crate::engine::{ExecutableGraph, RunError, RunLimits};

/// A network of tract.
pub(super) struct Network {
    pub(super) inputs: Vec<TensorDescription>,
    pub(super) outputs: Vec<TensorDescription>,
    pub(super) symbols: InputSymbols,
    pub(super) plans: Plans,
}

pub(super) enum Plans {
    /// One plan for all extents.
    Symbolic(Plan),
    /// tract cannot optimise this network while extents are free: a plan for each combination, when it is asked for.
    PerShape(PerShape),
}

/// Plans for the extents that were used last.
pub(super) struct PerShape {
    template: InferenceModel,
    limits: PlanLimits,
    /// The one that was used last comes last.
    recent: Mutex<Vec<(Vec<i64>, Arc<Plan>)>>,
}

/// A plan holds its own packed copy of the weights: enough for the batch sizes of one client, few enough to bound
/// the memory.
const MAX_PLANS: usize = 8;

impl PerShape {
    pub(super) fn new(template: InferenceModel, limits: PlanLimits) -> PerShape {
        PerShape { template, limits, recent: Mutex::default() }
    }

    /// The plan for these extents, made on first use.
    pub(super) fn plan(&self, symbols: &InputSymbols, extents: &[i64]) -> Result<Arc<Plan>, RunError> {
        if let Some(plan) = self.known(extents) {
            return Ok(plan);
        }
        // Not under the lock: other shapes go on meanwhile. Two runs may make the same plan; one of them is kept.
        let plan = load::plan_for(&self.template, symbols, extents, self.limits);
        let plan = plan.map_err(|error| RunError::InvalidInput {
            reason: format!("the network does not accept inputs of these shapes: {error}"),
        })?;
        let plan = Arc::new(plan);
        self.keep(extents, plan.clone());
        Ok(plan)
    }

    /// Of the plans that are kept.
    fn constant_bytes(&self) -> u64 {
        self.recent.lock().iter().map(|(_, plan)| plan.constant_bytes()).sum()
    }

    fn known(&self, extents: &[i64]) -> Option<Arc<Plan>> {
        let mut recent = self.recent.lock();
        let index = recent.iter().position(|(known, _)| known == extents)?;
        let entry = recent.remove(index);
        let plan = entry.1.clone();
        recent.push(entry);
        Some(plan)
    }

    fn keep(&self, extents: &[i64], plan: Arc<Plan>) {
        let mut recent = self.recent.lock();
        recent.retain(|(known, _)| known != extents);
        if recent.len() >= MAX_PLANS {
            recent.remove(0);
        }
        recent.push((extents.to_vec(), plan));
    }
}

impl ExecutableGraph for Network {
    fn inputs(&self) -> &[TensorDescription] {
        &self.inputs
    }

    fn outputs(&self) -> &[TensorDescription] {
        &self.outputs
    }

    fn resident_bytes(&self) -> u64 {
        match &self.plans {
            Plans::Symbolic(plan) => plan.constant_bytes(),
            Plans::PerShape(plans) => plans.constant_bytes(),
        }
    }

    fn rows_are_independent(&self) -> bool {
        match &self.plans {
            Plans::Symbolic(plan) => plan.rows_are_independent(),
            // What holds for one number of rows need not hold for another.
            Plans::PerShape(_) => false,
        }
    }

    fn time_follows_from_extents(&self) -> bool {
        match &self.plans {
            // Operators that branch or loop on values are refused, and a plan is made only where all shapes follow from
            // the extents of the inputs.
            Plans::Symbolic(_) => true,
            // The first run with new extents makes a plan.
            Plans::PerShape(_) => false,
        }
    }

    fn run(&self, inputs: Vec<Tensor>, limits: &RunLimits) -> Result<Vec<Tensor>, RunError> {
        let extents = self.symbols.bind(&self.inputs, &inputs)?;
        let values = || self.symbols.values(&extents);
        match &self.plans {
            Plans::Symbolic(plan) => {
                plan.check_memory(&inputs, &extents, values, limits.max_tensor_bytes)?;
                plan.run(inputs, limits)
            }
            Plans::PerShape(plans) => {
                let plan = plans.plan(&self.symbols, &extents)?;
                plan.check_memory(&inputs, &extents, values, limits.max_tensor_bytes)?;
                plan.run(inputs, limits)
            }
        }
    }
}
