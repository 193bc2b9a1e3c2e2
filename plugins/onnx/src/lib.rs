//! Runs the one graph that was put into it, as it is: the graph's inputs and outputs are the plugin's signature,
//! and tensors pass through without being copied. It carries no graph of its own; `modelhost push model.onnx`
//! adds one to the finished component.

use modelhost_guest::{
    Datatype, Error, Fault, Graph, GraphDescription, GraphError, Outputs, Plugin, Request, Response,
    Signature, Tensor, TensorDescription, export, graphs,
};

/// The plugin.
pub struct Onnx;

export!(Onnx);

impl Plugin for Onnx {
    fn signature() -> Result<Signature, Error> {
        let graph = the_only(graphs())?;
        graph.inputs.iter().chain(&graph.outputs).try_for_each(check_datatype)?;
        Ok(Signature { inputs: graph.inputs, outputs: graph.outputs })
    }

    fn predict(request: Request) -> Result<Response, Error> {
        let graph = the_only(graphs())?;
        let outputs = Graph::load(&graph.name)?.compute(request.into_inputs()).map_err(blame)?;
        answer(outputs, &graph)
    }
}

fn the_only(mut graphs: Vec<GraphDescription>) -> Result<GraphDescription, Error> {
    match (graphs.pop(), graphs.len()) {
        (Some(graph), 0) => Ok(graph),
        (None, _) => Err(Error::internal("the component carries no graph: expected exactly one")),
        (Some(_), others) => {
            Err(Error::internal(format!("the component carries {} graphs: expected exactly one", others + 1)))
        }
    }
}

/// What wasi:nn cannot carry is said at upload and not at each request.
fn check_datatype(tensor: &TensorDescription) -> Result<(), Error> {
    match tensor.datatype {
        Datatype::Bool
        | Datatype::Uint8
        | Datatype::Int32
        | Datatype::Int64
        | Datatype::Fp16
        | Datatype::Bf16
        | Datatype::Fp32
        | Datatype::Fp64 => Ok(()),
        other => Err(Error::internal(format!(
            "graph tensor {:?} is {other}: wasi:nn has no such type",
            tensor.name
        ))),
    }
}

/// The graph sees the client's own tensors: what it refuses about them (extents that must agree with each other,
/// say, which a signature cannot express) is the client's to mend.
fn blame(error: GraphError) -> Error {
    match error.fault() {
        Fault::InvalidArgument => Error::invalid_input(error.to_string()),
        _ => error.into(),
    }
}

fn answer(outputs: Outputs, graph: &GraphDescription) -> Result<Response, Error> {
    let promised = |name: &str| graph.outputs.iter().find(|output| output.name == name);
    let as_promised = |(name, tensor): (String, Tensor)| match promised(&name) {
        Some(output) if output.datatype == Datatype::Bool => Ok((name, truth_values(&tensor)?)),
        _ => Ok((name, tensor)),
    };
    Ok(Response::new(outputs.into_iter().map(as_promised).collect::<Result<Vec<_>, Error>>()?))
}

/// wasi:nn has no truth values: a graph's BOOL comes back as UINT8, and has to be told from one.
fn truth_values(tensor: &Tensor) -> Result<Tensor, Error> {
    let values: Vec<bool> = tensor.as_slice::<u8>()?.iter().map(|byte| *byte != 0).collect();
    Tensor::new(tensor.shape(), values)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn graph(name: &str) -> GraphDescription {
        GraphDescription { name: name.into(), inputs: Vec::new(), outputs: Vec::new() }
    }

    #[test]
    fn exactly_one_graph_is_expected() {
        assert_eq!(the_only(vec![graph("a")]), Ok(graph("a")));
        assert_eq!(
            the_only(Vec::new()),
            Err(Error::internal("the component carries no graph: expected exactly one"))
        );
        assert_eq!(
            the_only(vec![graph("a"), graph("b")]),
            Err(Error::internal("the component carries 2 graphs: expected exactly one"))
        );
    }

    #[test]
    fn a_datatype_that_cannot_pass_is_refused() {
        let tensor = |datatype| TensorDescription { name: "x".into(), datatype, shape: vec![-1] };
        assert_eq!(check_datatype(&tensor(Datatype::Bool)), Ok(()));
        assert_eq!(
            check_datatype(&tensor(Datatype::Bytes)),
            Err(Error::internal("graph tensor \"x\" is BYTES: wasi:nn has no such type"))
        );
    }

    #[test]
    fn truth_values_keep_their_shape() {
        let bytes = Tensor::new([2, 2], [0_u8, 1, 1, 0]).unwrap();
        let values = truth_values(&bytes).unwrap();
        assert_eq!(values.shape(), [2, 2]);
        assert_eq!(values.as_slice::<bool>(), Ok(&[false, true, true, false][..]));
        assert!(truth_values(&Tensor::column([1.0_f32])).is_err());
    }
}
