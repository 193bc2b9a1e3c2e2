//! `POST /v2/models/{model}[/versions/{version}]/infer`: body to tensors, tensors to the model, its tensors
//! to a body. The whole answer comes from the one version that was taken at the start.

use std::sync::Arc;
use std::time::Instant;

use bytes::Bytes;
use http::header::CONTENT_ENCODING;
use http::{HeaderMap, StatusCode};
use modelhost_core::{Signature, Tensor};
use modelhost_protocol::{InferRequest, InferResponse, decode_request, encode_response};
use modelhost_serving::{RequestOptions, Servable};

use super::{model_name, version_selector};
use crate::body::{BodyLimits, Reservation, WholeBody};
use crate::error::ApiError;
use crate::headers::INFERENCE_HEADER_CONTENT_LENGTH;
use crate::reply::{Reply, json_text};
use crate::service::Call;

/// Bytes that are decoded or encoded on the thread that reads sockets, which takes less than a millisecond;
/// more goes to another thread, so that other connections do not wait.
pub(super) const MAX_INLINE_BYTES: usize = 128 << 10;

/// A body up to this size is read before its request is refused for overload, and not looked at: a body that is left
/// unread costs its connection, and a new connection costs more.
const MAX_DISCARDED_BYTES: u64 = 64 << 10;

/// Answers an inference request.
pub(super) async fn infer(call: &mut Call<'_>) -> Result<Reply, ApiError> {
    let model = model_name(call)?;
    let selector = version_selector(call)?;
    let servable = call.shared.host.servable(&model, &selector)?;
    call.record.model = Some(model);
    call.record.version = Some(servable.version());
    let arrived = Instant::now();
    let outcome = read_request(call, &servable).await;
    let count = |error: &ApiError| servable.statistics().record_failure(error.code, arrived.elapsed());
    // The reservation is held until the answer is there: tensors may wait in a queue for long.
    let (request, _reservation) = outcome.inspect_err(count)?;
    predict(call, &servable, request).await
}

async fn read_request(
    call: &mut Call<'_>,
    servable: &Servable,
) -> Result<(InferRequest, Reservation), ApiError> {
    refuse_encodings(&call.parts.headers)?;
    let limits = BodyLimits::new(call.shared.settings.max_body_bytes, &call.shared.settings);
    if call.body.declared() > MAX_DISCARDED_BYTES {
        servable.check_load()?;
    }
    let WholeBody { bytes, mut reservation } = call.body.read(limits, &call.shared.budget).await?;
    servable.check_load()?;
    let started = Instant::now();
    let request = decode(&bytes).await?;
    let tensor_bytes = request.inputs.iter().map(|(_, tensor)| tensor.data().len()).sum();
    reservation.extend_to(tensor_bytes, &call.shared.budget)?;
    check_selection(&request.outputs, servable.signature())?;
    call.shared.telemetry.stages(servable.model()).preprocess.observe(started.elapsed().as_secs_f64());
    Ok((request, reservation))
}

/// What would otherwise be a puzzling message about JSON.
fn refuse_encodings(headers: &HeaderMap) -> Result<(), ApiError> {
    if headers.contains_key(INFERENCE_HEADER_CONTENT_LENGTH) {
        return Err(ApiError::invalid(
            "binary tensor data is not supported yet: send JSON, without the header Inference-Header-Content-Length",
        ));
    }
    match headers.get(CONTENT_ENCODING) {
        Some(encoding) if encoding != "identity" => Err(ApiError::invalid(
            "compressed bodies are not supported yet: send JSON, without Content-Encoding",
        )),
        _ => Ok(()),
    }
}

async fn predict(
    call: &Call<'_>,
    servable: &Arc<Servable>,
    request: InferRequest,
) -> Result<Reply, ApiError> {
    let stages = call.shared.telemetry.stages(servable.model());
    let InferRequest { id, parameters, timeout, priority, inputs, outputs: selection } = request;
    let started = Instant::now();
    let outputs = servable.infer(inputs, parameters, RequestOptions { timeout, priority }).await;
    let answered = Instant::now();
    stages.predict.observe((answered - started).as_secs_f64());
    let body = encode(Arc::clone(servable), id, outputs?, selection).await?;
    stages.postprocess.observe(answered.elapsed().as_secs_f64());
    Ok(json_text(StatusCode::OK, body))
}

