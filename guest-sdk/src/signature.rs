//! What a plugin or a graph takes and answers. Only descriptions: checking tensors against them is the host's.

use crate::Datatype;
use crate::bindings::exports::modelhost::plugin::predictor as contract;
use crate::bindings::modelhost::plugin::tensors;

/// In a described shape: this dimension may have any extent. By convention the first dimension is the batch.
///
/// ```
/// use modelhost_guest::{ANY, Datatype, Signature};
///
/// // Any number of rows, four numbers in each.
/// let signature = Signature::new().input("measurements", Datatype::Fp32, [ANY, 4]);
/// ```
pub const ANY: i64 = -1;

/// What a tensor is called and what it may hold.
///
/// ```
/// use modelhost_guest::{ANY, Datatype, Signature};
///
/// let signature = Signature::new().output("label", Datatype::Bytes, [ANY]);
/// let label = &signature.outputs[0];
/// assert_eq!((label.name.as_str(), label.datatype, &label.shape[..]), ("label", Datatype::Bytes, &[-1][..]));
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TensorDescription {
    /// The name, unique among the inputs or the outputs.
    pub name: String,
    /// The element type.
    pub datatype: Datatype,
    /// The extent of each dimension, outermost first; [`ANY`] where any extent is accepted.
    pub shape: Vec<i64>,
}

/// The typed inputs and outputs of a plugin. The host checks each request and each response against it.
///
/// ```
/// use modelhost_guest::{ANY, Datatype, Signature};
///
/// let signature = Signature::new()
///     .input("text", Datatype::Bytes, [ANY])
///     .output("label", Datatype::Bytes, [ANY])
///     .output("score", Datatype::Fp32, [ANY]);
/// assert_eq!(signature.outputs.len(), 2);
/// ```
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Signature {
    /// What a request must hold, each exactly once.
    pub inputs: Vec<TensorDescription>,
    /// What a response holds.
    pub outputs: Vec<TensorDescription>,
}

impl Signature {
    /// A signature without inputs and outputs, to add them to.
    ///
    /// ```
    /// assert!(modelhost_guest::Signature::new().inputs.is_empty());
    /// ```
    pub fn new() -> Signature {
        Signature::default()
    }

    /// Adds an input. An extent that may vary is [`ANY`].
    ///
    /// ```
    /// use modelhost_guest::{ANY, Datatype, Signature};
    ///
    /// let signature = Signature::new().input("image", Datatype::Uint8, [ANY, 224, 224, 3]);
    /// assert_eq!(signature.inputs[0].shape.len(), 4);
    /// ```
    pub fn input(
        mut self,
        name: impl Into<String>,
        datatype: Datatype,
        shape: impl Into<Vec<i64>>,
    ) -> Signature {
        self.inputs.push(TensorDescription { name: name.into(), datatype, shape: shape.into() });
        self
    }

    /// Adds an output. An extent that may vary is [`ANY`].
    ///
    /// ```
    /// use modelhost_guest::{ANY, Datatype, Signature};
    ///
    /// let signature = Signature::new().output("probability", Datatype::Fp32, [ANY]);
    /// assert_eq!(signature.outputs[0].name, "probability");
    /// ```
    pub fn output(
        mut self,
        name: impl Into<String>,
        datatype: Datatype,
        shape: impl Into<Vec<i64>>,
    ) -> Signature {
        self.outputs.push(TensorDescription { name: name.into(), datatype, shape: shape.into() });
        self
    }

    pub(crate) fn into_contract(self) -> contract::Signature {
        contract::Signature { inputs: into_contract(self.inputs), outputs: into_contract(self.outputs) }
    }
}

fn into_contract(descriptions: Vec<TensorDescription>) -> Vec<tensors::TensorDescription> {
    let one = |description: TensorDescription| tensors::TensorDescription {
        name: description.name,
        datatype: description.datatype.into(),
        shape: description.shape,
    };
    descriptions.into_iter().map(one).collect()
}

pub(crate) fn from_contract(descriptions: Vec<tensors::TensorDescription>) -> Vec<TensorDescription> {
    let one = |description: tensors::TensorDescription| TensorDescription {
        name: description.name,
        datatype: description.datatype.into(),
        shape: description.shape,
    };
    descriptions.into_iter().map(one).collect()
}
