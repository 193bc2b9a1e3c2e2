//! Support vector machines: SVMClassifier and SVMRegressor.

use std::sync::Arc;

use tract_onnx::model::ParsingContext;
use tract_onnx::pb::NodeProto;
use tract_onnx::prelude::{DatumType, TDim, TValue, TVec, TractResult};
use tract_onnx::tract_core::internal::{bail, ensure, tvec};

use super::attributes::{self, expect_length};

use super::labels::Labels;
use super::linear::first_largest;
use super::operator::{Built, Described, KeptAxes, Operator, built};
use super::post_transform::{PostTransform, SecondClass, logistic};
use super::values::{self, NUMBERS, Table, expect_type, rows_and_columns};
use crate::tract::numeric::functions::{Exponentials, HyperbolicTangents};
use crate::tract::numeric::products::{self, Weights};
use crate::tract::numeric::widest::{Loop, widest};

/// Rows whose kernels are computed at once: bounds the memory inside a run.
const BLOCK: usize = 64;

/// More classes than this no model has. The number of pairs of classes grows with the square.
const MAX_CLASSES: usize = 1 << 10;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum KernelType {
    Linear,
    Poly,
    Rbf,
    Sigmoid,
}

/// Compares rows with vectors.
#[derive(Debug)]
struct Kernel {
    kind: KernelType,
    gamma: f32,
    coef0: f32,
    degree: f32,
    vectors: Vectors,
    columns: usize,
    count: usize,
}

#[derive(Debug)]
enum Vectors {
    /// One after the other, for distances.
    Rows(Vec<f32>),
    Weights(Weights<f32>),
}

impl Kernel {
    fn new(node: &NodeProto, vectors: &[f32], count: usize) -> TractResult<Kernel> {
        let kind = match attributes::text(node, "kernel_type", "LINEAR")?.as_str() {
            "LINEAR" => KernelType::Linear,
            "POLY" => KernelType::Poly,
            "RBF" => KernelType::Rbf,
            "SIGMOID" => KernelType::Sigmoid,
            _ => return node.bail_attr("kernel_type", "expected LINEAR, POLY, RBF or SIGMOID"),
        };
        let parameters = attributes::floats(node, "kernel_params")?;
        let (gamma, coef0, degree) = match *parameters {
            [] => (0.0, 0.0, 0.0),
            [gamma, coef0, degree] => (gamma, coef0, degree),
            _ => return node.bail_attr("kernel_params", "expected gamma, coef0 and degree"),
        };
        let length = vectors.len();
        let is_table = count > 0 && length > 0 && length.is_multiple_of(count);
        node.expect_attr("support_vectors", is_table, || {
            format!("as many numbers for each of {count} vectors, got {length}")
        })?;
        Ok(Kernel { gamma, coef0, degree, ..Kernel::of_table(kind, vectors, count) })
    }

    /// `vectors` are as many as `count` says.
    fn of_table(kind: KernelType, vectors: &[f32], count: usize) -> Kernel {
        let columns = vectors.len() / count;
        let vectors = match kind {
            KernelType::Rbf => Vectors::Rows(vectors.to_vec()),
            _ => {
                let weight = |column: usize, vector: usize| vectors[vector * columns + column];
                Vectors::Weights(Weights::new(columns, count, weight, |_| 0.0))
            }
        };
        Kernel { kind, gamma: 0.0, coef0: 0.0, degree: 0.0, vectors, columns, count }
    }

    /// The kernel of each of the rows with each of the vectors.
    fn of(&self, rows: &[f32], output: &mut Vec<f32>) {
        output.resize(rows.len() / self.columns * self.count, 0.0);
        match &self.vectors {
            Vectors::Rows(vectors) => widest(Squares { rows, vectors, columns: self.columns, output }),
            Vectors::Weights(weights) => weights.multiply(rows, output),
        }
        let argument = |product: f32| self.gamma * product + self.coef0;
        match self.kind {
            KernelType::Linear => {}
            KernelType::Rbf => {
                output.iter_mut().for_each(|distance| *distance *= -self.gamma);
                widest(Exponentials(output));
            }
            KernelType::Poly if self.degree == 2.0 => {
                output.iter_mut().for_each(|product| *product = argument(*product).powi(2))
            }
            KernelType::Poly if self.degree == 3.0 => {
                output.iter_mut().for_each(|product| *product = argument(*product).powi(3))
            }
            KernelType::Poly => {
                output.iter_mut().for_each(|product| *product = argument(*product).powf(self.degree))
            }
            KernelType::Sigmoid => {
                output.iter_mut().for_each(|product| *product = argument(*product));
                widest(HyperbolicTangents(output));
            }
        }
    }
}

