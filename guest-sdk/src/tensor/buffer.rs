//! Elements in the plugin's memory: bytes that any element type may be read from in place. Knows neither datatype
//! nor shape.

use std::rc::Rc;

use crate::Element;

/// No element type asks for more.
const ALIGNMENT: usize = align_of::<u64>();

/// Bytes that begin where the element type of their tensor may begin. A clone shares them.
#[derive(Clone)]
pub(super) struct Buffer(Rc<dyn Bytes>);

/// Something that owns elements. The elements keep their own allocation, so that a `Vec<f32>` becomes a buffer
/// without being copied.
trait Bytes {
    fn as_bytes(&self) -> &[u8];
}

impl<T: Element> Bytes for Vec<T> {
    fn as_bytes(&self) -> &[u8] {
        bytemuck::cast_slice(self)
    }
}

/// The first `length` bytes of these words.
struct Words {
    words: Vec<u64>,
    length: usize,
}

impl Bytes for Words {
    fn as_bytes(&self) -> &[u8] {
        let bytes: &[u8] = bytemuck::cast_slice(&self.words);
        bytes.get(..self.length).unwrap_or(bytes)
    }
}

impl Buffer {
    /// Takes elements over, without copying.
    pub(super) fn from_elements<T: Element>(elements: Vec<T>) -> Buffer {
        Buffer(Rc::new(elements))
    }

    /// Takes bytes over, copying only where they do not begin at a multiple of eight. (Allocations on the guest's
    /// target do.)
    pub(super) fn from_bytes(bytes: Vec<u8>) -> Buffer {
        if bytes.as_ptr().addr().is_multiple_of(ALIGNMENT) {
            Buffer(Rc::new(bytes))
        } else {
            Buffer::aligned_copy(&bytes)
        }
    }

    fn aligned_copy(bytes: &[u8]) -> Buffer {
        let mut words = vec![0_u64; bytes.len().div_ceil(ALIGNMENT)];
        let target: &mut [u8] = bytemuck::cast_slice_mut(&mut words);
        for (target, byte) in target.iter_mut().zip(bytes) {
            *target = *byte;
        }
        Buffer(Rc::new(Words { words, length: bytes.len() }))
    }

    pub(super) fn as_bytes(&self) -> &[u8] {
        self.0.as_bytes()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn misaligned_bytes_are_readable_as_any_element() {
        let values = [1.5_f64, -2.5, 1e300];
        let mut shifted = vec![0_u8];
        shifted.extend_from_slice(bytemuck::cast_slice(&values));
        let misaligned = &shifted[1..];
        for length in [0, 8, 24] {
            let buffer = Buffer::aligned_copy(&misaligned[..length]);
            assert_eq!(buffer.as_bytes(), &misaligned[..length]);
            assert_eq!(bytemuck::cast_slice::<u8, f64>(buffer.as_bytes()), &values[..length / 8]);
        }
        assert_eq!(Buffer::aligned_copy(&[1, 2, 3]).as_bytes(), [1, 2, 3]);
    }

    #[test]
    fn bytes_are_taken_over_where_aligned_and_copied_where_not() {
        // An allocation of many bytes is aligned; an empty one begins at address 1.
        let bytes = vec![7_u8; 4096];
        let before = bytes.as_ptr();
        assert!(before.addr().is_multiple_of(ALIGNMENT));
        assert_eq!(Buffer::from_bytes(bytes).as_bytes().as_ptr(), before);
        let empty = Buffer::from_bytes(Vec::new());
        assert_eq!(bytemuck::try_cast_slice::<u8, u64>(empty.as_bytes()), Ok(&[][..]));
    }

    #[test]
    fn elements_are_taken_over_without_copying() {
        let elements = vec![1.0_f32, 2.0];
        let before = elements.as_ptr().cast::<u8>();
        assert_eq!(Buffer::from_elements(elements).as_bytes().as_ptr(), before);
    }
}
