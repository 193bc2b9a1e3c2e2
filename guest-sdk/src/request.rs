//! What a client asks: named tensors and parameters. Knows nothing of what a plugin does with them.

use crate::bindings::exports::modelhost::plugin::predictor as contract;
use crate::{Error, Parameter, Parameters, Tensor};

/// The named input tensors and the parameters of one request. The host has checked the inputs against the
/// plugin's signature: all are there, with the right datatypes and shapes.
///
/// ```
/// use modelhost_guest::{Error, Request, Response, Tensor};
///
/// fn predict(request: Request) -> Result<Response, Error> {
///     let ages = request.input("age")?.as_slice::<f32>()?;
///     Ok(Response::new([("adult", Tensor::column(ages.iter().map(|age| *age >= 18.0)))]))
/// }
///
/// let response = predict(Request::new([("age", Tensor::column([17.0_f32, 18.0]))]))?;
/// assert_eq!(response.output("adult")?.as_slice::<bool>()?, [false, true]);
/// # Ok::<(), Error>(())
/// ```
#[derive(Clone, Debug, Default)]
pub struct Request {
    inputs: Vec<(String, Tensor)>,
    parameters: Parameters,
}

impl Request {
    /// A request with these inputs and no parameters, for tests.
    ///
    /// ```
    /// use modelhost_guest::{Request, Tensor};
    ///
    /// let request = Request::new([("text", Tensor::string_column(["hello", "world"])?)]);
    /// assert_eq!(request.batch_size()?, 2);
    /// # Ok::<(), modelhost_guest::Error>(())
    /// ```
    pub fn new<N: Into<String>>(inputs: impl IntoIterator<Item = (N, Tensor)>) -> Request {
        let named = |(name, tensor): (N, Tensor)| {
            let name = name.into();
            let tensor = tensor.named(&name);
            (name, tensor)
        };
        Request { inputs: inputs.into_iter().map(named).collect(), parameters: Parameters::default() }
    }

    /// The same request with one more parameter, for tests.
    ///
    /// ```
    /// use modelhost_guest::{Parameter, Request};
    ///
    /// let request = Request::default().with_parameter("k", Parameter::Integer(3));
    /// assert_eq!(request.parameters().integer("k")?, Some(3));
    /// # Ok::<(), modelhost_guest::Error>(())
    /// ```
    pub fn with_parameter(mut self, name: impl Into<String>, value: Parameter) -> Request {
        self.parameters.push(name.into(), value);
        self
    }

    /// The input of that name, to read.
    ///
    /// ```
    /// use modelhost_guest::{Request, Tensor};
    ///
    /// let request = Request::new([("age", Tensor::column([41_i64]))]);
    /// assert_eq!(request.input("age")?.as_slice::<i64>()?, [41]);
    /// # Ok::<(), modelhost_guest::Error>(())
    /// ```
    ///
    /// # Errors
    /// Internal where there is none of that name: the signature promised otherwise.
    pub fn input(&self, name: &str) -> Result<&Tensor, Error> {
        let found = self.inputs.iter().find(|(key, _)| key == name);
        found.map(|(_, tensor)| tensor).ok_or_else(|| self.missing(name))
    }

    /// The input of that name, to pass on: to a graph or into the response. Copies nothing.
    ///
    /// ```
    /// use modelhost_guest::{Request, Response, Tensor};
    ///
    /// let mut request = Request::new([("age", Tensor::column([41_i64]))]);
    /// let response = Response::new([("age", request.take("age")?)]);
    /// # Ok::<(), modelhost_guest::Error>(())
    /// ```
    ///
    /// # Errors
    /// Internal where there is none of that name, or it was taken before.
    pub fn take(&mut self, name: &str) -> Result<Tensor, Error> {
        match self.inputs.iter().position(|(key, _)| key == name) {
            Some(index) => Ok(self.inputs.swap_remove(index).1),
            None => Err(self.missing(name)),
        }
    }

    /// All inputs with their names, to pass on.
    ///
    /// ```
    /// use modelhost_guest::{Request, Response, Tensor};
    ///
    /// let request = Request::new([("x", Tensor::column([1_u8])), ("y", Tensor::column([2_u8]))]);
    /// let echo = Response::new(request.into_inputs());
    /// assert_eq!(echo.output("y")?.as_slice::<u8>()?, [2]);
    /// # Ok::<(), modelhost_guest::Error>(())
    /// ```
    pub fn into_inputs(self) -> Vec<(String, Tensor)> {
        self.inputs
    }

