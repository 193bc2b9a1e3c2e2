//! A raw request: a body that is nothing but the elements of a model's one input, as `curl --data-binary @clip.wav` sends
//! it. Which shape they have is for the signature to say.

use bytes::{BufMut, Bytes, BytesMut};
use modelhost_core::{Signature, Tensor, TensorDescription, element_count};

use crate::request::{DecodeError, InferRequest, invalid};

/// Decodes a raw request: `Inference-Header-Content-Length: 0`. All outputs are to be binary, as the binary tensor data
/// extension says.
///
/// A body for an input of BYTES is one element, and is copied once, behind its length. For every other datatype one
/// dimension may be free, and the body says how large it is; where two are free, the first of them is the batch, which is
/// 1.
///
/// # Errors
/// [`DecodeError`] where the model has several inputs, the shape does not follow from the body, or the body does not fit.
pub fn decode_raw_request(body: &Bytes, signature: &Signature) -> Result<InferRequest, DecodeError> {
    let [input] = signature.inputs.as_slice() else {
        return Err(DecodeError::RawInputs { inputs: signature.inputs.len() });
    };
    let (shape, data) = match input.datatype.size() {
        Some(size) => (fixed_size_shape(input, size, body.len() as u64)?, body.clone()),
        None => (single_element_shape(input)?, single_element(input, body)?),
    };
    let tensor = Tensor::new(input.datatype, shape, data).map_err(|error| invalid(&input.name, &error))?;
    Ok(InferRequest {
        id: None,
        parameters: Vec::new(),
        timeout: None,
        priority: None,
        inputs: vec![(input.name.clone(), tensor)],
        outputs: Vec::new(),
        binary_output: true,
    })
}

fn fixed_size_shape(input: &TensorDescription, size: usize, bytes: u64) -> Result<Vec<u64>, DecodeError> {
    let ambiguous = || DecodeError::RawShape { input: input.name.clone(), shape: input.shape.clone() };
    let mut shape: Vec<Option<u64>> = input.shape.iter().map(|extent| u64::try_from(*extent).ok()).collect();
    let free = shape.iter().filter(|extent| extent.is_none()).count();
    if free > 1
        && let Some(batch @ None) = shape.first_mut()
    {
        *batch = Some(1);
    }
    let fixed: Vec<u64> = shape.iter().copied().flatten().collect();
    match (shape.len() - fixed.len(), element_count(&fixed)) {
        (0, _) => Ok(fixed),
        (1, Some(elements @ 1..)) => {
            // What is left over is named when the tensor is made.
            let extent = bytes / elements.saturating_mul(size as u64);
            Ok(shape.into_iter().map(|fixed| fixed.unwrap_or(extent)).collect())
        }
        _ => Err(ambiguous()),
    }
}

fn single_element_shape(input: &TensorDescription) -> Result<Vec<u64>, DecodeError> {
    if input.shape.iter().all(|extent| matches!(extent, -1 | 1)) {
        Ok(vec![1; input.shape.len()])
    } else {
        Err(DecodeError::RawShape { input: input.name.clone(), shape: input.shape.clone() })
    }
}

fn single_element(input: &TensorDescription, body: &Bytes) -> Result<Bytes, DecodeError> {
    let length = u32::try_from(body.len())
        .map_err(|_| DecodeError::RawTooLong { input: input.name.clone(), bytes: body.len() })?;
    let mut element = BytesMut::with_capacity(4 + body.len());
    element.put_u32_le(length);
    element.extend_from_slice(body);
    Ok(element.freeze())
}

#[cfg(test)]
mod tests {
    use modelhost_core::Datatype;
    use proptest::prelude::*;

    use super::*;

    fn signature(inputs: &[(Datatype, &[i64])]) -> Signature {
        let describe = |(index, (datatype, shape)): (usize, &(Datatype, &[i64]))| TensorDescription {
            name: format!("x{index}"),
            datatype: *datatype,
            shape: shape.to_vec(),
        };
        Signature { inputs: inputs.iter().enumerate().map(describe).collect(), outputs: Vec::new() }
    }

    fn shape(datatype: Datatype, described: &[i64], bytes: usize) -> Result<Vec<u64>, DecodeError> {
        let body = Bytes::from(vec![0; bytes]);
        let request = decode_raw_request(&body, &signature(&[(datatype, described)]))?;
        assert!(request.binary_output);
        Ok(request.inputs[0].1.shape().to_vec())
    }

    #[test]
    fn the_shape_follows_from_the_body() {
        assert_eq!(shape(Datatype::Fp32, &[2, 3], 24).unwrap(), [2, 3]);
        assert_eq!(shape(Datatype::Fp32, &[-1, 3], 24).unwrap(), [2, 3]);
        assert_eq!(shape(Datatype::Fp32, &[-1, 3], 0).unwrap(), [0, 3]);
        assert_eq!(shape(Datatype::Int16, &[-1, -1], 24).unwrap(), [1, 12]);
        assert_eq!(shape(Datatype::Int16, &[], 2).unwrap(), [0; 0]);
        assert_eq!(shape(Datatype::Bytes, &[-1], 24).unwrap(), [1]);
        assert_eq!(shape(Datatype::Bytes, &[-1, 1], 0).unwrap(), [1, 1]);
    }

    #[test]
    fn a_text_is_one_element() {
        let request =
            decode_raw_request(&Bytes::from_static(b"RIFF\xff"), &signature(&[(Datatype::Bytes, &[1])]))
                .unwrap();
        let elements: Vec<&[u8]> = request.inputs[0].1.bytes_elements().collect();
        assert_eq!(elements, [b"RIFF\xff"]);
    }

    #[test]
    fn what_does_not_fit_is_told() {
        let message = |described, bytes| shape(Datatype::Fp32, described, bytes).unwrap_err().to_string();
        assert_eq!(
            message(&[-1, 3], 25),
            "input \"x0\": shape [2, 3] of FP32 takes 24 bytes of data: 25 were given"
        );
        for unclear in [&[-1, -1, -1][..], &[2, -1, -1], &[-1, 0]] {
            assert!(message(unclear, 24).contains("cannot be told from a raw body"), "{unclear:?}");
        }
        assert!(shape(Datatype::Bytes, &[2], 24).is_err());
        let two = signature(&[(Datatype::Fp32, &[1]), (Datatype::Fp32, &[1])]);
        let refused = decode_raw_request(&Bytes::new(), &two).unwrap_err().to_string();
        assert_eq!(
            refused,
            "the model has 2 inputs: a raw body can only be the one of a model with one input"
        );
    }

    proptest! {
        #[test]
        fn no_body_and_no_signature_panics(
            index in 0..Datatype::ALL.len(),
            described in proptest::collection::vec(-1_i64..=i64::MAX, 0..4),
            body in proptest::collection::vec(any::<u8>(), 0..64),
        ) {
            let body = Bytes::from(body);
            let _ = decode_raw_request(&body, &signature(&[(Datatype::ALL[index], &described)]));
        }
    }
}
