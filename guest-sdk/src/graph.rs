//! Running the networks that a component carries, through wasi:nn. Tensors go in and come out as handles.

use std::fmt;

use crate::bindings::modelhost::plugin::graphs as contract;
use crate::bindings::modelhost::plugin::tensors::Tensor as Handle;
use crate::bindings::wasi::nn;
use crate::signature::from_contract;
use crate::{Error, Tensor, TensorDescription};

/// Why a graph could not be loaded or run.
///
/// Through `?` it becomes an [`Error`]: unavailable where the time ran out, internal otherwise, because a graph that
/// refuses what the plugin built is the plugin's fault. Where the refused tensors are the client's own, say so:
///
/// ```no_run
/// use modelhost_guest::{Error, Fault, Graph, GraphError, Request, Response};
///
/// fn predict(request: Request) -> Result<Response, Error> {
///     let blame = |error: GraphError| match error.fault() {
///         Fault::InvalidArgument => Error::invalid_input(error.to_string()),
///         _ => error.into(),
///     };
///     let outputs = Graph::load("model")?.compute(request.into_inputs()).map_err(blame)?;
///     Ok(Response::new(outputs))
/// }
/// ```
// Not a `std::error::Error`: `?` would then make every one of them internal.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GraphError {
    graph: String,
    fault: Fault,
    reason: String,
}

/// What kind of failure a [`GraphError`] is: the error codes of wasi:nn.
///
/// ```no_run
/// use modelhost_guest::{Fault, Graph};
///
/// if let Err(error) = Graph::load("large").and_then(|graph| graph.compute::<&str>([])) {
///     if error.fault() == Fault::Timeout {
///         modelhost_guest::warn!("the large network is too slow today");
///     }
/// }
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Fault {
    /// A tensor has a name, a datatype or a shape that the graph does not take.
    InvalidArgument,
    /// The time for the request ran out.
    Timeout,
    /// More data than the host allows.
    TooLarge,
    /// The component carries no graph of that name.
    NotFound,
    /// The operator does not allow it.
    Security,
    /// The engine failed, or cannot do this.
    Engine,
}

impl GraphError {
    /// What kind of failure it is.
    ///
    /// ```no_run
    /// use modelhost_guest::{Fault, Graph};
    ///
    /// let missing = Graph::load("no such graph").err().map(|error| error.fault());
    /// assert_eq!(missing, Some(Fault::NotFound));
    /// ```
    pub fn fault(&self) -> Fault {
        self.fault
    }

    fn from_contract(graph: &str, error: &nn::errors::Error) -> GraphError {
        use nn::errors::ErrorCode;
        let fault = match error.code() {
            ErrorCode::InvalidArgument => Fault::InvalidArgument,
            ErrorCode::Timeout => Fault::Timeout,
            ErrorCode::TooLarge => Fault::TooLarge,
            ErrorCode::NotFound => Fault::NotFound,
            ErrorCode::Security => Fault::Security,
            ErrorCode::InvalidEncoding
            | ErrorCode::RuntimeError
            | ErrorCode::UnsupportedOperation
            | ErrorCode::Unknown => Fault::Engine,
        };
        GraphError { graph: graph.into(), fault, reason: error.data() }
    }
}

impl fmt::Display for GraphError {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "graph {:?}: {}", self.graph, self.reason)
    }
}

impl From<GraphError> for Error {
    fn from(error: GraphError) -> Error {
        match error.fault {
            Fault::Timeout => Error::unavailable(error.to_string()),
            _ => Error::internal(error.to_string()),
        }
    }
}

