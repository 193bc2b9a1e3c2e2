//! Columns of a record batch as the input tensors of a model: which columns an input is made of, which rows cannot be
//! said in its datatype and shape, and the tensors of the others. Numbers are handed over where they lie; texts are
//! copied once. Knows no calls and no files.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;

use arrow::array::{Array, ArrayRef, AsArray, BooleanArray, RecordBatch, Scalar, UInt32Array};
use arrow::compute::kernels::zip::zip;
use arrow::compute::{is_not_null, take};
use arrow::datatypes::{DataType, Schema};
use arrow::error::ArrowError;
use bytes::Bytes;
use modelhost_core::{Datatype, ErrorCode, Signature, Tensor, TensorDescription};
use modelhost_serving::{Error, NamedTensors};

use super::convert::{Converted, arrow_type, convert, element, fits, shown};
use super::fault::Fault;
use super::lists::{self, Extents, levels};
use super::specification::InputMapping;

/// How rows become calls of one model.
pub(crate) struct Inputs {
    inputs: Vec<Input>,
    /// Whether rows share a call: the first dimension of every input is free.
    is_batched: bool,
}

struct Input {
    name: String,
    datatype: Datatype,
    /// What it is made of, by name.
    columns: Vec<String>,
    /// The extents of one row's elements, outermost first; -1 where any is taken.
    dims: Vec<i64>,
    /// Whether the rows are a dimension in front of these.
    has_rows: bool,
    if_null: Option<ArrayRef>,
    pad: Option<ArrayRef>,
}

/// The columns of one record batch, ready to be cut into calls.
pub(crate) struct Prepared<'a> {
    plan: &'a Inputs,
    /// For each input its columns.
    columns: Vec<Vec<ArrayRef>>,
    /// For each input of lists the extents of each row.
    extents: Vec<Option<Vec<Extents>>>,
    rows: usize,
}

impl Inputs {
    /// Finds the columns of every input.
    ///
    /// # Errors
    /// [`ErrorCode::InvalidArgument`] where a mapping names no input or no column, [`ErrorCode::Unprocessable`] where a
    /// column cannot hold what its input takes.
    pub(crate) fn new(
        signature: &Signature,
        mappings: &BTreeMap<String, InputMapping>,
        schema: &Schema,
    ) -> Result<Inputs, Error> {
        let is_known = |name: &str| signature.inputs.iter().any(|input| input.name == name);
        if let Some(unknown) = mappings.keys().find(|name| !is_known(name)) {
            let known = names(signature.inputs.iter().map(|input| input.name.as_str()));
            return Err(invalid(format!("the model has no input {unknown:?}: it has {known}")));
        }
        if signature.inputs.is_empty() {
            return Err(unprocessable("the model has no inputs: there is nothing to give it of a row"));
        }
        let is_batched = signature.inputs.iter().all(|input| input.shape.first() == Some(&-1));
        let input = |described| Input::new(described, mappings, schema, is_batched);
        let inputs = signature.inputs.iter().map(input).collect::<Result<_, _>>()?;
        Ok(Inputs { inputs, is_batched })
    }

    /// Whether rows share a call.
    pub(crate) fn is_batched(&self) -> bool {
        self.is_batched
    }

    /// The columns that are needed, each once.
    pub(crate) fn columns(&self) -> impl Iterator<Item = &str> {
        let all = self.inputs.iter().flat_map(|input| &input.columns);
        let mut seen = std::collections::BTreeSet::new();
        all.map(String::as_str).filter(move |name| seen.insert(*name))
    }

    /// Which input is made of which columns, for people.
    pub(crate) fn describe(&self) -> BTreeMap<String, Vec<String>> {
        self.inputs.iter().map(|input| (input.name.clone(), input.columns.clone())).collect()
    }

    /// Makes the columns of a batch fit, and tells the rows that do not.
    ///
    /// # Errors
    /// Columns of other types than were planned with.
    pub(crate) fn prepare(
        &self,
        batch: &RecordBatch,
    ) -> Result<(Prepared<'_>, BTreeMap<usize, Fault>), ArrowError> {
        let mut faults = BTreeMap::new();
        let mut columns = Vec::with_capacity(self.inputs.len());
        let mut extents = Vec::with_capacity(self.inputs.len());
        for input in &self.inputs {
            let (fitting, shapes) = input.prepare(batch, &mut faults)?;
            columns.push(fitting);
            extents.push(shapes);
        }
        Ok((Prepared { plan: self, columns, extents, rows: batch.num_rows() }, faults))
    }
}

