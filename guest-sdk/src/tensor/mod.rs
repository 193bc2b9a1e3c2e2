//! The tensor: what it is, reading it, and passing it on. Its elements lie in the host (behind a handle) or in the
//! plugin's memory; which of both is decided by where it came from and never shows. Making one is in `construct`.

mod buffer;
mod bytes_elements;
mod construct;

use std::cell::OnceCell;
use std::fmt;
use std::rc::Rc;

use self::buffer::Buffer;
pub use self::bytes_elements::BytesElements;
use crate::bindings::modelhost::plugin::tensors as contract;
use crate::{Datatype, Element, Error};

/// Typed, shaped data: elements in row-major order. By convention the first dimension is the batch: one row for
/// each thing to be predicted.
///
/// A tensor from a request or from a graph lies in the host until its elements are read, and is passed on without
/// being copied. A clone shares the elements.
///
/// ```
/// use modelhost_guest::Tensor;
///
/// let table = Tensor::from_rows(2, [[1.0_f32, 2.0], [3.0, 4.0], [5.0, 6.0]])?;
/// assert_eq!(table.shape(), [3, 2]);
/// let sums: Vec<f32> = table.rows::<f32>()?.map(|row| row.iter().sum()).collect();
/// assert_eq!(sums, [3.0, 7.0, 11.0]);
/// # Ok::<(), modelhost_guest::Error>(())
/// ```
#[derive(Clone)]
pub struct Tensor {
    /// For messages: what the request or the graph calls it.
    name: Option<Rc<str>>,
    place: Place,
}

/// Where the elements lie.
#[derive(Clone)]
enum Place {
    Plugin { datatype: Datatype, shape: Rc<[usize]>, elements: Buffer },
    Host(HostTensor),
}

/// A handle, and what has been asked through it so far.
struct HostTensor {
    handle: contract::Tensor,
    datatype: OnceCell<Datatype>,
    shape: OnceCell<Rc<[usize]>>,
    elements: OnceCell<Buffer>,
}

impl Clone for HostTensor {
    fn clone(&self) -> HostTensor {
        HostTensor {
            handle: self.handle.share(),
            datatype: self.datatype.clone(),
            shape: self.shape.clone(),
            elements: self.elements.clone(),
        }
    }
}

impl Tensor {
    /// The element type.
    ///
    /// ```
    /// use modelhost_guest::{Datatype, Tensor};
    ///
    /// assert_eq!(Tensor::column([1_i64, 2]).datatype(), Datatype::Int64);
    /// ```
    pub fn datatype(&self) -> Datatype {
        match &self.place {
            Place::Plugin { datatype, .. } => *datatype,
            Place::Host(host) => *host.datatype.get_or_init(|| host.handle.datatype().into()),
        }
    }

    /// The extent of each dimension, outermost first. No entries: a scalar.
    ///
    /// ```
    /// use modelhost_guest::Tensor;
    ///
    /// assert_eq!(Tensor::new([2, 3], vec![0_u8; 6])?.shape(), [2, 3]);
    /// # Ok::<(), modelhost_guest::Error>(())
    /// ```
    pub fn shape(&self) -> &[usize] {
        match &self.place {
            Place::Plugin { shape, .. } => shape,
            Place::Host(host) => {
                host.shape.get_or_init(|| host.handle.shape().into_iter().map(extent).collect())
            }
        }
    }

    /// The elements, in row-major order. The first reading of a tensor from the host copies them into the plugin's
    /// memory, further ones cost nothing.
    ///
    /// ```
    /// use modelhost_guest::Tensor;
    ///
    /// assert_eq!(Tensor::column([0.5_f32, 1.5]).as_slice::<f32>()?, [0.5, 1.5]);
    /// # Ok::<(), modelhost_guest::Error>(())
    /// ```
    ///
    /// # Errors
    /// Internal where the tensor has another datatype: the signature or the graph has promised it.
    pub fn as_slice<T: Element>(&self) -> Result<&[T], Error> {
        self.expect(T::DATATYPE)?;
        let elements = bytemuck::checked::try_cast_slice(self.elements());
        elements.map_err(|_| Error::internal(format!("{self} holds bytes that are no {}", T::DATATYPE)))
    }

