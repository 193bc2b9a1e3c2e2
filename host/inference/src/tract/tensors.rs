//! Values across the border: the host's tensors to tract's and back.

use std::sync::Arc;

use bytes::Bytes;
use modelhost_core::{Datatype, InvalidTensor, Tensor};
use tract_onnx::prelude as tract;
use tract_onnx::prelude::DatumType;
use tract_onnx::prelude::tract_ndarray::ArrayD;

use crate::engine::RunError;

/// The host's word for an element type of tract; none for those that no input and no output may have.
pub(super) fn datatype(datum_type: DatumType) -> Option<Datatype> {
    match datum_type {
        DatumType::Bool => Some(Datatype::Bool),
        DatumType::U8 => Some(Datatype::Uint8),
        DatumType::U16 => Some(Datatype::Uint16),
        DatumType::U32 => Some(Datatype::Uint32),
        DatumType::U64 => Some(Datatype::Uint64),
        DatumType::I8 => Some(Datatype::Int8),
        DatumType::I16 => Some(Datatype::Int16),
        DatumType::I32 => Some(Datatype::Int32),
        // Dimensions and indices are symbolic expressions inside tract; outside they are numbers.
        DatumType::I64 | DatumType::TDim => Some(Datatype::Int64),
        DatumType::F16 => Some(Datatype::Fp16),
        DatumType::F32 => Some(Datatype::Fp32),
        DatumType::F64 => Some(Datatype::Fp64),
        DatumType::String => Some(Datatype::Bytes),
        _ => None,
    }
}

/// tract's word for an element type of the host; none for BF16, which tract does not have.
pub(super) fn datum_type(datatype: Datatype) -> Option<DatumType> {
    Some(match datatype {
        Datatype::Bool => DatumType::Bool,
        Datatype::Uint8 => DatumType::U8,
        Datatype::Uint16 => DatumType::U16,
        Datatype::Uint32 => DatumType::U32,
        Datatype::Uint64 => DatumType::U64,
        Datatype::Int8 => DatumType::I8,
        Datatype::Int16 => DatumType::I16,
        Datatype::Int32 => DatumType::I32,
        Datatype::Int64 => DatumType::I64,
        Datatype::Fp16 => DatumType::F16,
        Datatype::Fp32 => DatumType::F32,
        Datatype::Fp64 => DatumType::F64,
        Datatype::Bytes => DatumType::String,
        Datatype::Bf16 => return None,
    })
}

/// The tensor for tract. One whose elements lie in memory of tract, as [`super::TensorBuffer`] makes them and as outputs
/// of graphs are, is handed over as it is; any other is copied once: tract frees the memory of its tensors itself.
pub(super) fn to_tract(tensor: Tensor) -> Result<tract::TValue, RunError> {
    let unsupported = || RunError::InvalidInput {
        reason: format!("the engine tract has no tensors of {}", tensor.datatype()),
    };
    let datum_type = datum_type(tensor.datatype()).ok_or_else(unsupported)?;
    let shape = extents(tensor.shape())?;
    if datum_type == DatumType::String {
        return texts(&shape, &tensor).map(tract::TValue::from);
    }
    if let Some(own) = tensor.owner::<tract::Tensor>().filter(|own| is_over(own, datum_type, &shape, &tensor))
    {
        // Where nobody else holds it, an operator may now write its output in the place of this input.
        drop(tensor);
        return Ok(tract::TValue::from_const(own));
    }
    // SAFETY: the function checks the number of bytes. Every bit pattern is a value of these types, but for bool,
    // where `Tensor` lets no byte but 0 and 1 pass. The platforms of this host are little-endian, as the data is.
    unsafe { tract::Tensor::from_raw_dt(datum_type, &shape, tensor.data()) }
        .map(tract::TValue::from)
        .map_err(|error| RunError::Failed { reason: error.to_string() })
}