/// The squared distance of each row from each vector.
struct Squares<'a> {
    rows: &'a [f32],
    vectors: &'a [f32],
    columns: usize,
    output: &'a mut [f32],
}

impl Loop for Squares<'_> {
    type Output = ();

    #[inline(always)]
    fn run<const FUSED: bool>(self) {
        let vectors = || self.vectors.chunks_exact(self.columns);
        let pairs =
            self.rows.chunks_exact(self.columns).flat_map(|row| vectors().map(move |vector| (row, vector)));
        for (output, (row, vector)) in self.output.iter_mut().zip(pairs) {
            *output = products::sum_of(row, vector, |x, vector| (x - vector) * (x - vector));
        }
    }
}

/// A linear model in place of support vectors: the weights are the only vectors.
fn linear_kernel(node: &NodeProto, weights: &[f32], count: usize) -> TractResult<Kernel> {
    let is_table = count > 0 && !weights.is_empty() && weights.len().is_multiple_of(count);
    node.expect_attr("coefficients", is_table, || format!("as many numbers for each of {count} scores"))?;
    Ok(Kernel::of_table(KernelType::Linear, weights, count))
}

fn rows(operator: &str, kernel: &Kernel, inputs: &[Described]) -> TractResult<TDim> {
    let [input] = inputs else { bail!("{operator} takes one input") };
    expect_type(operator, input, &NUMBERS)?;
    let (rows, columns) = rows_and_columns(operator, input)?;
    let fits = columns.as_i64().is_none_or(|columns| columns == kernel.columns as i64);
    ensure!(
        fits,
        "{operator}, attribute 'support_vectors': {} columns, but the input has {columns}",
        kernel.columns
    );
    Ok(rows)
}

/// Hands over each row's kernels, in order.
fn for_each_row(kernel: &Kernel, input: &TValue, mut finish: impl FnMut(&[f32])) -> TractResult<()> {
    let table = Table::of(input)?;
    ensure!(table.columns == kernel.columns, "expected {} columns, got {}", kernel.columns, table.columns);
    let mut kernels = Vec::new();
    for block in values::floats(input)?.chunks(BLOCK * kernel.columns) {
        kernel.of(block, &mut kernels);
        kernels.chunks_exact(kernel.count).for_each(&mut finish);
    }
    Ok(())
}

pub(super) fn regressor(_context: &ParsingContext<'_>, node: &NodeProto) -> Built {
    let supports = attributes::integer(node, "n_supports", 0)?;
    let coefficients = attributes::floats(node, "coefficients")?.to_vec();
    let rho = attributes::floats(node, "rho")?;
    let [rho] = *rho else { return node.bail_attr("rho", "expected one number") };
    let is_one_class = attributes::integer(node, "one_class", 0)? != 0;
    let (kernel, coefficients) = if supports > 0 {
        let supports = supports as usize;
        expect_length(node, "coefficients", coefficients.len(), supports)?;
        let vectors = attributes::floats(node, "support_vectors")?;
        (Kernel::new(node, vectors, supports)?, coefficients)
    } else {
        (linear_kernel(node, &coefficients, 1)?, vec![1.0])
    };
    let post_transform = PostTransform::new(node)?;
    node.expect_attr("post_transform", post_transform == PostTransform::None, "NONE")?;
    built(node, Regressor(Arc::new(RegressorParts { kernel, coefficients, rho, is_one_class })))
}

#[derive(Debug)]
struct RegressorParts {
    kernel: Kernel,
    coefficients: Vec<f32>,
    rho: f32,
    is_one_class: bool,
}

