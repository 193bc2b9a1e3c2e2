//! The element types of tensors, their names, and their form in the contract. Knows nothing of Rust's types:
//! those are paired with datatypes in `element`.

use std::fmt;

use crate::bindings::modelhost::plugin::tensors as contract;

/// An element type of the Open Inference Protocol, or BF16.
///
/// ```
/// use modelhost_guest::Datatype;
///
/// assert_eq!(Datatype::Fp32.to_string(), "FP32");
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Datatype {
    /// `bool`: one byte, 0 or 1.
    Bool,
    /// `u8`.
    Uint8,
    /// `u16`.
    Uint16,
    /// `u32`.
    Uint32,
    /// `u64`.
    Uint64,
    /// `i8`.
    Int8,
    /// `i16`.
    Int16,
    /// `i32`.
    Int32,
    /// `i64`.
    Int64,
    /// [`half::f16`]: IEEE 754 half precision.
    Fp16,
    /// [`half::bf16`]: the upper half of an `f32`.
    Bf16,
    /// `f32`.
    Fp32,
    /// `f64`.
    Fp64,
    /// Byte strings, such as text in UTF-8, each of its own length.
    Bytes,
}

/// Pairs each datatype with the contract's name for it, in both directions.
macro_rules! datatypes {
    ($($variant:ident $name:literal),+ $(,)?) => {
        impl Datatype {
            /// The name in requests and responses.
            ///
            /// ```
            /// use modelhost_guest::Datatype;
            ///
            /// assert_eq!(Datatype::Bytes.name(), "BYTES");
            /// ```
            pub const fn name(self) -> &'static str {
                match self {
                    $(Datatype::$variant => $name,)+
                }
            }
        }

        impl From<contract::Datatype> for Datatype {
            fn from(datatype: contract::Datatype) -> Datatype {
                match datatype {
                    $(contract::Datatype::$variant => Datatype::$variant,)+
                }
            }
        }

        impl From<Datatype> for contract::Datatype {
            fn from(datatype: Datatype) -> contract::Datatype {
                match datatype {
                    $(Datatype::$variant => contract::Datatype::$variant,)+
                }
            }
        }
    };
}

datatypes! {
    Bool "BOOL",
    Uint8 "UINT8",
    Uint16 "UINT16",
    Uint32 "UINT32",
    Uint64 "UINT64",
    Int8 "INT8",
    Int16 "INT16",
    Int32 "INT32",
    Int64 "INT64",
    Fp16 "FP16",
    Bf16 "BF16",
    Fp32 "FP32",
    Fp64 "FP64",
    Bytes "BYTES",
}

impl fmt::Display for Datatype {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(self.name())
    }
}
