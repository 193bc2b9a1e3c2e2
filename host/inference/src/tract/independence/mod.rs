//! Proves that the rows of a network do not touch each other, so that those of several requests may share a run.
//!
//! Networks are uploaded by people who are not trusted: one that mixed rows would carry what one client sent into what
//! another gets. So nothing is believed, and what is not known to keep rows apart does not.
//!
//! The proof follows the first dimension of the inputs, which has one symbol as its extent, through every operator in the
//! order of evaluation. Each value either comes from constants alone, or has one axis along which index `i` depends on
//! row `i` of the inputs and on no other. `rules` says for each operator where that axis goes, or that it is lost. The
//! number of rows itself is information about other requests, too: the symbol may be the extent of that axis and occur
//! nowhere else, neither in another extent, nor in a constant, nor inside an operator.

mod rules;
mod scan;

use tract_onnx::prelude::{
    Datum as _, OutletId, SpecialOps, Symbol, TDim, TVec, Tensor, TypedFact, TypedModel, TypedNode,
};

/// What is known of a value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Rows {
    /// It is the same whatever the inputs are, and however many rows they have.
    Constant,
    /// Index `i` of this axis depends on row `i` of the inputs and on no other.
    Along(usize),
}

/// Whether each row of each output depends on the row of the same index of every input and on nothing else. The network
/// has to be the one that runs, before operators are replaced by those of one processor.
pub(super) fn rows_are_independent(model: &TypedModel) -> bool {
    proof(model).is_some()
}

fn proof(model: &TypedModel) -> Option<()> {
    let inputs: Vec<&TypedFact> = outlets(model, &model.inputs)?;
    let batch = free_first_extent(inputs.first()?)?;
    let rows: Vec<Rows> = inputs.iter().map(|_| Rows::Along(0)).collect();
    let outputs = follow(model, &batch, &rows)?;
    let is_first = |rows: &Rows| *rows == Rows::Along(0);
    (!outputs.is_empty() && outputs.iter().all(is_first)).then_some(())
}

/// What is known of the outputs, where this is known of the inputs; none if rows may touch each other.
fn follow(model: &TypedModel, batch: &Symbol, inputs: &[Rows]) -> Option<Vec<Rows>> {
    let mut known: Vec<Option<TVec<Rows>>> = vec![None; model.nodes().len()];
    for (outlet, rows) in model.inputs.iter().zip(inputs) {
        let fact = model.outlet_fact(*outlet).ok()?;
        known[outlet.node] = Some(TVec::from_elem(checked(fact, *rows, batch)?, 1));
    }
    for id in model.eval_order().ok()? {
        if known[id].is_none() {
            known[id] = Some(outputs_of(model, model.node(id), batch, &known)?);
        }
    }
    let rows_of = |outlet: &OutletId| known[outlet.node].as_ref()?.get(outlet.slot).copied();
    model.outputs.iter().map(rows_of).collect()
}

fn outputs_of(
    model: &TypedModel,
    node: &TypedNode,
    batch: &Symbol,
    known: &[Option<TVec<Rows>>],
) -> Option<TVec<Rows>> {
    if TypedModel::is_source(&node.op) {
        // Every source is an input of the network.
        return None;
    }
    let facts = outlets(model, &node.inputs)?;
    let rows = node.inputs.iter().map(|outlet| known[outlet.node].as_ref()?.get(outlet.slot).copied());
    let rows = rows.collect::<Option<TVec<Rows>>>()?;
    let operator = rules::Operator { node, batch, facts: &facts, rows: &rows };
    let outputs = rules::outputs(&operator)?;
    let checked = node.outputs.iter().zip(outputs).map(|(output, rows)| checked(&output.fact, rows, batch));
    let checked = checked.collect::<Option<TVec<Rows>>>()?;
    (checked.len() == node.outputs.len()).then_some(checked)
}

fn outlets<'a>(model: &'a TypedModel, outlets: &[OutletId]) -> Option<Vec<&'a TypedFact>> {
    outlets.iter().map(|outlet| model.outlet_fact(*outlet).ok()).collect()
}

fn free_first_extent(input: &TypedFact) -> Option<Symbol> {
    match input.shape.first()? {
        TDim::Sym(symbol) => Some(symbol.clone()),
        _ => None,
    }
}

/// The same, if the shape agrees: the number of rows is the extent of the axis of rows and of no other.
fn checked(fact: &TypedFact, rows: Rows, batch: &Symbol) -> Option<Rows> {
    let axis = match rows {
        Rows::Along(axis) => Some(axis),
        Rows::Constant => None,
    };
    if let Some(axis) = axis {
        is_batch(fact.shape.get(axis)?, batch).then_some(())?;
    }
    let others = fact.shape.iter().enumerate().filter(|(index, _)| Some(*index) != axis);
    let is_free = others.into_iter().all(|(_, extent)| is_free_of(extent, batch));
    let is_free =
        is_free && fact.konst.as_deref().is_none_or(|constant| is_constant_free_of(constant, batch));
    is_free.then_some(rows)
}

fn is_batch(extent: &TDim, batch: &Symbol) -> bool {
    matches!(extent, TDim::Sym(symbol) if symbol == batch)
}

/// Whether an expression says nothing about the number of rows.
fn is_free_of(extent: &TDim, batch: &Symbol) -> bool {
    matches!(extent, TDim::Val(_)) || !extent.symbols().contains(batch)
}

/// Constants may be expressions of extents: the shape of an input is one.
fn is_constant_free_of(constant: &Tensor, batch: &Symbol) -> bool {
    if constant.datum_type() != TDim::datum_type() {
        return true;
    }
    let Ok(plain) = constant.try_as_plain_ram() else { return false };
    plain.as_slice::<TDim>().is_ok_and(|extents| extents.iter().all(|extent| is_free_of(extent, batch)))
}
