//! Columns of every kind as tensors.

use std::sync::Arc;

use arrow::array::{
    BooleanArray, Date32Array, Float32Array, Int64Array, LargeStringArray, ListBuilder, StringArray,
    StringBuilder, StructArray,
};
use arrow::datatypes::{Field, Float32Type, Int16Type};

use super::*;

const ENOUGH: usize = 1 << 20;

fn found(named: Vec<(&str, ArrayRef)>) -> Vec<FoundColumn> {
    let rows =
        RecordBatch::try_from_iter_with_nullable(named.into_iter().map(|(name, array)| (name, array, true)));
    columns(&rows.unwrap(), ENOUGH).unwrap()
}

fn floats(tensor: &Tensor) -> Vec<f32> {
    tensor.data().as_chunks::<4>().0.iter().map(|bytes| f32::from_le_bytes(*bytes)).collect()
}

fn texts(tensor: &Tensor) -> Vec<&str> {
    tensor.bytes_elements().map(|bytes| std::str::from_utf8(bytes).unwrap()).collect()
}

#[test]
fn numbers_are_not_copied_and_missing_ones_are_marked() {
    let whole = Arc::new(Int64Array::from(vec![7, -1, 3]));
    let address = whole.values().as_ptr().addr();
    let columns = found(vec![
        ("whole", whole.clone()),
        ("real", Arc::new(Float32Array::from(vec![Some(1.5), None, Some(2.5)]))),
        ("flag", Arc::new(BooleanArray::from(vec![Some(true), None, Some(false)]))),
    ]);
    assert_eq!(columns[0].values.data().as_ptr().addr(), address);
    assert_eq!((columns[0].values.datatype(), columns[0].values.shape()), (Datatype::Int64, &[3][..]));
    assert_eq!((&columns[0].nulls, &columns[0].lengths), (&None, &None));
    let real = floats(&columns[1].values);
    assert!(real[0] == 1.5 && real[1].is_nan() && real[2] == 2.5);
    assert_eq!(columns[1].nulls, Some(vec![false, true, false]));
    assert_eq!(columns[2].values.data().as_ref(), [1, 0, 0]);
}

#[test]
fn lists_are_one_more_dimension() {
    let even = ListArray::from_iter_primitive::<Float32Type, _, _>([
        Some(vec![Some(1.0), Some(2.0)]),
        Some(vec![Some(3.0), Some(4.0)]),
    ]);
    let address = even.values().to_data().buffers()[0].as_ptr().addr();
    let uneven =
        ListArray::from_iter_primitive::<Int16Type, _, _>([None, Some(vec![Some(5), Some(6), Some(7)])]);
    let columns = found(vec![("even", Arc::new(even)), ("uneven", Arc::new(uneven))]);
    assert_eq!(columns[0].values.shape(), [2, 2]);
    assert_eq!(columns[0].values.data().as_ptr().addr(), address);
    assert_eq!(columns[0].lengths, None);
    assert_eq!(columns[1].values.shape(), [2, 3]);
    assert_eq!(columns[1].values.data().as_ref(), [0, 0, 0, 0, 0, 0, 5, 0, 6, 0, 7, 0]);
    assert_eq!(columns[1].lengths, Some(vec![0, 3]));
    assert_eq!(columns[1].nulls, Some(vec![true, false]));
}

#[test]
fn lists_in_the_middle_of_a_column_are_found() {
    let lists = ListArray::from_iter_primitive::<Float32Type, _, _>(
        (0..5).map(|row| Some(vec![Some(row as f32), Some(row as f32 + 0.5)])),
    );
    let columns = found(vec![("scores", Arc::new(lists.slice(3, 1)))]);
    assert_eq!(floats(&columns[0].values), [3.0, 3.5]);
    let mut names = ListBuilder::new(StringBuilder::new());
    for row in [vec!["a"], vec!["b", "c"], vec![]] {
        row.iter().for_each(|name| names.values().append_value(name));
        names.append(true);
    }
    let columns = found(vec![("names", Arc::new(names.finish().slice(1, 2)))]);
    assert_eq!(columns[0].values.shape(), [2, 2]);
    assert_eq!(texts(&columns[0].values), ["b", "c", "", ""]);
    assert_eq!(columns[0].lengths, Some(vec![2, 0]));
}

