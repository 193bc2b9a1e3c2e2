//! What must hold for every tensor and for every body.

use bytes::Bytes;
use modelhost_core::{Datatype, ModelName, Tensor, VersionNumber};
use proptest::prelude::*;
use serde_json::Value;

use crate::{InferResponse, ResponseOutput, decode_json_request, decode_request, encode_response};

fn shapes() -> impl Strategy<Value = Vec<u64>> {
    prop::collection::vec(0_u64..4, 0..5)
}

fn numbers(datatype: Datatype, elements: usize, size: usize) -> BoxedStrategy<Vec<u8>> {
    prop::collection::vec(any::<u8>(), elements * size)
        .prop_map(move |mut bytes| {
            if datatype == Datatype::Bool {
                bytes.iter_mut().for_each(|byte| *byte &= 1);
            }
            make_finite(datatype, &mut bytes);
            bytes
        })
        .boxed()
}

/// Clears one exponent bit of what JSON cannot express, and leaves every other bit as it is.
fn make_finite(datatype: Datatype, bytes: &mut [u8]) {
    match datatype {
        Datatype::Fp32 => {
            for chunk in bytes.as_chunks_mut::<4>().0 {
                if !f32::from_le_bytes(*chunk).is_finite() {
                    chunk[3] &= !0x40;
                }
            }
        }
        Datatype::Fp64 => {
            for chunk in bytes.as_chunks_mut::<8>().0 {
                if !f64::from_le_bytes(*chunk).is_finite() {
                    chunk[7] &= !0x40;
                }
            }
        }
        _ => {}
    }
}

fn texts(elements: usize) -> BoxedStrategy<Vec<u8>> {
    prop::collection::vec(any::<String>(), elements)
        .prop_map(move |texts| {
            Tensor::from_bytes_elements(vec![texts.len() as u64], &texts).unwrap().into_parts().2.to_vec()
        })
        .boxed()
}

fn tensors() -> impl Strategy<Value = Tensor> {
    let datatypes: Vec<Datatype> = Datatype::ALL
        .into_iter()
        .filter(|datatype| !matches!(datatype, Datatype::Fp16 | Datatype::Bf16))
        .collect();
    (prop::sample::select(datatypes), shapes()).prop_flat_map(|(datatype, shape)| {
        let elements = shape.iter().product::<u64>() as usize;
        let data = match datatype.size() {
            Some(size) => numbers(datatype, elements, size),
            None => texts(elements),
        };
        data.prop_map(move |data| Tensor::new(datatype, shape.clone(), Bytes::from(data)).unwrap())
    })
}

