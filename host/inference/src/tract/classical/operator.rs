//! What tract wants to know about an operator, made of the little that differs between the operators here.
//!
//! An operator says the element types and shapes of its outputs, which axes it leaves alone, and how it runs. It knows
//! nothing about how tract analyses or optimises a network.

use std::fmt::Debug;
use std::sync::{Arc, LazyLock};

use tract_onnx::model::{OnnxOpRegister, ParsingContext};
use tract_onnx::pb::NodeProto;
use tract_onnx::prelude::{DatumType, SpecialOps, TDim, TValue, TVec, TractResult, TypedFact, TypedModel};
use tract_onnx::tract_core::internal::{
    AxesMapping, Axis, EvalContext, EvalOp, Op, OutletId, StaticName, as_op, format_err, op_as_typed_op,
    op_out_of_plan,
};
use tract_onnx::tract_core::ops::TypedOp;
use tract_onnx::tract_core::ops::cast::cast;
use tract_onnx::tract_hir::infer::{
    InferenceOp, InferenceResult, Solver, TensorProxy, check_input_arity, check_output_arity,
};
use tract_onnx::tract_hir::internal::{Expansion, expand};

/// Element type and extents of a tensor, before it has elements.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Described {
    pub(super) datum_type: DatumType,
    pub(super) shape: TVec<TDim>,
}

impl Described {
    pub(super) fn new(datum_type: DatumType, shape: impl IntoIterator<Item = TDim>) -> Described {
        Described { datum_type, shape: shape.into_iter().collect() }
    }
}

/// Which axes of the inputs an operator leaves alone: what an output holds there depends on nothing else that the
/// inputs hold along that axis.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum KeptAxes {
    /// Each element of the first input becomes an element of the output.
    All,
    /// The first axis of every input is that of every output.
    First,
    /// The first axes of the first input, as many as given, are those of every output.
    Leading(usize),
    /// The first axis of the input number 1 is the last one of the output.
    SecondInputIsLast,
    /// The first axis of the first input is the first one of the first output and the second one of the second output; that
    /// of the second input is the first one of the second output.
    FirstOfBothInSecondOutput,
    None,
}

impl KeptAxes {
    /// Of an operator that computes row by row: an input of one dimension is one row, and has no axis of rows.
    pub(super) fn rows(input: &Described) -> KeptAxes {
        if input.shape.len() == 2 { KeptAxes::First } else { KeptAxes::None }
    }

    /// The number of the axis that is kept to which this one of an input or an output belongs.
    fn link(self, is_input: bool, slot: usize, position: usize, rank: usize) -> Option<usize> {
        let (is_linked, number) = match self {
            KeptAxes::All => (!is_input || slot == 0, position),
            KeptAxes::First => (position == 0, 0),
            KeptAxes::Leading(count) => (position < count && (!is_input || slot == 0), position),
            KeptAxes::SecondInputIsLast if is_input => (slot == 1 && position == 0, 0),
            KeptAxes::SecondInputIsLast => (position + 1 == rank, 0),
            KeptAxes::FirstOfBothInSecondOutput if is_input => (position == 0, slot),
            KeptAxes::FirstOfBothInSecondOutput if slot == 0 => (position == 0, 0),
            KeptAxes::FirstOfBothInSecondOutput => (true, 1 - position),
            KeptAxes::None => (false, 0),
        };
        is_linked.then_some(number)
    }
}

/// An operator that this engine runs with code of its own.
pub(super) trait Operator: Debug + Send + Sync + 'static {
    /// The name in the operator set.
    fn name(&self) -> &'static str;

    fn output_count(&self) -> usize {
        1
    }

    /// The outputs for inputs like these; an error where the operator does not take them.
    fn outputs(&self, inputs: &[Described]) -> TractResult<TVec<Described>>;

    fn kept_axes(&self, inputs: &[Described]) -> KeptAxes;

    /// The same operator made ready for inputs of these types, where that depends on them.
    fn for_types(&self, _inputs: &[DatumType]) -> TractResult<Option<Arc<dyn Operator>>> {
        Ok(None)
    }

    /// Runs on inputs for which [`outputs`](Self::outputs) gave no error.
    fn run(&self, inputs: &[TValue]) -> TractResult<TVec<TValue>>;
}

