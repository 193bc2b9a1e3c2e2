//! A product of a table of rows with a small constant table: tract arranges such tables for its product, and back.

use std::sync::Arc;

use tract_onnx::prelude::tract_num_traits::Float;
use tract_onnx::prelude::{Datum, DatumType, TDim, TValue, TVec, Tensor, TractResult, TypedModel, TypedNode};
use tract_onnx::tract_core::internal::{InOut, tvec};
use tract_onnx::tract_core::ops::einsum::EinSum;

use super::Kernel;
use crate::tract::elements::{elements, filled};
use crate::tract::numeric::products::Weights;

/// With more weights than these the arrangement pays.
const MOST_SUMS: usize = 32;
const MOST_COLUMNS: usize = 256;

/// The operator of a node, if it is such a product.
pub(super) fn kernel(model: &TypedModel, node: &TypedNode) -> Option<Arc<dyn Kernel>> {
    let product = node.op_as::<EinSum>()?;
    let [rows, table] = *node.inputs else { return None };
    let (rows, table) = (model.outlet_fact(rows).ok()?, model.outlet_fact(table).ok()?);
    let weights = table.konst.as_ref()?;
    let output = &node.outputs.first()?.fact;
    let datum_type = rows.datum_type;
    let is_plain = product.q_params.is_none()
        && product.operating_dt == datum_type
        && weights.datum_type() == datum_type
        && output.datum_type == datum_type;
    // One row after the other would be as fast in any case.
    let has_rows = rows.rank() == 2 && output.rank() == 2 && rows.shape.first() != Some(&TDim::Val(1));
    let ([columns, count], is_turned) = arrangement(product, weights.shape())?;
    let fits = (1..=MOST_COLUMNS).contains(&columns) && (1..=MOST_SUMS).contains(&count);
    if !(is_plain && has_rows && fits) {
        return None;
    }
    let place = move |column: usize, sum: usize| {
        if is_turned { sum * columns + column } else { column * count + sum }
    };
    match datum_type {
        DatumType::F32 => arranged::<f32>(weights, columns, count, place),
        DatumType::F64 => arranged::<f64>(weights, columns, count, place),
        _ => None,
    }
}

/// The columns and the sums of a table, and whether it is turned, if the product is `rows, columns` by such a table.
fn arrangement(product: &EinSum, shape: &[usize]) -> Option<([usize; 2], bool)> {
    let at = |slot: InOut, position: usize| product.axes.axis((slot, position)).ok();
    let [first, second] = *shape else { return None };
    let (row, column) = (at(InOut::In(0), 0)?, at(InOut::In(0), 1)?);
    let (row_after, sum) = (at(InOut::Out(0), 0)?, at(InOut::Out(0), 1)?);
    let (outer, inner) = (at(InOut::In(1), 0)?, at(InOut::In(1), 1)?);
    if product.axes.iter_all_axes().count() != 3 || row.repr != row_after.repr {
        return None;
    }
    if (outer.repr, inner.repr) == (column.repr, sum.repr) {
        Some(([first, second], false))
    } else if (outer.repr, inner.repr) == (sum.repr, column.repr) {
        Some(([second, first], true))
    } else {
        None
    }
}

fn arranged<T: Datum + Float>(
    table: &Tensor,
    columns: usize,
    count: usize,
    place: impl Fn(usize, usize) -> usize,
) -> Option<Arc<dyn Kernel>> {
    let table = elements::<T>(table).ok()?;
    let weights = Weights::new(columns, count, |column, sum| table[place(column, sum)], |_| T::zero());
    Some(Product(weights).shared())
}

#[derive(Debug)]
struct Product<T>(Weights<T>);

impl<T: Datum + Float> Kernel for Product<T> {
    fn run(&self, inputs: &[TValue]) -> TractResult<Option<TVec<TValue>>> {
        let Some(rows) = inputs.first().filter(|rows| rows.datum_type() == T::datum_type()) else {
            return Ok(None);
        };
        let [count, columns] = *rows.shape() else { return Ok(None) };
        if columns != self.0.columns() {
            return Ok(None);
        }
        let x = elements::<T>(rows)?;
        Ok(Some(tvec!(filled(&[count, self.0.count()], |output| self.0.multiply(x, output))?)))
    }
}
