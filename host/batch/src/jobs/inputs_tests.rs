//! Inputs: what fits, what is shared, and which rows are told apart.

use std::sync::Arc;

use arrow::array::{Float32Array, Int64Array, ListArray, StringArray};
use arrow::datatypes::{Field, Int64Type};
use proptest::prelude::*;
use serde_json::json;

use super::*;

fn description(name: &str, datatype: Datatype, shape: &[i64]) -> TensorDescription {
    TensorDescription { name: name.into(), datatype, shape: shape.to_vec() }
}

fn signature(inputs: Vec<TensorDescription>) -> Signature {
    Signature { inputs, outputs: vec![] }
}

fn mappings(json: serde_json::Value) -> BTreeMap<String, InputMapping> {
    serde_json::from_value(json).unwrap()
}

fn batch(columns: Vec<(&str, ArrayRef)>) -> RecordBatch {
    RecordBatch::try_from_iter_with_nullable(columns.into_iter().map(|(name, array)| (name, array, true)))
        .unwrap()
}

fn floats(values: &[Option<f32>]) -> ArrayRef {
    Arc::new(Float32Array::from(values.to_vec()))
}

fn texts(values: &[Option<&str>]) -> ArrayRef {
    Arc::new(StringArray::from(values.to_vec()))
}

fn lists(rows: &[Option<Vec<Option<i64>>>]) -> ArrayRef {
    Arc::new(ListArray::from_iter_primitive::<Int64Type, _, _>(rows.iter().cloned()))
}

fn tensor<'a>(tensors: &'a NamedTensors, name: &str) -> &'a Tensor {
    &tensors.iter().find(|(known, _)| known == name).unwrap().1
}

fn elements_of<const SIZE: usize>(tensor: &Tensor) -> Vec<[u8; SIZE]> {
    tensor.data().as_chunks::<SIZE>().0.to_vec()
}

#[test]
fn columns_of_the_right_type_are_handed_over_where_they_lie() {
    let array = floats(&[Some(1.0), Some(2.0), Some(3.0), Some(4.0)]);
    let address = array.to_data().buffers()[0].as_ptr();
    let batch = batch(vec![("x", array)]);
    let plan = Inputs::new(
        &signature(vec![description("x", Datatype::Fp32, &[-1])]),
        &BTreeMap::new(),
        &batch.schema(),
    );
    let plan = plan.unwrap();
    let (prepared, faults) = plan.prepare(&batch).unwrap();
    assert!(faults.is_empty());
    let all = prepared.tensors(&[0, 1, 2, 3]).unwrap();
    assert_eq!(tensor(&all, "x").data().as_ptr(), address);
    let half = prepared.tensors(&[2, 3]).unwrap();
    assert_eq!(tensor(&half, "x").data().as_ptr().addr(), address.addr() + 8);
    assert_eq!(tensor(&half, "x").shape(), [2]);
}

#[test]
fn rows_that_do_not_fit_are_told_and_the_others_go_on() {
    let batch = batch(vec![
        ("x", texts(&[Some("1"), Some("one"), None, Some("4"), Some("5")])),
        ("t", texts(&[Some("a"), Some("b"), Some("c"), None, Some("e")])),
    ]);
    let inputs = vec![description("x", Datatype::Fp32, &[-1]), description("t", Datatype::Bytes, &[-1])];
    let plan = Inputs::new(&signature(inputs), &BTreeMap::new(), &batch.schema()).unwrap();
    let (prepared, faults) = plan.prepare(&batch).unwrap();
    let codes: Vec<(usize, &str)> = faults.iter().map(|(row, fault)| (*row, fault.code)).collect();
    assert_eq!(codes, [(1, Fault::TYPE), (2, Fault::NULL), (3, Fault::NULL)]);
    assert_eq!(faults[&1].reason, "column \"x\" is \"one\": input \"x\" takes FP32");
    let groups = prepared.groups(&faults, 100);
    assert_eq!(groups, [vec![0, 4]]);
    let tensors = prepared.tensors(&groups[0]).unwrap();
    assert_eq!(elements_of::<4>(tensor(&tensors, "x")), [1_f32.to_le_bytes(), 5_f32.to_le_bytes()]);
    let words: Vec<&[u8]> = tensor(&tensors, "t").bytes_elements().collect();
    assert_eq!(words, [b"a", b"e"]);
    assert_eq!(prepared.groups(&BTreeMap::new(), 2).len(), 3);
}