impl Input {
    fn new(
        described: &TensorDescription,
        mappings: &BTreeMap<String, InputMapping>,
        schema: &Schema,
        is_batched: bool,
    ) -> Result<Input, Error> {
        let TensorDescription { name, datatype, shape } = described;
        let of_its_name = InputMapping::Column(name.clone());
        let mapping = mappings.get(name).unwrap_or(&of_its_name);
        let has_rows = is_batched || matches!(shape.first(), Some(-1 | 1));
        let dims = if has_rows { shape.get(1..).unwrap_or_default() } else { shape.as_slice() };
        if arrow_type(*datatype).is_none() {
            return Err(unprocessable(format!("input {name:?} is {datatype}, which no column holds")));
        }
        let filling = |value: Option<&serde_json::Value>, what: &str| {
            value
                .map(|value| {
                    let misfit =
                        || invalid(format!("{what} of input {name:?} is {value}, which is no {datatype}"));
                    element(value, *datatype).ok_or_else(misfit)
                })
                .transpose()
        };
        let (if_null, pad) = mapping.fillings();
        let input = Input {
            name: name.clone(),
            datatype: *datatype,
            columns: mapping.columns().to_vec(),
            dims: dims.to_vec(),
            has_rows,
            if_null: filling(if_null, "if_null")?,
            pad: filling(pad, "pad")?,
        };
        input.check(schema)?;
        Ok(input)
    }

    fn check(&self, schema: &Schema) -> Result<(), Error> {
        let Input { name, datatype, columns, dims, .. } = self;
        if self.pad.is_some() && dims.len() != 1 {
            return Err(invalid(format!(
                "input {name:?} takes no lists of one level: there is nothing to pad"
            )));
        }
        let is_side_by_side = columns.len() != 1;
        if is_side_by_side {
            let fits = match dims[..] {
                [-1] => !columns.is_empty(),
                [extent] => u64::try_from(extent).is_ok_and(|extent| extent == columns.len() as u64),
                _ => false,
            };
            if !fits {
                let count = columns.len();
                return Err(unprocessable(format!(
                    "input {name:?} takes {dims:?} of a row: not {count} columns"
                )));
            }
        }
        for column in columns {
            let field = schema.field_with_name(column).map_err(|_| {
                let known = names(schema.fields().iter().map(|field| field.name().as_str()));
                invalid(format!(
                    "input {name:?} takes column {column:?}, which is not there: map it to one of {known}"
                ))
            })?;
            let depth = if is_side_by_side { 0 } else { dims.len() };
            self.check_type(column, field.data_type(), depth)?;
        }
        debug_assert!(arrow_type(*datatype).is_some());
        Ok(())
    }

    fn check_type(&self, column: &str, data_type: &DataType, depth: usize) -> Result<(), Error> {
        let Input { name, datatype, dims, .. } = self;
        let misfit = |expected: String| {
            unprocessable(format!(
                "column {column:?} is {data_type}, which does not fit input {name:?}: expected {expected}"
            ))
        };
        let Some((leaf, lengths)) = levels(data_type, depth) else {
            return Err(misfit(format!("lists {depth} deep of {datatype}")));
        };
        if lists::is_list(leaf) {
            let expected = if depth == 0 { "no lists".to_owned() } else { format!("lists {depth} deep") };
            return Err(misfit(expected));
        }
        if !fits(leaf, *datatype) {
            return Err(misfit(format!("elements that can be {datatype}")));
        }
        for (length, dim) in lengths.iter().zip(dims) {
            if let (Some(length), Ok(extent)) = (length, u64::try_from(*dim))
                && *length != extent
                && self.pad.is_none()
            {
                return Err(misfit(format!("lists of {extent}")));
            }
        }
        Ok(())
    }

    fn depth(&self) -> usize {
        if self.columns.len() == 1 { self.dims.len() } else { 0 }
    }

