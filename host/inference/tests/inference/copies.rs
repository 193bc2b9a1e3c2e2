//! Elements stay where they were first written: through a graph, into the next one, and out again.

use modelhost_core::{Datatype, InvalidTensor, Tensor};
use modelhost_inference::TensorBuffer;
use proptest::prelude::*;
use tract_onnx::pb::tensor_proto::DataType;

use crate::onnx::{Fixed, GraphBuilder, Named};
use crate::values::{floats, run, to_floats};

fn graph(operator: &str) -> Vec<u8> {
    GraphBuilder::new()
        .input("x", DataType::Float, &[Named("n"), Fixed(3)])
        .node(operator, &["x"], &["y"])
        .output("y", DataType::Float, &[Named("n"), Fixed(3)])
        .build()
}

fn in_a_buffer(shape: &[u64], values: &[f32]) -> Tensor {
    let mut buffer = TensorBuffer::new(Datatype::Fp32, shape.to_vec()).unwrap();
    values.iter().for_each(|value| buffer.push(&value.to_le_bytes()));
    buffer.finish().unwrap()
}

#[test]
fn elements_pass_through_graphs_in_place() {
    let values = [1.0, -2.0, 3.0, 4.0, 5.0, 6.0];
    let input = in_a_buffer(&[2, 3], &values);
    let place = input.data().as_ptr();
    let once = run(&graph("Identity"), vec![input]).unwrap();
    assert_eq!(once[0].data().as_ptr(), place, "an input from a buffer was copied");
    let twice = run(&graph("Identity"), once).unwrap();
    assert_eq!(twice[0].data().as_ptr(), place, "an output that became an input was copied");
    assert_eq!(to_floats(&twice[0]), values);
}

#[test]
fn bytes_of_others_are_copied() {
    let input = floats(&[1, 3], &[1.0, 2.0, 3.0]);
    let place = input.data().as_ptr();
    let outputs = run(&graph("Identity"), vec![input]).unwrap();
    assert_ne!(outputs[0].data().as_ptr(), place);
    assert_eq!(to_floats(&outputs[0]), [1.0, 2.0, 3.0]);
}

#[test]
fn a_part_of_a_tensor_does_not_pass_for_the_whole() {
    let whole = in_a_buffer(&[2, 3], &[1.0, 2.0, 3.0, 4.0, 5.0, 6.0]);
    let owner = whole.owner::<tract_onnx::prelude::Tensor>().unwrap();
    for (shape, rows) in [(vec![1, 3], 12..24), (vec![1, 3], 0..12)] {
        let part = Tensor::new(Datatype::Fp32, shape, whole.data().slice(rows.clone())).unwrap();
        let expected = to_floats(&part);
        let outputs = run(&graph("Identity"), vec![part.with_owner(owner.clone())]).unwrap();
        assert_eq!(to_floats(&outputs[0]), expected, "{rows:?}");
    }
}

#[test]
fn an_input_that_somebody_else_still_reads_stays_as_it_is() {
    let input = in_a_buffer(&[1, 3], &[-1.0, -2.0, 3.0]);
    let outputs = run(&graph("Relu"), vec![input.clone()]).unwrap();
    assert_eq!(to_floats(&outputs[0]), [0.0, 0.0, 3.0]);
    assert_eq!(to_floats(&input), [-1.0, -2.0, 3.0]);
}

#[test]
fn a_buffer_takes_exactly_its_elements() {
    let filled = |bytes: &[u8]| {
        let mut buffer = TensorBuffer::new(Datatype::Bool, vec![2]).unwrap();
        bytes.chunks(1).for_each(|byte| buffer.push(byte));
        buffer.finish()
    };
    assert_eq!(filled(&[1, 0]).unwrap(), Tensor::new(Datatype::Bool, vec![2], vec![1, 0].into()).unwrap());
    for wrong in [&[][..], &[1], &[1, 0, 1]] {
        let expected = InvalidTensor::Length {
            datatype: Datatype::Bool,
            shape: vec![2],
            expected: 2,
            actual: wrong.len(),
        };
        assert_eq!(filled(wrong), Err(expected));
    }
    assert_eq!(filled(&[1, 2]), Err(InvalidTensor::NotBool { index: 1, value: 2 }));
}

#[test]
fn there_is_no_buffer_for_what_the_engine_does_not_have() {
    for (datatype, shape) in [
        (Datatype::Bytes, vec![1]),
        (Datatype::Bf16, vec![1]),
        (Datatype::Fp32, vec![u64::MAX, 2]),
        (Datatype::Fp32, vec![0, u64::MAX, u64::MAX]),
        (Datatype::Fp32, vec![1; 17]),
    ] {
        assert!(TensorBuffer::new(datatype, shape.clone()).is_none(), "{datatype} {shape:?}");
    }
}

proptest! {
    /// Copying into the engine's memory accepts, refuses and holds what the plain way does.
    #[test]
    fn a_copy_is_the_same_tensor(
        datatype in prop::sample::select(&Datatype::ALL[..]),
        shape in prop::collection::vec(prop_oneof![0_u64..4, Just(u64::MAX)], 0..5),
        data in prop::collection::vec(0_u8..3, 0..200),
        fits in any::<bool>(),
    ) {
        let wanted = shape.iter().try_fold(datatype.size().unwrap_or(1) as u64, |n, e| n.checked_mul(*e));
        let length = wanted.filter(|_| fits).map_or(data.len(), |wanted| data.len().min(wanted as usize));
        let data = &data[..length];
        let plain = Tensor::new(datatype, shape.clone(), data.to_vec().into());
        prop_assert_eq!(TensorBuffer::copy_of(datatype, shape, data), plain);
    }
}
