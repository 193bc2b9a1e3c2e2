//! A forest as a model describes it: branches that point to branches or leaves. Nothing here is checked; `layout` does.

use std::ops::Range;

use tract_onnx::prelude::{Datum, TractResult, tract_num_traits};
use tract_onnx::tract_core::internal::bail;

/// The numbers that a laid out forest computes with: FP32, or FP64 for inputs of FP64.
pub(super) trait Number: Datum + Copy + tract_num_traits::Float + std::ops::AddAssign {
    /// The largest number below this one; NaN, to which nothing compares, where there is none.
    fn below(self) -> Self;
    fn from_double(value: f64) -> Self;
    fn to_float(self) -> f32;
    /// The numbers as they are, if they are FP32.
    fn singles(numbers: &[Self]) -> Option<&[f32]>;
}

impl Number for f32 {
    fn below(self) -> f32 {
        if self == f32::NEG_INFINITY { f32::NAN } else { self.next_down() }
    }

    fn from_double(value: f64) -> f32 {
        value as f32
    }

    fn to_float(self) -> f32 {
        self
    }

    fn singles(numbers: &[f32]) -> Option<&[f32]> {
        Some(numbers)
    }
}

impl Number for f64 {
    fn below(self) -> f64 {
        if self == f64::NEG_INFINITY { f64::NAN } else { self.next_down() }
    }

    fn from_double(value: f64) -> f64 {
        value
    }

    fn to_float(self) -> f32 {
        self as f32
    }

    fn singles(_numbers: &[f64]) -> Option<&[f32]> {
        None
    }
}

/// What a branch asks about its feature.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Test {
    AtMost(f64),
    Below(f64),
    AtLeast(f64),
    Above(f64),
    Is(f64),
    IsNot(f64),
    IsOneOf(Vec<f64>),
}

#[derive(Clone, Debug)]
pub(super) struct Branch {
    pub(super) feature: usize,
    pub(super) test: Test,
    pub(super) missing_passes: bool,
    pub(super) passed: Place,
    pub(super) failed: Place,
}

/// Where a branch leads, or a tree begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Place {
    Branch(usize),
    Leaf(usize),
}

#[derive(Clone, Debug)]
pub(super) struct Forest {
    pub(super) branches: Vec<Branch>,
    /// For each leaf, which of the weights are its own.
    pub(super) leaves: Vec<Range<usize>>,
    /// Targets, and what the leaf adds to each.
    pub(super) weights: Vec<(usize, f64)>,
    pub(super) roots: Vec<Place>,
    /// How many targets or classes there are.
    pub(super) targets: usize,
    /// Whether the numbers were given as FP64: then FP32 cannot stand for them. FP64 stands for either.
    pub(super) is_double: bool,
}

/// How the trees' answers become one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Aggregate {
    Average,
    Sum,
    Min,
    Max,
}

impl Aggregate {
    pub(super) fn named(name: &str) -> TractResult<Aggregate> {
        Ok(match name {
            "AVERAGE" => Aggregate::Average,
            "SUM" => Aggregate::Sum,
            "MIN" => Aggregate::Min,
            "MAX" => Aggregate::Max,
            _ => bail!("expected AVERAGE, SUM, MIN or MAX"),
        })
    }
}
