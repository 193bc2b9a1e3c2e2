//! Memory for the elements of a tensor that is being made. It is a tensor of the built-in engine from the start, so that
//! the elements reach that engine without being copied; any other engine can borrow them, as they are aligned to a
//! vector of the processor.

use std::sync::Arc;

use bytes::Bytes;
use modelhost_core::{Datatype, InvalidTensor, MAX_RANK, Tensor};
use tract_onnx::prelude as tract;

use super::tensors::{datum_type, extents, over_tract};

/// A tensor whose elements are still being written, from the first to the last.
pub struct TensorBuffer {
    datatype: Datatype,
    shape: Vec<u64>,
    tensor: tract::Tensor,
    /// Bytes that were written, or that would have been if there were room for them.
    filled: usize,
}

impl TensorBuffer {
    /// Takes as much memory as the shape says: it has to be held against the elements that are there before. None for
    /// BYTES, whose elements have no fixed size, for BF16, which the built-in engine has not, and for a shape that no
    /// machine can hold.
    pub fn new(datatype: Datatype, shape: Vec<u64>) -> Option<TensorBuffer> {
        let _fixed = datatype.size()?;
        let datum_type = datum_type(datatype)?;
        let extents = extents(&shape).ok().filter(|extents| extents.len() <= MAX_RANK)?;
        // SAFETY: the bytes are read only after `finish` has seen that each of them was written: `filled` counts them
        // without a gap. Every pattern of bits is a value of the types of a fixed size, but for bool, which
        // `Tensor::new` checks.
        let tensor = unsafe { tract::Tensor::uninitialized_dt(datum_type, &extents) }.ok()?;
        Some(TensorBuffer { datatype, shape, tensor, filled: 0 })
    }

    /// A tensor of a copy of these elements.
    ///
    /// # Errors
    /// [`InvalidTensor`], as [`Tensor::new`] gives it.
    pub fn copy_of(datatype: Datatype, shape: Vec<u64>, elements: &[u8]) -> Result<Tensor, InvalidTensor> {
        let size = datatype.size().unwrap_or_default() as u64;
        let bytes = shape.iter().try_fold(size, |bytes, extent| bytes.checked_mul(*extent));
        let fits = bytes == Some(elements.len() as u64);
        match fits.then(|| TensorBuffer::new(datatype, shape.clone())).flatten() {
            Some(mut buffer) => {
                buffer.push(elements);
                buffer.finish()
            }
            None => Tensor::new(datatype, shape, Bytes::copy_from_slice(elements)),
        }
    }

    /// Writes the bytes of the next elements. What goes beyond the end of the tensor is only counted.
    #[inline]
    pub fn push(&mut self, bytes: &[u8]) {
        let end = self.filled.saturating_add(bytes.len());
        if let Some(place) = self.tensor.as_bytes_mut().get_mut(self.filled..end) {
            place.copy_from_slice(bytes);
        }
        self.filled = end;
    }

    /// The tensor.
    ///
    /// # Errors
    /// [`InvalidTensor`] where too few or too many bytes were written, or one that is no BOOL.
    pub fn finish(self) -> Result<Tensor, InvalidTensor> {
        let TensorBuffer { datatype, shape, tensor, filled } = self;
        let expected = tensor.as_bytes().len();
        if filled != expected {
            return Err(InvalidTensor::Length { datatype, shape, expected: expected as u64, actual: filled });
        }
        over_tract(datatype, shape, Arc::new(tensor))
    }
}
