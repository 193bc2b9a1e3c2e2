//! `POST /v2/models/{model}[/versions/{version}]/infer`: body to tensors, tensors to the model, its tensors
//! to a body. The whole answer comes from the one version that was taken at the start.

use std::sync::Arc;
use std::time::Instant;

use bytes::Bytes;
use http::{HeaderValue, StatusCode};
use modelhost_core::{Signature, Tensor};
use modelhost_protocol::{
    EncodedResponse, InferRequest, InferResponse, RequestedOutput, ResponseOutput, classify,
    decode_raw_request, decode_request, encode_response,
};
use modelhost_serving::{RequestOptions, Servable};

use super::{model_name, read_body, version_selector};
use crate::body::{BodyLimits, Reservation, WholeBody};
use crate::error::{ApiError, shortened};
use crate::headers::{INFERENCE_HEADER_CONTENT_LENGTH, inference_header_content_length};
use crate::reply::{Reply, json_text, pieces};
use crate::service::Call;

/// Bytes that are decoded or encoded on the thread that reads sockets, which takes less than a millisecond;
/// more goes to another thread, so that other connections do not wait.
pub(crate) const MAX_INLINE_BYTES: usize = 128 << 10;

/// A body up to this size is read before its request is refused for overload, and not looked at: a body that is left
/// unread costs its connection, and a new connection costs more.
const MAX_DISCARDED_BYTES: u64 = 64 << 10;

/// Of a response with binary outputs.
const OCTET_STREAM: HeaderValue = HeaderValue::from_static("application/octet-stream");

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
    let json_bytes = inference_header_content_length(&call.parts.headers)?;
    let limits = BodyLimits::new(call.shared.settings.max_body_bytes, &call.shared.settings);
    if call.body.declared() > MAX_DISCARDED_BYTES {
        servable.check_load()?;
    }
    let WholeBody { bytes, mut reservation } = read_body(call, limits).await?;
    servable.check_load()?;
    let started = Instant::now();
    let request = match json_bytes {
        Some(0) => decode_raw_request(&bytes, servable.signature())?,
        json_bytes => decode(&bytes, json_bytes).await?,
    };
    let tensor_bytes: usize = request.inputs.iter().map(|(_, tensor)| tensor.data().len()).sum();
    // Binary tensors keep the body; those that were JSON come beside it.
    let body_bytes = if json_bytes.is_some() { bytes.len() } else { 0 };
    reservation.extend_to(tensor_bytes.max(body_bytes), &call.shared.budget)?;
    check_selection(&request.outputs, servable.signature())?;
    call.shared.telemetry.stages(servable.model()).preprocess.observe(started.elapsed().as_secs_f64());
    Ok((request, reservation))
}

async fn predict(
    call: &Call<'_>,
    servable: &Arc<Servable>,
    request: InferRequest,
) -> Result<Reply, ApiError> {
    let stages = call.shared.telemetry.stages(servable.model());
    let InferRequest { id, parameters, timeout, priority, inputs, outputs: requested, binary_output } =
        request;
    let started = Instant::now();
    let outputs = servable.infer(inputs, parameters, RequestOptions { timeout, priority }).await;
    let answered = Instant::now();
    stages.predict.observe((answered - started).as_secs_f64());
    let outputs = classified(outputs?, &requested, servable.signature())?;
    let answer = Answer { servable: Arc::clone(servable), id, outputs, requested, binary_output };
    let encoded = answer.encode().await?;
    stages.postprocess.observe(answered.elapsed().as_secs_f64());
    Ok(reply(encoded))
}

fn reply(encoded: EncodedResponse) -> Reply {
    let Some(json_bytes) = encoded.json_bytes else {
        return json_text(StatusCode::OK, encoded.pieces.into_iter().next().unwrap_or_default());
    };
    let mut reply = pieces(StatusCode::OK, OCTET_STREAM, encoded.pieces);
    reply.headers_mut().insert(INFERENCE_HEADER_CONTENT_LENGTH, HeaderValue::from(json_bytes));
    reply
}

async fn decode(body: &Bytes, json_bytes: Option<usize>) -> Result<InferRequest, ApiError> {
    if json_bytes.unwrap_or(body.len()) <= MAX_INLINE_BYTES {
        return Ok(decode_request(body, json_bytes)?);
    }
    let body = body.clone();
    on_another_thread(move || Ok(decode_request(&body, json_bytes)?)).await
}