#[test]
fn nulls_may_have_a_stand_in() {
    let batch = batch(vec![("x", floats(&[Some(1.0), None])), ("t", texts(&[None, Some("b")]))]);
    let inputs = vec![description("x", Datatype::Fp32, &[-1]), description("t", Datatype::Bytes, &[-1])];
    let filled = mappings(json!({
        "x": { "column": "x", "if_null": "NaN" }, "t": { "column": "t", "if_null": "?" },
    }));
    let plan = Inputs::new(&signature(inputs.clone()), &filled, &batch.schema()).unwrap();
    let (prepared, faults) = plan.prepare(&batch).unwrap();
    assert!(faults.is_empty());
    let tensors = prepared.tensors(&[0, 1]).unwrap();
    assert!(f32::from_le_bytes(elements_of::<4>(tensor(&tensors, "x"))[1]).is_nan());
    assert_eq!(tensor(&tensors, "t").bytes_elements().next(), Some(&b"?"[..]));
    let wrong = mappings(json!({ "x": { "column": "x", "if_null": "none" } }));
    assert!(Inputs::new(&signature(inputs), &wrong, &batch.schema()).is_err());
}

#[test]
fn lists_share_a_call_with_lists_of_their_length() {
    let rows = lists(&[
        Some(vec![Some(1), Some(2)]),
        Some(vec![Some(3)]),
        None,
        Some(vec![Some(4), Some(5)]),
        Some(vec![Some(6), None]),
        Some(vec![]),
    ]);
    let batch = batch(vec![("x", rows)]);
    let any = signature(vec![description("x", Datatype::Int64, &[-1, -1])]);
    let plan = Inputs::new(&any, &BTreeMap::new(), &batch.schema()).unwrap();
    let (prepared, faults) = plan.prepare(&batch).unwrap();
    assert_eq!(faults.keys().copied().collect::<Vec<_>>(), [2, 4]);
    assert_eq!(prepared.groups(&faults, 10), [vec![0, 3], vec![1], vec![5]]);
    let tensors = prepared.tensors(&[0, 3]).unwrap();
    assert_eq!(tensor(&tensors, "x").shape(), [2, 2]);
    assert_eq!(elements_of::<8>(tensor(&tensors, "x")), [1_i64, 2, 4, 5].map(i64::to_le_bytes));
    assert_eq!(tensor(&prepared.tensors(&[5]).unwrap(), "x").shape(), [1, 0]);
    let pairs = signature(vec![description("x", Datatype::Int64, &[-1, 2])]);
    let plan = Inputs::new(&pairs, &BTreeMap::new(), &batch.schema()).unwrap();
    let (_, faults) = plan.prepare(&batch).unwrap();
    let codes: Vec<(usize, &str)> = faults.iter().map(|(row, fault)| (*row, fault.code)).collect();
    assert_eq!(codes, [(1, Fault::SHAPE), (2, Fault::NULL), (4, Fault::NULL), (5, Fault::SHAPE)]);
}

#[test]
fn lists_may_be_filled_up() {
    let batch = batch(vec![("x", lists(&[Some(vec![Some(1)]), Some(vec![Some(2), Some(3)])]))]);
    let padded = mappings(json!({ "x": { "column": "x", "pad": 0 } }));
    let any = signature(vec![description("x", Datatype::Int64, &[-1, -1])]);
    let plan = Inputs::new(&any, &padded, &batch.schema()).unwrap();
    let (prepared, faults) = plan.prepare(&batch).unwrap();
    assert!(faults.is_empty());
    assert_eq!(prepared.groups(&faults, 10), [vec![0, 1]]);
    let tensors = prepared.tensors(&[0, 1]).unwrap();
    assert_eq!(elements_of::<8>(tensor(&tensors, "x")), [1_i64, 0, 2, 3].map(i64::to_le_bytes));
}

