//! Tensors of tract as slices of plain elements, and back. No operator of this engine's own touches a tensor in another way.

use tract_onnx::prelude::{Datum, TValue, Tensor, TractResult, tract_ndarray};

/// The elements in order; an error where they are of another type.
pub(super) fn elements<T: Datum>(value: &Tensor) -> TractResult<&[T]> {
    value.try_as_plain_ram()?.as_slice::<T>()
}

/// A tensor of these elements, which are as many as the shape says.
pub(super) fn tensor<T: Datum>(shape: &[usize], elements: Vec<T>) -> TractResult<TValue> {
    let array = tract_ndarray::ArrayD::from_shape_vec(shape, elements)?;
    Ok(Tensor::from(array).into())
}

/// A tensor whose elements are written in place. They are zero before.
pub(super) fn filled<T: Datum + Copy>(shape: &[usize], fill: impl FnOnce(&mut [T])) -> TractResult<TValue> {
    let mut tensor = Tensor::zero_dt(T::datum_type(), shape)?;
    fill(tensor.try_as_plain_ram_mut()?.as_slice_mut::<T>()?);
    Ok(tensor.into())
}
