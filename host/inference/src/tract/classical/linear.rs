//! Linear models: LinearClassifier and LinearRegressor.

use std::sync::Arc;

use tract_onnx::model::ParsingContext;
use tract_onnx::pb::NodeProto;
use tract_onnx::prelude::{DatumType, TDim, TValue, TVec, TractResult};
use tract_onnx::tract_core::internal::{bail, ensure, tvec};

use super::attributes;
use super::labels::Labels;
use super::operator::{Built, Described, KeptAxes, Operator, built};
use super::post_transform::{PostTransform, SecondClass};
use super::values::{self, NUMBERS, Table, expect_type, rows_and_columns};
use crate::tract::numeric::products::Weights;

/// The weights of a linear model, and what is added to each score.
#[derive(Clone, Debug)]
struct Model(Weights<f32>);

impl Model {
    /// `coefficients` are `[scores, columns]`.
    fn new(coefficients: &[f32], intercepts: &[f32]) -> Model {
        let columns = coefficients.len() / intercepts.len().max(1);
        let weight = |column: usize, score: usize| coefficients[score * columns + column];
        Model(Weights::new(columns, intercepts.len(), weight, |score| intercepts[score]))
    }

    fn count(&self) -> usize {
        self.0.count()
    }

    fn rows(&self, operator: &str, inputs: &[Described], accepted: &[DatumType]) -> TractResult<TDim> {
        let [input] = inputs else { bail!("{operator} takes one input") };
        expect_type(operator, input, accepted)?;
        let (rows, columns) = rows_and_columns(operator, input)?;
        let expected = self.0.columns();
        let fits = columns.as_i64().is_none_or(|columns| columns == expected as i64);
        ensure!(
            fits,
            "{operator}, attribute 'coefficients': values for {expected} columns, but the input has {columns}"
        );
        Ok(rows)
    }

    fn scores(&self, input: &TValue) -> TractResult<Vec<f32>> {
        let table = Table::of(input)?;
        let expected = self.0.columns();
        ensure!(table.columns == expected, "expected {expected} columns, got {}", table.columns);
        let mut scores = vec![0.0; table.rows * self.count()];
        self.0.multiply(&values::floats(input)?, &mut scores);
        Ok(scores)
    }
}

pub(super) fn classifier(_context: &ParsingContext<'_>, node: &NodeProto) -> Built {
    let labels = Labels::new(node, "classlabels_ints", "classlabels_strings")?;
    let coefficients = attributes::floats(node, "coefficients")?.to_vec();
    let intercepts = attributes::floats(node, "intercepts")?.to_vec();
    let post_transform = PostTransform::new(node)?;
    let scores = intercepts.len();
    let has_label_each = scores == labels.len() || (scores == 1 && labels.len() == 2);
    node.expect_attr("intercepts", scores > 0 && has_label_each, || {
        format!("one for each of {} classes, or one for two classes, got {scores}", labels.len())
    })?;
    let is_table = !coefficients.is_empty() && coefficients.len() % scores == 0;
    node.expect_attr("coefficients", is_table, || {
        format!("as many for each of {scores} scores, got {}", coefficients.len())
    })?;
    let is_pair = scores == 1 && labels.len() == 2;
    node.expect_attr("post_transform", !(is_pair && post_transform == PostTransform::Probit), || {
        "another one than PROBIT for two classes from one score".to_owned()
    })?;
    let is_text = matches!(labels, Labels::Texts(_));
    node.expect_attr("classlabels_strings", labels.len() > 1 || !is_text, "two labels or more")?;
    let model = Model::new(&coefficients, &intercepts);
    built(node, Classifier(Arc::new(ClassifierParts { model, labels, post_transform, is_pair })))
}

#[derive(Debug)]
struct ClassifierParts {
    model: Model,
    labels: Labels,
    post_transform: PostTransform,
    /// Whether there is one score for two classes.
    is_pair: bool,
}

#[derive(Clone, Debug)]
struct Classifier(Arc<ClassifierParts>);

