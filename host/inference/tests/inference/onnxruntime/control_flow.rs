//! Graphs in graphs: `If` and `Loop`.

use modelhost_core::{Datatype, Tensor};
use tract_onnx::pb::tensor_proto::DataType;

use super::{engine_or_return, load};
use crate::onnx::{Fixed, GraphBuilder, Named, counting_loop, graph_attribute};
use crate::values::{floats, integers, limits, to_floats};

fn flag(value: bool) -> Tensor {
    Tensor::new(Datatype::Bool, vec![], vec![u8::from(value)].into()).unwrap()
}

/// `x + 1` or, as a column, `x · 2`.
fn branches() -> Vec<u8> {
    let then = GraphBuilder::new().floats("one", &[], &[1.0]).node("Add", &["x", "one"], &["sum"]).output(
        "sum",
        DataType::Float,
        &[],
    );
    let otherwise = GraphBuilder::new()
        .floats("two", &[], &[2.0])
        .integers("last", &[1], &[-1])
        .node("Mul", &["x", "two"], &["product"])
        .node("Unsqueeze", &["product", "last"], &["column"])
        .output("column", DataType::Float, &[]);
    let mut onnx = GraphBuilder::new()
        .input("flag", DataType::Bool, &[])
        .input("x", DataType::Float, &[Named("n")])
        .node_with(
            "",
            "If",
            &["flag"],
            &["y"],
            vec![graph_attribute("then_branch", then.0), graph_attribute("else_branch", otherwise.0)],
        )
        .output("y", DataType::Float, &[]);
    // Which rank it has depends on the branch: nothing is declared.
    onnx.0.output[0].r#type = None;
    onnx.build()
}

#[test]
fn branches_of_unlike_shapes() {
    let engine = engine_or_return!();
    let graph = load(engine, &branches());
    let answer =
        |value| graph.run(vec![flag(value), floats(&[2], &[3.0, 4.0])], &limits()).unwrap().remove(0);
    let (sum, product) = (answer(true), answer(false));
    assert_eq!((sum.shape(), to_floats(&sum)), (&[2][..], vec![4.0, 5.0]));
    assert_eq!((product.shape(), to_floats(&product)), (&[2, 1][..], vec![6.0, 8.0]));
}

#[test]
fn a_loop_runs_as_often_as_it_is_told() {
    let engine = engine_or_return!();
    let graph = load(engine, &counting_loop());
    for times in [0, 1, 7, 1000] {
        let outputs = graph.run(vec![integers(&[], &[times]), floats(&[1], &[0.5])], &limits()).unwrap();
        assert_eq!(to_floats(&outputs[0]), [times as f32 + 0.5]);
    }
}

#[test]
fn outputs_whose_shape_depends_on_values() {
    let engine = engine_or_return!();
    let onnx = GraphBuilder::new()
        .input("x", DataType::Float, &[Named("n"), Fixed(2)])
        .node("NonZero", &["x"], &["places"])
        .output("places", DataType::Int64, &[Fixed(2), Named("found")])
        .build();
    let graph = load(engine, &onnx);
    assert_eq!(graph.outputs()[0].shape, [2, -1]);
    for (values, found) in [([0.0, 0.0, 0.0, 0.0], 0), ([1.0, 0.0, 3.0, 4.0], 3)] {
        let outputs = graph.run(vec![floats(&[2, 2], &values)], &limits()).unwrap();
        assert_eq!(outputs[0].shape(), [2, found]);
    }
}
