//! What becomes of a model's raw scores: the attribute `post_transform`.

use std::f32::consts::{PI, SQRT_2};

use tract_onnx::pb::NodeProto;
use tract_onnx::prelude::TractResult;

use super::attributes;
use crate::tract::numeric::functions::{Exponentials, exponential};
use crate::tract::numeric::widest::{Loop, widest};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum PostTransform {
    None,
    Softmax,
    Logistic,
    SoftmaxZero,
    Probit,
}

/// How one score of a model for two classes becomes two.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum SecondClass {
    /// A probability: the other one is what is missing to 1.
    Complement,
    /// A distance from the border: the other one is its negative.
    Negative,
}

impl PostTransform {
    pub(super) fn new(node: &NodeProto) -> TractResult<PostTransform> {
        match attributes::text(node, "post_transform", "NONE")?.as_str() {
            "NONE" => Ok(PostTransform::None),
            "SOFTMAX" => Ok(PostTransform::Softmax),
            "LOGISTIC" => Ok(PostTransform::Logistic),
            "SOFTMAX_ZERO" => Ok(PostTransform::SoftmaxZero),
            "PROBIT" => Ok(PostTransform::Probit),
            _ => node.bail_attr("post_transform", "expected NONE, SOFTMAX, LOGISTIC, SOFTMAX_ZERO or PROBIT"),
        }
    }

    /// The scores of one row with two or more classes.
    pub(super) fn apply(self, scores: &mut [f32]) {
        let count = scores.len();
        self.apply_rows(scores, count);
    }

    /// The scores of rows with `count` classes each, two or more.
    pub(super) fn apply_rows(self, scores: &mut [f32], count: usize) {
        match self {
            PostTransform::None => {}
            PostTransform::Softmax => softmax(scores, count),
            PostTransform::Logistic => widest(Logistics(scores)),
            PostTransform::SoftmaxZero => scores.chunks_exact_mut(count.max(1)).for_each(softmax_zero),
            PostTransform::Probit => scores.iter_mut().for_each(|score| *score = probit(*score)),
        }
    }

    /// The two scores that are made of each one.
    pub(super) fn pairs(self, scores: &[f32], second: SecondClass) -> Vec<f32> {
        if self != PostTransform::Logistic {
            return scores.iter().flat_map(|score| self.pair(*score, second)).collect();
        }
        let mut pairs: Vec<f32> = scores.iter().flat_map(|score| [-score, *score]).collect();
        widest(Logistics(&mut pairs));
        pairs
    }

    /// The two scores that are made of one.
    pub(super) fn pair(self, score: f32, second: SecondClass) -> [f32; 2] {
        match (self, second) {
            (PostTransform::Logistic, _) => [logistic(-score), logistic(score)],
            (_, SecondClass::Negative) => [-score, score],
            (_, SecondClass::Complement) => [1.0 - score, score],
        }
    }

    /// A score that stays alone: of the transforms only PROBIT changes it.
    pub(super) fn single(self, score: f32) -> f32 {
        if self == PostTransform::Probit { probit(score) } else { score }
    }
}

pub(super) fn logistic(score: f32) -> f32 {
    let positive = 1.0 / (1.0 + (-score.abs()).exp());
    if score < 0.0 { 1.0 - positive } else { positive }
}

/// The logistic function of each number.
struct Logistics<'a>(&'a mut [f32]);

impl Loop for Logistics<'_> {
    type Output = ();

    #[inline(always)]
    fn run<const FUSED: bool>(self) {
        for score in self.0 {
            let positive = 1.0 / (1.0 + exponential::<FUSED>(-score.abs()));
            *score = if *score < 0.0 { 1.0 - positive } else { positive };
        }
    }
}

fn softmax(scores: &mut [f32], count: usize) {
    for scores in scores.chunks_exact_mut(count.max(1)) {
        let larger = |largest, score| if score > largest { score } else { largest };
        let largest = scores.iter().copied().fold(f32::MIN, larger);
        scores.iter_mut().for_each(|score| *score -= largest);
    }
    widest(Exponentials(scores));
    for scores in scores.chunks_exact_mut(count.max(1)) {
        let sum: f32 = scores.iter().sum();
        scores.iter_mut().for_each(|score| *score /= sum);
    }
}

/// Scores that are zero stay zero.
fn softmax_zero(scores: &mut [f32]) {
    const ZERO: f32 = 1e-7;
    let largest =
        scores.iter().copied().fold(f32::MIN, |largest, score| if score > largest { score } else { largest });
    let mut sum = 0.0;
    for score in &mut *scores {
        if score.abs() > ZERO {
            *score = (*score - largest).exp();
            sum += *score;
        } else {
            *score *= (-largest).exp();
        }
    }
    scores.iter_mut().for_each(|score| *score /= sum);
}

/// The inverse of the normal distribution, by Winitzki's approximation of the inverse error function: what ONNX
/// Runtime computes.
pub(super) fn probit(score: f32) -> f32 {
    const A: f32 = 0.147;
    let x = 2.0 * score - 1.0;
    let sign = if x < 0.0 { -1.0 } else { 1.0 };
    let log = ((1.0 - x) * (1.0 + x)).ln();
    let half = 2.0 / (PI * A) + 0.5 * log;
    let root = (half * half - log / A).sqrt() - half;
    SQRT_2 * sign * root.sqrt()
}
