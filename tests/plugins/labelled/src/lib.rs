//! Answers the name of the graph that was packed into it, in every row and beside the input run through that
//! graph: an answer that was put together from two versions would contradict itself.

use modelhost_guest::{ANY, Datatype, Error, Graph, Plugin, Request, Response, Signature, Tensor, graphs};

modelhost_guest::export!(Labelled);

struct Labelled;

impl Plugin for Labelled {
    fn signature() -> Result<Signature, Error> {
        Ok(Signature::new()
            .input("x", Datatype::Fp32, [ANY])
            .output("label", Datatype::Bytes, [ANY])
            .output("y", Datatype::Fp32, [ANY])
            .output("label_again", Datatype::Bytes, [ANY]))
    }

    fn predict(mut request: Request) -> Result<Response, Error> {
        let rows = request.batch_size()?;
        let Some(graph) = graphs().into_iter().next() else {
            return Err(Error::internal("no graph was packed into the component"));
        };
        let label = || Tensor::string_column(vec![graph.name.as_str(); rows]);
        let mut outputs = Graph::load(&graph.name)?.compute([("x", request.take("x")?)])?;
        Ok(Response::new([("label", label()?), ("y", outputs.take("y")?), ("label_again", label()?)]))
    }
}
