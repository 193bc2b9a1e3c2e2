//! Which Rust type holds the elements of which datatype.

use half::{bf16, f16};

use crate::Datatype;

/// A Rust type whose values are the elements of a tensor: `bool`, the integers of 8 to 64 bits, `f32`, `f64`,
/// and [`half::f16`] and [`half::bf16`]. The strings of a BYTES tensor differ in length and are not among them.
///
/// ```
/// use modelhost_guest::{Element, Error, Tensor};
///
/// fn largest<T: Element + PartialOrd>(tensor: &Tensor) -> Result<Option<T>, Error> {
///     let elements = tensor.as_slice::<T>()?.iter().copied();
///     Ok(elements.reduce(|a, b| if b > a { b } else { a }))
/// }
///
/// assert_eq!(largest::<i64>(&Tensor::column([3_i64, 7, 5]))?, Some(7));
/// # Ok::<(), Error>(())
/// ```
pub trait Element: sealed::Sealed + bytemuck::CheckedBitPattern + bytemuck::NoUninit {
    /// The datatype of a tensor that holds these.
    ///
    /// ```
    /// use modelhost_guest::{Datatype, Element};
    ///
    /// assert_eq!(u8::DATATYPE, Datatype::Uint8);
    /// ```
    const DATATYPE: Datatype;
}

mod sealed {
    /// Keeps the pairs in this file the only ones: the layout of each element is part of the contract.
    pub trait Sealed {}
}

macro_rules! elements {
    ($($element:ty => $datatype:ident),+ $(,)?) => {
        $(
            impl sealed::Sealed for $element {}

            impl Element for $element {
                const DATATYPE: Datatype = Datatype::$datatype;
            }
        )+
    };
}

elements! {
    bool => Bool,
    u8 => Uint8,
    u16 => Uint16,
    u32 => Uint32,
    u64 => Uint64,
    i8 => Int8,
    i16 => Int16,
    i32 => Int32,
    i64 => Int64,
    f16 => Fp16,
    bf16 => Bf16,
    f32 => Fp32,
    f64 => Fp64,
}