#[derive(Clone, Debug)]
struct Regressor(Arc<RegressorParts>);

impl Operator for Regressor {
    fn name(&self) -> &'static str {
        "SVMRegressor"
    }

    fn outputs(&self, inputs: &[Described]) -> TractResult<TVec<Described>> {
        let rows = rows("SVMRegressor", &self.0.kernel, inputs)?;
        Ok(tvec!(Described::new(DatumType::F32, [rows, 1.into()])))
    }

    fn kept_axes(&self, inputs: &[Described]) -> KeptAxes {
        KeptAxes::rows(&inputs[0])
    }

    fn run(&self, inputs: &[TValue]) -> TractResult<TVec<TValue>> {
        let RegressorParts { kernel, coefficients, rho, is_one_class } = &*self.0;
        let mut output = Vec::with_capacity(Table::of(&inputs[0])?.rows);
        for_each_row(kernel, &inputs[0], |kernels| {
            let score =
                rho + products::sum_of(kernels, coefficients, |kernel, coefficient| kernel * coefficient);
            output.push(match (*is_one_class, score > 0.0) {
                (false, _) => score,
                (true, true) => 1.0,
                (true, false) => -1.0,
            });
        })?;
        Ok(tvec!(values::tensor(&[output.len(), 1], output)?))
    }
}

pub(super) fn classifier(_context: &ParsingContext<'_>, node: &NodeProto) -> Built {
    let labels = Labels::new(node, "classlabels_ints", "classlabels_strings")?;
    let classes = labels.len();
    node.expect_attr("classlabels_ints", (2..=MAX_CLASSES).contains(&classes), || {
        format!("2 to {MAX_CLASSES} classes, got {classes}")
    })?;
    let coefficients = attributes::floats(node, "coefficients")?.to_vec();
    let rho = attributes::floats(node, "rho")?.to_vec();
    let post_transform = PostTransform::new(node)?;
    let has_no_negative = coefficients.iter().all(|coefficient| *coefficient >= 0.0);
    let (kernel, votes) = match support_ranges(node, classes)? {
        Some(ranges) => {
            let votes = Votes::new(node, ranges, coefficients, rho.clone())?;
            let is_pair = classes == 2 && votes.probability.is_empty();
            node.expect_attr(
                "post_transform",
                !(is_pair && post_transform == PostTransform::Probit),
                || "another one than PROBIT for two classes".to_owned(),
            )?;
            let vectors = attributes::floats(node, "support_vectors")?;
            (Kernel::new(node, vectors, votes.supports())?, Some(votes))
        }
        None => {
            node.expect_attr("rho", !rho.is_empty(), "at least one number")?;
            (linear_kernel(node, &coefficients, classes)?, None)
        }
    };
    let parts = ClassifierParts { kernel, votes, rho, labels, post_transform, has_no_negative };
    built(node, Classifier(Arc::new(parts)))
}

/// Which vectors belong to which class; none where there are no support vectors.
fn support_ranges(node: &NodeProto, classes: usize) -> TractResult<Option<Vec<std::ops::Range<usize>>>> {
    let counts = attributes::integers(node, "vectors_per_class")?;
    if counts.iter().all(|count| *count == 0) {
        return Ok(None);
    }
    expect_length(node, "vectors_per_class", counts.len(), classes)?;
    let mut start = 0_usize;
    let mut ranges = Vec::with_capacity(classes);
    for count in counts {
        // More than an attribute can hold is refused where the vectors are counted.
        let end = usize::try_from(*count).ok().and_then(|count| start.checked_add(count));
        let Some(end) = end else {
            return node.bail_attr("vectors_per_class", "expected no negative numbers");
        };
        ranges.push(start..end);
        start = end;
    }
    Ok(Some(ranges))
}

/// One model for each pair of classes; each says which of the two it is.
#[derive(Debug)]
struct Votes {
    ranges: Vec<std::ops::Range<usize>>,
    /// `[classes - 1, vectors]`: what a class's vectors count in its pair with each other class, in the order of these.
    coefficients: Vec<f32>,
    rho: Vec<f32>,
    /// For each pair, what makes a probability of its score; empty where there are no probabilities.
    probability: Vec<(f32, f32)>,
}