fn encode_mixed(outputs: &[ResponseOutput<'_>]) -> (Vec<u8>, Option<usize>) {
    let model: ModelName = "m".parse().unwrap();
    let response = InferResponse { model: &model, version: VersionNumber(3), id: Some("an \"id\""), outputs };
    let encoded = encode_response(&response).unwrap();
    (encoded.pieces.concat(), encoded.json_bytes)
}

fn encode(tensors: &[(&str, &Tensor)]) -> Vec<u8> {
    let outputs: Vec<_> =
        tensors.iter().map(|(name, tensor)| ResponseOutput { name, tensor, is_binary: false }).collect();
    let (body, json_bytes) = encode_mixed(&outputs);
    assert_eq!(json_bytes, None);
    body
}

/// The response as the request that carries the same tensors.
fn as_request(response: &[u8]) -> String {
    String::from_utf8(response.to_vec()).unwrap().replacen("\"outputs\":", "\"inputs\":", 1)
}

/// The text of a flat array's elements, without touching the elements themselves.
fn split_elements(flat: &str) -> Vec<String> {
    let raw: Vec<&serde_json::value::RawValue> = serde_json::from_str(flat).unwrap();
    raw.into_iter().map(|element| element.get().to_owned()).collect()
}

fn nest(elements: &mut std::vec::IntoIter<String>, shape: &[u64]) -> String {
    match shape {
        [] => elements.next().unwrap(),
        [extent, inner @ ..] => {
            let items: Vec<String> = (0..*extent).map(|_| nest(elements, inner)).collect();
            format!("[{}]", items.join(" , "))
        }
    }
}

proptest! {
    #[test]
    fn what_is_written_flat_reads_back_bit_for_bit(tensor in tensors(), other in tensors()) {
        let response = encode(&[("a", &tensor), ("ü\"", &other)]);
        let parsed: Value = serde_json::from_slice(&response).unwrap();
        prop_assert_eq!(&parsed["model_version"], "3");
        let request = decode_json_request(as_request(&response).as_bytes()).unwrap();
        prop_assert_eq!(request.id.as_deref(), Some("an \"id\""));
        prop_assert_eq!(request.inputs, [("a".to_owned(), tensor), ("ü\"".to_owned(), other)]);
    }

    /// With every datatype, in every mixture of the two forms.
    #[test]
    fn what_is_written_binary_reads_back_bit_for_bit(
        tensors in prop::collection::vec((tensors(), any::<bool>()), 0..4),
        half in any::<u16>(),
    ) {
        let half = Tensor::new(Datatype::Bf16, vec![], half.to_le_bytes().to_vec().into()).unwrap();
        let mut outputs: Vec<_> = tensors
            .iter()
            .map(|(tensor, is_binary)| ResponseOutput { name: "t", tensor, is_binary: *is_binary })
            .collect();
        outputs.insert(outputs.len() / 2, ResponseOutput { name: "half", tensor: &half, is_binary: true });
        let (body, json_bytes) = encode_mixed(&outputs);
        let (json, binary) = body.split_at(json_bytes.unwrap());
        let json = as_request(json);
        let request = Bytes::from([json.as_bytes(), binary].concat());
        let request = decode_request(&request, Some(json.len())).unwrap();
        let read: Vec<&Tensor> = request.inputs.iter().map(|(_, tensor)| tensor).collect();
        prop_assert_eq!(read, outputs.iter().map(|output| output.tensor).collect::<Vec<_>>());
    }

    /// Sizes, header and elements that do not belong together.
    #[test]
    fn arbitrary_binary_parts_never_panic(
        datatype in prop::sample::select(Datatype::ALL.to_vec()),
        shape in shapes(),
        size in 0_u64..40,
        binary in prop::collection::vec(any::<u8>(), 0..40),
        shift in -3_isize..4,
    ) {
        let json = format!(r#"{{"inputs":[{{"name":"x","shape":{shape:?},"datatype":"{datatype}","parameters":{{"binary_data_size":{size}}}}}]}}"#);
        let body = Bytes::from([json.as_bytes(), &binary].concat());
        let _ = decode_request(&body, Some(json.len().saturating_add_signed(shift)));
    }

    #[test]
    fn nested_data_reads_like_flat_data(tensor in tensors()) {
        let response = as_request(&encode(&[("a", &tensor)]));
        let (head, flat) = response.split_once("\"data\":").unwrap();
        let flat = flat.strip_suffix("}]}").unwrap();
        prop_assume!(!tensor.shape().is_empty());
        let nested = nest(&mut split_elements(flat).into_iter(), tensor.shape());
        let request = decode_json_request(format!("{head}\"data\":{nested}}}]}}").as_bytes()).unwrap();
        prop_assert_eq!(&request.inputs[0].1, &tensor);
    }

    #[test]
    fn arbitrary_bytes_never_panic(body in prop::collection::vec(any::<u8>(), 0..300), json_bytes in 0_usize..400) {
        let _ = decode_json_request(&body);
        let body = Bytes::from(body);
        let _ = decode_request(&body, Some(json_bytes));
        let _ = decode_request(&body, None);
    }

    #[test]
    fn arbitrary_data_never_panics(
        datatype in prop::sample::select(Datatype::ALL.to_vec()),
        shape in shapes(),
        data in "[\\[\\], 0-9.eE\"\\\\a{}:truefalsn-]{0,40}",
    ) {
        let body = format!(r#"{{"inputs":[{{"name":"x","shape":{shape:?},"datatype":"{datatype}","data":[{data}]}}]}}"#);
        let _ = decode_json_request(body.as_bytes());
    }

    /// One byte changed, doubled or dropped, anywhere in a good request.
    #[test]
    fn mutated_requests_never_panic_and_stay_small(
        tensor in tensors(),
        position in any::<prop::sample::Index>(),
        byte in any::<u8>(),
        change in 0..3,
    ) {
        let mut body = as_request(&encode(&[("a", &tensor)])).into_bytes();
        let position = position.index(body.len());
        match change {
            0 => body[position] = byte,
            1 => body.insert(position, byte),
            _ => { body.remove(position); }
        }
        if let Ok(request) = decode_json_request(&body) {
            let decoded: usize = request.inputs.iter().map(|(_, tensor)| tensor.data().len()).sum();
            // An element of eight bytes is at least one character and a comma.
            prop_assert!(decoded <= 4 * body.len());
        }
    }
}

fn refused(datatype: Datatype, data: Vec<u8>, words: &[&str]) {
    let tensor = Tensor::new(datatype, vec![2], data.into()).unwrap();
    let model: ModelName = "m".parse().unwrap();
    let outputs = [ResponseOutput { name: "score", tensor: &tensor, is_binary: false }];
    let response = InferResponse { model: &model, version: VersionNumber(1), id: None, outputs: &outputs };
    let message = encode_response(&response).unwrap_err().to_string();
    for word in words {
        assert!(message.contains(word), "{message:?} does not say {word:?}");
    }
    assert!(!message.contains("line"), "{message}");
}

#[test]
fn outputs_without_a_json_form_ask_for_binary() {
    let words = ["element 1", "\"score\"", "binary output"];
    for value in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY] {
        refused(Datatype::Fp32, [1.0, value].map(f32::to_le_bytes).concat(), &words);
        refused(Datatype::Fp64, [1.0, f64::from(value)].map(f64::to_le_bytes).concat(), &words);
    }
    let bytes = Tensor::from_bytes_elements(vec![2], &[b"a".as_slice(), b"\xff"]).unwrap();
    refused(Datatype::Bytes, bytes.data().to_vec(), &words);
    refused(Datatype::Fp16, vec![0; 4], &["\"score\"", "FP16", "binary output"]);
    refused(Datatype::Bf16, vec![0; 4], &["\"score\"", "BF16", "binary output"]);
}

#[test]
fn floats_are_as_short_as_can_be() {
    let data = [0.1_f32, 1.0, -2.5, 16_777_216.0, 1e-7].map(f32::to_le_bytes).concat();
    let tensor = Tensor::new(Datatype::Fp32, vec![5], data.into()).unwrap();
    let text = String::from_utf8(encode(&[("y", &tensor)])).unwrap();
    assert!(text.contains(r#""data":[0.1,1.0,-2.5,16777216.0,1e-7]"#), "{text}");
}
