//! A forest with what is done to its answers, for inputs of whichever type.
//!
//! The type of the input is known only after the network was analysed. Then the forest is laid out, for FP64 inputs in
//! FP64 and for all others in FP32.

use std::sync::Arc;

use tract_onnx::pb::NodeProto;
use tract_onnx::prelude::{DatumType, TDim, TValue, TractResult};
use tract_onnx::tract_core::internal::{bail, ensure, format_err};

use super::arrays::Numbers;
use super::forest::{Aggregate, Forest, Number};
use super::layout::Layout;
use super::walk::{self, Scores};
use crate::tract::classical::operator::Described;
use crate::tract::classical::values::{self, NUMBERS, Table, expect_type, rows_and_columns};

#[derive(Clone, Debug)]
pub(super) struct Trees {
    /// Operator and node, for messages.
    node: Arc<str>,
    targets: usize,
    aggregate: Aggregate,
    base_values: Arc<Numbers>,
    state: State,
}

#[derive(Clone, Debug)]
enum State {
    Described(Arc<Forest>),
    Walked(WalkedTrees),
}

#[derive(Clone, Debug)]
pub(super) enum WalkedTrees {
    Single(Arc<Walked<f32>>),
    Double(Arc<Walked<f64>>),
}

#[derive(Debug)]
pub(super) struct Walked<T> {
    layout: Layout<T>,
    aggregate: Aggregate,
    base_values: Vec<T>,
}

impl Trees {
    pub(super) fn new(
        node: &NodeProto,
        forest: Forest,
        aggregate: Aggregate,
        base_values: Numbers,
    ) -> TractResult<Trees> {
        let label = format!("Node {} ({})", node.name, node.op_type).into();
        let targets = forest.targets;
        let trees = Trees {
            node: label,
            targets,
            aggregate,
            base_values: Arc::new(base_values),
            state: State::Described(Arc::new(forest)),
        };
        Ok(trees)
    }

    pub(super) fn targets(&self) -> usize {
        self.targets
    }

    /// The number of rows of an input, if the trees take it.
    pub(super) fn rows(&self, inputs: &[Described]) -> TractResult<TDim> {
        let [input] = inputs else { bail!("{} takes one input", self.node) };
        expect_type(&self.node, input, &NUMBERS)?;
        let (rows, columns) = rows_and_columns(&self.node, input)?;
        if let (State::Walked(walked), Some(columns)) = (&self.state, columns.as_i64()) {
            self.check_columns(walked.features(), columns)?;
        }
        Ok(rows)
    }

    fn check_columns(&self, features: usize, columns: i64) -> TractResult<()> {
        ensure!(
            features as i64 <= columns,
            "{}, attribute 'nodes_featureids': feature {} is asked for, but the input has {columns}",
            self.node,
            features.saturating_sub(1),
        );
        Ok(())
    }

    /// The same trees, laid out for inputs of this type.
    pub(super) fn for_type(&self, input: DatumType) -> TractResult<Trees> {
        let State::Described(forest) = &self.state else { return Ok(self.clone()) };
        let walked = match input {
            DatumType::F64 => WalkedTrees::Double(Arc::new(self.laid_out(forest)?)),
            _ => {
                let is_double = forest.is_double || self.base_values.is_double;
                ensure!(!is_double, "{} has numbers of FP64, so it takes an input of FP64, not of {input:?}", self.node);
                WalkedTrees::Single(Arc::new(self.laid_out(forest)?))
            }
        };
        Ok(Trees { state: State::Walked(walked), ..self.clone() })
    }

    fn laid_out<T: Number>(&self, forest: &Forest) -> TractResult<Walked<T>> {
        let layout = Layout::new(forest).map_err(|error| format_err!("{}: {error}", self.node))?;
        let base_values = self.base_values.values.iter().map(|value| T::from_double(*value)).collect();
        Ok(Walked { layout, aggregate: self.aggregate, base_values })
    }

    pub(super) fn walked(&self) -> TractResult<&WalkedTrees> {
        match &self.state {
            State::Walked(walked) => Ok(walked),
            State::Described(_) => bail!("{} was not laid out", self.node),
        }
    }
}

impl WalkedTrees {
    fn features(&self) -> usize {
        match self {
            WalkedTrees::Single(trees) => trees.layout.features,
            WalkedTrees::Double(trees) => trees.layout.features,
        }
    }
}

impl<T: Number> Walked<T> {
    /// Hands over the scores of each row in order, with the base values, which are not added yet.
    pub(super) fn walk(&self, input: &TValue, mut finish: impl FnMut(Scores<'_, T>, &[T])) -> TractResult<()> {
        let Table { columns, .. } = Table::of(input)?;
        ensure!(
            columns >= self.layout.features,
            "expected at least {} columns for the trees, got {columns}",
            self.layout.features
        );
        let finish = |scores: Scores<'_, T>| finish(scores, &self.base_values);
        // Of the type of the thresholds, unless the input is of whole numbers.
        if input.datum_type() == T::datum_type() {
            walk::walk(&self.layout, self.aggregate, values::elements::<T>(input)?, columns, finish);
            return Ok(());
        }
        let floats = values::floats(input)?;
        let numbers: Vec<T> = floats.iter().map(|value| T::from_double(f64::from(*value))).collect();
        walk::walk(&self.layout, self.aggregate, &numbers, columns, finish);
        Ok(())
    }
}
