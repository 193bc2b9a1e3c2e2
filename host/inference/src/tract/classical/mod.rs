//! The operators of classical models, run by this engine's own code: those of the domain ai.onnx.ml, casts of texts, and a
//! few more that exports of such models have.
//!
//! tract has not all of them, and some of those that it has are slow or wrong. Each module here has one family: it reads the attributes
//! of a node, refuses what makes no sense, and computes what ONNX Runtime computes. `operator` hands them over to tract.

mod attributes;
mod casts;
mod columns;
mod distances;
mod doubles;
mod encoders;
mod labels;
mod linear;
mod operator;
mod places;
mod post_transform;
mod reductions;
mod scaling;
mod svm;
mod trees;
mod types;
mod values;
mod zip_map;

use tract_onnx::Onnx;
use tract_onnx::prelude::TypedNode;

/// tract's reader of ONNX files with the operators of this module in place of its own.
pub(super) fn onnx() -> Onnx {
    let mut onnx = tract_onnx::onnx();
    let register = &mut onnx.op_register;
    register.insert("ArgMax", places::arg_max);
    register.insert("ArgMin", places::arg_min);
    register.insert("ArrayFeatureExtractor", columns::array_feature_extractor);
    register.insert("Binarizer", scaling::binarizer);
    register.insert("Cast", casts::cast);
    register.insert("CategoryMapper", encoders::category_mapper);
    register.insert("FeatureVectorizer", columns::feature_vectorizer);
    register.insert("Imputer", scaling::imputer);
    register.insert("IsNaN", doubles::is_nan);
    register.insert("LabelEncoder", encoders::label_encoder);
    register.insert("LinearClassifier", linear::classifier);
    register.insert("LinearRegressor", linear::regressor);
    register.insert("Normalizer", scaling::normalizer);
    register.insert("OneHotEncoder", encoders::one_hot_encoder);
    register.insert("ReduceLogSumExp", reductions::reduce_log_sum_exp);
    register.insert("ReduceMax", reductions::reduce_max);
    register.insert("ReduceMin", reductions::reduce_min);
    register.insert("SVMClassifier", svm::classifier);
    register.insert("SVMRegressor", svm::regressor);
    register.insert("Scaler", scaling::scaler);
    register.insert("Scan", distances::scan);
    register.insert("Sigmoid", doubles::sigmoid);
    register.insert("TreeEnsemble", trees::ensemble);
    register.insert("TreeEnsembleClassifier", trees::classifier);
    register.insert("TreeEnsembleRegressor", trees::regressor);
    register.insert("ZipMap", zip_map::zip_map);
    onnx
}

/// Whether a node of an analysed network is an operator of this module.
pub(super) fn is_own(node: &TypedNode) -> bool {
    node.op_is::<operator::Own>()
}
