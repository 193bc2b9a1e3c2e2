//! Columns of a record batch as the inputs of a model: which columns an input is made of, which rows cannot be said in
//! its datatype and shape, and which of the others can share a call. Knows no calls and no files.

use std::collections::btree_map::Entry;
use std::collections::{BTreeMap, HashMap};

use arrow::array::{Array, ArrayRef, RecordBatch};
use arrow::datatypes::{DataType, Schema};
use arrow::error::ArrowError;
use modelhost_core::{Datatype, ErrorCode, Signature, Tensor, TensorDescription};
use modelhost_serving::{Error, NamedTensors};

use super::convert::{Converted, arrow_type, convert, element, fits, shown};
use super::elements::{elements, filled, pick, side_by_side};
use super::fault::Fault;
use super::lists::{self, Extents, levels};
use super::sizes;
use super::specification::{InputMapping, invalid};

/// Bytes of an input of one call, as far as filling short lists up makes them, and columns side by side.
const CALL_BYTES: u64 = 32 << 20;

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
    pad: Option<Pad>,
}

/// What fills short lists up.
struct Pad {
    element: ArrayRef,
    /// Bytes of one in a tensor.
    bytes: u64,
}

impl Pad {
    fn new(element: ArrayRef, datatype: Datatype) -> Pad {
        let text = || 4 + sizes::bytes(&element);
        Pad { bytes: datatype.size().map_or_else(text, |size| size as u64), element }
    }

    /// The bytes of so many rows that are filled up to this length.
    fn filled(&self, rows: usize, length: u64) -> u64 {
        self.bytes.saturating_mul(length).saturating_mul(rows as u64)
    }
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
            pad: filling(pad, "pad")?.map(|element| Pad::new(element, *datatype)),
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
        let (column, array) = (&self.columns[0], &fitting[0]);
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
        // Texts are copied into their tensor anyway.
        if let Some(filling) = self.if_null.as_ref().filter(|_| self.text_for_null().is_none())
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

    /// What a null becomes when texts are copied into a tensor. A null that fills a list up is told from one that was there.
    fn text_for_null(&self) -> Option<&ArrayRef> {
        let is_copied = self.datatype == Datatype::Bytes && self.pad.is_none();
        self.if_null.as_ref().filter(|_| is_copied)
    }

    /// Rows with lists that are filled up to one length.
    fn padded(&self, lists: &ArrayRef, pad: &Pad) -> Result<(ArrayRef, u64), ArrowError> {
        let lengths = (0..lists.len()).map(|row| lists::length(lists, row));
        let length = self.fixed_length().unwrap_or_else(|| lengths.max().unwrap_or(0));
        let padded = lists::padded(lists, length)?;
        let leaves = filled(&lists::leaves(&padded, 1), &pad.element)?;
        Ok((lists::with_leaves(&padded, 1, leaves)?, length))
    }

    /// The extent of lists of one level, where the signature says it.
    fn fixed_length(&self) -> Option<u64> {
        self.dims.first().and_then(|dim| u64::try_from(*dim).ok())
    }

    /// What short lists are filled up with, where that depends on the longest of a call.
    fn free_pad(&self) -> Option<&Pad> {
        self.pad.as_ref().filter(|_| self.fixed_length().is_none())
    }

    /// The bytes that every row has in a tensor, as far as that is known before.
    fn row_bytes(&self) -> u64 {
        let size = self.datatype.size().unwrap_or(4) as u64;
        if self.columns.len() != 1 {
            return size.saturating_mul(self.columns.len() as u64);
        }
        let extents = self.dims.iter().map(|dim| u64::try_from(*dim).unwrap_or(1));
        extents.fold(self.pad.as_ref().map_or(size, |pad| pad.bytes), u64::saturating_mul)
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
        if let (Some(pad), Some(length)) = (&self.pad, self.fixed_length())
            && pad.filled(1, length) > CALL_BYTES
        {
            let reason = format!(
                "input {name:?} takes {length} elements of a row: lists are not filled up to more than {CALL_BYTES} bytes"
            );
            return Some(Fault::new(Fault::SHAPE, reason));
        }
        let fits = dims.iter().zip(extents).all(|(dim, extent)| match u64::try_from(*dim) {
            Ok(expected) if self.pad.is_some() => *extent <= expected,
            Ok(expected) => expected == *extent,
            Err(_) => true,
        });
        (!fits).then(|| {
            let reason =
                format!("column {column:?} holds lists of {extents:?}: input {name:?} takes {dims:?}");
            Fault::new(Fault::SHAPE, reason)
        })
    }

