//! Runs the one graph that was put into it, as it is: the graph's inputs and outputs are the plugin's signature,
//! and tensors pass through without being copied. It carries no graph of its own; `modelhost push model.onnx`
//! adds one to the finished component.

use modelhost_guest::{
    Datatype, Error, Fault, Graph, GraphDescription, GraphError, Plugin, Request, Response, Signature,
    TensorDescription, export, graphs,
};

/// The name under which the graph is added.
const GRAPH: &str = "model";

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
        let outputs = Graph::load(GRAPH)?.compute(request.into_inputs()).map_err(blame)?;
        Ok(Response::new(outputs))
    }
}

fn the_only(mut graphs: Vec<GraphDescription>) -> Result<GraphDescription, Error> {
    match (graphs.pop(), graphs.len()) {
        (Some(graph), 0) if graph.name == GRAPH => Ok(graph),
        (Some(graph), 0) => Err(Error::internal(format!(
            "the component's graph is named {:?}: expected {GRAPH:?}",
            graph.name
        ))),
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
        | Datatype::Fp64
        | Datatype::Bytes => Ok(()),
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

#[cfg(test)]
mod tests {
    use super::*;

    fn graph(name: &str) -> GraphDescription {
        GraphDescription { name: name.into(), inputs: Vec::new(), outputs: Vec::new() }
    }

    #[test]
    fn exactly_one_graph_is_expected() {
        assert_eq!(the_only(vec![graph("model")]), Ok(graph("model")));
        assert_eq!(
            the_only(vec![graph("other")]),
            Err(Error::internal("the component's graph is named \"other\": expected \"model\""))
        );
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
        assert_eq!(check_datatype(&tensor(Datatype::Bytes)), Ok(()));
        assert_eq!(
            check_datatype(&tensor(Datatype::Uint16)),
            Err(Error::internal("graph tensor \"x\" is UINT16: wasi:nn has no such type"))
        );
    }
}