/// What a builder of tract's operator register returns.
pub(super) type Built = TractResult<(Box<dyn InferenceOp>, Vec<String>)>;

/// Hands an operator over to tract. The node is looked at for what it does not ask for: an output that is left out.
pub(super) fn built(node: &NodeProto, operator: impl Operator) -> Built {
    let is_complete =
        node.output.len() == operator.output_count() && node.output.iter().all(|name| !name.is_empty());
    node.expect(is_complete, "a name for every output")?;
    Ok((expand(Own(Arc::new(operator))), Vec::new()))
}

/// What tract itself makes of the nodes.
static TRACT: LazyLock<OnnxOpRegister> = LazyLock::new(|| tract_onnx::onnx().op_register);

/// tract's own operator of a node, for the types with which it deals as it should.
pub(super) fn of_tract(context: &ParsingContext<'_>, node: &NodeProto) -> TractResult<Box<dyn Expansion>> {
    let (operator, _) = built_by_tract(context, node)?;
    let expansion = operator.as_op().downcast_ref::<Box<dyn Expansion>>().cloned();
    expansion.ok_or_else(|| format_err!("the operator {} is of another kind than expected", node.op_type))
}

/// A node that is left to tract.
pub(super) fn built_by_tract(context: &ParsingContext<'_>, node: &NodeProto) -> Built {
    let builder =
        TRACT.0.get(&node.op_type).ok_or_else(|| format_err!("there is no operator {}", node.op_type))?;
    builder(context, node)
}

/// Puts an operator into a network that is analysed already.
pub(super) fn wired(
    operator: impl Operator,
    prefix: &str,
    model: &mut TypedModel,
    inputs: &[OutletId],
) -> TractResult<TVec<OutletId>> {
    Own(Arc::new(operator)).wire(prefix, model, inputs)
}

/// An operator as tract sees it.
#[derive(Clone, Debug)]
pub(super) struct Own(Arc<dyn Operator>);

impl PartialEq for Own {
    fn eq(&self, other: &Own) -> bool {
        Arc::ptr_eq(&self.0, &other.0)
    }
}

impl Eq for Own {}

impl Op for Own {
    fn name(&self) -> StaticName {
        self.0.name().into()
    }

    op_as_typed_op!();
}

impl EvalOp for Own {
    fn eval(&self, _context: &EvalContext, inputs: TVec<TValue>) -> TractResult<TVec<TValue>> {
        self.0.run(&inputs)
    }

    op_out_of_plan!();
}

impl TypedOp for Own {
    fn output_facts(&self, inputs: &[&TypedFact]) -> TractResult<TVec<TypedFact>> {
        let outputs = self.0.outputs(&described(inputs))?;
        Ok(outputs.into_iter().map(|output| TypedFact::dt_shape(output.datum_type, &*output.shape)).collect())
    }

    fn axes_mapping(&self, inputs: &[&TypedFact], outputs: &[&TypedFact]) -> TractResult<AxesMapping> {
        let kept = self.0.kept_axes(&described(inputs));
        let input_ranks: Vec<usize> = inputs.iter().map(|fact| fact.rank()).collect();
        let output_ranks: Vec<usize> = outputs.iter().map(|fact| fact.rank()).collect();
        mapping(kept, &input_ranks, &output_ranks)
    }

    as_op!();
}

fn described(facts: &[&TypedFact]) -> Vec<Described> {
    facts.iter().map(|fact| Described::new(fact.datum_type, fact.shape.dims().iter().cloned())).collect()
}

