//! wasi:nn as nobody should call it. Everything that can be answered with an error must be: the plugin goes on
//! after each call, and fails only where one of them was accepted.

use modelhost_guest::Error;
use modelhost_guest::bindings::modelhost::plugin::tensors as contract;
use modelhost_guest::bindings::wasi::nn::errors::{Error as NnError, ErrorCode};
use modelhost_guest::bindings::wasi::nn::graph::{self, ExecutionTarget, Graph, GraphEncoding};
use modelhost_guest::bindings::wasi::nn::tensor::{Tensor, TensorType};

/// Calls everything wrongly, one after the other.
pub fn all() -> Result<(), Error> {
    names()?;
    loading()?;
    inputs()?;
    contexts()?;
    conversions()?;
    creation()
}

/// Data that does not hold what the dimensions say: the standard knows no answer but a trap.
pub fn tensor_too_short() {
    drop(Tensor::new(&[1000, 1000], TensorType::Fp32, &[0; 4]));
}

/// What the host says to a graph of this many bytes that is none.
pub fn load_junk(bytes: usize) -> Error {
    let builder = [vec![0xff; bytes]];
    match graph::load(&builder, GraphEncoding::Onnx, ExecutionTarget::Cpu) {
        Ok(_) => Error::internal("it was accepted"),
        Err(error) => {
            let code = match error.code() {
                ErrorCode::InvalidEncoding => "invalid-encoding",
                ErrorCode::TooLarge => "too-large",
                ErrorCode::Security => "security",
                _ => "another code",
            };
            Error::internal(format!("{code}: {}", error.data()))
        }
    }
}

fn refused<T>(what: &str, outcome: Result<T, NnError>, expected: &[ErrorCode]) -> Result<(), Error> {
    match outcome {
        Ok(_) => Err(Error::internal(format!("{what} was accepted"))),
        Err(error) if error.data().is_empty() => Err(Error::internal(format!("{what}: no sentence"))),
        Err(error) if expected.contains(&error.code()) => Ok(()),
        Err(error) => Err(Error::internal(format!("{what}: {:?}: {}", error.code(), error.data()))),
    }
}

fn names() -> Result<(), Error> {
    let long = "n".repeat(1 << 20);
    for name in ["", "other", "graph\0", "../graph", "\u{202e}", long.as_str()] {
        refused("a graph's name", graph::load_by_name(name), &[ErrorCode::NotFound])?;
    }
    Ok(())
}

fn loading() -> Result<(), Error> {
    let builders: [&[Vec<u8>]; 4] = [&[], &[vec![]], &[vec![0xff; 100]], &[vec![8], vec![8]]];
    for encoding in
        [GraphEncoding::Onnx, GraphEncoding::Openvino, GraphEncoding::Ggml, GraphEncoding::Autodetect]
    {
        for builder in builders {
            let loaded = graph::load(builder, encoding, ExecutionTarget::Gpu);
            let expected = [ErrorCode::Security, ErrorCode::InvalidEncoding, ErrorCode::InvalidArgument];
            refused("a graph of nonsense", loaded, &expected)?;
        }
    }
    Ok(())
}

fn the_graph() -> Result<Graph, Error> {
    graph::load_by_name("graph").map_err(|error| Error::internal(error.data()))
}

fn floats(count: u32) -> Tensor {
    Tensor::new(&[count], TensorType::Fp32, &vec![0; 4 * count as usize])
}