#[test]
fn fields_of_structs_are_columns() {
    let name: ArrayRef = Arc::new(StringArray::from(vec!["a", "b"]));
    let score: ArrayRef = Arc::new(Float32Array::from(vec![0.5, 1.5]));
    let fields = [("name", DataType::Utf8), ("score", DataType::Float32)];
    let fields: Vec<Field> = fields.map(|(name, data_type)| Field::new(name, data_type, true)).into();
    let structs = StructArray::new(fields.into(), vec![name, score], Some(vec![true, false].into()));
    let lists = ListArray::new(
        Arc::new(Field::new("item", structs.data_type().clone(), true)),
        arrow::buffer::OffsetBuffer::from_lengths([2]),
        Arc::new(structs.clone()),
        None,
    );
    let columns = found(vec![("top", Arc::new(structs))]);
    assert_eq!(
        columns.iter().map(|column| column.name.as_str()).collect::<Vec<_>>(),
        ["top.name", "top.score"]
    );
    assert_eq!(texts(&columns[0].values), ["a", ""]);
    assert_eq!(columns[1].nulls, Some(vec![false, true]));
    let columns = found(vec![("top", Arc::new(lists))]);
    assert_eq!((columns[0].values.shape(), texts(&columns[0].values)), (&[1, 2][..], vec!["a", ""]));
    assert!(floats(&columns[1].values)[1].is_nan());
}

#[test]
fn what_has_no_datatype_is_text() {
    let columns = found(vec![("day", Arc::new(Date32Array::from(vec![Some(0), None])))]);
    assert_eq!(columns[0].values.datatype(), Datatype::Bytes);
    assert_eq!(texts(&columns[0].values), ["1970-01-01", ""]);
    assert_eq!(columns[0].nulls, Some(vec![false, true]));
}

#[test]
fn a_long_list_does_not_make_all_of_them_long() {
    let mut lists: Vec<Option<Vec<Option<f32>>>> = vec![Some(vec![]); 1_000];
    lists.push(Some(vec![Some(1.0); 1_000]));
    let column: ArrayRef = Arc::new(ListArray::from_iter_primitive::<Float32Type, _, _>(lists));
    let rows = RecordBatch::try_from_iter([("scores", column)]).unwrap();
    let refused = columns(&rows, 1_000_000).unwrap_err();
    assert!(matches!(refused, Refused::TooLarge { ref column, .. } if column == "scores"), "{refused:?}");
    assert!(columns(&rows, 17_000_000).is_ok());
}

#[test]
fn columns_share_what_there_may_be() {
    // A long list among short ones in each: 4,000 bytes in the file, 400,000 as a tensor.
    let lists = (0..100).map(|row| Some(vec![Some(1.0); if row == 50 { 1_000 } else { 0 }]));
    let column: ArrayRef = Arc::new(ListArray::from_iter_primitive::<Float32Type, _, _>(lists));
    let wide = |count: usize| {
        RecordBatch::try_from_iter((0..count).map(|number| (format!("c{number}"), column.clone()))).unwrap()
    };
    let most_bytes = 4_000_000;
    assert_eq!(columns(&wide(5), most_bytes).unwrap().len(), 5);
    let refused = columns(&wide(20), most_bytes).unwrap_err();
    assert!(matches!(refused, Refused::TooLarge { .. }), "{refused:?}");
}

#[test]
fn sizes_are_those_of_the_rows() {
    let text = StringArray::from(vec!["one", "", "three"]);
    assert_eq!(size_of_rows(&text, 1, 2), 5 + 8);
    let lists = ListArray::from_iter_primitive::<Float32Type, _, _>([Some(vec![Some(0.0); 3]), Some(vec![])]);
    assert_eq!((size_of_rows(&lists, 0, 1), size_of_rows(&lists, 1, 1)), (12, 0));
    let large = LargeStringArray::from(vec!["not stored"]);
    assert_eq!(size_of_rows(&large, 0, 1), 84);
}