    /// The elements, row by row: a row is what one index of the first dimension holds.
    ///
    /// ```
    /// use modelhost_guest::Tensor;
    ///
    /// let logits = Tensor::new([2, 3], [0.1_f32, 0.7, 0.2, 0.9, 0.0, 0.1])?;
    /// for row in logits.rows::<f32>()? {
    ///     assert_eq!(row.len(), 3);
    /// }
    /// # Ok::<(), modelhost_guest::Error>(())
    /// ```
    ///
    /// # Errors
    /// Internal where the tensor has another datatype, or no dimensions.
    pub fn rows<T: Element>(&self) -> Result<impl ExactSizeIterator<Item = &[T]>, Error> {
        let elements = self.as_slice::<T>()?;
        let count = self.row_count()?;
        let width = elements.len().checked_div(count).unwrap_or(0);
        Ok((0..count).map(move |row| elements.get(row * width..(row + 1) * width).unwrap_or_default()))
    }

    /// The texts of a BYTES tensor, in row-major order.
    ///
    /// ```
    /// use modelhost_guest::Tensor;
    ///
    /// let names = Tensor::string_column(["Ada", "Grace"])?;
    /// assert_eq!(names.strings()?, ["Ada", "Grace"]);
    /// # Ok::<(), modelhost_guest::Error>(())
    /// ```
    ///
    /// # Errors
    /// Invalid input, naming the row, where one is not UTF-8. Internal where the tensor has another datatype.
    pub fn strings(&self) -> Result<Vec<&str>, Error> {
        let text = |(index, bytes)| std::str::from_utf8(bytes).map_err(|_| self.not_utf8(index));
        self.bytes_elements()?.enumerate().map(text).collect()
    }

    /// The byte strings of a BYTES tensor, in row-major order.
    ///
    /// ```
    /// use modelhost_guest::Tensor;
    ///
    /// let images = Tensor::string_column([&b"\x89PNG"[..], b"\xff\xd8\xff"])?;
    /// assert_eq!(images.bytes_elements()?.map(<[u8]>::len).sum::<usize>(), 7);
    /// # Ok::<(), modelhost_guest::Error>(())
    /// ```
    ///
    /// # Errors
    /// Internal where the tensor has another datatype.
    pub fn bytes_elements(&self) -> Result<BytesElements<'_>, Error> {
        self.expect(Datatype::Bytes)?;
        Ok(BytesElements::new(self.elements()))
    }

    pub(crate) fn from_handle(handle: contract::Tensor) -> Tensor {
        let host = HostTensor {
            handle,
            datatype: OnceCell::new(),
            shape: OnceCell::new(),
            elements: OnceCell::new(),
        };
        Tensor { name: None, place: Place::Host(host) }
    }

    /// The tensor as the host has it. Copies the elements of one that was made here.
    ///
    /// # Errors
    /// The host's sentence where it refuses the tensor.
    pub(crate) fn into_handle(self) -> Result<contract::Tensor, String> {
        match self.place {
            Place::Host(host) => Ok(host.handle),
            Place::Plugin { datatype, shape, elements } => {
                let shape: Vec<u64> = shape.iter().map(|extent| *extent as u64).collect();
                contract::Tensor::create(datatype.into(), &shape, elements.as_bytes())
            }
        }
    }

    pub(crate) fn named(self, name: &str) -> Tensor {
        Tensor { name: Some(name.into()), ..self }
    }

    fn elements(&self) -> &[u8] {
        match &self.place {
            Place::Plugin { elements, .. } => elements.as_bytes(),
            Place::Host(host) => {
                host.elements.get_or_init(|| Buffer::from_bytes(host.handle.data())).as_bytes()
            }
        }
    }

    fn row_count(&self) -> Result<usize, Error> {
        let no_rows = || Error::internal(format!("{self} has no dimensions: read by rows"));
        self.shape().first().copied().ok_or_else(no_rows)
    }

    fn expect(&self, datatype: Datatype) -> Result<(), Error> {
        let actual = self.datatype();
        if actual == datatype {
            Ok(())
        } else {
            Err(Error::internal(format!("{self} holds {actual}: read as {datatype}")))
        }
    }

    fn not_utf8(&self, index: usize) -> Error {
        let per_row: usize = self.shape().iter().skip(1).product();
        let row = index.checked_div(per_row).unwrap_or(index);
        Error::invalid_input(format!("{self} row {row} is not UTF-8: expected text"))
    }
}

