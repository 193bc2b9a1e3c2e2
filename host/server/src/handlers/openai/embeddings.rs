//! `POST /v1/embeddings`: numbers for texts, such that those of similar texts are near each other.

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use http::StatusCode;
use modelhost_serving::{RequestOptions, Task};
use serde::Serialize;

use super::{Asked, broken, read, refuse_unsupported, refused, text_input, texts, total};
use crate::error::ApiError;
use crate::reply::{Reply, json};
use crate::service::Call;

const EXPECTED: &str =
    "a request such as {\"model\": \"similarity\", \"input\": [\"one text\", \"another\"]}";

#[derive(Serialize)]
struct Embeddings<'a> {
    object: &'static str,
    data: Vec<Row>,
    model: &'a str,
    usage: Usage,
}

#[derive(Serialize)]
struct Usage {
    prompt_tokens: u64,
    total_tokens: u64,
}

#[derive(Serialize)]
struct Row {
    object: &'static str,
    index: usize,
    embedding: Embedding,
}

#[derive(Serialize)]
#[serde(untagged)]
enum Embedding {
    Numbers(Vec<f32>),
    /// Little-endian, as the elements lie in the tensor.
    Base64(String),
}

/// Answers a request.
pub(crate) async fn embeddings(call: &mut Call<'_>) -> Result<Reply, ApiError> {
    let Asked { servable, model, mut fields, _reservation } =
        read(call, Task::FeatureExtraction, EXPECTED).await?;
    refuse_unsupported(&fields, &["dimensions"])?;
    let is_base64 = match fields.get("encoding_format").map(|format| format.as_str().unwrap_or_default()) {
        None | Some("float") => false,
        Some("base64") => true,
        Some(_) => return Err(refused("encoding_format", "must be \"float\" or \"base64\"")),
    };
    let texts = texts("input", fields.remove("input"))?;
    let name = servable.embedding_output().map(|output| output.name.clone());
    let outputs = servable.infer(text_input(&texts)?, Vec::new(), RequestOptions::default()).await?;
    let table = outputs.iter().find(|(known, _)| Some(known) == name.as_ref()).map(|(_, tensor)| tensor);
    let width = table.and_then(|table| table.shape().get(1)).copied().unwrap_or(0);
    let Some(table) = table.filter(|table| table.shape().first() == Some(&(texts.len() as u64)) && width > 0)
    else {
        return Err(broken(&servable, "the answer does not hold numbers for each text"));
    };
    if fields.get("dimensions").is_some_and(|wanted| wanted.as_u64() != Some(width)) {
        return Err(refused("dimensions", &format!("must be {width} with this model, or left out")));
    }
    let row_bytes = table.data().len() / texts.len();
    let rows = table.data().chunks_exact(row_bytes).enumerate().map(|(index, bytes)| {
        let embedding = embedding(bytes, is_base64);
        embedding.map(|embedding| Row { object: "embedding", index, embedding })
    });
    let data = rows.collect::<Option<_>>();
    let data = data.ok_or_else(|| broken(&servable, "the answer holds what is no finite number"))?;
    let prompt_tokens = total(&outputs, "prompt_tokens");
    let usage = Usage { prompt_tokens, total_tokens: prompt_tokens };
    Ok(json(StatusCode::OK, &Embeddings { object: "list", data, model: &model, usage }))
}

/// None where an element is not finite, which JSON cannot say and no client expects.
fn embedding(bytes: &[u8], is_base64: bool) -> Option<Embedding> {
    let elements = bytes.chunks_exact(4);
    let numbers: Vec<f32> =
        elements.filter_map(|bytes| Some(f32::from_le_bytes(bytes.try_into().ok()?))).collect();
    if !numbers.iter().all(|number| number.is_finite()) {
        return None;
    }
    let encoded = || Embedding::Base64(BASE64_STANDARD.encode(bytes));
    Some(if is_base64 { encoded() } else { Embedding::Numbers(numbers) })
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn both_forms_hold_the_same_elements() {
        let bytes: Vec<u8> = [0.1_f32, -2.5].iter().flat_map(|number| number.to_le_bytes()).collect();
        let written = |is_base64| serde_json::to_value(embedding(&bytes, is_base64).unwrap()).unwrap();
        assert_eq!(written(false).to_string(), json!([0.1_f32, -2.5_f32]).to_string());
        assert_eq!(written(true), "zczMPQAAIMA=");
        assert!(embedding(&f32::NAN.to_le_bytes(), true).is_none());
    }
}
