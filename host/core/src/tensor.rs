//! A tensor: element type, shape and elements, which always agree with each other.

use std::any::Any;
use std::fmt;
use std::sync::Arc;

use bytes::Bytes;

use crate::Datatype;

/// More dimensions than this are refused: no real model has them, and every layer would have to carry them.
pub const MAX_RANK: usize = 16;

/// Elements in row-major order, little-endian, without padding. Cloning shares the elements.
///
/// A BOOL is one byte, 0 or 1. An element of BYTES is its length (unsigned, 4 bytes, little-endian) followed
/// by that many bytes: the layout of the Open Inference Protocol's binary form.
#[derive(Clone)]
pub struct Tensor {
    datatype: Datatype,
    shape: Vec<u64>,
    data: Bytes,
    /// See [`Tensor::owner`].
    owner: Option<Arc<dyn Any + Send + Sync>>,
}

/// Data and shape that do not agree.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum InvalidTensor {
    /// Too many dimensions.
    #[error("shape has {rank} dimensions: at most {MAX_RANK} are supported")]
    Rank {
        /// The number of dimensions.
        rank: usize,
    },
    /// A shape whose number of elements no machine can hold.
    #[error("shape {shape:?} has too many elements")]
    Overflow {
        /// The shape.
        shape: Vec<u64>,
    },
    /// Fixed-size elements: too few or too many bytes.
    #[error("shape {shape:?} of {datatype} takes {expected} bytes of data: {actual} were given")]
    Length {
        /// The element type.
        datatype: Datatype,
        /// The shape.
        shape: Vec<u64>,
        /// Bytes that the shape asks for.
        expected: u64,
        /// Bytes given.
        actual: usize,
    },
    /// BYTES: too few or too many elements.
    #[error("shape {shape:?} of BYTES takes {expected} elements: {actual} were given")]
    Count {
        /// The shape.
        shape: Vec<u64>,
        /// Elements that the shape asks for.
        expected: u64,
        /// Elements given.
        actual: u64,
    },
    /// BYTES: an element whose length prefix reaches past the end of the data.
    #[error("element {index} of BYTES is cut off")]
    CutOff {
        /// The element, from 0.
        index: u64,
    },
    /// BOOL: a byte that is neither 0 nor 1.
    #[error("element {index} of BOOL is the byte {value}: expected 0 or 1")]
    NotBool {
        /// The element, from 0.
        index: usize,
        /// The byte.
        value: u8,
    },
}

impl Tensor {
    /// A tensor of these elements, in the layout that the type describes.
    ///
    /// # Errors
    /// [`InvalidTensor`] where shape and data disagree. Nothing is allocated by the declared shape.
    pub fn new(datatype: Datatype, shape: Vec<u64>, data: Bytes) -> Result<Tensor, InvalidTensor> {
        if shape.len() > MAX_RANK {
            return Err(InvalidTensor::Rank { rank: shape.len() });
        }
        let elements =
            element_count(&shape).ok_or_else(|| InvalidTensor::Overflow { shape: shape.clone() })?;
        match datatype.size() {
            Some(size) => check_length(datatype, &shape, elements, size, &data)?,
            None => check_elements(&shape, elements, &data)?,
        }
        if datatype == Datatype::Bool
            && let Some(index) = data.iter().position(|byte| *byte > 1)
        {
            return Err(InvalidTensor::NotBool { index, value: data[index] });
        }
        Ok(Tensor { datatype, shape, data, owner: None })
    }

    /// A tensor of byte strings.
    ///
    /// # Errors
    /// [`InvalidTensor`] where the shape does not hold exactly these elements.
    pub fn from_bytes_elements<T: AsRef<[u8]>>(
        shape: Vec<u64>,
        elements: &[T],
    ) -> Result<Tensor, InvalidTensor> {
        let length = elements.iter().map(|element| 4 + element.as_ref().len()).sum();
        let mut data = Vec::with_capacity(length);
        for element in elements {
            let bytes = element.as_ref();
            let prefix =
                u32::try_from(bytes.len()).map_err(|_| InvalidTensor::Overflow { shape: shape.clone() })?;
            data.extend_from_slice(&prefix.to_le_bytes());
            data.extend_from_slice(bytes);
        }
        Tensor::new(Datatype::Bytes, shape, data.into())
    }

    /// The element type.
    pub fn datatype(&self) -> Datatype {
        self.datatype
    }

    /// The extent of each dimension, outermost first. No entries: a scalar.
    pub fn shape(&self) -> &[u64] {
        &self.shape
    }

    /// The elements.
    pub fn data(&self) -> &Bytes {
        &self.data
    }

    /// The elements of a BYTES tensor, in order. Meaningless for other datatypes.
    pub fn bytes_elements(&self) -> BytesElements<'_> {
        BytesElements { rest: &self.data }
    }

    /// Remembers the value that the elements are borrowed from, so that whoever knows its type can have it back.
    #[must_use]
    pub fn with_owner(self, owner: Arc<dyn Any + Send + Sync>) -> Tensor {
        Tensor { owner: Some(owner), ..self }
    }

    /// The value that the elements are borrowed from, where it is remembered and of this type: an engine that finds
    /// its own kind of tensor here need not copy the elements. That they really are its elements is the one's to
    /// check who uses it.
    pub fn owner<T: Send + Sync + 'static>(&self) -> Option<Arc<T>> {
        self.owner.clone()?.downcast().ok()
    }

    /// How many elements there are.
    pub fn elements(&self) -> usize {
        match self.datatype.size() {
            Some(size) => self.data.len() / size,
            None => self.bytes_elements().count(),
        }
    }

    /// Takes the tensor apart, without copying.
    pub fn into_parts(self) -> (Datatype, Vec<u64>, Bytes) {
        (self.datatype, self.shape, self.data)
    }
}

