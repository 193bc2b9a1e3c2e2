//! Making tensors: from elements and a shape, or row by row for a batch. They stay in the plugin's memory until
//! they are passed to a graph or into a response.

use super::buffer::Buffer;
use super::{Place, Tensor, bytes_elements};
use crate::{Datatype, Element, Error};

impl Tensor {
    /// A tensor of these elements, in row-major order. A `Vec` is taken over without copying.
    ///
    /// ```
    /// use modelhost_guest::Tensor;
    ///
    /// let identity = Tensor::new([2, 2], vec![1.0_f32, 0.0, 0.0, 1.0])?;
    /// let scalar = Tensor::new([], [42_i64])?;
    /// assert!(Tensor::new([3], [1_u8, 2]).is_err());
    /// # Ok::<(), modelhost_guest::Error>(())
    /// ```
    ///
    /// # Errors
    /// Internal where the shape does not hold exactly as many elements.
    pub fn new<T: Element>(shape: impl AsRef<[usize]>, elements: impl Into<Vec<T>>) -> Result<Tensor, Error> {
        let elements = elements.into();
        let shape = shape.as_ref();
        check_count(T::DATATYPE, shape, elements.len())?;
        Ok(Tensor::of(T::DATATYPE, shape, Buffer::from_elements(elements)))
    }

    /// A tensor of one element for each row of the batch: shape `[rows]`.
    ///
    /// ```
    /// use modelhost_guest::Tensor;
    ///
    /// let scores = Tensor::column([0.25_f32, 0.75].iter().map(|p| 1.0 - p));
    /// assert_eq!(scores.as_slice::<f32>()?, [0.75, 0.25]);
    /// # Ok::<(), modelhost_guest::Error>(())
    /// ```
    pub fn column<T: Element>(elements: impl IntoIterator<Item = T>) -> Tensor {
        let elements: Vec<T> = elements.into_iter().collect();
        Tensor::of(T::DATATYPE, &[elements.len()], Buffer::from_elements(elements))
    }

    /// A tensor of `width` elements for each row of the batch: shape `[rows, width]`. The width is said and not
    /// seen, so that a batch without rows has the right shape too.
    ///
    /// ```
    /// use modelhost_guest::Tensor;
    ///
    /// let ages = [41.0_f32, 17.0];
    /// let features = Tensor::from_rows(2, ages.iter().map(|age| [age / 100.0, age * age]))?;
    /// assert_eq!(features.shape(), [2, 2]);
    /// # Ok::<(), modelhost_guest::Error>(())
    /// ```
    ///
    /// # Errors
    /// Internal, naming the row, where one has another width.
    pub fn from_rows<T: Element, R: AsRef<[T]>>(
        width: usize,
        rows: impl IntoIterator<Item = R>,
    ) -> Result<Tensor, Error> {
        let rows = rows.into_iter();
        let mut elements = Vec::with_capacity(rows.size_hint().0.saturating_mul(width));
        let mut count = 0;
        for row in rows {
            let row = row.as_ref();
            if row.len() != width {
                let actual = row.len();
                return Err(Error::internal(format!("row {count} has {actual} elements: expected {width}")));
            }
            elements.extend_from_slice(row);
            count += 1;
        }
        Ok(Tensor::of(T::DATATYPE, &[count, width], Buffer::from_elements(elements)))
    }

    /// A BYTES tensor of these texts or byte strings, in row-major order.
    ///
    /// ```
    /// use modelhost_guest::Tensor;
    ///
    /// let top_two = Tensor::from_strings([2, 2], ["tea", "milk", "bread", "butter"])?;
    /// assert_eq!(top_two.shape(), [2, 2]);
    /// # Ok::<(), modelhost_guest::Error>(())
    /// ```
    ///
    /// # Errors
    /// Internal where the shape does not hold exactly as many, or one is longer than 4 GiB.
    pub fn from_strings<S: AsRef<[u8]>>(
        shape: impl AsRef<[usize]>,
        strings: impl IntoIterator<Item = S>,
    ) -> Result<Tensor, Error> {
        let (data, count) = joined(strings)?;
        check_count(Datatype::Bytes, shape.as_ref(), count)?;
        Ok(Tensor::of(Datatype::Bytes, shape.as_ref(), Buffer::from_elements(data)))
    }