impl Votes {
    fn new(
        node: &NodeProto,
        ranges: Vec<std::ops::Range<usize>>,
        coefficients: Vec<f32>,
        rho: Vec<f32>,
    ) -> TractResult<Votes> {
        let pairs = ranges.len() * (ranges.len() - 1) / 2;
        let (a, b) = (attributes::floats(node, "prob_a")?, attributes::floats(node, "prob_b")?);
        expect_length(node, "rho", rho.len(), pairs)?;
        expect_length(node, "prob_b", b.len(), a.len())?;
        node.expect_attr("prob_a", a.is_empty() || a.len() == pairs, || format!("none or {pairs} numbers"))?;
        let votes = Votes {
            ranges,
            coefficients,
            rho,
            probability: a.iter().copied().zip(b.iter().copied()).collect(),
        };
        let expected = votes.supports().checked_mul(votes.ranges.len() - 1);
        node.expect_attr("coefficients", expected == Some(votes.coefficients.len()), || {
            "one for each vector and each other class".to_owned()
        })?;
        Ok(votes)
    }

    fn supports(&self) -> usize {
        self.ranges.last().map_or(0, |range| range.end)
    }

    /// The scores of all pairs, and how many votes each class has.
    fn of(&self, kernels: &[f32], scores: &mut Vec<f32>, votes: &mut [u32]) {
        scores.clear();
        votes.fill(0);
        let classes = self.ranges.len();
        for (first, second) in
            (0..classes).flat_map(|first| (first + 1..classes).map(move |second| (first, second)))
        {
            let sum = self.part(kernels, second - 1, first) + self.part(kernels, first, second);
            let sum = sum + f64::from(self.rho[scores.len()]);
            scores.push(sum as f32);
            votes[if sum > 0.0 { first } else { second }] += 1;
        }
    }

    fn part(&self, kernels: &[f32], row: usize, class: usize) -> f64 {
        let range = self.ranges[class].clone();
        let start = row * self.supports();
        let coefficients = &self.coefficients[start + range.start..start + range.end];
        let products = coefficients
            .iter()
            .zip(&kernels[range])
            .map(|(coefficient, kernel)| f64::from(coefficient * kernel));
        products.sum()
    }

    /// For each pair, how probable its first class is: in a square table, with the other way round below the diagonal.
    fn probabilities(&self, scores: &[f32]) -> Vec<f32> {
        let classes = self.ranges.len();
        let mut table = vec![0.0; classes * classes];
        let pairs = (0..classes).flat_map(|first| (first + 1..classes).map(move |second| (first, second)));
        for ((first, second), (score, (a, b))) in pairs.zip(scores.iter().zip(&self.probability)) {
            let probability = (1.0 - logistic(score * a + b)).clamp(1e-7, 1.0 - 1e-7);
            table[first * classes + second] = probability;
            table[second * classes + first] = 1.0 - probability;
        }
        table
    }
}

/// The probabilities of classes that agree best with those of pairs: the second method of Wu, Lin and Weng, "Probability
/// estimates for multi-class classification by pairwise coupling" (2004), which libsvm and ONNX Runtime use.
fn couple(pairs: &[f32], classes: usize) -> Vec<f32> {
    const ROUNDS: usize = 100;
    let pair = |first: usize, second: usize| pairs[first * classes + second];
    let mut q = vec![0.0_f32; classes * classes];
    for one in 0..classes {
        for other in (0..classes).filter(|other| *other != one) {
            q[one * classes + one] += pair(other, one) * pair(other, one);
            q[one * classes + other] = -pair(other, one) * pair(one, other);
        }
    }
    let mut p = vec![1.0 / classes as f32; classes];
    let mut qp = vec![0.0_f32; classes];
    for _ in 0..ROUNDS {
        let mut pqp = 0.0;
        for one in 0..classes {
            qp[one] = (0..classes).map(|other| q[one * classes + other] * p[other]).sum();
            pqp += p[one] * qp[one];
        }
        let error = qp.iter().map(|value| (value - pqp).abs()).fold(0.0, f32::max);
        if error < 0.005 / classes as f32 {
            break;
        }
        for one in 0..classes {
            let diagonal = q[one * classes + one];
            let step = (pqp - qp[one]) / diagonal;
            p[one] += step;
            pqp = (pqp + step * (step * diagonal + 2.0 * qp[one])) / (1.0 + step) / (1.0 + step);
            for other in 0..classes {
                qp[other] = (qp[other] + step * q[one * classes + other]) / (1.0 + step);
                p[other] /= 1.0 + step;
            }
        }
    }
    p
}