/// Equal values; who owns them does not matter.
impl PartialEq for Tensor {
    fn eq(&self, other: &Tensor) -> bool {
        self.datatype == other.datatype && self.shape == other.shape && self.data == other.data
    }
}

impl fmt::Debug for Tensor {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter
            .debug_struct("Tensor")
            .field("datatype", &self.datatype)
            .field("shape", &self.shape)
            .field("data", &self.data)
            .finish_non_exhaustive()
    }
}

/// The byte strings of a BYTES tensor. Made by [`Tensor::bytes_elements`].
#[derive(Clone, Debug)]
pub struct BytesElements<'a> {
    rest: &'a [u8],
}

impl<'a> Iterator for BytesElements<'a> {
    type Item = &'a [u8];

    fn next(&mut self) -> Option<&'a [u8]> {
        let (prefix, rest) = self.rest.split_first_chunk::<4>()?;
        let length = usize::try_from(u32::from_le_bytes(*prefix)).ok()?;
        let (element, rest) = rest.split_at_checked(length)?;
        self.rest = rest;
        Some(element)
    }
}

/// How many elements a tensor of this shape has; none where the number does not fit into 64 bits.
pub fn element_count(shape: &[u64]) -> Option<u64> {
    // A zero anywhere makes the tensor empty, however large the others are.
    if shape.contains(&0) {
        return Some(0);
    }
    shape.iter().try_fold(1_u64, |product, extent| product.checked_mul(*extent))
}

fn check_length(
    datatype: Datatype,
    shape: &[u64],
    elements: u64,
    size: usize,
    data: &Bytes,
) -> Result<(), InvalidTensor> {
    let expected =
        elements.checked_mul(size as u64).ok_or_else(|| InvalidTensor::Overflow { shape: shape.to_vec() })?;
    if expected == data.len() as u64 {
        Ok(())
    } else {
        Err(InvalidTensor::Length { datatype, shape: shape.to_vec(), expected, actual: data.len() })
    }
}

fn check_elements(shape: &[u64], expected: u64, data: &Bytes) -> Result<(), InvalidTensor> {
    let mut elements = BytesElements { rest: data };
    let actual = elements.by_ref().count() as u64;
    if !elements.rest.is_empty() {
        return Err(InvalidTensor::CutOff { index: actual });
    }
    if actual != expected {
        return Err(InvalidTensor::Count { shape: shape.to_vec(), expected, actual });
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shape_and_data_must_agree() {
        let fp32 =
            |shape: &[u64], length| Tensor::new(Datatype::Fp32, shape.to_vec(), vec![0; length].into());
        assert!(fp32(&[2, 3], 24).is_ok());
        assert!(fp32(&[], 4).is_ok());
        assert!(fp32(&[0, u64::MAX, u64::MAX], 0).is_ok());
        assert!(matches!(fp32(&[2, 3], 23), Err(InvalidTensor::Length { expected: 24, actual: 23, .. })));
        assert!(matches!(fp32(&[u64::MAX, 2], 0), Err(InvalidTensor::Overflow { .. })));
        assert!(matches!(fp32(&[u64::MAX / 2], 0), Err(InvalidTensor::Overflow { .. })));
        assert!(matches!(fp32(&[1; 17], 4), Err(InvalidTensor::Rank { rank: 17 })));
    }

    #[test]
    fn bytes_elements_survive() {
        let words = ["", "one", "zwölf"];
        let tensor = Tensor::from_bytes_elements(vec![3], &words).unwrap();
        let back: Vec<&[u8]> = tensor.bytes_elements().collect();
        assert_eq!(back, words.map(str::as_bytes));
        assert_eq!(tensor.elements(), 3);
    }

    #[test]
    fn bytes_must_not_be_cut_off() {
        let bytes = |shape: Vec<u64>, data: &'static [u8]| Tensor::new(Datatype::Bytes, shape, data.into());
        assert!(matches!(bytes(vec![1], &[5, 0, 0, 0, 1]), Err(InvalidTensor::CutOff { index: 0 })));
        assert!(matches!(bytes(vec![1], &[0, 0]), Err(InvalidTensor::CutOff { index: 0 })));
        assert!(matches!(bytes(vec![2], &[0, 0, 0, 0]), Err(InvalidTensor::Count { actual: 1, .. })));
        assert!(bytes(vec![0], &[]).is_ok());
    }

    #[test]
    fn an_owner_is_given_back_as_what_it_is() {
        let owner: Arc<Vec<u8>> = Arc::new(vec![1, 2]);
        let data = Bytes::from_owner(owner.to_vec());
        let tensor = Tensor::new(Datatype::Uint8, vec![2], data).unwrap();
        assert_eq!(tensor.owner::<Vec<u8>>(), None);
        let owned = tensor.clone().with_owner(owner.clone());
        assert!(Arc::ptr_eq(&owned.owner::<Vec<u8>>().unwrap(), &owner));
        assert_eq!(owned.owner::<String>(), None);
        assert_eq!(owned, tensor);
    }

    #[test]
    fn bool_is_zero_or_one() {
        assert!(Tensor::new(Datatype::Bool, vec![2], Bytes::from_static(&[0, 1])).is_ok());
        assert!(matches!(
            Tensor::new(Datatype::Bool, vec![2], Bytes::from_static(&[0, 2])),
            Err(InvalidTensor::NotBool { index: 1, value: 2 })
        ));
    }
}
