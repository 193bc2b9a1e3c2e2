//! How much memory a plan takes between its operators, known before it runs.
//!
//! tract allocates every output when its operator runs and frees it after its last use. The order is fixed, so the
//! bytes at each step follow from the shapes alone. Shapes that depend on values, and not only on the inputs' extents,
//! are refused when a graph is loaded: nothing would bound them. Of texts the shapes tell the number, not the length:
//! each counts like the longest one that is in the inputs or in the graph. No operator makes longer ones.

use std::collections::HashSet;

use tract_onnx::prelude::{
    DatumType, Symbol, SymbolValues, TDim, Tensor, TypedFact, TypedModel, TypedNode, TypedSimplePlan,
};
use tract_onnx::tract_core::ops::konst::Const;
use tract_onnx::tract_core::ops::logic::IfThenElse;
use tract_onnx::tract_core::ops::scan::{OptScan, Scan};

/// The bytes that each step of a plan allocates, and when they are freed.
pub(super) struct MemoryPlan {
    steps: Vec<Step>,
}

struct Step {
    operator: String,
    outputs: Vec<Allocation>,
    /// Most bytes of the bodies that run inside this operator.
    bodies: Vec<MemoryPlan>,
    /// Steps whose outputs nobody needs after this one.
    frees: Vec<usize>,
}

struct Allocation {
    element_bytes: u64,
    is_text: bool,
    dimensions: Vec<TDim>,
    /// Buffers in a layout of tract's own, such as packed matrices.
    buffers: Vec<TDim>,
}

/// The step at which the most memory is taken.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Peak {
    pub(super) bytes: u64,
    pub(super) operator: String,
}

impl MemoryPlan {
    /// The allocations of a plan.
    ///
    /// # Errors
    /// The operator whose output's shape depends on anything but these symbols.
    pub(super) fn new(plan: &TypedSimplePlan, symbols: &[Symbol]) -> Result<MemoryPlan, String> {
        let known = symbols.iter().cloned().collect();
        MemoryPlan::of_order(plan.model(), plan.order_without_consts(), &known)
    }

    /// The same for a network that is not to be run: an error where a shape does not follow from these symbols.
    pub(super) fn of_extents(model: &TypedModel, symbols: &[Symbol]) -> Result<MemoryPlan, String> {
        MemoryPlan::of_model(model, &symbols.iter().cloned().collect())
    }

    fn of_model(model: &TypedModel, known: &HashSet<Symbol>) -> Result<MemoryPlan, String> {
        let order = model.eval_order().map_err(|error| error.to_string())?;
        MemoryPlan::of_order(model, &order, known)
    }

    fn of_order(model: &TypedModel, order: &[usize], known: &HashSet<Symbol>) -> Result<MemoryPlan, String> {
        let mut steps = Vec::with_capacity(order.len());
        for &id in order {
            let node = model.node(id);
            steps.push(step(node, known)?);
        }
        for (freed, last) in last_uses(model, order) {
            steps[last].frees.push(freed);
        }
        Ok(MemoryPlan { steps })
    }

    /// The peak for these extents and texts of at most this length. Saturates instead of overflowing.
    pub(super) fn peak(&self, values: &SymbolValues, longest_text: u64) -> Peak {
        let mut live = 0_u64;
        let mut peak = Peak::default();
        let mut sizes = Vec::with_capacity(self.steps.len());
        for step in &self.steps {
            let outputs = step.output_bytes(values, longest_text);
            let inside =
                step.bodies.iter().map(|body| body.peak(values, longest_text).bytes).max().unwrap_or(0);
            live = live.saturating_add(outputs);
            sizes.push(outputs);
            let here = live.saturating_add(inside);
            if here > peak.bytes || peak.operator.is_empty() {
                peak = Peak { bytes: here, operator: step.operator.clone() };
            }
            for freed in &step.frees {
                live = live.saturating_sub(sizes.get(*freed).copied().unwrap_or(0));
            }
        }
        peak
    }
}

impl Step {
    fn output_bytes(&self, values: &SymbolValues, longest_text: u64) -> u64 {
        self.outputs.iter().fold(0, |sum, output| sum.saturating_add(output.bytes(values, longest_text)))
    }
}

