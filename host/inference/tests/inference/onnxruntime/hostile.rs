//! Files that are made to do harm: an error in bounded time and memory, and the process lives.

use std::time::{Duration, Instant};

use modelhost_core::Tensor;
use modelhost_inference::{Engine, OnnxRuntimeEngine, RunError, RunLimits};
use proptest::prelude::*;
use tract_onnx::pb::AttributeProto;
use tract_onnx::pb::attribute_proto::AttributeType;
use tract_onnx::pb::tensor_proto::DataType;

use super::{engine, engine_or_return, load};
use crate::onnx::{
    Fixed, GraphBuilder, Named, counting_loop, graph_attribute, int_attribute, linear, value_attribute,
};
use crate::values::{floats, integers};

fn short() -> RunLimits {
    RunLimits::new(Instant::now() + Duration::from_secs(10), 64 << 20)
}

/// Loads and runs: the answer is an error that speaks of size, or of a number of bytes that nothing can hold.
fn must_be_too_large(engine: &OnnxRuntimeEngine, onnx: &[u8], extent: i64) {
    let error = load(engine, onnx).run(vec![floats(&[1], &[1.0])], &short()).unwrap_err();
    let is_countless = extent == i64::MAX && matches!(error, RunError::Failed { .. });
    assert!(is_countless || matches!(error, RunError::TooLarge { .. }), "{extent}: {error}");
}

#[test]
fn a_small_file_cannot_ask_for_a_huge_tensor() {
    let engine = engine_or_return!();
    for huge in [1_i64 << 31, 1 << 40, i64::MAX] {
        let constant = GraphBuilder::new()
            .input("x", DataType::Float, &[Fixed(1)])
            .integers("shape", &[1], &[huge])
            .node_with("", "ConstantOfShape", &["shape"], &["c"], vec![value_attribute(0.0)])
            .node("Add", &["x", "c"], &["y"])
            .output("y", DataType::Float, &[])
            .build();
        must_be_too_large(engine, &constant, huge);
        let expand = GraphBuilder::new()
            .input("x", DataType::Float, &[Fixed(1)])
            .integers("shape", &[2], &[huge / 8, 8])
            .node("Expand", &["x", "shape"], &["y"])
            .output("y", DataType::Float, &[])
            .build();
        must_be_too_large(engine, &expand, huge);
    }
}

#[test]
fn sums_of_moderate_tensors_are_counted_too() {
    let engine = engine_or_return!();
    // Each is within the limit; all together are not, and all live until the last operator. All differ, so that the
    // optimiser cannot make one of them.
    let mut graph =
        GraphBuilder::new().input("x", DataType::Float, &[Fixed(1)]).integers("shape", &[1], &[4 << 20]);
    let names: Vec<String> = (0..16).map(|index| format!("e{index}")).collect();
    for (index, name) in names.iter().enumerate() {
        let (constant, sum) = (format!("c{index}"), format!("s{index}"));
        graph = graph.floats(&constant, &[1], &[index as f32]).node("Add", &["x", &constant], &[&sum]);
        graph = graph.node("Expand", &[&sum, "shape"], &[name]);
    }
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    let onnx = graph.node("Sum", &names, &["y"]).output("y", DataType::Float, &[]).build();
    let error = load(engine, &onnx).run(vec![floats(&[1], &[1.0])], &short()).unwrap_err();
    assert!(matches!(error, RunError::TooLarge { .. }), "{error}");
}

#[test]
fn long_strings_cannot_be_multiplied() {
    let engine = engine_or_return!();
    let onnx = GraphBuilder::new()
        .input("x", DataType::String, &[Fixed(1)])
        .integers("shape", &[1], &[100_000])
        .node("Expand", &["x", "shape"], &["y"])
        .output("y", DataType::String, &[])
        .build();
    let graph = load(engine, &onnx);
    let text = |length: usize| Tensor::from_bytes_elements(vec![1], &["x".repeat(length)]).unwrap();
    assert!(graph.run(vec![text(8)], &short()).is_ok());
    let error = graph.run(vec![text(1 << 20)], &short()).unwrap_err();
    assert!(matches!(error, RunError::TooLarge { .. }), "{error}");
}

/// The text of each number: those that are not known have this one.
fn labels(default: &str) -> Vec<u8> {
    let keys = AttributeProto {
        name: "keys_int64s".into(),
        r#type: AttributeType::Ints as i32,
        ints: vec![1],
        ..AttributeProto::default()
    };
    let values = AttributeProto {
        name: "values_strings".into(),
        r#type: AttributeType::Strings as i32,
        strings: vec![b"one".to_vec()],
        ..AttributeProto::default()
    };
    let default = AttributeProto {
        name: "default_string".into(),
        r#type: AttributeType::String as i32,
        s: default.as_bytes().to_vec(),
        ..AttributeProto::default()
    };
    GraphBuilder::new()
        .input("x", DataType::Int64, &[Named("n")])
        .node_with("ai.onnx.ml", "LabelEncoder", &["x"], &["y"], vec![keys, values, default])
        .output("y", DataType::String, &[Named("n")])
        .build()
}

