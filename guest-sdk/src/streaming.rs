//! Answering one request with many responses: the trait for it, the macro that exports it, and where the responses go.

use std::cell::RefCell;

use crate::bindings::modelhost::plugin::requests as contract;
use crate::bindings::modelhost::plugin::streams::ResponseSender;
use crate::bindings::modelhost::plugin::tensors::Tensor as Handle;
use crate::streaming_bindings::exports::modelhost::plugin::streaming_predictor as streaming_contract;
use crate::{Error, Plugin, Request, Response};

/// A [`Plugin`] that can also answer a request with many responses, one after the other: a text token by token, the frames
/// of a recording. Name the struct in [`export_streaming!`](crate::export_streaming!) in place of `export!`.
///
/// ```
/// use modelhost_guest::{ANY, Datatype, Error, Plugin, Request, Response, Responses, Signature, StreamingPlugin, Tensor};
///
/// struct Words;
///
/// modelhost_guest::export_streaming!(Words);
///
/// impl Plugin for Words {
///     fn signature() -> Result<Signature, Error> {
///         Ok(Signature::new().input("text", Datatype::Bytes, [1]).output("word", Datatype::Bytes, [ANY]))
///     }
///
///     fn predict(request: Request) -> Result<Response, Error> {
///         let text = request.input("text")?.strings()?.concat();
///         Ok(Response::new([("word", Tensor::string_column(text.split_whitespace())?)]))
///     }
/// }
///
/// impl StreamingPlugin for Words {
///     fn predict_stream(request: Request, responses: &Responses<'_>) -> Result<(), Error> {
///         for word in request.input("text")?.strings()?.concat().split_whitespace() {
///             responses.send(Response::new([("word", Tensor::string_column([word])?)]))?;
///         }
///         Ok(())
///     }
/// }
///
/// let request = Request::new([("text", Tensor::string_column(["two words"])?)]);
/// let sent = Responses::collect(|responses| Words::predict_stream(request, responses))?;
/// assert_eq!(sent[1].output("word")?.strings()?, ["words"]);
/// # Ok::<(), Error>(())
/// ```
pub trait StreamingPlugin: Plugin {
    /// Answers one request with as many responses as it likes, each of which holds every output of the signature. The
    /// stream ends where this returns. [`Plugin::predict`] still answers those who want one response.
    ///
    /// ```
    /// use modelhost_guest::{Error, Request, Response, Responses, Tensor};
    ///
    /// fn predict_stream(request: Request, responses: &Responses<'_>) -> Result<(), Error> {
    ///     for word in request.input("text")?.strings()?.concat().split_whitespace() {
    ///         responses.send(Response::new([("word", Tensor::string_column([word])?)]))?;
    ///     }
    ///     Ok(())
    /// }
    /// ```
    ///
    /// # Errors
    /// Ends the stream with this error; the client keeps the responses that were sent before.
    fn predict_stream(request: Request, responses: &Responses<'_>) -> Result<(), Error>;
}

/// Where the responses of one request go.
///
/// ```
/// use modelhost_guest::{Error, Response, Responses, Tensor};
///
/// fn count(responses: &Responses<'_>) -> Result<(), Error> {
///     (1..=3_i64).try_for_each(|number| responses.send(Response::new([("number", Tensor::column([number]))])))
/// }
///
/// assert_eq!(Responses::collect(count)?.len(), 3);
/// # Ok::<(), Error>(())
/// ```
pub struct Responses<'a>(Destination<'a>);

enum Destination<'a> {
    Client(&'a ResponseSender),
    Memory(&'a RefCell<Vec<Response>>),
}

impl Responses<'_> {
    /// Sends one response. Returns when there is room for it on the way to the client, so that a plugin is never far ahead
    /// of a slow one. Where the client goes away, this does not return: the call has ended.
    ///
    /// ```
    /// use modelhost_guest::{Response, Responses, Tensor};
    ///
    /// let sent = Responses::collect(|responses| responses.send(Response::new([("y", Tensor::column([1_i64]))])))?;
    /// assert_eq!(sent[0].output("y")?.as_slice::<i64>()?, [1]);
    /// # Ok::<(), modelhost_guest::Error>(())
    /// ```
    ///
    /// # Errors
    /// Internal where a tensor of the response cannot be made.
    pub fn send(&self, response: Response) -> Result<(), Error> {
        match self.0 {
            Destination::Client(sender) => {
                sender.send(response.into_contract()?);
                Ok(())
            }
            Destination::Memory(sent) => {
                sent.borrow_mut().push(response);
                Ok(())
            }
        }
    }

    /// What a plugin sends, for tests.
    ///
    /// ```
    /// use modelhost_guest::{Response, Responses, Tensor};
    ///
    /// let sent = Responses::collect(|responses| {
    ///     (0..3).try_for_each(|n| responses.send(Response::new([("n", Tensor::column([n]))])))
    /// })?;
    /// assert_eq!(sent.len(), 3);
    /// # Ok::<(), modelhost_guest::Error>(())
    /// ```
    ///
    /// # Errors
    /// That of the plugin.
    pub fn collect(plugin: impl FnOnce(&Responses<'_>) -> Result<(), Error>) -> Result<Vec<Response>, Error> {
        let sent = RefCell::default();
        plugin(&Responses(Destination::Memory(&sent)))?;
        Ok(sent.into_inner())
    }
}

/// Every streaming plugin is what the generated export code asks for.
impl<P: StreamingPlugin> streaming_contract::Guest for P {
    fn predict_stream(
        inputs: Vec<(String, Handle)>,
        parameters: Vec<(String, contract::Parameter)>,
        responses: &ResponseSender,
    ) -> Result<(), contract::Error> {
        let request = Request::from_contract(inputs, parameters);
        P::predict_stream(request, &Responses(Destination::Client(responses))).map_err(Error::into_contract)
    }
}

/// Makes a [`StreamingPlugin`] what the component exports, as [`export!`](crate::export!) does for a plugin that answers
/// with one response.
///
/// ```
/// use modelhost_guest::{Error, Plugin, Request, Response, Responses, Signature, StreamingPlugin};
///
/// struct Silent;
///
/// impl Plugin for Silent {
///     fn signature() -> Result<Signature, Error> {
///         Ok(Signature::new())
///     }
///
///     fn predict(_request: Request) -> Result<Response, Error> {
///         Err(Error::unavailable("nothing to say"))
///     }
/// }
///
/// impl StreamingPlugin for Silent {
///     fn predict_stream(_request: Request, _responses: &Responses<'_>) -> Result<(), Error> {
///         Ok(())
///     }
/// }
///
/// modelhost_guest::export_streaming!(Silent);
/// ```
#[macro_export]
macro_rules! export_streaming {
    ($plugin:ty) => {
        $crate::export!($plugin);
        const _: () = {
            #[allow(dead_code, reason = "the exports exist on the guest's target only")]
            type Exported = $plugin;
            const fn implements_streaming_plugin<P: $crate::StreamingPlugin>() {}
            implements_streaming_plugin::<Exported>();
            #[cfg(target_arch = "wasm32")]
    $crate::streaming_bindings::__export_streaming_bindings!(Exported with_types_in $crate::streaming_bindings);
        };
    };
}