fn texts(shape: &[usize], tensor: &Tensor) -> Result<tract::Tensor, RunError> {
    let text = |(index, bytes): (usize, &[u8])| match std::str::from_utf8(bytes) {
        Ok(text) => Ok(text.to_owned()),
        Err(_) => {
            Err(RunError::InvalidInput { reason: format!("element {index} of BYTES is no text in UTF-8") })
        }
    };
    let texts = tensor.bytes_elements().enumerate().map(text).collect::<Result<Vec<String>, _>>()?;
    let array = ArrayD::from_shape_vec(shape, texts);
    Ok(array.map_err(|error| RunError::Failed { reason: error.to_string() })?.into())
}

/// Bytes of the longest element of BYTES among these tensors.
pub(super) fn longest_text(tensors: &[Tensor]) -> u64 {
    let texts = tensors.iter().filter(|tensor| tensor.datatype() == Datatype::Bytes);
    texts.flat_map(Tensor::bytes_elements).map(|text| text.len() as u64).max().unwrap_or(0)
}

/// Whether this is the tensor of tract that the host's tensor shows.
fn is_over(own: &tract::Tensor, datum_type: DatumType, shape: &[usize], tensor: &Tensor) -> bool {
    own.datum_type() == datum_type && own.shape() == shape && std::ptr::eq(own.as_bytes(), &tensor.data()[..])
}

/// A shape as tract wants it.
pub(super) fn extents(shape: &[u64]) -> Result<Vec<usize>, RunError> {
    let extents: Result<Vec<usize>, _> = shape.iter().map(|extent| usize::try_from(*extent)).collect();
    let extents = extents.ok().filter(|extents| fits_without_zeros(extents));
    extents.ok_or_else(|| RunError::InvalidInput {
        reason: format!("shape {shape:?} is too large for this machine"),
    })
}

/// tract multiplies extents in any order: even beside a zero the product must fit.
fn fits_without_zeros(extents: &[usize]) -> bool {
    let product = extents.iter().try_fold(1_usize, |product, extent| product.checked_mul((*extent).max(1)));
    product.is_some_and(|product| product <= isize::MAX as usize / 16)
}

/// The host's tensor, over the memory of tract's.
pub(super) fn from_tract(value: tract::TValue) -> Result<Tensor, RunError> {
    let failed = |reason: String| RunError::Failed { reason };
    let value = if value.datum_type() == DatumType::TDim {
        let numbers = value.cast_to_dt(DatumType::I64).map_err(|error| failed(error.to_string()))?;
        Arc::new(numbers.into_owned())
    } else {
        tract::IntoArcTensor::into_arc_tensor(value)
    };
    let datatype = datatype(value.datum_type())
        .ok_or_else(|| failed(format!("an output has the element type {:?}", value.datum_type())))?;
    let shape: Vec<u64> = value.shape().iter().map(|extent| *extent as u64).collect();
    if !value.is_plain_ram() {
        return Err(failed("an output is not stored as plain elements".into()));
    }
    if datatype == Datatype::Bytes {
        let texts = value.try_as_plain_ram().and_then(|value| value.as_slice::<String>());
        return texts.map_err(|error| failed(error.to_string())).and_then(|texts| {
            Tensor::from_bytes_elements(shape, texts).map_err(|error| failed(error.to_string()))
        });
    }
    over_tract(datatype, shape, value).map_err(|error| failed(error.to_string()))
}

/// A tensor that shows the elements of one of tract, and gives it back to [`to_tract`].
pub(super) fn over_tract(
    datatype: Datatype,
    shape: Vec<u64>,
    tensor: Arc<tract::Tensor>,
) -> Result<Tensor, InvalidTensor> {
    let data = Bytes::from_owner(Elements(tensor.clone()));
    Ok(Tensor::new(datatype, shape, data)?.with_owner(tensor))
}

/// Keeps tract's tensor alive as long as somebody reads its elements.
struct Elements(Arc<tract::Tensor>);

impl AsRef<[u8]> for Elements {
    fn as_ref(&self) -> &[u8] {
        self.0.as_bytes()
    }
}
