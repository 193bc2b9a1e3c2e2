//! The layout of BYTES: each element is its length (unsigned, 4 bytes, little-endian) and that many bytes, one
//! after the other. This file alone knows it.

/// The byte strings of a BYTES tensor, in row-major order. Made by
/// [`Tensor::bytes_elements`](crate::Tensor::bytes_elements).
///
/// ```
/// use modelhost_guest::Tensor;
///
/// let tensor = Tensor::string_column(["one", "two"])?;
/// let mut elements = tensor.bytes_elements()?;
/// assert_eq!(elements.next(), Some(&b"one"[..]));
/// # Ok::<(), modelhost_guest::Error>(())
/// ```
#[derive(Clone, Debug)]
pub struct BytesElements<'a> {
    rest: &'a [u8],
}

impl<'a> BytesElements<'a> {
    pub(super) fn new(data: &'a [u8]) -> BytesElements<'a> {
        BytesElements { rest: data }
    }
}

/// Ends at an element that is cut off; the host hands out none.
impl<'a> Iterator for BytesElements<'a> {
    type Item = &'a [u8];

    fn next(&mut self) -> Option<&'a [u8]> {
        let (length, rest) = self.rest.split_first_chunk::<4>()?;
        let length = usize::try_from(u32::from_le_bytes(*length)).ok()?;
        let (element, rest) = rest.split_at_checked(length)?;
        self.rest = rest;
        Some(element)
    }
}

/// Appends an element; answers `None`, appending nothing, where its length does not fit into the prefix.
pub(super) fn append(data: &mut Vec<u8>, element: &[u8]) -> Option<()> {
    let length = u32::try_from(element.len()).ok()?;
    data.extend_from_slice(&length.to_le_bytes());
    data.extend_from_slice(element);
    Some(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn elements_survive() {
        let elements = [&b""[..], b"one", "zwölf".as_bytes(), b"\0\xff"];
        let mut data = Vec::new();
        for element in elements {
            append(&mut data, element).unwrap();
        }
        assert_eq!(BytesElements::new(&data).collect::<Vec<_>>(), elements);
        assert_eq!(&data[..11], b"\0\0\0\0\x03\0\0\0one");
    }

    #[test]
    fn a_cut_off_element_ends_the_iteration() {
        assert_eq!(BytesElements::new(b"\x01\0\0\0a\x05\0\0\0b").collect::<Vec<_>>(), [b"a"]);
        assert_eq!(BytesElements::new(b"\x01\0\0").count(), 0);
        assert_eq!(BytesElements::new(b"\xff\xff\xff\xffab").count(), 0);
    }
}
