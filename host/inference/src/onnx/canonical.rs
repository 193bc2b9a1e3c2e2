//! One way to say each thing. Where a file could say one thing in two ways at once, one engine would take the first and
//! another the last: what is proven of the network that one of them reads would not hold for the one that runs. Such
//! files are refused, or written so that there is one way to read them.

use std::collections::{HashMap, HashSet};

use tract_onnx::pb::attribute_proto::AttributeType;
use tract_onnx::pb::tensor_proto::{DataLocation, DataType};
use tract_onnx::pb::tensor_shape_proto::{Dimension, dimension};
use tract_onnx::pb::type_proto::Value;
use tract_onnx::pb::{AttributeProto, GraphProto, ModelProto, NodeProto, TensorProto, ValueInfoProto};

use super::{for_each_tensor, invalid};
use crate::engine::{LoadError, short};

/// The default domain has two names; this one is written as none.
const DEFAULT_DOMAIN: &str = "ai.onnx";

/// Writes the model anew, nested graphs included.
///
/// # Errors
/// [`LoadError::Invalid`] for what has no one meaning, [`LoadError::Unsupported`] for sparse tensors and the like.
pub(super) fn rewrite(model: &mut ModelProto) -> Result<(), LoadError> {
    // Exports of scikit-learn import the default one twice, in one version.
    let mut seen = HashSet::new();
    model.opset_import.retain_mut(|set| {
        name_default_domain(&mut set.domain);
        seen.insert((set.domain.clone(), set.version))
    });
    let Some(graph) = &mut model.graph else { return Err(invalid("there is no graph in it")) };
    rewrite_graph(graph, &mut Extents::default())?;
    for_each_tensor(graph, &mut rewrite_tensor)
}

fn name_default_domain(domain: &mut String) {
    if domain == DEFAULT_DOMAIN {
        domain.clear();
    }
}

fn rewrite_graph(graph: &mut GraphProto, extents: &mut Extents) -> Result<(), LoadError> {
    if !graph.sparse_initializer.is_empty() {
        return Err(unsupported("the graph has sparse initialisers"));
    }
    graph.quantization_annotation.clear();
    graph.input.iter_mut().for_each(|input| extents.rewrite(input));
    for node in &mut graph.node {
        name_default_domain(&mut node.domain);
        rewrite_attributes(node)?;
        let graphs = node
            .attribute
            .iter_mut()
            .flat_map(|attribute| attribute.g.iter_mut().chain(&mut attribute.graphs));
        for nested in graphs {
            rewrite_graph(nested, extents)?;
        }
    }
    Ok(())
}

/// Each attribute once, and with the one value that its type says it has.
fn rewrite_attributes(node: &mut NodeProto) -> Result<(), LoadError> {
    let mut names = HashSet::new();
    if let Some(twice) = node.attribute.iter().find(|attribute| !names.insert(attribute.name.as_str())) {
        return Err(invalid(format!(
            "operator {} ({:?}) has the attribute {:?} twice",
            short(&node.op_type),
            short(&node.name),
            short(&twice.name)
        )));
    }
    // ONNX Runtime takes the first attribute, whatever its name is.
    if node.op_type == "Constant" && (node.attribute.len() != 1 || node.output.len() != 1) {
        return Err(invalid(format!(
            "operator Constant ({:?}) has {} attributes and {} outputs: expected one of each",
            short(&node.name),
            node.attribute.len(),
            node.output.len()
        )));
    }
    for attribute in &mut node.attribute {
        *attribute = with_one_value(std::mem::take(attribute))?;
    }
    Ok(())
}