/// How messages call it: `tensor "age"`.
impl fmt::Display for Tensor {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.name {
            Some(name) => write!(formatter, "tensor {name:?}"),
            None => formatter.write_str("tensor"),
        }
    }
}

impl fmt::Debug for Tensor {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{self} of {} {:?}", self.datatype(), self.shape())
    }
}

/// An extent that does not fit into this machine's memory can only stand beside one of zero: no element is lost.
fn extent(extent: u64) -> usize {
    usize::try_from(extent).unwrap_or(usize::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn elements_are_read_as_what_they_are() {
        let tensor = Tensor::new([2, 2], [1.0_f32, 2.0, 3.0, 4.0]).unwrap();
        assert_eq!(tensor.as_slice::<f32>(), Ok(&[1.0, 2.0, 3.0, 4.0][..]));
        assert_eq!(tensor.as_slice::<i32>(), Err(Error::internal("tensor holds FP32: read as INT32")));
        assert!(tensor.strings().is_err());
        let named = tensor.named("x");
        assert_eq!(
            named.bytes_elements().err(),
            Some(Error::internal("tensor \"x\" holds FP32: read as BYTES"))
        );
    }

    #[test]
    fn rows_follow_the_first_dimension() {
        let rows = |shape: &[usize]| {
            let elements: Vec<u16> = (0..shape.iter().product::<usize>() as u16).collect();
            let tensor = Tensor::new(shape, elements).unwrap();
            tensor.rows::<u16>().unwrap().map(<[u16]>::to_vec).collect::<Vec<_>>()
        };
        assert_eq!(rows(&[2, 3]), [[0, 1, 2], [3, 4, 5]]);
        assert_eq!(rows(&[2, 2, 1]), [[0, 1], [2, 3]]);
        assert_eq!(rows(&[3]), [[0], [1], [2]]);
        assert_eq!(rows(&[0, 3]), Vec::<Vec<u16>>::new());
        assert_eq!(rows(&[2, 0]), [[], []]);
        let scalar = Tensor::new([], [1_u16]).unwrap();
        assert_eq!(
            scalar.rows::<u16>().err(),
            Some(Error::internal("tensor has no dimensions: read by rows"))
        );
    }

    #[test]
    fn text_that_is_not_utf8_is_the_clients_fault_and_named_by_row() {
        let texts = [&b"fine"[..], b"fine", b"fine", b"\xff"];
        let tensor = |shape: &[usize]| Tensor::from_strings(shape, texts).unwrap().named("text");
        assert_eq!(
            tensor(&[4]).strings(),
            Err(Error::invalid_input("tensor \"text\" row 3 is not UTF-8: expected text"))
        );
        assert_eq!(
            tensor(&[2, 2]).strings(),
            Err(Error::invalid_input("tensor \"text\" row 1 is not UTF-8: expected text"))
        );
        assert_eq!(tensor(&[4]).bytes_elements().unwrap().last(), Some(&b"\xff"[..]));
    }

    #[test]
    fn a_byte_that_is_no_bool_is_an_error() {
        let elements = Buffer::from_bytes(vec![0, 1, 2]);
        let place = Place::Plugin { datatype: Datatype::Bool, shape: [3].into(), elements };
        let tensor = Tensor { name: None, place };
        assert_eq!(tensor.as_slice::<bool>(), Err(Error::internal("tensor holds bytes that are no BOOL")));
    }

    #[test]
    fn half_precision_is_read() {
        use half::{bf16, f16};
        let tensor = Tensor::column([f16::from_f32(0.5)]);
        assert_eq!(tensor.as_slice::<f16>().unwrap()[0].to_f32(), 0.5);
        let tensor = Tensor::column([bf16::from_f32(-2.0)]);
        assert_eq!(tensor.as_slice::<bf16>().unwrap()[0].to_f32(), -2.0);
    }

    #[test]
    fn a_clone_shares_the_elements() {
        let tensor = Tensor::column(vec![1_u64; 100]);
        let clone = tensor.clone();
        assert_eq!(tensor.as_slice::<u64>().unwrap().as_ptr(), clone.as_slice::<u64>().unwrap().as_ptr());
    }
}
