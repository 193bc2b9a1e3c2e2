//! The trait that a plugin implements, and the macro that makes it the component's export.

use crate::bindings::exports::modelhost::plugin::predictor as contract;
use crate::{Error, Request, Response, Signature};

/// A model: what it takes and answers, and how it answers. Implement it for a struct, and name the struct in
/// [`export!`](crate::export!).
///
/// Each request gets a fresh instance of the component, so there is no state to keep between calls, and none to leak.
///
/// ```
/// use modelhost_guest::{ANY, Datatype, Error, Plugin, Request, Response, Signature, Tensor};
///
/// struct Mean;
///
/// impl Plugin for Mean {
///     fn signature() -> Result<Signature, Error> {
///         Ok(Signature::new().input("x", Datatype::Fp32, [ANY, 3]).output("mean", Datatype::Fp32, [ANY]))
///     }
///
///     fn predict(request: Request) -> Result<Response, Error> {
///         let means = request.input("x")?.rows::<f32>()?.map(|row| row.iter().sum::<f32>() / 3.0);
///         Ok(Response::new([("mean", Tensor::column(means))]))
///     }
/// }
///
/// modelhost_guest::export!(Mean);
///
/// let request = Request::new([("x", Tensor::from_rows(3, [[1.0_f32, 2.0, 3.0], [4.0, 5.0, 6.0]])?)]);
/// assert_eq!(Mean::predict(request)?.output("mean")?.as_slice::<f32>()?, [2.0, 5.0]);
/// # Ok::<(), Error>(())
/// ```
pub trait Plugin {
    /// What the plugin takes and what it answers. Asked once, when a version is uploaded.
    ///
    /// ```
    /// use modelhost_guest::{ANY, Datatype, Error, Signature};
    ///
    /// fn signature() -> Result<Signature, Error> {
    ///     Ok(Signature::new().input("text", Datatype::Bytes, [ANY]).output("score", Datatype::Fp32, [ANY]))
    /// }
    /// ```
    ///
    /// # Errors
    /// Any error refuses the upload, with its message.
    fn signature() -> Result<Signature, Error>;

    /// Answers one request. The host has checked its inputs against the signature, and checks the outputs.
    ///
    /// ```
    /// use modelhost_guest::{Error, Request, Response, Tensor};
    ///
    /// fn predict(request: Request) -> Result<Response, Error> {
    ///     let lengths = request.input("text")?.strings()?.into_iter().map(|text| text.len() as f32);
    ///     Ok(Response::new([("score", Tensor::column(lengths))]))
    /// }
    /// ```
    ///
    /// # Errors
    /// Fails this request alone; see [`Error`] for whose fault it is said to be.
    fn predict(request: Request) -> Result<Response, Error>;
}

/// Every plugin is what the generated export code asks for.
impl<P: Plugin> contract::Guest for P {
    fn get_signature() -> Result<contract::Signature, contract::Error> {
        P::signature().map(Signature::into_contract).map_err(Error::into_contract)
    }

    fn predict(
        inputs: Vec<(String, contract::Tensor)>,
        parameters: Vec<(String, contract::Parameter)>,
    ) -> Result<Vec<(String, contract::Tensor)>, contract::Error> {
        let request = Request::from_contract(inputs, parameters);
        P::predict(request).and_then(Response::into_contract).map_err(Error::into_contract)
    }
}

/// Makes a [`Plugin`] what the component exports. Call it once, in the crate that is built into the component.
///
/// ```
/// use modelhost_guest::{Error, Plugin, Request, Response, Signature};
///
/// struct Empty;
///
/// modelhost_guest::export!(Empty);
///
/// impl Plugin for Empty {
///     fn signature() -> Result<Signature, Error> {
///         Ok(Signature::new())
///     }
///
///     fn predict(_: Request) -> Result<Response, Error> {
///         Ok(Response::default())
///     }
/// }
/// ```
#[macro_export]
macro_rules! export {
    ($plugin:ty) => {
        const _: () = {
            // Named on every target, so that a plugin that does not fit is found by an ordinary `cargo test` too.
            #[allow(dead_code, reason = "the exports exist on the guest's target only")]
            type Exported = $plugin;
            const fn implements_plugin<P: $crate::Plugin>() {}
            implements_plugin::<Exported>();
            #[cfg(target_arch = "wasm32")]
    $crate::bindings::__export_bindings!(Exported with_types_in $crate::bindings);
        };
    };
}