    fn prepare(
        &self,
        batch: &RecordBatch,
        faults: &mut BTreeMap<usize, Fault>,
    ) -> Result<(Vec<ArrayRef>, Option<Vec<Extents>>), ArrowError> {
        let depth = self.depth();
        let mut fitting = Vec::with_capacity(self.columns.len());
        for column in &self.columns {
            let missing = || ArrowError::SchemaError(format!("column {column:?} is not there"));
            let array = batch.column_by_name(column).ok_or_else(missing)?;
            fitting.push(self.fit(column, array, depth, faults)?);
        }
        if depth == 0 {
            return Ok((fitting, None));
        }
        let (column, array) = (&self.columns[0], &mut fitting[0]);
        if let Some(pad) = &self.pad {
            *array = self.pad(array, pad)?;
        }
        let extents: Vec<Extents> = (0..array.len()).map(|row| lists::extents(array, row, depth)).collect();
        for (row, extents) in extents.iter().enumerate() {
            if let Some(fault) = self.shape_fault(column, extents) {
                note(faults, row, || fault);
            }
        }
        Ok((fitting, Some(extents)))
    }

    /// The column with elements of the datatype; notes the rows that hold others.
    fn fit(
        &self,
        column: &str,
        array: &ArrayRef,
        depth: usize,
        faults: &mut BTreeMap<usize, Fault>,
    ) -> Result<ArrayRef, ArrowError> {
        let before = lists::leaves(array, depth);
        let Converted { mut values, misfits } = convert(&before, self.datatype)?;
        let is_misfit = |leaf: usize| misfits.binary_search(&leaf).is_ok();
        if !misfits.is_empty() || (before.null_count() > 0 && self.if_null.is_none()) {
            for row in 0..array.len() {
                let range = lists::leaf_range(array, row, depth);
                let is_fault =
                    |leaf: &usize| is_misfit(*leaf) || (before.is_null(*leaf) && self.if_null.is_none());
                if let Some(leaf) = range.clone().find(is_fault) {
                    note(faults, row, || self.cell_fault(column, &before, leaf));
                }
            }
        }
        if let Some(filling) = &self.if_null
            && before.null_count() > 0
        {
            values = filled(&values, filling)?;
        }
        lists::with_leaves(array, depth, values)
    }

    fn cell_fault(&self, column: &str, cells: &ArrayRef, cell: usize) -> Fault {
        let Input { name, datatype, .. } = self;
        if cells.is_null(cell) {
            let reason = format!("column {column:?} is null: input {name:?} takes no nulls");
            return Fault::new(Fault::NULL, reason);
        }
        let value = shown(cells, cell);
        Fault::new(Fault::TYPE, format!("column {column:?} is {value}: input {name:?} takes {datatype}"))
    }

    fn pad(&self, array: &ArrayRef, pad: &ArrayRef) -> Result<ArrayRef, ArrowError> {
        let lengths = (0..array.len()).filter_map(|row| match lists::extents(array, row, 1) {
            Extents::Of(extents) => extents.first().copied(),
            _ => None,
        });
        let longest = lengths.max().unwrap_or(0);
        let length = self.dims.first().and_then(|dim| u64::try_from(*dim).ok()).unwrap_or(longest);
        if longest > length {
            // Those are found out by their shape; the others are filled no further than they have to be.
            return Ok(array.clone());
        }
        let padded = lists::padded(array, length)?;
        let leaves = filled(&lists::leaves(&padded, 1), pad)?;
        lists::with_leaves(&padded, 1, leaves)
    }

    fn shape_fault(&self, column: &str, extents: &Extents) -> Option<Fault> {
        let Input { name, dims, .. } = self;
        let extents = match extents {
            Extents::Null => {
                let reason = format!("column {column:?} is null: input {name:?} takes no nulls");
                return Some(Fault::new(Fault::NULL, reason));
            }
            Extents::Ragged => {
                let reason = format!(
                    "column {column:?} holds lists of different lengths: input {name:?} takes a block"
                );
                return Some(Fault::new(Fault::SHAPE, reason));
            }
            Extents::Of(extents) => extents,
        };
        let fits = dims.iter().zip(extents).all(|(dim, extent)| match u64::try_from(*dim) {
            Ok(expected) => expected == *extent,
            Err(_) => true,
        });
        (!fits).then(|| {
            let reason =
                format!("column {column:?} holds lists of {extents:?}: input {name:?} takes {dims:?}");
            Fault::new(Fault::SHAPE, reason)
        })
    }

