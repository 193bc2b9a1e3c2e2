//! Reading the attributes of a node. Whatever is wrong with one is one sentence with the operator's and the
//! attribute's name.

use tract_onnx::model::ParsingContext;
use tract_onnx::pb::{NodeProto, TensorProto};
use tract_onnx::prelude::{Datum, TractResult};

/// A list of numbers; empty where the attribute is missing.
pub(super) fn integers<'a>(node: &'a NodeProto, name: &str) -> TractResult<&'a [i64]> {
    Ok(node.get_attr_opt_slice::<i64>(name)?.unwrap_or(&[]))
}

/// A list of numbers; empty where the attribute is missing.
pub(super) fn floats<'a>(node: &'a NodeProto, name: &str) -> TractResult<&'a [f32]> {
    Ok(node.get_attr_opt_slice::<f32>(name)?.unwrap_or(&[]))
}

/// A list of texts; empty where the attribute is missing.
pub(super) fn texts(node: &NodeProto, name: &str) -> TractResult<Vec<String>> {
    let bytes = node.get_attr_opt_slice::<Vec<u8>>(name)?.unwrap_or(&[]);
    bytes.iter().map(|bytes| utf8(node, name, bytes)).collect()
}

pub(super) fn text(node: &NodeProto, name: &str, default: &str) -> TractResult<String> {
    match node.get_attr_opt::<&[u8]>(name)? {
        Some(bytes) => utf8(node, name, bytes),
        None => Ok(default.to_owned()),
    }
}

pub(super) fn integer(node: &NodeProto, name: &str, default: i64) -> TractResult<i64> {
    Ok(node.get_attr_opt::<i64>(name)?.unwrap_or(default))
}

fn utf8(node: &NodeProto, name: &str, bytes: &[u8]) -> TractResult<String> {
    match std::str::from_utf8(bytes) {
        Ok(text) => Ok(text.to_owned()),
        Err(_) => node.bail_attr(name, "expected text in UTF-8"),
    }
}

/// The elements of a tensor; none where the attribute is missing.
pub(super) fn tensor<T: Datum + Clone>(
    context: &ParsingContext<'_>,
    node: &NodeProto,
    name: &str,
) -> TractResult<Option<Vec<T>>> {
    let Some(proto) = node.get_attr_opt::<&TensorProto>(name)? else { return Ok(None) };
    let tensor = context.load_tensor(proto)?;
    if tensor.datum_type() != T::datum_type() {
        return node.bail_attr(name, &format!("expected a tensor of {:?}, got {:?}", T::datum_type(), tensor.datum_type()));
    }
    Ok(Some(tensor.try_as_plain_ram()?.as_slice::<T>()?.to_vec()))
}

/// Lists that describe the same things one by one have one length.
pub(super) fn expect_length(node: &NodeProto, name: &str, length: usize, expected: usize) -> TractResult<()> {
    node.expect_attr(name, length == expected, || format!("{expected} entries, got {length}"))
}