async fn decode(body: &Bytes) -> Result<InferRequest, ApiError> {
    if body.len() <= MAX_INLINE_BYTES {
        return Ok(decode_request(body)?);
    }
    let body = body.clone();
    on_another_thread(move || Ok(decode_request(&body)?)).await
}

async fn encode(
    servable: Arc<Servable>,
    id: Option<String>,
    outputs: Vec<(String, Tensor)>,
    selection: Vec<String>,
) -> Result<Vec<u8>, ApiError> {
    let bytes: usize = outputs.iter().map(|(_, tensor)| tensor.data().len()).sum();
    let encode = move || {
        let response = InferResponse {
            model: servable.model(),
            version: servable.version(),
            id: id.as_deref(),
            outputs: &select(&outputs, &selection),
        };
        Ok(encode_response(&response)?)
    };
    if bytes <= MAX_INLINE_BYTES { encode() } else { on_another_thread(encode).await }
}

pub(super) async fn on_another_thread<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, ApiError> + Send + 'static,
) -> Result<T, ApiError> {
    let outcome = tokio::task::spawn_blocking(work).await;
    outcome.unwrap_or_else(|error| Err(ApiError::internal(format!("encoding or decoding failed: {error}"))))
}

/// The outputs that the client asked for must be ones that the model has, each at most once.
fn check_selection(selection: &[String], signature: &Signature) -> Result<(), ApiError> {
    let mut seen = vec![false; if selection.is_empty() { 0 } else { signature.outputs.len() }];
    for name in selection {
        let index = signature.outputs.iter().position(|output| output.name == *name);
        let is_repeated = match index.and_then(|index| seen.get_mut(index)) {
            Some(seen) => std::mem::replace(seen, true),
            None => return Err(unknown_output(name, signature)),
        };
        if is_repeated {
            return Err(ApiError::invalid(format!("output {name:?} is asked for more than once")));
        }
    }
    Ok(())
}

fn unknown_output(name: &str, signature: &Signature) -> ApiError {
    let known: Vec<&str> = signature.outputs.iter().map(|output| output.name.as_str()).collect();
    let name: String = name.chars().take(64).collect();
    ApiError::invalid(format!("output {name:?} is not known: expected {}", known.join(", ")))
}

/// The selected outputs in the order of the selection; all of them where there is none.
fn select<'a>(outputs: &'a [(String, Tensor)], selection: &[String]) -> Vec<(&'a str, &'a Tensor)> {
    let borrowed = |(name, tensor): &'a (String, Tensor)| (name.as_str(), tensor);
    if selection.is_empty() {
        return outputs.iter().map(borrowed).collect();
    }
    let find = |name| outputs.iter().find(|(known, _)| known == name);
    selection.iter().filter_map(find).map(borrowed).collect()
}

#[cfg(test)]
mod tests {
    use modelhost_core::{Datatype, TensorDescription};

    use super::*;

    fn signature() -> Signature {
        let output =
            |name: &str| TensorDescription { name: name.into(), datatype: Datatype::Int8, shape: vec![1] };
        Signature { inputs: vec![], outputs: vec![output("label"), output("score")] }
    }

    fn names(names: &[&str]) -> Vec<String> {
        names.iter().map(|name| (*name).to_owned()).collect()
    }

    #[test]
    fn selections_name_known_outputs_once() {
        for good in [&[][..], &["score"], &["score", "label"]] {
            assert!(check_selection(&names(good), &signature()).is_ok(), "{good:?}");
        }
        let unknown = check_selection(&names(&["score", "x"]), &signature()).unwrap_err().to_string();
        assert_eq!(unknown, "output \"x\" is not known: expected label, score");
        let repeated = check_selection(&names(&["score", "score"]), &signature()).unwrap_err().to_string();
        assert_eq!(repeated, "output \"score\" is asked for more than once");
    }

    #[test]
    fn outputs_come_in_the_order_asked_for() {
        let tensor = |byte| Tensor::new(Datatype::Int8, vec![1], vec![byte].into()).unwrap();
        let outputs = [("label".to_owned(), tensor(1)), ("score".to_owned(), tensor(2))];
        let selected = |selection: &[&str]| -> Vec<&str> {
            select(&outputs, &names(selection)).into_iter().map(|(name, _)| name).collect()
        };
        assert_eq!(selected(&[]), ["label", "score"]);
        assert_eq!(selected(&["score", "label"]), ["score", "label"]);
        assert_eq!(selected(&["score"]), ["score"]);
    }
}
