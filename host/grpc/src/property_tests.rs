//! What must hold for every tensor and for every message.

use modelhost_core::{Datatype, ModelName, Tensor, VersionNumber};
use modelhost_protocol::{InferResponse, ResponseOutput};
use proptest::prelude::*;
use prost::Message as _;

use crate::inference::infer_parameter::ParameterChoice;
use crate::inference::model_infer_request::InferInputTensor;
use crate::inference::{InferParameter, InferTensorContents, ModelInferRequest};
use crate::measure::measure;
use crate::{decode_request, encode_response};

fn tensors() -> impl Strategy<Value = Tensor> {
    (prop::sample::select(Datatype::ALL.to_vec()), prop::collection::vec(0_u64..4, 0..4)).prop_flat_map(
        |(datatype, shape)| {
            let elements = shape.iter().product::<u64>() as usize;
            let bytes = prop::collection::vec(any::<u8>(), elements * datatype.size().unwrap_or(1));
            bytes.prop_map(move |mut bytes| match datatype {
                Datatype::Bytes => {
                    let elements: Vec<[u8; 1]> = bytes.iter().map(|byte| [*byte]).collect();
                    Tensor::from_bytes_elements(shape.clone(), &elements).unwrap()
                }
                datatype => {
                    if datatype == Datatype::Bool {
                        bytes.iter_mut().for_each(|byte| *byte &= 1);
                    }
                    Tensor::new(datatype, shape.clone(), bytes.into()).unwrap()
                }
            })
        },
    )
}

fn values<T, const SIZE: usize>(tensor: &Tensor, read: impl Fn([u8; SIZE]) -> T) -> Vec<T> {
    tensor.data().as_chunks::<SIZE>().0.iter().map(|bytes| read(*bytes)).collect()
}

/// The typed contents of a tensor, where it has them.
fn typed(tensor: &Tensor) -> Option<InferTensorContents> {
    let mut contents = InferTensorContents::default();
    match tensor.datatype() {
        Datatype::Bool => contents.bool_contents = values(tensor, |[byte]: [u8; 1]| byte != 0),
        Datatype::Int8 => contents.int_contents = values(tensor, |bytes| i8::from_le_bytes(bytes).into()),
        Datatype::Int16 => contents.int_contents = values(tensor, |bytes| i16::from_le_bytes(bytes).into()),
        Datatype::Int32 => contents.int_contents = values(tensor, i32::from_le_bytes),
        Datatype::Int64 => contents.int64_contents = values(tensor, i64::from_le_bytes),
        Datatype::Uint8 => contents.uint_contents = values(tensor, |bytes| u8::from_le_bytes(bytes).into()),
        Datatype::Uint16 => contents.uint_contents = values(tensor, |bytes| u16::from_le_bytes(bytes).into()),
        Datatype::Uint32 => contents.uint_contents = values(tensor, u32::from_le_bytes),
        Datatype::Uint64 => contents.uint64_contents = values(tensor, u64::from_le_bytes),
        Datatype::Fp32 => contents.fp32_contents = values(tensor, f32::from_le_bytes),
        Datatype::Fp64 => contents.fp64_contents = values(tensor, f64::from_le_bytes),
        Datatype::Bytes => contents.bytes_contents = tensor.bytes_elements().map(<[u8]>::to_vec).collect(),
        Datatype::Fp16 | Datatype::Bf16 => return None,
    }
    Some(contents)
}

fn described(tensor: &Tensor, contents: Option<InferTensorContents>) -> InferInputTensor {
    InferInputTensor {
        name: "x".into(),
        datatype: tensor.datatype().name().into(),
        shape: tensor.shape().iter().map(|extent| *extent as i64).collect(),
        contents,
        ..InferInputTensor::default()
    }
}