    /// A BYTES tensor of one text or byte string for each row of the batch: shape `[rows]`.
    ///
    /// ```
    /// use modelhost_guest::Tensor;
    ///
    /// let scores = [0.1, 0.9];
    /// let labels = Tensor::string_column(scores.map(|score| if score > 0.5 { "spam" } else { "ham" }))?;
    /// assert_eq!(labels.strings()?, ["ham", "spam"]);
    /// # Ok::<(), modelhost_guest::Error>(())
    /// ```
    ///
    /// # Errors
    /// Internal where one is longer than 4 GiB.
    pub fn string_column<S: AsRef<[u8]>>(strings: impl IntoIterator<Item = S>) -> Result<Tensor, Error> {
        let (data, count) = joined(strings)?;
        Ok(Tensor::of(Datatype::Bytes, &[count], Buffer::from_elements(data)))
    }

    fn of(datatype: Datatype, shape: &[usize], elements: Buffer) -> Tensor {
        Tensor { name: None, place: Place::Plugin { datatype, shape: shape.into(), elements } }
    }
}

/// The strings in the layout of BYTES, and how many they are.
fn joined<S: AsRef<[u8]>>(strings: impl IntoIterator<Item = S>) -> Result<(Vec<u8>, usize), Error> {
    let mut data = Vec::new();
    let mut count = 0;
    for string in strings {
        let too_long =
            || Error::internal(format!("string {count} is longer than an element of BYTES can be"));
        bytes_elements::append(&mut data, string.as_ref()).ok_or_else(too_long)?;
        count += 1;
    }
    Ok((data, count))
}

fn check_count(datatype: Datatype, shape: &[usize], actual: usize) -> Result<(), Error> {
    // A zero anywhere makes the tensor empty, however large the others are.
    let expected = if shape.contains(&0) {
        Some(0)
    } else {
        shape.iter().try_fold(1_usize, |product, extent| product.checked_mul(*extent))
    };
    if expected == Some(actual) {
        return Ok(());
    }
    Err(Error::internal(format!("a tensor of {datatype} {shape:?} was made from {actual} elements")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shape_and_elements_must_agree() {
        assert!(Tensor::new([2, 3], vec![0_i32; 6]).is_ok());
        assert!(Tensor::new([], [0_i32]).is_ok());
        assert!(Tensor::new([0, usize::MAX, usize::MAX], Vec::<i32>::new()).is_ok());
        assert!(Tensor::new([usize::MAX, 2], Vec::<i32>::new()).is_err());
        assert_eq!(
            Tensor::new([2, 3], vec![0_i32; 5]).err(),
            Some(Error::internal("a tensor of INT32 [2, 3] was made from 5 elements"))
        );
        assert!(Tensor::from_strings([2], ["one"]).is_err());
        assert!(Tensor::from_strings([1, 1], ["one"]).is_ok());
    }

    #[test]
    fn rows_must_have_the_width() {
        let uneven = [vec![1_u8, 2], vec![3]];
        assert_eq!(
            Tensor::from_rows(2, uneven).err(),
            Some(Error::internal("row 1 has 1 elements: expected 2"))
        );
    }

    #[test]
    fn a_batch_without_rows_keeps_its_width() {
        let none: [[f32; 4]; 0] = [];
        assert_eq!(Tensor::from_rows(4, none).unwrap().shape(), [0, 4]);
        assert_eq!(Tensor::column::<f32>([]).shape(), [0]);
        assert_eq!(Tensor::string_column::<&str>([]).unwrap().shape(), [0]);
    }
}
