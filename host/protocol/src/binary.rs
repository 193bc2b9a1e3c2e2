//! The binary part of a body: tensors one after the other, in the order in which the JSON part names them, each as long
//! as its parameter `binary_data_size` says. It hands out slices and copies nothing; what a slice means is not known here.

use bytes::Bytes;
use modelhost_core::Parameter;

use crate::request::DecodeError;
use crate::shortened;

/// What of the binary part no tensor has had yet.
pub(crate) struct BinaryData {
    rest: Bytes,
}

impl BinaryData {
    pub(crate) fn new(rest: Bytes) -> BinaryData {
        BinaryData { rest }
    }

    /// The elements of the next tensor. `size` is its parameter `binary_data_size`.
    pub(crate) fn take(&mut self, input: &str, size: Parameter) -> Result<Bytes, DecodeError> {
        let Parameter::Integer(size @ 0..) = size else {
            return Err(DecodeError::BinarySize { input: shortened(input) });
        };
        let declared = size.unsigned_abs();
        match usize::try_from(declared) {
            Ok(size) if size <= self.rest.len() => Ok(self.rest.split_to(size)),
            _ => {
                let left = self.rest.len();
                Err(DecodeError::BinaryCutOff { input: shortened(input), declared, left })
            }
        }
    }

    /// All tensors have had theirs.
    ///
    /// # Errors
    /// [`DecodeError::BinaryLeft`].
    pub(crate) fn finish(self) -> Result<(), DecodeError> {
        match self.rest.len() {
            0 => Ok(()),
            left => Err(DecodeError::BinaryLeft { left }),
        }
    }
}
