//! What a plugin answers: named tensors.

use crate::bindings::exports::modelhost::plugin::predictor as contract;
use crate::{Error, Tensor};

/// The named output tensors of one answer. The host checks them against the plugin's signature.
///
/// ```
/// use modelhost_guest::{Response, Tensor};
///
/// let label = Tensor::string_column(["ham", "spam"])?;
/// let score = Tensor::column([0.02_f32, 0.97]);
/// let response = Response::new([("label", label), ("score", score)]);
/// # Ok::<(), modelhost_guest::Error>(())
/// ```
#[derive(Clone, Debug, Default)]
pub struct Response {
    outputs: Vec<(String, Tensor)>,
}

impl Response {
    /// An answer of these outputs. Tensors from the request or from a graph are passed on without copying.
    ///
    /// ```
    /// use modelhost_guest::{Response, Tensor};
    ///
    /// let response = Response::new([("total", Tensor::column([42_i64]))]);
    /// ```
    pub fn new<N: Into<String>>(outputs: impl IntoIterator<Item = (N, Tensor)>) -> Response {
        Response { outputs: outputs.into_iter().map(|(name, tensor)| (name.into(), tensor)).collect() }
    }

    /// The output of that name, to look at in a test.
    ///
    /// ```
    /// use modelhost_guest::{Response, Tensor};
    ///
    /// let response = Response::new([("total", Tensor::column([42_i64]))]);
    /// assert_eq!(response.output("total")?.as_slice::<i64>()?, [42]);
    /// # Ok::<(), modelhost_guest::Error>(())
    /// ```
    ///
    /// # Errors
    /// Internal where there is none of that name.
    pub fn output(&self, name: &str) -> Result<&Tensor, Error> {
        let found = self.outputs.iter().find(|(key, _)| key == name);
        let missing = || {
            let names: Vec<&str> = self.outputs.iter().map(|(name, _)| name.as_str()).collect();
            Error::internal(format!("the response holds no output {name:?}: it holds {names:?}"))
        };
        found.map(|(_, tensor)| tensor).ok_or_else(missing)
    }

    pub(crate) fn into_contract(self) -> Result<Vec<(String, contract::Tensor)>, Error> {
        let one = |(name, tensor): (String, Tensor)| match tensor.into_handle() {
            Ok(handle) => Ok((name, handle)),
            Err(reason) => Err(Error::internal(format!("output {name:?}: {reason}"))),
        };
        self.outputs.into_iter().map(one).collect()
    }
}
