//! ZipMap, whose output is a map from labels to scores for each row. Tensors are all that leaves this engine: in place of
//! the maps it gives their values, as `[rows, classes]` in the order of the labels, which is that of its input.

use tract_onnx::model::ParsingContext;
use tract_onnx::pb::NodeProto;
use tract_onnx::prelude::{DatumType, TValue, TVec, TractResult};
use tract_onnx::tract_core::internal::{bail, ensure, tvec};

use super::labels::Labels;
use super::operator::{Built, Described, KeptAxes, Operator, built};
use super::values::expect_type;

pub(super) fn zip_map(_context: &ParsingContext<'_>, node: &NodeProto) -> Built {
    let classes = Labels::new(node, "classlabels_int64s", "classlabels_strings")?.len();
    built(node, ZipMap { classes })
}

#[derive(Clone, Debug)]
struct ZipMap {
    classes: usize,
}

impl Operator for ZipMap {
    fn name(&self) -> &'static str {
        "ZipMap"
    }

    fn outputs(&self, inputs: &[Described]) -> TractResult<TVec<Described>> {
        let [input] = inputs else { bail!("ZipMap takes one input") };
        expect_type("ZipMap", input, &[DatumType::F32])?;
        let [_, columns] = &*input.shape else { bail!("ZipMap takes an input of two dimensions") };
        let fits = columns.as_i64().is_none_or(|columns| columns == self.classes as i64);
        ensure!(fits, "ZipMap has {} labels, but its input has {columns} columns", self.classes);
        Ok(tvec!(input.clone()))
    }

    fn kept_axes(&self, _inputs: &[Described]) -> KeptAxes {
        KeptAxes::All
    }

    fn run(&self, inputs: &[TValue]) -> TractResult<TVec<TValue>> {
        ensure!(inputs[0].shape().last() == Some(&self.classes), "ZipMap has {} labels", self.classes);
        Ok(tvec!(inputs[0].clone()))
    }
}