/// What a model answered, and how its client wants to have it.
struct Answer {
    servable: Arc<Servable>,
    id: Option<String>,
    outputs: Vec<(String, Tensor)>,
    requested: Vec<RequestedOutput>,
    binary_output: bool,
}

impl Answer {
    async fn encode(self) -> Result<EncodedResponse, ApiError> {
        let text = select(&self.outputs, &self.requested, self.binary_output).into_iter();
        let text: usize =
            text.filter(|output| !output.is_binary).map(|output| output.tensor.data().len()).sum();
        let encode = move || {
            let response = InferResponse {
                model: self.servable.model(),
                version: self.servable.version(),
                id: self.id.as_deref(),
                outputs: &select(&self.outputs, &self.requested, self.binary_output),
            };
            Ok(encode_response(&response)?)
        };
        if text <= MAX_INLINE_BYTES { encode() } else { on_another_thread(encode).await }
    }
}

pub(crate) async fn on_another_thread<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, ApiError> + Send + 'static,
) -> Result<T, ApiError> {
    let outcome = tokio::task::spawn_blocking(work).await;
    outcome.unwrap_or_else(|error| Err(ApiError::internal(format!("encoding or decoding failed: {error}"))))
}

/// The outputs that the client asked for must be ones that the model has, each at most once.
pub(crate) fn check_selection(requested: &[RequestedOutput], signature: &Signature) -> Result<(), ApiError> {
    let mut seen = vec![false; if requested.is_empty() { 0 } else { signature.outputs.len() }];
    for RequestedOutput { name, .. } in requested {
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
    let name = shortened(name);
    ApiError::invalid(format!("output {name:?} is not known: expected {}", known.join(", ")))
}

/// The outputs with classes in place of scores where that is asked for.
pub(crate) fn classified(
    mut outputs: Vec<(String, Tensor)>,
    requested: &[RequestedOutput],
    signature: &Signature,
) -> Result<Vec<(String, Tensor)>, ApiError> {
    for RequestedOutput { name, classification, .. } in requested {
        let Some(count) = *classification else { continue };
        let Some((_, tensor)) = outputs.iter_mut().find(|(known, _)| known == name) else { continue };
        *tensor = classify(tensor, count, signature.has_batch_dimension())
            .map_err(|error| ApiError::invalid(format!("output {name:?} cannot be classified: {error}")))?;
    }
    Ok(outputs)
}

/// The outputs that were asked for in that order; all of them where none was.
pub(crate) fn select<'a>(
    outputs: &'a [(String, Tensor)],
    requested: &[RequestedOutput],
    binary_output: bool,
) -> Vec<ResponseOutput<'a>> {
    let output = |(name, tensor): &'a (String, Tensor), binary: Option<bool>| ResponseOutput {
        name,
        tensor,
        is_binary: binary.unwrap_or(binary_output),
    };
    if requested.is_empty() {
        return outputs.iter().map(|named| output(named, None)).collect();
    }
    let find = |requested: &RequestedOutput| {
        let found = outputs.iter().find(|(known, _)| *known == requested.name)?;
        Some(output(found, requested.binary))
    };
    requested.iter().filter_map(find).collect()
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

    fn names(names: &[&str]) -> Vec<RequestedOutput> {
        names
            .iter()
            .map(|name| RequestedOutput { name: (*name).to_owned(), binary: None, classification: None })
            .collect()
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
            select(&outputs, &names(selection), false).into_iter().map(|output| output.name).collect()
        };
        assert_eq!(selected(&[]), ["label", "score"]);
        assert_eq!(selected(&["score", "label"]), ["score", "label"]);
        assert_eq!(selected(&["score"]), ["score"]);
    }

    #[test]
    fn what_an_output_says_of_itself_counts_more_than_what_the_request_says() {
        let tensor = Tensor::new(Datatype::Int8, vec![1], vec![1].into()).unwrap();
        let outputs = ["a", "b", "c"].map(|name| (name.to_owned(), tensor.clone()));
        let requested = [("c", Some(false)), ("a", None), ("b", Some(true))]
            .map(|(name, binary)| RequestedOutput { name: name.to_owned(), binary, classification: None });
        let binary = |requested: &[RequestedOutput], all| -> Vec<bool> {
            select(&outputs, requested, all).iter().map(|output| output.is_binary).collect()
        };
        assert_eq!(binary(&requested, true), [false, true, true]);
        assert_eq!(binary(&requested, false), [false, false, true]);
        assert_eq!(binary(&[], true), [true; 3]);
    }
}