fn with_one_value(attribute: AttributeProto) -> Result<AttributeProto, LoadError> {
    let AttributeProto {
        name,
        ref_attr_name,
        r#type,
        f,
        i,
        s,
        t,
        g,
        floats,
        ints,
        strings,
        tensors,
        graphs,
        ..
    } = attribute;
    if !ref_attr_name.is_empty() {
        return Err(invalid(format!(
            "attribute {:?} refers to one of a function, and is in none",
            short(&name)
        )));
    }
    let kind = AttributeType::try_from(r#type);
    let empty = AttributeProto { r#type, ..AttributeProto::default() };
    let value = match kind {
        Ok(AttributeType::Float) => AttributeProto { f, ..empty },
        Ok(AttributeType::Int) => AttributeProto { i, ..empty },
        Ok(AttributeType::String) => AttributeProto { s, ..empty },
        Ok(AttributeType::Tensor) => AttributeProto { t, ..empty },
        Ok(AttributeType::Graph) => AttributeProto { g, ..empty },
        Ok(AttributeType::Floats) => AttributeProto { floats, ..empty },
        Ok(AttributeType::Ints) => AttributeProto { ints, ..empty },
        Ok(AttributeType::Strings) => AttributeProto { strings, ..empty },
        Ok(AttributeType::Tensors) => AttributeProto { tensors, ..empty },
        Ok(AttributeType::Graphs) => AttributeProto { graphs, ..empty },
        Ok(AttributeType::SparseTensor | AttributeType::SparseTensors) => {
            return Err(unsupported("the graph has sparse tensors"));
        }
        Ok(AttributeType::Undefined | AttributeType::TypeProto | AttributeType::TypeProtos) | Err(_) => {
            return Err(unsupported(format!(
                "attribute {:?} has no type, or one that is not known",
                short(&name)
            )));
        }
    };
    Ok(AttributeProto { name, ..value })
}

/// Names of free extents. tract reads them as expressions, of which some are numbers, and ONNX Runtime as names.
#[derive(Default)]
struct Extents {
    /// The name that each expression gets.
    names: HashMap<String, String>,
}

impl Extents {
    fn rewrite(&mut self, input: &mut ValueInfoProto) {
        let value = input.r#type.as_mut().and_then(|of| of.value.as_mut());
        let Some(Value::TensorType(tensor)) = value else { return };
        let Some(shape) = &mut tensor.shape else { return };
        shape.dim.iter_mut().for_each(|dimension| self.rewrite_dimension(dimension));
    }

    fn rewrite_dimension(&mut self, dimension: &mut Dimension) {
        match &mut dimension.value {
            Some(dimension::Value::DimValue(extent)) if *extent < 0 => dimension.value = None,
            Some(dimension::Value::DimParam(name)) if name.is_empty() || name == "?" => {
                dimension.value = None
            }
            Some(dimension::Value::DimParam(name)) if !is_plain(name) => {
                let index = self.names.len();
                let plain =
                    self.names.entry(name.clone()).or_insert_with(|| format!("{EXTENT_PREFIX}{index}"));
                plain.clone_into(name);
            }
            _ => {}
        }
    }
}

/// Of names that stand for expressions; no plain name begins like this.
const EXTENT_PREFIX: &str = "modelhost_extent_";

/// Whether a name is read as one name by everybody.
fn is_plain(name: &str) -> bool {
    let is_word = |character: char| character.is_ascii_alphanumeric() || character == '_';
    let starts_well = name.starts_with(|first: char| first.is_ascii_alphabetic() || first == '_');
    starts_well && name.chars().all(is_word) && !name.starts_with(EXTENT_PREFIX)
}

/// The elements of numbers as bytes, exactly as many as the shape says.
fn rewrite_tensor(tensor: &mut TensorProto) -> Result<(), LoadError> {
    let is_external = tensor.data_location == Some(DataLocation::External as i32);
    if is_external || !tensor.external_data.is_empty() {
        return Err(invalid(format!(
            "tensor {:?} keeps its data in another file: store all data inside the .onnx file",
            short(&tensor.name)
        )));
    }
    if tensor.segment.is_some() {
        return Err(unsupported(format!("tensor {:?} is a segment of one", short(&tensor.name))));
    }
    tensor.data_location = None;
    let typed = typed_data(tensor);
    if tensor.raw_data.is_empty() {
        tensor.raw_data = typed;
    }
    let elements = elements(tensor)?;
    if tensor.data_type == DataType::String as i32 {
        return match tensor.string_data.len() as u64 == elements && tensor.raw_data.is_empty() {
            true => Ok(()),
            false => Err(wrong_length(tensor, "texts", tensor.string_data.len(), elements)),
        };
    }
    tensor.string_data.clear();
    let bits = element_bits(tensor)?;
    let bytes = elements.saturating_mul(bits).div_ceil(8);
    if tensor.raw_data.len() as u64 != bytes {
        return Err(wrong_length(tensor, "bytes", tensor.raw_data.len(), bytes));
    }
    if tensor.data_type == DataType::Bool as i32 {
        tensor.raw_data.iter_mut().for_each(|byte| *byte = u8::from(*byte != 0));
    }
    Ok(())
}

/// Takes the elements out of the fields for typed data, as bytes. The fields are wider than some of the types: what does
/// not fit was no number of that type.
fn typed_data(tensor: &mut TensorProto) -> Vec<u8> {
    let floats = std::mem::take(&mut tensor.float_data);
    let doubles = std::mem::take(&mut tensor.double_data);
    let words = std::mem::take(&mut tensor.int32_data);
    let longs = std::mem::take(&mut tensor.int64_data);
    let unsigned = std::mem::take(&mut tensor.uint64_data);
    match DataType::try_from(tensor.data_type) {
        Ok(DataType::Float | DataType::Complex64) => {
            floats.iter().flat_map(|value| value.to_le_bytes()).collect()
        }
        Ok(DataType::Double | DataType::Complex128) => {
            doubles.iter().flat_map(|value| value.to_le_bytes()).collect()
        }
        Ok(DataType::Int64) => longs.iter().flat_map(|value| value.to_le_bytes()).collect(),
        Ok(DataType::Uint64) => unsigned.iter().flat_map(|value| value.to_le_bytes()).collect(),
        Ok(DataType::Uint32) => unsigned.iter().flat_map(|value| (*value as u32).to_le_bytes()).collect(),
        Ok(DataType::Int32) => words.iter().flat_map(|value| value.to_le_bytes()).collect(),
        Ok(DataType::Int16 | DataType::Uint16 | DataType::Float16 | DataType::Bfloat16) => {
            words.iter().flat_map(|value| (*value as u16).to_le_bytes()).collect()
        }
        Ok(DataType::Bool) => words.iter().map(|value| u8::from(*value != 0)).collect(),
        _ => words.iter().map(|value| *value as u8).collect(),
    }
}

/// How many elements the shape says.
fn elements(tensor: &TensorProto) -> Result<u64, LoadError> {
    let extents = tensor.dims.iter().map(|extent| u64::try_from(*extent).ok());
    let product = extents.into_iter().try_fold(1_u64, |product, extent| product.checked_mul(extent?));
    product.ok_or_else(|| {
        invalid(format!(
            "tensor {:?} has a negative extent, or more elements than there can be",
            short(&tensor.name)
        ))
    })
}

fn element_bits(tensor: &TensorProto) -> Result<u64, LoadError> {
    match DataType::try_from(tensor.data_type) {
        Ok(DataType::Complex128) => Ok(128),
        Ok(DataType::Double | DataType::Int64 | DataType::Uint64 | DataType::Complex64) => Ok(64),
        Ok(DataType::Float | DataType::Int32 | DataType::Uint32) => Ok(32),
        Ok(DataType::Int16 | DataType::Uint16 | DataType::Float16 | DataType::Bfloat16) => Ok(16),
        Ok(DataType::Int8 | DataType::Uint8 | DataType::Bool) => Ok(8),
        Ok(
            DataType::Float8e4m3fn
            | DataType::Float8e4m3fnuz
            | DataType::Float8e5m2
            | DataType::Float8e5m2fnuz,
        ) => Ok(8),
        Ok(DataType::Uint4 | DataType::Int4 | DataType::Float4e2m1) => Ok(4),
        Ok(DataType::String | DataType::Undefined) | Err(_) => Err(unsupported(format!(
            "tensor {:?} has an element type that is not known",
            short(&tensor.name)
        ))),
    }
}

fn wrong_length(tensor: &TensorProto, unit: &str, found: usize, expected: u64) -> LoadError {
    invalid(format!(
        "tensor {:?} has {found} {unit} of data: expected {expected} for its shape and type",
        short(&tensor.name)
    ))
}

fn unsupported(reason: impl Into<String>) -> LoadError {
    LoadError::Unsupported { reason: reason.into() }
}