/// A network that is ready to run. Loading costs a look-up: the host has optimised the network when the plugin was
/// uploaded, and all instances share it.
///
/// ```no_run
/// use modelhost_guest::{Graph, Tensor};
///
/// let graph = Graph::load("income")?;
/// let features = Tensor::from_rows(3, [[0.1_f32, 1.5, -0.2]])?;
/// let probability = graph.compute([("features", features)])?.take("probability")?;
/// modelhost_guest::debug!("{:?}", probability.as_slice::<f32>()?);
/// # Ok::<(), modelhost_guest::Error>(())
/// ```
#[derive(Debug)]
pub struct Graph {
    name: String,
    handle: nn::graph::Graph,
}

impl Graph {
    /// Finds the graph that [`embed_graph!`](crate::embed_graph!) put into this component under that name.
    ///
    /// ```no_run
    /// let graph = modelhost_guest::Graph::load("income")?;
    /// # Ok::<(), modelhost_guest::Error>(())
    /// ```
    ///
    /// # Errors
    /// [`Fault::NotFound`] where the component carries no such graph; [`Fault::Engine`] outside the host.
    pub fn load(name: &str) -> Result<Graph, GraphError> {
        if cfg!(not(target_arch = "wasm32")) {
            let reason = "graphs run in the host only".to_owned();
            return Err(GraphError { graph: name.into(), fault: Fault::Engine, reason });
        }
        match nn::graph::load_by_name(name) {
            Ok(handle) => Ok(Graph { name: name.into(), handle }),
            Err(error) => Err(GraphError::from_contract(name, &error)),
        }
    }

    /// Runs the graph once, on all its inputs by name. Tensors from the request go in without being copied. Texts go in and
    /// come out as tensors of BYTES, though wasi:nn itself has no such type.
    ///
    /// ```no_run
    /// use modelhost_guest::{Error, Graph, Request, Response};
    ///
    /// fn predict(mut request: Request) -> Result<Response, Error> {
    ///     let features = request.take("features")?;
    ///     let mut outputs = Graph::load("income")?.compute([("features", features)])?;
    ///     Ok(Response::new([("probability", outputs.take("probability")?)]))
    /// }
    /// ```
    ///
    /// # Errors
    /// [`Fault::InvalidArgument`] where the tensors are not what the graph takes, a datatype that wasi:nn does not
    /// have included; the other [`Fault`]s as they say.
    pub fn compute<N: Into<String>>(
        &self,
        inputs: impl IntoIterator<Item = (N, Tensor)>,
    ) -> Result<Outputs, GraphError> {
        let into_nn = |(name, tensor): (N, Tensor)| {
            let name = name.into();
            match tensor.into_handle().and_then(Handle::into_nn) {
                Ok(tensor) => Ok((name, tensor)),
                Err(reason) => Err(self.invalid_argument(format!("input {name:?}: {reason}"))),
            }
        };
        let inputs = inputs.into_iter().map(into_nn).collect::<Result<Vec<_>, _>>()?;
        let failed = |error: nn::errors::Error| GraphError::from_contract(&self.name, &error);
        let context = self.handle.init_execution_context().map_err(failed)?;
        let outputs = context.compute(inputs).map_err(failed)?;
        Ok(Outputs::from_contract(&self.name, outputs))
    }

    fn invalid_argument(&self, reason: String) -> GraphError {
        GraphError { graph: self.name.clone(), fault: Fault::InvalidArgument, reason }
    }
}

/// The named tensors that a graph answered. Their elements stay in the host until they are read.
///
/// ```no_run
/// use modelhost_guest::{Error, Graph, Outputs, Response, Tensor};
///
/// fn everything(image: Tensor) -> Result<Response, Error> {
///     let outputs: Outputs = Graph::load("segmentation")?.compute([("image", image)])?;
///     Ok(Response::new(outputs))
/// }
/// ```
#[derive(Debug)]
pub struct Outputs {
    graph: String,
    tensors: Vec<(String, Tensor)>,
}