    /// The tensor of some rows, all of which have the same extents.
    fn tensor(&self, columns: &[ArrayRef], rows: &[u32], extents: &[u64]) -> Result<Tensor, String> {
        let said = |error: ArrowError| error.to_string();
        let picked =
            columns.iter().map(|column| pick(column, rows)).collect::<Result<Vec<_>, _>>().map_err(said)?;
        let mut shape = if self.has_rows { vec![rows.len() as u64] } else { Vec::new() };
        let data = match &picked[..] {
            [column] => {
                shape.extend_from_slice(extents);
                elements(&lists::flattened(column, self.depth()), self.datatype)?
            }
            columns => {
                shape.push(columns.len() as u64);
                side_by_side(columns, self.datatype)?
            }
        };
        Tensor::new(self.datatype, shape, data).map_err(|error| error.to_string())
    }
}

impl Prepared<'_> {
    /// Rows that can share a call, out of those that are not in `left_out`.
    pub(crate) fn groups(&self, left_out: &BTreeMap<usize, Fault>, batch_size: usize) -> Vec<Vec<u32>> {
        let size = if self.plan.is_batched { batch_size.max(1) } else { 1 };
        let mut groups: Vec<Vec<u32>> = Vec::new();
        let mut open: Vec<(u32, usize)> = Vec::new();
        for row in (0..self.rows).filter(|row| !left_out.contains_key(row)) {
            let number = u32::try_from(row).unwrap_or(u32::MAX);
            let same = |(first, _): &&mut (u32, usize)| self.have_equal_extents(*first as usize, row);
            match open.iter_mut().find(same) {
                Some((_, group)) if groups[*group].len() < size => groups[*group].push(number),
                found => {
                    groups.push(vec![number]);
                    match found {
                        Some((_, group)) => *group = groups.len() - 1,
                        None => open.push((number, groups.len() - 1)),
                    }
                }
            }
        }
        groups
    }

    fn have_equal_extents(&self, one: usize, other: usize) -> bool {
        self.extents.iter().flatten().all(|extents| extents[one] == extents[other])
    }

    /// The inputs of a call for these rows of one group.
    ///
    /// # Errors
    /// A sentence, where the rows are more than tensors can hold.
    pub(crate) fn tensors(&self, rows: &[u32]) -> Result<NamedTensors, String> {
        let first = rows.first().map_or(0, |row| *row as usize);
        let tensor = |(index, input): (usize, &Input)| {
            let extents = match self.extents[index].as_ref().and_then(|extents| extents.get(first)) {
                Some(Extents::Of(extents)) => extents.as_slice(),
                _ => &[],
            };
            Ok((input.name.clone(), input.tensor(&self.columns[index], rows, extents)?))
        };
        self.plan.inputs.iter().enumerate().map(tensor).collect()
    }
}

/// The first fault of a row counts.
fn note(faults: &mut BTreeMap<usize, Fault>, row: usize, fault: impl FnOnce() -> Fault) {
    if let Entry::Vacant(vacant) = faults.entry(row) {
        vacant.insert(fault());
    }
}

/// Some rows of a column: a slice of it, where they lie side by side.
pub(crate) fn pick(column: &ArrayRef, rows: &[u32]) -> Result<ArrayRef, ArrowError> {
    match (rows.first(), rows.last()) {
        (Some(first), Some(last)) if (last - first) as usize + 1 == rows.len() => {
            Ok(column.slice(*first as usize, rows.len()))
        }
        _ => take(column, &UInt32Array::from(rows.to_vec()), None),
    }
}

fn filled(values: &ArrayRef, filling: &ArrayRef) -> Result<ArrayRef, ArrowError> {
    let filling = arrow::compute::cast(filling, values.data_type())?;
    zip(&is_not_null(values)?, values, &Scalar::new(filling))
}

/// The elements of cells without nulls, in the layout of a tensor.
fn elements(cells: &ArrayRef, datatype: Datatype) -> Result<Bytes, String> {
    match datatype.size() {
        None => strings(&[cells]),
        Some(_) if datatype == Datatype::Bool => Ok(truths(cells.as_boolean()).into()),
        Some(size) => Ok(Bytes::from_owner(shared(cells, size)?)),
    }
}

/// A buffer of Arrow, as bytes.
struct Shared(arrow::buffer::Buffer);

impl AsRef<[u8]> for Shared {
    fn as_ref(&self) -> &[u8] {
        self.0.as_slice()
    }
}