#[test]
fn the_text_of_what_is_not_known_counts() {
    let engine = engine_or_return!();
    let numbers = integers(&[3_000], &[7; 3_000]);
    let known = load(engine, &labels("else")).run(vec![numbers.clone()], &short()).unwrap();
    assert_eq!(known[0].bytes_elements().next(), Some(&b"else"[..]));
    let error = load(engine, &labels(&"x".repeat(1 << 20))).run(vec![numbers], &short()).unwrap_err();
    assert!(matches!(error, RunError::TooLarge { .. }), "{error}");
}

#[test]
fn short_texts_count_as_the_objects_that_they_become() {
    let engine = engine_or_return!();
    let onnx = GraphBuilder::new()
        .input("words", DataType::String, &[Named("n")])
        .input("x", DataType::Float, &[Fixed(1)])
        .node("Neg", &["x"], &["y"])
        .output("y", DataType::Float, &[Fixed(1)])
        .build();
    let graph = load(engine, &onnx);
    let with_words = |count: usize| {
        let words = Tensor::from_bytes_elements(vec![count as u64], &vec![b""; count]).unwrap();
        graph.run(vec![words, floats(&[1], &[1.0])], &short())
    };
    assert!(with_words(1_000).is_ok());
    // Four bytes each in the request, 32 and more in the library.
    let error = with_words(4 << 20).unwrap_err();
    assert!(matches!(error, RunError::TooLarge { .. }), "{error}");
}

#[test]
fn graphs_nested_deeply_are_refused() {
    let engine = engine_or_return!();
    for depth in [3, 30, 200] {
        let leaf =
            |name: &str| GraphBuilder::new().node("Neg", &["x"], &[name]).output(name, DataType::Float, &[]);
        let mut inner = leaf("y0");
        for level in 1..depth {
            let name = format!("y{level}");
            let branches = vec![
                graph_attribute("then_branch", inner.0.clone()),
                graph_attribute("else_branch", leaf(&format!("z{level}")).0),
            ];
            inner = GraphBuilder::new().node_with("", "If", &["flag"], &[&name], branches).output(
                &name,
                DataType::Float,
                &[],
            );
        }
        inner.0.input = GraphBuilder::new()
            .input("x", DataType::Float, &[Fixed(1)])
            .input("flag", DataType::Bool, &[])
            .0
            .input;
        assert_eq!(engine.load(&inner.build()).is_ok(), depth == 3, "{depth}");
    }
}

#[test]
fn errors_of_values_are_errors_of_the_run() {
    let engine = engine_or_return!();
    let onnx = GraphBuilder::new()
        .input("i", DataType::Int64, &[Named("n")])
        .floats("table", &[3], &[1.0, 2.0, 3.0])
        .node("Gather", &["table", "i"], &["y"])
        .output("y", DataType::Float, &[Named("n")])
        .build();
    let graph = load(engine, &onnx);
    for index in [3, -4, i64::MAX, i64::MIN] {
        let error = graph.run(vec![integers(&[1], &[index])], &short()).unwrap_err();
        assert!(matches!(error, RunError::Failed { .. }), "{error}");
        assert!(!error.to_string().contains("/onnxruntime"), "{error}");
    }
}

fn never_kills(engine: &OnnxRuntimeEngine, bytes: &[u8]) {
    if let Ok(graph) = engine.load(bytes) {
        let zeros = graph.inputs().iter().map(|input| {
            let shape: Vec<u64> =
                input.shape.iter().map(|extent| u64::try_from(*extent).unwrap_or(1)).collect();
            let count = shape.iter().try_fold(1_u64, |product, extent| product.checked_mul(*extent))?;
            let size = input.datatype.size()? as u64;
            let bytes = count.checked_mul(size).filter(|bytes| *bytes < 1 << 20)?;
            Tensor::new(input.datatype, shape, vec![0; bytes as usize].into()).ok()
        });
        if let Some(inputs) = zeros.collect::<Option<Vec<_>>>() {
            let limits = RunLimits::new(Instant::now() + Duration::from_millis(200), 16 << 20);
            let _ = graph.run(inputs, &limits);
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 200, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn arbitrary_bytes_never_kill(bytes in proptest::collection::vec(any::<u8>(), 0..512)) {
        let Some(engine) = engine() else { return Ok(()) };
        never_kills(engine, &bytes);
    }

    #[test]
    fn changed_models_never_kill(
        which in 0..4,
        changes in proptest::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..6),
    ) {
        let Some(engine) = engine() else { return Ok(()) };
        let mut bytes = match which {
            0 => linear().build(),
            1 => counting_loop(),
            2 => GraphBuilder::new()
                .input("x", DataType::Float, &[Fixed(1), Fixed(1), Fixed(4), Fixed(4)])
                .floats("k", &[1, 1, 2, 2], &[1.0, 2.0, 3.0, 4.0])
                .node("Conv", &["x", "k"], &["c"])
                .node("Flatten", &["c"], &["y"])
                .output("y", DataType::Float, &[Fixed(1), Fixed(9)])
                .build(),
            _ => GraphBuilder::new()
                .input("x", DataType::Float, &[Named("n"), Fixed(4)])
                .integers("k", &[1], &[2])
                .node_with("", "TopK", &["x", "k"], &["v", "i"], vec![int_attribute("axis", -1)])
                .output("v", DataType::Float, &[])
                .output("i", DataType::Int64, &[])
                .build(),
        };
        for (index, byte) in changes {
            let at = index.index(bytes.len());
            bytes[at] = byte;
        }
        never_kills(engine, &bytes);
    }
}
