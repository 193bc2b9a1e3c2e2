//! Ensembles of decision trees: TreeEnsembleClassifier, TreeEnsembleRegressor and TreeEnsemble.
//!
//! Data flows forward: `arrays` and `lists` read the attributes of the two encodings that ONNX has into a `Forest`,
//! `layout` checks that forest and lays it out flat, `walk` finds the leaves of many rows at once and adds up what they
//! say, `small` finds them for small trees, `classifier` and `regressor` make outputs of the sums.

mod arrays;
mod classifier;
mod ensemble;
mod forest;
mod layout;
mod lists;
mod regressor;
mod small;
mod walk;

pub(super) use classifier::classifier;
pub(super) use regressor::{ensemble, regressor};