proptest! {
    #[test]
    fn what_is_sent_raw_comes_back_bit_for_bit(tensors in prop::collection::vec(tensors(), 0..4)) {
        let model: ModelName = "m".parse().unwrap();
        let outputs: Vec<_> =
            tensors.iter().map(|tensor| ResponseOutput { name: "y", tensor, is_binary: false }).collect();
        let response = encode_response(&InferResponse {
            model: &model,
            version: VersionNumber(3),
            id: Some("an id"),
            outputs: &outputs,
        });
        prop_assert_eq!((response.model_name.as_str(), response.model_version.as_str()), ("m", "3"));
        let request = ModelInferRequest {
            id: response.id,
            inputs: tensors.iter().map(|tensor| described(tensor, None)).collect(),
            raw_input_contents: response.raw_output_contents,
            ..ModelInferRequest::default()
        };
        let message = request.encode_to_vec();
        measure(&message).unwrap();
        let request = decode_request(ModelInferRequest::decode(message.as_slice()).unwrap()).unwrap();
        prop_assert_eq!(request.id.as_deref(), Some("an id"));
        let read: Vec<&Tensor> = request.inputs.iter().map(|(_, tensor)| tensor).collect();
        prop_assert_eq!(read, tensors.iter().collect::<Vec<_>>());
    }

    #[test]
    fn what_is_sent_typed_comes_back_bit_for_bit(tensor in tensors()) {
        let contents = typed(&tensor);
        let has_form = contents.is_some();
        let request = ModelInferRequest { inputs: vec![described(&tensor, contents)], ..Default::default() };
        match decode_request(request) {
            Ok(request) => prop_assert_eq!(&request.inputs[0].1, &tensor),
            Err(error) => prop_assert!(!has_form, "{error}"),
        }
    }

    #[test]
    fn arbitrary_messages_never_panic(message in prop::collection::vec(any::<u8>(), 0..300)) {
        if measure(&message).is_ok() && let Ok(request) = ModelInferRequest::decode(message.as_slice()) {
            let _ = decode_request(request);
        }
    }

    /// One byte changed in a good request.
    #[test]
    fn mutated_messages_never_panic(
        tensor in tensors(),
        position in any::<prop::sample::Index>(),
        byte in any::<u8>(),
    ) {
        let request = ModelInferRequest { inputs: vec![described(&tensor, typed(&tensor))], ..Default::default() };
        let mut message = request.encode_to_vec();
        let position = position.index(message.len());
        message[position] = byte;
        if measure(&message).is_ok() && let Ok(request) = ModelInferRequest::decode(message.as_slice()) {
            let _ = decode_request(request);
        }
    }
}

#[test]
fn mistakes_are_told() {
    let refused = |request: ModelInferRequest| decode_request(request).unwrap_err().to_string();
    let input = |datatype: &str, shape: &[i64], contents: InferTensorContents| InferInputTensor {
        name: "x".into(),
        datatype: datatype.into(),
        shape: shape.to_vec(),
        contents: Some(contents),
        ..InferInputTensor::default()
    };
    let request = |input| ModelInferRequest { inputs: vec![input], ..ModelInferRequest::default() };
    let fp32 = InferTensorContents { fp32_contents: vec![1.0], ..InferTensorContents::default() };
    let int = InferTensorContents { int_contents: vec![1, 128], ..InferTensorContents::default() };
    let cases = [
        (
            request(input("FP64", &[1], fp32.clone())),
            "elements in fp32_contents: expected them in fp64_contents",
        ),
        (request(input("FP32", &[2], fp32.clone())), "contents has 1 elements: shape [2] takes 2"),
        (request(input("FP32", &[-1], fp32.clone())), "shape [-1]: expected at most 16 whole numbers"),
        (request(input("FP32", &[i64::MAX, 3], fp32.clone())), "too many elements"),
        (request(input("FLOAT", &[1], fp32.clone())), "datatype \"FLOAT\": expected one of"),
        (request(input("BF16", &[1], fp32.clone())), "travels in raw_input_contents"),
        (request(input("INT8", &[2], int)), "element 1 of contents is no INT8"),
    ];
    for (request, words) in cases {
        let message = refused(request);
        assert!(message.contains("input \"x\"") && message.contains(words), "{message}");
    }
    let raw = |contents| ModelInferRequest {
        inputs: vec![InferInputTensor { contents, ..input("FP32", &[1], fp32.clone()) }],
        raw_input_contents: vec![vec![0; 4].into()],
        ..ModelInferRequest::default()
    };
    assert!(refused(raw(Some(fp32.clone()))).contains("has contents: expected none"));
    let two = ModelInferRequest { raw_input_contents: vec![Default::default(); 2], ..raw(None) };
    assert!(refused(two).contains("2 entries for 1 inputs"));
    let parameter = |choice| ModelInferRequest {
        parameters: [("p".to_owned(), InferParameter { parameter_choice: choice })].into(),
        ..raw(None)
    };
    for bad in [None, Some(ParameterChoice::Uint64Param(u64::MAX))] {
        assert!(refused(parameter(bad)).contains("parameter \"p\""));
    }
    assert!(decode_request(parameter(Some(ParameterChoice::Int64Param(5)))).is_ok());
}