impl Allocation {
    fn of(fact: &TypedFact) -> Allocation {
        let buffers = fact.exotic_fact().map(|fact| fact.buffer_sizes().to_vec()).unwrap_or_default();
        Allocation {
            element_bytes: fact.datum_type.size_of() as u64,
            is_text: fact.datum_type == DatumType::String,
            dimensions: fact.shape.dims().to_vec(),
            buffers,
        }
    }

    fn bytes(&self, values: &SymbolValues, longest_text: u64) -> u64 {
        let element_bytes = self.element_bytes.saturating_add(if self.is_text { longest_text } else { 0 });
        let plain = self
            .dimensions
            .iter()
            .fold(element_bytes, |bytes, dimension| bytes.saturating_mul(extent(dimension, values)));
        self.buffers.iter().fold(plain, |bytes, buffer| bytes.saturating_add(extent(buffer, values)))
    }

    fn unknown(&self, known: &HashSet<Symbol>) -> bool {
        let mut expressions = self.dimensions.iter().chain(&self.buffers);
        expressions.any(|expression| expression.symbols().iter().any(|symbol| !known.contains(symbol)))
    }
}

/// A negative extent is a contradiction that tract itself reports; one that is not known was refused at load.
fn extent(dimension: &TDim, values: &SymbolValues) -> u64 {
    let value = match dimension {
        TDim::Val(value) => Some(*value),
        _ => dimension.eval_to_i64(values).ok(),
    };
    value.map_or(u64::MAX, |value| u64::try_from(value).unwrap_or(0))
}

fn step(node: &TypedNode, known: &HashSet<Symbol>) -> Result<Step, String> {
    let operator = node.op().name().into_owned();
    // Constants are loaded once, with the graph.
    let is_constant = node.op_is::<Const>();
    let outputs: Vec<Allocation> = match is_constant {
        true => Vec::new(),
        false => node.outputs.iter().map(|output| Allocation::of(&output.fact)).collect(),
    };
    if outputs.iter().any(|output| output.unknown(known)) {
        return Err(format!(
            "the shape of an output of operator {operator} ({:?}) depends on values",
            node.name
        ));
    }
    let bodies = bodies_of(node).into_iter().map(|body| MemoryPlan::of_model(body, known));
    Ok(Step { operator, outputs, bodies: bodies.collect::<Result<_, _>>()?, frees: Vec::new() })
}

/// Bytes of a tensor, whatever its layout.
pub(super) fn bytes(tensor: &Tensor) -> u64 {
    let plain = tensor.len() as u64 * tensor.datum_type().size_of() as u64;
    let exotic = tensor.exotic_fact().ok().flatten();
    let buffers = exotic.map(|fact| fact.buffer_sizes()).unwrap_or_default();
    let values = SymbolValues::default();
    buffers.iter().fold(plain, |bytes, buffer| bytes.saturating_add(extent(buffer, &values)))
}

/// The graphs that run inside this operator.
fn bodies_of(node: &TypedNode) -> Vec<&TypedModel> {
    if let Some(scan) = node.op_as::<OptScan>() {
        vec![scan.plan.model()]
    } else if let Some(scan) = node.op_as::<Scan>() {
        vec![&scan.body]
    } else if let Some(branches) = node.op_as::<IfThenElse>() {
        vec![&branches.then_body, &branches.else_body]
    } else {
        Vec::new()
    }
}

/// For each step whose outputs are not outputs of the model: the step after which nobody needs them.
fn last_uses(model: &TypedModel, order: &[usize]) -> Vec<(usize, usize)> {
    let mut step_of = vec![None; model.nodes().len()];
    for (step, &id) in order.iter().enumerate() {
        step_of[id] = Some(step);
    }
    let kept: HashSet<usize> = model.outputs.iter().map(|outlet| outlet.node).collect();
    let mut uses = Vec::new();
    for (step, &id) in order.iter().enumerate() {
        if kept.contains(&id) {
            continue;
        }
        let successors = model.node(id).outputs.iter().flat_map(|output| &output.successors);
        let last = successors.filter_map(|inlet| step_of[inlet.node]).max().unwrap_or(step);
        uses.push((step, last.max(step)));
    }
    uses
}
