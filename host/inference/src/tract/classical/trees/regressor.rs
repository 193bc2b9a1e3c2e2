//! TreeEnsembleRegressor, and TreeEnsemble, which differs in its encoding and in the type of its output.

use std::sync::Arc;

use tract_onnx::model::ParsingContext;
use tract_onnx::pb::NodeProto;
use tract_onnx::prelude::{DatumType, TDim, TValue, TVec, TractResult};
use tract_onnx::tract_core::internal::tvec;

use super::arrays::{self, Numbers, Weights};
use super::forest::{Aggregate, Number};
use super::lists;
use super::ensemble::{Trees, WalkedTrees};
use super::walk::Scores;
use crate::tract::classical::attributes;
use crate::tract::classical::operator::{Built, Described, KeptAxes, Operator, built};
use crate::tract::classical::post_transform::PostTransform;
use crate::tract::classical::values::{self, Table};

/// More targets than this no model has; the memory for the scores of a block of rows follows from it.
const MAX_TARGETS: i64 = 1 << 16;

pub(in crate::tract::classical) fn regressor(context: &ParsingContext<'_>, node: &NodeProto) -> Built {
    let targets = targets(node)?;
    let forest = arrays::forest(context, node, Weights::Targets, targets)?;
    let base_values = arrays::numbers(context, node, "base_values")?;
    let fits = base_values.values.is_empty() || base_values.values.len() == targets;
    node.expect_attr("base_values", fits, || format!("none or one for each of {targets} targets"))?;
    let post_transform = PostTransform::new(node)?;
    let trees = Trees::new(node, forest, aggregate(node)?, base_values)?;
    built(node, Regressor { name: "TreeEnsembleRegressor", trees, post_transform, keeps_type: false })
}

pub(in crate::tract::classical) fn ensemble(context: &ParsingContext<'_>, node: &NodeProto) -> Built {
    let forest = lists::forest(context, node, targets(node)?)?;
    let post_transform = lists::post_transform(node)?;
    let trees = Trees::new(node, forest, lists::aggregate(node)?, Numbers::default())?;
    built(node, Regressor { name: "TreeEnsemble", trees, post_transform, keeps_type: true })
}

fn targets(node: &NodeProto) -> TractResult<usize> {
    let targets = attributes::integer(node, "n_targets", 0)?;
    node.expect_attr("n_targets", (1..=MAX_TARGETS).contains(&targets), || format!("1 to {MAX_TARGETS}, got {targets}"))?;
    Ok(targets as usize)
}

fn aggregate(node: &NodeProto) -> TractResult<Aggregate> {
    let name = attributes::text(node, "aggregate_function", "SUM")?;
    match Aggregate::named(&name) {
        Ok(aggregate) => Ok(aggregate),
        Err(error) => node.bail_attr("aggregate_function", &error.to_string()),
    }
}

#[derive(Clone, Debug)]
struct Regressor {
    name: &'static str,
    trees: Trees,
    post_transform: PostTransform,
    /// Whether the output has the type of the input. Otherwise it is FP32.
    keeps_type: bool,
}

impl Operator for Regressor {
    fn name(&self) -> &'static str {
        self.name
    }

    fn outputs(&self, inputs: &[Described]) -> TractResult<TVec<Described>> {
        let rows = self.trees.rows(inputs)?;
        let datum_type = if self.keeps_type { inputs[0].datum_type } else { DatumType::F32 };
        Ok(tvec!(Described::new(datum_type, [rows, TDim::from(self.trees.targets())])))
    }

    fn kept_axes(&self, inputs: &[Described]) -> KeptAxes {
        KeptAxes::rows(&inputs[0])
    }

    fn for_types(&self, inputs: &[DatumType]) -> TractResult<Option<Arc<dyn Operator>>> {
        Ok(Some(Arc::new(Regressor { trees: self.trees.for_type(inputs[0])?, ..self.clone() })))
    }

    fn run(&self, inputs: &[TValue]) -> TractResult<TVec<TValue>> {
        let shape = [Table::of(&inputs[0])?.rows, self.trees.targets()];
        let output = match self.trees.walked()? {
            WalkedTrees::Single(trees) => {
                let mut output = Vec::with_capacity(shape[0] * shape[1]);
                let finish = |row: Scores<'_, f32>, base: &[f32]| self.finish(row, base, &mut output);
                trees.walk(&inputs[0], finish)?;
                values::tensor(&shape, output)?
            }
            WalkedTrees::Double(trees) => {
                let mut output = Vec::with_capacity(shape[0] * shape[1]);
                let finish = |row: Scores<'_, f64>, base: &[f64]| self.finish(row, base, &mut output);
                trees.walk(&inputs[0], finish)?;
                match self.keeps_type {
                    true => values::tensor(&shape, output)?,
                    false => values::tensor(&shape, output.into_iter().map(|value| value as f32).collect())?,
                }
            }
        };
        Ok(tvec!(output))
    }
}

impl Regressor {
    fn finish<T: Number>(&self, row: Scores<'_, T>, base: &[T], output: &mut Vec<T>) {
        for (score, base) in row.scores.iter_mut().zip(base) {
            *score += *base;
        }
        // The transforms are made for classes: of one target only PROBIT changes anything, and all compute in FP32.
        match (self.post_transform, &*row.scores) {
            (PostTransform::None, scores) => output.extend_from_slice(scores),
            (transform, [score]) => match transform {
                PostTransform::Probit => output.push(T::from_double(f64::from(transform.single(score.to_float())))),
                _ => output.push(*score),
            },
            (transform, scores) => {
                let mut scores: Vec<f32> = scores.iter().map(|score| score.to_float()).collect();
                transform.apply(&mut scores);
                output.extend(scores.into_iter().map(|score| T::from_double(f64::from(score))));
            }
        }
    }
}