fn shared(cells: &ArrayRef, size: usize) -> Result<Shared, String> {
    let data = cells.to_data();
    let buffer = data.buffers().first().ok_or("a column of numbers has no buffer")?;
    Ok(Shared(buffer.slice_with_length(data.offset() * size, data.len() * size)))
}

fn truths(cells: &BooleanArray) -> Vec<u8> {
    (0..cells.len()).map(|index| u8::from(cells.value(index))).collect()
}

/// Columns of equal length, row by row.
fn side_by_side(columns: &[ArrayRef], datatype: Datatype) -> Result<Bytes, String> {
    if datatype == Datatype::Bytes {
        return strings(&columns.iter().collect::<Vec<_>>());
    }
    let size = datatype.size().unwrap_or(1);
    let parts = columns.iter().map(|column| elements(column, datatype)).collect::<Result<Vec<_>, _>>()?;
    let rows = parts.first().map_or(0, |part| part.len() / size);
    let mut data = Vec::with_capacity(rows * size * parts.len());
    for row in 0..rows {
        parts.iter().for_each(|part| data.extend_from_slice(&part[row * size..(row + 1) * size]));
    }
    Ok(data.into())
}

/// Texts and byte strings with their lengths, row by row.
fn strings(columns: &[&ArrayRef]) -> Result<Bytes, String> {
    let cells = columns.iter().map(|column| Cells::new(column)).collect::<Result<Vec<_>, _>>()?;
    let rows = columns.first().map_or(0, |column| column.len());
    let mut data = Vec::with_capacity(columns.iter().map(|column| column.get_array_memory_size()).sum());
    for row in 0..rows {
        for cells in &cells {
            let bytes = cells.get(row);
            let length = u32::try_from(bytes.len()).map_err(|_| "a text has more than 4 GiB")?;
            data.extend_from_slice(&length.to_le_bytes());
            data.extend_from_slice(bytes);
        }
    }
    Ok(data.into())
}

/// Texts and byte strings in any of Arrow's layouts.
enum Cells<'a> {
    Text(&'a arrow::array::StringArray),
    LargeText(&'a arrow::array::LargeStringArray),
    TextView(&'a arrow::array::StringViewArray),
    Binary(&'a arrow::array::BinaryArray),
    LargeBinary(&'a arrow::array::LargeBinaryArray),
    BinaryView(&'a arrow::array::BinaryViewArray),
    FixedSizeBinary(&'a arrow::array::FixedSizeBinaryArray),
}

impl<'a> Cells<'a> {
    fn new(array: &'a ArrayRef) -> Result<Cells<'a>, String> {
        Ok(match array.data_type() {
            DataType::Utf8 => Cells::Text(array.as_string()),
            DataType::LargeUtf8 => Cells::LargeText(array.as_string()),
            DataType::Utf8View => Cells::TextView(array.as_string_view()),
            DataType::Binary => Cells::Binary(array.as_binary()),
            DataType::LargeBinary => Cells::LargeBinary(array.as_binary()),
            DataType::BinaryView => Cells::BinaryView(array.as_binary_view()),
            DataType::FixedSizeBinary(_) => Cells::FixedSizeBinary(array.as_fixed_size_binary()),
            other => return Err(format!("{other} is no text")),
        })
    }

    fn get(&self, row: usize) -> &'a [u8] {
        match self {
            Cells::Text(array) => array.value(row).as_bytes(),
            Cells::LargeText(array) => array.value(row).as_bytes(),
            Cells::TextView(array) => array.value(row).as_bytes(),
            Cells::Binary(array) => array.value(row),
            Cells::LargeBinary(array) => array.value(row),
            Cells::BinaryView(array) => array.value(row),
            Cells::FixedSizeBinary(array) => array.value(row),
        }
    }
}

fn invalid(message: impl Into<String>) -> Error {
    Error::new(ErrorCode::InvalidArgument, message)
}

fn unprocessable(message: impl Into<String>) -> Error {
    Error::new(ErrorCode::Unprocessable, message)
}

fn names<'a>(names: impl Iterator<Item = &'a str>) -> String {
    const SHOWN: usize = 40;
    let names: Vec<&str> = names.collect();
    let shown = names.get(..SHOWN).unwrap_or(&names).join(", ");
    if names.len() > SHOWN { format!("{shown}, …") } else { shown }
}

#[cfg(test)]
#[path = "inputs_tests.rs"]
mod tests;
