//! The labels of a classifier's classes: numbers or texts.

use tract_onnx::pb::NodeProto;
use tract_onnx::prelude::{DatumType, TValue, TractResult};
use tract_onnx::tract_core::internal::format_err;

use super::{attributes, values};

/// One label for each class, in the order of the scores.
#[derive(Clone, Debug)]
pub(super) enum Labels {
    Numbers(Vec<i64>),
    Texts(Vec<String>),
}

impl Labels {
    /// Reads them from the attributes of these names, of which one has to be there.
    pub(super) fn new(node: &NodeProto, numbers: &str, texts: &str) -> TractResult<Labels> {
        let words = attributes::texts(node, texts)?;
        if !words.is_empty() {
            return Ok(Labels::Texts(words));
        }
        let labels = attributes::integers(node, numbers)?;
        node.expect_attr(numbers, !labels.is_empty(), || format!("at least one label here or in '{texts}'"))?;
        Ok(Labels::Numbers(labels.to_vec()))
    }

    pub(super) fn len(&self) -> usize {
        match self {
            Labels::Numbers(labels) => labels.len(),
            Labels::Texts(labels) => labels.len(),
        }
    }

    pub(super) fn datum_type(&self) -> DatumType {
        match self {
            Labels::Numbers(_) => DatumType::I64,
            Labels::Texts(_) => DatumType::String,
        }
    }

    /// What stands for the class until all rows are done: a number is itself, a text is its place.
    pub(super) fn code(&self, class: usize) -> i64 {
        match self {
            Labels::Numbers(labels) => labels.get(class).copied().unwrap_or(class as i64),
            Labels::Texts(_) => class as i64,
        }
    }

    /// The labels of these codes, one for each row.
    pub(super) fn tensor(&self, codes: Vec<i64>) -> TractResult<TValue> {
        match self {
            Labels::Numbers(_) => values::tensor(&[codes.len()], codes),
            Labels::Texts(labels) => {
                let word = |code: &i64| usize::try_from(*code).ok().and_then(|place| labels.get(place)).cloned();
                let words: Option<Vec<String>> = codes.iter().map(word).collect();
                let words = words.ok_or_else(|| format_err!("a class has no label"))?;
                values::tensor(&[words.len()], words)
            }
        }
    }
}
