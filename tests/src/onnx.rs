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

/// An input or output of floats with one free dimension.
fn float_column(name: &str) -> Vec<u8> {
    let dimension = field(1, &field(2, b"n"));
    let tensor = [integer(1, FLOAT), field(2, &dimension)].concat();
    [field(1, name.as_bytes()), field(2, &field(1, &tensor))].concat()
}

fn node(domain: &str, operator: &str, inputs: &[&str]) -> Vec<u8> {
    let inputs: Vec<u8> = inputs.iter().flat_map(|input| field(1, input.as_bytes())).collect();
    [inputs, field(2, b"y"), field(4, operator.as_bytes()), field(7, domain.as_bytes())].concat()
}

fn model(node: &[u8], constants: &[u8]) -> Vec<u8> {
    let graph = [
        field(1, node),
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
    let tensor =
        [integer(1, 1), integer(2, FLOAT), field(8, b"factor"), field(9, &factor.to_le_bytes())].concat();
    model(&node("", "Mul", &["x", "factor"]), &field(5, &tensor))
}

/// `y = operator(x)`, whatever that may be.
pub fn operator(domain: &str, name: &str) -> Vec<u8> {
    model(&node(domain, name, &["x"]), &[])
}