impl Outputs {
    /// The output of that name, to read or to pass on.
    ///
    /// ```no_run
    /// use modelhost_guest::{Graph, Tensor};
    ///
    /// let tokens = Tensor::from_rows(4, [[1_i64, 17, 4, 2]])?;
    /// let mut outputs = Graph::load("encoder")?.compute([("tokens", tokens)])?;
    /// let embedding = outputs.take("embedding")?;
    /// # Ok::<(), modelhost_guest::Error>(())
    /// ```
    ///
    /// # Errors
    /// Internal where the graph has no output of that name, or it was taken before.
    pub fn take(&mut self, name: &str) -> Result<Tensor, Error> {
        if let Some(index) = self.tensors.iter().position(|(key, _)| key == name) {
            return Ok(self.tensors.swap_remove(index).1);
        }
        let names: Vec<&str> = self.tensors.iter().map(|(name, _)| name.as_str()).collect();
        Err(Error::internal(format!("graph {:?} left no output {name:?}: it left {names:?}", self.graph)))
    }

    fn from_contract(graph: &str, outputs: Vec<(String, nn::tensor::Tensor)>) -> Outputs {
        let one = |(name, tensor): (String, nn::tensor::Tensor)| {
            let tensor = Tensor::from_handle(Handle::from_nn(tensor)).named(&name);
            (name, tensor)
        };
        Outputs { graph: graph.into(), tensors: outputs.into_iter().map(one).collect() }
    }
}

/// All outputs with their names, in the graph's order unless some were taken before.
impl IntoIterator for Outputs {
    type Item = (String, Tensor);
    type IntoIter = std::vec::IntoIter<(String, Tensor)>;

    fn into_iter(self) -> Self::IntoIter {
        self.tensors.into_iter()
    }
}

/// What a graph is called, what it takes and what it answers.
///
/// ```
/// use modelhost_guest::{GraphDescription, Signature};
///
/// fn signature_of(graph: GraphDescription) -> Signature {
///     Signature { inputs: graph.inputs, outputs: graph.outputs }
/// }
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GraphDescription {
    /// The name to give to [`Graph::load`].
    pub name: String,
    /// What [`Graph::compute`] takes, each exactly once.
    pub inputs: Vec<TensorDescription>,
    /// What [`Graph::compute`] answers.
    pub outputs: Vec<TensorDescription>,
}

/// All graphs that this component carries, by name. None outside the host.
///
/// ```
/// for graph in modelhost_guest::graphs() {
///     modelhost_guest::info!("{} takes {:?}", graph.name, graph.inputs);
/// }
/// ```
pub fn graphs() -> Vec<GraphDescription> {
    if cfg!(not(target_arch = "wasm32")) {
        return Vec::new();
    }
    let one = |graph: contract::GraphDescription| GraphDescription {
        name: graph.name,
        inputs: from_contract(graph.inputs),
        outputs: from_contract(graph.outputs),
    };
    contract::list().into_iter().map(one).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_time_out_may_succeed_later() {
        let error = |fault| GraphError { graph: "g".into(), fault, reason: "too slow".into() };
        assert_eq!(Error::from(error(Fault::Timeout)), Error::unavailable("graph \"g\": too slow"));
        for fault in
            [Fault::InvalidArgument, Fault::TooLarge, Fault::NotFound, Fault::Security, Fault::Engine]
        {
            assert_eq!(Error::from(error(fault)), Error::internal("graph \"g\": too slow"));
        }
    }

    #[test]
    fn outside_the_host_loading_is_an_error_and_no_panic() {
        let error = Graph::load("g").unwrap_err();
        assert_eq!(error.to_string(), "graph \"g\": graphs run in the host only");
        assert!(graphs().is_empty());
    }

    #[test]
    fn an_output_is_taken_once() {
        let tensors = vec![("p".to_owned(), Tensor::column([0.5_f32]))];
        let mut outputs = Outputs { graph: "g".into(), tensors };
        assert!(outputs.take("p").is_ok());
        assert_eq!(
            outputs.take("p").unwrap_err(),
            Error::internal("graph \"g\" left no output \"p\": it left []")
        );
    }
}