fn inputs() -> Result<(), Error> {
    let cases: Vec<(&str, Vec<(&str, Tensor)>)> = vec![
        ("no input", vec![]),
        ("an unknown input", vec![("z", floats(1))]),
        ("an input without a name", vec![("", floats(1))]),
        ("an input twice", vec![("x", floats(1)), ("x", floats(1))]),
        ("one input too many", vec![("x", floats(1)), ("z", floats(1))]),
        ("another datatype", vec![("x", Tensor::new(&[1], TensorType::I64, &[0; 8]))]),
        ("another width", vec![("x", Tensor::new(&[2], TensorType::Fp16, &[0; 4]))]),
        ("another rank", vec![("x", Tensor::new(&[1, 1], TensorType::Fp32, &[0; 4]))]),
        ("a scalar", vec![("x", Tensor::new(&[], TensorType::Fp32, &[0; 4]))]),
        ("more dimensions than there can be", vec![("x", Tensor::new(&[1; 16], TensorType::U8, &[0]))]),
    ];
    for (what, inputs) in cases {
        let context = the_graph()?.init_execution_context().map_err(|error| Error::internal(error.data()))?;
        let inputs: Vec<(String, Tensor)> =
            inputs.into_iter().map(|(name, tensor)| (name.to_owned(), tensor)).collect();
        refused(what, context.compute(inputs), &[ErrorCode::InvalidArgument])?;
    }
    Ok(())
}

/// An empty batch may be computed or refused; a context must outlive its graph and its own failures.
fn contexts() -> Result<(), Error> {
    let context = {
        let graph = the_graph()?;
        graph.init_execution_context().map_err(|error| Error::internal(error.data()))?
    };
    let _ = context.compute(vec![("x".to_owned(), floats(0))]);
    let outputs =
        context.compute(vec![("x".to_owned(), Tensor::new(&[1], TensorType::Fp32, &3_f32.to_le_bytes()))]);
    let outputs = outputs.map_err(|error| Error::internal(format!("after failures: {}", error.data())))?;
    match outputs.as_slice() {
        [(name, tensor)] if name == "y" && tensor.data() == 6_f32.to_le_bytes() => Ok(()),
        _ => Err(Error::internal("a good call after bad ones was answered wrongly")),
    }
}

fn conversions() -> Result<(), Error> {
    for datatype in [contract::Datatype::Uint64, contract::Datatype::Int8, contract::Datatype::Uint16] {
        let Ok(tensor) = contract::Tensor::create(datatype, &[0], &[]) else {
            return Err(Error::internal("an empty tensor was refused"));
        };
        if contract::Tensor::into_nn(tensor).is_ok() {
            return Err(Error::internal("wasi:nn got a datatype that it does not have"));
        }
    }
    texts_through_nn()
}

/// BYTES have no datatype in wasi:nn: they look like the bytes that encode them, and are themselves again afterwards.
fn texts_through_nn() -> Result<(), Error> {
    let (shape, encoded): (&[u64], _) = (&[2, 1], [1, 0, 0, 0, b'a', 0, 0, 0, 0]);
    let tensor = contract::Tensor::create(contract::Datatype::Bytes, shape, &encoded);
    let inside = contract::Tensor::into_nn(tensor.map_err(Error::internal)?).map_err(Error::internal)?;
    let looks_right = inside.ty() == TensorType::U8 && inside.dimensions() == [9] && inside.data() == encoded;
    let back = contract::Tensor::from_nn(inside);
    let is_itself = back.datatype() == contract::Datatype::Bytes && back.shape() == shape;
    match looks_right && is_itself && back.data() == encoded {
        true => Ok(()),
        false => Err(Error::internal("BYTES did not come through wasi:nn as they were")),
    }
}

fn creation() -> Result<(), Error> {
    use contract::Datatype;

    let cases: [(Datatype, &[u64], &[u8]); 9] = [
        (Datatype::Fp32, &[1], &[0; 3]),
        (Datatype::Fp32, &[u64::MAX, u64::MAX], &[]),
        (Datatype::Fp64, &[1 << 62], &[0; 8]),
        (Datatype::Bool, &[1], &[2]),
        (Datatype::Bytes, &[1], &[5, 0, 0, 0, 1]),
        (Datatype::Bytes, &[1], &[0xff; 4]),
        (Datatype::Bytes, &[2], &[0; 4]),
        (Datatype::Uint8, &[0], &[1]),
        (Datatype::Uint8, &[1; 64], &[1]),
    ];
    for (datatype, shape, data) in cases {
        if contract::Tensor::create(datatype, shape, data).is_ok() {
            return Err(Error::internal(format!(
                "{datatype:?} {shape:?} of {} bytes was accepted",
                data.len()
            )));
        }
    }
    Ok(())
}
