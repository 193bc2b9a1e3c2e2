//! How messages are read from and written to a connection: as `tonic-prost` does it, but nothing is decoded before it
//! was measured.

use std::marker::PhantomData;

use bytes::Buf as _;
use prost::{Message, Name};
use tonic::Status;
use tonic::codec::{Codec, DecodeBuf, Decoder};
use tonic_prost::ProstEncoder;

use crate::inference::ModelInferRequest;
use crate::measure::measure;

/// Bytes of a message that is no inference request: none has more than a few names.
const MAX_SMALL_BYTES: usize = 64 << 10;

/// The codec of all services here.
#[derive(Debug)]
pub struct MeasuringCodec<Encoded, Decoded>(PhantomData<(Encoded, Decoded)>);

impl<Encoded, Decoded> Default for MeasuringCodec<Encoded, Decoded> {
    fn default() -> Self {
        MeasuringCodec(PhantomData)
    }
}

impl<Encoded, Decoded> Codec for MeasuringCodec<Encoded, Decoded>
where
    Encoded: Message + Send + 'static,
    Decoded: Message + Name + Default + Send + 'static,
{
    type Encode = Encoded;
    type Decode = Decoded;
    type Encoder = ProstEncoder<Encoded>;
    type Decoder = MeasuringDecoder<Decoded>;

    fn encoder(&mut self) -> Self::Encoder {
        ProstEncoder::default()
    }

    fn decoder(&mut self) -> Self::Decoder {
        MeasuringDecoder(PhantomData)
    }
}

/// Decodes what is not too large for what it is.
#[derive(Debug)]
pub struct MeasuringDecoder<Decoded>(PhantomData<Decoded>);

impl<Decoded: Message + Name + Default> Decoder for MeasuringDecoder<Decoded> {
    type Item = Decoded;
    type Error = Status;

    fn decode(&mut self, buffer: &mut DecodeBuf<'_>) -> Result<Option<Decoded>, Status> {
        let invalid = |message: String| Status::invalid_argument(message);
        if Decoded::NAME == ModelInferRequest::NAME {
            // A message is in one piece here; of another only its start would be measured.
            if buffer.chunk().len() != buffer.remaining() {
                return Err(Status::internal("a message came in pieces"));
            }
            measure(buffer.chunk()).map_err(|error| invalid(error.to_string()))?;
        } else if buffer.remaining() > MAX_SMALL_BYTES {
            let bytes = buffer.remaining();
            return Err(invalid(format!(
                "{} has {bytes} bytes: expected at most {MAX_SMALL_BYTES}",
                Decoded::NAME
            )));
        }
        Decoded::decode(buffer)
            .map(Some)
            .map_err(|error| invalid(format!("the message is no {}: {error}", Decoded::NAME)))
    }
}