#[test]
fn a_list_that_is_too_long_for_its_input_fails_alone() {
    let rows = lists(&[Some(vec![Some(1)]), Some(vec![Some(2); 4]), Some(vec![Some(3), Some(4)])]);
    let batch = batch(vec![("x", rows)]);
    let padded = mappings(json!({ "x": { "column": "x", "pad": 0 } }));
    let three = signature(vec![description("x", Datatype::Int64, &[-1, 3])]);
    let plan = Inputs::new(&three, &padded, &batch.schema()).unwrap();
    let (prepared, faults) = plan.prepare(&batch).unwrap();
    assert_eq!(faults.iter().map(|(row, fault)| (*row, fault.code)).collect::<Vec<_>>(), [(1, Fault::SHAPE)]);
    assert_eq!(prepared.groups(&faults, 10), [vec![0, 2]]);
    let tensors = prepared.tensors(&[0, 2]).unwrap();
    assert_eq!(tensor(&tensors, "x").shape(), [2, 3]);
    assert_eq!(elements_of::<8>(tensor(&tensors, "x")), [1_i64, 0, 0, 3, 4, 0].map(i64::to_le_bytes));
}

#[test]
fn lists_are_not_filled_up_to_more_than_a_call_may_have() {
    let mut rows = vec![Some(vec![Some(1)]); 100];
    rows[50] = Some(vec![Some(7); 400_000]);
    rows[51] = Some(vec![Some(8); 5_000_000]);
    let batch = batch(vec![("x", lists(&rows))]);
    let padded = mappings(json!({ "x": { "column": "x", "pad": 0 } }));
    let any = signature(vec![description("x", Datatype::Int64, &[-1, -1])]);
    let plan = Inputs::new(&any, &padded, &batch.schema()).unwrap();
    let (prepared, faults) = plan.prepare(&batch).unwrap();
    assert!(faults.is_empty());
    let groups = prepared.groups(&faults, 1_024);
    let mut seen: Vec<u32> = groups.iter().flatten().copied().collect();
    seen.sort_unstable();
    assert!(seen.into_iter().eq(0..100));
    for group in &groups {
        let tensors = prepared.tensors(group).unwrap();
        let bytes = tensor(&tensors, "x").data().len() as u64;
        // The longest one has a call of its own, in which nothing is filled up.
        assert!(bytes <= CALL_BYTES || *group == [51], "{bytes} bytes for {group:?}");
    }
    assert!(groups.len() < 10, "{} calls", groups.len());
    let endless = signature(vec![description("x", Datatype::Int64, &[-1, 1_000_000_000])]);
    let plan = Inputs::new(&endless, &padded, &batch.schema()).unwrap();
    let (_, faults) = plan.prepare(&batch).unwrap();
    assert!(faults.len() == 100 && faults.values().all(|fault| fault.code == Fault::SHAPE));
    assert!(faults[&0].reason.contains("not filled up to more than"), "{}", faults[&0].reason);
}

#[test]
fn columns_side_by_side_are_one_row() {
    let batch = batch(vec![
        ("a", floats(&[Some(1.0), Some(2.0)])),
        ("b", Arc::new(Int64Array::from(vec![Some(3), None]))),
    ]);
    let pairs = signature(vec![description("x", Datatype::Fp32, &[-1, 2])]);
    let plan = Inputs::new(&pairs, &mappings(json!({ "x": ["a", "b"] })), &batch.schema()).unwrap();
    let (prepared, faults) = plan.prepare(&batch).unwrap();
    assert_eq!(faults.keys().copied().collect::<Vec<_>>(), [1]);
    let tensors = prepared.tensors(&[0]).unwrap();
    assert_eq!(tensor(&tensors, "x").shape(), [1, 2]);
    assert_eq!(elements_of::<4>(tensor(&tensors, "x")), [1_f32.to_le_bytes(), 3_f32.to_le_bytes()]);
    let three = Inputs::new(&pairs, &mappings(json!({ "x": ["a", "b", "a"] })), &batch.schema());
    assert_eq!(three.err().map(|error| error.code), Some(ErrorCode::Unprocessable));
}