impl Operator for Classifier {
    fn name(&self) -> &'static str {
        "LinearClassifier"
    }

    fn output_count(&self) -> usize {
        2
    }

    fn outputs(&self, inputs: &[Described]) -> TractResult<TVec<Described>> {
        let rows = self.0.model.rows("LinearClassifier", inputs, &NUMBERS)?;
        let labels = Described::new(self.0.labels.datum_type(), [rows.clone()]);
        Ok(tvec!(labels, Described::new(DatumType::F32, [rows, TDim::from(self.0.labels.len())])))
    }

    fn kept_axes(&self, inputs: &[Described]) -> KeptAxes {
        KeptAxes::rows(&inputs[0])
    }

    fn run(&self, inputs: &[TValue]) -> TractResult<TVec<TValue>> {
        let ClassifierParts { model, labels, post_transform, is_pair } = &*self.0;
        let mut scores = model.scores(&inputs[0])?;
        let count = model.count();
        let codes: Vec<i64> = scores.chunks_exact(count).map(|scores| self.0.code(scores)).collect();
        if *is_pair {
            scores = post_transform.pairs(&scores, SecondClass::Complement);
        } else if count == 1 {
            scores.iter_mut().for_each(|score| *score = post_transform.single(*score));
        } else {
            post_transform.apply_rows(&mut scores, count);
        }
        let shape = [codes.len(), labels.len()];
        Ok(tvec!(labels.tensor(codes)?, values::tensor(&shape, scores)?))
    }
}

impl ClassifierParts {
    fn code(&self, scores: &[f32]) -> i64 {
        match scores {
            // Of one class alone the label is 1 or 0, whatever it is called.
            [score] if !self.is_pair => i64::from(*score > 0.0),
            [score] => self.labels.code(usize::from(*score > 0.0)),
            scores => self.labels.code(first_largest(scores)),
        }
    }
}

/// The place of the largest score, of the first one if there are several.
pub(super) fn first_largest(scores: &[f32]) -> usize {
    let mut best = 0;
    for (place, score) in scores.iter().enumerate() {
        if *score > scores[best] {
            best = place;
        }
    }
    best
}

pub(super) fn regressor(_context: &ParsingContext<'_>, node: &NodeProto) -> Built {
    let targets = attributes::integer(node, "targets", 1)?;
    let coefficients = attributes::floats(node, "coefficients")?.to_vec();
    let count = coefficients.len() as i64;
    node.expect_attr("targets", targets > 0 && targets <= count, || format!("1 to {count}, got {targets}"))?;
    node.expect_attr("coefficients", count % targets == 0, || {
        format!("as many for each of {targets} targets, got {count}")
    })?;
    let intercepts = attributes::floats(node, "intercepts")?;
    let targets = targets as usize;
    // Of another length they are ignored, as by ONNX Runtime.
    let intercepts = if intercepts.len() == targets { intercepts.to_vec() } else { vec![0.0; targets] };
    let post_transform = PostTransform::new(node)?;
    built(node, Regressor { model: Arc::new(Model::new(&coefficients, &intercepts)), post_transform })
}

#[derive(Clone, Debug)]
struct Regressor {
    model: Arc<Model>,
    post_transform: PostTransform,
}

impl Operator for Regressor {
    fn name(&self) -> &'static str {
        "LinearRegressor"
    }

    fn outputs(&self, inputs: &[Described]) -> TractResult<TVec<Described>> {
        let rows = self.model.rows("LinearRegressor", inputs, &NUMBERS)?;
        Ok(tvec!(Described::new(DatumType::F32, [rows, TDim::from(self.model.count())])))
    }

    fn kept_axes(&self, inputs: &[Described]) -> KeptAxes {
        KeptAxes::rows(&inputs[0])
    }

    fn run(&self, inputs: &[TValue]) -> TractResult<TVec<TValue>> {
        let mut scores = self.model.scores(&inputs[0])?;
        let targets = self.model.count();
        match targets {
            1 => scores.iter_mut().for_each(|score| *score = self.post_transform.single(*score)),
            _ => self.post_transform.apply_rows(&mut scores, targets),
        }
        Ok(tvec!(values::tensor(&[scores.len() / targets, targets], scores)?))
    }
}