    /// The tensor of some rows, all of which have the same extents, unless they are filled up.
    fn tensor(&self, columns: &[ArrayRef], rows: &[u32], extents: &[u64]) -> Result<Tensor, String> {
        let said = |error: ArrowError| error.to_string();
        let mut picked =
            columns.iter().map(|column| pick(column, rows)).collect::<Result<Vec<_>, _>>().map_err(said)?;
        let mut shape = if self.has_rows { vec![rows.len() as u64] } else { Vec::new() };
        let data = match &mut picked[..] {
            [column] => {
                match &self.pad {
                    Some(pad) => {
                        let (padded, length) = self.padded(column, pad).map_err(said)?;
                        *column = padded;
                        shape.push(length);
                    }
                    None => shape.extend_from_slice(extents),
                }
                elements(&lists::flattened(column, self.depth()), self.datatype, self.text_for_null())?
            }
            columns => {
                shape.push(columns.len() as u64);
                side_by_side(columns, self.datatype, self.text_for_null())?
            }
        };
        Tensor::new(self.datatype, shape, data).map_err(|error| error.to_string())
    }
}

/// Rows of one call, to which more can be added.
struct Open {
    group: usize,
    /// For each input that is filled up the longest list.
    longest: Vec<u64>,
}

impl Prepared<'_> {
    /// Rows that can share a call, out of those that are not in `left_out`.
    pub(crate) fn groups(&self, left_out: &BTreeMap<usize, Fault>, batch_size: usize) -> Vec<Vec<u32>> {
        let row_bytes = self.plan.inputs.iter().map(Input::row_bytes).max().unwrap_or(0).max(1);
        let most = usize::try_from(CALL_BYTES / row_bytes).unwrap_or(usize::MAX).min(batch_size).max(1);
        let size = if self.plan.is_batched { most } else { 1 };
        let rows = (0..self.rows).filter(|row| !left_out.contains_key(row));
        let rows = rows.map(|row| (row, u32::try_from(row).unwrap_or(u32::MAX)));
        if self.extents.iter().all(Option::is_none) {
            let rows: Vec<u32> = rows.map(|(_, number)| number).collect();
            return rows.chunks(size).map(<[u32]>::to_vec).collect();
        }
        let mut groups: Vec<Vec<u32>> = Vec::new();
        let mut open: HashMap<Vec<&Extents>, Open> = HashMap::new();
        for (row, number) in rows {
            let lengths = self.lengths(row);
            let extents = self.shared_extents(row);
            if let Some(Open { group, longest }) = open.get_mut(&extents) {
                let longer: Vec<u64> = longest.iter().zip(&lengths).map(|(a, b)| *a.max(b)).collect();
                let rows = groups[*group].len();
                if rows < size && self.is_filled_within(rows + 1, &longer) {
                    groups[*group].push(number);
                    *longest = longer;
                    continue;
                }
            }
            open.insert(extents, Open { group: groups.len(), longest: lengths });
            groups.push(vec![number]);
        }
        groups
    }

    /// The extents that the rows of a call have in common.
    fn shared_extents(&self, row: usize) -> Vec<&Extents> {
        let inputs = self.plan.inputs.iter().zip(&self.extents);
        let shared = inputs.filter(|(input, _)| input.pad.is_none());
        shared.filter_map(|(_, extents)| extents.as_ref()?.get(row)).collect()
    }

    /// The lengths of the lists that are filled up to the longest of their call.
    fn lengths(&self, row: usize) -> Vec<u64> {
        let inputs = self.plan.inputs.iter().zip(&self.extents);
        let length = |(input, extents): (&Input, &Option<Vec<Extents>>)| {
            input.free_pad()?;
            match extents.as_ref()?.get(row)? {
                Extents::Of(extents) => extents.first().copied(),
                _ => Some(0),
            }
        };
        inputs.filter_map(length).collect()
    }

    fn is_filled_within(&self, rows: usize, longest: &[u64]) -> bool {
        let pads = self.plan.inputs.iter().filter_map(Input::free_pad);
        pads.zip(longest).all(|(pad, longest)| pad.filled(rows, *longest) <= CALL_BYTES)
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
