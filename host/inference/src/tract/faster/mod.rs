//! Other ways to run operators of tract that are slow where tensors are tables of a few columns, as in classical models.
//!
//! Nothing changes in a network but how some of its nodes are run: each keeps tract's operator, which still says what its
//! outputs are, and which runs whatever the other way leaves to it. So this happens when everything that is to be known of a
//! network was found out, and for most operators last, when tract has made of it what it can.

mod binary;
mod choice;
mod normal;
mod product;
mod reduction;
mod top_k;

use std::fmt::Debug;
use std::sync::Arc;

use tract_onnx::prelude::{TValue, TVec, TractResult, TypedFact, TypedModel, TypedNode};
use tract_onnx::tract_core::internal::{EvalContext, EvalOp, Op, StaticName, as_op, op_as_typed_op};
use tract_onnx::tract_core::ops::TypedOp;

/// A way to run an operator.
trait Kernel: Debug + Send + Sync {
    /// None where these inputs are left to tract.
    fn run(&self, inputs: &[TValue]) -> TractResult<Option<TVec<TValue>>>;

    fn shared(self) -> Arc<dyn Kernel>
    where
        Self: Sized + 'static,
    {
        Arc::new(self)
    }
}

/// What looks whether a node is an operator that it can run.
type Look = fn(&TypedNode) -> Option<Arc<dyn Kernel>>;

const ALL: [Look; 5] = [binary::kernel, choice::kernel, normal::kernel, reduction::kernel, top_k::kernel];

/// The same network, with another way to run products of small tables, which tract would take apart when it optimises.
pub(super) fn before_optimisation(mut model: TypedModel) -> TypedModel {
    for id in 0..model.nodes().len() {
        if let Some(kernel) = product::kernel(&model, model.node(id)) {
            replace(model.node_mut(id), kernel);
        }
    }
    model
}

/// The same network, already optimised, with another way to run those nodes for which there is one.
pub(super) fn optimised(mut model: TypedModel) -> TypedModel {
    for id in 0..model.nodes().len() {
        let node = model.node_mut(id);
        if let Some(kernel) = ALL.iter().find_map(|look| look(node)) {
            replace(node, kernel);
        }
    }
    model
}

fn replace(node: &mut TypedNode, kernel: Arc<dyn Kernel>) {
    let of_tract = node.op.clone();
    node.op = Box::new(Faster { of_tract, kernel });
}

#[derive(Clone, Debug)]
struct Faster {
    of_tract: Box<dyn TypedOp>,
    kernel: Arc<dyn Kernel>,
}

impl PartialEq for Faster {
    fn eq(&self, other: &Faster) -> bool {
        Arc::ptr_eq(&self.kernel, &other.kernel)
    }
}

impl Eq for Faster {}

impl Op for Faster {
    fn name(&self) -> StaticName {
        self.of_tract.name()
    }

    op_as_typed_op!();
}

impl EvalOp for Faster {
    fn eval(&self, context: &EvalContext, inputs: TVec<TValue>) -> TractResult<TVec<TValue>> {
        match self.kernel.run(&inputs)? {
            Some(outputs) => Ok(outputs),
            None => self.of_tract.eval(context, inputs),
        }
    }

    fn eval_out_of_plan(&self, inputs: TVec<TValue>) -> TractResult<Option<TVec<TValue>>> {
        self.of_tract.eval_out_of_plan(inputs)
    }
}

impl TypedOp for Faster {
    fn output_facts(&self, inputs: &[&TypedFact]) -> TractResult<TVec<TypedFact>> {
        self.of_tract.output_facts(inputs)
    }

    as_op!();
}