#[derive(Debug)]
struct ClassifierParts {
    kernel: Kernel,
    /// None where there is a linear model for each class in place of support vectors.
    votes: Option<Votes>,
    rho: Vec<f32>,
    labels: Labels,
    post_transform: PostTransform,
    has_no_negative: bool,
}

#[derive(Clone, Debug)]
struct Classifier(Arc<ClassifierParts>);

impl Operator for Classifier {
    fn name(&self) -> &'static str {
        "SVMClassifier"
    }

    fn output_count(&self) -> usize {
        2
    }

    fn outputs(&self, inputs: &[Described]) -> TractResult<TVec<Described>> {
        let rows = rows("SVMClassifier", &self.0.kernel, inputs)?;
        let labels = Described::new(self.0.labels.datum_type(), [rows.clone()]);
        Ok(tvec!(labels, Described::new(DatumType::F32, [rows, TDim::from(self.0.score_count())])))
    }

    fn kept_axes(&self, inputs: &[Described]) -> KeptAxes {
        KeptAxes::rows(&inputs[0])
    }

    fn run(&self, inputs: &[TValue]) -> TractResult<TVec<TValue>> {
        let parts = &*self.0;
        let rows = Table::of(&inputs[0])?.rows;
        let mut codes = Vec::with_capacity(rows);
        let mut output = Vec::with_capacity(rows * parts.score_count());
        let mut scores = Vec::new();
        let mut counts = vec![0; parts.labels.len()];
        for_each_row(&parts.kernel, &inputs[0], |kernels| {
            codes.push(match &parts.votes {
                Some(votes) => {
                    votes.of(kernels, &mut scores, &mut counts);
                    parts.finish_votes(votes, &scores, &mut output);
                    parts.labels.code(first_most(&counts))
                }
                None => parts.finish_linear(kernels, &mut output),
            });
        })?;
        Ok(tvec!(parts.labels.tensor(codes)?, values::tensor(&[rows, parts.score_count()], output)?))
    }
}

impl ClassifierParts {
    fn score_count(&self) -> usize {
        let classes = self.labels.len();
        match &self.votes {
            Some(votes) if votes.probability.is_empty() && classes > 2 => votes.rho.len(),
            _ => classes,
        }
    }

    fn finish_votes(&self, votes: &Votes, scores: &[f32], output: &mut Vec<f32>) {
        let start = output.len();
        match scores {
            _ if !votes.probability.is_empty() => {
                output.extend(couple(&votes.probabilities(scores), self.labels.len()));
            }
            [score] => {
                let is_raw = self.post_transform == PostTransform::None;
                let second = if is_raw { SecondClass::Negative } else { SecondClass::Complement };
                output.extend(self.post_transform.pair(*score, second));
                return;
            }
            scores => output.extend_from_slice(scores),
        }
        self.post_transform.apply(&mut output[start..]);
    }

    fn finish_linear(&self, products: &[f32], output: &mut Vec<f32>) -> i64 {
        let start = output.len();
        output.extend(products.iter().map(|product| product + self.rho[0]));
        let scores = &mut output[start..];
        let best = first_largest(scores);
        let largest = scores[best];
        self.post_transform.apply(scores);
        // Of two classes ONNX Runtime prefers the second one wherever the larger score is positive.
        let limit = if self.has_no_negative { largest >= 0.5 } else { largest > 0.0 };
        self.labels.code(if self.labels.len() == 2 && limit { 1 } else { best })
    }
}

fn first_most(votes: &[u32]) -> usize {
    let mut best = 0;
    for (place, count) in votes.iter().enumerate() {
        if *count > votes[best] {
            best = place;
        }
    }
    best
}
