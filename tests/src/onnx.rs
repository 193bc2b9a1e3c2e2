//! ONNX networks made to measure: the few messages of the format that a network of one operator needs, written by
//! hand, so that no engine's own reader vouches for itself.

/// A field of a protobuf message that has a length: a text, bytes, or another message.
fn field(number: u8, bytes: &[u8]) -> Vec<u8> {
    [vec![number << 3 | 2], varint(bytes.len() as u64), bytes.to_vec()].concat()
}

fn integer(number: u8, value: u64) -> Vec<u8> {
    [vec![number << 3], varint(value)].concat()
}

/// An unsigned number in base 128, as Protocol Buffers and WebAssembly write it.
pub(crate) fn varint(mut value: u64) -> Vec<u8> {
    let mut bytes = Vec::new();
    loop {
        let low = (value & 0x7f) as u8;
        value >>= 7;
        if value == 0 {
            bytes.push(low);
            return bytes;
        }
        bytes.push(low | 0x80);
    }
}

const FLOAT: u64 = 1;
const INT64: u64 = 7;

/// An input or output of floats with one free dimension.
fn float_column(name: &str) -> Vec<u8> {
    let dimension = field(1, &field(2, b"n"));
    let tensor = [integer(1, FLOAT), field(2, &dimension)].concat();
    [field(1, name.as_bytes()), field(2, &field(1, &tensor))].concat()
}

fn node(domain: &str, operator: &str, inputs: &[&str], output: &str) -> Vec<u8> {
    let inputs: Vec<u8> = inputs.iter().flat_map(|input| field(1, input.as_bytes())).collect();
    let output = field(2, output.as_bytes());
    field(1, &[inputs, output, field(4, operator.as_bytes()), field(7, domain.as_bytes())].concat())
}

fn floats(name: &str, shape: &[u64], values: impl Iterator<Item = f32>) -> Vec<u8> {
    let data: Vec<u8> = values.flat_map(f32::to_le_bytes).collect();
    constant(name, FLOAT, shape, &data)
}

fn integers(name: &str, values: &[i64]) -> Vec<u8> {
    let data: Vec<u8> = values.iter().flat_map(|value| value.to_le_bytes()).collect();
    constant(name, INT64, &[values.len() as u64], &data)
}

fn constant(name: &str, element: u64, shape: &[u64], data: &[u8]) -> Vec<u8> {
    let shape = shape.iter().flat_map(|extent| integer(1, *extent)).collect();
    let tensor = [shape, integer(2, element), field(8, name.as_bytes()), field(9, data)];
    field(5, &tensor.concat())
}

fn model(nodes: &[u8], constants: &[u8]) -> Vec<u8> {
    let graph = [
        nodes.to_vec(),
        field(2, b"g"),
        constants.to_vec(),
        field(11, &float_column("x")),
        field(12, &float_column("y")),
    ];
    let standard = [field(1, b""), integer(2, 13)].concat();
    let classical = [field(1, b"ai.onnx.ml"), integer(2, 3)].concat();
    [integer(1, 8), field(7, &graph.concat()), field(8, &standard), field(8, &classical)].concat()
}

/// `y = factor · x`.
pub fn multiplication(factor: f32) -> Vec<u8> {
    let factor = floats("factor", &[1], std::iter::once(factor));
    model(&node("", "Mul", &["x", "factor"], "y"), &factor)
}

/// `y = operator(x)`, whatever that may be.
pub fn operator(domain: &str, name: &str) -> Vec<u8> {
    model(&node(domain, name, &["x"], "y"), &[])
}

/// `y = x + Σ x`: each element depends on all others.
pub fn sum_of_rows() -> Vec<u8> {
    let nodes = [node("", "ReduceSum", &["x", "zero"], "sum"), node("", "Add", &["x", "sum"], "y")];
    model(&nodes.concat(), &integers("zero", &[0]))
}

/// `y = factor · x`, and beside it this many layers of this width on every element, which many elements at once pass
/// sooner than one by one.
pub fn layers(factor: f32, width: u64, layers: usize) -> Vec<u8> {
    let weight = |index: u64| (index * 7_919 % 1_000) as f32 / (500 * width) as f32;
    let weights = floats("weights", &[width, width], (0..width * width).map(weight));
    with_detour(
        factor,
        width,
        layers,
        |before, after| node("", "MatMul", &[before, "weights"], after),
        weights,
    )
}

/// The same with sines, which take the same time for every element.
pub fn sines(factor: f32, width: u64, steps: usize) -> Vec<u8> {
    with_detour(factor, width, steps, |before, after| node("", "Sin", &[before], after), Vec::new())
}

/// `y = factor · x + 0`, where the zero comes out of a row of this width for each element, after this many steps: it is
/// `⌊0.45 + 0.4 · sin …⌋`, which no engine finds out.
fn with_detour(
    factor: f32,
    width: u64,
    steps: usize,
    step: impl Fn(&str, &str) -> Vec<u8>,
    constants: Vec<u8>,
) -> Vec<u8> {
    let mut nodes =
        vec![node("", "Unsqueeze", &["x", "one"], "column"), node("", "Expand", &["column", "row"], "h0")];
    for index in 0..steps {
        nodes.push(step(&format!("h{index}"), &format!("h{}", index + 1)));
    }
    nodes.extend([
        node("", "Sin", &[&format!("h{steps}")], "sine"),
        node("", "Mul", &["sine", "scale"], "scaled"),
        node("", "Add", &["scaled", "offset"], "positive"),
        node("", "Floor", &["positive"], "zeros"),
        node("", "ReduceSum", &["zeros", "one"], "sum"),
        node("", "Squeeze", &["sum", "one"], "zero"),
        node("", "Mul", &["x", "factor"], "product"),
        node("", "Add", &["product", "zero"], "y"),
    ]);
    let width = i64::try_from(width).unwrap();
    let number = |name: &str, value: f32| floats(name, &[1], std::iter::once(value));
    let more = [
        integers("one", &[1]),
        integers("row", &[1, width]),
        number("factor", factor),
        number("scale", 0.4),
        number("offset", 0.45),
        constants,
    ];
    model(&nodes.concat(), &more.concat())
}