#[test]
fn a_model_for_one_row_is_called_for_each() {
    let batch = batch(vec![("x", floats(&[Some(1.0), Some(2.0)])), ("y", floats(&[Some(3.0), Some(4.0)]))]);
    let inputs = vec![description("x", Datatype::Fp32, &[1]), description("y", Datatype::Fp32, &[])];
    let plan = Inputs::new(&signature(inputs), &BTreeMap::new(), &batch.schema()).unwrap();
    assert!(!plan.is_batched());
    let (prepared, faults) = plan.prepare(&batch).unwrap();
    assert_eq!(prepared.groups(&faults, 100), [vec![0], vec![1]]);
    let tensors = prepared.tensors(&[1]).unwrap();
    assert_eq!((tensor(&tensors, "x").shape(), tensor(&tensors, "y").shape()), (&[1_u64][..], &[][..]));
}

#[test]
fn what_never_fits_is_known_before() {
    let schema = Schema::new(vec![
        Field::new("number", DataType::Int64, true),
        Field::new("list", DataType::new_list(DataType::Float32, true), true),
    ]);
    let refused = |datatype, shape: &[i64], column: &str| {
        let signature = signature(vec![description("x", datatype, shape)]);
        Inputs::new(&signature, &mappings(json!({ "x": column })), &schema).err().map(|error| error.code)
    };
    assert_eq!(refused(Datatype::Bytes, &[-1], "number"), Some(ErrorCode::Unprocessable));
    assert_eq!(refused(Datatype::Fp32, &[-1, 3], "number"), Some(ErrorCode::Unprocessable));
    assert_eq!(refused(Datatype::Fp32, &[-1], "list"), Some(ErrorCode::Unprocessable));
    assert_eq!(refused(Datatype::Bf16, &[-1], "number"), Some(ErrorCode::Unprocessable));
    assert_eq!(refused(Datatype::Fp32, &[-1], "nothing"), Some(ErrorCode::InvalidArgument));
    assert_eq!(refused(Datatype::Fp32, &[-1, -1], "list"), None);
}

proptest! {
    /// However a batch is cut and whatever is missing, each row that fits comes with its own elements, once.
    #[test]
    fn every_row_comes_once_with_its_own_elements(
        rows in proptest::collection::vec(
            (proptest::option::of(proptest::collection::vec(proptest::option::weighted(0.9, any::<i64>()), 0..4)),
             proptest::option::weighted(0.8, -100.0_f32..100.0)),
            1..40,
        ),
        size in 1_usize..50,
        offset in 0_usize..3,
    ) {
        let list: Vec<_> = rows.iter().map(|(list, _)| list.clone()).collect();
        let numbers: Vec<_> = rows.iter().map(|(_, number)| *number).collect();
        let whole = batch(vec![("list", lists(&list)), ("x", floats(&numbers))]);
        let from = offset.min(rows.len());
        let part = whole.slice(from, rows.len() - from);
        let inputs = vec![description("list", Datatype::Int64, &[-1, -1]), description("x", Datatype::Fp32, &[-1])];
        let plan = Inputs::new(&signature(inputs), &BTreeMap::new(), &part.schema()).unwrap();
        let (prepared, faults) = plan.prepare(&part).unwrap();
        let mut seen = vec![];
        for group in prepared.groups(&faults, size) {
            prop_assert!(group.len() <= size);
            let tensors = prepared.tensors(&group).unwrap();
            let list = tensor(&tensors, "list");
            let width = list.shape()[1] as usize;
            let elements = elements_of::<8>(list);
            for (place, row) in group.iter().enumerate() {
                let (expected, number) = &rows[from + *row as usize];
                let expected: Vec<[u8; 8]> =
                    expected.iter().flatten().map(|element| element.unwrap().to_le_bytes()).collect();
                prop_assert_eq!(&elements[place * width..(place + 1) * width], &expected[..]);
                prop_assert_eq!(elements_of::<4>(tensor(&tensors, "x"))[place], number.unwrap().to_le_bytes());
                seen.push(*row as usize);
            }
        }
        seen.extend(faults.keys());
        seen.sort_unstable();
        prop_assert_eq!(seen, (0..rows.len() - from).collect::<Vec<_>>());
    }
}