    /// The parameters.
    ///
    /// ```
    /// let request = modelhost_guest::Request::default();
    /// assert_eq!(request.parameters().integer("k")?.unwrap_or(10), 10);
    /// # Ok::<(), modelhost_guest::Error>(())
    /// ```
    pub fn parameters(&self) -> &Parameters {
        &self.parameters
    }

    /// How many rows the request has: the extent of the first dimension, in which all inputs must agree. Inputs
    /// without dimensions (scalars) belong to every row and are not asked; a request of scalars alone is one row.
    ///
    /// ```
    /// use modelhost_guest::{Request, Tensor};
    ///
    /// let request = Request::new([("age", Tensor::column([41.0, 17.0])), ("weight", Tensor::column([80.5]))]);
    /// assert_eq!(
    ///     request.batch_size().unwrap_err().message(),
    ///     "input \"age\" has 2 rows and input \"weight\" has 1: expected the same number"
    /// );
    /// ```
    ///
    /// # Errors
    /// Invalid input where two inputs disagree.
    pub fn batch_size(&self) -> Result<usize, Error> {
        let mut extents =
            self.inputs.iter().filter_map(|(name, tensor)| Some((name, *tensor.shape().first()?)));
        let Some((first, rows)) = extents.next() else { return Ok(1) };
        match extents.find(|(_, extent)| *extent != rows) {
            None => Ok(rows),
            Some((other, extent)) => Err(Error::invalid_input(format!(
                "input {first:?} has {rows} rows and input {other:?} has {extent}: expected the same number"
            ))),
        }
    }

    fn missing(&self, name: &str) -> Error {
        let names: Vec<&str> = self.inputs.iter().map(|(name, _)| name.as_str()).collect();
        Error::internal(format!("the request holds no input {name:?}: it holds {names:?}"))
    }

    pub(crate) fn from_contract(
        inputs: Vec<(String, contract::Tensor)>,
        parameters: Vec<(String, contract::Parameter)>,
    ) -> Request {
        let inputs = inputs.into_iter().map(|(name, handle)| (name, Tensor::from_handle(handle)));
        Request { parameters: Parameters::from_contract(parameters), ..Request::new(inputs) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn inputs_must_agree_on_the_number_of_rows() {
        let scalar = || Tensor::new([], [1.0_f32]).unwrap();
        let table = |rows: usize| Tensor::new([rows, 2], vec![0_i64; 2 * rows]).unwrap();
        let column = |rows: usize| Tensor::column(vec![0_u8; rows]);

        let agreeing = Request::new([("a", scalar()), ("b", table(3)), ("c", column(3))]);
        assert_eq!(agreeing.batch_size(), Ok(3));
        assert_eq!(Request::new([("a", scalar())]).batch_size(), Ok(1));
        assert_eq!(Request::new([("c", column(0))]).batch_size(), Ok(0));

        let differing = Request::new([("b", table(3)), ("a", scalar()), ("c", column(4))]);
        let Err(Error::InvalidInput(message)) = differing.batch_size() else { panic!("accepted") };
        assert_eq!(message, "input \"b\" has 3 rows and input \"c\" has 4: expected the same number");
    }

    #[test]
    fn an_input_is_taken_once() {
        let mut request = Request::new([("x", Tensor::column([1_u8])), ("y", Tensor::column([2_u8]))]);
        assert_eq!(request.take("x").unwrap().as_slice::<u8>(), Ok(&[1][..]));
        let error = request.take("x").unwrap_err();
        assert_eq!(error, Error::internal("the request holds no input \"x\": it holds [\"y\"]"));
        assert!(request.input("y").is_ok());
    }

    #[test]
    fn an_input_knows_its_name() {
        let request = Request::new([("age", Tensor::column([41_i64]))]);
        let error = request.input("age").unwrap().as_slice::<f32>().unwrap_err();
        assert_eq!(error, Error::internal("tensor \"age\" holds INT64: read as FP32"));
    }
}
