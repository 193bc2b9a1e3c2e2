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

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use tract_onnx::prelude::tract_ndarray::ArrayD;
    use tract_onnx::prelude::{Approximation, DatumType, Tensor};
    use tract_onnx::tract_core::internal::{Outlet, tvec};
    use tract_onnx::tract_core::ops::array::Topk;
    use tract_onnx::tract_core::ops::binary::{BinMiniOp, TypedBinOp};
    use tract_onnx::tract_core::ops::logic::{CompEq, CompGT, CompGTE, CompLT, CompLTE, CompNE, Iff};
    use tract_onnx::tract_core::ops::math::{Add, Div, Max, Min, Mul, Sub, SubF};
    use tract_onnx::tract_core::ops::nn::{Reduce, Reducer, Softmax, SoftmaxKind};

    use super::*;

    /// Whether the other way to run this operator gives what tract gives.
    fn agrees(operator: impl TypedOp, inputs: &[Tensor]) {
        let inputs: TVec<TValue> = inputs.iter().map(|input| TValue::from(input.clone())).collect();
        let facts: Vec<TypedFact> =
            inputs.iter().map(|input| TypedFact::shape_and_dt_of((**input).clone())).collect();
        let outputs = operator.output_facts(&facts.iter().collect::<Vec<_>>()).unwrap();
        let operator: Box<dyn TypedOp> = Box::new(operator);
        let outputs = outputs.into_iter().map(|fact| Outlet { fact, successors: tvec!() }).collect();
        let node =
            TypedNode { id: 0, name: String::new(), inputs: Vec::new(), op: operator.clone(), outputs };
        let kernel = ALL.iter().find_map(|look| look(&node)).expect("there is another way");
        let expected = operator.eval_out_of_plan(inputs.clone()).unwrap().unwrap();
        let found = kernel.run(&inputs).unwrap().expect("it is not left to tract");
        for (found, expected) in found.iter().zip(&expected) {
            found.close_enough(expected, Approximation::Close).unwrap();
        }
    }

    /// Few different numbers, so that some are equal; none is 0.
    fn tensor(shape: &[usize], seed: usize) -> Tensor {
        let number = |place: usize| ((place * 37 + seed) % 23) as f32 / 4.0 - 2.6;
        let numbers = (0..shape.iter().product()).map(number).collect();
        ArrayD::from_shape_vec(shape, numbers).unwrap().into()
    }

    fn shapes() -> impl Strategy<Value = [Vec<usize>; 2]> {
        let axis = (1_usize..6, 0..3).prop_map(|(extent, repeats)| match repeats {
            0 => (extent, extent),
            1 => (extent, 1),
            _ => (1, extent),
        });
        prop::collection::vec(axis, 1..4).prop_map(|axes| axes.into_iter().unzip()).prop_map(|(a, b)| [a, b])
    }

    proptest! {
        #[test]
        fn operators_give_what_tract_gives([a, b] in shapes(), seed in 0_usize..1_000, double in any::<bool>()) {
            let datum_type = if double { DatumType::F64 } else { DatumType::F32 };
            let typed = |tensor: Tensor| tensor.cast_to_dt(datum_type).unwrap().into_owned();
            let [a, b] = [typed(tensor(&a, seed)), typed(tensor(&b, seed + 5))];
            let operators: Vec<Box<dyn BinMiniOp>> = vec![
                Box::new(Add), Box::new(Sub), Box::new(SubF), Box::new(Mul), Box::new(Div), Box::new(Min),
                Box::new(Max), Box::new(CompEq), Box::new(CompNE), Box::new(CompLT), Box::new(CompLTE),
                Box::new(CompGT), Box::new(CompGTE),
            ];
            for operator in operators {
                agrees(TypedBinOp(operator, None), &[a.clone(), b.clone()]);
            }
            let rank = a.rank();
            for axis in 0..rank {
                for reducer in [Reducer::Sum, Reducer::Prod] {
                    agrees(Reduce { axes: tvec!(axis), reducer }, std::slice::from_ref(&a));
                }
            }
            let kind = SoftmaxKind::Softmax;
            agrees(Softmax { axes: tvec!(rank - 1), quant_output_dt: None, kind }, std::slice::from_ref(&a));
            let count = 1 + seed % a.shape()[rank - 1];
            let top = Topk { axis: rank - 1, largest: seed % 2 == 0, fallback_k: count.into() };
            agrees(top, &[a.clone(), Tensor::from(count as i64)]);
            let condition = Tensor::from(a.to_plain_array_view::<f32>().map_or_else(
                |_| ArrayD::from_elem(a.shape(), true),
                |numbers| numbers.mapv(|number| number > 0.0),
            ));
            agrees(Iff, &[condition, b.clone(), a.clone()]);
        }
    }
}