fn mapping(kept: KeptAxes, input_ranks: &[usize], output_ranks: &[usize]) -> TractResult<AxesMapping> {
    let mut letters = 'a'..;
    // The range of letters does not end.
    let mut axis = || Axis::new(letters.next().unwrap_or('?'), input_ranks.len(), output_ranks.len());
    let mut linked: Vec<Axis> = Vec::new();
    let mut alone: Vec<Axis> = Vec::new();
    let slots = input_ranks.iter().enumerate().map(|(slot, rank)| (true, slot, *rank));
    let slots = slots.chain(output_ranks.iter().enumerate().map(|(slot, rank)| (false, slot, *rank)));
    for (is_input, slot, rank) in slots {
        for position in 0..rank {
            let place = |axis: &mut Axis| match is_input {
                true => axis.add_input(slot, position),
                false => axis.add_output(slot, position),
            };
            let Some(index) = kept.link(is_input, slot, position, rank) else {
                let mut own = axis();
                place(&mut own);
                alone.push(own);
                continue;
            };
            while linked.len() <= index {
                linked.push(axis());
            }
            place(&mut linked[index]);
        }
    }
    linked.extend(alone);
    AxesMapping::new(input_ranks.len(), output_ranks.len(), linked)
}

impl Expansion for Own {
    fn name(&self) -> StaticName {
        self.0.name().into()
    }

    fn nboutputs(&self) -> TractResult<usize> {
        Ok(self.0.output_count())
    }

    fn rules<'r, 'p: 'r, 's: 'r>(
        &'s self,
        solver: &mut Solver<'r>,
        inputs: &'p [TensorProxy],
        outputs: &'p [TensorProxy],
    ) -> InferenceResult {
        check_input_arity(inputs, inputs.len())?;
        check_output_arity(outputs, self.0.output_count())?;
        solver.given_all(inputs.iter().map(|input| &input.datum_type), move |solver, types| {
            solver.given_all(inputs.iter().map(|input| &input.shape), move |solver, shapes| {
                let described = types
                    .iter()
                    .zip(shapes)
                    .map(|(datum_type, shape)| Described::new(number(*datum_type), shape));
                let described: Vec<Described> = described.collect();
                for (output, found) in outputs.iter().zip(self.0.outputs(&described)?) {
                    solver.equals(&output.datum_type, found.datum_type)?;
                    solver.equals(&output.shape, found.shape)?;
                }
                Ok(())
            })
        })
    }

    fn wire(&self, prefix: &str, model: &mut TypedModel, inputs: &[OutletId]) -> TractResult<TVec<OutletId>> {
        let mut numbers: TVec<OutletId> = TVec::new();
        for (index, input) in inputs.iter().enumerate() {
            let datum_type = model.outlet_fact(*input)?.datum_type;
            numbers.push(match number(datum_type) == datum_type {
                true => *input,
                false => model.wire_node(
                    format!("{prefix}.number-{index}"),
                    cast(number(datum_type)),
                    &[*input],
                )?[0],
            });
        }
        let facts = numbers.iter().map(|input| model.outlet_fact(*input));
        let types: Vec<DatumType> = facts.map(|fact| Ok(fact?.datum_type)).collect::<TractResult<_>>()?;
        let ready = self.0.for_types(&types)?.map_or_else(|| self.clone(), Own);
        model.wire_node(prefix, ready, &numbers)
    }
}

/// tract computes with dimensions, which are expressions, wherever ONNX has INT64. The operators here take numbers.
fn number(datum_type: DatumType) -> DatumType {
    if datum_type == DatumType::TDim { DatumType::I64 } else { datum_type }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn track(kept: KeptAxes, inputs: &[usize], outputs: &[usize]) -> String {
        mapping(kept, inputs, outputs).unwrap().to_string()
    }

    #[test]
    fn kept_axes_have_one_letter_on_both_sides() {
        assert_eq!(track(KeptAxes::First, &[2], &[1, 2]), "ab->a,ac");
        assert_eq!(track(KeptAxes::First, &[2, 2], &[2]), "ab,ac->ad");
        assert_eq!(track(KeptAxes::All, &[2], &[2]), "ab->ab");
        assert_eq!(track(KeptAxes::Leading(1), &[2, 1], &[2]), "ab,c->ad");
        assert_eq!(track(KeptAxes::SecondInputIsLast, &[1, 1], &[2]), "a,b->cb");
        assert_eq!(track(KeptAxes::FirstOfBothInSecondOutput, &[2, 2], &[2, 2]), "ab,cd->ae,ca");
        assert_eq!(track(KeptAxes::None, &[1], &[1]), "a->b");
    }
}
