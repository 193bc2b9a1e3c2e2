//! TreeEnsembleClassifier: from sums to labels and probabilities.
//!
//! Models for two classes come in several forms, which the operator set does not tell apart but ONNX Runtime does: what
//! is done here is what it answers.

use std::sync::Arc;

use tract_onnx::model::ParsingContext;
use tract_onnx::pb::NodeProto;
use tract_onnx::prelude::{DatumType, TDim, TValue, TVec, TractResult};
use tract_onnx::tract_core::internal::tvec;

use super::arrays::{self, Weights};
use super::forest::{Aggregate, Forest, Number};
use super::ensemble::{Trees, Walked, WalkedTrees};
use super::walk::Scores;
use crate::tract::classical::labels::Labels;
use crate::tract::classical::operator::{Built, Described, KeptAxes, Operator, built};
use crate::tract::classical::post_transform::{PostTransform, SecondClass};
use crate::tract::classical::values::{self, Table};

pub(in crate::tract::classical) fn classifier(context: &ParsingContext<'_>, node: &NodeProto) -> Built {
    let labels = Labels::new(node, "classlabels_int64s", "classlabels_strings")?;
    let classes = labels.len();
    let forest = arrays::forest(context, node, Weights::Classes, classes)?;
    let base_values = arrays::numbers(context, node, "base_values")?;
    let bases = base_values.values.len();
    let fits = bases == 0 || bases == classes || (classes == 2 && bases == 1);
    node.expect_attr("base_values", fits, || format!("none or one for each of {classes} classes, got {bases}"))?;
    let form = form(node, &labels, &forest)?;
    let post_transform = PostTransform::new(node)?;
    let trees = Trees::new(node, forest, Aggregate::Sum, base_values)?;
    built(node, Classifier { trees, labels: Arc::new(labels), form, post_transform })
}

/// How a label follows from the scores.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Form {
    /// One class: the label is 1 for a positive score, else 0, whatever it is called.
    One,
    /// Two classes of which the trees give only one score, a probability.
    Probability,
    /// Two classes of which the trees give only one score, a distance from the border.
    Distance,
    /// Two classes with a score for each.
    Two,
    Many,
}

fn form(node: &NodeProto, labels: &Labels, forest: &Forest) -> TractResult<Form> {
    let is_text = matches!(labels, Labels::Texts(_));
    node.expect_attr("classlabels_strings", labels.len() > 1 || !is_text, "two labels or more")?;
    let mut scored = forest.weights.iter().map(|(class, _)| *class);
    let first = scored.next();
    let has_one_score = first.is_some() && scored.all(|class| Some(class) == first);
    let has_no_negative = forest.weights.iter().all(|(_, weight)| *weight >= 0.0);
    Ok(match labels.len() {
        1 => Form::One,
        2 if has_one_score && has_no_negative => Form::Probability,
        2 if has_one_score => Form::Distance,
        2 => Form::Two,
        _ => Form::Many,
    })
}

#[derive(Clone, Debug)]
struct Classifier {
    trees: Trees,
    labels: Arc<Labels>,
    form: Form,
    post_transform: PostTransform,
}

impl Operator for Classifier {
    fn name(&self) -> &'static str {
        "TreeEnsembleClassifier"
    }

    fn output_count(&self) -> usize {
        2
    }

    fn outputs(&self, inputs: &[Described]) -> TractResult<TVec<Described>> {
        let rows = self.trees.rows(inputs)?;
        let labels = Described::new(self.labels.datum_type(), [rows.clone()]);
        Ok(tvec!(labels, Described::new(DatumType::F32, [rows, TDim::from(self.labels.len())])))
    }

    fn kept_axes(&self, inputs: &[Described]) -> KeptAxes {
        KeptAxes::rows(&inputs[0])
    }

    fn for_types(&self, inputs: &[DatumType]) -> TractResult<Option<Arc<dyn Operator>>> {
        Ok(Some(Arc::new(Classifier { trees: self.trees.for_type(inputs[0])?, ..self.clone() })))
    }

    fn run(&self, inputs: &[TValue]) -> TractResult<TVec<TValue>> {
        match self.trees.walked()? {
            WalkedTrees::Single(trees) => self.run_on(trees, &inputs[0]),
            WalkedTrees::Double(trees) => self.run_on(trees, &inputs[0]),
        }
    }
}

impl Classifier {
    fn run_on<T: Number>(&self, trees: &Walked<T>, input: &TValue) -> TractResult<TVec<TValue>> {
        let rows = Table::of(input)?.rows;
        let classes = self.labels.len();
        let mut codes = Vec::with_capacity(rows);
        let mut scores: Vec<f32> = Vec::with_capacity(rows * classes);
        trees.walk(input, |row, base| {
            let code = match classes {
                1 => self.one(row, base, &mut scores),
                2 => self.two(row, base, &mut scores),
                _ => self.many(row, base, &mut scores),
            };
            codes.push(code);
        })?;
        Ok(tvec!(self.labels.tensor(codes)?, values::tensor(&[rows, classes], scores)?))
    }

    fn many<T: Number>(&self, row: Scores<'_, T>, base: &[T], output: &mut Vec<f32>) -> i64 {
        for ((score, seen), base) in row.scores.iter_mut().zip(&mut *row.seen).zip(base) {
            *score += *base;
            *seen = true;
        }
        // A class for which no leaf had a weight is not chosen, even if all others have negative scores.
        let mut best: Option<usize> = None;
        for class in (0..row.scores.len()).filter(|class| row.seen[*class]) {
            if best.is_none_or(|best| row.scores[class] > row.scores[best]) {
                best = Some(class);
            }
        }
        self.write(row.scores, output);
        self.labels.code(best.unwrap_or(0))
    }

    fn one<T: Number>(&self, row: Scores<'_, T>, base: &[T], output: &mut Vec<f32>) -> i64 {
        let score = row.scores[0] + base.first().copied().unwrap_or(T::zero());
        output.push(self.post_transform.single(score.to_float()));
        i64::from(score > T::zero())
    }

    fn two<T: Number>(&self, row: Scores<'_, T>, base: &[T], output: &mut Vec<f32>) -> i64 {
        let zero = T::zero();
        let (scores, seen) = (row.scores, row.seen);
        match base {
            &[_, second] if seen[1] => {
                scores[1] = second + scores[0];
                scores[0] = -scores[1];
            }
            &[first, second] => {
                scores[1] += second;
                scores[0] += first;
            }
            &[only] => scores[0] += only,
            _ => {}
        }
        let has_pair = seen[1] || base.len() == 2;
        let deciding = if seen[1] { scores[1] } else { scores[0] };
        let (is_second, second_class) = match self.form {
            Form::Probability => (deciding > T::from_double(0.5), SecondClass::Complement),
            _ => (deciding > zero, SecondClass::Negative),
        };
        let code = match self.form {
            Form::Probability | Form::Distance => self.labels.code(usize::from(is_second)),
            _ => i64::from(is_second),
        };
        if has_pair {
            self.write(scores, output);
        } else {
            output.extend(self.post_transform.pair(scores[0].to_float(), second_class));
        }
        code
    }

    fn write<T: Number>(&self, scores: &[T], output: &mut Vec<f32>) {
        let start = output.len();
        output.extend(scores.iter().map(|score| score.to_float()));
        self.post_transform.apply(&mut output[start..]);
    }
}
